//! What clients used: a file for each hour of UTC that is over, and one for the hour that is not.
//!
//! Written by the agent, read by its start and by `hapilot usage`, also while the agent writes. An hour that is damaged is
//! left out and named; the others count. What a newer hapilot has added is not read.

use super::error::StoreError;
use crate::sys::{directory, files};
use crate::usage::{Hour, OpenUsage, ToldSum, UsageHour};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

/// The directory, below that of the state.
pub const USAGE: &str = "usage";
/// Largest file, in bytes. [`MAX_ROWS`](crate::usage::MAX_ROWS) rows of the longest names, with models of 128 bytes, have some
/// 12 MB.
const MAX_BYTES: u64 = 16 << 20;
/// Most files of the directory. Those of 400 days are 9,600.
const MAX_FILES: usize = 40_000;
/// How a file's name ends.
const SUFFIX: &str = ".json";
/// The hour that is not over.
const OPEN: &str = "open.json";
/// What clients spent at other nodes.
const ELSEWHERE: &str = "elsewhere.json";
/// Before which hour another ledger counted.
const RESTORED: &str = "restored.json";

/// Writes the hours that are over, and then the one that is not: where a death comes between, the lines of the hours that
/// are over are counted again from where `open` is on disk, and their files are written again with the same sums.
///
/// # Errors
/// The directory is full or not writable, or an hour is too large. What was written before the failure stays.
pub fn save_usage(state: &Utf8Path, closed: &[UsageHour], open: &OpenUsage) -> Result<(), StoreError> {
    make_directory(state)?;
    let directory = directory_in(state);
    for hour in closed {
        save(&directory.join(format!("{}{SUFFIX}", hour.hour)), hour)?;
    }
    save(&directory.join(OPEN), open)
}

/// Reads the hour that is not over; the default where there is none.
///
/// # Errors
/// Unreadable or damaged.
pub fn load_open_usage(state: &Utf8Path) -> Result<OpenUsage, StoreError> {
    Ok(load(&directory_in(state).join(OPEN))?.unwrap_or_default())
}

/// Writes what clients spent at other nodes, as those told it.
///
/// # Errors
/// The directory is full or not writable.
pub fn save_elsewhere(state: &Utf8Path, sums: &[ToldSum]) -> Result<(), StoreError> {
    make_directory(state)?;
    save(&directory_in(state).join(ELSEWHERE), &sums)
}

/// Reads it; nothing where there is none.
///
/// # Errors
/// Unreadable or damaged. The caller may take it for empty: other nodes tell it again.
pub fn load_elsewhere(state: &Utf8Path) -> Result<Vec<ToldSum>, StoreError> {
    Ok(load(&directory_in(state).join(ELSEWHERE))?.unwrap_or_default())
}

/// Writes that hours before this one are those of a backup, which another ledger counted.
///
/// # Errors
/// The directory is full or not writable.
pub(super) fn save_restored(state: &Utf8Path, before: Hour) -> Result<(), StoreError> {
    make_directory(state)?;
    save(&directory_in(state).join(RESTORED), &before)
}

/// Reads before which hour another ledger counted; the first of all where there is nothing of a backup.
///
/// # Errors
/// Unreadable or damaged.
pub fn load_restored(state: &Utf8Path) -> Result<Hour, StoreError> {
    Ok(load(&directory_in(state).join(RESTORED))?.unwrap_or_default())
}

/// Hands over the hours that are over, in the order of time: from `from` on, and before `to_exclusive`. Answers the files
/// that are damaged or unreadable and were left out.
///
/// **Units**: hours of UTC.
///
/// # Errors
/// The directory cannot be listed, or has 40,000 files; one that does not exist is empty.
pub fn load_usage(
    state: &Utf8Path,
    from: Hour,
    to_exclusive: Hour,
    mut take: impl FnMut(UsageHour),
) -> Result<Vec<Utf8PathBuf>, StoreError> {
    let mut left_out = vec![];
    let all = hours(state)?;
    if all.len() >= MAX_FILES {
        let directory = directory_in(state);
        return Err(StoreError::Refused(format!("{directory} has too many files: {MAX_FILES}")));
    }
    for (hour, path) in all.into_iter().filter(|(hour, _)| (from..to_exclusive).contains(hour)) {
        match load::<UsageHour>(&path) {
            Ok(Some(found)) if found.hour == hour => take(found),
            // Forgotten since it was listed.
            Ok(None) => {}
            // A copy under another name would count twice.
            Ok(Some(_)) | Err(_) => left_out.push(path),
        }
    }
    Ok(left_out)
}

