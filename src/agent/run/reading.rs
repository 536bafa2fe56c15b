//! What is to serve is read and understood beside the loop, and then begun.

use super::body::Agent;
use super::request::Reply;
use super::tasks::{PlanFor, ReadFor, Reading, Task};
use crate::agent::node::planning::Planned;
use crate::agent::orders::goal::{Goal, Understood};
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::Failed;
use tokio::task::JoinError;

impl Agent {
    /// Has read what is to serve.
    pub(super) fn read(&mut self, goal: Goal, what_for: ReadFor) {
        debug_assert!(self.may_change(), "what is under way would be forgotten, and who waits for it");
        let (place, is_observer) = (self.node.file.place.clone(), self.node.is_observer());
        let intent = match &what_for {
            ReadFor::Change(change) => change.0.clone(),
            ReadFor::Plan(_) => Intent::of_agent(None),
        };
        let task = tokio::spawn(async move { goal.understand(place, &intent, is_observer).await });
        self.reading = Some(Reading { task, what_for });
    }

    /// Begins what was read, and hands the engine its part.
    pub(super) async fn sources_read(&mut self, read: Result<(Goal, Understood), JoinError>) {
        let Some(Reading { task: _, what_for }) = self.reading.take() else { return };
        let read = read.map_err(|broken| {
            tracing::error!("the reading of a file broke off, this is a bug of hapilot: {broken}");
            Failed::refused("to read this broke off by a bug of hapilot; see its log")
        });
        match what_for {
            ReadFor::Change(change) => {
                let (intent, waiters) = *change;
                let begin = |(goal, understood)| self.node.begin_goal(goal, understood, &intent);
                match read.map_err(Attempt::from).and_then(begin) {
                    Ok(order) => {
                        self.supersede(waiters.what);
                        self.start(order, Task::Change(Box::new(waiters)));
                    }
                    Err(attempt) => self.change_ended(waiters, Err(attempt)).await,
                }
            }
            ReadFor::Plan(plan_for) => {
                let begun =
                    read.and_then(|(_, Understood { sources, vrrp })| Ok((self.node.begin_plan(sources)?, vrrp)));
                match begun {
                    Ok((order, vrrp)) => self.start(order, Task::Plan(plan_for, vrrp)),
                    Err(failed) => self.planned(plan_for, Err(failed.into())).await,
                }
            }
        }
        self.go_on().await;
    }

    /// Hears what an apply would do.
    pub(super) async fn planned(&mut self, plan_for: PlanFor, planned: Result<Planned, Attempt>) {
        match (plan_for, planned) {
            (PlanFor::Asked(reply), Ok(planned)) => {
                // Whoever asked may be gone.
                let _ = reply.send(Ok(self.node.end_plan(planned)));
            }
            // It waits for a verdict. Should that have come in this very moment, it is asked again at once.
            (PlanFor::Asked(reply), Err(Attempt::TooSoon(_))) => self.plans.push(reply),
            (PlanFor::Asked(reply), Err(attempt)) => drop(reply.send(Err(attempt.into_failed()))),
            (PlanFor::Saved(waiters), planned) => {
                self.node.note_waiting(planned);
                self.edit_ended(&waiters).await;
            }
        }
    }

    /// Asks what an apply would do.
    pub(super) fn ask(&mut self, reply: Reply) {
        self.read(Goal::File, ReadFor::Plan(PlanFor::Asked(reply)));
    }
}
