//! From the fitness of this node to what Keepalived is told of one VIP: can the node own it at all, and what is it worth
//! beside the others.

use crate::model::{Moment, format_duration};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the local HAProxy is like, as the agent last saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Local {
    /// It answers.
    Serves,
    /// Its process is there, but it does not answer.
    Hangs,
    /// There is no process.
    Gone,
}

/// What the node is like: the same for all VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fitness {
    /// The local HAProxy.
    pub local: Local,
    /// The agent has not settled yet since its start.
    pub is_starting: bool,
    /// HAProxy serves, but cannot be steered, or not what the file says.
    pub is_degraded: bool,
    /// All other nodes say that they cannot serve: leaving would leave nobody. One that says nothing may be able to.
    pub is_last: bool,
}

/// The node's part in one VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipRole {
    /// How many nodes the operator ranks higher. Counts while this node does not own it, so that the ranks decide who
    /// begins.
    pub rank: u8,
    /// This node owns it.
    pub owns: bool,
    /// An operator moves it away (`vip release`).
    pub is_draining: bool,
    /// An operator takes it back (`vip reclaim`).
    pub is_wanted: bool,
    /// It is another's now, for this reason, whatever the node is worth.
    pub gives_way: Option<String>,
}

/// What Keepalived is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpAdvice {
    /// This node cannot own the addresses.
    pub fault: bool,
    /// What it is worth beside the others, -200 to 4.
    pub adjustment: i16,
    /// One sentence for people.
    pub why: String,
}

/// Above every node that is merely fit.
const WANTED: i16 = 4;
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
    /// It was seen to serve: one that has not started yet has no fault to be forgiven.
    has_served: bool,
    was_unfit: bool,
    faults: u32,
}

impl HoldDown {
    /// Takes in what was seen, and answers until when the node stays out although it serves.
    pub fn see(&mut self, local: Local, now: Moment) -> Option<Moment> {
        if local != Local::Serves && !self.has_served {
            return None;
        }
        if local != Local::Serves {
            let forgiven = self.unfit_at.is_none_or(|at| now.since(at) > FORGIVEN);
            if !self.was_unfit {
                self.faults = if forgiven { 1 } else { self.faults.saturating_add(1) };
            }
            self.was_unfit = true;
            self.unfit_at = Some(now);
            return None;
        }
        (self.was_unfit, self.has_served) = (false, true);
        let hold = HOLD.saturating_mul(1 << self.faults.saturating_sub(1).min(10)).min(HOLD_MAX);
        self.unfit_at.map(|at| at + hold).filter(|until| *until > now)
    }
}

/// Decides what Keepalived is told of one VIP. `held_until` is what [`HoldDown::see`] answered.
pub fn decide(fitness: &Fitness, part: &VipRole, held_until: Option<Moment>, now: Moment) -> VrrpAdvice {
    let told = |fault, adjustment, why: &str| VrrpAdvice { fault, adjustment, why: why.to_owned() };
    // Leaving helps only where somebody better is left: without an owner the addresses answer nobody at all.
    let out = |why: String| match fitness.is_last {
        false => VrrpAdvice { fault: true, adjustment: 0, why },
        true => VrrpAdvice { fault: false, adjustment: UNFIT, why: format!("{why}; no other node can serve either") },
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
    if let Some(why) = &part.gives_way {
        return told(true, 0, why);
    }
    if part.is_draining {
        return told(false, DRAINING, "released by the operator");
    }
    if fitness.is_degraded {
        return told(false, DEGRADED, "HAProxy serves, but not what the file says");
    }
    // Restarting an agent is no reason to move anything.
    if fitness.is_starting && !part.owns {
        return told(false, STARTING, "the agent has just started");
    }
    if part.is_wanted {
        return told(false, WANTED, "taken back by the operator");
    }
    if !part.owns && part.rank > 0 {
        let adjustment = RANK.saturating_mul(i16::from(part.rank)).max(STARTING + 1);
        return told(false, adjustment, "fit; another node is ranked higher, should nobody own the addresses");
    }
    told(false, 0, "fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: Fitness = Fitness { local: Local::Serves, is_starting: false, is_degraded: false, is_last: false };

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn a_worse_node_is_never_worth_more() {
        let told = |(fitness, part): &(Fitness, VipRole)| {
            let VrrpAdvice { fault, adjustment, .. } = decide(fitness, part, None, at(100));
            if fault { i16::MIN } else { adjustment }
        };
        let owner = VipRole { owns: true, ..VipRole::default() };
        let drained = VipRole { is_draining: true, ..VipRole::default() };
        let order = [
            (FIT, VipRole { is_wanted: true, rank: 15, ..VipRole::default() }),
            (FIT, owner.clone()),
            (FIT, VipRole { rank: 1, ..VipRole::default() }),
            (FIT, VipRole { rank: 15, ..VipRole::default() }),
            (Fitness { is_starting: true, ..FIT }, VipRole::default()),
            (Fitness { is_degraded: true, is_starting: true, ..FIT }, VipRole::default()),
            (Fitness { is_degraded: true, ..FIT }, drained.clone()),
            (Fitness { local: Local::Hangs, is_last: true, ..FIT }, VipRole::default()),
            (Fitness { local: Local::Gone, ..FIT }, owner.clone()),
        ];
        for pair in order.windows(2) {
            assert!(told(&pair[0]) > told(&pair[1]), "{pair:?}");
        }
        // An owner's agent that starts again, or an owner of the last rank, moves nothing.
        assert_eq!(told(&(Fitness { is_starting: true, ..FIT }, owner)), 0);
        assert_eq!(told(&(FIT, VipRole { rank: 15, owns: true, ..VipRole::default() })), 0);
        let gives_way = VipRole { gives_way: Some("lb2 owns it".into()), is_wanted: true, ..VipRole::default() };
        assert_eq!(told(&(FIT, gives_way)), i16::MIN);
    }

    #[test]
    fn the_last_node_keeps_the_addresses_whatever_its_state() {
        for local in [Local::Hangs, Local::Gone] {
            let word = decide(&Fitness { local, is_last: true, ..FIT }, &VipRole::default(), None, at(1));
            assert!(!word.fault && word.adjustment == UNFIT, "{word:?}");
        }
        assert!(!decide(&Fitness { is_last: true, ..FIT }, &VipRole::default(), Some(at(9)), at(1)).fault);
    }

    #[test]
    fn each_fault_holds_the_node_out_twice_as_long_and_ten_minutes_forgive() {
        let mut hold = HoldDown::default();
        // Before it has served once, its absence is no fault.
        assert_eq!(hold.see(Local::Gone, at(0)), None);
        assert_eq!(hold.see(Local::Serves, at(0)), None);
        for (down, held) in [(10, 2), (30, 4), (60, 8), (90, 16), (130, 32), (200, 60), (300, 60)] {
            assert_eq!(hold.see(Local::Gone, at(down)), None);
            assert_eq!(hold.see(Local::Hangs, at(down + 1)), None);
            assert_eq!(hold.see(Local::Serves, at(down + 2)), Some(at(down + 1 + held)), "{down}");
            assert_eq!(hold.see(Local::Serves, at(down + 1 + held)), None);
        }
        hold.see(Local::Gone, at(3_000));
        assert_eq!(hold.see(Local::Serves, at(3_000)), Some(at(3_002)));
        let held = decide(&FIT, &VipRole::default(), Some(at(3_002)), at(3_000));
        assert!(held.fault && held.why.contains("held for another 2s"), "{held:?}");
    }
}
