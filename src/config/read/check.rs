//! Probes of a backend, with the defaults of its provider.
//!
//! Called by `backend`.

use super::field::Field;
use super::table::{Switch, TableReader};
use crate::config::diagnostic::Found;
use crate::config::schema::ValueKind;
use crate::config::types::{ChatProbe, Check, EmbeddingsProbe, HttpProbe, MetricsProbe, ModelsProbe};
use crate::health::BudgetLimits;
use crate::model::{Pattern, Profile, Sourced, format_duration};
use std::time::Duration;
use toml::de::DeValue;

/// `first_token` where it is left out: what a busy model of today needs with a long queue.
const FIRST_TOKEN: Duration = Duration::from_secs(15);
/// `stall` where it is left out.
const STALL: Duration = Duration::from_secs(12);

pub(super) fn check(backend: &TableReader<'_>, provider: &Profile) -> Check {
    let table = backend.table_or_default("check");
    Check {
        origin: table.origin(),
        interval: table.duration_or_default("interval").value,
        fall: table.integer_or_default("fall").value,
        rise: table.integer_or_default("rise").value,
        ramp: table.duration_or_default("ramp").value,
        circuit: table.integer_or_default("circuit").value,
        models: models(&table, provider),
        chat: chat(&table, provider),
        embeddings: embeddings(&table, provider),
        http: http(&table, provider),
        metrics: metrics(&table, provider),
        certificate_expiry: table.duration("certificate_expiry").map(|expiry| expiry.value),
    }
}

fn models(check: &TableReader<'_>, provider: &Profile) -> Option<ModelsProbe> {
    match check.switch("models") {
        Switch::LeftOut if provider.models.is_some() => Some(ModelsProbe { expect: Vec::new() }),
        Switch::LeftOut | Switch::Off => None,
        Switch::On(table) => {
            needs(&table, provider, provider.models.is_some(), "list of models");
            let expect = table.list("expect").iter().filter_map(Field::text).map(|model| model.value).collect();
            Some(ModelsProbe { expect })
        }
    }
}

/// A probe of an API that the provider does not have.
fn needs(table: &TableReader<'_>, provider: &Profile, has_it: bool, what: &str) {
    if !has_it {
        let help = format!("use `http = {{ path = \"{}\" }}`, or name the provider that answers", provider.http.path);
        table.context().report(
            Found::error(
                "probe-without-api",
                format!("`[{}]`: provider {provider} has no {what}", table.path()),
                table.span(),
            )
            .help(help),
        );
    }
}

fn chat(check: &TableReader<'_>, provider: &Profile) -> Option<ChatProbe> {
    let Switch::On(table) = check.switch("chat") else { return None };
    needs(&table, provider, provider.chat.is_some(), "completions");
    let model = table.text("model");
    let total = table.duration_or_default("total");
    let first_token = table.duration("first_token");
    let stall = table.duration("stall");
    let soft = table.duration("first_token_soft");
    let first_token_or = first_token.unwrap_or_else(|| Sourced::default_value(FIRST_TOKEN.min(total.value)));
    let not_beyond = |name: &'static str,
                      value: Option<Sourced<Duration>>,
                      limit_name: &str,
                      limit: &Sourced<Duration>| {
        if let (Some(value), Some(field)) = (value, table.get(name))
            && value.value > limit.value
        {
            let default = if limit.origin.is_none() { ", the default" } else { "" };
            let message =
                format!("`{}` is longer than `{limit_name}` ({}{default})", field.name, format_duration(limit.value));
            table
                .context()
                .report(field.error("out-of-range", message).help(format!("shorten it, or lengthen `{limit_name}`")));
        }
    };
    not_beyond("first_token", first_token, "total", &total);
    not_beyond("stall", stall, "total", &total);
    not_beyond("first_token_soft", soft, "first_token", &first_token_or);
    let every = table.duration_or_default("every").value;
    let max_tokens = table.integer_or_default("max_tokens").value;
    Some(ChatProbe {
        model: model?.value,
        every,
        max_tokens,
        first_token_soft: soft.map_or(first_token_or.value / 3, |soft| soft.value),
        first_token: first_token_or.value,
        stall: stall.map_or(STALL.min(total.value), |stall| stall.value),
        total: total.value,
        budget: table.get("budget").map_or_else(BudgetLimits::default, |field| budget(&field)),
    })
}

/// A text limits one thing and leaves the other's default.
fn budget(field: &Field<'_>) -> BudgetLimits {
    let usual = BudgetLimits::default();
    let DeValue::String(text) = field.value else {
        let Some(table) = TableReader::of(field) else { return usual };
        let usd = table.get("usd").and_then(|field| field.amount());
        return BudgetLimits {
            probes: table.integer_or_default("probes").value,
            tokens: table.integer_or_default("tokens").value,
            micro_usd: usd.map(|usd| (usd * 1e6).round() as u64),
        };
    };
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.trim_end().parse::<u64>().ok());
    let in_range = |number: &u64| (1..=1_000_000_000).contains(number);
    match (number("tokens/day").filter(in_range), number("probes/day").filter(in_range)) {
        (Some(tokens), _) => BudgetLimits { tokens, ..usual },
        (_, Some(probes)) => BudgetLimits { probes, ..usual },
        (None, None) => {
            let message = format!("`{}`: a budget is a number of tokens or probes a day", field.name);
            field.context.report(
                field
                    .error("bad-budget", message)
                    .help("write \"50000 tokens/day\", or { tokens = 50000, probes = 500, usd = 0.5 }"),
            );
            usual
        }
    }
}

