//! What operators set by command, over the file; it survives the agent.

use super::current::{load, save};
use super::error::StoreError;
use camino::Utf8Path;
use serde::{Serialize, de::DeserializeOwned};

/// Reads `overrides.json`; empty where there is none.
///
/// # Errors
/// Unreadable or damaged. The caller must not take it for empty: a server in maintenance would get traffic.
pub fn load_overrides<T: DeserializeOwned + Default>(state: &Utf8Path) -> Result<T, StoreError> {
    load(&state.join("overrides.json"))
}

/// Writes `overrides.json`.
///
/// # Errors
/// The directory is missing, full or not writable. The command that set it is refused then.
pub fn save_overrides<T: Serialize>(state: &Utf8Path, overrides: &T) -> Result<(), StoreError> {
    save(&state.join("overrides.json"), overrides)
}

#[cfg(test)]
mod tests {
    use super::{load_overrides, save_overrides};
    use crate::desired::DesiredOverride;
    use crate::model::{AdminState, ServerId, Weight};
    use camino::Utf8Path;
    use std::collections::BTreeMap;

    #[test]
    fn overrides_come_back_as_they_were() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        assert!(load_overrides::<BTreeMap<ServerId, DesiredOverride>>(state).unwrap().is_empty());
        let overrides: BTreeMap<ServerId, DesiredOverride> = [
            ("chat/a".parse().unwrap(), DesiredOverride { state: Some(AdminState::Drain), weight: None }),
            ("chat/b".parse().unwrap(), DesiredOverride { state: None, weight: Some(Weight::new(7).unwrap()) }),
        ]
        .into();
        save_overrides(state, &overrides).unwrap();
        assert_eq!(load_overrides::<BTreeMap<_, _>>(state).unwrap(), overrides);
    }
}
