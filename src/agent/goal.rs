//! What a change leads to: chosen, then read, then begun.
//!
//! To read and understand a file takes 0.2 s with 10,000 servers. The running agent does it beside its loop; who works
//! alone does all three at once.

use super::attempt::Attempt;
use super::change::{Left, Then};
use super::intent::Intent;
use super::node::Node;
use super::order::Order;
use super::report::{Failed, Report, SourceOfChange};
use super::sources::{Place, Sources, SourcesError};
use super::unserved::Unserved;
use super::vrrp_file::{VrrpPlan, vrrp_change};
use tokio::task::JoinError;

/// What is to serve.
#[derive(Debug)]
pub(super) enum Goal {
    /// The operator's file as it stands.
    File,
    /// An older revision's content.
    Revision { number: u32, toml: String, left: Left },
    /// What serves, with what it refers to (keys, certificates, the template) read anew. For a time in which the file
    /// itself is not what serves.
    Refresh(String),
    /// What serves, written into the history again, which was incomplete.
    Again(Box<Sources>),
}

/// What was read, and what would become of keepalived.conf.
#[derive(Debug)]
pub(super) struct Understood {
    pub sources: Result<Sources, SourcesError>,
    pub vrrp: VrrpPlan,
}

impl Goal {
    /// Reads it on a thread of its own, and has Keepalived judge what follows for it. Changes nothing.
    pub async fn understand(self, place: Place, intent: &Intent, is_observer: bool) -> (Self, Understood) {
        let read = move || {
            let read = self.read(&place);
            (self, read)
        };
        let (goal, sources) = match tokio::task::spawn_blocking(read).await.map_err(JoinError::try_into_panic) {
            Ok(read) => read,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The process ends.
            Err(Err(_)) => std::future::pending().await,
        };
        let vrrp = match &sources {
            Ok(sources) if !is_observer => {
                // Nothing holds a rollback back but what would break.
                let force = intent.force || matches!(goal, Self::Revision { .. });
                vrrp_change(&sources.config, &Intent { force, ..intent.clone() }).await
            }
            Ok(_) | Err(_) => Ok(None),
        };
        (goal, Understood { sources, vrrp })
    }

    /// Reads it and everything that it refers to. Decides nothing and changes nothing.
    ///
    /// # Errors
    /// All mistakes at once.
    fn read(&self, place: &Place) -> Result<Sources, SourcesError> {
        match self {
            Self::File => place.load(),
            Self::Revision { toml, .. } | Self::Refresh(toml) => place.understand(toml.clone()),
            Self::Again(sources) => Ok(Sources::clone(sources)),
        }
    }
}

impl Node {
    /// Where an order of the agent's own leads to that reads again what serves; `None`: nothing serves yet.
    pub(super) fn choose_refresh(&self) -> Option<(Goal, Intent)> {
        let goal = || Goal::Refresh(self.serving.toml.clone());
        self.is_settled.then(|| (goal(), Intent::of_agent(Some("what the revision refers to changed"))))
    }

    /// Likewise, for the history.
    pub(super) fn choose_again(&self) -> (Goal, Intent) {
        let intent = Intent::of_agent(Some("the history is complete again"));
        (Goal::Again(Box::new(self.serving.clone())), intent)
    }

    /// Begins what was read: everything before the engine's part.
    ///
    /// # Errors
    /// It has mistakes, or something keeps it from being served; what serves goes on.
    pub(super) fn begin_goal(&mut self, goal: Goal, understood: Understood, intent: &Intent) -> Result<Order, Attempt> {
        self.recover();
        let Understood { sources: read, vrrp } = understood;
        let failed = |e: SourcesError| Failed::from_sources(&e);
        match goal {
            Goal::File => self.begin_file(read, vrrp, intent),
            Goal::Revision { number, toml: _, left } => {
                let then = Then::Rollback(left);
                self.begin(read.map_err(failed)?, vrrp, intent, SourceOfChange::Rollback(number), then)
            }
            Goal::Refresh(_) => {
                let problem = self.file_problem.clone();
                let then = Then::Refresh { problem: problem.clone() };
                let begun = self.begin(read.map_err(failed)?, vrrp, intent, SourceOfChange::Start, then);
                self.file_problem = problem;
                begun
            }
            Goal::Again(_) => self.begin(read.map_err(failed)?, vrrp, intent, SourceOfChange::Edit, Then::Nothing),
        }
    }

    fn begin_file(
        &mut self,
        read: Result<Sources, SourcesError>,
        vrrp: VrrpPlan,
        intent: &Intent,
    ) -> Result<Order, Attempt> {
        let sources = match read {
            Ok(sources) => sources,
            Err(e) => {
                let failed = Failed::from_sources(&e);
                self.file_problem = Some(Unserved::Refused(failed.refusal.clone()));
                return Err(Attempt::Failed(failed));
            }
        };
        let comes_back = self.ledger.rejected().is_some() && sources.toml != self.serving.toml;
        let source = if self.is_settled { SourceOfChange::Edit } else { SourceOfChange::Start };
        self.begin(sources, vrrp, intent, source, Then::File { comes_back })
    }

    /// Reads it and serves it, in place.
    pub(super) async fn reach(&mut self, goal: Goal, intent: &Intent) -> Result<Report, Attempt> {
        let (goal, understood) = goal.understand(self.place.clone(), intent, self.is_observer()).await;
        let order = self.begin_goal(goal, understood, intent)?;
        Box::pin(self.carry_out(order)).await
    }
}
