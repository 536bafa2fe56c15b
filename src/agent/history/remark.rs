//! What an operator says of a revision: it is kept, or gets a name.

use super::ledger::Ledger;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::tell::bulletin::Bulletin;
use crate::event::{Event, EventKind, Severity};

/// What an operator says of a revision.
#[derive(Clone, Debug)]
pub enum Remark {
    /// The one on trial is kept: who says so.
    Confirm(String),
    /// The one that soaked is kept: what was seen.
    Soaked(String),
    /// It gets a name: which, what, and who says so.
    Tag(u32, String, String),
}

impl Remark {
    /// The answer to it; that it was said is told.
    ///
    /// # Errors
    /// It could not be written down.
    pub(in crate::agent) fn report(
        &self,
        filed: Filed,
        revision: Option<u32>,
        bulletin: &Bulletin,
    ) -> Result<Report, Failed> {
        let note = filed?;
        let by = |actor: &str| if actor.is_empty() { String::new() } else { format!(" by {actor}") };
        let (kind, by) = match self {
            Self::Confirm(actor) => (EventKind::Trial, by(actor)),
            Self::Soaked(seen) => (EventKind::Trial, seen.clone()),
            Self::Tag(_, _, actor) => (EventKind::Revision, by(actor)),
        };
        let event = Event::once(kind, Severity::Info, "file", format!("{note}{by}"));
        // A name is no other revision.
        bulletin.tell(if matches!(self, Self::Tag(..)) { event.about("name") } else { event });
        Ok(Report::note(revision, note))
    }
}

/// How it ended: what is so now.
pub(in crate::agent) type Filed = Result<String, Failed>;

impl Ledger {
    /// A trial whose time is over is not kept any more.
    ///
    /// # Errors
    /// Its time is over.
    pub(in crate::agent) fn refuse_late(&self, remark: &Remark) -> Result<(), Failed> {
        match remark {
            Remark::Confirm(_) if self.is_overdue() => {
                Err(Failed::refused("the deadline has passed; the last confirmed revision comes back"))
            }
            Remark::Confirm(_) | Remark::Soaked(_) | Remark::Tag(..) => Ok(()),
        }
    }

    pub(in crate::agent) fn file(&mut self, remark: &Remark) -> Filed {
        match remark {
            Remark::Confirm(_) | Remark::Soaked(_) => self.confirm().map(|revision| match revision {
                Some(revision) => format!("revision {revision} is confirmed"),
                None => "what serves is confirmed; it gets its number when the history can be written".to_owned(),
            }),
            Remark::Tag(revision, name, _) => {
                self.tag(*revision, name).map(|()| format!("revision {revision} is called {name}"))
            }
        }
    }
}
