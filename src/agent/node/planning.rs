//! What an apply of the file would do.

use super::Node;
use super::guarding::wants_force;
use crate::agent::judge::start::start_doubts;
use crate::agent::orders::order::Order;
use crate::agent::outcome::applied::Prepared;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::sources::certificate_checks;
use crate::agent::sources::place::{Sources, SourcesError};
use crate::agent::vip::vrrp_file::VrrpPlan;
use std::time::SystemTime;

/// What an apply would do.
#[derive(Debug)]
pub struct Planned {
    /// The files and the steps.
    pub prepared: Prepared,
    pub(in crate::agent) sources: Sources,
    pub(in crate::agent) vrrp: VrrpPlan,
}

impl Node {
    /// The question that `plan` asks.
    pub(in crate::agent) fn begin_plan(&self, read: Result<Sources, SourcesError>) -> Result<Order, Failed> {
        let sources = read.map_err(|e| Failed::from_sources(&e))?;
        let desired = self.steering.desired_under(&sources, self.now());
        Ok(Order::to_plan(sources, desired))
    }

    /// The answer to who asked what an apply would do.
    pub(in crate::agent) fn end_plan(&mut self, planned: Planned) -> Report {
        let Planned { prepared, sources, vrrp } = &planned;
        let mut report = prepared.report();
        match vrrp {
            Ok(None) => {}
            Ok(Some(change)) => {
                report.diff.push_str(&change.diff());
                report.notes.push("keepalived.conf changes; a running Keepalived reads it on SIGHUP".to_owned());
            }
            Err(failed) => report.notes.push(failed.to_string()),
        }
        report.notes.extend(self.engine.said.warnings.iter().cloned());
        report.notes.extend(certificate_checks::notes(sources));
        report.notes.extend(self.not_in_force(sources));
        report.notes.extend(self.steering.canaries.notes_on(&sources.config, SystemTime::now()));
        report.notes.extend(start_doubts(sources, prepared));
        report.unread.clone_from(&sources.unread);
        let drastic = wants_force(self, sources);
        let command = self.file.place.command("apply --force");
        report.notes.extend(drastic.iter().map(|change| format!("{change}; that wants `{command}`")));
        report
    }
}
