//! `backup`: what an empty node needs to serve what this one serves, in one file. Works beside a running agent.

use super::output::{Failure, Output, Tone, counted};
use crate::agent::{Place, Refusal, SecretUse};
use crate::config::{self, Config};
use crate::model::{Name, TrustKind};
use crate::store::archive::{BackupManifest, FORM, OutsideKind, Packer, collect, read_backup};
use crate::store::{Revisions, StoreError};
use crate::sys::{self, directory, files, redact};
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;

/// Largest file of the operator's, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// How the file is called while it is being written.
const STAGED: &str = ".hapilot-backup-";
/// How zstd begins.
const BEGINS_WITH: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// `hapilot backup FILE`
pub(super) fn backup(place: &Place, options: &super::args::Backup, out: Output) -> Result<(), Failure> {
    let target = &options.file;
    if target == "-" {
        if out.json {
            return Err(Failure::usage("--json has no place beside a backup on standard output"));
        }
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage("a backup is no text for a terminal").help("hapilot backup - | ssh …"));
        }
        let (_, _, left_out) = write(place, std::io::stdout().lock())?;
        left_out.iter().for_each(|line| out.note(format_args!("warning: {line}")));
        return Ok(());
    }
    if target.exists() && !target.is_file() {
        return Err(Failure::refused(format!("{target} is there and is no file")));
    }
    refuse_other_files(target)?;
    let unwritten = |e: std::io::Error| Failure::refused(Refusal::new(format!("{target} cannot be written: {e}")));
    let parent = files::directory_of(target);
    let mut builder = tempfile::Builder::new();
    builder.prefix(STAGED).permissions(std::fs::Permissions::from_mode(0o600));
    let staged = builder.tempfile_in(&parent).map_err(unwritten)?;
    let (_, manifest, left_out) = write(place, staged.as_file())?;
    // A backup that cannot be read is none.
    read_backup(target, staged.as_file(), |_, _| Ok(())).map_err(failure)?;
    staged.as_file().sync_all().map_err(unwritten)?;
    let bytes = staged.as_file().metadata().map_err(unwritten)?.len();
    sys::fault::pass_path("backup.rename", target).map_err(unwritten)?;
    staged.persist(target).map_err(|e| unwritten(e.error))?;
    files::sync_directory(&parent).map_err(unwritten)?;
    tell(target, &manifest, bytes, &left_out, out);
    Ok(())
}

/// `backup hapilot.toml` reads as if it would keep that file, and would be its end.
fn refuse_other_files(target: &Utf8Path) -> Result<(), Failure> {
    let Ok(file) = fs_err::File::open(target) else { return Ok(()) };
    let mut begin = vec![];
    file.take(BEGINS_WITH.len() as u64).read_to_end(&mut begin).map_err(|e| Failure::refused(e.to_string()))?;
    if begin.is_empty() || begin == BEGINS_WITH {
        return Ok(());
    }
    let what = Refusal::new(format_args!("{target} is there, and is no backup"));
    Err(Failure::refused(
        what.help("FILE is where the backup goes, such as /var/backups/lb1.tar.zst").nothing_changed(),
    ))
}

fn tell(target: &Utf8Path, manifest: &BackupManifest, bytes: u64, left_out: &[String], out: Output) {
    let BackupManifest { form: _, hapilot: _, node, created, serving, last_good, revisions, files, state: _ } =
        manifest;
    if out.json {
        let files: Vec<_> = files.iter().map(|file| &file.path).collect();
        out.print_json(&serde_json::json!({
            "file": target, "bytes": bytes, "node": node, "created": created, "serving": serving, "last_good": last_good,
            "revisions": revisions, "files": files, "left_out": left_out,
        }));
        return;
    }
    left_out.iter().for_each(|line| out.note(format_args!("warning: {line}")));
    let serves =
        serving.map_or_else(|| "nothing serves yet".to_owned(), |serving| format!("revision {serving} serves"));
    let done = out.paint(Tone::Good, "done");
    let size = bytes.div_ceil(1024);
    out.text(
        2,
        format_args!("{done} {target} ({size} KiB): node {node}, {serves}, {}", counted(*revisions, "revision")),
    );
    for file in files {
        out.text(4, format_args!("  {} {}", file.kind.words(), file.path));
    }
    out.text(2, "No key and no other secret is in it; keep those elsewhere.");
}

