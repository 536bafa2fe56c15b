//! `client add|list|revoke|rotate`: clients have keys of their own, of which the file `clients` keeps the digests. A key
//! is printed once, when it is made, and stands nowhere.

use super::agent::{agent, how_to_start};
use super::args::ClientCommand;
use super::client_file::{ClientFile, KnownBy, new_key};
use super::client_list;
use super::output::{Failure, Output, Tone};
use super::target;
use crate::agent::{Place, Refusal, SecretUse, Sources};
use crate::config::Clients;
use crate::config::{Client, parse_clients};
use crate::haproxy::certificate_digest;
use crate::model::{Digest, Name, Sourced};
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::Serialize;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// Largest file of clients, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// A client is known, or gone, within this time, or something is wrong.
const LIVE: Duration = Duration::from_secs(10);
/// Between two looks at whether it is.
const LOOK: Duration = Duration::from_millis(50);
/// So many names are told.
const MAX_NAMES: usize = 8;

/// `hapilot client …`
pub(super) async fn client(place: &Place, command: &ClientCommand, out: Output) -> Result<(), Failure> {
    let sources = match (target::load(&place.using(SecretUse::Nothing)), command) {
        (Ok(sources), _) => sources,
        // What leaks cannot wait for a mistake elsewhere.
        (Err(failure), ClientCommand::Revoke { name }) => return revoke_all_the_same(place, name, failure, out).await,
        (Err(failure), _) => return Err(failure.help("no client was changed")),
    };
    match command {
        ClientCommand::Add { name, plan, certificate } => {
            add(place, &sources, (name, plan), certificate.as_deref(), out).await
        }
        ClientCommand::List => client_list::list(place, &sources, out).await,
        ClientCommand::Revoke { name } => revoke(place, &sources, name, out).await,
        ClientCommand::Forgive { name } => forgive(place, &sources, name, out).await,
        ClientCommand::Rotate { name, keep, force } => rotate(place, &sources, name, (*keep, *force), out).await,
    }
}

/// `--json` of `client add` and `client rotate`. The only place where a key is ever shown.
#[derive(Serialize)]
struct Made<'a> {
    client: &'a Name,
    plan: &'a Name,
    /// Missing where a certificate stands for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_sha256: Option<String>,
    old_key_until: Option<String>,
    is_live: bool,
}

async fn add(
    place: &Place,
    sources: &Sources,
    (name, plan): (&Name, &Name),
    certificate: Option<&Utf8Path>,
    out: Output,
) -> Result<(), Failure> {
    if !sources.config.has_plan(plan) {
        return Err(unknown_plan(place, sources, plan));
    }
    if let Some(known) = sources.clients.iter().find(|client| client.name.value == *name) {
        let help = format!("a new key for it: `{}`", place.command(&format!("client rotate {name}")));
        return Err(
            Failure::refused(format!("there is a client {name} already, with plan {}", known.plan.value)).help(help)
        );
    }
    let key = certificate.is_none().then(new_key);
    let (known_by, digest) = match (&key, certificate) {
        (Some(key), _) => (KnownBy::Key, Digest::of(key)),
        (None, file) => (KnownBy::Certificate, fingerprint(sources, file.unwrap_or(Utf8Path::new("")))?),
    };
    let section = format!("[client.{name}]\nplan = \"{plan}\"\n{} = \"{digest}\"", known_by.toml_key());
    let Some(path) = &sources.config.clients_file else {
        let help =
            format!("name a file for them at the top of {}: clients = \"/etc/hapilot/clients.toml\"", place.file);
        return Err(Failure::refused("the operator's file names no file for clients").help(help));
    };
    change(sources, path, |file| file.add(name, plan, known_by, &digest), &section)?;
    let live = live(place, sources, path).await;
    let is_live = live == Live::Yes;
    let of = |wanted| (known_by == wanted).then(|| digest.to_string());
    let (key_sha256, certificate_sha256) = (of(KnownBy::Key), of(KnownBy::Certificate));
    let made =
        Made { client: name, plan, key: key.as_deref(), key_sha256, certificate_sha256, old_key_until: None, is_live };
    tell(place, &made, path, live, &out);
    tell_of_peers(sources, path, &out);
    live.end()
}

