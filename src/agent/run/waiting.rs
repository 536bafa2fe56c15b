//! What a change is to lead to, who waits for it, and one that waits itself.

use super::request::{Reply, Request};
use crate::agent::node::Node;
use crate::agent::outcome::intent::Intent;
use crate::agent::tell::refusal::Refusal;
use crate::model::Digest;
use std::time::Instant;

/// A change that waits: for its reload, for a verdict, for its turn among the nodes, or for another try.
#[derive(Debug)]
pub(super) struct Postponed {
    pub at: Instant,
    /// It waits for a verdict of `haproxy -c`.
    pub for_verdict: bool,
    /// It waits for other nodes, since then.
    pub in_order_since: Option<Instant>,
    pub what: Aim,
    pub intent: Intent,
    pub replies: Vec<Reply>,
    /// The file as it stood when this was asked for.
    pub file: Option<Digest>,
}

/// A request that waits for the end of what is under way.
#[derive(Debug)]
pub(super) struct Held {
    pub request: Request,
    pub since: Instant,
    /// The file as it stood then, where the request is about it.
    pub file: Option<Digest>,
}

impl Held {
    /// One that comes now.
    pub fn of(request: Request, node: &Node) -> Self {
        let file = match request {
            Request::Apply(..) | Request::Rollback(..) | Request::Expire(_) => node.file.place.digest(),
            _ => None,
        };
        Self { request, since: Instant::now(), file }
    }
}

/// The file changed while something else was under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edited {
    pub why: &'static str,
    /// The last time that it did.
    pub at: Instant,
}

/// What a change is to lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Aim {
    /// The operator's file serves.
    File,
    /// An older revision does.
    Rollback(Option<u32>),
    /// The last confirmed one does, where a deadline has passed.
    Expire,
    /// The last confirmed one does: what soaks is worse than it was.
    Worse,
    /// What serves, with what it refers to read anew.
    Refresh,
    /// What serves is in the history.
    Again,
}

/// Who waits for a change, and what was told before.
#[derive(Debug)]
pub(in crate::agent) struct Waiters {
    pub what: Aim,
    pub intent: Intent,
    pub replies: Vec<Reply>,
    /// The refusal that was told last.
    pub told: Option<Refusal>,
    /// It began with a new content of the file.
    pub is_edit: bool,
    pub was_waiting: bool,
    /// The file as it stood when this was asked for.
    pub file: Option<Digest>,
}

impl Waiters {
    /// Whether the file is to serve.
    pub fn are_for_file(&self) -> bool {
        self.what == Aim::File
    }

    /// Where the answers go.
    pub fn into_replies(self) -> Vec<Reply> {
        self.replies
    }
}

/// Nobody waits.
pub(super) fn waiters_of(what: Aim) -> Waiters {
    let intent = Intent::of_agent(None);
    Waiters { what, intent, replies: vec![], told: None, is_edit: false, was_waiting: false, file: None }
}
