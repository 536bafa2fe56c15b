//! What the engine is told to carry out, with everything that it needs: it may go elsewhere with it.

use super::books::{Books, Kept};
use super::change::Change;
use crate::agent::apply::engine::Engine;
use crate::agent::outcome::applied::{Applied, ApplyError, Prepared, Wish};
use crate::agent::sources::place::Sources;
use crate::desired::Desired;
use std::time::Instant;

/// An apply, or the question what one would do.
#[derive(Debug)]
pub(in crate::agent) struct Order {
    pub sources: Sources,
    pub desired: Desired,
    pub may_replace_foreign_file: bool,
    pub is_serving: bool,
    pub may_exceed_limits: bool,
    /// Nothing is changed.
    pub is_question: bool,
    /// HAProxy was told already, and the files alone follow.
    pub is_for_files: bool,
    pub began: Instant,
    /// Something else is to serve.
    pub change: Option<Box<Change>>,
}

/// How the engine and the books carried a change out.
#[derive(Debug)]
pub(in crate::agent) struct Changed {
    pub result: Result<Applied, ApplyError>,
    pub kept: Kept,
    pub books: Books,
}

/// How an order ended.
#[derive(Debug)]
pub(in crate::agent) enum OrderOutcome {
    /// An apply.
    Applied(Result<Applied, ApplyError>),
    /// Something else was to serve.
    Changed(Box<Changed>),
    /// A question.
    Planned(Box<Result<Prepared, ApplyError>>),
}

impl Order {
    /// Nothing but weights, states and drift.
    pub fn to_reconcile(sources: Sources, desired: Desired) -> Self {
        Self {
            sources,
            desired,
            may_replace_foreign_file: false,
            is_serving: true,
            may_exceed_limits: false,
            is_question: false,
            is_for_files: false,
            began: Instant::now(),
            change: None,
        }
    }

    /// What an apply would do, judged as an apply would.
    pub fn to_plan(sources: Sources, desired: Desired) -> Self {
        let order = Self::to_reconcile(sources, desired);
        Self { is_serving: false, may_exceed_limits: true, is_question: true, ..order }
    }

    /// The same, to be looked at.
    pub fn wish(&self) -> Wish<'_> {
        Wish {
            sources: &self.sources,
            desired: &self.desired,
            may_replace_foreign_file: self.may_replace_foreign_file,
            is_serving: self.is_serving,
            may_exceed_limits: self.may_exceed_limits,
        }
    }

    /// Carries it out.
    pub async fn carry_out(&self, engine: &mut Engine, books: Books) -> OrderOutcome {
        let ledger = &books.ledger;
        if let Some(change) = &self.change {
            return OrderOutcome::Changed(Box::new(self.change(change, engine, books).await));
        }
        if self.is_question {
            return OrderOutcome::Planned(Box::new(engine.plan(self.wish(), ledger).await));
        }
        if self.is_for_files {
            match engine.persist(self.wish()) {
                Ok(None) => {}
                Ok(Some(applied)) => return OrderOutcome::Applied(Ok(applied)),
                Err(e) => return OrderOutcome::Applied(Err(e)),
            }
        }
        let result = engine.apply(self.wish(), Some(ledger)).await;
        if self.is_serving {
            engine.look_at_old_workers(&self.sources.config.haproxy.master_socket.value).await;
        }
        OrderOutcome::Applied(result)
    }

    /// Something else is to serve: what is written down of it comes before and after the engine's part.
    async fn change(&self, change: &Change, engine: &mut Engine, mut books: Books) -> Changed {
        let armed = match books.open(&self.sources, change) {
            Ok(armed) => armed,
            Err(failed) => {
                return Changed { result: Err(ApplyError::Unwritten(failed.refusal)), kept: Kept::default(), books };
            }
        };
        let result = engine.apply(self.wish(), Some(&books.ledger)).await;
        let rendered = engine.last.as_ref().map(|(_, rendered)| &**rendered);
        let kept = books.close(&self.sources, change, armed.as_ref(), &result, rendered);
        Changed { result, kept, books }
    }
}
