//! Live traffic, as Prometheus reads it; `docs/metrics.md` names every family.

use super::series::{Float, ServerLabels};
use crate::traffic::{CallerPicture, Picture, Quantiles};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndedLabels {
    backend: String,
    server: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    backend: String,
    server: String,
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuantileLabels {
    backend: String,
    server: String,
    until: &'static str,
    quantile: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallerLabels {
    client: String,
    plan: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientLabels {
    client: String,
    plan: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokensLabels {
    client: String,
    plan: String,
    kind: &'static str,
}

/// More clients than this are counted by their plans alone: each label makes a series.
const MAX_CLIENTS: usize = 1_000;

/// What became of the requests of clients at the door, and what their answers cost.
fn register_callers(registry: &mut Registry, callers: &[CallerPicture]) {
    let requests = Family::<CallerLabels, Counter>::default();
    let (tokens, answers) = (Family::<TokensLabels, Counter>::default(), Family::<TokensLabels, Counter>::default());
    let costs = Family::<ClientLabels, Counter<f64, AtomicU64>>::default();
    let is_few = callers.len() <= MAX_CLIENTS;
    for CallerPicture { client, plan, passed, tokens: cost, refused } in callers {
        let client = if is_few { client.clone() } else { String::new() };
        let passed = (*passed > 0).then_some(("passed", *passed));
        for (outcome, count) in passed.into_iter().chain(refused.iter().map(|(why, count)| (*why, *count))) {
            let (client, plan) = (client.clone(), plan.clone());
            requests.get_or_create(&CallerLabels { client, plan, outcome }).inc_by(count);
        }
        let labels = |kind| TokensLabels { client: client.clone(), plan: plan.clone(), kind };
        if cost.nano_usd > 0 {
            let (client, plan) = (client.clone(), plan.clone());
            costs.get_or_create(&ClientLabels { client, plan }).inc_by(cost.nano_usd as f64 / 1e9);
        }
        if cost.answers > 0 {
            for (kind, count) in [("prompt", cost.prompt), ("cached", cost.cached), ("completion", cost.completion)] {
                tokens.get_or_create(&labels(kind)).inc_by(count);
            }
            for (kind, count) in [("exact", cost.answers - cost.estimated), ("estimated", cost.estimated)] {
                answers.get_or_create(&labels(kind)).inc_by(count);
            }
        }
    }
    registry.register("client_tokens", "Tokens of clients with a limit of them; `cached` are among `prompt`", tokens);
    registry.register(
        "client_cost_usd",
        "What the answers to clients cost by the prices in the file, in US dollars",
        costs,
    );
    registry.register("client_answers_counted", "Answers whose tokens were counted, by how", answers);
    registry.register("client_requests", "Requests of clients with keys, by whether they were let in", requests);
}

/// Adds the families of live traffic to a scrape.
pub(super) fn register_live(registry: &mut Registry, picture: &Picture) {
    let requests = Family::<EndedLabels, Counter>::default();
    let (hidden, bytes) = (Family::<ServerLabels, Counter>::default(), Family::<ServerLabels, Counter>::default());
    let ends = Family::<StreamLabels, Counter>::default();
    let in_flight = Family::<ServerLabels, Gauge>::default();
    let took = Family::<QuantileLabels, Float>::default();
    for server in &picture.servers {
        let place = ServerLabels { backend: server.id.backend.to_string(), server: server.id.server.to_string() };
        for (outcome, count) in &server.outcomes_total {
            let ServerLabels { backend, server } = place.clone();
            requests.get_or_create(&EndedLabels { backend, server, outcome: outcome.as_str() }).inc_by(*count);
        }
        hidden.get_or_create(&place).inc_by(server.hidden_total);
        for (end, count) in &server.stream_ends {
            let ServerLabels { backend, server } = place.clone();
            ends.get_or_create(&StreamLabels { backend, server, end: end.as_str() }).inc_by(*count);
        }
        bytes.get_or_create(&place).inc_by(server.bytes_out_total);
        in_flight.get_or_create(&place).set(server.in_flight.into());
        for (until, quantiles) in
            [("connected", server.connect), ("first_byte", server.first_byte), ("end", server.total)]
        {
            for (quantile, time) in quantiles.iter().flat_map(each) {
                let ServerLabels { backend, server } = place.clone();
                took.get_or_create(&QuantileLabels { backend, server, until, quantile }).set(time.as_secs_f64());
            }
        }
    }
    registry.register("live_requests", "Requests of clients, by what became of them", requests);
    registry.register("live_hidden_failures", "Attempts that failed here and were repeated", hidden);
    registry.register("live_stream_failures", "Streams that ended badly behind their first event, by how", ends);
    registry.register_with_unit("live_sent", "Sent to clients", Unit::Bytes, bytes);
    registry.register("live_in_flight", "Requests of clients in flight", in_flight);
    registry.register_with_unit("live_duration", "Quantiles of the last minute", Unit::Seconds, took);
    if !picture.callers.is_empty() {
        register_callers(registry, &picture.callers);
    }
    let stats = &picture.stats;
    for (name, help, value) in [
        ("live_lines", "Lines of HAProxy that were read", stats.lines),
        ("live_lines_malformed", "Lines of HAProxy that could not be read", stats.malformed),
        ("live_lines_lost", "Lines of HAProxy that never came", stats.lost),
        ("live_lines_without_server", "Of those read: requests for which no server was chosen", stats.without_server),
    ] {
        registry.register(name, help, ConstCounter::new(value));
    }
    let workers: Gauge = Gauge::default();
    workers.set(i64::try_from(stats.workers).unwrap_or(i64::MAX));
    registry.register("live_workers", "Workers that are listened to, old ones included", workers);
    if let Some(age) = stats.last_line_age {
        let gauge = Float::default();
        gauge.set(age.as_secs_f64());
        registry.register_with_unit("live_last_line_age", "Since the last line", Unit::Seconds, gauge);
    }
}

fn each(quantiles: &Quantiles) -> [(&'static str, Duration); 3] {
    let Quantiles { p50, p95, p99 } = *quantiles;
    [("0.5", p50), ("0.95", p95), ("0.99", p99)]
}

#[cfg(test)]
mod tests {
    use super::register_live;
    use crate::model::Moment;
    use crate::traffic::Tally;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use std::time::{Duration, SystemTime};

    #[test]
    fn what_was_heard_is_exported_by_the_names_of_the_documentation() {
        let mut tally = Tally::default();
        let worker = tally.begin_worker(false);
        let now = Moment(Duration::from_secs(1));
        for (number, end) in ["200 --", "200 --", "200 sD"].into_iter().enumerate() {
            let who = ["acme free -", "acme free window", "- - key"][number];
            let line = format!(
                "[hapilot@0 live=\"api {number} chat/a {end} 0 0 0 2000 3000 50 - - - - -\" upload=\"1 2/3\" client=\"{who}\" tokens=\"{}\"]",
                if number == 0 { "30 10 7 exact" } else { "- - - -" }
            );
            tally.take_line(worker, line.as_bytes(), now, SystemTime::UNIX_EPOCH);
        }
        let mut registry = Registry::with_prefix("hapilot");
        register_live(&mut registry, &tally.picture(Moment(Duration::from_secs(4))));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "hapilot_live_requests_total{backend=\"chat\",server=\"a\",outcome=\"ok\"} 2",
            "hapilot_live_requests_total{backend=\"chat\",server=\"a\",outcome=\"timeout_stall\"} 1",
            "hapilot_live_hidden_failures_total{backend=\"chat\",server=\"a\"} 0",
            "hapilot_live_sent_bytes_total{backend=\"chat\",server=\"a\"} 150",
            "hapilot_live_in_flight{backend=\"chat\",server=\"a\"} 0",
            "hapilot_live_duration_seconds{backend=\"chat\",server=\"a\",until=\"connected\",quantile=\"0.99\"} 0.0",
            "hapilot_client_requests_total{client=\"acme\",plan=\"free\",outcome=\"passed\"} 1",
            "hapilot_client_requests_total{client=\"acme\",plan=\"free\",outcome=\"window\"} 1",
            "hapilot_client_requests_total{client=\"\",plan=\"\",outcome=\"key\"} 1",
            "hapilot_client_tokens_total{client=\"acme\",plan=\"free\",kind=\"prompt\"} 30",
            "hapilot_client_tokens_total{client=\"acme\",plan=\"free\",kind=\"cached\"} 10",
            "hapilot_client_tokens_total{client=\"acme\",plan=\"free\",kind=\"completion\"} 7",
            "hapilot_client_answers_counted_total{client=\"acme\",plan=\"free\",kind=\"exact\"} 1",
            "hapilot_client_answers_counted_total{client=\"acme\",plan=\"free\",kind=\"estimated\"} 0",
            "hapilot_live_lines_total 3",
            "hapilot_live_lines_lost_total 0",
            "hapilot_live_workers 1",
            "hapilot_live_last_line_age_seconds 3.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        let documented = include_str!("../../docs/metrics.md");
        for family in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = family.split(' ').next().unwrap();
            assert!(documented.contains(name), "docs/metrics.md does not name {name}");
        }
    }
}
