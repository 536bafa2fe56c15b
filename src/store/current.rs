//! Which revision serves.

use super::error::StoreError;
use crate::model::Digest;
use crate::sys::files;
use camino::Utf8Path;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest file of this kind, in bytes: 10,000 overrides of the longest names.
const MAX_BYTES: u64 = 4 << 20;

/// Which revision serves and which one can be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Current {
    /// The revision that serves; `None` before the first.
    pub serving: Option<u32>,
    /// The last confirmed revision: where a rollback goes (invariant I3).
    pub last_good: Option<u32>,
    /// Digest of the operator's file that was rolled back from: as long as the file is this one, a restart of the agent
    /// must not apply it again.
    pub rolled_back_from: Option<Digest>,
}

/// Reads `current.json`; the default where there is none.
///
/// # Errors
/// Unreadable or damaged. The caller goes on without and tells the operator: traffic does not depend on it.
pub fn load_current(state: &Utf8Path) -> Result<Current, StoreError> {
    load(&state.join("current.json"))
}

/// Writes `current.json`. Only after proof (invariant I7).
///
/// # Errors
/// The directory is missing, full or not writable.
pub fn save_current(state: &Utf8Path, current: &Current) -> Result<(), StoreError> {
    save(&state.join("current.json"), current)
}

/// Reads a JSON file; the default where there is none.
pub(super) fn load<T: DeserializeOwned + Default>(path: &Utf8Path) -> Result<T, StoreError> {
    match files::read_limited(path, MAX_BYTES) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| StoreError::Damaged { path: path.to_owned(), problem: e.to_string() }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(source) => Err(StoreError::io("read the state")(source)),
    }
}

/// Writes a JSON file whole.
pub(super) fn save<T: Serialize>(path: &Utf8Path, value: &T) -> Result<(), StoreError> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| StoreError::Refused(format!("{path} cannot be written as JSON: {e}")))?;
    text.push('\n');
    if text.len() as u64 > MAX_BYTES {
        return Err(StoreError::Refused(format!("{path} would be longer than {MAX_BYTES} bytes")));
    }
    files::replace_own_file(path, text.as_bytes(), 0o640).map_err(StoreError::io("write the state"))
}

#[cfg(test)]
mod tests {
    use super::{Current, load_current, save_current};
    use crate::model::Digest;
    use camino::Utf8Path;

    #[test]
    fn what_serves_survives_a_restart_and_damage_is_named() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        assert_eq!(load_current(state).unwrap(), Current::default());
        let current =
            Current { serving: Some(7), last_good: Some(5), rolled_back_from: Some(Digest::of("the operator's file")) };
        save_current(state, &current).unwrap();
        assert_eq!(load_current(state).unwrap(), current);
        crate::sys::files::replace_file(&state.join("current.json"), b"{\"serving\": 7", 0o640).unwrap();
        let error = load_current(state).unwrap_err().to_string();
        assert!(error.contains("current.json is damaged"), "{error}");
    }
}
