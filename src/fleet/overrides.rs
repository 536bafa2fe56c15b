//! What operators set by command, over the file and over health: kept across restarts, ended by time.
//!
//! Knows no file: `store` keeps the values.

use crate::desired::DesiredOverride;
use crate::model::{AdminState, ServerId, Weight};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What operators said of one server: its state and its weight each have an author and an end of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Override {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<OverrideWord<AdminState>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<OverrideWord<Weight>>,
}

/// One word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OverrideWord<T> {
    value: T,
    /// Who said it.
    actor: String,
    /// When it ends by itself; `None`: by `server ready` only.
    until: Option<Timestamp>,
}

/// As a file may have it: in the form of before, state and weight have one author and one end.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Before { wish: DesiredOverride, actor: String, until: Option<Timestamp> },
    Now { state: Option<OverrideWord<AdminState>>, weight: Option<OverrideWord<Weight>> },
}

impl From<Stored> for Override {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Before { wish, actor, until } => Self {
                state: wish.state.map(|value| OverrideWord { value, actor: actor.clone(), until }),
                weight: wish.weight.map(|value| OverrideWord { value, actor, until }),
            },
            Stored::Now { state, weight } => Self { state, weight },
        }
    }
}

impl Override {
    /// What was set.
    pub fn wish(&self) -> DesiredOverride {
        let (state, weight) = (self.state.as_ref(), self.weight.as_ref());
        DesiredOverride { state: state.map(|said| said.value), weight: weight.map(|said| said.value) }
    }

    /// Whether any of it ends by itself.
    pub fn has_end(&self) -> bool {
        self.ends().next().is_some()
    }

    fn ends(&self) -> impl Iterator<Item = Timestamp> {
        let (state, weight) = (self.state.as_ref(), self.weight.as_ref());
        state.and_then(|said| said.until).into_iter().chain(weight.and_then(|said| said.until))
    }

    /// Without what has ended.
    fn expire(&mut self, now: Timestamp) {
        let has_ended = |until: Option<Timestamp>| until.is_some_and(|until| until <= now);
        self.state.take_if(|said| has_ended(said.until));
        self.weight.take_if(|said| has_ended(said.until));
    }
}

/// All overrides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides(BTreeMap<ServerId, Override>);

impl Overrides {
    /// Sets a state or a weight, each with its own end; state ready without a weight ends what was set before.
    pub fn set(
        &mut self,
        id: ServerId,
        state: Option<AdminState>,
        weight: Option<Weight>,
        actor: String,
        until: Option<Timestamp>,
        file_state: AdminState,
    ) {
        let before = self.0.remove(&id).unwrap_or_default();
        let state = state.map(|value| OverrideWord { value, actor: actor.clone(), until });
        let entry = match (state, weight) {
            // Back to the file; where the file itself says otherwise, the operator's word is needed to overrule it.
            (Some(said), None) if said.value == AdminState::Ready => {
                Override { state: (file_state != AdminState::Ready).then_some(said), weight: None }
            }
            (state, weight) => Override {
                state: state.or(before.state),
                weight: weight.map(|value| OverrideWord { value, actor, until }).or(before.weight),
            },
        };
        if entry != Override::default() {
            self.0.insert(id, entry);
        }
    }

    /// Removes what has ended and what names no server any more; returns the servers concerned.
    pub fn expire(&mut self, now: Timestamp, exists: impl Fn(&ServerId) -> bool) -> Vec<ServerId> {
        let mut concerned = Vec::new();
        self.0.retain(|id, entry| {
            let before = entry.wish();
            entry.expire(now);
            let stays = exists(id) && *entry != Override::default();
            if !stays || entry.wish() != before {
                concerned.push(id.clone());
            }
            stays
        });
        concerned
    }

    /// Time until the next one ends.
    pub fn next_end(&self, now: Timestamp) -> Option<Duration> {
        let ends = self.0.values().flat_map(Override::ends);
        ends.min().map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default())
    }

    /// The word on one server.
    pub fn get(&self, id: &ServerId) -> Option<&Override> {
        self.0.get(id)
    }

    /// As `Desired` takes them.
    pub fn wishes(&self) -> BTreeMap<ServerId, DesiredOverride> {
        self.0.iter().map(|(id, entry)| (id.clone(), entry.wish())).collect()
    }
}

