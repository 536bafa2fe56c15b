//! The last minute of one server, in ten pieces of six seconds.

use super::histogram::Histogram;
use super::picture::Quantiles;
use crate::health::Outcome;
use crate::model::Moment;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Length of a piece, in seconds.
const PIECE_S: u64 = 6;
/// So many of them are kept: between 54 and 60 s.
const PIECES: u64 = 10;

/// The last minute. Costs next to nothing where nothing happens.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pieces: VecDeque<Piece>,
}

/// What is counted within one piece, and in all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Piece {
    at: u64,
    pub(super) outcomes: BTreeMap<Outcome, u32>,
    pub(super) hidden: u32,
    pub(super) connect: Histogram,
    pub(super) first_byte: Histogram,
    pub(super) total: Histogram,
}

/// What one request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) connect: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    pub(super) total: Option<Duration>,
}

impl Window {
    /// The piece of this moment.
    fn piece(&mut self, now: Moment) -> &mut Piece {
        let at = now.0.as_secs() / PIECE_S;
        self.pieces.retain(|piece| is_recent(piece, at));
        if self.pieces.back().is_none_or(|piece| piece.at < at) {
            self.pieces.push_back(Piece { at, ..Piece::default() });
        }
        let last = self.pieces.len() - 1;
        &mut self.pieces[last]
    }

    /// Counts a request.
    pub(super) fn add(&mut self, outcome: Outcome, times: Times, now: Moment) {
        let piece = self.piece(now);
        *piece.outcomes.entry(outcome).or_default() += 1;
        let Times { connect, first_byte, total } = times;
        for (histogram, time) in
            [(&mut piece.connect, connect), (&mut piece.first_byte, first_byte), (&mut piece.total, total)]
        {
            if let Some(time) = time {
                histogram.add(time);
            }
        }
    }

    /// Counts attempts that were repeated elsewhere.
    pub(super) fn add_hidden(&mut self, count: u32, now: Moment) {
        let piece = self.piece(now);
        piece.hidden = piece.hidden.saturating_add(count);
    }

    /// All of the last minute together.
    pub(super) fn sum(&self, now: Moment) -> Piece {
        let at = now.0.as_secs() / PIECE_S;
        let mut sum = Piece::default();
        for piece in self.pieces.iter().filter(|piece| is_recent(piece, at)) {
            piece.outcomes.iter().for_each(|(outcome, n)| *sum.outcomes.entry(*outcome).or_default() += n);
            sum.hidden = sum.hidden.saturating_add(piece.hidden);
            sum.connect.merge(&piece.connect);
            sum.first_byte.merge(&piece.first_byte);
            sum.total.merge(&piece.total);
        }
        sum
    }

    /// Whether the last minute was empty; forgets what is older.
    pub(super) fn is_empty(&mut self, now: Moment) -> bool {
        let at = now.0.as_secs() / PIECE_S;
        self.pieces.retain(|piece| is_recent(piece, at));
        self.pieces.is_empty()
    }
}

fn is_recent(piece: &Piece, at: u64) -> bool {
    piece.at + PIECES > at
}

impl Quantiles {
    pub(super) fn of(histogram: &Histogram) -> Option<Self> {
        let at = |share| histogram.quantile(share);
        Some(Self { p50: at(0.5)?, p95: at(0.95)?, p99: at(0.99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Times, Window};
    use crate::health::Outcome;
    use crate::model::Moment;
    use std::time::Duration;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten_piece_by_piece() {
        let mut window = Window::default();
        for second in 0..120 {
            window.add(
                Outcome::Ok,
                Times { total: Some(Duration::from_millis(second)), ..Times::default() },
                at(second),
            );
            assert!(window.pieces.len() <= 10);
        }
        assert_eq!(window.sum(at(119)).outcomes[&Outcome::Ok], 60);
        assert_eq!(window.sum(at(125)).outcomes[&Outcome::Ok], 54);
        assert_eq!(window.sum(at(119)).total.count(), 60);
        assert_eq!(window.sum(at(119)).connect.count(), 0);
        assert!(!window.is_empty(at(173)));
        assert!(window.is_empty(at(174)));
        assert_eq!(window.sum(at(180)), super::Piece::default());
    }

    #[test]
    fn hidden_attempts_are_counted_beside() {
        let mut window = Window::default();
        window.add_hidden(3, at(1));
        window.add_hidden(2, at(30));
        assert_eq!((window.sum(at(31)).hidden, window.sum(at(65)).hidden), (5, 2));
    }
}
