//! Which models a caller may ask for, as the answer to `GET /v1/models` in the shape of each API.

use crate::config::{Backend, Clients, Config, Frontend, Plan, Route, Server, is_match};
use crate::model::{Dialect, Digest, Name, ServerId, Sourced};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What each server said that it has, by its own names.
pub type ModelsOfServers = BTreeMap<ServerId, Arc<BTreeSet<String>>>;

/// A list stands in pieces of so many bytes, since a command to HAProxy takes no longer ones…
const PIECE: usize = 8_000;
/// …and there are at most so many of them (frontend.cfg). What is beyond is left out.
const PIECES: usize = 12;

/// An API in whose shape lists are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    OpenAi,
    Anthropic,
    Gemini,
}

impl Shape {
    const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Gemini];

    /// As the rules of a frontend call it.
    fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// That of a backend's servers; Bedrock's API has no such list.
    fn of(backend: &Backend) -> Option<Self> {
        match backend.provider.chat.as_ref().map(|chat| chat.dialect) {
            Some(Dialect::Anthropic) => Some(Self::Anthropic),
            Some(Dialect::Gemini) => Some(Self::Gemini),
            Some(Dialect::Bedrock) => None,
            Some(Dialect::OpenAi) | None => Some(Self::OpenAi),
        }
    }

    fn entry(self, model: &str) -> Value {
        match self {
            Self::OpenAi => json!({ "id": model, "object": "model", "created": 0, "owned_by": "gateway" }),
            Self::Anthropic => {
                json!({ "type": "model", "id": model, "display_name": model, "created_at": "1970-01-01T00:00:00Z" })
            }
            Self::Gemini => json!({ "name": format!("models/{model}"), "displayName": model }),
        }
    }

    fn list(self, models: &BTreeSet<&str>) -> String {
        let mut room = PIECE * PIECES - 200;
        let entries = models.iter().map(|model| self.entry(model));
        let entries: Vec<Value> = entries
            .take_while(|entry| {
                let length = entry.to_string().len() + 1;
                room = room.saturating_sub(length);
                room > 0
            })
            .collect();
        let (first, last) = (models.first(), models.iter().nth(entries.len().saturating_sub(1)));
        match self {
            Self::OpenAi => json!({ "object": "list", "data": entries }).to_string(),
            Self::Anthropic => {
                json!({ "data": entries, "has_more": false, "first_id": first, "last_id": last }).to_string()
            }
            Self::Gemini => json!({ "models": entries }).to_string(),
        }
    }
}

/// What stands where a client has no list, though others of its plan have one.
const NO_LIST: &str = "-";

/// By [`Shape::ALL`].
type Reached = [BTreeSet<String>; 3];

/// The entries of the map: `FRONTEND/PLAN` leads to a number, and `=NUMBER/API/0` to the list, with `…/1` and so on for the rest
/// of it. `FRONTEND/PLAN/CLIENT` does so for a client whose list is another one, since a route names it. Of an API of which no
/// model is known there is no list, but where the plan says which models there are.
pub fn model_lists<'a>(config: &'a Config, clients: &Clients, known: &ModelsOfServers) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    for frontend in config.frontends.iter().filter(|frontend| config.reads_models(frontend)) {
        let name = &frontend.name.value;
        // Those who go by the same routes reach the same, and those of one plan have the same list.
        let mut all: BTreeMap<Vec<usize>, Reached> = BTreeMap::new();
        let mut told: BTreeMap<(Option<&Name>, Vec<usize>), Option<String>> = BTreeMap::new();
        let mut list = |own: Vec<usize>, plan: Option<&'a Plan>| {
            let number = told.entry((plan.map(|plan| &plan.name.value), own)).or_insert_with_key(|(_, own)| {
                let all = all.entry(own.clone()).or_insert_with(|| reached(config, frontend, own, known));
                list(all, plan, &mut entries)
            });
            number.clone()
        };
        let mut numbers: Vec<(String, String)> = Vec::new();
        if !config.has_clients() || frontend.open {
            numbers.extend(list(vec![], None).map(|number| (format!("{name}/"), number)));
        }
        for plan in config.plans.iter().filter(|_| !frontend.open) {
            let plan_name = &plan.name.value;
            let of_plan = own_routes(frontend, plan, None);
            let common = list(of_plan.clone(), Some(plan));
            if frontend.routes.iter().any(|route| !route.client.is_empty()) {
                for client in clients.iter().filter(|client| client.plan.value == *plan_name) {
                    let own = own_routes(frontend, plan, Some(client.name.value.as_str()));
                    let number = if own == of_plan { common.clone() } else { list(own, Some(plan)) };
                    if number != common {
                        let number = number.unwrap_or_else(|| NO_LIST.to_owned());
                        numbers.push((format!("{name}/{plan_name}/{}", client.name.value), number));
                    }
                }
            }
            numbers.extend(common.map(|number| (format!("{name}/{plan_name}"), number)));
        }
        entries.extend(numbers);
    }
    entries
}

