//! The last corrections of drift: what somebody else changed and hapilot put right.

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
pub struct Corrections(VecDeque<Correction>);

impl Corrections {
    /// Takes them in and logs them; beyond a screenful they are counted.
    pub fn note(&mut self, lines: Vec<String>, at: Timestamp) {
        let more = lines.len().saturating_sub(KEPT);
        for text in lines.into_iter().take(KEPT) {
            tracing::warn!("drift put right: {text}");
            self.0.push_back(Correction { at, text });
        }
        if more > 0 {
            tracing::warn!("drift put right: and {more} more");
        }
        while self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// Newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Correction> {
        self.0.iter().rev()
    }
}

#[test]
fn only_the_last_are_kept() {
    let mut corrections = Corrections::default();
    for round in 0..3 {
        corrections.note((0..15).map(|at| format!("{round}.{at}")).collect(), Timestamp::UNIX_EPOCH);
    }
    let kept: Vec<_> = corrections.newest().map(|correction| correction.text.as_str()).collect();
    assert_eq!((kept.len(), kept[0], kept[19]), (20, "2.14", "1.10"));
}
