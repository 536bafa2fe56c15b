//! keepalived.conf of this node: rendered, judged, put in place whole, and taken over by a running Keepalived.
//!
//! As haproxy.cfg, it is never empty, never overwritten when somebody else wrote it, and changed by rename. Keepalived's
//! own `-t` judges it where it will run; a file that it does not like is never at the live path.

use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Failed, unified_diff};
use crate::agent::tell::refusal::{At, Objection, Refusal};
use crate::config::{Config, Vip, own_vips};
use crate::keepalived::{self, KeepalivedEvents, Track};
use crate::network;
use crate::render;
use crate::sys;
use camino::Utf8PathBuf;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// `keepalived -t` takes 12 ms.
const CHECK: Duration = Duration::from_secs(5);
/// Largest keepalived.conf that is compared, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A change of keepalived.conf that may be made.
#[derive(Debug)]
pub struct VrrpChange {
    path: Utf8PathBuf,
    pid_file: Utf8PathBuf,
    directory: Utf8PathBuf,
    text: String,
    before: Option<String>,
    is_foreign: bool,
}

/// How the names of directories begin in which a keepalived.conf is judged.
pub(in crate::agent) const VRRP_STAGING: &str = "hapilot-vrrp-";

impl VrrpChange {
    /// What changes, as a unified diff.
    pub fn diff(&self) -> String {
        unified_diff(self.before.as_deref().unwrap_or_default(), &self.text, "keepalived.conf")
    }
}

/// What an apply would do about keepalived.conf, or why it cannot.
pub type VrrpPlan = Result<Option<VrrpChange>, Failed>;

/// What is to be done about keepalived.conf; `None`: nothing.
///
/// # Errors
/// Keepalived does not accept it, or the file that is there is not ours: for people.
pub async fn vrrp_change(config: &Config, intent: &Intent) -> VrrpPlan {
    let path = config.keepalived.config.value.clone();
    let takes_part = own_vips(config).next().is_some();
    let live = match sys::directory::read_if_exists(&path, MAX_FILE) {
        Ok(live) => live,
        // On a node without virtual addresses it need not even be readable for the agent.
        Err(_) if !takes_part => return Ok(None),
        Err(e) => return Err(Failed::refused(format!("keepalived.conf cannot be read: {e}"))),
    };
    let inspection = live.as_deref().map(render::inspect);
    let before = live.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if !takes_part && inspection.is_none_or(|found| !found.is_ours) {
        // No business of ours.
        return Ok(None);
    }
    let text = render::keepalived(config).map_err(|e| Failed::refused(e.to_string()))?;
    if before.as_ref() == Some(&text) {
        return Ok(None);
    }
    if let Some(lack) = sys::folders::lack_of(&path) {
        let what = format!("{}: {}", config.keepalived.config.named("keepalived.config"), lack.what);
        return Err(Failed::refused(Refusal::new(what).help(lack.help).nothing_changed()));
    }
    if !takes_part && !intent.force {
        let what = format!("the file takes every virtual address from this node, and {path} has some");
        let refusal = Refusal::new(what).help("if this is meant: hapilot apply --force");
        return Err(Failed::refused(refusal.nothing_changed()));
    }
    let is_foreign = inspection.is_some_and(|found| !found.is_ours || !found.is_intact);
    if is_foreign && !intent.adopt {
        let why = match inspection {
            Some(found) if found.is_ours => "was edited by hand",
            _ => "was not written by hapilot",
        };
        let refusal = Refusal::new(format_args!("{path} {why}"))
            .help("`hapilot apply --adopt` keeps it beside and writes hapilot's own");
        return Err(Failed::refused(refusal.nothing_changed()));
    }
    if let Some((vip, address)) = borne_without_keepalived(config, before.as_deref().unwrap_or_default()) {
        let what = format!(
            "{} bears {address} already, and no keepalived.conf of before gave it: it is this node's own, and Keepalived \
             would take it away",
            vip.interface.value
        );
        let objection = Objection::new(what).at(At::subject(format_args!("[vip.{}]", vip.name)));
        let help = "give an address that no node has by itself, or take it from the interface first";
        return Err(Failed::refused(Refusal::from(objection).help(help).nothing_changed()));
    }
    judge(config, &text).await?;
    let pid_file = config.keepalived.pid_file.value.clone();
    let directory = config.keepalived.directory.value.clone();
    Ok(Some(VrrpChange { path, pid_file, directory, text, before, is_foreign }))
}

