//! From the fitness of this node to what Keepalived is told: can it serve at all, and what is it worth beside the others.
//!
//! Pure: time is handed in. Knows no Keepalived and no HAProxy; the backends' health is not among what it looks at,
//! because no other node would find them better. Called by `agent`.

use crate::model::{Moment, format_duration};
use serde::Serialize;
use std::time::Duration;

/// What the local HAProxy is like, as the agent last saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Local {
    /// It answers.
    Serves,
    /// Its process is there, but it does not answer.
    Hangs,
    /// There is no process.
    Gone,
}

/// Everything that the word to Keepalived depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fitness {
    /// The local HAProxy.
    pub local: Local,
    /// The agent has not settled yet since its start.
    pub is_starting: bool,
    /// An operator moves the addresses away (`vip release`).
    pub is_draining: bool,
    /// HAProxy serves, but cannot be steered, or not what the file says.
    pub is_degraded: bool,
    /// No other node is known to be able to serve: leaving would leave nobody.
    pub is_last: bool,
    /// How many nodes the operator ranks higher. Counts until an owner is known, so that the ranks decide who begins.
    pub rank: u8,
    /// Whether any node owns the addresses already.
    pub has_owner: bool,
}

/// What Keepalived is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    /// This node cannot own the addresses.
    pub fault: bool,
    /// What it is worth beside the others, -200 to 0.
    pub adjustment: i16,
    /// One sentence for people.
    pub why: String,
}

/// The hand-over: below every node that merely limps.
const DRAINING: i16 = -100;
/// More than any two ranks lie apart.
const DEGRADED: i16 = -40;
/// An agent that has not looked around yet.
const STARTING: i16 = -36;
/// The last one that cannot serve stays below everybody who can.
const UNFIT: i16 = -200;
/// Between two ranks.
const RANK: i16 = -2;

/// The first hold after a fault.
const HOLD: Duration = Duration::from_secs(2);
/// No hold is longer.
const HOLD_MAX: Duration = Duration::from_secs(60);
/// A fault so long ago no longer lengthens the next hold.
const FORGIVEN: Duration = Duration::from_secs(600);

/// Remembers faults, so that a HAProxy that comes and goes does not drag the addresses along.
#[derive(Clone, Debug, Default)]
pub struct HoldDown {
    /// When HAProxy was last seen unfit.
    unfit_at: Option<Moment>,
    was_unfit: bool,
    faults: u32,
}

impl HoldDown {
    /// Takes in what was seen, and answers until when the node stays out although it serves.
    pub fn see(&mut self, local: Local, now: Moment) -> Option<Moment> {
        if local != Local::Serves {
            let forgiven = self.unfit_at.is_none_or(|at| now.since(at) > FORGIVEN);
            if !self.was_unfit {
                self.faults = if forgiven { 1 } else { self.faults.saturating_add(1) };
            }
            self.was_unfit = true;
            self.unfit_at = Some(now);
            return None;
        }
        self.was_unfit = false;
        let hold = HOLD.saturating_mul(1 << self.faults.saturating_sub(1).min(10)).min(HOLD_MAX);
        self.unfit_at.map(|at| at + hold).filter(|until| *until > now)
    }
}

/// Decides what Keepalived is told. `held_until` is what [`HoldDown::see`] answered.
pub fn decide(fitness: &Fitness, held_until: Option<Moment>, now: Moment) -> Word {
    let told = |fault, adjustment, why: &str| Word { fault, adjustment, why: why.to_owned() };
    // Leaving helps only where somebody better is left: without an owner the addresses answer nobody at all.
    let out = |why: String| match fitness.is_last {
        false => Word { fault: true, adjustment: 0, why },
        true => Word { fault: false, adjustment: UNFIT, why: format!("{why}; no other node can serve either") },
    };
    match fitness.local {
        Local::Gone => return out("HAProxy is gone".to_owned()),
        Local::Hangs => return out("HAProxy does not answer".to_owned()),
        Local::Serves => {}
    }
    if let Some(until) = held_until
        && !fitness.is_last
    {
        let left = Duration::from_secs(until.since(now).as_secs().max(1));
        return out(format!("HAProxy was unfit a moment ago: held for another {}", format_duration(left)));
    }
    if fitness.is_draining {
        return told(false, DRAINING, "released by the operator");
    }
    if fitness.is_degraded {
        return told(false, DEGRADED, "HAProxy serves, but not what the file says");
    }
    if fitness.is_starting {
        return told(false, STARTING, "the agent has just started");
    }
    if !fitness.has_owner && fitness.rank > 0 {
        let adjustment = RANK.saturating_mul(i16::from(fitness.rank)).max(DEGRADED);
        return told(false, adjustment, "nobody owns the addresses yet: the ranks decide who begins");
    }
    told(false, 0, "fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: Fitness = Fitness {
        local: Local::Serves,
        is_starting: false,
        is_draining: false,
        is_degraded: false,
        is_last: false,
        rank: 0,
        has_owner: true,
    };

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn a_worse_node_is_never_worth_more() {
        let told = |fitness: Fitness| {
            let Word { fault, adjustment, .. } = decide(&fitness, None, at(100));
            if fault { i16::MIN } else { adjustment }
        };
        let order = [
            FIT,
            Fitness { rank: 1, has_owner: false, ..FIT },
            Fitness { is_starting: true, ..FIT },
            Fitness { is_degraded: true, is_starting: true, ..FIT },
            Fitness { is_draining: true, is_degraded: true, ..FIT },
            Fitness { local: Local::Hangs, is_last: true, ..FIT },
            Fitness { local: Local::Gone, ..FIT },
        ];
        for pair in order.windows(2) {
            assert!(told(pair[0]) > told(pair[1]), "{pair:?}");
        }
        // A rank among sixteen nodes weighs less than a fault of any kind.
        let last = told(Fitness { rank: 15, has_owner: false, ..FIT });
        assert!(last > told(Fitness { is_starting: true, ..FIT }));
        assert_eq!(told(Fitness { rank: 15, ..FIT }), 0);
    }

    #[test]
    fn the_last_node_keeps_the_addresses_whatever_its_state() {
        for local in [Local::Hangs, Local::Gone] {
            let word = decide(&Fitness { local, is_last: true, ..FIT }, None, at(1));
            assert!(!word.fault && word.adjustment == UNFIT, "{word:?}");
        }
        assert!(!decide(&Fitness { is_last: true, ..FIT }, Some(at(9)), at(1)).fault);
    }

    #[test]
    fn each_fault_holds_the_node_out_twice_as_long_and_ten_minutes_forgive() {
        let mut hold = HoldDown::default();
        assert_eq!(hold.see(Local::Serves, at(0)), None);
        for (down, held) in [(10, 2), (30, 4), (60, 8), (90, 16), (130, 32), (200, 60), (300, 60)] {
            assert_eq!(hold.see(Local::Gone, at(down)), None);
            assert_eq!(hold.see(Local::Hangs, at(down + 1)), None);
            assert_eq!(hold.see(Local::Serves, at(down + 2)), Some(at(down + 1 + held)), "{down}");
            assert_eq!(hold.see(Local::Serves, at(down + 1 + held)), None);
        }
        hold.see(Local::Gone, at(3_000));
        assert_eq!(hold.see(Local::Serves, at(3_000)), Some(at(3_002)));
        let held = decide(&FIT, Some(at(3_002)), at(3_000));
        assert!(held.fault && held.why.contains("held for another 2s"), "{held:?}");
    }
}
