//! Archives as they should be, and as whoever means ill would make them.

use super::*;
use crate::store::{
    Current, How, Manifest, NewFile, RevisionOutcome, RevisionSource, Revisions, Standing, StoreError, load_current,
    save_current,
};
use camino::Utf8Path;
use std::fs::File;
use std::io::{Read, Write};

const TOML: &[u8] = b"[node]\nname = \"one\"\n";

fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
    let held = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(held.path()).unwrap().to_owned();
    (held, path)
}

/// One that was rolled back.
const CANARIES: &str = "{\"canaries\":{},\"rejected\":[{\"content\":\"a\",\
                        \"at\":{\"secs_since_epoch\":1796083200,\"nanos_since_epoch\":0},\"reason\":\"it failed\"}]}\n";

/// A state directory with three revisions.
fn state(dir: &Utf8Path) -> Utf8PathBuf {
    let state = dir.join("state");
    let revisions = Revisions::open(&state).unwrap();
    for revision in 1..=3 {
        let manifest = Manifest {
            revision,
            created: "2026-11-21T08:00:00Z".parse().unwrap(),
            actor: "ops".to_owned(),
            reason: "why".to_owned(),
            source: RevisionSource::Edit,
            outcome: Some(RevisionOutcome::Applied { how: How::Reload }),
            plan: vec![],
            files: vec![],
            tags: vec![format!("tag-{revision}")],
            standing: Standing::Confirmed,
        };
        let text = format!("revision {revision}\n").repeat(100);
        let file = |path, is_secret| NewFile { path, content: text.as_bytes(), is_secret };
        revisions
            .save(manifest, &[file("hapilot.toml", false), file("maps/a.map", false), file("maps/keys.map", true)])
            .unwrap();
    }
    save_current(&state, &Current { serving: Some(3), last_good: Some(3), rolled_back_from: None }).unwrap();
    fs_err::write(state.join("events.jsonl"), "{\"a\":1}\n{\"half").unwrap();
    fs_err::write(state.join("journal.json"), "{}").unwrap();
    fs_err::write(state.join("soak.json"), "null\n").unwrap();
    fs_err::write(state.join("canaries.json"), CANARIES).unwrap();
    state
}

fn head() -> BackupManifest {
    BackupManifest {
        form: FORM,
        hapilot: "1.2.3".to_owned(),
        node: "one".to_owned(),
        created: "2026-12-01T00:00:00Z".parse().unwrap(),
        serving: Some(3),
        last_good: Some(3),
        revisions: 0,
        files: vec![],
        state: vec![],
    }
}

fn archive(dir: &Utf8Path) -> (Utf8PathBuf, BackupManifest) {
    let path = dir.join("a.tar.zst");
    let state = state(dir);
    let mut packer = Packer::begin(File::create(&path).unwrap(), head()).unwrap();
    packer.add_file(OutsideKind::Operator, "/etc/hapilot/hapilot.toml".into(), 0o640, TOML).unwrap();
    packer.add_file(OutsideKind::Clients, "/etc/hapilot/.clients.toml".into(), 0o600, b"").unwrap();
    assert_eq!(collect(&state).unwrap().pack(&state, &mut packer).unwrap(), Vec::<String>::new());
    let (_, manifest) = packer.finish().unwrap();
    (path, manifest)
}

/// Name and content of each.
type Members = Vec<(String, Vec<u8>)>;

fn read(path: &Utf8Path) -> Result<(BackupManifest, Members), String> {
    let mut seen = vec![];
    let file = File::open(path).unwrap();
    let manifest = read_backup(path, &file, |name, bytes| {
        seen.push((name.to_owned(), bytes.to_vec()));
        Ok(())
    });
    manifest.map(|manifest| (manifest, seen)).map_err(|e| crate::sys::chain(&e))
}

