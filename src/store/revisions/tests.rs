//! The history over its life: written, read, damaged, tagged, thinned out.

use super::{NewFile, Revisions};
use crate::store::{How, Manifest, RevisionOutcome, RevisionSource, Standing, StoreError};
use crate::sys::files::replace_file;
use camino::{Utf8Path, Utf8PathBuf};

fn state() -> (tempfile::TempDir, Utf8PathBuf) {
    let held = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(held.path()).unwrap().to_owned();
    (held, path)
}

fn manifest(revision: u32) -> Manifest {
    Manifest {
        revision,
        created: "2026-11-21T08:00:00Z".parse().unwrap(),
        actor: "agent".to_owned(),
        reason: "the file was edited".to_owned(),
        source: RevisionSource::Rollback { of: 1 },
        outcome: None,
        plan: vec!["weight be/s1 10 → 30".to_owned()],
        files: Vec::new(),
        tags: Vec::new(),
        standing: Standing::Confirmed,
    }
}

const FILES: [NewFile<'static>; 3] = [
    NewFile { path: "haproxy.cfg", content: b"global\n", is_secret: false },
    NewFile { path: "maps/keys.map", content: b"k sk-very-secret\n", is_secret: true },
    NewFile { path: "maps/routes.map", content: b"/ chat\n", is_secret: false },
];

#[test]
fn a_revision_comes_back_verified_and_without_its_secrets() {
    let (_held, state) = state();
    let revisions = Revisions::open(&state).unwrap();
    assert_eq!(revisions.next_number().unwrap(), 1);
    let saved = revisions.save(manifest(1), &FILES).unwrap();
    assert_eq!(revisions.next_number().unwrap(), 2);
    let loaded = revisions.load(1).unwrap();
    assert_eq!(loaded.manifest, saved);
    assert_eq!(loaded.files["maps/routes.map"], b"/ chat\n");
    assert_eq!(loaded.files.len(), 2);
    assert_eq!((saved.files[1].length, saved.files[1].is_stored), (17, false));
    assert!(!state.join("revisions/000001/maps/keys.map").exists());
    assert!(matches!(revisions.save(manifest(1), &FILES), Err(StoreError::Refused(_))));
    assert!(matches!(revisions.load(9), Err(StoreError::NoRevision { number: 9 })));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_named() {
    let (_held, state) = state();
    let revisions = Revisions::open(&state).unwrap();
    revisions.save(manifest(1), &FILES).unwrap();
    let path = state.join("revisions/000001/haproxy.cfg");
    for content in [&b""[..], b"glob", b"globaL\n", b"global\n\n"] {
        replace_file(&path, content, 0o640).unwrap();
        let error = revisions.load(1).unwrap_err();
        assert!(matches!(&error, StoreError::Damaged { path: named, .. } if *named == path), "{error}");
    }
    fs_err::remove_file(&path).unwrap();
    assert!(matches!(revisions.load(1), Err(StoreError::Damaged { .. })));
    replace_file(&state.join("revisions/000001/manifest.json"), b"{\"revision\":", 0o640).unwrap();
    assert!(matches!(revisions.load(1), Err(StoreError::Damaged { .. })));
    let listed = revisions.list().unwrap();
    assert!(listed[0].number == 1 && listed[0].manifest.is_err());
}

#[test]
fn outcome_and_tags_are_written_down_later() {
    let (_held, state) = state();
    let revisions = Revisions::open(&state).unwrap();
    for number in [1, 2] {
        revisions.save(manifest(number), &FILES).unwrap();
    }
    revisions.set_outcome(1, RevisionOutcome::Applied { how: How::StartPending }).unwrap();
    revisions.set_outcome(2, RevisionOutcome::Failed { text: "no".into() }).unwrap();
    assert!(revisions.manifest(1).unwrap().is_applied() && !revisions.manifest(2).unwrap().is_applied());
    revisions.tag(1, "before-christmas").unwrap();
    revisions.tag(1, "before-christmas").unwrap();
    assert_eq!(revisions.manifest(1).unwrap().tags, ["before-christmas"]);
    assert_eq!(revisions.tagged("before-christmas").unwrap(), Some(1));
    for (number, name) in [(2, "before-christmas"), (2, ""), (2, "12"), (2, "a b"), (3, "new")] {
        assert!(revisions.tag(number, name).is_err(), "{name:?}");
    }
    let text = fs_err::read_to_string(state.join("revisions/000001/manifest.json")).unwrap();
    assert!(text.contains(r#""how": "start-pending""#) && text.contains(r#""rollback": {"#), "{text}");
}

#[test]
fn retention_spares_what_serves_what_is_good_what_is_tagged_and_the_newest() {
    let (_held, state) = state();
    let revisions = Revisions::open(&state).unwrap();
    for number in 1..=10 {
        revisions.save(manifest(number), &FILES).unwrap();
    }
    revisions.tag(2, "kept").unwrap();
    assert_eq!(revisions.retain(3, &[1, 5]).unwrap(), [3, 4, 6]);
    assert_eq!(revisions.numbers().unwrap(), [1, 2, 5, 7, 8, 9, 10]);
    assert!(revisions.retain(3, &[1, 5]).unwrap().is_empty());
    revisions.retain(0, &[]).unwrap();
    assert_eq!(revisions.numbers().unwrap(), [2, 10]);
    assert_eq!(revisions.next_number().unwrap(), 11);
}

#[test]
fn a_write_that_was_cut_off_leaves_no_trace() {
    let (_held, state) = state();
    fs_err::create_dir_all(state.join("revisions/.new-abc")).unwrap();
    let revisions = Revisions::open(&state).unwrap();
    assert!(!state.join("revisions/.new-abc").exists());
    assert!(revisions.numbers().unwrap().is_empty());
    for path in ["", "/etc/passwd", "../x", "a/../../x", "manifest.json"] {
        let file = NewFile { path, content: b"", is_secret: false };
        assert!(revisions.save(manifest(1), &[file]).is_err(), "{path:?}");
    }
    assert_eq!(fs_err::read_dir(state.join("revisions")).unwrap().count(), 0);
    assert!(Revisions::read_only(&state.join("nowhere")).list().unwrap().is_empty());
}
