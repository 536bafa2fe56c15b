//! Who takes the engine's place while it carries an order out: it knows what was seen last, and nothing that it says is
//! kept but what HAProxy took.

use super::engine::Engine;

impl Engine {
    /// Somebody who knows as much.
    pub(in crate::agent) fn stand_in(&self) -> Self {
        Self {
            runtime: self.runtime.clone(),
            seen: self.seen,
            absent_since: self.absent_since,
            version: self.version,
            said: self.said.clone(),
            doubts: self.doubts.clone(),
            warnings: self.warnings.clone(),
            last: self.last.clone(),
            renderer: self.renderer.clone(),
            last_reload: self.last_reload,
            writes: self.writes,
            reloads: self.reloads,
            limits: self.limits.clone(),
            corrections: self.corrections.clone(),
            bulletin: self.bulletin.clone(),
            would: self.would.clone(),
            files_wait: self.files_wait,
            unanswered: self.unanswered.clone(),
            news: self.news.clone(),
            stands_in: true,
            ..Self::new()
        }
    }

    /// The engine is back, and learns what HAProxy took meanwhile; `writes` is how many there were when it went.
    pub(in crate::agent) fn relieve(&mut self, stand_in: &Self, writes: u64) {
        let own = self.writes;
        self.took(&self.news.taken());
        self.news.clear();
        self.writes = own + stand_in.writes - writes;
    }
}
