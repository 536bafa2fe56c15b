//! What runs beside the loop: at most one reading or one order of the engine's, one push, and one write of operators' words.

use super::request::Reply;
use super::waiting::Waiters;
use crate::agent::apply::engine::Engine;
use crate::agent::apply::push::Pushed;
use crate::agent::history::ledger::Ledger;
use crate::agent::history::remark::{Filed, Remark};
use crate::agent::orders::goal::{Goal, Understood};
use crate::agent::orders::order::{Order, OrderOutcome};
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::tell::refusal::Refusal;
use crate::agent::vip::vrrp_file::VrrpPlan;
use crate::model::{Digest, ServerId};
use crate::plan::Step;
use std::io;
use std::time::Instant;
use tokio::task::{JoinError, JoinHandle};

/// An order that is being carried out.
#[derive(Debug)]
pub(super) struct Work {
    pub task: JoinHandle<Carried>,
    pub what: Task,
    /// What the engine had written when it went.
    pub writes: u64,
    /// The file that is to serve.
    pub file: Digest,
}

impl Work {
    /// Whether another content of the operator's file than `serving` is to serve.
    pub fn brings_file(&self, serving: &Digest) -> bool {
        matches!(&self.what, Task::Change(waiters) if waiters.are_for_file() && self.file != *serving)
    }
}

/// What is to serve, while it is read and understood.
#[derive(Debug)]
pub(super) struct Reading {
    pub task: JoinHandle<(Goal, Understood)>,
    pub what_for: ReadFor,
}

/// What follows once it is read.
#[derive(Debug)]
pub(super) enum ReadFor {
    /// It is to serve.
    Change(Box<(Intent, Waiters)>),
    /// Only what an apply of it would do.
    Plan(PlanFor),
}

impl Reading {
    /// Whether the operator's file is to serve.
    pub fn brings_file(&self) -> bool {
        matches!(&self.what_for, ReadFor::Change(change) if change.1.are_for_file())
    }
}

/// The engine, what it carried out, and how that ended.
pub(super) type Carried = (Box<Engine>, Box<Order>, OrderOutcome);

/// What an order is for.
#[derive(Debug)]
pub(in crate::agent) enum Task {
    /// HAProxy follows what is known, and who waits for that; in an audit everything is compared.
    Reconcile { words: Vec<PendingWord>, is_audit: bool },
    /// Something else is to serve.
    Change(Box<Waiters>),
    /// What an apply would do.
    Plan(PlanFor, VrrpPlan),
}

/// Who wants to know what an apply would do.
#[derive(Debug)]
pub(in crate::agent) enum PlanFor {
    /// An operator.
    Asked(Reply),
    /// Everybody who looks at a file that was saved and waits.
    Saved(Box<Waiters>),
}

/// What an operator said of a server, and waits for.
#[derive(Debug)]
pub(in crate::agent) struct PendingWord {
    pub id: ServerId,
    pub reply: Reply,
    pub began: Instant,
    /// What was sent ahead for it.
    pub steps: Vec<Step>,
    /// HAProxy was seen to have all of it.
    pub is_seen: bool,
}

/// How the order ended; never, where there is none.
pub(super) async fn ended(work: Option<&mut Work>) -> Result<Carried, JoinError> {
    match work {
        Some(work) => (&mut work.task).await,
        None => std::future::pending().await,
    }
}

/// What was read; never, where nothing is.
pub(super) async fn read(reading: Option<&mut Reading>) -> Result<(Goal, Understood), JoinError> {
    match reading {
        Some(reading) => (&mut reading.task).await,
        None => std::future::pending().await,
    }
}

/// What HAProxy took of the push; never, where there is none.
pub(super) async fn pushed(push: Option<&mut JoinHandle<Pushed>>) -> Pushed {
    match push {
        // A push that broke is one that HAProxy did not take.
        Some(push) => push.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// A write that is under way: until which word, and how it ended.
pub(super) type Writing = JoinHandle<(u64, Result<(), Failed>)>;

/// An answer that waits for the disk.
#[derive(Debug)]
pub(super) struct WordAnswer {
    pub reply: Reply,
    pub answer: Result<Report, Attempt>,
    /// The last word that must be written.
    pub word: u64,
    /// Sent then at the latest.
    pub until: Instant,
}

/// How the write ended; never, where there is none.
pub(super) async fn written(writing: Option<&mut Writing>) -> Option<(u64, Result<(), Failed>)> {
    match writing {
        Some(writing) => writing.await.ok(),
        None => std::future::pending().await,
    }
}

/// What became of an errand: nothing was to be done, or it was written, or it cannot be what it should.
#[derive(Debug)]
pub(in crate::agent) enum VrrpFound {
    AsItShouldBe,
    Written(io::Result<Vec<String>>),
    Refused(Refusal),
}

/// keepalived.conf is being written or looked at, and which change is answered then.
#[derive(Debug)]
pub(super) struct VrrpErrand {
    pub task: JoinHandle<VrrpFound>,
    pub then: Option<Box<(Waiters, Result<Report, Attempt>)>>,
}

/// How the errand ended; never, where there is none.
pub(super) async fn vrrp_found(errand: Option<&mut VrrpErrand>) -> Result<VrrpFound, JoinError> {
    match errand {
        Some(errand) => (&mut errand.task).await,
        None => std::future::pending().await,
    }
}

/// A remark that is being written down, and who waits for that.
#[derive(Debug)]
pub(super) struct Filing {
    pub task: JoinHandle<(Box<Ledger>, Filed)>,
    pub remark: Remark,
    pub reply: Reply,
}

/// How it ended; never, where there is none.
pub(super) async fn filed(filing: Option<&mut Filing>) -> Result<(Box<Ledger>, Filed), JoinError> {
    match filing {
        Some(filing) => (&mut filing.task).await,
        None => std::future::pending().await,
    }
}