impl std::fmt::Display for Override {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        fn tail<T>(said: &OverrideWord<T>) -> String {
            let until = said.until.map(|until| format!(" until {}", until.strftime("%Y-%m-%dT%H:%M:%SZ")));
            format!("by {}{}", said.actor, until.unwrap_or_default())
        }
        match (&self.state, &self.weight) {
            (Some(state), Some(weight)) if tail(state) == tail(weight) => {
                write!(f, "{} and weight {} {}", state.value, weight.value, tail(state))
            }
            (Some(state), Some(weight)) => {
                write!(f, "{} {}; weight {} {}", state.value, tail(state), weight.value, tail(weight))
            }
            (Some(state), None) => write!(f, "{} {}", state.value, tail(state)),
            (None, Some(weight)) => write!(f, "weight {} {}", weight.value, tail(weight)),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ServerId {
        "chat/a".parse().unwrap()
    }

    #[test]
    fn ready_ends_what_was_set_before() {
        let mut overrides = Overrides::default();
        overrides.set(id(), Some(AdminState::Drain), None, "ops".into(), None, AdminState::Ready);
        overrides.set(id(), None, Some(Weight::new(10).unwrap()), "ops".into(), None, AdminState::Ready);
        let wish = overrides.get(&id()).unwrap().wish();
        assert_eq!((wish.state, wish.weight.map(Weight::get)), (Some(AdminState::Drain), Some(10)));
        overrides.set(id(), Some(AdminState::Ready), None, "ops".into(), None, AdminState::Ready);
        assert_eq!(overrides, Overrides::default());
    }

    #[test]
    fn ready_overrules_a_file_that_says_maint() {
        let mut overrides = Overrides::default();
        overrides.set(id(), Some(AdminState::Ready), None, "ops".into(), None, AdminState::Maint);
        assert_eq!(overrides.wishes()[&id()].state, Some(AdminState::Ready));
    }

    #[test]
    fn an_override_ends_by_time_and_with_its_server() {
        let now = Timestamp::UNIX_EPOCH;
        let later = now + Duration::from_secs(60);
        let mut overrides = Overrides::default();
        overrides.set(id(), Some(AdminState::Drain), None, "ops".into(), Some(later), AdminState::Ready);
        assert_eq!(overrides.next_end(now), Some(Duration::from_secs(60)));
        assert!(overrides.expire(now, |_| true).is_empty());
        assert_eq!(overrides.clone().expire(now, |_| false), [id()]);
        assert_eq!(overrides.expire(later, |_| true), [id()]);
    }

    #[test]
    fn state_and_weight_each_end_at_their_own_time() {
        let (now, weight) = (Timestamp::UNIX_EPOCH, Weight::new(5).unwrap());
        let (soon, later) = (now + Duration::from_secs(3), now + Duration::from_secs(9));
        for (state_ends, weight_ends) in [(Some(soon), None), (None, Some(soon)), (Some(soon), Some(later))] {
            for is_state_first in [true, false] {
                let mut overrides = Overrides::default();
                for is_state in [is_state_first, !is_state_first] {
                    let (state, weight) = (is_state.then_some(AdminState::Drain), (!is_state).then_some(weight));
                    let until = if is_state { state_ends } else { weight_ends };
                    overrides.set(id(), state, weight, "ops".into(), until, AdminState::Ready);
                }
                let told = overrides.get(&id()).unwrap().to_string();
                assert!(told.contains("drain by ops") && told.contains("; weight 5 by ops"), "{told}");
                let kept = serde_json::to_string(&overrides).unwrap();
                assert_eq!(serde_json::from_str::<Overrides>(&kept).unwrap(), overrides);
                assert_eq!(overrides.next_end(now), Some(Duration::from_secs(3)));
                assert_eq!(overrides.expire(soon, |_| true), [id()]);
                let left = overrides.get(&id()).unwrap().wish();
                assert_eq!(
                    (left.state.is_none(), left.weight.is_none()),
                    (state_ends == Some(soon), weight_ends == Some(soon))
                );
            }
        }
    }

    #[test]
    fn the_form_of_before_is_read() {
        let text = r#"{"chat/a":{"wish":{"state":"drain","weight":7},"actor":"ops","until":"2026-01-01T00:00:00Z"}}"#;
        let overrides: Overrides = serde_json::from_str(text).unwrap();
        assert_eq!(overrides.get(&id()).unwrap().to_string(), "drain and weight 7 by ops until 2026-01-01T00:00:00Z");
    }
}
