//! Two nodes own the same addresses: who gives way, and until when.
//!
//! VRRP settles it where the nodes hear each other's adverts. Where they do not (a filter, a switch), both stay MASTER
//! for ever, and only the heartbeat tells. Then the one that has owned the addresses for longer gives way: the other
//! announced itself last, so the clients are there already, and nobody loses a request. The one that gave way waits
//! outside until it hears adverts again, or the other one owns nothing or says nothing any more.

use crate::model::{Moment, Name};
use std::time::Duration;

/// Both have claimed it for as long as this at least, whatever the interval of adverts: news travel for some beats.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
/// So many adverts would have settled it.
const PATIENCE_ADVERTS: u32 = 5;
/// Two that began within this time began together: news and clocks are not exacter.
const TOGETHER: Duration = Duration::from_millis(300);

/// One node's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Who.
    pub node: &'a Name,
    /// For how long.
    pub held: Duration,
}

/// What the others are to one VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Other<'a> {
    /// Another node owns it, as it says itself just now.
    pub claim: Option<Claim<'a>>,
    /// Its adverts are heard here.
    pub is_heard: bool,
    /// It speaks another VRRP (another router id, multicast or not): neither can hear the other as MASTER.
    pub is_foreign: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settling {
    /// Nothing: one owner at most.
    Clear,
    /// Both own it since then, which may pass by itself.
    Both(Moment),
    /// Both own it, and the other one is to give way.
    Stand(Name),
    /// This node gives way to that one.
    GiveWay(Name),
}

/// What is remembered of one VIP.
#[derive(Clone, Debug, Default)]
pub struct Split {
    both_since: Option<Moment>,
    gave_way: bool,
}

impl Split {
    /// Takes in how things are: `own` for how long this node has owned it.
    pub fn see(&mut self, own: Option<Claim<'_>>, other: Other<'_>, advert: Duration, now: Moment) -> Settling {
        let Some(theirs) = other.claim else {
            *self = Self::default();
            return Settling::Clear;
        };
        let Some(own) = own else {
            self.both_since = None;
            // In another VRRP nobody would be heard, and both be MASTER: wait outside until both speak the same.
            self.gave_way = other.is_foreign || (self.gave_way && !other.is_heard);
            return if self.gave_way { Settling::GiveWay(theirs.node.clone()) } else { Settling::Clear };
        };
        let since = *self.both_since.get_or_insert(now);
        if now.since(since) < PATIENCE_MIN.max(advert * PATIENCE_ADVERTS) {
            return Settling::Both(since);
        }
        if !gives_way(own, theirs) {
            return Settling::Stand(theirs.node.clone());
        }
        self.gave_way = true;
        Settling::GiveWay(theirs.node.clone())
    }
}

/// Of two that own it, the one that has for longer; of two that began together, the one with the later name.
fn gives_way(own: Claim<'_>, theirs: Claim<'_>) -> bool {
    match own.held.abs_diff(theirs.held) <= TOGETHER {
        true => own.node > theirs.node,
        false => own.held > theirs.held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADVERT: Duration = Duration::from_millis(100);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_older_owner_gives_way_and_waits_until_it_hears_the_other() {
        let (a, b) = (Name::new("lb1").unwrap(), Name::new("lb2").unwrap());
        let mut split = Split::default();
        let own = |held| Some(Claim { node: &a, held: ms(held) });
        let other = |held| Other { claim: Some(Claim { node: &b, held: ms(held) }), ..Other::default() };
        assert_eq!(split.see(own(9_000), Other::default(), ADVERT, Moment(ms(0))), Settling::Clear);
        assert_eq!(split.see(own(9_100), other(50), ADVERT, Moment(ms(100))), Settling::Both(Moment(ms(100))));
        assert_eq!(split.see(own(9_500), other(450), ADVERT, Moment(ms(599))), Settling::Both(Moment(ms(100))));
        assert_eq!(split.see(own(9_600), other(550), ADVERT, Moment(ms(600))), Settling::GiveWay(b.clone()));
        assert_eq!(split.see(None, other(900), ADVERT, Moment(ms(900))), Settling::GiveWay(b.clone()));
        let heard = Other { is_heard: true, ..other(99_000) };
        assert_eq!(split.see(None, heard, ADVERT, Moment(ms(99_000))), Settling::Clear);
        assert_eq!(split.see(None, other(99_100), ADVERT, Moment(ms(99_100))), Settling::Clear);
    }

    #[test]
    fn of_two_owners_exactly_one_gives_way() {
        let (a, b) = (Name::new("lb1").unwrap(), Name::new("lb2").unwrap());
        for (held_a, held_b) in [(5_000, 5_000), (5_000, 5_200), (5_200, 5_000), (9_000, 100), (100, 9_000)] {
            let settled = |own: (&Name, u64), other: (&Name, u64)| {
                let mut split = Split::default();
                let claim = |(node, held)| Some(Claim { node, held: ms(held) });
                let there = Other { claim: claim((other.0, other.1)), ..Other::default() };
                split.see(claim((own.0, own.1)), there, ADVERT, Moment(ms(0)));
                split.see(claim((own.0, own.1)), there, ADVERT, Moment(ms(600)))
            };
            let first = matches!(settled((&a, held_a), (&b, held_b)), Settling::GiveWay(_));
            let second = matches!(settled((&b, held_b), (&a, held_a)), Settling::GiveWay(_));
            assert!(first != second, "{held_a} {held_b}");
        }
    }

    #[test]
    fn a_node_that_gave_way_comes_back_when_the_other_is_gone() {
        let (a, b) = (Name::new("lb1").unwrap(), Name::new("lb2").unwrap());
        let mut split = Split::default();
        let foreign = Other { claim: Some(Claim { node: &b, held: ms(9_000) }), is_heard: false, is_foreign: true };
        assert_eq!(split.see(None, foreign, ADVERT, Moment(ms(0))), Settling::GiveWay(b.clone()));
        assert_eq!(split.see(None, Other::default(), ADVERT, Moment(ms(10))), Settling::Clear);
        // Who owns it already is not the one to leave because the other speaks otherwise.
        let own = Some(Claim { node: &a, held: ms(10) });
        assert_eq!(split.see(own, foreign, ADVERT, Moment(ms(20))), Settling::Both(Moment(ms(20))));
    }
}
