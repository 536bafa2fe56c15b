//! What is to serve is read and understood beside the loop, and then begun.

use super::apply::Prepared;
use super::attempt::Attempt;
use super::body::Agent;
use super::goal::Goal;
use super::report::Failed;
use super::request::Reply;
use super::sources::Sources;
use super::tasks::{PlanFor, Read, ReadFor, Reading, Task};
use tokio::task::JoinError;

impl Agent {
    /// Has read what is to serve.
    pub(super) fn read(&mut self, goal: Goal, what_for: ReadFor) {
        let place = self.node.place.clone();
        let task = tokio::task::spawn_blocking(move || {
            let read = goal.read(&place);
            (goal, read)
        });
        self.reading = Some(Reading { task, what_for });
    }

    /// Begins a change that was read, and hands the engine its part.
    pub(super) async fn sources_read(&mut self, read: Result<Read, JoinError>) {
        let Some(Reading { task: _, what_for }) = self.reading.take() else { return };
        let read = read.map_err(|broken| {
            tracing::error!("the reading of a file broke off, this is a bug of hapilot: {broken}");
            Failed::refused("to read this broke off by a bug of hapilot; see its log")
        });
        match what_for {
            ReadFor::Change(change) => {
                let (intent, waiters) = *change;
                let begun = match read {
                    Ok((goal, read)) => self.node.begin_goal(goal, read, &intent).await,
                    Err(failed) => Err(failed.into()),
                };
                match begun {
                    Ok((order, change)) => {
                        self.supersede(waiters.what);
                        self.start(order, Task::Change(Box::new((waiters, change))));
                    }
                    Err(attempt) => self.change_ended(waiters, Err(attempt)).await,
                }
            }
            ReadFor::Plan(plan_for) => match read.and_then(|(_, read)| self.node.begin_plan(read)) {
                Ok(order) => self.start(order, Task::Plan(plan_for)),
                Err(failed) => self.planned(plan_for, Err(failed.into())).await,
            },
        }
        self.go_on().await;
    }

    /// Hears what an apply would do.
    pub(super) async fn planned(&mut self, plan_for: PlanFor, plan: Result<(Prepared, Sources), Attempt>) {
        match (plan_for, plan) {
            (PlanFor::Asked(reply), Ok((prepared, sources))) => {
                let report = self.node.end_plan(&prepared, &sources).await;
                let _ = reply.send(Ok(report));
            }
            (PlanFor::Asked(reply), Err(Attempt::TooSoon(_))) if self.node.engine.checks.is_checking() => {
                self.plans.push(reply);
            }
            (PlanFor::Asked(reply), Err(attempt)) => drop(reply.send(Err(attempt.into_failed()))),
            (PlanFor::Saved(waiters), plan) => {
                self.node.note_waiting(plan.map(|(prepared, _)| prepared));
                self.edit_ended(&waiters).await;
            }
        }
    }

    /// Asks what an apply would do.
    pub(super) fn ask(&mut self, reply: Reply) {
        self.read(Goal::File, ReadFor::Plan(PlanFor::Asked(reply)));
    }
}
