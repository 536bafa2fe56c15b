//! A backend's canary as `parts/canary.cfg` sees it.

use super::ContextMaker;
use crate::config::{Backend, Canary, CanaryGroup, GroupChoice, Sticky};
use crate::model::{Digest, Sourced};
use crate::render::routes::name_expression;
use crate::render::value::ContextMap;
use tera::Value;

/// So many addresses in one rule; HAProxy takes 64 words per line.
const ADDRESSES_PER_RULE: usize = 40;

impl ContextMaker<'_> {
    pub(super) fn canary(&mut self, backend: &Backend, canary: &Canary) -> Value {
        // What decides when it grows is the agent's business.
        let Canary { name, group, sticky, chosen, rules: _ } = canary;
        let mut slots = 0;
        let servers: Vec<Value> = match group {
            CanaryGroup::Models(_) => vec![],
            CanaryGroup::Servers(names) => backend
                .servers
                .iter()
                .filter(|server| names.contains(&server.name))
                .map(|server| {
                    let first = slots;
                    slots += u32::from(server.weight.value.get().max(1));
                    ContextMap::default()
                        .with("name", self.marks.text(&server.name, Some(server.origin)))
                        .with("first", first)
                        .with("last", slots - 1)
                        .into()
                })
                .collect(),
        };
        ContextMap::default()
            .with("name", self.marks.text(&name.value, name.origin))
            .with("seed", seed(name.value.as_str()))
            .with("is_random", *sticky == Sticky::Nobody)
            .with("by_client", *sticky == Sticky::Client)
            .with("servers", servers)
            .with("slots", slots)
            .with("override", chosen.as_ref().map(|choice| self.choice(choice, name)))
            .into()
    }

    fn choice(&mut self, choice: &GroupChoice, name: &Sourced<crate::model::Name>) -> Value {
        let GroupChoice { header, clients, plans, addresses } = choice;
        let mut expression = |globs: &[Sourced<String>]| {
            let fitting: Vec<String> = globs.iter().map(|glob| name_expression(&glob.value)).collect();
            (!globs.is_empty()).then(|| self.marks.text(format!("^(?:{})", fitting.join("|")), name.origin))
        };
        let (clients, plans) = (expression(clients), expression(plans));
        let rules: Vec<Value> = addresses
            .chunks(ADDRESSES_PER_RULE)
            .map(|addresses| addresses.iter().map(|ip| Value::from(ip.to_string())).collect::<Vec<_>>().into())
            .collect();
        ContextMap::default()
            .with("header", self.marks.text(header, name.origin))
            .with("clients", clients)
            .with("plans", plans)
            .with("addresses", rules)
            .into()
    }
}

/// So that canaries do not all fall upon the same clients first. The same on all nodes.
fn seed(name: &str) -> u32 {
    Digest::of(name).to_string().bytes().take(6).fold(0, |seed, byte| (seed * 37 + u32::from(byte)) % 1_000_003)
}
