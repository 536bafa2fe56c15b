//! Who is told what happens, and the operator's own thresholds.
//!
//! Called by `read`.

use super::field::{Field, Measure};
use super::table::TableReader;
use crate::alerts::{Metric, Selection, Threshold};
use crate::config::alert::{AlertRule, AlertSink, Alerts, EmailSink, SinkKind, SmtpServer, SmtpTls};
use crate::config::diagnostic::Found;
use crate::model::{Endpoint, Name, SecretRef, Sourced};
use std::net::IpAddr;

/// The kinds of sink.
const KINDS: [&str; 5] = ["slack", "pagerduty", "email", "webhook", "alertmanager"];
/// Ports of mail servers: with TLS from the first byte, and for who sends mail.
const SMTPS: u16 = 465;
const SUBMISSION: u16 = 587;

pub(super) fn alerts(root: &TableReader<'_>) -> Alerts {
    let (named, rules) = root.named_beside("alert");
    let mut sinks: Vec<_> = named.into_iter().filter_map(|(name, table)| sink(name, &table)).collect();
    sinks.sort_by(|a, b| a.name.cmp(&b.name));
    let mut rules: Vec<_> = rules.into_iter().filter_map(|(name, table)| rule(name, &table)).collect();
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    Alerts { sinks, rules }
}

fn sink(name: Name, table: &TableReader<'_>) -> Option<AlertSink> {
    let words: Vec<_> = table.list("on").iter().filter_map(Field::choice).map(|word| word.value).collect();
    let (group, update) = (table.duration_or_default("group").value, table.duration_or_default("update").value);
    let repeat = table.duration_or_default("repeat").value;
    let kind = kind(table);
    let selection = Selection::of(words);
    Some(AlertSink { name, origin: table.origin(), kind: kind?, selection, group, update, repeat })
}

/// Exactly one of them.
fn kind(table: &TableReader<'_>) -> Option<SinkKind> {
    let slack = table.table("slack").map(|table| slack(&table));
    let pagerduty = table.table("pagerduty").map(|table| pagerduty(&table));
    let email = table.table("email").map(|table| email(&table));
    let webhook = table.table("webhook").map(|table| webhook(&table));
    let alertmanager = table.table("alertmanager").map(|table| alertmanager(&table));
    let mut given = [slack, pagerduty, email, webhook, alertmanager].into_iter().flatten();
    let (first, second) = (given.next(), given.next());
    let is_written = KINDS.iter().any(|kind| table.has(kind) || table.is_misspelt(kind));
    let (message, help) = match (&first, &second) {
        (None, _) if !is_written => (
            format!("`[{}]` does not say who is told", table.path()),
            "add one of slack, pagerduty, email, webhook and alertmanager, such as `slack = { webhook = \
             \"file:/etc/hapilot/slack\" }`",
        ),
        (Some(_), Some(_)) => (format!("`[{}]` tells more than one", table.path()), "give each a section of its own"),
        _ => return first?,
    };
    table.context().report(Found::error("alert-sink", message, table.span()).help(help).absence());
    None
}

fn secret(table: &TableReader<'_>, name: &'static str) -> Option<Sourced<SecretRef>> {
    table.get(name)?.parse()
}

fn slack(table: &TableReader<'_>) -> Option<SinkKind> {
    Some(SinkKind::Slack { webhook: secret(table, "webhook")? })
}

fn pagerduty(table: &TableReader<'_>) -> Option<SinkKind> {
    let routing_key = secret(table, "routing_key");
    let url = match table.get("url") {
        Some(field) => field.parse::<Endpoint>().map(|url| url.value),
        None => table.default_text("url").parse().ok(),
    };
    let changes = table.get("changes").and_then(|field| field.boolean()).unwrap_or(true);
    Some(SinkKind::Pagerduty { routing_key: routing_key?, url: url?, changes })
}

fn webhook(table: &TableReader<'_>) -> Option<SinkKind> {
    let secret_of = secret(table, "secret");
    let url = table.get("url")?.parse::<Endpoint>()?.value;
    if table.has("secret") && secret_of.is_none() {
        return None;
    }
    Some(SinkKind::Webhook { url, secret: secret_of })
}