/// Writes the whole archive. Answers what was left out, and why.
fn write<W: Write>(place: &Place, out: W) -> Result<(W, BackupManifest, Vec<String>), Failure> {
    // What this process may read of the secrets is what must not be in it.
    drop(place.using(SecretUse::Compared).load());
    let unread =
        |e: std::io::Error| Failure::refused(Refusal::new(e)).help("-c FILE, or HAPILOT_CONFIG, names the file");
    let file = std::path::absolute(&place.file).ok().and_then(|path| Utf8PathBuf::from_path_buf(path).ok());
    let file = file.unwrap_or_else(|| place.file.clone());
    let operators = files::read_limited(&file, MAX_FILE).map_err(unread)?;
    let text = String::from_utf8_lossy(&operators).into_owned();
    let state = place.state_directory();
    let collected = collect(&state).map_err(failure)?;
    let served = collected.current.serving.and_then(|serving| {
        let mut revision = Revisions::read_only(&state).load(serving).ok()?;
        String::from_utf8(revision.files.remove("hapilot.toml")?).ok()
    });
    let configs: Vec<Config> =
        [Some(&text), served.as_ref()].into_iter().flatten().filter_map(|text| place.parse(text).ok()).collect();
    let node = configs.first().map(|config| config.node.name.value.clone()).or_else(|| place.node.clone());
    let mut left_out = vec![];
    if redact::has_secret(&text) {
        let what = format!("{file} has the value of a secret in it, and no backup may");
        return Err(Failure::refused(what).help("put the value into a file of its own, and name that: \"file:/path\""));
    }
    if config::masked(&text) != text {
        left_out.push(format!("{file} has something that looks like a key, in a comment perhaps: it is in the backup"));
    }
    let head = BackupManifest {
        form: FORM,
        hapilot: env!("CARGO_PKG_VERSION").to_owned(),
        node: node.as_ref().map_or_else(|| sys::host_name().unwrap_or_default(), Name::to_string),
        created: Timestamp::now(),
        serving: collected.current.serving,
        last_good: collected.current.last_good,
        revisions: 0,
        files: vec![],
        state: vec![],
    };
    let mut archive = Packer::begin(out, head).map_err(failure)?;
    archive.add_file(OutsideKind::Operator, &file, mode_of(&file), &operators).map_err(failure)?;
    let mut named: Vec<_> = configs.iter().flat_map(named_files).collect();
    named.sort();
    named.dedup_by(|one, other| one.1 == other.1);
    for (kind, path) in named {
        match readable(&path) {
            Ok(bytes) => archive.add_file(kind, &path, mode_of(&path), &bytes).map_err(failure)?,
            Err(why) => left_out.push(format!("{path} is not in the backup: {why}")),
        }
    }
    left_out.extend(collected.pack(&state, &mut archive).map_err(failure)?);
    let (out, manifest) = archive.finish().map_err(failure)?;
    Ok((out, manifest, left_out))
}

/// Files that the operator's file names and that hold no secret.
pub(super) fn named_files(config: &Config) -> Vec<(OutsideKind, Utf8PathBuf)> {
    let clients = config.clients_file.iter().map(|path| (OutsideKind::Clients, path));
    let template = config.haproxy.template.iter().map(|path| (OutsideKind::Template, path));
    let trusts = config.frontends.iter().filter_map(|frontend| frontend.client_certificates.as_ref());
    let trusted = trusts.flat_map(|trust| trust.files()).map(|(kind, path)| match kind {
        TrustKind::Authorities => (OutsideKind::Authorities, path),
        TrustKind::Revoked => (OutsideKind::Revoked, path),
    });
    let of_servers = config.servers().filter_map(|(_, server)| server.tls.ca.as_ref());
    let of_servers = of_servers.map(|path| (OutsideKind::Authorities, path));
    let all = clients.chain(template).chain(trusted).chain(of_servers);
    all.map(|(kind, path)| (kind, path.value.clone())).collect()
}

fn readable(path: &Utf8Path) -> Result<Vec<u8>, String> {
    let read = directory::read_if_exists(path, MAX_FILE).map_err(|e| e.to_string())?;
    let bytes = read.ok_or_else(|| "there is none".to_owned())?;
    let text = String::from_utf8_lossy(&bytes);
    match text.contains("PRIVATE KEY-----") || redact::has_secret(&text) {
        true => Err("a secret is in it".to_owned()),
        false => Ok(bytes),
    }
}

fn mode_of(path: &Utf8Path) -> u32 {
    fs_err::metadata(path).map_or(0o640, |metadata| metadata.permissions().mode() & 0o777)
}

pub(super) fn failure(error: StoreError) -> Failure {
    Failure::refused(sys::chain(&error))
}