/// Of the first certificate in a file.
fn fingerprint(sources: &Sources, file: &Utf8Path) -> Result<Digest, Failure> {
    if !sources.config.frontends.iter().any(|frontend| frontend.client_certificates.is_some() && !frontend.open) {
        let help =
            "give one `client_certificates = { ca = [\"/path/to/their-ca.pem\"] }`; docs/certificates.md says more";
        return Err(Failure::refused("no frontend asks its clients for certificates").help(help));
    }
    certificate_digest(file).map_err(|e| Failure::refused(format!("{file}: {e}")))
}

async fn rotate(
    place: &Place,
    sources: &Sources,
    name: &Name,
    (keep, force): (Duration, bool),
    out: Output,
) -> Result<(), Failure> {
    let (client, path) = of_file(place, sources, name)?;
    if client.key.is_none() {
        let what = format!("client {name} has no key: it is known by its certificate");
        let help = format!(
            "write the new one's SHA-256 beside the old one's in {}: certificate_sha256 = [\"…\", \"…\"]",
            path.value
        );
        return Err(Failure::refused(what).help(help));
    }
    if let Some((_, until)) = client.old_key.as_ref().filter(|(_, until)| !force && *until > Timestamp::now()) {
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ");
        let what = format!(
            "the key before the last one is good until {until}, and a client has two keys at most: it would end now"
        );
        return Err(Failure::refused(what).help("wait until then, or add --force"));
    }
    let key = new_key();
    let digest = Digest::of(&key);
    let until = (!keep.is_zero()).then(|| Timestamp::now() + keep);
    change(sources, path, |file| file.rotate(client, &digest, until), "")?;
    let live = live(place, sources, path).await;
    let is_live = live == Live::Yes;
    let until = until.map(|until| until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let (plan, key, key_sha256) = (&client.plan.value, Some(key.as_str()), Some(digest.to_string()));
    let made = Made { client: name, plan, key, key_sha256, certificate_sha256: None, old_key_until: until, is_live };
    tell(place, &made, path, live, &out);
    tell_of_peers(sources, path, &out);
    live.end()
}

async fn forgive(place: &Place, sources: &Sources, name: &Name, out: Output) -> Result<(), Failure> {
    let (client, path) = of_file(place, sources, name)?;
    let plan = &client.plan.value;
    if !sources.config.plans.iter().any(|known| known.name.value == *plan && known.budget.is_some()) {
        return Err(Failure::refused(format!(
            "client {name} has no budget (plan {plan}): there is nothing to forgive"
        )));
    }
    change(sources, path, |file| file.forgive(name, Timestamp::now()), "")?;
    let live = live(place, sources, path).await;
    tell_of_peers(sources, path, &out);
    if out.json {
        out.print_json(&serde_json::json!({ "client": name, "is_live": live == Live::Yes }));
    } else {
        out.text(0, format_args!("What client {name} has spent counts no more; its budget begins anew."));
        if live != Live::Yes {
            not_live(place, live, &out);
        }
    }
    live.end()
}

async fn revoke(place: &Place, sources: &Sources, name: &Name, out: Output) -> Result<(), Failure> {
    let (client, path) = of_file(place, sources, name)?;
    change(sources, path, |file| file.remove(&client.name.value), "")?;
    let live = live(place, sources, path).await;
    tell_of_peers(sources, path, &out);
    tell_gone(place, name, path, live, &out)
}

/// The same where the operator's file has mistakes, as far as it tells where the clients are.
async fn revoke_all_the_same(place: &Place, name: &Name, failure: Failure, out: Output) -> Result<(), Failure> {
    let told = crate::config::peek(&place.glance(), "", "clients").map(Utf8PathBuf::from);
    let Some(path) = told else { return Err(failure.help("no client was changed")) };
    let before = digest_now(place).await;
    let _lock = lock(&path);
    let text = sys::files::read_limited(&path, MAX_FILE).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let file = text.and_then(|text| ClientFile::parse(&text).ok());
    let Some(mut file) = file else { return Err(failure.help("no client was changed")) };
    if file.remove(name).is_none() {
        return Err(failure.help(format!("no client was changed: {path} has no [client.{name}]")));
    }
    write(&path, &file, || true)?;
    let until = Instant::now() + LIVE;
    let mut live = if before.is_some() { Live::NotYet } else { Live::NoAgent };
    while live == Live::NotYet && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        if digest_now(place).await != before {
            live = Live::Yes;
        }
    }
    out.note(failure.help("mend it; the client is revoked all the same"));
    tell_gone(place, name, &path, live, &out)
}

