//! What an operator says of a revision: it is kept, or gets a name.

use super::ledger::Ledger;
use super::node::Node;
use super::report::{Failed, Report};
use super::request::Reply;
use crate::event::{Event, EventKind, Severity};
use tokio::task::{JoinError, JoinHandle};

/// What an operator says of a revision.
#[derive(Clone, Debug)]
pub enum Remark {
    /// The one on trial is kept: who says so.
    Confirm(String),
    /// It gets a name.
    Tag(u32, String),
}

/// A remark that is being written down, and who waits for that.
#[derive(Debug)]
pub(super) struct Filing {
    pub task: JoinHandle<(Box<Ledger>, Filed)>,
    pub remark: Remark,
    pub reply: Reply,
}

/// How it ended: what is so now.
pub(super) type Filed = Result<String, Failed>;

/// How it ended; never, where there is none.
pub(super) async fn filed(filing: Option<&mut Filing>) -> Result<(Box<Ledger>, Filed), JoinError> {
    match filing {
        Some(filing) => (&mut filing.task).await,
        None => std::future::pending().await,
    }
}

impl Ledger {
    pub(super) fn file(&mut self, remark: &Remark) -> Filed {
        match remark {
            Remark::Confirm(_) => self.confirm().map(|revision| match revision {
                Some(revision) => format!("revision {revision} is confirmed"),
                None => "what serves is confirmed; it gets its number when the history can be written".to_owned(),
            }),
            Remark::Tag(revision, name) => {
                self.tag(*revision, name).map(|()| format!("revision {revision} is called {name}"))
            }
        }
    }
}

impl Node {
    /// Writes a remark down, in place.
    ///
    /// # Errors
    /// No trial is open or its time is over; no such revision, no good name, or another revision has it; the disk is full
    /// or read-only.
    pub fn remark(&mut self, remark: &Remark) -> Result<Report, Failed> {
        self.refuse_late(remark)?;
        let filed = self.ledger.file(remark);
        self.filed(remark, filed)
    }

    pub(super) fn refuse_late(&self, remark: &Remark) -> Result<(), Failed> {
        match remark {
            Remark::Confirm(_) if self.is_overdue() => {
                Err(Failed::refused("the deadline has passed; the last confirmed revision comes back"))
            }
            Remark::Confirm(_) | Remark::Tag(..) => Ok(()),
        }
    }

    pub(super) fn filed(&self, remark: &Remark, filed: Filed) -> Result<Report, Failed> {
        let note = filed?;
        if let Remark::Confirm(actor) = remark {
            let text = format!("{note} by {actor}");
            self.bulletin.tell(Event::once(EventKind::Trial, Severity::Info, "file", text));
        }
        Ok(Report::note(self.revision(), note))
    }
}
