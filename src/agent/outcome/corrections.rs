//! The last corrections of drift: what somebody else changed and hapilot put right.

use crate::agent::tell::bulletin::Bulletin;
use crate::event::{Event, EventKind, Severity};
use jiff::Timestamp;
use std::collections::VecDeque;

/// So many are kept.
const KEPT: usize = 20;

/// One correction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// When it was made.
    pub at: Timestamp,
    /// Who differed and where: `weight chat/a: HAProxy 5, wanted 100`.
    pub text: String,
}

/// The last ones, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Corrections {
    last: VecDeque<Correction>,
    total: u64,
}

impl Corrections {
    /// Takes them in and logs them; beyond a screenful they are counted.
    pub fn note(&mut self, lines: Vec<String>, at: Timestamp, bulletin: &Bulletin) {
        self.total += lines.len() as u64;
        let more = lines.len().saturating_sub(KEPT);
        for text in lines.into_iter().take(KEPT) {
            let told = format!("drift put right: {text}");
            bulletin.tell(Event::once(EventKind::Drift, Severity::Warning, "haproxy", told));
            self.last.push_back(Correction { at, text });
        }
        if more > 0 {
            let told = format!("drift put right: and {more} more");
            bulletin.tell(Event::once(EventKind::Drift, Severity::Warning, "haproxy", told));
        }
        while self.last.len() > KEPT {
            self.last.pop_front();
        }
    }

    /// Newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Correction> {
        self.last.iter().rev()
    }

    /// How many there were since the start.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[test]
fn only_the_last_are_kept() {
    let mut corrections = Corrections::default();
    for round in 0..3 {
        corrections.note(
            (0..15).map(|at| format!("{round}.{at}")).collect(),
            Timestamp::UNIX_EPOCH,
            &Bulletin::log_only(),
        );
    }
    let kept: Vec<_> = corrections.newest().map(|correction| correction.text.as_str()).collect();
    assert_eq!((kept.len(), kept[0], kept[19]), (20, "2.14", "1.10"));
    assert_eq!(corrections.total(), 45);
}
