//! What operators set by command, over the file and over health: kept across restarts, ended by time.
//!
//! Knows no file: `store` keeps the values.

use crate::desired::DesiredOverride;
use crate::model::{AdminState, ServerId, Weight};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// One operator's word on one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// What was set.
    pub wish: DesiredOverride,
    /// Who set it.
    pub actor: String,
    /// When it ends by itself; `None`: by `server ready` only.
    pub until: Option<Timestamp>,
}

/// All overrides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides(BTreeMap<ServerId, Override>);

impl Overrides {
    /// Sets a state or a weight; state ready without a weight ends what was set before.
    pub fn set(
        &mut self,
        id: ServerId,
        state: Option<AdminState>,
        weight: Option<Weight>,
        actor: String,
        until: Option<Timestamp>,
        file_state: AdminState,
    ) {
        let before = self.0.remove(&id).map(|entry| entry.wish).unwrap_or_default();
        let wish = match (state, weight) {
            // Back to the file; where the file itself says otherwise, the operator's word is needed to overrule it.
            (Some(AdminState::Ready), None) => {
                DesiredOverride { state: (file_state != AdminState::Ready).then_some(AdminState::Ready), weight: None }
            }
            (state, weight) => DesiredOverride { state: state.or(before.state), weight: weight.or(before.weight) },
        };
        if wish != DesiredOverride::default() {
            self.0.insert(id, Override { wish, actor, until });
        }
    }

    /// Removes what has ended and what names no server any more; returns the servers concerned.
    pub fn expire(&mut self, now: Timestamp, exists: impl Fn(&ServerId) -> bool) -> Vec<ServerId> {
        let ended = |id: &ServerId, entry: &Override| !exists(id) || entry.until.is_some_and(|until| until <= now);
        let gone: Vec<_> = self.0.iter().filter(|(id, entry)| ended(id, entry)).map(|(id, _)| id.clone()).collect();
        self.0.retain(|id, entry| !ended(id, entry));
        gone
    }

    /// Time until the next one ends.
    pub fn next_end(&self, now: Timestamp) -> Option<Duration> {
        let ends = self.0.values().filter_map(|entry| entry.until);
        ends.min().map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default())
    }

    /// The word on one server.
    pub fn get(&self, id: &ServerId) -> Option<&Override> {
        self.0.get(id)
    }

    /// As `Desired` takes them.
    pub fn wishes(&self) -> BTreeMap<ServerId, DesiredOverride> {
        self.0.iter().map(|(id, entry)| (id.clone(), entry.wish)).collect()
    }
}

impl std::fmt::Display for Override {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { wish, actor, until } = self;
        if let Some(state) = wish.state {
            write!(f, "{state} ")?;
        }
        if let Some(weight) = wish.weight {
            write!(f, "weight {weight} ")?;
        }
        write!(f, "by {actor}")?;
        match until {
            Some(until) => write!(f, " until {}", until.strftime("%Y-%m-%dT%H:%M:%SZ")),
            None => Ok(()),
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
        let wish = overrides.get(&id()).unwrap().wish;
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
}
