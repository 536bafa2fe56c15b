//! A change of what serves while it is under way, as values.

use crate::agent::file::unserved::Unserved;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::SourceOfChange;
use crate::agent::vip::vrrp_file::VrrpPlan;
use crate::model::Digest;
use crate::store::{Provisional, Standing};
use std::time::Duration;

/// A change that is under way.
#[derive(Debug)]
pub(in crate::agent) struct Change {
    pub(in crate::agent) intent: Intent,
    pub(in crate::agent) source: SourceOfChange,
    /// This very content serves already, and is perhaps not in the history: a trial of it goes on, and none begins.
    pub(in crate::agent) is_same: bool,
    /// The history could not be written into when it began.
    pub(in crate::agent) is_history_broken: bool,
    /// What becomes of keepalived.conf, or why it stays as it is.
    pub(in crate::agent) vrrp: VrrpPlan,
    pub(in crate::agent) then: Then,
}

/// What follows once it serves.
#[derive(Debug)]
pub(in crate::agent) enum Then {
    /// Nothing.
    Nothing,
    /// The file serves; whether it was rolled back before.
    File { comes_back: bool },
    /// An older revision serves in the place of this.
    Rollback(Left),
    /// The same revision serves, with what it refers to read anew; why its file does not.
    Refresh { problem: Option<Unserved> },
}

/// What a rollback leaves.
#[derive(Debug)]
pub(in crate::agent) struct Left {
    /// What served.
    pub before: Option<u32>,
    /// The operator's file when it was asked for: one that is saved later is no part of it.
    pub file: Option<Digest>,
    /// Nobody asked but the clock.
    pub by_deadline: bool,
    /// A saved file waited for the operator's `apply`.
    pub waits: bool,
}

/// What a new revision begins with, and what was there before, to put back when it fails.
#[derive(Debug)]
pub(in crate::agent) struct Armed {
    /// How it is written into the history.
    pub(super) standing: Standing,
    /// What the operator should know.
    pub(super) note: Option<String>,
    pub(super) before: Option<Provisional>,
    /// A deadline that begins anew when the revision serves.
    pub(super) given: Option<Duration>,
}
