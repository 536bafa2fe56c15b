//! Prices and budgets.

use super::field::Field;
use super::table::TableReader;
use crate::config::diagnostic::Found;
use crate::config::money::{Budget, ModelPrice, PICO_PER_USD_A_MILLION, Price, WhenSpent};
use crate::config::types::Backend;
use crate::model::{ServerId, Sourced};
use crate::usage::Period;
use std::collections::BTreeMap;

/// Billionths of a dollar.
const NANO: f64 = 1e9;
/// Thousandths.
const MILLE: f64 = 1000.0;

/// What one token costs.
pub(super) fn price(table: &TableReader<'_>) -> Option<Price> {
    let of = |name| table.get(name).and_then(|field| stepped(&field, PICO_PER_USD_A_MILLION, 1.0, "0.000001"));
    let (input, output) = (of("input"), of("output"));
    let (cached, cache_write) = (of("cached"), of("cache_write"));
    let input = input?;
    Some(Price { input, cached: cached.unwrap_or(input), cache_write: cache_write.unwrap_or(input), output: output? })
}

/// A number in so many parts of one, and in whole `steps` of those.
fn stepped(field: &Field<'_>, parts: f64, step: f64, smallest: &str) -> Option<u64> {
    let exact = field.amount()? * parts / step;
    let whole = exact.round();
    // What a float cannot hold is no finer step.
    if (exact - whole).abs() > 1e-3 {
        let message = format!("`{}` is finer than {smallest}", field.name);
        field.context.report(field.error("out-of-range", message).help("round it"));
        return None;
    }
    Some((whole * step) as u64)
}

/// `[[price]]`
pub(super) fn prices(root: &TableReader<'_>, backends: &[Backend]) -> Vec<ModelPrice> {
    let mut seen = BTreeMap::new();
    let tables = root.list("price");
    tables.iter().filter_map(|field| model_price(&TableReader::of(field)?, backends, &mut seen)).collect()
}

fn model_price(
    table: &TableReader<'_>,
    backends: &[Backend],
    seen: &mut BTreeMap<(String, Option<ServerId>), u32>,
) -> Option<ModelPrice> {
    let price = price(table);
    let server = table.get("server");
    let named = server.as_ref().and_then(|field| server_of(field, backends));
    let field = table.get("model")?;
    let model = field.text()?;
    let begin = model.value.strip_suffix('*').unwrap_or(&model.value);
    if begin.contains(['*', '?', '|']) || begin.chars().any(|c| c.is_whitespace() || !c.is_ascii()) {
        let message = format!("`{}`: a model, or a begin with one `*` at its end", field.name);
        field.context.report(field.error("bad-value", message).help("such as \"gpt-4o*\", or \"*\" for all others"));
        return None;
    }
    let of = (model.value.clone(), named.as_ref().map(|server| server.value.clone()));
    if let Some(line) = seen.insert(of, table.origin().line) {
        let message = format!("`{}`: line {line} has a price for it as well", field.name);
        field.context.report(field.error("duplicate", message).help("remove one of them"));
    }
    if server.is_some() && named.is_none() {
        return None;
    }
    Some(ModelPrice { model, server: named, price: price? })
}

fn server_of(field: &Field<'_>, backends: &[Backend]) -> Option<Sourced<ServerId>> {
    let text = field.text()?;
    let id: Option<ServerId> = text.value.parse().ok();
    let is_there = |id: &ServerId| {
        let backend = backends.iter().find(|backend| backend.name == id.backend);
        backend.is_some_and(|backend| backend.servers.iter().any(|server| server.name == id.server))
    };
    match id.filter(is_there) {
        Some(id) => Some(Sourced { value: id, origin: text.origin }),
        // Where backends have mistakes themselves, theirs are told.
        None if backends.is_empty() => None,
        None => {
            let message = format!("`{}`: there is no server {:?}", field.name, text.value);
            field.context.report(field.error("unknown-server", message).help("as BACKEND/SERVER").absence());
            None
        }
    }
}

/// `budget` of a plan that has these models in `only`.
pub(super) fn budget(plan: &TableReader<'_>, has_only: bool) -> Option<Budget> {
    let table = plan.table("budget");
    if has_only
        && table.is_none()
        && !plan.is_misspelt("budget")
        && let Some(field) = plan.get("only")
    {
        let message = format!("`{}` needs a `budget`", field.name);
        let help = "such as `budget = { usd = 50, per = \"month\" }`";
        plan.context().report(field.error("missing-key", message).help(help).absence());
    }
    let table = table?;
    let usd = table.get("usd");
    let nano_usd = usd.as_ref().and_then(|field| Some(field.sourced(stepped(field, NANO, MILLE, "0.000001")?)));
    if let (Some(field), Some(0)) = (&usd, nano_usd.as_ref().map(|usd| usd.value)) {
        let message = format!("`{}` is nothing: nobody could ask", field.name);
        field.context.report(field.error("out-of-range", message).help("a number above 0"));
    }
    let per = match table.get("per").and_then(|field| field.choice()).map(|word| word.value) {
        Some("day") => Period::Day,
        _ => Period::Month,
    };
    let when_spent = match table.get("when_spent").and_then(|field| field.choice()).map(|word| word.value) {
        Some("deny") => WhenSpent::Deny,
        Some("pass") => WhenSpent::Pass,
        Some(_) => WhenSpent::Only,
        None if has_only => WhenSpent::Only,
        None => WhenSpent::Deny,
    };
    if let Some(field) = table.get("when_spent")
        && (when_spent == WhenSpent::Only) != has_only
        && !plan.is_misspelt("only")
    {
        let (message, help) = match has_only {
            true => (format!("`{}` leaves `only` without a meaning", field.name), "remove one of them"),
            false => {
                (format!("`{}` needs models in `only`", field.name), "such as `only = [\"gpt-4o-mini\"]`, in the plan")
            }
        };
        table.context().report(field.error("missing-key", message).help(help).absence());
    }
    let mut alert_at: Vec<u32> = match table.get("alert_at") {
        None => vec![800],
        Some(field) => {
            let part = |field: &Field<'_>| stepped(field, MILLE, 1.0, "0.001");
            field.list().iter().filter_map(part).map(|part| part as u32).collect()
        }
    };
    alert_at.sort_unstable();
    alert_at.dedup();
    if alert_at.first() == Some(&0)
        && let Some(field) = table.get("alert_at")
    {
        let message = format!("`{}`: at 0 nothing is spent", field.name);
        table.context().report(Found::error("out-of-range", message, field.span.clone()).help("such as [0.5, 0.8]"));
    }
    Some(Budget { nano_usd: nano_usd?, per, alert_at, when_spent })
}