/// What the agent says of the clients' file.
async fn digest_now(place: &Place) -> Option<String> {
    let agent = agent(place).ok().flatten()?;
    agent.status().await.ok()?.clients.map(|clients| clients.file_digest)
}

fn tell_gone(place: &Place, name: &Name, path: &Utf8Path, live: Live, out: &Output) -> Result<(), Failure> {
    let is_live = live == Live::Yes;
    if out.json {
        out.print_json(&serde_json::json!({ "client": name, "is_live": is_live }));
    } else {
        out.text(0, format_args!("client {name} is gone from {path}"));
        if is_live {
            out.text(0, "its keys are refused from now on; requests that it has begun go on to their end");
        } else {
            out.text(0, out.paint(Tone::Bad, "ITS KEYS ARE STILL ACCEPTED by the HAProxy that runs."));
            not_live(place, live, out);
        }
    }
    if is_live { Ok(()) } else { Err(Failure::said(super::output::REFUSED)) }
}

fn tell(place: &Place, made: &Made<'_>, path: &Utf8Path, live: Live, out: &Output) {
    if out.json {
        return out.print_json(made);
    }
    let Made { client, plan, key, key_sha256: _, certificate_sha256: _, old_key_until, is_live: _ } = made;
    if let Some(key) = key {
        out.text(0, format_args!("The key of client {client} (plan {plan}), which is shown this once:"));
        out.line("");
        out.line(format_args!("  {}", out.paint(Tone::Strong, key)));
        out.line("");
        out.text(
            0,
            "Callers send it as their API key: \"Authorization: Bearer KEY\", x-api-key, api-key or x-goog-api-key.",
        );
    } else {
        out.text(0, format_args!("Client {client} (plan {plan}) is known by its certificate; it sends no key."));
    }
    if let Some(until) = old_key_until {
        out.text(0, format_args!("The key before is good until {until}."));
    }
    match live {
        Live::Yes => out.text(0, format_args!("It is live; {path} keeps its digest.")),
        Live::NoAgent | Live::NotYet => not_live(place, live, out),
    }
}

/// Other nodes have files of their own.
fn tell_of_peers(sources: &Sources, path: &Utf8Path, out: &Output) {
    let own = &sources.config.node.name.value;
    let others: Vec<_> = sources.config.node.peers.keys().filter(|node| *node != own).map(Name::as_str).collect();
    if !others.is_empty() {
        out.note(format!("copy {path} to the other nodes as well ({}): each has its own", others.join(", ")));
    }
}

fn not_live(place: &Place, live: Live, out: &Output) {
    let told = match live {
        Live::NoAgent => format!(
            "Not live yet: no agent runs. It is with the next `{}`, or when one runs: {}",
            place.command("apply"),
            how_to_start(place)
        ),
        Live::Yes | Live::NotYet => format!(
            "It is written, and not live after 10 s: `{}` says why. A plan of a file that waits (on_save = \"plan\") counts \
             after `{}`.",
            place.command("status"),
            place.command("apply")
        ),
    };
    out.text(0, out.paint(Tone::Warn, told));
}

/// A client that the clients' own file has, and that file.
fn of_file<'a>(
    place: &Place,
    sources: &'a Sources,
    name: &Name,
) -> Result<(&'a Client, &'a Sourced<Utf8PathBuf>), Failure> {
    let Some(client) = sources.clients.iter().find(|client| client.name.value == *name) else {
        let names = sources.clients.iter().map(|client| client.name.value.as_str());
        let known = names.take(MAX_NAMES).collect::<Vec<_>>().join(", ");
        let help = if known.is_empty() { "there is none yet".to_owned() } else { format!("the clients are {known}") };
        return Err(Failure::refused(format!("there is no client {name}")).help(help));
    };
    let own = sources.config.clients.iter().find(|client| client.name.value == *name);
    match (own, &sources.config.clients_file) {
        (None, Some(path)) => Ok((client, path)),
        (own, _) => {
            let line = own.and_then(|own| own.name.origin).map_or(0, |origin| origin.line);
            let what = format!("[client.{name}] stands in {} (line {line}), which only you write", place.file);
            let help = "change it there; `printf %s KEY | sha256sum` prints the digest of a key";
            Err(Failure::refused(what).help(help))
        }
    }
}