/// A virtual address that its interface bears, though the file of before does not name it: with Keepalived's end this
/// node would lose an address of its own, perhaps the one by which it is reached.
fn borne_without_keepalived<'a>(config: &'a Config, before: &str) -> Option<(&'a Vip, IpAddr)> {
    if before.is_empty() && !matches!(keepalived::running(&config.keepalived.pid_file), Ok(None)) {
        // Its file was deleted, and the addresses may be its own.
        return None;
    }
    let known: BTreeSet<&str> = before.split(|c: char| c.is_ascii_whitespace() || c == '/').collect();
    own_vips(config).find_map(|vip| {
        // Where the kernel does not tell, nothing is known against it.
        let borne = network::addresses_of(&vip.interface).unwrap_or_default();
        let ips = vip.addresses.iter().map(|address| address.ip);
        let found = ips.into_iter().find(|ip| borne.contains(ip) && !known.contains(ip.to_string().as_str()));
        found.map(|ip| (vip, ip))
    })
}

/// Lets Keepalived judge the text.
async fn judge(config: &Config, text: &str) -> Result<(), Failed> {
    let unwritten = |e: std::io::Error| Failed::refused(format!("keepalived.conf cannot be judged: {e}"));
    let held = sys::directory::temporary(&config.node.state, VRRP_STAGING).map_err(unwritten)?;
    let path = Utf8PathBuf::from_path_buf(held.path().join("keepalived.conf"))
        .map_err(|_| Failed::refused("the temporary directory's name is not UTF-8"))?;
    sys::directory::write_private(&path, text.as_bytes()).map_err(unwritten)?;
    keepalived::check(&config.keepalived.binary, &path, CHECK)
        .await
        .map_err(|e| Failed::refused(Refusal::new(sys::chain(&e)).nothing_changed()))
}

impl VrrpChange {
    /// To judge it and to write it take seconds, in which an operator may have written his own.
    fn is_as_before(&self) -> bool {
        let live = sys::directory::read_if_exists(&self.path, MAX_FILE).ok();
        live.is_some_and(|live| live.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) == self.before)
    }

    /// Puts the file in place and tells Keepalived; answers what the operator should know.
    ///
    /// # Errors
    /// The file cannot be written, or somebody else has written it since it was looked at; that one is there.
    pub fn carry_out(&self) -> std::io::Result<Vec<String>> {
        let mut notes = Vec::new();
        if self.is_foreign {
            let kept = sys::files::keep_beside(&self.path, "hapilot", jiff::Timestamp::now())?;
            notes.push(format!("the former keepalived.conf is kept as {kept}"));
        }
        // What it watches and what it writes to must be there when it starts.
        Track::open(&self.directory).map_err(std::io::Error::other)?;
        KeepalivedEvents::make(&self.directory)?;
        sys::files::replace_unchanged(&self.path, self.text.as_bytes(), 0o644, || self.is_as_before())?;
        match keepalived::running(&self.pid_file)? {
            Some(daemon) => match keepalived::reload(daemon) {
                Ok(()) => tracing::info!(pid = daemon.pid, "keepalived.conf is new, Keepalived reads it"),
                Err(e) => notes.push(format!("Keepalived (pid {}) could not be told of its new file: {e}", daemon.pid)),
            },
            None => notes.push(format!(
                "Keepalived does not run (no process by {}); {} is ready: start it",
                self.pid_file, self.path
            )),
        }
        Ok(notes)
    }
}
