//! What an operator says of a revision: it is kept, or gets a name.

use super::ledger::Ledger;
use crate::agent::outcome::report::Failed;

/// What an operator says of a revision.
#[derive(Clone, Debug)]
pub enum Remark {
    /// The one on trial is kept: who says so.
    Confirm(String),
    /// It gets a name.
    Tag(u32, String),
}

/// How it ended: what is so now.
pub(in crate::agent) type Filed = Result<String, Failed>;

impl Ledger {
    pub(in crate::agent) fn file(&mut self, remark: &Remark) -> Filed {
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
