//! What a change leads to: chosen, then read, then begun.
//!
//! To read and understand a file takes 0.2 s with 10,000 servers. The running agent does it beside its loop; who works
//! alone does all three at once.

use super::attempt::Attempt;
use super::change::{Begun, Then};
use super::intent::Intent;
use super::node::Node;
use super::report::{Failed, Report, SourceOfChange};
use super::sources::{Place, Sources, SourcesError};
use super::unserved::Unserved;

/// What is to serve.
#[derive(Debug)]
pub(super) enum Goal {
    /// The operator's file as it stands.
    File,
    /// An older revision's content, in the place of the one `before`; whether nobody asked but the clock.
    Revision { number: u32, toml: String, before: Option<u32>, by_deadline: bool },
    /// What serves, with what it refers to (keys, certificates, the template) read anew. For a time in which the file
    /// itself is not what serves.
    Refresh(String),
    /// What serves, written into the history again, which was incomplete.
    Again(Box<Sources>),
}

impl Goal {
    /// Reads it and everything that it refers to. Decides nothing and changes nothing.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn read(&self, place: &Place) -> Result<Sources, SourcesError> {
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
    pub(super) async fn begin_goal(
        &mut self,
        goal: Goal,
        read: Result<Sources, SourcesError>,
        intent: &Intent,
    ) -> Result<Begun, Attempt> {
        self.recover();
        let failed = |e: SourcesError| Failed::from_sources(&e);
        match goal {
            Goal::File => self.begin_file(read, intent).await,
            Goal::Revision { number, toml: _, before, by_deadline } => {
                let then = Then::Rollback { before, by_deadline };
                self.begin(read.map_err(failed)?, intent, SourceOfChange::Rollback(number), then).await
            }
            Goal::Refresh(_) => {
                let problem = self.file_problem.clone();
                let then = Then::Refresh { problem: problem.clone() };
                let begun = self.begin(read.map_err(failed)?, intent, SourceOfChange::Start, then).await;
                self.file_problem = problem;
                begun
            }
            Goal::Again(_) => self.begin(read.map_err(failed)?, intent, SourceOfChange::Edit, Then::Nothing).await,
        }
    }

    async fn begin_file(&mut self, read: Result<Sources, SourcesError>, intent: &Intent) -> Result<Begun, Attempt> {
        let sources = match read {
            Ok(sources) => sources,
            Err(e) => {
                let failed = Failed::from_sources(&e);
                self.file_problem = Some(Unserved::Refused(failed.refusal.clone()));
                return Err(Attempt::Failed(failed));
            }
        };
        let comes_back = self.ledger.rejected().is_some() && sources.toml != self.serving.toml;
        if !self.is_observer() {
            self.ledger.reject(None)?;
        }
        let source = if self.is_settled { SourceOfChange::Edit } else { SourceOfChange::Start };
        self.begin(sources, intent, source, Then::File { comes_back }).await
    }

    /// Reads it and serves it, in place.
    pub(super) async fn reach(&mut self, goal: Goal, intent: &Intent) -> Result<Report, Attempt> {
        let read = goal.read(&self.place);
        let begun = self.begin_goal(goal, read, intent).await?;
        Box::pin(self.carry_out(begun)).await
    }
}
