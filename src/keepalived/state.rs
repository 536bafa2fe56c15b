//! What Keepalived says of itself when it is asked: the dump that it writes on SIGJSON.
//!
//! **Source**: keepalived(8), `--signum`; measured: states are 1 BACKUP, 2 MASTER, 3 FAULT, and the file is not
//! written at once, so that half of it may be read.

use crate::model::VrrpState;
use std::time::{Duration, SystemTime};

/// The dump cannot be read (yet).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Keepalived's dump is unreadable: {0}")]
pub struct StateError(String);

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipState {
    /// Its name: that of a VIP.
    pub vip: String,
    /// What it is.
    pub state: VrrpState,
    /// The priority that it goes by.
    pub priority: u8,
    /// Since when, by the wall clock.
    pub since: Option<SystemTime>,
}

/// Reads `keepalived.json`.
///
/// # Errors
/// It is no dump, or not whole yet: ask again.
pub fn parse_state(json: &str) -> Result<Vec<VipState>, StateError> {
    let dump: serde_json::Value = serde_json::from_str(json).map_err(|e| StateError(e.to_string()))?;
    // Newer ones put the instances below `vrrp`.
    let instances = dump.as_array().or_else(|| dump["vrrp"].as_array());
    let instances = instances.ok_or_else(|| StateError("it has no list of instances".to_owned()))?;
    let read = |instance: &serde_json::Value| {
        let data = &instance["data"];
        let state = match data["state"].as_u64()? {
            0 | 4 => VrrpState::Stop,
            1 => VrrpState::Backup,
            2 => VrrpState::Master,
            3 => VrrpState::Fault,
            _ => return None,
        };
        let priority = data["effective_priority"].as_u64().and_then(|priority| u8::try_from(priority).ok())?;
        let seconds = data["last_transition"].as_f64().and_then(|at| Duration::try_from_secs_f64(at).ok());
        let since = seconds.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(at));
        Some(VipState { vip: data["iname"].as_str()?.to_owned(), state, priority, since })
    };
    let all: Option<Vec<_>> = instances.iter().map(read).collect();
    all.ok_or_else(|| StateError("an instance lacks its name, state or priority".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read_and_half_of_one_is_not() {
        let dump = r#"[{"data":{"iname":"public","state":2,"effective_priority":250,"last_transition":1795295246.5,"vips":["192.0.2.100"]}}]"#;
        let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(1_795_295_246_500));
        let public = VipState { vip: "public".into(), state: VrrpState::Master, priority: 250, since };
        assert_eq!(parse_state(dump).unwrap(), [public]);
        for end in 0..dump.len() {
            assert!(parse_state(&dump[..end]).is_err(), "{end}");
        }
        assert!(parse_state("{}").is_err());
        assert_eq!(parse_state("[]").unwrap(), []);
    }
}
