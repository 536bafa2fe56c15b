//! The first apply of a life: the file, or the revision that serves in its place, or what HAProxy runs already.
//!
//! Health steers from here on, whatever keeps a file from being served or written. Called by `run` and `node`.

use super::Node;
use super::alone::Alone;
use crate::agent::history::adopted::{adopt, base_weights};
use crate::agent::history::recovery::recover;
use crate::agent::outcome::applied::Applied;
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Report, SourceOfChange};
use crate::agent::tell::refusal::Refusal;
use crate::fleet::{Fleet, Keyring};
use std::time::Duration;

impl Node {
    /// Settles an apply that a crash interrupted, before anything else is done (I4).
    pub(super) fn recover(&mut self) {
        if let Some(journal) = &self.engine.journal
            && let Some(told) = recover(journal, &self.ledger, &self.serving.config.haproxy.config)
        {
            self.recovered = Some(told);
        }
    }

    /// Whether HAProxy runs the revision that was chosen at the start.
    fn serves_already(&self) -> bool {
        !self.ledger.is_news(&self.serving, &Intent::of_agent(None)) && self.engine.runs_the_last()
    }
}

impl Alone<'_> {
    /// The first apply of this life: the chosen sources, without reading the file again. Where they are the file's
    /// and refused, the last good revision serves on in their place: health must go on steering.
    ///
    /// # Errors
    /// As [`Self::apply_file`]; the file's refusal also where a revision serves on.
    pub async fn settle(&mut self) -> Result<Report, Attempt> {
        self.node.recover();
        let problem = self.node.file.problem.take();
        let result = self.serve_at_start().await;
        match (problem, result) {
            // A revision serves in the file's place, which stays told.
            (Some(problem), result) => {
                self.node.file.problem = Some(problem);
                result
            }
            (None, Err(Attempt::Failed(failed))) => {
                self.fall_back(&failed.refusal).await;
                Err(Attempt::Failed(failed))
            }
            (None, result) => result,
        }
    }

    async fn serve_at_start(&mut self) -> Result<Report, Attempt> {
        let reason = self.node.recovered.as_ref().map_or_else(|| "start".to_owned(), |told| format!("start; {told}"));
        let intent = Intent::of_agent(Some(&reason));
        let problem = self.node.file.problem.clone();
        self.node.is_opening = true;
        self.node.engine.last = None;
        let mut result = self.serve(self.node.serving.clone(), &intent, SourceOfChange::Start).await;
        self.node.is_opening = false;
        if result.is_err() && self.node.serves_already() {
            // Whatever keeps files from being written (a full disk): health must go on steering what runs.
            self.node.is_settled = true;
            self.node.file.problem = None;
            self.node.tell_certificates();
            result = Ok(Report::new(Applied::nothing(), self.node.revision(), String::new(), Duration::ZERO));
        }
        // An older revision that serves does not mend the file.
        self.node.file.problem = problem.or(self.node.file.problem.take());
        result
    }

    /// The revision that served last instead of the file, where that is another content and can still be served.
    async fn fall_back(&mut self, problem: &Refusal) {
        let Some(current) = self.node.ledger.current() else { return };
        let Ok(toml) = self.node.ledger.toml_of(current) else { return };
        if toml == self.node.serving.toml {
            return;
        }
        let Ok(sources) = self.node.file.place.understand(toml) else { return };
        // What HAProxy runs is the revision's, and so are the weights to begin with.
        let adopted = adopt(&sources.config, base_weights(&self.node.file.place, &self.node.ledger)).await;
        let spent = self.node.steering.fleet.spent();
        self.node.steering.fleet = Fleet::new(sources.config.clone(), adopted.weights, self.node.now());
        self.node.steering.fleet.restore_spent(&spent);
        self.node.steering.keyring = Keyring::new(&sources.config, &sources.secrets, &adopted.keys, self.node.now());
        self.node.serving = sources;
        tracing::warn!(revision = current, "the file cannot be served; the revision serves on");
        if let Err(Attempt::Failed(failed)) = self.serve_at_start().await {
            tracing::error!("nor can the revision\n{failed}");
        }
        self.node.file.refuse(problem.clone());
    }
}
