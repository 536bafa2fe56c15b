//! What is only written down, a confirmation or a name, is written on a thread of its own; meanwhile nobody else writes into
//! the history.

use super::body::Agent;
use super::request::Reply;
use super::tasks::Filing;
use crate::agent::history::ledger::Ledger;
use crate::agent::history::remark::{Filed, Remark};
use crate::agent::outcome::report::Failed;
use tokio::task::JoinError;

impl Agent {
    /// Begins to write a remark down.
    pub(in crate::agent) fn file(&mut self, remark: Remark, reply: Reply) {
        if let Err(failed) = self.node.ledger.refuse_late(&remark) {
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
                remark.report(filed, self.node.revision(), &self.node.bulletin)
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