fn alertmanager(table: &TableReader<'_>) -> Option<SinkKind> {
    let mut url = table.get("url")?.parse::<Endpoint>()?.value;
    // As Prometheus' own pages show it; it is added again.
    url.path = url.path.trim_end_matches("/api/v2/alerts").to_owned();
    Some(SinkKind::Alertmanager { url })
}

fn email(table: &TableReader<'_>) -> Option<SinkKind> {
    let server = table.get("smtp").and_then(|field| smtp(&field, table));
    let from = table.get("from").and_then(|field| address(&field));
    let to: Vec<_> = table.list("to").iter().filter_map(address).collect();
    let is_complete = table.get("to").is_some_and(|field| field.list().len() == to.len()) && !to.is_empty();
    let user = table.text("user").map(|user| user.value);
    let password = secret(table, "password");
    if let (Some(field), false) = (table.get("user"), table.has("password")) {
        let message = format!("`{}` without a password", field.name);
        let help = "add `password = \"file:/etc/hapilot/smtp\"`";
        table.context().report(field.error("missing-key", message).help(help).absence());
    }
    if table.has("password") && password.is_none() {
        return None;
    }
    let (server, from) = (server?, from?);
    if let (Some(field), SmtpTls::Never, Some(_)) = (table.get("smtp"), server.tls, &password)
        && !is_loopback(&server.host)
    {
        let message = format!("`{}`: the password would go over the network in clear text", field.name);
        table.context().report(field.error("clear-text", message).help("use smtps://, or `starttls = true`"));
        return None;
    }
    let user = user.unwrap_or_else(|| from.clone());
    is_complete.then_some(SinkKind::Email(EmailSink { server, from, to, user, password }))
}

fn address(field: &Field<'_>) -> Option<String> {
    let text = field.text()?.value;
    let is_address = |text: &str| {
        let (local, host) = text.rsplit_once('@')?;
        let is_plain = |part: &str, others: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
        };
        (is_plain(local, "!#$%&'*+-/=?^_`{|}~.") && is_plain(host, ".-")).then_some(())
    };
    if is_address(&text).is_none() {
        let message = format!("`{}`: {text:?} is no mail address", field.name);
        field.context.report(field.error("bad-value", message).help("such as \"ops@example.com\", without a name"));
        return None;
    }
    Some(text)
}