/// The tar alone, as bytes.
fn unpacked(path: &Utf8Path) -> Vec<u8> {
    let mut bytes = vec![];
    zstd::Decoder::new(File::open(path).unwrap()).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn repacked(path: &Utf8Path, tar: &[u8]) {
    let packed = zstd::encode_all(tar, 1).unwrap();
    fs_err::write(path, packed).unwrap();
}

/// The members of an archive, to be changed and written again.
fn members(path: &Utf8Path) -> Members {
    let (manifest, mut all) = read(path).unwrap();
    all.insert(0, (FIRST.to_owned(), b"1\n".to_vec()));
    all.push((MANIFEST.to_owned(), serde_json::to_vec(&manifest).unwrap()));
    all
}

fn header(name: &str, length: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    // As it stands: what sets a path looks at it.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(length as u64);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header
}

fn write(path: &Utf8Path, members: &[(String, Vec<u8>)]) {
    let mut tar = tar::Builder::new(vec![]);
    for (name, bytes) in members {
        tar.append(&header(name, bytes.len()), &bytes[..]).unwrap();
    }
    repacked(path, &tar.into_inner().unwrap());
}

#[test]
fn what_is_packed_comes_back_and_nothing_of_it_is_a_secret() {
    let (_held, dir) = directory();
    let (path, manifest) = archive(&dir);
    let (found, members) = read(&path).unwrap();
    assert_eq!((&found, found.revisions, found.files.len()), (&manifest, 3, 2));
    assert_eq!(found.files[1].path, "/etc/hapilot/.clients.toml");
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"state/revisions/000002/maps/a.map") && names.contains(&"state/current.json"), "{names:?}");
    let is_left_out = |name: &&str| ["keys", "journal", "soak"].iter().any(|word| name.contains(word));
    assert!(!names.iter().any(is_left_out), "{names:?}");
    let canaries = members.iter().find(|(name, _)| name == "state/canaries.json").unwrap();
    assert_eq!(canaries.1, CANARIES.as_bytes());
    let events = members.iter().find(|(name, _)| name == "state/events.jsonl").unwrap();
    assert_eq!(events.1, b"{\"a\":1}\n", "half a line is none");
}

#[test]
fn a_known_secret_stays_here() {
    let (_held, dir) = directory();
    let state = state(&dir);
    crate::sys::redact::learn("archive-secret-4711");
    let pack = || {
        let mut packer = Packer::begin(vec![], head()).unwrap();
        let left_out = collect(&state).unwrap().pack(&state, &mut packer)?;
        let (bytes, manifest) = packer.finish()?;
        Ok::<_, StoreError>((bytes, manifest, left_out))
    };
    let spoil = |revision: u32| {
        let revisions = Revisions::read_only(&state);
        let mut manifest = revisions.load(revision).unwrap().manifest;
        fs_err::remove_dir_all(state.join(format!("revisions/{revision:06}"))).unwrap();
        manifest.files.clear();
        let file = NewFile { path: "hapilot.toml", content: b"# archive-secret-4711\n", is_secret: false };
        revisions.save(manifest, &[file]).unwrap();
    };
    spoil(1);
    let (bytes, manifest, left_out) = pack().unwrap();
    assert_eq!((manifest.revisions, left_out.len()), (2, 1), "{left_out:?}");
    let tar = zstd::decode_all(&bytes[..]).unwrap();
    assert!(!String::from_utf8_lossy(&tar).contains("archive-secret-4711"));
    spoil(3);
    let refused = pack().err().map(|e| crate::sys::chain(&e)).unwrap();
    assert!(refused.contains("revision 3") && refused.contains("secret") && !refused.contains("4711"), "{refused}");
}

#[test]
fn every_flipped_byte_and_every_cut_is_found() {
    let (_held, dir) = directory();
    let (path, manifest) = archive(&dir);
    let whole = fs_err::read(&path).unwrap();
    let before = read(&path).unwrap().1;
    let mut harmless = 0;
    for at in 0..whole.len() {
        for bit in [0, 3, 7] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            fs_err::write(&path, &bytes).unwrap();
            // What says how much memory is needed may say more.
            if let Ok((found, members)) = read(&path) {
                assert_eq!((found, &members), (manifest.clone(), &before), "byte {at}, bit {bit}");
                harmless += 1;
            }
        }
        fs_err::write(&path, &whole[..at]).unwrap();
        assert!(read(&path).is_err(), "cut at {at}");
    }
    assert!(harmless < 20, "{harmless} of {}", whole.len() * 3);
    for more in [&b"\0"[..], b"more", &whole] {
        fs_err::write(&path, [&whole[..], more].concat()).unwrap();
        assert!(read(&path).unwrap_err().contains("behind its end"));
    }
}

