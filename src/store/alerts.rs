//! What was told to whom, and what waits: the alerts, and a file for each sink.
//!
//! Each file is replaced by rename. They need not be of one moment: a sink's file is compared with the alerts as they are.

use super::error::StoreError;
use crate::alerts::{AlertTable, SinkBook};
use crate::sys::{directory, files};
use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io;

/// The directory, below that of the state.
const ALERTS: &str = "alerts";
/// The file of the alerts.
const TABLE: &str = "table.json";
/// How the name of a sink's file begins.
const SINK: &str = "sink-";
/// Largest file, in bytes: a thousand notifications of the longest.
const MAX_BYTES: u64 = 96 << 20;

/// What is kept of alerts.
#[derive(Debug, Default)]
pub struct KeptAlerts {
    /// The alerts.
    pub table: AlertTable,
    /// By the names of the sinks.
    pub books: BTreeMap<String, SinkBook>,
    /// Files that are damaged or unreadable, and are taken for empty.
    pub damaged: Vec<String>,
}

/// Reads the alerts, and the files of these sinks. Those of others are removed: what waited there is nobody's any more.
pub fn load_alerts<'a>(state: &Utf8Path, sinks: impl Iterator<Item = &'a str>) -> KeptAlerts {
    let mut kept = KeptAlerts::default();
    let directory = state.join(ALERTS);
    kept.table = read(&directory.join(TABLE), &mut kept.damaged);
    for name in sinks {
        kept.books.insert(name.to_owned(), read(&sink_file(&directory, name), &mut kept.damaged));
    }
    let is_left = |name: &str| {
        let sink = name.strip_prefix(SINK).and_then(|name| name.strip_suffix(".json"));
        sink.is_some_and(|sink| !kept.books.contains_key(sink))
    };
    let files = directory.read_dir_utf8().into_iter().flatten().flatten();
    for left in files.filter(|file| is_left(file.file_name())) {
        // One that stays is looked for again by the next start.
        let _ = fs_err::remove_file(left.path());
    }
    kept
}

/// Writes the alerts, each file where there is a text for it, and takes the files of sinks away that are no more.
///
/// # Errors
/// The directory is full or not writable. What was written before the failure stays.
pub fn save_alerts(
    state: &Utf8Path,
    sinks: &BTreeMap<String, Vec<u8>>,
    gone: &[String],
    table: Option<&[u8]>,
) -> Result<(), StoreError> {
    let directory = state.join(ALERTS);
    if !directory.is_dir() {
        let made = directory::create_directory(&directory, 0o750).and_then(|()| files::sync_directory(state));
        made.map_err(StoreError::io("make the directory of alerts"))?;
    }
    let write = |path: &Utf8Path, bytes: &[u8]| {
        files::replace_own_file(path, bytes, 0o640).map_err(StoreError::io("write what is to be told"))
    };
    // The alerts first: what a sink was told is compared with them.
    table.map_or(Ok(()), |table| write(&directory.join(TABLE), table))?;
    for (name, bytes) in sinks {
        write(&sink_file(&directory, name), bytes)?;
    }
    for name in gone {
        match fs_err::remove_file(sink_file(&directory, name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove a sink that is no more")(e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn sink_file(directory: &Utf8Path, name: &str) -> Utf8PathBuf {
    directory.join(format!("{SINK}{name}.json"))
}

fn read<T: DeserializeOwned + Default>(path: &Utf8Path, damaged: &mut Vec<String>) -> T {
    let bytes = match files::read_limited(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return T::default(),
        Err(e) => {
            damaged.push(e.to_string());
            return T::default();
        }
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|e| {
        damaged.push(format!("{path}: {e}"));
        T::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_damage_is_told() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        assert!(load_alerts(state, ["team"].into_iter()).damaged.is_empty());
        let mut table = AlertTable::default();
        table.begin_at(jiff::Timestamp::from_second(1_700_000_000).unwrap());
        let (table, book) = (serde_json::to_vec(&table).unwrap(), serde_json::to_vec(&SinkBook::default()).unwrap());
        let sinks = BTreeMap::from([("team".to_owned(), book), ("old".to_owned(), b"{".to_vec())]);
        save_alerts(state, &sinks, &[], Some(&table)).unwrap();
        let kept = load_alerts(state, ["team", "old"].into_iter());
        assert!(kept.table.unread_from().is_some());
        assert_eq!((kept.books.len(), kept.damaged.len()), (2, 1));
        save_alerts(state, &BTreeMap::new(), &["old".to_owned(), "never".to_owned()], None).unwrap();
        assert!(load_alerts(state, ["old"].into_iter()).damaged.is_empty());
        assert!(!sink_file(&state.join(ALERTS), "team").exists(), "nobody is called so any more");
    }
}
