//! After a death in the middle of an apply: the live files become wholly old or wholly new.
//!
//! Where every file has its new content, the writes were done, and the intent is finished, unless it wanted a reload:
//! nobody knows whether HAProxy takes that one. Else each file that has its new content goes back to the former one, in
//! the reverse order of writing, so that HAProxy would start from the files at every moment. A file that is neither was
//! changed by somebody else and is left alone. The former content of a file with secrets is not in the journal but beside
//! the file, written before the journal was, and gone when both are done with: a start in between finds keys and
//! certificates that fit its haproxy.cfg, as with every other file. Should that copy be lost, the newer file stays: it has
//! the keys of all servers that both haproxy.cfg have, and the next apply renders it from the operator's references. The normal observe, plan and apply then makes HAProxy follow (I4).

use super::ledger::{Ledger, told};
use crate::agent::files::live_files::{Before, LiveFiles, MAX_FILE, put_back_one};
use crate::model::Digest;
use crate::render;
use crate::store::{IntendedFile, Journal, StoreError, UndertakingKind};
use crate::sys;
use camino::Utf8Path;
use std::io;

/// Looks for an intent without an outcome and settles it. Answers what was found and done, for people.
///
/// Never fails: what cannot be put right is named, and the next apply renders every file anew.
pub(in crate::agent) fn recover(journal: &Journal, ledger: &Ledger, config: &Utf8Path) -> Option<String> {
    let told = match journal.unfinished() {
        Ok(None) => {
            LiveFiles::of(config).forget_secrets();
            return None;
        }
        Ok(Some(undertaking)) => {
            let done = settle(&undertaking.files, undertaking.kind == UndertakingKind::Reload);
            let words = format!(
                "the apply ({}) of {} was interrupted; {done}",
                undertaking.kind,
                undertaking.began.strftime("%Y-%m-%dT%H:%M:%SZ")
            );
            if end(journal) {
                LiveFiles::of(config).forget_secrets();
            }
            words
        }
        Err(damaged @ StoreError::Damaged { .. }) => {
            let aside = journal.set_aside().map_or_else(|e| sys::chain(&e), |path| path.to_string());
            let done = restore_last_good(ledger, config);
            format!("an interrupted apply left a journal that cannot be used ({damaged}; kept as {aside}); {done}")
        }
        Err(other) => format!("the journal cannot be read: {}", sys::chain(&other)),
    };
    tracing::warn!("{told}");
    Some(told)
}

fn end(journal: &Journal) -> bool {
    let ended = journal.end();
    if let Err(error) = &ended {
        tracing::error!(error = sys::chain(error), "the journal could not be ended");
    }
    ended.is_ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Old,
    New,
    Both,
    Foreign,
}

fn settle(files: &[IntendedFile], is_unproven: bool) -> String {
    let states: Vec<_> = files.iter().map(state_of).collect();
    if !is_unproven && states.iter().all(|now| matches!(now, Now::New | Now::Both)) {
        return format!("all {} files have their new content", files.len());
    }
    let mut reverted = 0;
    let mut failed = Vec::new();
    for (file, now) in files.iter().zip(&states).rev() {
        if *now != Now::New {
            continue;
        }
        match former(file).and_then(|before| put_back_one(&file.path, &before)) {
            Ok(()) => reverted += 1,
            Err(e) => failed.push(e.to_string()),
        }
    }
    let mut words = match reverted {
        0 => "the files have their former content".to_owned(),
        1 => "1 file was put back to its former content".to_owned(),
        more => format!("{more} files were put back to their former content"),
    };
    let foreign =
        files.iter().zip(&states).filter(|(_, now)| **now == Now::Foreign).map(|(file, _)| file.path.as_str());
    let foreign: Vec<_> = foreign.collect();
    if !foreign.is_empty() {
        words += &format!("; changed by somebody else meanwhile and left alone: {}", foreign.join(", "));
    }
    if !failed.is_empty() {
        words += &format!("; could not be put back: {}", failed.join(", "));
    }
    words
}

fn former(file: &IntendedFile) -> io::Result<Before> {
    let Some(before) = &file.before else { return Ok(Before::Missing) };
    // What the journal holds was verified when it was read.
    let held = before.content().map_or_else(|| sys::files::former(&file.path, MAX_FILE), Ok)?;
    match before.is_of(&held) {
        true => Ok(Before::Held { bytes: held, mode: before.mode }),
        false => Err(io::Error::other(format!("what {} was is kept no more", file.path))),
    }
}

