//! What a server's weight comes from, told where that is news.

use super::Steering;
use crate::agent::apply::renderer::Servers;
use crate::agent::tell::bulletin::Bulletin;
use crate::event::{Event, EventKind, Severity};
use crate::health::{FactorName, Transition};
use crate::model::ServerId;
use crate::plan::Step;
use crate::render;

/// So many changes of one round are told one by one; of a site of thousands, the rest is counted.
const MAX_TOLD: usize = 20;

impl Steering {
    /// Tells what HAProxy was sent: each change that has a cause of its own, one line. The steps of a ramp and the
    /// comparisons of adaptive weights have none, and are told to who asks for `debug`.
    pub(in crate::agent) fn tell_steps(&mut self, steps: &[Step], names: &Servers, bulletin: &Bulletin) {
        let mut told = 0;
        // What clients spend moves all the time, and a list of models follows from what probes see.
        let is_followed = |map: &str| [render::SPENT_MAP, render::LISTS_MAP].contains(&map);
        let is_news = |step: &&Step| !matches!(step, Step::ReplaceMap { map, .. } if is_followed(map));
        for step in steps.iter().filter(is_news) {
            let Step::SetWeight { proxy, server, from, to } = step else {
                told += 1;
                if told <= MAX_TOLD {
                    let text = format!("HAProxy: {step}");
                    bulletin.tell(Event::once(EventKind::Haproxy, Severity::Info, "haproxy", text));
                }
                continue;
            };
            let id = names.get(&(proxy.clone(), server.clone()));
            let Some(id) = id else { continue };
            let cause = self.cause_of(id);
            if self.told_causes.insert(id.clone(), cause.clone()).as_ref() == Some(&cause) {
                tracing::debug!(backend = %id.backend, server = %id.server, %from, %to, cause, "{id} weight {from} → {to} ({cause})");
                continue;
            }
            told += 1;
            if told <= MAX_TOLD {
                let text = format!("{id} weight {from} → {to} ({cause})");
                bulletin.tell(Event::once(EventKind::Weight, Severity::Info, id, text));
            }
        }
        if told > MAX_TOLD {
            tracing::info!("and {} more changes", told - MAX_TOLD);
        }
    }

    /// What a server's weight comes from now, in a few words.
    fn cause_of(&self, id: &ServerId) -> String {
        if let Some(word) = self.overrides.get(id) {
            return word.to_string();
        }
        let factors = self.fleet.view().decision(id).map(|decision| decision.factors.as_slice()).unwrap_or_default();
        let of = |name: FactorName| factors.iter().any(|factor| factor.name == name);
        let state = self.fleet.view().health(id).map(|health| health.state());
        match state {
            _ if of(FactorName::Guard) => "held by a guard".to_owned(),
            _ if of(FactorName::Keys) => "no usable key".to_owned(),
            _ if of(FactorName::Pause) => "it asked for silence".to_owned(),
            _ if of(FactorName::HalfOpen) => "a trickle of requests".to_owned(),
            Some(state) => state.cause().unwrap_or(state.as_str()).to_owned(),
            None => "the file".to_owned(),
        }
    }
}

/// A change of health: one line; a server that goes out is a warning.
pub(in crate::agent) fn log_transition(id: &ServerId, transition: &Transition, bulletin: &Bulletin) {
    let (from, to) = (transition.from, transition.to);
    let event = match to.is_unhealthy() {
        true => Event::begins(EventKind::Health, Severity::Warning, id, format!("{id} is out: health {from} → {to}")),
        // Also of one that an agent before this one saw go out.
        false => Event::ends(EventKind::Health, id, format!("{id} health {from} → {to}")),
    };
    bulletin.tell(event.because(&transition.reason));
}
