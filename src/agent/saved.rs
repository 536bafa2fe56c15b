//! A saved file that waits for the operator's `apply` (`[apply] on_save = "plan"`).
//!
//! What serves decides, not what was saved: the word itself is part of the file that waits. Secrets and certificates of
//! what serves are taken over all the same.

use super::ledger::Ledger;
use super::node::Node;
use super::sources::{Place, Sources, SourcesError};
use crate::model::Digest;

impl Node {
    /// Leaves the saved file where it is, if it shall wait; tells so, and its mistakes. Answers whether it waits.
    pub fn lets_the_file_wait(&mut self) -> bool {
        let is_other = self.place.digest() != Some(Digest::of(&self.serving.toml));
        if !self.serving.config.apply.waits_on_save || !is_other || self.is_file_rejected() {
            return false;
        }
        let told = waiting(&self.place, self.place.load().err().as_ref());
        if self.file_problem.as_ref() != Some(&told) {
            tracing::info!("{told}");
            self.file_problem = Some(told);
        }
        true
    }
}

/// Why the file is not served at a start: the revision that served last says that a saved file waits.
pub(super) fn waits_at_start(place: &Place, loaded: &Sources, ledger: &Ledger) -> Option<String> {
    let toml = ledger.toml_of(ledger.current()?).ok()?;
    let is_other = Digest::of(&toml) != Digest::of(&loaded.toml);
    let serving = place.understand(toml).ok()?;
    (is_other && serving.config.apply.waits_on_save).then(|| waiting(place, None))
}

fn waiting(place: &Place, mistakes: Option<&SourcesError>) -> String {
    let (plan, apply) = (place.command("plan"), place.command("apply"));
    let mut told = format!(
        "{} was saved and waits: `[apply] on_save` is \"plan\"\n  help: `{plan}` shows what it would change, `{apply}` \
         serves it",
        place.file
    );
    if let Some(mistakes) = mistakes {
        told.push_str("\nand it has mistakes:\n");
        told.push_str(mistakes.render(false).trim_end());
    }
    told
}