fn state_of(file: &IntendedFile) -> Now {
    let Ok(found) = sys::directory::read_if_exists(&file.path, MAX_FILE) else { return Now::Foreign };
    let now = found.map(|bytes| (bytes.len() as u64, Digest::of(bytes)));
    let before = file.before.as_ref().map(|before| (before.length, before.sha256));
    match (now == before, now == file.after) {
        (true, true) => Now::Both,
        (true, false) => Now::Old,
        (false, true) => Now::New,
        (false, false) => Now::Foreign,
    }
}

/// The last good revision's files at the live paths, where nothing of what lies there is an operator's and where every
/// file that the revision does not hold (one with secrets) is there.
fn restore_last_good(ledger: &Ledger, config: &Utf8Path) -> String {
    let nothing = |why: &str| format!("the files stay as they are: {why}");
    let Some(number) = ledger.current.last_good else { return nothing("there is no good revision yet") };
    let revision = match ledger.revisions.load(number).map_err(|e| told(&e)) {
        Ok(revision) => revision,
        Err(failed) => return nothing(&failed.to_string()),
    };
    let directory = sys::files::directory_of(config);
    match sys::directory::read_if_exists(config, MAX_FILE) {
        Ok(Some(bytes)) if !render::inspect(&bytes).is_intact => return nothing("haproxy.cfg was changed by hand"),
        Ok(_) => {}
        Err(e) => return nothing(&e.to_string()),
    }
    let unknown = revision.manifest.files.iter().filter(|file| !file.is_stored);
    if let Some(missing) = unknown.map(|file| directory.join(&file.path)).find(|path| !path.exists()) {
        return nothing(&format!("{missing} is missing and no revision holds it"));
    }
    // Maps first, as in every apply: a start in between finds all that the configuration names.
    let live = revision.files.iter().filter(|(path, _)| !matches!(path.as_str(), "hapilot.toml" | "structure"));
    let mut live: Vec<_> = live.collect();
    live.sort_by_key(|(path, _)| *path == "haproxy.cfg");
    for (path, bytes) in live {
        let target = if path == "haproxy.cfg" { config.to_owned() } else { directory.join(path) };
        let written = sys::directory::create_directory(&sys::files::directory_of(&target), 0o755)
            .and_then(|()| sys::files::replace_file(&target, bytes, 0o644));
        if let Err(e) = written {
            return format!("the files of revision {number} could not be put back: {e}");
        }
    }
    format!("the files are those of revision {number} again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::files::live_files::LiveFiles;
    use crate::plan::FileChange;
    use crate::render::{MapFile, Rendered};
    use crate::store::Undertaking;
    use base64::Engine as _;
    use camino::Utf8PathBuf;
    use std::collections::BTreeMap;

    fn rendered(text: &str, maps: &[&str]) -> Rendered {
        let map = |name: &&str| {
            let entries = vec![("key".to_owned(), format!("{text} {name}"))];
            (format!("maps/{name}.map"), MapFile { entries, is_secret: *name == "keys" })
        };
        Rendered::of_text(&format!("{text}\n"), maps.iter().map(map).collect())
    }

    fn changes() -> Vec<FileChange> {
        vec![
            FileChange::Create("maps/fresh.map".into()),
            FileChange::Replace("maps/keys.map".into()),
            FileChange::Replace("maps/routes.map".into()),
            FileChange::Replace("haproxy.cfg".into()),
            FileChange::Remove("maps/gone.map".into()),
            FileChange::Remove("maps/stats.map".into()),
        ]
    }

    struct Live {
        _held: tempfile::TempDir,
        state: Utf8PathBuf,
        files: LiveFiles,
        config: Utf8PathBuf,
    }

    /// The former files, and the intent to write the new ones.
    fn live() -> Live {
        about_to(UndertakingKind::Runtime)
    }

    fn about_to(kind: UndertakingKind) -> Live {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(held.path().to_owned()).unwrap();
        let (config, state) = (dir.join("haproxy.cfg"), dir.join("state"));
        sys::directory::create_directory(&state, 0o700).unwrap();
        let files = LiveFiles::of(&config);
        let old = rendered("old", &["gone", "keys", "routes", "stats"]);
        let create = |name: &String| FileChange::Create(name.clone());
        let all: Vec<_> = old.maps.keys().map(create).chain([FileChange::Create("haproxy.cfg".into())]).collect();
        files.write(&all, &old).unwrap();
        let undo = files.remember(&changes()).unwrap();
        files.keep_secrets(&undo, &changes()).unwrap();
        let undertaking = Undertaking {
            began: "2026-11-21T08:00:00Z".parse().unwrap(),
            kind,
            source: Digest::of("toml"),
            files: files.intended(&undo, &changes(), &new()),
        };
        Journal::of(&state).begin(&undertaking).unwrap();
        Live { _held: held, state, files, config }
    }

    fn new() -> Rendered {
        rendered("new", &["fresh", "keys", "routes"])
    }

    fn texts(live: &Live) -> BTreeMap<String, String> {
        let dir = sys::files::directory_of(&live.config);
        let names = sys::directory::file_names(&dir.join("maps"), ".map").unwrap();
        let paths = names.into_iter().map(|name| format!("maps/{name}")).chain(["haproxy.cfg".to_owned()]);
        paths.map(|path| (path.clone(), fs_err::read_to_string(dir.join(path)).unwrap())).collect()
    }

    fn recovered(live: &Live) -> Option<String> {
        recover(&Journal::of(&live.state), &Ledger::open(&live.state).unwrap(), &live.config)
    }

    #[test]
    fn a_death_after_any_number_of_files_leaves_them_wholly_old_or_wholly_new() {
        let (old, last) = (texts(&live()), changes().len());
        for cut in 0..=last {
            let live = live();
            live.files.write(&changes()[..cut], &new()).unwrap();
            let words = recovered(&live).unwrap();
            let now = texts(&live);
            if cut == last {
                assert!(words.contains("all 6 files have their new content"), "{words}");
                assert!(now.values().all(|text| text.starts_with("new") || text.contains("new ")), "{now:?}");
                assert!(now.contains_key("maps/fresh.map") && !now.contains_key("maps/gone.map"), "{now:?}");
            } else {
                assert_eq!(now, old, "cut after {cut}: {words}");
            }
            assert_eq!(recovered(&live), None, "the journal is ended");
            let maps = sys::files::directory_of(&live.config).join("maps");
            let hidden = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
            let left = std::fs::read_dir(maps).unwrap().map(hidden).find(|name| name.starts_with('.'));
            assert_eq!(left, None, "nothing is kept beside");
        }
    }

    #[test]
    fn a_reload_that_nobody_saw_end_goes_back_and_is_made_again() {
        let old = texts(&live());
        let live = about_to(UndertakingKind::Reload);
        live.files.write(&changes(), &new()).unwrap();
        let words = recovered(&live).unwrap();
        assert!(words.contains("6 files were put back"), "{words}");
        assert_eq!(texts(&live), old);
    }

    #[test]
    fn a_recovery_that_is_cut_itself_goes_on_the_next_time() {
        let old = texts(&live());
        for reverted in 0..4 {
            let live = live();
            live.files.write(&changes()[..4], &new()).unwrap();
            // As far as the first try came: the last files first.
            let journal = Journal::of(&live.state);
            let files = journal.unfinished().unwrap().unwrap().files;
            settle(&files[4 - reverted..4], false);
            recovered(&live).unwrap();
            assert_eq!(texts(&live), old, "after {reverted}");
        }
    }

    #[test]
    fn the_journal_has_no_content_of_a_file_with_secrets_and_a_lost_copy_leaves_the_newer_one() {
        let live = live();
        let text = fs_err::read_to_string(live.state.join("journal.json")).unwrap();
        let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        assert!(text.contains(&encoded("key old routes\n")) && !text.contains(&encoded("key old keys\n")), "{text}");
        live.files.write(&changes()[..3], &new()).unwrap();
        live.files.forget_secrets();
        let words = recovered(&live).unwrap();
        assert!(words.contains("2 files were put back") && words.contains("keys.map"), "{words}");
        let now = texts(&live);
        assert!(now["maps/keys.map"].contains("new") && now["maps/routes.map"].contains("old"), "{now:?}");
    }

    #[test]
    fn a_file_that_somebody_else_changed_is_left_alone_and_named() {
        let live = live();
        live.files.write(&changes()[..3], &new()).unwrap();
        sys::files::replace_file(&live.config, b"by hand\n", 0o644).unwrap();
        let words = recovered(&live).unwrap();
        assert!(words.contains("3 files were put back") && words.contains("left alone"), "{words}");
        let now = texts(&live);
        assert_eq!(now["haproxy.cfg"], "by hand\n");
        assert!(now["maps/routes.map"].contains("old"), "{now:?}");
    }

    #[test]
    fn a_damaged_journal_is_kept_beside_and_blocks_nothing() {
        let live = live();
        live.files.write(&changes()[..2], &new()).unwrap();
        let path = live.state.join("journal.json");
        let whole = fs_err::read(&path).unwrap();
        sys::files::replace_file(&path, &whole[..whole.len() / 2], 0o600).unwrap();
        let words = recovered(&live).unwrap();
        assert!(words.contains("journal.json.damaged") && words.contains("no good revision yet"), "{words}");
        assert!(live.state.join("journal.json.damaged").exists());
        assert_eq!(recovered(&live), None);
    }
}
