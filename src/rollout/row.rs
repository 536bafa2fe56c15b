//! Failures of the canary in a row: a dead canary is off within seconds.
//!
//! Knows the age of its rollout. Called by `state` and `soak`.

use super::{Counts, Heard};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Shorter, and it may be a server that starts anew.
const LASTS: Duration = Duration::from_secs(5);
/// So many failures of the control without a success, and the cause is shared.
const CONTROL_FAILS: u64 = 3;

/// Failures since the last success, and the control meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    failures: u64,
    /// The age when they began.
    since: Duration,
    control_told: u64,
    control_failures: u64,
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowSays {
    Nothing,
    /// All the control's failed too.
    Shared {
        failures: u64,
        control: u64,
    },
    /// Others succeeded, or there were none.
    Dead {
        failures: u64,
        control_good: u64,
        control: u64,
    },
}

impl Row {
    pub(super) fn observe(&mut self, heard: &Heard, age: Duration) {
        let Counts { told, failures, failures_in_a_row, .. } = heard.canary;
        if told > failures {
            *self = Self { failures: failures_in_a_row, since: age, ..Self::default() };
        } else if failures > 0 {
            self.since = if self.failures == 0 { age } else { self.since };
            self.failures += failures;
        }
        if self.failures > 0 {
            self.control_told += heard.control.told;
            self.control_failures += heard.control.failures;
        }
    }

    /// What it says, where so many are too many; 0: nothing.
    pub(super) fn says(&self, too_many: u64, age: Duration) -> RowSays {
        let Self { failures, since, control_told, control_failures } = *self;
        if !self.is_long(too_many) || age < since + LASTS {
            return RowSays::Nothing;
        }
        if control_failures == control_told && control_told >= CONTROL_FAILS {
            return RowSays::Shared { failures, control: control_told };
        }
        RowSays::Dead { failures, control_good: control_told - control_failures, control: control_told }
    }

    /// The age at which it may say more than now.
    pub(super) fn next(&self, too_many: u64) -> Option<Duration> {
        self.is_long(too_many).then_some(self.since + LASTS)
    }

    fn is_long(&self, too_many: u64) -> bool {
        too_many > 0 && self.failures >= too_many
    }
}
