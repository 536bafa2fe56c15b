//! What is wrong with this node now: told once when it begins or has other words, and once when it is over.
//!
//! The only keeper of what `status`, its exit code and the metrics count as a problem of the node's own, beside the
//! operator's file. Whoever looks says what it found, and need not know what was told. Called by `node` and its parts.

use super::bulletin::Bulletin;
use super::refusal::Refusal;
use crate::event::{Event, EventKind, Severity};
use std::collections::BTreeMap;

/// What something is wrong with; in the order in which `status` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// HAProxy does not follow, or is gone.
    Haproxy,
    /// A revision that is to be taken back cannot be.
    WayBack,
    /// What serves is not in the history.
    History,
    /// Operators' words would be forgotten at a restart.
    Words,
    /// The state directory has no room.
    Room,
    /// The disk does not answer.
    Disk,
    /// What clients use is not written down.
    Usage,
    /// The clients' file is not what serves.
    Clients,
    /// keepalived.conf is not as it should be.
    Keepalived,
    /// The git repository is behind the history.
    Git,
}

/// What a look has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleChange {
    /// It is as it was.
    None,
    /// Something is wrong that was not, or that had other words.
    Stands,
    /// It is well again.
    Over,
}

/// All that is wrong.
#[derive(Clone, Debug, Default)]
pub struct Troubles {
    standing: BTreeMap<Matter, Refusal>,
    /// Where it is told.
    pub(in crate::agent) bulletin: Bulletin,
}

impl Troubles {
    /// Keeps what a look has found, and tells it where it is news.
    pub fn set(&mut self, matter: Matter, problem: Option<Refusal>) {
        let event = match (self.note(matter, problem.as_ref()), problem) {
            (TroubleChange::Stands, Some(problem)) => {
                Event::begins(EventKind::Problem, matter.severity(), matter.subject(), problem)
            }
            (TroubleChange::Over, _) => Event::ends(EventKind::Problem, matter.subject(), matter.over()),
            (TroubleChange::None | TroubleChange::Stands, _) => return,
        };
        self.bulletin.tell(event.about(matter.as_str()));
    }

    /// Nobody asks any more for what it was about: it is no trouble, and nothing was mended either.
    pub fn withdraw(&mut self, matter: Matter, text: &str) {
        if self.note(matter, None) == TroubleChange::Over {
            let event = Event::ends(EventKind::Problem, matter.subject(), text);
            self.bulletin.tell(event.about(matter.as_str()));
        }
    }

    /// Keeps it alone, for who has words of its own to tell it by.
    pub fn note(&mut self, matter: Matter, problem: Option<&Refusal>) -> TroubleChange {
        match problem {
            Some(problem) if self.standing.get(&matter) == Some(problem) => TroubleChange::None,
            Some(problem) => {
                self.standing.insert(matter, problem.clone());
                TroubleChange::Stands
            }
            None if self.standing.remove(&matter).is_some() => TroubleChange::Over,
            None => TroubleChange::None,
        }
    }

    /// What is wrong with this.
    pub fn of(&self, matter: Matter) -> Option<&Refusal> {
        self.standing.get(&matter)
    }

    /// Whether anything is wrong with this.
    pub fn has(&self, matter: Matter) -> bool {
        self.standing.contains_key(&matter)
    }

    /// One for each matter.
    pub fn all(&self) -> impl Iterator<Item = &Refusal> {
        self.standing.values()
    }
}

impl Matter {
    fn as_str(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::WayBack => "way-back",
            Self::History => "history",
            Self::Words => "words",
            Self::Room => "room",
            Self::Disk => "disk",
            Self::Usage => "usage",
            Self::Clients => "clients",
            Self::Keepalived => "keepalived",
            Self::Git => "git",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::History | Self::Words | Self::Room | Self::Disk | Self::Usage | Self::Git => "agent",
            Self::Clients => "clients",
            Self::Keepalived => "keepalived",
            Self::WayBack => "file",
        }
    }

    fn severity(self) -> Severity {
        match self {
            Self::Haproxy | Self::Clients | Self::Keepalived | Self::Git => Severity::Warning,
            Self::WayBack | Self::History | Self::Words | Self::Room | Self::Disk | Self::Usage => Severity::Error,
        }
    }

    fn over(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy follows again",
            Self::WayBack => "no revision has to be taken back any more",
            Self::History => "the history is complete again",
            Self::Words => "what operators said is kept again",
            Self::Room => "the state directory has room again",
            Self::Disk => "the disk answers again",
            Self::Usage => "what clients use is kept again",
            Self::Clients => "the clients' file is what serves again",
            Self::Keepalived => "keepalived.conf is as it should be",
            Self::Git => "the git repository has the whole history again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EventReader;
    use camino::Utf8Path;

    #[test]
    fn each_is_told_when_it_begins_when_its_words_change_and_when_it_is_over() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        let mut troubles = Troubles { bulletin: Bulletin::open(state), ..Troubles::default() };
        for problem in [None, Some("full"), Some("full"), Some("read-only"), None, None, Some("full")] {
            troubles.set(Matter::Room, problem.map(Refusal::notice));
            troubles.set(Matter::Words, problem.map(Refusal::notice));
            assert_eq!(troubles.of(Matter::Room).map(ToString::to_string).as_deref(), problem);
        }
        assert_eq!((troubles.all().count(), troubles.has(Matter::History)), (2, false));
        troubles.withdraw(Matter::Room, "nobody asks");
        troubles.withdraw(Matter::Room, "nobody asks");
        drop(troubles);
        let mut told = vec![];
        let take = |event: Event| {
            if event.key == "problem/agent/room" {
                told.push(event.text);
            }
        };
        EventReader::new(state).read(take).unwrap();
        assert_eq!(told, ["full", "read-only", "the state directory has room again", "full", "nobody asks"]);
    }
}
