//! keepalived.conf follows what serves.

use super::Node;
use crate::agent::outcome::intent::Intent;
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

    /// Compares keepalived.conf with what should be there, and mends what is ours to mend.
    pub(in crate::agent) async fn look_at_vrrp_file(&mut self) {
        if !self.is_settled {
            return;
        }
        let problem = match self.vrrp_change(&self.serving, &Intent::of_agent(None)).await {
            Ok(None) => None,
            Ok(Some(change)) => {
                tracing::warn!("keepalived.conf is not what it should be, and is written again\n{}", change.diff());
                change.carry_out().err().map(Refusal::notice)
            }
            Err(failed) => Some(failed.refusal),
        };
        self.troubles.set(Matter::Keepalived, problem);
    }
}
