//! What the 429s of real requests ask for.
//!
//! Knows answers and deadlines, not states. Called by `traffic`.
//!
//! An explicit Retry-After is honoured to the second, but only where it speaks for the server: one 429 among answers
//! that succeed is the limit of one caller, key or model, and taking the server out for it would swing the whole pool
//! with every such answer.

use super::window::{Tally, wilson_lower};
use crate::model::{MAX_RETRY_AFTER, Moment};
use std::time::Duration;

/// How long a 429 without one lowers the weight.
const LOWERED: Duration = Duration::from_secs(30);
/// After a pause nothing may ask the server any more: then it is forgotten.
const LAPSES: Duration = Duration::from_secs(180);
/// So many 429s with no success between speak for the server. With 10 % of 429 they come once in 100,000 requests.
const RUN: u32 = 5;
/// So many do where the minute before knew no other: with one 429 in a thousand requests that comes once in a million.
const FIRST_RUN: u32 = 2;
/// So many of the last minute's requests, 95 % sure, do too. (At 10 % a steady tenth of 429 moves weights 1,500 times a
/// day, simulated.)
const SHARE: f64 = 0.25;
/// A share of fewer requests is none.
const SHARE_REQUESTS: u32 = 20;

/// The limit of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Limit {
    /// 429 or its kin, with no success between.
    run: u32,
    /// The server asked for silence until then.
    pause_until: Option<Moment>,
    /// It said "too much" and named no time.
    lowered_until: Option<Moment>,
}

impl Limit {
    /// Takes in what has just finished, and of that what came after the last success; `window` is the last minute with
    /// it, `lately` the last seconds.
    pub(super) fn record(
        &mut self,
        just: Tally,
        since_success: Tally,
        asked: Option<Duration>,
        lately: Tally,
        window: Tally,
        now: Moment,
    ) {
        let said_no = just.limited + just.overloaded;
        let before = if just.successes > 0 { 0 } else { self.run };
        self.run = before.saturating_add(since_success.limited + since_success.overloaded);
        if just.successes > 0 {
            // After the pause the next answer decides. During it, stragglers say nothing.
            self.pause_until = self.pause_until.filter(|until| now < *until);
        }
        let is_first = window.limited + window.overloaded <= self.run;
        let for_server = self.run >= RUN
            || (is_first && self.run >= FIRST_RUN)
            || lately.limited + lately.overloaded >= lately.successes
            || (window.told() >= SHARE_REQUESTS && wilson_lower(window.limited, window.told()) > SHARE);
        if said_no == 0 || !for_server {
            return;
        }
        match asked {
            // A later, shorter wish never cuts an earlier one short.
            Some(asked) => self.pause_until = self.pause_until.max(Some(now + asked.min(MAX_RETRY_AFTER))),
            None if just.limited > 0 => self.lowered_until = self.lowered_until.max(Some(now + LOWERED)),
            None => {}
        }
    }

    /// Until when the server wants to be left alone.
    pub(super) fn pause(&self, now: Moment) -> Option<Moment> {
        self.pause_until.filter(|until| now < *until)
    }

    /// Until when it wanted to be left alone at last, gone by or not.
    pub(super) fn last_pause(&self) -> Option<Moment> {
        self.pause_until
    }

    /// Whether it is limited, pause or not.
    pub(super) fn holds(&self, now: Moment) -> bool {
        self.lowered_until.is_some_and(|until| now < until)
            || self.pause_until.is_some_and(|until| now < until + LAPSES)
    }

    /// When that changes by time alone.
    pub(super) fn deadline(&self, now: Moment) -> Option<Moment> {
        let lapse = self.pause_until.map(|until| if now < until { until } else { until + LAPSES });
        [lapse, self.lowered_until].into_iter().flatten().filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn tally(successes: u32, limited: u32) -> Tally {
        Tally { successes, limited, ..Tally::default() }
    }

    /// The successes first.
    fn record(limit: &mut Limit, just: Tally, asked: Option<Duration>, lately: Tally, window: Tally, now: Moment) {
        limit.record(just, Tally { successes: 0, ..just }, asked, lately, window, now);
    }

    fn pause(limit: &mut Limit, asked_s: u64, now: Moment) {
        record(limit, tally(0, 1), Some(Duration::from_secs(asked_s)), tally(0, 1), tally(0, 1), now);
    }

    #[test]
    fn a_pause_holds_to_the_second_and_a_shorter_one_does_not_cut_it() {
        let mut limit = Limit::default();
        pause(&mut limit, 40, at(100));
        pause(&mut limit, 2, at(101));
        assert_eq!((limit.pause(at(139)), limit.pause(at(140))), (Some(at(140)), None));
        pause(&mut limit, 1_000_000, at(150));
        assert_eq!(limit.pause(at(150)), Some(at(450)));
    }

    #[test]
    fn after_a_pause_one_success_ends_the_limit_and_during_it_none_does() {
        let mut limit = Limit::default();
        pause(&mut limit, 40, at(100));
        record(&mut limit, tally(3, 0), None, tally(3, 1), tally(3, 1), at(120));
        assert!(limit.pause(at(120)).is_some());
        assert!(limit.pause(at(141)).is_none() && limit.holds(at(141)));
        record(&mut limit, tally(1, 0), None, tally(1, 0), tally(4, 1), at(141));
        assert!(!limit.holds(at(141)));
    }

    #[test]
    fn one_limited_caller_among_many_is_not_the_servers_limit() {
        let mut limit = Limit::default();
        record(&mut limit, tally(0, 1), Some(Duration::from_secs(9)), tally(40, 4), tally(540, 60), at(100));
        assert!(!limit.holds(at(100)));
        for _ in 0..RUN {
            record(&mut limit, tally(0, 1), Some(Duration::from_secs(9)), tally(40, 4), tally(540, 60), at(100));
        }
        assert!(limit.pause(at(108)).is_some());
    }

    #[test]
    fn two_in_a_row_are_the_servers_where_there_was_no_other_and_five_where_there_were() {
        for (others, needed) in [(0, 2), (1, 5)] {
            let mut limit = Limit::default();
            for run in 1..=needed {
                assert!(!limit.holds(at(100)), "{others} {run}");
                let window = tally(500, others + run);
                record(&mut limit, tally(0, 1), Some(Duration::from_secs(9)), tally(50, run), window, at(100));
            }
            assert!(limit.pause(at(108)).is_some(), "{others}");
        }
    }

    #[test]
    fn those_after_the_last_success_are_in_a_row_and_those_before_it_are_not() {
        for (since_success, is_limited) in [(tally(0, 1), true), (tally(0, 0), false)] {
            let (mut limit, asked) = (Limit::default(), Some(Duration::from_secs(9)));
            limit.record(tally(2, 1), since_success, asked, tally(50, 1), tally(500, 1), at(100));
            assert!(!limit.holds(at(100)));
            limit.record(tally(0, 1), tally(0, 1), asked, tally(50, 2), tally(500, 2), at(100));
            assert_eq!(limit.pause(at(108)).is_some(), is_limited);
        }
    }

    #[test]
    fn a_limit_without_a_time_is_forgotten_after_half_a_minute() {
        let mut limit = Limit::default();
        record(&mut limit, tally(0, 1), None, tally(0, 1), tally(0, 1), at(100));
        assert!(limit.holds(at(129)) && !limit.holds(at(130)) && limit.pause(at(100)).is_none());
    }
}