fn smtp(field: &Field<'_>, table: &TableReader<'_>) -> Option<SmtpServer> {
    let text = field.text()?.value;
    let starttls = table.get("starttls").and_then(|field| field.boolean());
    let wrong = |message: &str| {
        let help = "smtps://HOST or smtp://HOST, perhaps with :PORT behind it";
        field.context.report(field.error("bad-url", format!("`{}`: {message}", field.name)).help(help));
    };
    let Ok(url) = url::Url::parse(&text) else {
        wrong("not the URL of a mail server");
        return None;
    };
    let is_tls = match url.scheme() {
        "smtps" => true,
        "smtp" => false,
        _ => {
            wrong("the scheme is smtps or smtp");
            return None;
        }
    };
    let is_bare = url.username().is_empty() && url.password().is_none() && matches!(url.path(), "" | "/");
    let host = url.host_str().map(|host| host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase());
    let host =
        host.filter(|host| !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c)));
    let (Some(host), true, None, None) = (host, is_bare, url.query(), url.fragment()) else {
        wrong("it names a host, perhaps a port, and nothing else; the login stands in `user` and `password`");
        return None;
    };
    if let (true, Some(field)) = (is_tls, table.get("starttls")) {
        let message = format!("`{}` has no meaning with smtps://, which is TLS from the first byte", field.name);
        field.context.report(field.error("bad-value", message).help("remove it"));
    }
    let tls = match (is_tls, starttls) {
        (true, _) => SmtpTls::AtOnce,
        (false, Some(true)) => SmtpTls::Starttls,
        (false, None) if !is_loopback(&host) => SmtpTls::Starttls,
        (false, _) => SmtpTls::Never,
    };
    let port = url.port().unwrap_or(if is_tls { SMTPS } else { SUBMISSION });
    Some(SmtpServer { host, port, tls })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn rule(name: Name, table: &TableReader<'_>) -> Option<AlertRule> {
    let metric = table.get("metric").and_then(|field| field.choice());
    let metric = metric.and_then(|word| Metric::ALL.into_iter().find(|metric| metric.as_str() == word.value));
    let (above, below) = (table.get("above"), table.get("below"));
    if above.is_none() && below.is_none() && !table.is_misspelt("above") && !table.is_misspelt("below") {
        let message = format!("`[{}]` has no threshold", table.path());
        let found =
            Found::error("missing-key", message, table.span()).help("add `above` or `below`, such as `above = \"3s\"`");
        table.context().report(found.absence());
    }
    let (above, below) = (measured(above, metric), measured(below, metric));
    let text = |name| table.text(name).map(|text| text.value);
    let (backend, server, client) = (text("backend"), text("server"), text("client"));
    let lasting = table.duration_or_default("for").value;
    let is_page = table.get("severity").and_then(|field| field.choice()).is_some_and(|word| word.value == "page");
    let metric = metric?;
    let of_servers = matches!(metric, Metric::LatencyP95 | Metric::FirstTokenP95 | Metric::ErrorRate);
    for (name, has_meaning) in [("backend", of_servers), ("server", of_servers), ("client", metric == Metric::Budget)] {
        if let (Some(field), false) = (table.get(name), has_meaning) {
            let message = format!("`{}` has no meaning with {metric}", field.name);
            table.context().report(field.error("bad-value", message).help("remove it"));
        }
    }
    let value = |given: Option<(Measure, Field<'_>)>| given.map(|(measure, field)| value_of(metric, measure, &field));
    let (above, below) = (value(above), value(below));
    // What is wrong with one of them is told.
    let (above, below) = (flat(above)?, flat(below)?);
    if above.is_none() && below.is_none() {
        return None;
    }
    let threshold = Threshold { above, below, lasting };
    Some(AlertRule { name, origin: table.origin(), metric, backend, server, client, threshold, is_page })
}

fn measured<'t>(field: Option<Field<'t>>, metric: Option<Metric>) -> Option<(Measure, Field<'t>)> {
    let field = field?;
    let number = field.value.as_str().and_then(|text| Some((metric?, text.trim_end_matches([' ', '%', 'd']), text)));
    let help = match number {
        Some((Metric::ErrorRate | Metric::Budget, number, text)) if text.ends_with('%') => {
            number.parse::<f64>().ok().map(|percent| format!("{number} % is {}", percent / 100.0))
        }
        Some((Metric::CertificateDays, number, _)) => Some(format!(
            "it is a number of days, without quotes: {}",
            number.parse::<u32>().map_or_else(|_| "30".to_owned(), |days| days.to_string())
        )),
        _ => None,
    };
    let (Some(help), Some(metric)) = (help, metric) else { return Some((field.measure()?, field)) };
    let message = format!("`{}`: {metric} is a number", field.name);
    field.context.report(field.error("wrong-type", message).help(help));
    None
}

fn flat(given: Option<Option<f64>>) -> Option<Option<f64>> {
    match given {
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
        None => Some(None),
    }
}

fn value_of(metric: Metric, measure: Measure, field: &Field<'_>) -> Option<f64> {
    let is_latency = matches!(metric, Metric::LatencyP95 | Metric::FirstTokenP95);
    match (measure, is_latency) {
        (Measure::Duration(duration), true) => Some(duration.as_secs_f64()),
        (Measure::Number(number), false) if metric == Metric::ErrorRate && number > 1.0 => {
            let message = format!("`{}`: a part of all requests lies between 0 and 1", field.name);
            field.context.report(field.error("out-of-range", message).help("5 % is 0.05"));
            None
        }
        (Measure::Number(number), false) => Some(number),
        (Measure::Number(_), true) => {
            let message = format!("`{}`: {metric} is a duration", field.name);
            field.context.report(field.error("wrong-type", message).help("such as \"3s\" or \"800ms\""));
            None
        }
        (Measure::Duration(_), false) => {
            let message = format!("`{}`: {metric} is a number", field.name);
            field.context.report(field.error("wrong-type", message).help("5 % is 0.05"));
            None
        }
    }
}
