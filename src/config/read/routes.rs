//! The routes of a frontend.
//!
//! Called by `traffic` for each frontend.

use super::caller::unknown_plan;
use super::field::Field;
use super::table::TableReader;
use super::traffic::reference;
use crate::config::caller::{Plan, has_plan};
use crate::config::diagnostic::Found;
use crate::config::route::Route;
use crate::model::{KEY_HEADERS, Name, PUT_IN_HEADERS, Sourced, TELLING_HEADERS};
use std::collections::BTreeMap;
use toml::de::DeValue;

/// Most conditions of a frontend's routes: a request that fits none is compared with all of them.
const MAX_CONDITIONS: usize = 2_000;
/// Most characters of a route's clients, plans and headers: together they are one entry of a map, which a command to HAProxy
/// must be able to carry.
const MAX_CALLER: usize = 1_000;
/// Most headers that the routes of a frontend look at: each is read of every request.
const MAX_HEADERS: usize = 8;

/// Who may ask.
pub(super) struct Callers<'a> {
    pub(super) plans: &'a [Plan],
    /// Whether clients stand in a file of their own.
    pub(super) has_file: bool,
}

/// What a route asks for, without its backend: two of a kind are one too many.
type Condition = (Vec<String>, Vec<String>, bool, Vec<String>, Vec<String>, Vec<(String, Vec<String>)>);

pub(super) fn routes(table: &TableReader<'_>, callers: &Callers<'_>, is_open: bool) -> Vec<Route> {
    let mut seen = BTreeMap::new();
    let mut is_told = false;
    let routes: Vec<Route> = table
        .list("routes")
        .iter()
        .filter_map(|field| {
            let table = TableReader::of(field)?;
            if !is_told && let Some(field) = table.get("client").or_else(|| table.get("plan")) {
                is_told = nobody_is_asked(&field, callers, is_open);
            }
            route(&table, callers, is_told, &mut seen)
        })
        .collect();
    let Some(field) = table.get("routes") else { return routes };
    let conditions: usize = routes.iter().map(conditions).sum();
    if conditions > MAX_CONDITIONS {
        let message = format!("`routes` has {conditions} conditions, at most {MAX_CONDITIONS} are looked at");
        table.context().report(field.error("out-of-range", message).help(
            "each path of a route counts with each of its models, and as often as it has clients, plans and values of headers; \
             a prefix such as `gpt-*` stands for many names",
        ));
    }
    let headers: std::collections::BTreeSet<&String> = routes.iter().flat_map(|route| route.header.keys()).collect();
    if headers.len() > MAX_HEADERS {
        let message = format!("`routes` looks at {} headers, at most {MAX_HEADERS} are looked at", headers.len());
        table.context().report(field.error("out-of-range", message).help("let one header say several things"));
    }
    routes
}

fn conditions(route: &Route) -> usize {
    let pairs = route.path.len().max(1) * (route.model.len() + usize::from(route.no_model)).max(1);
    let of_headers: usize = route.header.values().map(Vec::len).sum();
    pairs * (route.client.len() + route.plan.len() + of_headers).max(1)
}

/// Reports a route by client or plan where clients are not asked who they are.
fn nobody_is_asked(field: &Field<'_>, callers: &Callers<'_>, is_open: bool) -> bool {
    let has_clients = !callers.plans.is_empty() || callers.has_file;
    let why = match (is_open, has_clients) {
        (false, true) => return false,
        (true, _) => "this frontend is `open`: it asks nobody who it is",
        (false, false) => "the file has neither plans nor clients: nobody is asked who it is",
    };
    let message = format!("`{}`: {why}", field.name);
    let help = match is_open {
        true => "remove `open = true`, or the key from the route",
        false => "add plans and clients (docs/clients.md), or remove the key from the route",
    };
    field.context.report(field.error("route-without-clients", message).help(help).absence());
    true
}

