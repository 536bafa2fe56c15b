//! A change of what serves while it is under way, as values.

use super::intent::Intent;
use super::report::SourceOfChange;
use super::unserved::Unserved;
use super::vrrp_file::VrrpChange;
use crate::model::Digest;
use crate::store::{Provisional, Standing};
use std::time::Duration;

/// A change that is under way.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) intent: Intent,
    pub(super) source: SourceOfChange,
    /// This very content serves already, and is perhaps not in the history: a trial of it goes on, and none begins.
    pub(super) is_same: bool,
    /// The history could not be written into when it began.
    pub(super) is_history_broken: bool,
    pub(super) vrrp: Option<VrrpChange>,
    pub(super) then: Then,
}

/// What follows once it serves.
#[derive(Debug)]
pub(super) enum Then {
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
pub(super) struct Left {
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
pub(super) struct Armed {
    /// How it is written into the history.
    pub(super) standing: Standing,
    /// What the operator should know.
    pub(super) note: Option<String>,
    pub(super) before: Option<Provisional>,
    /// A deadline that begins anew when the revision serves.
    pub(super) given: Option<Duration>,
}