/// Deletes the files of hours before this one. Files of other names stay.
///
/// # Errors
/// The directory cannot be listed, or a file not be deleted; the others are deleted all the same.
pub fn forget_usage(state: &Utf8Path, before: Hour) -> Result<(), StoreError> {
    let old = hours(state)?.into_iter().filter(|(hour, _)| *hour < before);
    let removed: Vec<_> = old.map(|(_, path)| directory::remove_file(&path)).collect();
    removed.into_iter().collect::<io::Result<()>>().map_err(StoreError::io("forget old usage"))
}

fn directory_in(state: &Utf8Path) -> Utf8PathBuf {
    state.join(USAGE)
}

fn make_directory(state: &Utf8Path) -> Result<(), StoreError> {
    let directory = directory_in(state);
    if directory.is_dir() {
        return Ok(());
    }
    let made = directory::create_directory(&directory, 0o750).and_then(|()| files::sync_directory(state));
    made.map_err(StoreError::io("make the directory of usage"))
}

/// Every file whose name is an hour, in the order of time.
fn hours(state: &Utf8Path) -> Result<Vec<(Hour, Utf8PathBuf)>, StoreError> {
    let directory = directory_in(state);
    let names = directory::file_names_among(&directory, SUFFIX, MAX_FILES);
    let names = names.map_err(StoreError::io("list the hours of usage"))?;
    let hour_of = |name: &String| Hour::parse(name.strip_suffix(SUFFIX)?);
    let mut hours: Vec<_> = names.iter().filter_map(|name| Some((hour_of(name)?, directory.join(name)))).collect();
    hours.sort_unstable_by_key(|(hour, _)| *hour);
    Ok(hours)
}

fn load<T: DeserializeOwned>(path: &Utf8Path) -> Result<Option<T>, StoreError> {
    let damaged = |problem: String| StoreError::Damaged { path: path.to_owned(), problem };
    match directory::read_if_exists(path, MAX_BYTES) {
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).map(Some).map_err(|e| damaged(e.to_string())),
        Ok(None) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(damaged(e.to_string())),
        Err(source) => Err(StoreError::io("read the usage")(source)),
    }
}

