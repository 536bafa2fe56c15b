//! keepalived.conf follows what serves.

use super::Node;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::Report;
use crate::agent::sources::place::Sources;
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::troubles::Matter;
use crate::agent::vip::vrrp_file::{VrrpPlan, vrrp_change};

impl Node {
    /// What an apply would change in keepalived.conf; nothing for a node that only observes.
    pub(super) async fn vrrp_change(&self, sources: &Sources, intent: &Intent) -> VrrpPlan {
        if self.is_observer() {
            return Ok(None);
        }
        vrrp_change(&sources.config, intent).await
    }

    /// keepalived.conf stays as it is, though it should be another one.
    pub(in crate::agent) fn vrrp_refused(&mut self, why: Refusal, report: Option<&mut Report>) {
        let path = &self.serving.config.keepalived.config.value;
        let told =
            Refusal::notice(format_args!("{path} is not what it should be, and stays as it is")).besides("", why);
        if let Some(report) = report {
            report.notes.push(told.to_string());
        }
        self.troubles.set(Matter::Keepalived, Some(told));
    }

    /// What became of a keepalived.conf that was to be written; `report` has notes of it.
    pub(in crate::agent) fn vrrp_written(
        &mut self,
        written: std::io::Result<Vec<String>>,
        report: Option<&mut Report>,
    ) {
        let unwritten = |e: &std::io::Error| Refusal::notice(format_args!("keepalived.conf could not be written: {e}"));
        self.troubles.set(Matter::Keepalived, written.as_ref().err().map(unwritten));
        if let Some(report) = report {
            report.notes.extend(written.unwrap_or_default());
            report.notes.extend(self.troubles.of(Matter::Keepalived).map(ToString::to_string));
        }
    }
}
