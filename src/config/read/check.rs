//! Probes of a backend, with the defaults of its provider.
//!
//! Called by `backend`.

use super::field::Field;
use super::table::{Switch, Table};
use crate::config::diagnostic::Found;
use crate::config::schema::Kind;
use crate::config::types::{ChatProbe, Check, HttpProbe, ModelsProbe};
use crate::health::BudgetLimits;
use crate::model::{Provider, Sourced, format_duration};
use std::time::Duration;
use toml::de::DeValue;

/// `first_token` where it is left out: what a busy model of today needs with a long queue.
const FIRST_TOKEN: Duration = Duration::from_secs(15);
/// `stall` where it is left out.
const STALL: Duration = Duration::from_secs(12);

pub(super) fn check(backend: &Table<'_>, provider: Provider) -> Check {
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
        http: http(&table, provider),
    }
}

fn models(check: &Table<'_>, provider: Provider) -> Option<ModelsProbe> {
    match check.switch("models") {
        Switch::LeftOut if provider.speaks_openai() => Some(ModelsProbe { expect: Vec::new() }),
        Switch::LeftOut | Switch::Off => None,
        Switch::On(table) => {
            needs_openai(&table, provider);
            let expect = table.list("expect").iter().filter_map(Field::text).map(|model| model.value).collect();
            Some(ModelsProbe { expect })
        }
    }
}

/// A probe that speaks OpenAI's API on a backend that does not.
fn needs_openai(table: &Table<'_>, provider: Provider) {
    if !provider.speaks_openai() {
        table.context().report(
            Found::error(
                "probe-without-api",
                format!("`[{}]`: provider {provider} has no AI API to probe", table.path()),
                table.span(),
            )
            .help("use `http = { path = \"/health\" }`, or name the provider that answers"),
        );
    }
}

fn chat(check: &Table<'_>, provider: Provider) -> Option<ChatProbe> {
    let Switch::On(table) = check.switch("chat") else { return None };
    needs_openai(&table, provider);
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
        let Some(table) = field.table() else { return usual };
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

fn http(check: &Table<'_>, provider: Provider) -> Option<HttpProbe> {
    let table = match check.switch("http") {
        Switch::LeftOut if provider == Provider::Http => {
            return Some(HttpProbe { path: "/".to_owned(), status: (200..=399).collect(), json: Vec::new() });
        }
        Switch::LeftOut | Switch::Off => return None,
        Switch::On(table) => table,
    };
    let status = match table.get("status") {
        Some(field) => field.list().iter().filter_map(|item| item.integer()).map(|status| status.value).collect(),
        None => vec![200],
    };
    Some(HttpProbe {
        path: table.text_or_default("path").value,
        status,
        json: table.get("json").map(|field| pointers(&field)).unwrap_or_default(),
    })
}

/// JSON pointers with the values that must stand there.
///
/// **Source**: RFC 6901, section 3.
fn pointers(field: &Field<'_>) -> Vec<(String, serde_json::Value)> {
    let Kind::Pointers(max) = *field.kind else { panic!("{} is not declared as pointers", field.name) };
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
