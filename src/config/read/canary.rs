//! `[canary.NAME]`: read behind the backends, which they split.

use super::field::{Field, whole};
use super::server::models;
use super::table::TableReader;
use crate::config::canary::{Canary, CanaryGroup, GroupChoice, Sticky};
use crate::config::diagnostic::Found;
use crate::config::types::Backend;
use crate::model::{KEY_HEADERS, Name, PUT_IN_HEADERS, Sourced, TELLING_HEADERS, parse_duration};
use crate::rollout::{Condition, HardRules, Limit, Lost, Metric, Percent, Rules, Stage};
use std::time::Duration;
use toml::de::DeValue;

/// What the value of `override` says for the control group.
const CONTROL: &str = "control";
/// The tier that others stand behind: HAProxy gives its servers requests when no other one can serve.
const BEHIND: u8 = 2;
const MINUTE: Duration = Duration::from_secs(60);
/// Longest time, and largest number, that a metric is compared with.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const MOST: f64 = 1e9;

/// Hands each canary to its backend.
pub(super) fn canaries(root: &TableReader<'_>, backends: &mut [Backend]) {
    let canaries = root.named("canary");
    let live = root.table("haproxy").filter(|_| !canaries.is_empty()).and_then(|haproxy| haproxy.get("live"));
    if let Some(field) = live.filter(|field| field.boolean() == Some(false)) {
        let message = format!("`{}`: without it nobody hears what becomes of a canary's requests", field.name);
        root.context().report(field.error("bad-value", message).help("remove it, or `[canary.NAME]`"));
    }
    for (name, table) in canaries {
        let name = Sourced::new(name, table.origin());
        if name.value.as_str() == CONTROL {
            let message = format!("`[{}]`: `{CONTROL}` is what the other group is called", table.path());
            table.context().report(Found::error("bad-name", message, table.span()).help("another name"));
        }
        let field = table.get("backend");
        let backend = field.as_ref().and_then(Field::name);
        if let (Some(backend), Some(field)) = (&backend, &field) {
            table.context().references.borrow_mut().push((backend.value.clone(), field.span.clone()));
        }
        let rules = rules(&table);
        let sticky = sticky(&table);
        let chosen = table.table("override").map(|table| choice(&table));
        let servers_field = table.get("servers");
        let names = servers_field.as_ref().map(Field::list).unwrap_or_default();
        let group = models_of(&table);
        if servers_field.is_none() && group.is_none() && !table.is_misspelt("servers") && !table.is_misspelt("models") {
            let message = format!("`[{}]` needs `servers` or `models`: what its clients get", table.path());
            let found = Found::error("missing-key", message, table.span());
            table.context().report(found.help("such as `servers = [\"new-1\"]`").absence());
        }
        if let (false, Some(_), Some(field)) = (names.is_empty(), &group, table.get("models")) {
            let message = format!("`{}`: a canary has other servers or other models, not both", field.name);
            let help = "give the servers of the canary `models` of their own, and remove these";
            table.context().report(field.error("bad-value", message).help(help));
        }
        let Some(backend) = backend.and_then(|name| backends.iter_mut().find(|one| one.name == name.value)) else {
            continue;
        };
        if let (Some(other), Some(field)) = (&backend.canary, &field) {
            let message =
                format!("`{}`: backend {} has the canary {} already", field.name, backend.name, other.name.value);
            table.context().report(field.error("duplicate", message).help("one after the other: remove one"));
            continue;
        }
        let group = group.unwrap_or_else(|| CanaryGroup::Servers(servers(&names, backend)));
        backend.canary = Some(Canary { name, group, sticky, chosen, rules });
    }
}

fn models_of(table: &TableReader<'_>) -> Option<CanaryGroup> {
    let field = table.get("models")?;
    let models = models(&field);
    if models.contains_key("*") {
        let message = format!("`{}`: a canary names each model", field.name);
        field.context.report(field.error("bad-value", message).help("write the models that clients ask for"));
    }
    Some(CanaryGroup::Models(models))
}