fn route(
    table: &TableReader<'_>,
    callers: &Callers<'_>,
    is_told: bool,
    seen: &mut BTreeMap<Condition, u32>,
) -> Option<Route> {
    const KEYS: [&str; 6] = ["path", "model", "no_model", "client", "plan", "header"];
    let texts = |name| -> Vec<Sourced<String>> {
        table.get(name).map(|field| field.list().iter().filter_map(Field::text).collect()).unwrap_or_default()
    };
    let no_model = table.get("no_model").and_then(|field| field.boolean()).unwrap_or(false);
    let is_empty = !no_model && KEYS.iter().all(|key| *key == "no_model" || table.get(key).is_none());
    if is_empty && !KEYS.iter().any(|key| table.is_misspelt(key)) {
        table.context().report(
            Found::error("empty-route", "a route without any condition would match everything", table.span())
                .help("add `path = [\"/…\"]` or `model = [\"…*\"]`; the default goes into the frontend's `backend`")
                .absence(),
        );
    }
    let (path, model) = (texts("path"), texts("model"));
    let client = names(table.get("client"), |_, _| {});
    let plan = names(table.get("plan"), |field, name| {
        if !has_plan(callers.plans, name) && !is_told {
            unknown_plan(field, name, callers.plans);
        }
    });
    let header = table.get("header").map(|field| headers(&field)).unwrap_or_default();
    let of_callers = client.iter().chain(&plan).chain(header.values().flatten());
    let length: usize = of_callers.map(|text| text.value.chars().count()).sum();
    if length > MAX_CALLER {
        let message = format!(
            "a route has at most {MAX_CALLER} characters of clients, plans and values of headers; this one has {length}"
        );
        table.context().report(Found::error("out-of-range", message, table.span()).help(
            "a glob such as `team-*` stands for many names, and a plan for all its clients; or write two routes",
        ));
    }
    let by_headers = header.iter().map(|(name, values)| (name.clone(), sorted(values))).collect();
    let condition = (sorted(&path), sorted(&model), no_model, sorted(&client), sorted(&plan), by_headers);
    // What was told already would be alike in all of them.
    let is_judged = condition == Condition::default() || header.values().any(Vec::is_empty);
    if !is_judged && let Some(first) = seen.insert(condition, table.origin().line) {
        table.context().report(
            Found::error("duplicate", "this route is never reached: an earlier one matches the same", table.span())
                .label(format!("the first is on line {first}")),
        );
    }
    let backend = table.get("backend").and_then(|field| reference(&field))?;
    Some(Route { path, model, no_model, client, plan, header, backend })
}

fn sorted(list: &[Sourced<String>]) -> Vec<String> {
    let mut list: Vec<String> = list.iter().map(|text| text.value.clone()).collect();
    list.sort();
    list
}

/// Globs on names; one without a wildcard is a name, and `exact` judges it.
fn names(field: Option<Field<'_>>, exact: impl Fn(&Field<'_>, &Name)) -> Vec<Sourced<String>> {
    let of = |field: &Field<'_>| {
        let text = field.text()?;
        // What stands for a wildcard is as good as any other letter.
        match Name::new(text.value.replace(['*', '?'], "x").as_str()) {
            Err(refused) => {
                field.context.report(field.error("bad-name", format!("`{}`: {refused}", field.name)));
                return None;
            }
            Ok(name) if name.as_str() == text.value => exact(field, &name),
            Ok(_) => {}
        }
        Some(text)
    };
    field.map(|field| field.list().iter().filter_map(of).collect()).unwrap_or_default()
}

fn headers(field: &Field<'_>) -> BTreeMap<String, Vec<Sourced<String>>> {
    let written = field.headers();
    if matches!(field.value, DeValue::Table(table) if table.is_empty()) {
        field.context.report(field.error("empty-list", format!("`{}` names no header", field.name)).absence());
    }
    let mut headers = BTreeMap::new();
    for (name, values) in written {
        let plain = name.replace('_', "-");
        let is_one = |of: &&str| match of.strip_suffix(".*") {
            Some(begin) => plain.starts_with(begin),
            None => plain == **of,
        };
        let refused = if KEY_HEADERS.iter().any(is_one) {
            Some("carries a key: name the client in its place (`client = [\"…\"]`)")
        } else if TELLING_HEADERS.iter().chain(&PUT_IN_HEADERS).any(is_one) {
            Some("is taken away or put in by hapilot before routes are looked at")
        } else if ["content-length", "transfer-encoding"].iter().any(is_one) {
            Some("is about the connection, and no server sees it as the client sent it")
        } else {
            None
        };
        if let Some(why) = refused {
            let message = format!("`{}`: {name} {why}", field.name);
            field.context.report(Found::error("bad-value", message, values.key_span.clone()));
            continue;
        }
        let mut texts = Vec::new();
        for item in values.list() {
            match item.text() {
                Some(text) if text.value.trim() != text.value || text.value.is_empty() => {
                    let message = format!("`{}`: no value is empty, or has a blank at its begin or end", item.name);
                    field.context.report(item.error("bad-value", message));
                }
                text => texts.extend(text),
            }
        }
        if headers.insert(name.clone(), texts).is_some() {
            let message = format!("`{}` names {name} twice: upper and lower case are the same", field.name);
            field.context.report(Found::error("duplicate", message, values.key_span.clone()));
        }
    }
    headers
}