#[test]
fn every_flipped_byte_below_the_compression_is_found() {
    let (_held, dir) = directory();
    let (path, manifest) = archive(&dir);
    let (whole, before) = (unpacked(&path), read(&path).unwrap().1);
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        repacked(&path, &bytes);
        if let Ok((found, members)) = read(&path) {
            // Of the manifest itself nobody has a digest but the compression: it may call the node otherwise.
            assert_eq!((&members, found.state.len()), (&before, manifest.state.len()), "byte {at}");
        }
        if at % 4 == 0 {
            repacked(&path, &whole[..at]);
            assert!(read(&path).is_err(), "cut at {at}");
        }
    }
}

#[test]
fn members_that_are_swapped_added_doubled_or_missing_are_found() {
    let (_held, dir) = directory();
    let (path, _) = archive(&dir);
    let whole = members(&path);
    let at = |name: &str| whole.iter().position(|(known, _)| known == name).unwrap();
    let (one, two) = (at("state/revisions/000001/hapilot.toml"), at("state/revisions/000002/hapilot.toml"));
    let said = |members: &[(String, Vec<u8>)]| {
        write(&path, members);
        read(&path).unwrap_err()
    };
    write(&path, &whole);
    read(&path).unwrap();
    let mut swapped = whole.clone();
    (swapped[one].1, swapped[two].1) = (whole[two].1.clone(), whole[one].1.clone());
    assert!(said(&swapped).contains("is not what its manifest says"));
    let mut more = whole.clone();
    more.insert(3, ("state/revisions/000009/hapilot.toml".to_owned(), b"x".to_vec()));
    assert!(said(&more).contains("is not in its manifest"));
    let mut double = whole.clone();
    double.insert(3, whole[one].clone());
    assert!(said(&double).contains("twice"));
    for at in 0..whole.len() {
        let mut less = whole.clone();
        less.remove(at);
        said(&less);
    }
    let mut behind = whole.clone();
    behind.push(whole[one].clone());
    assert!(said(&behind).contains("behind its manifest"));
    let mut other = whole;
    other[0].1 = b"2\n".to_vec();
    let newer = said(&other);
    assert!(newer.contains("form 2") && newer.contains("newer hapilot"), "{newer}");
    other[0].0 = "something".to_owned();
    assert!(said(&other).contains("no backup of hapilot"));
}

#[test]
fn names_that_lead_elsewhere_are_refused_before_anything_is_taken() {
    let (_held, dir) = directory();
    let (path, manifest) = archive(&dir);
    let whole = members(&path);
    for name in [
        "../x",
        "/etc/passwd",
        "state/../../x",
        "state/./x",
        "state//x",
        "state/.hidden",
        "state/revisions/000001/../../../x",
        "state\\x",
        "state/a b",
        "state/\u{e9}",
        "",
    ] {
        let mut evil = whole.clone();
        evil.insert(1, (name.to_owned(), b"x".to_vec()));
        write(&path, &evil);
        let mut taken = vec![];
        let file = File::open(&path).unwrap();
        let refused = read_backup(&path, &file, |name, _| {
            taken.push(name.to_owned());
            Ok(())
        });
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{name:?}: {refused:?}");
        assert_eq!(taken, Vec::<String>::new(), "{name:?}");
    }
    // What is plain, and no file of a backup.
    for name in [
        "lock",
        "journal.json",
        "usage/a/b.json",
        "revisions/000001",
        "revisions/x/hapilot.toml",
        "git/HEAD",
        "probes.json",
    ] {
        let mut manifest = manifest.clone();
        manifest.state.push(StateFile { path: name.to_owned(), length: 1, sha256: Digest::of(b"x") });
        let mut evil = whole.clone();
        let last = evil.len() - 1;
        evil[last].1 = serde_json::to_vec(&manifest).unwrap();
        evil.insert(last, (format!("state/{name}"), b"x".to_vec()));
        write(&path, &evil);
        assert!(read(&path).unwrap_err().contains("no file of a state directory"), "{name}");
    }
    for place in ["etc/hapilot.toml", "/etc/../x", "/", "", "/etc/a\nb"] {
        let mut manifest = manifest.clone();
        manifest.files[1].path = place.into();
        let mut evil = whole.clone();
        let last = evil.len() - 1;
        evil[last].1 = serde_json::to_vec(&manifest).unwrap();
        write(&path, &evil);
        assert!(read(&path).unwrap_err().contains("no place of a file"), "{place:?}");
    }
}