fn embeddings(check: &TableReader<'_>, provider: &Profile) -> Option<EmbeddingsProbe> {
    let Switch::On(table) = check.switch("embeddings") else { return None };
    needs(&table, provider, provider.embeddings.is_some(), "embeddings");
    let model = table.text("model");
    let every = table.duration_or_default("every").value;
    let total = table.duration_or_default("total").value;
    Some(EmbeddingsProbe { model: model?.value, every, total })
}

fn http(check: &TableReader<'_>, provider: &Profile) -> Option<HttpProbe> {
    let usual = |otherwise: Vec<u16>| match &provider.http.status[..] {
        [] => otherwise,
        status => status.to_vec(),
    };
    let table = match check.switch("http") {
        // Somebody must ask: whoever answers sensibly lives.
        Switch::LeftOut if provider.models.is_none() => {
            return Some(HttpProbe {
                path: provider.http.path.clone(),
                status: usual((200..=399).collect()),
                headers: Vec::new(),
                json: Vec::new(),
                body: None,
            });
        }
        Switch::LeftOut | Switch::Off => return None,
        Switch::On(table) => table,
    };
    let path = table.text("path").map(|path| path.value);
    let status = match table.get("status") {
        Some(field) => field.list().iter().filter_map(|item| item.integer()).map(|status| status.value).collect(),
        // What the provider says is true of its own path.
        None if path.is_none() => usual(vec![200]),
        None => vec![200],
    };
    let headers = table.get("headers").map(|field| field.headers()).unwrap_or_default();
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value.parse::<Pattern>()?.value)));
    Some(HttpProbe {
        path: path.unwrap_or_else(|| provider.http.path.clone()),
        status,
        headers: headers.collect(),
        json: table.get("json").map(|field| pointers(&field)).unwrap_or_default(),
        body: table.get("body").and_then(|field| field.parse::<Pattern>()).map(|body| body.value),
    })
}

fn metrics(check: &TableReader<'_>, provider: &Profile) -> Option<MetricsProbe> {
    let Switch::On(table) = check.switch("metrics") else { return None };
    let usual = &provider.metrics;
    let one = |name: Option<Sourced<String>>, usual: &[String]| match name {
        Some(name) => vec![name.value],
        None => usual.to_vec(),
    };
    let written = table.text("waiting");
    let is_written = written.is_some() || table.get("waiting").is_some();
    let waiting = one(written, &usual.waiting);
    if waiting.is_empty() && !is_written {
        let message = format!("`[{}]` lacks `waiting`: provider {provider} has no usual name for it", table.path());
        table.context().report(
            Found::error("missing-key", message, table.span())
                .help("add `waiting = \"NAME\"`, the gauge of waiting requests")
                .absence(),
        );
    }
    Some(MetricsProbe {
        path: table.text("path").map_or_else(|| usual.path.clone(), |path| path.value),
        port: table.integer("port").map(|port| port.value).or(usual.port),
        waiting,
        cache: one(table.text("cache"), &usual.cache),
    })
}

/// JSON pointers with the values that must stand there.
///
/// **Source**: RFC 6901, section 3.
fn pointers(field: &Field<'_>) -> Vec<(String, serde_json::Value)> {
    let ValueKind::Pointers(max) = *field.kind else { panic!("{} is not declared as pointers", field.name) };
    let DeValue::Table(table) = field.value else {
        field.wrong_type();
        return Vec::new();
    };
    if table.len() > max {
        let message = format!("`{}` has {} pointers, at most {max} are allowed", field.name, table.len());
        field.context.report(Found::error("too-many", message, field.key_span.clone()));
    }
    let mut pointers = Vec::new();
    for (pointer, value) in table.iter().take(max) {
        let text = pointer.get_ref();
        let begins = text.is_empty() || text.starts_with('/');
        let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if !begins || !escapes {
            let message = match begins {
                false => format!("`{}`: a JSON pointer is empty or begins with '/'", field.name),
                true => format!("`{}`: in a JSON pointer '~' is written ~0 and '/' in a name ~1", field.name),
            };
            let found = Found::error("bad-pointer", message, pointer.span());
            let plain = !begins && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
            field.context.report(match plain {
                true => found.label(format!("did you mean \"/{}\"?", text.replace('.', "/"))),
                false => found,
            });
            continue;
        }
        match json(value.get_ref()) {
            Some(value) => pointers.push((text.to_string(), value)),
            None => field.context.report(Found::error(
                "wrong-type",
                format!("`{}`: JSON has no such value", field.name),
                value.span(),
            )),
        }
    }
    pointers
}

/// The same value in JSON; none for dates, infinities and numbers beyond 64 bits.
fn json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    Some(match value {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(number) => super::field::whole(number)?.into(),
        DeValue::Float(number) => serde_json::Number::from_f64(number.as_str().parse().ok()?)?.into(),
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(_) => return None,
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect::<Option<Vec<_>>>()?.into(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| Some((key.get_ref().to_string(), json(value.get_ref())?)))
            .collect::<Option<serde_json::Map<_, _>>>()?
            .into(),
    })
}
