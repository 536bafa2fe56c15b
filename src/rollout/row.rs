//! Failures of the canary in a row: a dead canary is off within seconds.
//!
//! Knows the age of its rollout. Called by `state` and `soak`.

use super::Counts;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Shorter, and it may be a server that starts anew.
const LASTS: Duration = Duration::from_secs(5);
/// So many requests of the control tell something…
const CONTROL_TOLD: u64 = 3;
/// …and where one of so many failed, the cause is shared.
const CONTROL_FAILS: u64 = 5;

/// So many requests of the control say what it is like at other times.
const LATELY: u64 = 64;

/// Failures since the last success, and the control meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    failures: u64,
    /// The age when they began.
    since: Duration,
    /// The control since then.
    control_told: u64,
    control_failures: u64,
    /// The control's last requests, some [`LATELY`] of them.
    lately_told: u64,
    lately_failures: u64,
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowSays {
    Nothing,
    /// Many of the control failed meanwhile.
    Shared {
        failures: u64,
        control_good: u64,
        control: u64,
    },
    /// The control succeeded meanwhile, or had no requests.
    Dead {
        failures: u64,
        control_good: u64,
        control: u64,
    },
}

impl Row {
    pub(super) fn observe(&mut self, group: &Counts, control: &Counts, age: Duration) {
        let Counts { told, failures, failures_in_a_row, .. } = *group;
        if told > failures {
            (self.failures, self.since) = (failures_in_a_row, age);
            (self.control_told, self.control_failures) = (0, 0);
        } else if failures > 0 {
            self.since = if self.failures == 0 { age } else { self.since };
            self.failures += failures;
        }
        self.lately_told += control.told;
        self.lately_failures += control.failures;
        while self.lately_told > LATELY {
            (self.lately_told, self.lately_failures) = (self.lately_told / 2, self.lately_failures / 2);
        }
        if self.failures > 0 {
            self.control_told += control.told;
            self.control_failures += control.failures;
        }
    }

    /// What it says, where so many are too many; 0: nothing.
    pub(super) fn says(&self, too_many: u64, age: Duration) -> RowSays {
        let Self { failures, since, control_told, control_failures, .. } = *self;
        if !self.is_long(too_many) || age < since + LASTS {
            return RowSays::Nothing;
        }
        let control_good = control_told - control_failures;
        let fails = |told: u64, failures: u64| told >= CONTROL_TOLD && failures * CONTROL_FAILS >= told;
        if fails(control_told, control_failures) || fails(self.lately_told, self.lately_failures) {
            return RowSays::Shared { failures, control_good, control: control_told };
        }
        RowSays::Dead { failures, control_good, control: control_told }
    }

    /// The age at which it may say more than now.
    pub(super) fn next(&self, too_many: u64) -> Option<Duration> {
        self.is_long(too_many).then_some(self.since + LASTS)
    }

    fn is_long(&self, too_many: u64) -> bool {
        too_many > 0 && self.failures >= too_many
    }
}
