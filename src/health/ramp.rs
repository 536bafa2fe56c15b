//! How a server that works again is let in: a share that rises with time, and waits while the server asks for silence.
//!
//! Pure; called by `server`.

use crate::model::Moment;
use std::time::Duration;

/// Where probation begins.
pub(super) const RAMP_FLOOR: f64 = 0.1;

/// Progress through probation; stands still while the server asks for less.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ramp {
    pub(super) done: Duration,
    pub(super) from: Moment,
    pub(super) length: Duration,
}

impl Ramp {
    pub(super) fn begin(now: Moment, length: Duration) -> Self {
        Self { done: Duration::ZERO, from: now, length }
    }

    pub(super) fn elapsed(self, now: Moment) -> Duration {
        self.done + now.since(self.from)
    }

    pub(super) fn pause(&mut self, now: Moment, until: Moment) {
        *self = Self { done: self.elapsed(now), from: self.from.max(until), ..*self };
    }

    /// The share of the base weight that a server takes now.
    pub(super) fn share(self, now: Moment) -> f64 {
        let (length, done) = (self.length.as_secs_f64(), self.elapsed(now).as_secs_f64());
        let progress = if length > 0.0 { (done / length).min(1.0) } else { 1.0 };
        RAMP_FLOOR + (1.0 - RAMP_FLOOR) * progress
    }

    /// Begins with this share, 0 to 1.
    pub(super) fn skip_to(&mut self, share: f64) {
        self.done = self.length.mul_f64(((share - RAMP_FLOOR) / (1.0 - RAMP_FLOOR)).clamp(0.0, 1.0));
    }
}
