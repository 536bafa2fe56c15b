//! keepalived.conf is written, and compared with what it should be, beside the loop: Keepalived's own `-t` may hang, and so may
//! the disk.

use super::body::Agent;
use super::tasks::{VrrpErrand, VrrpFound};
use super::waiting::Waiters;
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::Report;
use crate::agent::tell::troubles::Matter;
use crate::agent::vip::vips::ANNOUNCED;
use crate::agent::vip::vrrp_file::{VrrpChange, vrrp_change};
use std::io;
use tokio::task::JoinError;

impl Agent {
    /// Writes keepalived.conf as a change wants it, which is answered then.
    pub(super) fn write_vrrp(&mut self, change: VrrpChange, waiters: Waiters, result: Result<Report, Attempt>) {
        // The guardian hears of the new file before Keepalived does.
        self.node.attend_vips();
        let pause = self.node.vips.as_ref().map(|_| ANNOUNCED);
        let task = tokio::spawn(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            VrrpFound::Written(carried_out(change).await)
        });
        self.vrrp = Some(VrrpErrand { task, then: Some(Box::new((waiters, result))) });
    }

    /// Compares keepalived.conf with what should be there, and mends what is ours to mend.
    pub(super) fn look_at_vrrp(&mut self) {
        if !self.node.is_settled || self.node.is_observer() || !self.may_change() {
            return;
        }
        let config = self.node.serving.config.clone();
        let task = tokio::spawn(async move {
            match vrrp_change(&config, &Intent::of_agent(None)).await {
                Ok(None) => VrrpFound::AsItShouldBe,
                Ok(Some(change)) => {
                    tracing::warn!("keepalived.conf is not what it should be, and is written again\n{}", change.diff());
                    VrrpFound::Written(carried_out(change).await)
                }
                Err(failed) => VrrpFound::Refused(failed.refusal),
            }
        });
        self.vrrp = Some(VrrpErrand { task, then: None });
    }

    /// It is as it should be, or cannot be.
    pub(super) async fn vrrp_ended(&mut self, ended: Result<VrrpFound, JoinError>) {
        let Some(VrrpErrand { task: _, then }) = self.vrrp.take() else { return };
        let found = ended.unwrap_or_else(|broken| {
            tracing::error!("to write keepalived.conf broke off, this is a bug of hapilot: {broken}");
            VrrpFound::Written(Err(io::Error::other("that broke off by a bug of hapilot; see its log")))
        });
        let (mut result, waiters) = match then {
            Some(then) => (Some(then.1), Some(then.0)),
            None => (None, None),
        };
        match found {
            VrrpFound::AsItShouldBe => self.node.troubles.set(Matter::Keepalived, None),
            VrrpFound::Refused(refusal) => self.node.vrrp_refused(refusal, None),
            VrrpFound::Written(written) => {
                let report = result.as_mut().and_then(|result| result.as_mut().ok());
                self.node.vrrp_written(written, report);
            }
        }
        if let (Some(waiters), Some(result)) = (waiters, result) {
            self.change_ended(waiters, result).await;
        }
        self.go_on().await;
    }
}

/// On a thread of its own: the disk may take its time.
async fn carried_out(change: VrrpChange) -> io::Result<Vec<String>> {
    tokio::task::spawn_blocking(move || change.carry_out()).await.unwrap_or_else(|broken| Err(io::Error::other(broken)))
}