/// Of the routes that look at clients or plans those that take a client of a plan; `None`: one that no route names.
fn own_routes(frontend: &Frontend, plan: &Plan, client: Option<&str>) -> Vec<usize> {
    let is_own = |route: &Route| {
        (route.client.is_empty() || client.is_some_and(|client| fits_any(&route.client, client)))
            && (route.plan.is_empty() || fits_any(&route.plan, plan.name.value.as_str()))
    };
    let routes = frontend.routes.iter().enumerate();
    routes.filter(|(_, route)| looks_at_names(route) && is_own(route)).map(|(at, _)| at).collect()
}

fn looks_at_names(route: &Route) -> bool {
    !route.client.is_empty() || !route.plan.is_empty()
}

/// Writes down what a plan includes of it; answers the list's number.
fn list(all: &Reached, plan: Option<&Plan>, entries: &mut BTreeMap<String, String>) -> Option<String> {
    let may = |model: &str| plan.is_none_or(|plan| includes(plan, model));
    let is_limited = plan.is_some_and(|plan| !plan.models.is_empty());
    let lists = Shape::ALL.into_iter().zip(all).filter_map(|(shape, models)| {
        let models: BTreeSet<&str> = models.iter().map(String::as_str).filter(|model| may(model)).collect();
        (is_limited || !models.is_empty()).then(|| (shape, shape.list(&models)))
    });
    let lists: Vec<(Shape, String)> = lists.collect();
    if lists.is_empty() {
        return None;
    }
    let number = Digest::of(lists.iter().map(|(_, list)| list.as_str()).collect::<String>()).short();
    for (shape, list) in lists {
        // Nothing but ASCII stands there.
        let pieces = list.as_bytes().chunks(PIECE).map(|piece| String::from_utf8_lossy(piece).into_owned());
        let key = |at| format!("={number}/{}/{at}", shape.name());
        entries.extend(pieces.enumerate().map(|(at, piece)| (key(at), piece)));
    }
    Some(number)
}

/// What requests of a frontend reach that go by these routes of those that look at clients or plans.
fn reached(config: &Config, frontend: &Frontend, own: &[usize], known: &ModelsOfServers) -> Reached {
    let mut all = [const { BTreeSet::new() }; 3];
    for backend in config.backends.iter().filter(|backend| frontend.leads_to().any(|to| to.value == backend.name)) {
        let shape = Shape::of(backend).and_then(|of| Shape::ALL.iter().position(|shape| *shape == of));
        let Some(here) = shape.and_then(|at| all.get_mut(at)) else { continue };
        // Of a pool whose servers have the same, one is looked at.
        let mut seen = BTreeSet::new();
        for server in &backend.servers {
            let known = known.get(&ServerId::new(backend.name.clone(), server.name.clone()));
            if server.models.is_empty() && !seen.insert(known.map(Arc::as_ptr)) {
                continue;
            }
            let names = names_of(backend, server, known.map(|names| &**names));
            here.extend(
                names.into_iter().filter(|model| leads(frontend, own, model, &backend.name)).map(str::to_owned),
            );
        }
    }
    all
}

/// What clients call the models of a server.
fn names_of<'a>(backend: &'a Backend, server: &'a Server, known: Option<&'a BTreeSet<String>>) -> BTreeSet<&'a str> {
    let named = server.models.keys().map(String::as_str).filter(|name| *name != "*");
    let mut names: BTreeSet<&str> = named.collect();
    if server.models.contains_key("*") {
        return names;
    }
    let is_renamed = |name: &str| server.models.values().any(|here| here.value == name);
    let expected = || {
        let check = &backend.check;
        let expected = check.models.iter().flat_map(|models| models.expect.iter());
        expected.chain(check.chat.iter().map(|chat| &chat.model)).map(String::as_str)
    };
    match known {
        Some(known) => names.extend(known.iter().map(String::as_str).filter(|name| !is_renamed(name))),
        None => names.extend(expected()),
    }
    names
}

/// Whether a request for a model may come to a backend, by whatever path and with whatever headers.
fn leads(frontend: &Frontend, own: &[usize], model: &str, backend: &Name) -> bool {
    for (at, route) in frontend.routes.iter().enumerate() {
        let by_any = route.model.is_empty() && !route.no_model;
        let is_others = looks_at_names(route) && !own.contains(&at);
        if is_others || !by_any && !fits_any(&route.model, model) {
            continue;
        }
        if route.backend.value == *backend {
            return true;
        }
        // Whatever comes later is not reached.
        if route.path.is_empty() && route.header.is_empty() {
            return false;
        }
    }
    frontend.backend.value == *backend
}

fn fits_any(globs: &[Sourced<String>], text: &str) -> bool {
    globs.iter().any(|glob| is_match(&glob.value, text))
}

fn includes(plan: &Plan, model: &str) -> bool {
    plan.models.is_empty() || fits_any(&plan.models, model)
}