/// The servers of the group, which stand behind those of the control group from now on.
fn servers(names: &[Field<'_>], backend: &mut Backend) -> Vec<Name> {
    let mut group: Vec<Name> = Vec::new();
    for field in names {
        let Some(name) = field.text() else { continue };
        let error = |message: String, help: &str| field.context.report(field.error("bad-value", message).help(help));
        match backend.servers.iter_mut().find(|server| server.name.as_str() == name.value) {
            None => {
                let message = format!("`{}`: backend {} has no server {}", field.name, backend.name, name.value);
                let known: Vec<&str> = backend.servers.iter().map(|server| server.name.as_str()).collect();
                let help = format!("name its servers, one by one: {}", known.join(", "));
                field.context.report(field.error("unknown-server", message).help(help).absence());
            }
            Some(server) if group.contains(&server.name) => {
                error(format!("`{}`: {} is named twice", field.name, name.value), "remove one");
            }
            Some(server) if server.tier > 1 => error(
                format!("`{}`: {} is of tier {}, and has no share of its own", field.name, name.value, server.tier),
                "a canary's servers are of tier 1: remove `tier`",
            ),
            Some(server) => {
                server.tier = BEHIND;
                group.push(server.name.clone());
            }
        }
    }
    if let (Some(field), false) = (names.first(), backend.servers.iter().any(|server| server.tier == 1)) {
        let message = format!("`{}`: no server of backend {} is left for the control group", field.name, backend.name);
        field.context.report(field.error("bad-value", message).help("name fewer servers"));
    }
    group
}

fn sticky(table: &TableReader<'_>) -> Sticky {
    match table.get("sticky").and_then(|field| field.choice()).map(|word| word.value) {
        Some("address") => Sticky::Address,
        Some("none") => Sticky::Nobody,
        _ => Sticky::Client,
    }
}

fn choice(table: &TableReader<'_>) -> GroupChoice {
    let texts = |name| -> Vec<Sourced<String>> {
        table.get(name).map(|field| field.list().iter().filter_map(Field::text).collect()).unwrap_or_default()
    };
    let addresses = table.get("addresses").map(|field| field.list().iter().filter_map(Field::ip).collect());
    let addresses: Vec<Sourced<_>> = addresses.unwrap_or_default();
    let header = table.text("header").map_or_else(|| table.default_text("header").to_owned(), |header| header.value);
    let lower = header.to_ascii_lowercase();
    let is_taken = [&KEY_HEADERS[..], &PUT_IN_HEADERS, &TELLING_HEADERS].concat().contains(&lower.as_str());
    if let (true, Some(field)) = (is_taken, table.get("header")) {
        let message = format!("`{}`: {header} is taken away or put in by hapilot", field.name);
        field.context.report(field.error("bad-value", message).help("another header, such as \"X-Canary\""));
    }
    let choice = GroupChoice {
        header,
        clients: texts("clients"),
        plans: texts("plans"),
        addresses: addresses.into_iter().map(|address| address.value).collect(),
    };
    let is_given = |key: &&str| table.has(key) || table.is_misspelt(key);
    if !["clients", "plans", "addresses"].iter().any(is_given) {
        let message = format!("`{}` says nobody who may choose", table.path());
        let help = "add `clients`, `plans` or `addresses`";
        table.context().report(Found::error("missing-key", message, table.span()).help(help).absence());
    }
    choice
}

fn rules(table: &TableReader<'_>) -> Rules {
    let read: Vec<Stage> = table
        .list("stages")
        .iter()
        .filter_map(|field| {
            let table = TableReader::of(field)?;
            let percent = percent(&table);
            let gate = table.get("gate").and_then(|field| field.boolean()).unwrap_or(false);
            if let (Some(Percent::NONE), false, Some(field)) = (percent, gate, table.get("percent")) {
                let message = format!("`{}` is 0, and no request of the canary would tell when it ends", field.name);
                let help = "from 0.01 on; 0 only with `gate = true`, for those whom `override` lets choose";
                table.context().report(field.error("out-of-range", message).help(help));
            }
            Some(Stage { percent: percent?, hold: table.duration_or_default("hold").value, gate })
        })
        .collect();
    if let (Some(field), true) = (table.get("stages"), read.windows(2).any(|pair| pair[0].percent >= pair[1].percent)) {
        let message = format!("`{}`: each stage has more than the one before", field.name);
        field.context.report(field.error("out-of-range", message).help("sort them by `percent`"));
    }
    let stages = if read.is_empty() { default_stages() } else { read };
    let conditions = match table.get("rollback") {
        None => vec![Condition { metric: Metric::ErrorRate, limit: Limit::At(0.05), lasting: MINUTE }],
        Some(field) => field.list().iter().filter_map(|field| condition(&TableReader::of(field)?)).collect(),
    };
    let lost = match table.get("metrics_lost").and_then(|field| field.choice()).map(|word| word.value) {
        Some("rollback") => Lost::RollBack,
        _ => Lost::Hold,
    };
    Rules {
        stages,
        conditions,
        bake: table.duration_or_default("bake").value,
        lost,
        hard: HardRules::default(),
        least_requests: table.integer_or_default("min_requests").value,
    }
}

fn default_stages() -> Vec<Stage> {
    let stage = |percent: u16, minutes: u64| {
        let percent = Percent::of_hundredths(percent * 100)?;
        Some(Stage { percent, hold: Duration::from_secs(60 * minutes), gate: false })
    };
    [(5, 5), (25, 5), (50, 10), (100, 10)]
        .into_iter()
        .filter_map(|(percent, minutes)| stage(percent, minutes))
        .collect()
}

fn percent(table: &TableReader<'_>) -> Option<Percent> {
    let field = table.get("percent")?;
    let hundredths = field.amount()? * 100.0;
    let whole = hundredths.round();
    if (hundredths - whole).abs() > 1e-6 {
        let message = format!("`{}` is finer than 0.01", field.name);
        field.context.report(field.error("out-of-range", message).help("round it"));
    }
    Percent::of_hundredths(whole as u16)
}

fn condition(table: &TableReader<'_>) -> Option<Condition> {
    const LIMITS: [&str; 4] = ["above", "below", "above_control", "below_control"];
    let metric = table.get("metric").and_then(|field| field.choice());
    let lasting = table.duration_or_default("for").value;
    let given: Vec<_> = LIMITS.into_iter().filter_map(|name| Some((name, table.get(name)?))).collect();
    let misspelt = LIMITS.iter().any(|name| table.is_misspelt(name));
    let metric = metric.and_then(|word| Metric::ALL.into_iter().find(|metric| metric.name() == word.value));
    if let [(one, _), .., (other, _)] = &given[..] {
        let message = format!("`{}` has two limits, {one} and {other}, and a condition has one", table.path());
        let help = "write each into a condition of its own: either of them rolls back";
        table.context().report(Found::error("bad-value", message, table.span()).help(help));
    } else if given.is_empty() && !misspelt {
        let message = format!("`{}`: one of {} says when it is worse", table.path(), LIMITS.join(", "));
        let found = Found::error("missing-key", message, table.span()).help("such as `above = 0.05`");
        table.context().report(found.absence());
    }
    let [(name, field)] = &given[..] else { return None };
    let value = match *name {
        "above" | "below" => absolute(field, metric?)?,
        _ => field.amount().filter(|factor| *factor > 0.0)?,
    };
    let metric = metric?;
    let wanted = if metric.higher_is_worse() { "above" } else { "below" };
    if !name.starts_with(wanted) {
        let message = format!("`{}`: {} is worse the other way", field.name, metric.name());
        field.context.report(field.error("bad-value", message).help(format!("`{wanted}`, or `{wanted}_control`")));
        return None;
    }
    let limit = if name.ends_with("control") { Limit::TimesControl(value) } else { Limit::At(value) };
    let condition = Condition { metric, limit, lasting };
    if let Some(mistake) = condition.mistake() {
        field.context.report(field.error("out-of-range", format!("`{}`: {mistake}", field.name)));
        return None;
    }
    Some(condition)
}

/// What a limit is written as.
enum Written {
    Number(f64),
    Time(Duration),
}

fn written(field: &Field<'_>) -> Option<Written> {
    let number = match field.value {
        DeValue::Integer(number) => whole(number).map(|number| number as f64),
        DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
        DeValue::String(text) => {
            let time = parse_duration(text).ok().filter(|time| !time.is_zero() && *time <= LONGEST).map(Written::Time);
            if time.is_none() {
                let message = format!("`{}`: {text:?} is no time between 1ms and 24h", field.name);
                field.context.report(field.error("bad-duration", message).help("such as \"3s\" or \"250ms\""));
            }
            return time;
        }
        _ => {
            field.wrong_type();
            return None;
        }
    };
    let number = number.filter(|number: &f64| number.is_finite() && (0.0..=MOST).contains(number));
    if number.is_none() {
        field.context.report(field.error("out-of-range", format!("`{}` lies between 0 and {MOST}", field.name)));
    }
    number.map(Written::Number)
}

/// A share, seconds, or a number, as the metric has it.
fn absolute(field: &Field<'_>, metric: Metric) -> Option<f64> {
    let (is_time, is_share) = match metric {
        Metric::ErrorRate | Metric::SuccessRate => (false, true),
        Metric::TokensPerSecond | Metric::CostPerRequest => (false, false),
        _ => (true, false),
    };
    if let (DeValue::String(text), true) = (field.value, is_share) {
        let share = text.trim().strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok());
        let message = format!("`{}`: {} is a share between 0 and 1, without quotes", field.name, metric.name());
        let help = share.filter(|percent| (0.0..=100.0).contains(percent)).map_or_else(
            || "5 % is 0.05".to_owned(),
            |percent| format!("{percent} % is {}", (percent * 1e4).round() / 1e6),
        );
        field.context.report(field.error("out-of-range", message).help(help));
        return None;
    }
    let (what, help) = match (written(field)?, is_time) {
        (Written::Number(number), false) if !is_share || number <= 1.0 => return Some(number),
        (Written::Time(time), true) => return Some(time.as_secs_f64()),
        (Written::Number(_), false) => ("a share between 0 and 1", "5 % is 0.05".to_owned()),
        (Written::Number(number), true) => ("a time", format!("add a unit and quotes, such as \"{number}s\"")),
        (Written::Time(_), false) => ("a number, and no time", "such as 0.05".to_owned()),
    };
    let message = format!("`{}`: {} is {what}", field.name, metric.name());
    field.context.report(field.error("out-of-range", message).help(help));
    None
}