#[test]
fn links_devices_and_extensions_are_refused() {
    let (_held, dir) = directory();
    let (path, _) = archive(&dir);
    let whole = members(&path);
    for (kind, told) in [
        (tar::EntryType::Symlink, "symbolic link"),
        (tar::EntryType::Link, "hard link"),
        (tar::EntryType::Char, "device"),
        (tar::EntryType::Block, "device"),
        (tar::EntryType::Fifo, "pipe"),
        (tar::EntryType::Directory, "directory"),
        (tar::EntryType::GNULongName, "extension"),
        (tar::EntryType::GNUSparse, "extension"),
        (tar::EntryType::XHeader, "extension"),
        (tar::EntryType::XGlobalHeader, "extension"),
    ] {
        let mut tar = tar::Builder::new(vec![]);
        for (at, (name, bytes)) in whole.iter().enumerate() {
            if at == 2 {
                let mut header = header("state/current.json", 0);
                header.set_entry_type(kind);
                header.set_link_name("/etc/shadow").unwrap();
                header.set_cksum();
                tar.append(&header, &b""[..]).unwrap();
            }
            tar.append(&header(name, bytes.len()), &bytes[..]).unwrap();
        }
        repacked(&path, &tar.into_inner().unwrap());
        let refused = read(&path).unwrap_err();
        assert!(refused.contains(told), "{kind:?}: {refused}");
    }
}

#[test]
fn what_blows_up_is_refused_within_its_limits() {
    let (_held, dir) = directory();
    let path = dir.join("bomb.tar.zst");
    // A member that says that it is larger than any.
    let mut tar = tar::Builder::new(vec![]);
    tar.append(&header(FIRST, 2), &b"1\n"[..]).unwrap();
    let mut large = header("state/current.json", 0);
    large.set_size(MAX_MEMBER + 1);
    large.set_cksum();
    tar.append(&large, &b""[..]).unwrap();
    repacked(&path, &tar.into_inner().unwrap());
    assert!(read(&path).unwrap_err().contains("may have"));
    // Much of nothing in a few kilobytes: more than all files together may have.
    let mut encoder = zstd::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
    let mut tar = tar::Builder::new(&mut encoder);
    tar.append(&header(FIRST, 2), &b"1\n"[..]).unwrap();
    let zeros = vec![0; 1 << 20];
    for number in 0..20 {
        let name = format!("state/usage/{number}.json");
        tar.append(&header(&name, zeros.len()), &zeros[..]).unwrap();
    }
    tar.finish().unwrap();
    drop(tar);
    encoder.write_all(&zeros).unwrap();
    encoder.finish().unwrap();
    assert!(fs_err::metadata(&path).unwrap().len() < 64 << 10);
    let file = File::open(&path).unwrap();
    let refused = unpack::read_within(16 << 20, &path, &file, |_, _| Ok(())).unwrap_err();
    assert!(crate::sys::chain(&refused).contains("more than the 8 GiB"), "{refused:?}");
    // A window that would take more memory than any backup needs.
    let mut encoder = zstd::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
    encoder.window_log(30).unwrap();
    encoder.write_all(&zeros).unwrap();
    encoder.finish().unwrap();
    assert!(read(&path).is_err());
    for (bytes, _) in [(&b""[..], ()), (b"PK\x03\x04", ()), (b"not an archive at all", ())] {
        fs_err::write(&path, bytes).unwrap();
        assert!(read(&path).unwrap_err().contains("no backup of hapilot") || bytes.is_empty());
        assert!(read(&path).is_err());
    }
}

