//! The way to a goal: chosen, begun, reached.

use super::Node;
use crate::agent::orders::change::Then;
use crate::agent::orders::goal::{Goal, Understood};
use crate::agent::orders::order::Order;
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Failed, SourceOfChange};
use crate::agent::sources::place::{Sources, SourcesError};
use crate::agent::vip::vrrp_file::VrrpPlan;

impl Node {
    /// Where an order of the agent's own leads to that reads again what serves; `None`: nothing serves yet.
    pub(in crate::agent) fn choose_refresh(&self) -> Option<(Goal, Intent)> {
        let goal = || Goal::Refresh(self.serving.toml.clone());
        self.is_settled.then(|| (goal(), Intent::of_agent(Some("what the revision refers to changed"))))
    }

    /// Likewise, for the history.
    pub(in crate::agent) fn choose_again(&self) -> (Goal, Intent) {
        let intent = Intent::of_agent(Some("the history is complete again"));
        (Goal::Again(Box::new(self.serving.clone())), intent)
    }

    /// Begins what was read: everything before the engine's part.
    ///
    /// # Errors
    /// It has mistakes, or something keeps it from being served; what serves goes on.
    pub(in crate::agent) fn begin_goal(
        &mut self,
        goal: Goal,
        understood: Understood,
        intent: &Intent,
    ) -> Result<Order, Attempt> {
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
                let problem = self.file.problem.clone();
                let then = Then::Refresh { problem: problem.clone() };
                let begun = self.begin(read.map_err(failed)?, vrrp, intent, SourceOfChange::Start, then);
                self.file.problem = problem;
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
                self.file.refuse(failed.refusal.clone());
                return Err(Attempt::Failed(failed));
            }
        };
        let comes_back = self.ledger.rejected().is_some() && sources.toml != self.serving.toml;
        let source = if self.is_settled { SourceOfChange::Edit } else { SourceOfChange::Start };
        self.begin(sources, vrrp, intent, source, Then::File { comes_back })
    }
}
