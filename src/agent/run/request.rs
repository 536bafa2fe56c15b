//! What is asked of the running agent, and how the outside reaches it.

use crate::agent::node::Node;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::picture::snapshot_parts::SnapshotParts;
use crate::agent::steering::CanaryWord;
use crate::agent::tell::unanswered::Unanswered;
use crate::model::{AdminState, Name, ServerId, Weight};
use camino::Utf8PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// What the command line asks of the agent.
#[derive(Debug)]
pub enum Request {
    /// Serve the file now.
    Apply(Intent, Reply),
    /// Serve an older revision.
    Rollback(Option<u32>, Intent, Reply),
    /// Set a server's state or weight.
    Server {
        /// Which.
        id: ServerId,
        /// Administrative state.
        state: Option<AdminState>,
        /// Weight.
        weight: Option<Weight>,
        /// Ends by itself after this.
        period: Option<Duration>,
        /// Who asks.
        actor: String,
        /// Where the answer goes.
        reply: Reply,
    },
    /// Keep the revision on trial.
    Confirm(String, Reply),
    /// Go back where the deadline of the trial has passed.
    Expire(Reply),
    /// Give a revision a name: which, what, and who asks.
    Tag(u32, String, String, Reply),
    /// Move addresses away from this node, or take them back.
    Vip {
        /// Which; none: all.
        names: Vec<Name>,
        /// Which way.
        verb: VipVerb,
        /// Who asks.
        actor: String,
        /// Where the answer goes.
        reply: Reply,
    },
    /// Say something of a canary.
    Canary {
        /// Which.
        name: Name,
        /// What.
        word: CanaryWord,
        /// Who asks.
        actor: String,
        /// Where the answer goes.
        reply: Reply,
    },
    /// What would an apply do?
    Plan(Reply),
    /// Publish what is known now, then answer.
    Refresh(oneshot::Sender<()>),
}

impl Request {
    /// The request, or where its refusal goes: a node that only observes changes nothing.
    pub(super) fn for_node(self, node: &Node) -> Result<Self, Reply> {
        match self {
            Self::Plan(_) | Self::Refresh(_) => Ok(self),
            _ if !node.is_observer() => Ok(self),
            Self::Apply(_, reply)
            | Self::Rollback(_, _, reply)
            | Self::Server { reply, .. }
            | Self::Confirm(_, reply)
            | Self::Vip { reply, .. }
            | Self::Canary { reply, .. }
            | Self::Expire(reply)
            | Self::Tag(_, _, _, reply) => Err(reply),
        }
    }
}

/// What an operator does with a virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipVerb {
    /// Other nodes take it; `force`: also where none is known to be able to.
    Release {
        /// Whatever the others say.
        force: bool,
    },
    /// This node takes it.
    Reclaim,
}

/// Where an answer goes; nobody may be left to hear it.
pub type Reply = oneshot::Sender<Result<Report, Failed>>;

/// How the outside reaches the running agent.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Requests in.
    pub requests: mpsc::Sender<Request>,
    /// The operator's file.
    pub file: Utf8PathBuf,
    /// What was handed out last, out; `None` where nobody has looked for a while: [`Request::Refresh`] asks for it.
    pub seen: watch::Receiver<Option<Arc<SnapshotParts>>>,
    /// Whether HAProxy answers, known also while the loop waits for it.
    pub unanswered: Unanswered,
}
