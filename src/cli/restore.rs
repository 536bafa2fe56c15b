//! `restore`: puts what a backup has in place. Everything is read and compared before anything is written.

use super::backup::{failure, named_files};
use super::lacking::lacking;
use super::output::{Failure, Output, Tone};
use crate::agent::{Ledger, Place, ledger_in_map};
use crate::config::{self, Config};
use crate::event::{Event, EventKind, Severity};
use crate::render;
use crate::store::archive::{
    BackupManifest, OutsideKind, PutBack, Restored, finish_restore, read_backup, restore_usage, what_is_there,
};
use crate::store::{Current, EventWriter, Revisions, USAGE, load_current, load_open_usage};
use crate::sys::lock::{Holding, Lock};
use crate::sys::{self, directory, files, space};
use crate::usage::Hour;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

/// A file of a few bytes takes as much of a disk.
const BLOCK: u64 = 4096;
/// Largest haproxy.cfg that is looked at, in bytes.
const MAX_CONFIG: u64 = 64 << 20;

/// What an archive has, as far as it is needed before anything is written.
struct Opened {
    file: File,
    manifest: BackupManifest,
    operators: String,
}

/// `hapilot restore FILE`
pub(super) async fn restore(place: &Place, options: &super::args::Restore, out: Output) -> Result<(), Failure> {
    let Opened { file, manifest, operators } = open(&options.file)?;
    let place = Place { file: absolute(&place.file), ..place.clone() };
    let state =
        config::peek(&operators, "node", "state").map_or_else(|| config::DEFAULT_STATE.into(), Utf8PathBuf::from);
    refuse_beside_an_agent(&place, &operators)?;
    directory::create_directory(&state, 0o750).map_err(Failure::refused)?;
    let lock = Lock::acquire(&state.join("lock")).map_err(|e| {
        Failure::refused(sys::chain(&e)).help("end the agent first: systemctl stop hapilot; HAProxy serves on")
    })?;
    let interrupted = finish_restore(&state).map_err(failure)?;
    if let (Some(restored), true) = (interrupted, is_restored(&place, &state, &manifest)) {
        out.note("the restore that was interrupted is whole now");
        return tell(&place, &manifest, &operators, &restored, out);
    }
    refuse_what_is_there(&place, &state, &manifest, options.force)?;
    let bytes: u64 = manifest.state.iter().map(|file| file.length + BLOCK).sum();
    let more: u64 = manifest.files.iter().map(|file| file.length + BLOCK).sum();
    space::writable(&state, bytes + more + (1 << 20)).map_err(Failure::refused)?;

    let mut put_back = PutBack::begin(&state).map_err(failure)?;
    let prepared = prepare(&mut put_back, &place, &state, &options.file, &file, &manifest, &operators);
    let (memory, stays) = match prepared {
        Ok(prepared) => prepared,
        Err(why) => {
            put_back.cancel();
            return Err(why.help("nothing was changed"));
        }
    };
    let restored = put_back.put(memory, &stays, Timestamp::now()).map_err(|(why, is_begun)| {
        let help = match is_begun {
            true => "not all of it is in place yet: mend that, then run the same command again",
            false => "nothing was changed",
        };
        failure(why).help(help)
    })?;
    let BackupManifest { node, created, .. } = &manifest;
    let text = format!("{} put the backup of node {node} of {created} in place", super::agent::actor());
    let event = Event::once(EventKind::Agent, Severity::Info, "agent", text).at(Timestamp::now());
    // The file has its owner already, as all that was put back.
    let _ = EventWriter::new(&state).append(&[event]);
    drop(lock);
    tell(&place, &manifest, &operators, &restored, out)
}

/// Reads the whole archive once.
fn open(path: &Utf8Path) -> Result<Opened, Failure> {
    let nonblock = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = File::options().read(true).custom_flags(nonblock).open(path);
    let file = file.map_err(|e| Failure::refused(format!("{path} cannot be read: {e}")))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(Failure::refused(format!("{path} is no file")));
    }
    let mut operators = None;
    let mut is_first = true;
    let manifest = read_backup(path, &file, |name, bytes| {
        // The operator's file comes first, or the manifest is none.
        if std::mem::take(&mut is_first) {
            operators = Some((name.to_owned(), bytes.to_vec()));
        }
        Ok(())
    });
    let manifest = manifest.map_err(failure)?;
    let operators = operators.filter(|(name, _)| *name == manifest.files[0].member).map(|(_, bytes)| bytes);
    let operators = operators.and_then(|bytes| String::from_utf8(bytes).ok());
    let none = || {
        Failure::refused(format!(
            "{path} cannot be restored: the operator's file does not stand first in it, or is no text"
        ))
    };
    Ok(Opened { file, manifest, operators: operators.ok_or_else(none)? })
}

fn absolute(path: &Utf8Path) -> Utf8PathBuf {
    let absolute = std::path::absolute(path).ok().and_then(|path| Utf8PathBuf::from_path_buf(path).ok());
    absolute.unwrap_or_else(|| path.to_owned())
}