#[test]
fn a_revision_that_is_written_meanwhile_is_whole_or_not_there() {
    let (_held, dir) = directory();
    let state = state(&dir);
    let stop = std::sync::atomic::AtomicBool::new(false);
    struct Stop<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let revisions = Revisions::open(&state).unwrap();
            let first = revisions.manifest(1).unwrap();
            for revision in 4.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let manifest = Manifest { revision, files: vec![], tags: vec![], ..first.clone() };
                let file = NewFile { path: "hapilot.toml", content: b"new", is_secret: false };
                revisions.save(manifest, &[file]).unwrap();
                let current = Current { serving: Some(revision), last_good: Some(revision), rolled_back_from: None };
                save_current(&state, &current).unwrap();
                revisions.retain(2, &[revision]).unwrap();
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..30 {
            let mut packer = Packer::begin(vec![], head()).unwrap();
            let collected = collect(&state).unwrap();
            let serving = collected.current.serving.unwrap();
            let packed = collected.pack(&state, &mut packer);
            // Only where the one that served was forgotten before it was read.
            if packed.is_err() {
                continue;
            }
            let (bytes, manifest) = packer.finish().unwrap();
            let path = dir.join("b.tar.zst");
            fs_err::write(&path, bytes).unwrap();
            let (_, members) = read_without_operators(&path, manifest);
            let served = format!("state/revisions/{serving:06}/hapilot.toml");
            assert!(members.iter().any(|(name, _)| *name == served), "{serving}");
        }
    });
}

/// Of an archive that has the state alone.
fn read_without_operators(path: &Utf8Path, manifest: BackupManifest) -> (BackupManifest, Members) {
    let mut seen = vec![];
    let file = File::open(path).unwrap();
    let refused = read_backup(path, &file, |name, bytes| {
        seen.push((name.to_owned(), bytes.to_vec()));
        Ok(())
    });
    let refused = crate::sys::chain(&refused.unwrap_err());
    assert!(refused.contains("no operator's file"), "{refused}");
    (manifest, seen)
}

