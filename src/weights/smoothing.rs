//! From the weight that is right to the weight that is written: no flutter, no leaps.
//!
//! Knows two weights and a base. Called by `decide`.

use crate::model::Weight;

/// Changes below this share of the base are not written: each write is a command, a file and a line of history.
const DEAD_BAND: f64 = 0.10;
/// At most this share of the base in one decision: the others must be able to follow.
const SLEW: f64 = 0.25;

/// Holds `target` at `previous` where the change is too small to matter. To and from 0, and to the full base, every
/// change matters: else a ramp would end at 91 %.
pub(super) fn dead_band(base: Weight, previous: Weight, target: Weight) -> Weight {
    let change = f64::from(target.get().abs_diff(previous.get()));
    let is_end = target == Weight::ZERO || previous == Weight::ZERO || target == base;
    if is_end || change >= f64::from(base.get()) * DEAD_BAND { target } else { previous }
}

/// Moves from `previous` towards `target` by at most a quarter of `base`, at least by one; to zero at once. A weight
/// above the base is an older base or somebody's hand, and comes down to the base at once.
pub(super) fn slew(base: Weight, previous: Weight, target: Weight) -> Weight {
    if target == Weight::ZERO {
        return target;
    }
    let step = f64::from(base.get()) * SLEW;
    let (from, to) = (f64::from(previous.min(base).get()), f64::from(target.get()));
    Weight::clamped(to.clamp(from - step.max(1.0), from + step.max(1.0))).max(Weight::clamped(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(value: u16) -> Weight {
        Weight::new(value).unwrap()
    }

    #[test]
    fn small_changes_wait_and_ends_do_not() {
        for (previous, target, expected) in [
            (50, 59, 50),
            (50, 60, 60),
            (50, 41, 50),
            (50, 40, 40),
            (95, 100, 100),
            (100, 95, 100),
            (3, 0, 0),
            (0, 3, 3),
        ] {
            assert_eq!(dead_band(weight(100), weight(previous), weight(target)).get(), expected, "{previous}→{target}");
        }
        assert_eq!(dead_band(weight(4), weight(2), weight(3)).get(), 3);
    }

    #[test]
    fn a_quarter_of_the_base_at_a_time_except_to_zero() {
        for (base, previous, target, expected) in [
            (100, 0, 100, 25),
            (100, 100, 2, 75),
            (100, 100, 0, 0),
            (100, 60, 70, 70),
            (2, 0, 2, 1),
            (1, 0, 1, 1),
            (10, 256, 10, 10),
            (10, 256, 1, 8),
        ] {
            let got = slew(weight(base), weight(previous), weight(target)).get();
            assert_eq!(got, expected, "base {base}: {previous}→{target}");
        }
    }
}
