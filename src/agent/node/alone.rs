//! A node without a loop: both halves of each change in place, one after the other. Commands work so where no agent runs, and
//! an agent at its start.

use super::Node;
use super::planning::Planned;
use super::serving::Ended;
use crate::agent::history::remark::Remark;
use crate::agent::history::trial::not_overdue;
use crate::agent::orders::change::Then;
use crate::agent::orders::goal::{Goal, Understood};
use crate::agent::orders::order::{Order, OrderOutcome};
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Failed, Report, SourceOfChange};
use crate::agent::sources::place::Sources;
use crate::agent::tell::troubles::Matter;
use crate::model::{AdminState, ServerId, Weight};
use std::time::{Duration, Instant};

/// A node, and nobody else who works on it.
#[derive(Debug)]
pub struct Alone<'a> {
    pub(super) node: &'a mut Node,
}

impl Node {
    /// This node, worked on by the caller alone.
    pub fn alone(&mut self) -> Alone<'_> {
        Alone { node: self }
    }
}

impl Alone<'_> {
    /// Reads the file and serves it.
    ///
    /// # Errors
    /// The file's mistakes, or whatever keeps it from being served; what serves goes on.
    pub async fn apply_file(&mut self, intent: &Intent) -> Result<Report, Attempt> {
        self.reach(Goal::File, intent).await
    }

    pub(super) async fn serve(
        &mut self,
        sources: Sources,
        intent: &Intent,
        source: SourceOfChange,
    ) -> Result<Report, Attempt> {
        let vrrp = self.node.vrrp_change(&sources, intent).await;
        let order = self.node.begin(sources, vrrp, intent, source, Then::Nothing)?;
        Box::pin(self.carry_out(order)).await
    }

    /// Both halves, in place.
    pub(super) async fn carry_out(&mut self, order: Order) -> Result<Report, Attempt> {
        let books = self.node.books();
        let OrderOutcome::Changed(changed) = Box::pin(order.carry_out(&mut self.node.engine, books)).await else {
            unreachable!("an order keeps its kind")
        };
        let Ended { mut result, vrrp } = self.node.end(order, *changed);
        if let Some(change) = vrrp {
            let written = change.carry_out();
            self.node.vrrp_written(written, result.as_mut().ok());
        }
        result
    }

    /// Serves an older revision's content as a new revision. The operator's file stays as it is, and is not served
    /// again before it changes.
    ///
    /// # Errors
    /// No such revision, or it cannot be served any more.
    pub async fn roll_back(&mut self, to: Option<u32>, intent: &Intent) -> Result<Report, Attempt> {
        let goal = self.node.choose_revision(to, self.node.file.place.digest())?;
        self.reach(goal, intent).await
    }

    /// Makes HAProxy follow what is known now: weights, overrides that ended, drift; all of it, in place.
    ///
    /// # Errors
    /// As [`Self::apply_file`].
    pub async fn reconcile(&mut self) -> Result<Report, Attempt> {
        if !self.node.is_settled {
            self.node.keep_state();
            // Nothing of this life serves yet: what does then is a revision, and not only a change of weights.
            return Box::pin(self.settle()).await;
        }
        let order = self.node.begin_reconcile(true);
        let result = Box::pin(self.node.engine.apply(order.wish(), Some(&self.node.ledger))).await;
        self.node.engine.look_at_old_workers(&order.sources.config.haproxy.master_socket.value).await;
        let report = self.node.end_reconcile(order.began, result)?;
        if self.node.troubles.has(Matter::History) {
            let (goal, intent) = self.node.choose_again();
            return Box::pin(self.reach(goal, &intent)).await;
        }
        Ok(report)
    }

    /// Sets an operator's word on one server.
    ///
    /// # Errors
    /// No such server, or HAProxy does not follow (the word stays and is tried again). A word that cannot be written down
    /// holds all the same, with a note.
    pub async fn set_server(
        &mut self,
        id: &ServerId,
        state: Option<AdminState>,
        weight: Option<Weight>,
        period: Option<Duration>,
        actor: &str,
    ) -> Result<Report, Attempt> {
        let said = self.node.steering.say(&self.node.serving.config, id, state, weight, period, actor)?;
        self.node.bulletin.tell(said);
        self.keep_new_words();
        let began = Instant::now();
        let result = self.reconcile().await;
        self.keep_new_words();
        let mut report = self.node.word_followed(id, vec![], result, began)?;
        report.notes.extend(self.node.troubles.of(Matter::Words).map(ToString::to_string));
        Ok(report)
    }

    /// Writes down what was said since, in place.
    pub(super) fn keep_new_words(&mut self) {
        if self.node.steering.word_count.is_behind() && !self.node.is_observer() {
            let kept = self.node.ledger.keep_overrides(&self.node.steering.overrides);
            self.node.words_kept(self.node.steering.word_count.until_now(), kept);
        }
    }

    /// Goes back to the last confirmed revision where the deadline has passed; else does nothing.
    ///
    /// # Errors
    /// As [`Self::roll_back`]; the deadline stays passed, and the caller tries again.
    pub async fn expire(&mut self, actor: &str) -> Result<Report, Attempt> {
        match self.node.choose_expired(actor)? {
            Some((goal, intent)) => self.reach(goal, &intent).await,
            None => Ok(not_overdue(self.node.revision())),
        }
    }

    /// Writes a remark down, in place.
    ///
    /// # Errors
    /// No trial is open or its time is over; no such revision, no good name, or another revision has it; the disk is full
    /// or read-only.
    pub fn remark(&mut self, remark: &Remark) -> Result<Report, Failed> {
        self.node.ledger.refuse_late(remark)?;
        let filed = self.node.ledger.file(remark);
        remark.report(filed, self.node.revision(), &self.node.bulletin)
    }

    /// What an apply of the file would do, judged as an apply would.
    ///
    /// # Errors
    /// The file's mistakes, or whatever would keep it from being served.
    pub async fn plan(&mut self) -> Result<Planned, Attempt> {
        let (_, Understood { sources, vrrp }) =
            Goal::File.understand(self.node.file.place.clone(), &Intent::of_agent(None), self.node.is_observer()).await;
        let order = self.node.begin_plan(sources)?;
        let prepared = self.node.engine.plan(order.wish(), &self.node.ledger).await?;
        Ok(Planned { prepared, sources: order.sources, vrrp })
    }

    /// The same for whoever asked, with what `--force` would be needed for.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub async fn plan_report(&mut self) -> Result<Report, Attempt> {
        let planned = self.plan().await?;
        Ok(self.node.end_plan(planned))
    }

    /// Leaves the saved file where it is, if it shall wait; tells so, and its mistakes. Answers whether it waits.
    pub async fn lets_the_file_wait(&mut self) -> bool {
        let waits = self.node.does_file_wait();
        if waits {
            let planned = self.plan().await;
            self.node.note_waiting(planned);
        }
        waits
    }

    /// Reads it and serves it, in place.
    pub(super) async fn reach(&mut self, goal: Goal, intent: &Intent) -> Result<Report, Attempt> {
        let (goal, understood) = goal.understand(self.node.file.place.clone(), intent, self.node.is_observer()).await;
        let order = self.node.begin_goal(goal, understood, intent)?;
        Box::pin(self.carry_out(order)).await
    }
}
