//! How far what operators said is written down.

/// How far what operators said is written down: counted, since more may be said meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::agent) struct WordCount {
    said: u64,
    pub written: u64,
}

impl WordCount {
    /// There is something to write.
    pub fn add(&mut self) {
        self.said += 1;
    }

    /// All that was said until now is written, or could not be.
    pub fn is_done(&mut self, until: u64) {
        self.written = until;
    }

    /// What was said until now.
    pub fn until_now(&self) -> u64 {
        self.said
    }

    /// Something is not written yet.
    pub fn is_behind(self) -> bool {
        self.written < self.said
    }
}
