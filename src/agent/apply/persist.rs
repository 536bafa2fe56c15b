//! haproxy.cfg follows what HAProxy was told already, without a look at it: one file, which is whole before and after,
//! and so needs no journal. What somebody else did is found by the next whole comparison.
//!
//! Called by `order` after pushes.

use super::engine::Engine;
use crate::agent::files::live_files::LiveFiles;
use crate::agent::outcome::applied::{Applied, ApplyError, How, Wish};
use crate::agent::tell::refusal::Refusal;
use crate::plan::{self, FileChange};

impl Engine {
    /// Writes haproxy.cfg. `None` where more than that is to be done, or more must be known than what was seen last:
    /// nothing was written.
    ///
    /// # Errors
    /// A rendering that fails, or a disk that is full or read-only.
    pub(in crate::agent) fn persist(&mut self, wish: Wish<'_>) -> Result<Option<Applied>, ApplyError> {
        let (Some(runtime), Some((stamp, left))) = (&self.runtime, &self.left) else { return Ok(None) };
        if self.would.is_some() || self.files_wait || !wish.sources.unread.is_empty() {
            return Ok(None);
        }
        let rendered = self.renderer.render(wish, runtime.version)?;
        let runs_it = runtime.description.as_deref() == Some(&plan::marker(&rendered.structure.digest));
        let live = LiveFiles::of(&wish.sources.config.haproxy.config);
        if !runs_it || !rendered.differs_in_numbers_alone(left) || live.stamp() != Some(*stamp) {
            return Ok(None);
        }
        let mut applied = Applied::nothing();
        if left.haproxy_cfg != rendered.haproxy_cfg {
            let written = live.write_config(&rendered);
            let stamp = written.map_err(|e| ApplyError::Files(Refusal::new(e).done("the files are as they were")))?;
            self.writes += 1;
            applied.files = vec![FileChange::Replace("haproxy.cfg".to_owned())];
            applied.how = How::Files;
            self.left = stamp.map(|stamp| (stamp, rendered.clone()));
        }
        self.last = Some((String::new(), rendered));
        Ok(Some(applied))
    }
}
