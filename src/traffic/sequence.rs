//! How many lines of one frontend of one worker never came.
//!
//! HAProxy numbers them (`%lc`), but reads the number before it counts on: with several threads a number comes twice and
//! another never, and they come a few hundred out of order when a thread is interrupted. The sum is exact, so sums are
//! compared, and only for lines that had a round of time to arrive.

/// The lines of one frontend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence {
    /// The number of the first line that should have come.
    first: Option<u64>,
    /// The highest number so far, and at the last look.
    highest: u64,
    settled: Option<u64>,
    received: u64,
    lost: u64,
}

impl Sequence {
    /// Of a worker that is followed from its first line on.
    pub(super) fn from_start() -> Self {
        Self { first: Some(0), ..Self::default() }
    }

    /// A line came.
    pub(super) fn take(&mut self, number: u64) {
        self.first.get_or_insert(number);
        self.highest = self.highest.max(number);
        self.received += 1;
    }

    /// Looks at what should have come by the last look; gives how many more are lost by now.
    pub(super) fn settle(&mut self) -> u64 {
        let (Some(first), settled) = (self.first, self.settled.replace(self.highest)) else { return 0 };
        if self.received == 0 {
            self.settled = None;
            return 0;
        }
        let Some(settled) = settled else { return 0 };
        let expected = (settled + 1).saturating_sub(first);
        let missing = expected.saturating_sub(self.received + self.lost);
        self.lost += missing;
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::Sequence;

    fn settled(mut sequence: Sequence, numbers: impl IntoIterator<Item = u64>) -> u64 {
        numbers.into_iter().for_each(|number| sequence.take(number));
        sequence.settle() + sequence.settle() + sequence.settle()
    }

    #[test]
    fn what_came_in_any_order_is_not_lost() {
        assert_eq!(settled(Sequence::default(), 100..200), 0);
        assert_eq!(settled(Sequence::from_start(), (0..500).rev()), 0);
        // Two threads read the same number; the next one is never seen.
        assert_eq!(settled(Sequence::default(), [4, 5, 5, 7, 8]), 0);
        assert_eq!(settled(Sequence::from_start(), []), 0);
    }

    #[test]
    fn a_gap_is_counted_once() {
        assert_eq!(settled(Sequence::default(), (0..100).chain(150..160)), 50);
        assert_eq!(settled(Sequence::from_start(), 30..40), 30);
        let mut sequence = Sequence::default();
        (0..10).chain(20..30).for_each(|number| sequence.take(number));
        assert_eq!((sequence.settle(), sequence.settle(), sequence.settle()), (0, 10, 0));
        (30..40).chain(45..50).for_each(|number| sequence.take(number));
        assert_eq!((sequence.settle(), sequence.settle(), sequence.settle()), (0, 5, 0));
    }

    #[test]
    fn lines_that_are_late_by_less_than_a_round_are_not_lost() {
        let mut sequence = Sequence::default();
        (0..100).filter(|number| *number != 50).for_each(|number| sequence.take(number));
        assert_eq!(sequence.settle(), 0);
        sequence.take(50);
        assert_eq!(sequence.settle(), 0);
    }
}
