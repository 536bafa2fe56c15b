//! The revision that serves on trial, and until when.

use super::current::{load, save};
use super::error::StoreError;
use crate::sys::directory;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A revision that goes away by itself unless it is confirmed in time (invariant I11).
///
/// The deadline is kept on two clocks: that of this boot, which nobody sets, and the wall's, for after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provisional {
    /// The revision on trial. Written before it is applied, so the number may not exist yet.
    pub revision: u32,
    /// The confirmed revision that comes back.
    pub back_to: u32,
    /// Who applied it.
    pub actor: String,
    /// How long it was given.
    pub given_ms: u64,
    /// The deadline by the wall clock.
    pub until: Timestamp,
    /// The boot that `until_uptime_ms` belongs to.
    pub boot: String,
    /// The deadline as the time since that boot.
    pub until_uptime_ms: u64,
    /// For so long it is compared with the time before it; 0: it is not.
    #[serde(default)]
    pub soak_ms: u64,
    /// Nobody has to confirm it: at the deadline it is kept, where it was not found to be worse.
    #[serde(default)]
    pub keeps: bool,
}

/// The two clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The wall's.
    pub now: Timestamp,
    /// Which boot, and the time since it.
    pub boot: String,
    /// Time since the boot.
    pub uptime: Duration,
}

impl Provisional {
    /// A trial that ends so much later than now.
    pub fn new(revision: u32, back_to: u32, actor: &str, given: Duration, clocks: &Clocks) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            revision,
            back_to,
            actor: actor.to_owned(),
            given_ms: millis(given),
            until: clocks.now.checked_add(given).unwrap_or(Timestamp::MAX),
            boot: clocks.boot.clone(),
            until_uptime_ms: millis(clocks.uptime.saturating_add(given)),
            soak_ms: 0,
            keeps: false,
        }
    }

    /// The same, compared with the time before it for so long; `keeps`: nobody has to confirm it.
    #[must_use]
    pub fn soaking(self, soak: Option<Duration>, keeps: bool) -> Self {
        let soak_ms = soak.map_or(0, |soak| u64::try_from(soak.as_millis()).unwrap_or(u64::MAX));
        Self { soak_ms, keeps, ..self }
    }

    /// For how long it is compared; `None`: it is not.
    pub fn soak(&self) -> Option<Duration> {
        (self.soak_ms > 0).then(|| Duration::from_millis(self.soak_ms))
    }

    /// How long it was given.
    pub fn given(&self) -> Duration {
        Duration::from_millis(self.given_ms)
    }

    /// Time that is left, 0 at and after the deadline; never more than was given, whatever the clocks say.
    pub fn left(&self, clocks: &Clocks) -> Duration {
        let left = if self.boot == clocks.boot && !self.boot.is_empty() {
            Duration::from_millis(self.until_uptime_ms).saturating_sub(clocks.uptime)
        } else {
            Duration::try_from(self.until.duration_since(clocks.now)).unwrap_or_default()
        };
        left.min(self.given())
    }
}

/// Where the trial is written down: `STATE/confirm.json`.
fn path(state: &Utf8Path) -> Utf8PathBuf {
    state.join("confirm.json")
}

/// Reads the trial; `None` where none is open.
///
/// # Errors
/// Unreadable or damaged.
pub fn load_provisional(state: &Utf8Path) -> Result<Option<Provisional>, StoreError> {
    load(&path(state))
}

/// Writes the trial down, or removes it.
///
/// # Errors
/// The directory is missing, full or not writable.
pub fn save_provisional(state: &Utf8Path, provisional: Option<&Provisional>) -> Result<(), StoreError> {
    match provisional {
        Some(_) => save(&path(state), &provisional),
        None => directory::remove_file(&path(state)).map_err(StoreError::io("remove the deadline")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(now: &str, boot: &str, uptime_s: u64) -> Clocks {
        Clocks { now: now.parse().unwrap(), boot: boot.to_owned(), uptime: Duration::from_secs(uptime_s) }
    }

    #[test]
    fn the_boot_clock_decides_within_a_boot_and_the_wall_clock_after_a_reboot() {
        let begun = clocks("2026-11-21T08:00:00Z", "one", 1000);
        let trial = Provisional::new(7, 5, "ops", Duration::from_secs(600), &begun);
        for (now, boot, uptime, left) in [
            ("2026-11-21T08:00:00Z", "one", 1000, 600),
            ("2026-11-21T08:00:00Z", "one", 1599, 1),
            // Somebody set the clock: nothing comes of it.
            ("2030-01-01T00:00:00Z", "one", 1100, 500),
            ("2020-01-01T00:00:00Z", "one", 1600, 0),
            ("2026-11-21T08:09:00Z", "two", 5, 60),
            ("2026-11-21T08:11:00Z", "two", 5, 0),
            // A clock that went back cannot prolong the trial beyond what was given.
            ("2026-11-20T08:00:00Z", "two", 5, 600),
        ] {
            assert_eq!(trial.left(&clocks(now, boot, uptime)), Duration::from_secs(left), "{now} {boot} {uptime}");
        }
    }

    #[test]
    fn a_trial_survives_a_restart_and_ends_with_its_file() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        assert_eq!(load_provisional(state).unwrap(), None);
        let trial =
            Provisional::new(7, 5, "ops", Duration::from_secs(600), &clocks("2026-11-21T08:00:00Z", "one", 1000));
        save_provisional(state, Some(&trial)).unwrap();
        assert_eq!(load_provisional(state).unwrap(), Some(trial));
        save_provisional(state, None).unwrap();
        save_provisional(state, None).unwrap();
        assert_eq!(load_provisional(state).unwrap(), None);
    }
}