/// Changes the clients' file, unless that would leave one with mistakes.
fn change(
    sources: &Sources,
    path: &Utf8Path,
    edit: impl FnOnce(&mut ClientFile) -> Option<()>,
    section: &str,
) -> Result<(), Failure> {
    let _lock = lock(path);
    let read = || sys::files::read_limited(path, MAX_FILE);
    let before = read().map_err(|e| Failure::refused(Refusal::new(e)))?;
    let text = String::from_utf8_lossy(&before).into_owned();
    let mut file = ClientFile::parse(&text).map_err(|e| Failure::refused(format!("{path} is no TOML: {e}")))?;
    let by_hand = || {
        let failure = Failure::refused(format!("{path} is written in a way that this command cannot change"));
        failure.help(format!("change it by hand; a client looks so:\n{section}"))
    };
    edit(&mut file).ok_or_else(by_hand)?;
    parse_clients(path.as_str(), &file.text(), &sources.config).map_err(|e| Failure::refused(Refusal::mistakes(e)))?;
    write(path, &file, || read().is_ok_and(|now| now == before))
}

/// One command at a time, as long as it is held. Who may not lock may not write either, and is told of that.
fn lock(path: &Utf8Path) -> std::io::Result<std::fs::File> {
    let directory = std::fs::File::open(sys::files::directory_of(path))?;
    directory.lock()?;
    Ok(directory)
}

fn write(path: &Utf8Path, file: &ClientFile, is_as_before: impl FnOnce() -> bool) -> Result<(), Failure> {
    let mode = fs_err::metadata(path).map_or(0o640, |metadata| metadata.permissions().mode() & 0o7777);
    sys::files::replace_unchanged(path, file.text().as_bytes(), mode, is_as_before)
        .map_err(|e| Failure::refused(Refusal::new(e).nothing_changed()))
}

/// Whether what was written is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Live {
    Yes,
    NoAgent,
    NotYet,
}

impl Live {
    /// How the command ends, when all is told.
    fn end(self) -> Result<(), Failure> {
        match self {
            Self::Yes | Self::NoAgent => Ok(()),
            Self::NotYet => Err(Failure::said(super::output::REFUSED)),
        }
    }
}

/// Waits until the agent has taken over the file as it stands, to which others may have added meanwhile.
async fn live(place: &Place, sources: &Sources, path: &Utf8Path) -> Live {
    let Ok(Some(agent)) = agent(place) else { return Live::NoAgent };
    let until = Instant::now() + LIVE;
    while Instant::now() < until {
        let text = sys::files::read_limited(path, MAX_FILE).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let clients = text.and_then(|text| parse_clients(path.as_str(), &text, &sources.config).ok());
        let wanted = clients.map(|clients| Clients::new(&[], clients).file_digest().short());
        let status = agent.status().await.ok();
        let known = status.and_then(|status| status.clients).map(|clients| clients.file_digest);
        if wanted.is_some() && wanted == known {
            return Live::Yes;
        }
        tokio::time::sleep(LOOK).await;
    }
    Live::NotYet
}

fn unknown_plan(place: &Place, sources: &Sources, plan: &Name) -> Failure {
    let names = sources.config.plans.iter().map(|plan| plan.name.value.as_str());
    let names = names.take(MAX_NAMES).collect::<Vec<_>>().join(", ");
    let failure = Failure::usage(format!("there is no plan {plan}"));
    match names.is_empty() {
        true => failure.help(format!("add a section [plan.{plan}] to {}; an empty one limits nothing", place.file)),
        false => failure.help(format!("the plans are {names}")),
    }
}
