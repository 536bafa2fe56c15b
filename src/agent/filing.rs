//! What is only written down: a confirmation, and a revision's name. On a thread of its own; meanwhile nobody else writes
//! into the history.

use super::body::Agent;
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
    task: JoinHandle<(Box<Ledger>, Filed)>,
    remark: Remark,
    reply: Reply,
}

/// How it ended: what is so now.
type Filed = Result<String, Failed>;

/// How it ended; never, where there is none.
pub(super) async fn filed(filing: Option<&mut Filing>) -> Result<(Box<Ledger>, Filed), JoinError> {
    match filing {
        Some(filing) => (&mut filing.task).await,
        None => std::future::pending().await,
    }
}

impl Agent {
    /// Begins to write a remark down.
    pub(super) fn file(&mut self, remark: Remark, reply: Reply) {
        if let Err(failed) = self.node.refuse_late(&remark) {
            let _ = reply.send(Err(failed));
            return;
        }
        let mut ledger = Box::new(self.node.ledger.clone());
        let to_file = remark.clone();
        let task = tokio::task::spawn_blocking(move || {
            let filed = ledger.file(&to_file);
            (ledger, filed)
        });
        self.filing = Some(Filing { task, remark, reply });
    }

    /// It is written down, or cannot be.
    pub(super) async fn remark_filed(&mut self, ended: Result<(Box<Ledger>, Filed), JoinError>) {
        let Some(Filing { task: _, remark, reply }) = self.filing.take() else { return };
        let result = match ended {
            Ok((ledger, filed)) => {
                self.node.ledger = *ledger;
                self.node.filed(&remark, filed)
            }
            Err(broken) => {
                tracing::error!("a remark broke off, this is a bug of hapilot: {broken}");
                self.node.read_ledger_again();
                Err(Failed::refused("this broke off by a bug of hapilot; see its log"))
            }
        };
        let _ = reply.send(result);
        self.go_on().await;
    }
}

impl Ledger {
    fn file(&mut self, remark: &Remark) -> Filed {
        match remark {
            Remark::Confirm(_) => self.confirm().map(|revision| format!("revision {revision} is confirmed")),
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

    fn refuse_late(&self, remark: &Remark) -> Result<(), Failed> {
        match remark {
            Remark::Confirm(_) if self.is_overdue() => {
                Err(Failed::refused("the deadline has passed; the last confirmed revision comes back"))
            }
            Remark::Confirm(_) | Remark::Tag(..) => Ok(()),
        }
    }

    fn filed(&self, remark: &Remark, filed: Filed) -> Result<Report, Failed> {
        let note = filed?;
        if let Remark::Confirm(actor) = remark {
            let text = format!("{note} by {actor}");
            self.bulletin.tell(Event::once(EventKind::Trial, Severity::Info, "file", text));
        }
        Ok(Report::note(self.revision(), note))
    }
}
