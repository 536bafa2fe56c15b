//! The files follow what HAProxy was told already, without a look at it: nothing is compared but what is on disk. What
//! somebody else did is found by the next whole comparison.
//!
//! Called by `order` after pushes.

use super::apply::{Applied, ApplyError, How, Prepared, Wish};
use super::engine::Engine;
use super::live_files::LiveFiles;
use super::preflight;
use crate::plan::{self, Action, Observed, Plan, RuntimeCertificates};

impl Engine {
    /// Writes the files. `None` where more must be known than what was seen last: nothing was written.
    ///
    /// # Errors
    /// A rendering that fails, or a disk that is full or read-only.
    pub(super) fn persist(&mut self, wish: Wish<'_>) -> Result<Option<Applied>, ApplyError> {
        let (Some(runtime), Some(expected)) = (&self.runtime, &self.expected) else { return Ok(None) };
        if self.would.is_some() || self.files_wait || !wish.sources.unread.is_empty() {
            return Ok(None);
        }
        let rendered = self.renderer.render(wish, runtime.version)?;
        let runs_it = runtime.description.as_deref() == Some(&plan::marker(&rendered.structure.digest));
        if !runs_it || self.judged != Some(preflight::judgement(wish.sources, &rendered)) {
            return Ok(None);
        }
        let live = LiveFiles::of(&wish.sources.config.haproxy.config);
        let files = live.look().map_err(|e| ApplyError::Observe(format!("error: {e}")))?;
        let observed = Observed {
            config: files.config,
            maps: files.maps,
            lists: files.lists,
            scripts: files.scripts,
            certificates: RuntimeCertificates::default(),
            runtime: Some(runtime.clone()),
        };
        let is_as_left = observed.config.as_ref().is_some_and(|file| file.is_ours && file.is_intact);
        if !is_as_left || !expected.has_files_of(&observed) {
            return Ok(None);
        }
        let changes = plan::files_that_differ(&rendered, &observed);
        let mut applied = Applied::nothing();
        self.last = Some((files.text.clone(), rendered.clone()));
        if changes.is_empty() {
            return Ok(Some(applied));
        }
        let plan = Plan {
            based_on_pid: Some(runtime.pid),
            based_on_config: observed.config.as_ref().map(|file| file.digest),
            files: changes,
            action: Action::Nothing,
            obstacles: vec![],
        };
        let prepared = Prepared { rendered, observed, plan, live_text: files.text };
        self.write(wish, &prepared, &mut applied).map_err(ApplyError::of_files)?;
        self.end_intent();
        if let Some(expected) = &mut self.expected {
            expected.wrote(&prepared.rendered);
        }
        applied.how = How::Files;
        Ok(Some(applied))
    }
}