/// An agent that serves the file that is there, or that listens where the new one will.
fn refuse_beside_an_agent(place: &Place, operators: &str) -> Result<(), Failure> {
    let socket = config::peek(operators, "api", "socket").unwrap_or_else(|| config::DEFAULT_SOCKET.to_owned());
    let answers = |socket: &str| std::os::unix::net::UnixStream::connect(socket).is_ok();
    let asked = place.agent_socket();
    let answering = [asked.as_str(), &socket]
        .into_iter()
        .find(|socket| answers(socket))
        .map(|socket| format!("it answers on {socket}"));
    let holding = || {
        let lock = place.state_directory().join("lock");
        Holding::of(&lock).map(|_| format!("it holds {lock}"))
    };
    match answering.or_else(holding) {
        Some(how) => Err(Failure::refused(format!("an agent runs on this node: {how}"))
            .help("end it first: systemctl stop hapilot; HAProxy serves on")),
        None => Ok(()),
    }
}

/// Whether the node has what the backup has.
fn is_restored(place: &Place, state: &Utf8Path, manifest: &BackupManifest) -> bool {
    let Current { serving, last_good, rolled_back_from: _ } = load_current(state).unwrap_or_default();
    place.digest() == Some(manifest.files[0].sha256) && (serving, last_good) == (manifest.serving, manifest.last_good)
}

/// Where a file of the backup goes.
fn target<'a>(place: &'a Place, file: &'a crate::store::archive::OutsideFile) -> &'a Utf8Path {
    match file.kind {
        OutsideKind::Operator => &place.file,
        _ => &file.path,
    }
}

fn refuse_what_is_there(
    place: &Place,
    state: &Utf8Path,
    manifest: &BackupManifest,
    force: bool,
) -> Result<(), Failure> {
    let is_other = |path: &Utf8Path, sha256: &crate::model::Digest| {
        let there = files::read_limited(path, crate::store::archive::MAX_MEMBER);
        path.symlink_metadata().is_ok() && !there.is_ok_and(|bytes| crate::model::Digest::of(bytes) == *sha256)
    };
    let files = manifest.files.iter().map(|file| (target(place, file), &file.sha256));
    let mut there: Vec<String> =
        files.filter(|(path, sha256)| is_other(path, sha256)).map(|(path, _)| path.to_string()).collect();
    there.extend(what_is_there(state).first().map(|_| format!("a history in {state}")));
    // A directory in the place of a file is nobody's to move.
    if let Some(wrong) = manifest.files.iter().map(|file| target(place, file)).find(|path| path.is_dir()) {
        return Err(Failure::refused(format!("{wrong} is a directory, and a file in the backup")));
    }
    match force || there.is_empty() {
        true => Ok(()),
        false => Err(Failure::refused(format!("this node is not empty: it has {}", there.join(", ")))
            .help("--force puts the backup in their place; they are kept beside, with the time in their names")
            .help("nothing was changed")),
    }
}

/// Writes everything beside, and looks whether an agent could go on from it. Answers what comes into the state directory, and
/// what of it stays.
fn prepare(
    put_back: &mut PutBack,
    place: &Place,
    state: &Utf8Path,
    path: &Utf8Path,
    file: &File,
    manifest: &BackupManifest,
    operators: &str,
) -> Result<(Vec<String>, Vec<&'static str>), Failure> {
    let outside: BTreeMap<&str, _> = manifest.files.iter().map(|file| (file.member.as_str(), file)).collect();
    let again = read_backup(path, file, |name, bytes| match (name.strip_prefix("state/"), outside.get(name)) {
        (Some(name), _) => put_back.add_state(name, bytes),
        (None, Some(file)) => put_back.add_file(name, target(place, file), file.mode, bytes),
        // The number of the form.
        (None, None) => Ok(()),
    });
    if again.map_err(failure)? != *manifest {
        return Err(Failure::refused(format!("{path} was changed while it was read")));
    }
    let memory = put_back.memory();
    let current = understood(&memory, manifest)?;
    let served = || {
        let mut revision = Revisions::read_only(&memory).load(current.serving?).ok()?;
        String::from_utf8(revision.files.remove("hapilot.toml")?).ok()
    };
    let config = match (place.parse(operators), served().map(|text| place.parse(&text))) {
        (Ok(config), _) | (Err(_), Some(Ok(config))) => config,
        (Err(mistakes), _) => {
            let refusal = crate::agent::Refusal::mistakes(mistakes);
            return Err(Failure::refused(refusal).help("this hapilot does not understand the file of the backup"));
        }
    };
    let named = named_files(&config);
    let is_named = |file: &&crate::store::archive::OutsideFile| named.iter().any(|(_, path)| *path == file.path);
    if let Some(file) = manifest.files.iter().skip(1).find(|file| !is_named(file)) {
        return Err(Failure::refused(format!("{path} has {}, which its operator's file does not name", file.path)));
    }
    let is_other_node = config.node.name.value.as_str() != manifest.node;
    let usage = restore_usage(
        &memory,
        state,
        ledger_in_map(&config),
        rand::random_range(1..u64::MAX),
        Hour::of(Timestamp::now()),
    );
    let usage = usage.map_err(failure)?;
    let has_own = load_open_usage(state).is_ok_and(|own| own.ledger != 0);
    let mine = |name: &&str| *name != USAGE && !(is_other_node && *name == "released.json");
    let comes = what_is_there(&memory).into_iter().filter(mine).map(str::to_owned).chain(usage);
    Ok((comes.collect(), if has_own { vec![USAGE] } else { vec![] }))
}