#[test]
#[cfg(debug_assertions)]
fn a_restore_that_dies_at_any_point_leaves_nothing_or_the_whole() {
    use crate::sys::fault::{Fault, watch};
    let old_toml = b"old\n";
    let (mut nothing, mut whole) = (0, 0);
    for has_old in [false, true] {
        for at in 1.. {
            let (_held, dir) = directory();
            let (path, manifest) = archive(&dir);
            let (state, toml, clients) = (dir.join("new"), dir.join("etc/hapilot.toml"), dir.join("etc/clients.toml"));
            fs_err::create_dir_all(&state).unwrap();
            if has_old {
                fs_err::create_dir_all(dir.join("etc")).unwrap();
                fs_err::write(&toml, old_toml).unwrap();
                fs_err::write(&clients, "old clients").unwrap();
                save_current(&state, &Current { serving: Some(77), ..Current::default() }).unwrap();
                fs_err::write(state.join("journal.json"), "old").unwrap();
            }
            let put = || {
                let mut put_back = PutBack::begin(&state).unwrap();
                let file = File::open(&path).unwrap();
                read_backup(&path, &file, |name, bytes| match name.strip_prefix(STATE) {
                    Some(name) => put_back.add_state(name, bytes),
                    None if name == manifest.files[0].member => put_back.add_file(name, &toml, 0o640, bytes),
                    None if name == manifest.files[1].member => put_back.add_file(name, &clients, 0o640, bytes),
                    None => Ok(()),
                })
                .unwrap();
                let memory = what_is_there(&put_back.memory()).into_iter().map(str::to_owned).collect();
                put_back.put(memory, &[], "2026-12-01T00:00:00Z".parse().unwrap()).unwrap();
            };
            let mut passed = 0;
            assert!(at < 500, "it never ends");
            let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                watch(Some(Box::new(move |_, _| {
                    passed += 1;
                    // A death, for whoever catches it.
                    if passed == at {
                        std::panic::resume_unwind(Box::new("dead"));
                    }
                    None::<Fault>
                })));
                put();
            }));
            watch(None);
            let is_dead = died.is_err();
            finish_restore(&state).unwrap();
            let serving = load_current(&state).unwrap().serving;
            let is_whole = fs_err::read(&toml).is_ok_and(|bytes| bytes == TOML);
            if is_whole {
                whole += 1;
                assert_eq!(serving, Some(3), "point {at}");
                assert_eq!(Revisions::read_only(&state).load(2).unwrap().manifest.tags, ["tag-2"]);
                assert_eq!(fs_err::read(&clients).unwrap(), b"");
                assert!(!state.join("journal.json").exists());
                let kept = state.join("before-restore-20261201T000000Z");
                assert_eq!(kept.join("current.json").exists(), has_old, "point {at}");
                assert_eq!(dir.join("etc/hapilot.toml.before-restore-20261201T000000Z").exists(), has_old);
            } else {
                nothing += 1;
                assert_eq!(serving, has_old.then_some(77), "point {at}");
                assert_eq!(fs_err::read(&toml).ok().as_deref(), has_old.then_some(&old_toml[..]), "point {at}");
                assert!(!state.join("revisions").exists(), "point {at}");
                assert_eq!(
                    fs_err::read_to_string(&clients).unwrap_or_default(),
                    if has_old { "old clients" } else { "" }
                );
            }
            for left in [".restore-new", "restore"] {
                assert!(!state.join(left).exists(), "{left} after a death at {at}");
            }
            if !is_dead {
                break;
            }
        }
    }
    assert!(nothing > 20 && whole > 20, "{nothing} {whole}");
}

#[test]
#[cfg(debug_assertions)]
fn a_full_disk_leaves_everything_as_it_was() {
    use crate::sys::fault::{Fault, watch};
    let mut refused = 0;
    for at in 1.. {
        let (_held, dir) = directory();
        let (path, manifest) = archive(&dir);
        let (state, toml) = (dir.join("new"), dir.join("etc/hapilot.toml"));
        fs_err::create_dir_all(&state).unwrap();
        assert!(at < 500, "it never ends");
        let put = || {
            let mut put_back = PutBack::begin(&state).map_err(|e| (e, false))?;
            let file = File::open(&path).unwrap();
            let staged = read_backup(&path, &file, |name, bytes| match name.strip_prefix(STATE) {
                Some(name) => put_back.add_state(name, bytes),
                None if name == manifest.files[0].member => put_back.add_file(name, &toml, 0o640, bytes),
                None => Ok(()),
            });
            if let Err(e) = staged {
                put_back.cancel();
                return Err((e, false));
            }
            let memory = what_is_there(&put_back.memory()).into_iter().map(str::to_owned).collect();
            put_back.put(memory, &[], "2026-12-01T00:00:00Z".parse().unwrap())
        };
        let mut passed = 0;
        watch(Some(Box::new(move |point, _| {
            passed += 1;
            (passed == at && point != "backup.read").then_some(Fault::Errno(nix::errno::Errno::ENOSPC as i32))
        })));
        let result = put();
        watch(None);
        let ended = finish_restore(&state).unwrap();
        match result {
            Ok(_) => {
                assert_eq!(load_current(&state).unwrap().serving, Some(3));
                if refused > 20 {
                    break;
                }
            }
            Err((_, is_begun)) => {
                refused += 1;
                assert_eq!((toml.exists(), ended.is_some()), (is_begun, is_begun), "point {at}");
                assert_eq!(load_current(&state).unwrap().serving, is_begun.then_some(3), "point {at}");
            }
        }
    }
}