fn save(path: &Utf8Path, value: &impl Serialize) -> Result<(), StoreError> {
    let mut text =
        serde_json::to_vec(value).map_err(|e| StoreError::Refused(format!("{path} cannot be written as JSON: {e}")))?;
    text.push(b'\n');
    if text.len() as u64 > MAX_BYTES {
        return Err(StoreError::Refused(format!("{path} would be longer than {MAX_BYTES} bytes")));
    }
    files::replace_own_file(path, &text, 0o640).map_err(StoreError::io("write the usage"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Amounts, LineId, MAX_ROWS, Row, UsageKey};

    fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let held = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(held.path()).unwrap().to_owned();
        (held, path)
    }

    fn hour(hour: i64, requests: u64) -> UsageHour {
        let key = UsageKey { client: "acme".to_owned(), model: "\u{1b}\"m".to_owned(), ..UsageKey::default() };
        let amounts = Amounts { requests, nano_usd: u64::MAX, ..Amounts::default() };
        UsageHour { hour: Hour(hour), rows: vec![Row { key, amounts }] }
    }

    fn open(number: i64) -> OpenUsage {
        let last = LineId { at: "t".to_owned(), request: 3 };
        OpenUsage { hour: hour(number, 1), positions: vec![last], ..OpenUsage::default() }
    }

    fn loaded(state: &Utf8Path, from: i64, to: i64) -> (Vec<UsageHour>, Vec<Utf8PathBuf>) {
        let mut found = vec![];
        let left_out = load_usage(state, Hour(from), Hour(to), |hour| found.push(hour)).unwrap();
        (found, left_out)
    }

    #[test]
    fn hours_come_back_in_the_order_of_time_and_the_open_one_for_itself() {
        let (_held, state) = directory();
        assert_eq!(load_open_usage(&state).unwrap(), OpenUsage::default());
        assert_eq!(loaded(&state, 0, i64::MAX), (vec![], vec![]));
        forget_usage(&state, Hour(i64::MAX)).unwrap();
        save_usage(&state, &[hour(494_450, 1), hour(494_449, 2)], &open(494_451)).unwrap();
        save_usage(&state, &[hour(494_450, 3)], &open(494_451)).unwrap();
        assert_eq!(load_open_usage(&state).unwrap(), open(494_451));
        assert_eq!(loaded(&state, 0, i64::MAX).0, [hour(494_449, 2), hour(494_450, 3)]);
        assert_eq!(loaded(&state, 494_450, 494_451).0, [hour(494_450, 3)]);
        assert_eq!(loaded(&state, 494_449, 494_450).0, [hour(494_449, 2)]);
        let name = format!("{}.json", Hour(494_450));
        let text = fs_err::read_to_string(state.join("usage").join(name)).unwrap();
        assert!(text.ends_with("]}\n") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn what_is_damaged_is_left_out_and_named_and_other_files_are_nobodys() {
        let (_held, state) = directory();
        save_usage(&state, &[hour(494_448, 1), hour(494_449, 2), hour(494_450, 3)], &open(494_451)).unwrap();
        let usage = state.join("usage");
        let path = |number: i64| usage.join(format!("{}.json", Hour(number)));
        fs_err::write(path(494_449), "{\"hour\":494449,\"rows\":[{").unwrap();
        // Copied by hand: it would count twice.
        fs_err::copy(path(494_448), path(494_447)).unwrap();
        fs_err::create_dir(path(494_446)).unwrap();
        for name in
            ["notes.json", "2026-11-30.json", "2026-11-30T25.json", "2026-11-30T1.json", "2026-11-30T13.json.bak"]
        {
            fs_err::write(usage.join(name), "mine").unwrap();
        }
        let (found, left_out) = loaded(&state, 0, i64::MAX);
        assert_eq!(found, [hour(494_448, 1), hour(494_450, 3)]);
        assert_eq!(left_out, [path(494_446), path(494_447), path(494_449)]);
        fs_err::write(usage.join("open.json"), "{").unwrap();
        let error = load_open_usage(&state).unwrap_err().to_string();
        assert!(error.contains("open.json is damaged"), "{error}");

        // What cannot be deleted keeps nothing else.
        assert!(forget_usage(&state, Hour(494_450)).is_err());
        let left = directory::file_names(&usage, "").unwrap();
        assert_eq!(left.len(), 8, "{left:?}");
        assert!(path(494_450).exists() && path(494_446).exists() && !path(494_449).exists());
        assert!(usage.join("open.json").exists() && usage.join("2026-11-30T25.json").exists());
    }

    #[test]
    fn what_a_newer_version_adds_is_not_read_and_what_an_older_one_did_not_know_is_0() {
        let (_held, state) = directory();
        save_usage(&state, &[], &OpenUsage::default()).unwrap();
        let row = r#"{"client":"a","plan":"p","server":"","model":"","requests":2,"colour":"red"}"#;
        let hour = format!("\"hour\":494450,\"mood\":1,\"rows\":[{row}]");
        let usage = state.join("usage");
        fs_err::write(usage.join(format!("{}.json", Hour(494_450))), format!("{{{hour}}}")).unwrap();
        fs_err::write(usage.join("open.json"), format!("{{{hour},\"positions\":[],\"more\":{{}}}}")).unwrap();
        let expected = Amounts { requests: 2, ..Amounts::default() };
        assert_eq!(loaded(&state, 0, i64::MAX).0[0].rows[0].amounts, expected);
        assert_eq!(load_open_usage(&state).unwrap().hour.rows[0].amounts, expected);
    }

    #[test]
    fn an_hour_that_is_full_of_long_names_is_within_the_limit_and_one_beyond_is_refused() {
        let (_held, state) = directory();
        let row = |number: usize, model: usize| {
            let key = UsageKey {
                client: format!("{number:064}"),
                plan: "p".repeat(64),
                server: format!("{}/{}", "b".repeat(64), "s".repeat(64)),
                model: "m".repeat(model),
            };
            let most = 999_999_999_999;
            let amounts =
                Amounts { requests: 99_999, prompt: most, completion: most, nano_usd: most, ..Amounts::default() };
            Row { key, amounts }
        };
        let full = |model| UsageHour { hour: Hour(494_450), rows: (0..MAX_ROWS).map(|at| row(at, model)).collect() };
        save_usage(&state, &[full(64)], &OpenUsage::default()).unwrap();
        let error = save_usage(&state, &[full(900)], &OpenUsage::default()).unwrap_err().to_string();
        assert!(error.contains("would be longer"), "{error}");
        assert_eq!(loaded(&state, 0, i64::MAX).0[0].rows.len(), MAX_ROWS);
    }
}
