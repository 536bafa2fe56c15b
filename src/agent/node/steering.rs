//! HAProxy follows what is known: weights, states, keys and drift, without a new revision.

use super::Node;
use crate::agent::apply::push::{Push, Pushed};
use crate::agent::orders::order::Order;
use crate::agent::outcome::applied::{Applied, ApplyError};
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::report::Report;
use crate::agent::tell::troubles::Matter;
use crate::event::{Event, EventKind, Severity};
use crate::plan::Step;
use std::time::Instant;

impl Node {
    /// What HAProxy is to follow: the weights, states and keys that are known now. Decided anew where it is time to, or where
    /// a word ended; else as they were decided for the last push.
    pub(in crate::agent) fn begin_reconcile(&mut self, decides: bool) -> Order {
        self.keep_state();
        let now = self.now();
        let ended = self.steering.end_words(&self.serving.config, now);
        // What could not be written is tried again.
        if self.troubles.has(Matter::Words) {
            self.steering.word_count.add();
        }
        let event =
            |id| Event::once(EventKind::Override, Severity::Info, id, format!("the operator's word on {id} ended"));
        ended.iter().for_each(|id| self.bulletin.tell(event(id)));
        self.renew_certificates();
        if decides || !ended.is_empty() {
            return Order::to_reconcile(self.serving.clone(), self.steering.decided(&self.serving, now));
        }
        let order = Order::to_reconcile(self.serving.clone(), self.steering.in_force(&self.serving));
        // HAProxy has it all, but for what it did not take.
        Order { is_for_files: true, ..order }
    }

    /// What came of it.
    ///
    /// # Errors
    /// HAProxy does not follow.
    pub(in crate::agent) fn end_reconcile(
        &mut self,
        began: Instant,
        result: Result<Applied, ApplyError>,
    ) -> Result<Report, Attempt> {
        self.remember(&result);
        self.engine.files_wait = matches!(result, Err(ApplyError::Files(_)));
        let applied = result?;
        self.tell_steps(&applied.steps);
        for reason in &applied.reload_reasons {
            let text = format!("HAProxy was reloaded: {reason}");
            self.bulletin.tell(Event::once(EventKind::Haproxy, Severity::Info, "haproxy", text));
        }
        Ok(Report::new(applied, self.revision(), String::new(), began.elapsed()))
    }

    /// The weights, keys and operators' words that HAProxy does not have yet, by what was seen of it last: no file, no
    /// look at what runs. And whether [`Self::begin_reconcile`] has the rest to do, later: what thousands of servers say
    /// mostly moves no weight, and no file.
    pub(in crate::agent) fn begin_push(&mut self) -> (Option<Push>, bool) {
        if !self.is_settled {
            return (None, true);
        }
        let moved = self.steering.moved(&self.serving, self.now());
        self.engine.news.note(self.known.as_ref(), &moved);
        let config = &self.serving.config;
        let is_followed = !self.engine.has_all(config, &moved);
        (self.engine.push(&config.haproxy.admin_socket.value, config, &moved), is_followed)
    }

    /// What HAProxy took of it. What it did not take is tried again: a reload was under way, or it is out of breath.
    pub(in crate::agent) fn end_push(&mut self, pushed: &Pushed) {
        self.engine.took(&pushed.done);
        let config = &self.serving.config;
        // Somebody else said something of these meanwhile: the next push knows it.
        let behind = self.steering.saw(config, &pushed.seen);
        behind.iter().for_each(|id| self.engine.saw(config, id, &pushed.seen));
        self.tell_steps(&pushed.done);
        if !pushed.is_whole {
            self.steering.move_again();
        }
    }

    fn tell_steps(&mut self, steps: &[Step]) {
        if !steps.is_empty() {
            let names = self.engine.servers_by_name(&self.serving.config);
            self.steering.tell_steps(steps, &names, &self.bulletin);
        }
    }
}