/// Whether this version understands the memory of the backup.
fn understood(memory: &Utf8Path, manifest: &BackupManifest) -> Result<Current, Failure> {
    if !memory.exists() {
        return Ok(Current::default());
    }
    let made_by = &manifest.hapilot;
    let strange = |why: String| {
        Failure::refused(format!(
            "the backup, of hapilot {made_by}, is not understood by {}: {why}",
            env!("CARGO_PKG_VERSION")
        ))
    };
    let ledger = Ledger::read_only(memory).map_err(|failed| strange(failed.to_string()))?;
    ledger.overrides().map_err(|failed| strange(failed.to_string()))?;
    let revisions = Revisions::read_only(memory);
    let numbers = revisions.numbers().map_err(failure)?;
    for number in &numbers {
        revisions.load(*number).map_err(|e| strange(sys::chain(&e)))?;
    }
    let current = load_current(memory).map_err(failure)?;
    match current.serving.into_iter().chain(current.last_good).find(|number| !numbers.contains(number)) {
        Some(missing) => Err(strange(format!("revision {missing} serves, and is not in it"))),
        None => Ok(current),
    }
}

/// Says what is in place, what is missing, and what to do next.
fn tell(
    place: &Place,
    manifest: &BackupManifest,
    operators: &str,
    restored: &Restored,
    out: Output,
) -> Result<(), Failure> {
    let config = place.parse(operators).ok();
    let missing = config.as_ref().map(lacking).unwrap_or_default();
    let notes = notes(place, manifest, config.as_ref());
    let BackupManifest { node, created, serving, last_good, revisions, .. } = manifest;
    if out.json {
        out.print_json(&serde_json::json!({
            "node": node, "created": created, "serving": serving, "last_good": last_good, "revisions": revisions,
            "files": restored.files, "kept": restored.kept, "lacking": missing, "notes": notes,
        }));
        return Ok(());
    }
    let at = created.strftime("%Y-%m-%dT%H:%M:%SZ");
    out.text(2, format_args!("{} the backup of node {node} of {at} is in place", out.paint(Tone::Good, "done")));
    restored.files.iter().for_each(|path| out.text(4, format_args!("  {path}")));
    restored.kept.iter().for_each(|path| out.text(4, format_args!("  what was there before: {path}")));
    if !missing.is_empty() {
        out.text(2, out.paint(Tone::Warn, "What no backup has, and this node lacks:"));
        missing.iter().for_each(|one| out.text(4, format_args!("  {}: {}; {}", one.what, one.whose, one.help)));
    }
    notes.iter().for_each(|note| out.remark(note));
    let start = super::agent::how_to_start(place);
    out.text(2, format_args!("Next: `{}`, then `{start}`.", place.command("check")));
    Ok(())
}

fn notes(place: &Place, manifest: &BackupManifest, config: Option<&Config>) -> Vec<String> {
    let mut notes = vec![];
    let Some(config) = config else {
        let serves = manifest.serving.map_or_else(|| "nothing".to_owned(), |serving| format!("revision {serving}"));
        notes.push(format!("{} has mistakes, as it had then: {serves} serves until they are mended", place.file));
        return notes;
    };
    let (own, theirs) = (&config.node.name.value, &manifest.node);
    if own.as_str() != theirs {
        notes.push(format!(
            "the backup is of node {theirs}, and this is {own}: which addresses {theirs} had released was left out; where this \
             is to be {theirs}, say so: --node {theirs}"
        ));
    }
    let live = directory::read_if_exists(&config.haproxy.config, MAX_CONFIG).ok().flatten();
    if live.is_some_and(|bytes| !render::inspect(&bytes).is_ours) {
        let path = &config.haproxy.config.value;
        notes.push(format!(
            "{path} is not hapilot's: `{}` keeps it beside and takes its place",
            place.command("apply --adopt")
        ));
    }
    if let (Some(serving), true) = (manifest.serving, manifest.serving != manifest.last_good) {
        let back = manifest.last_good.map_or_else(|| "the one before".to_owned(), |good| format!("revision {good}"));
        notes.push(format!(
            "revision {serving} was on trial, and nobody had confirmed it: {back} comes back when its time is over"
        ));
    }
    notes
}
