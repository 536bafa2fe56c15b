//! Certificates: what the running HAProxy serves against the files, and the steps between them.
//!
//! Pure. A renewed file, one that is added to a list and one that leaves it need no reload, on every version that we
//! support. What does: another default certificate (HAProxy refuses to take the first of a list out), an order among
//! certificates of one name that additions at the end cannot reach, a file that does not fit into HAProxy's buffer.

use super::{Question, ReloadReason, Step};
use crate::model::{Certificate, Digest};
use crate::render::ListFile;
use camino::Utf8PathBuf;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What of `tune.bufsize` a certificate on its way over the admin socket must leave free: the command with its path,
/// and a margin, because 2.6 does not refuse a payload that just fails to fit but spins and dies.
const BUFFER_RESERVE_BYTES: usize = 2048;

/// The certificates of the running worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeCertificates {
    /// Each crt-list that hapilot rendered and the worker knows, in its order, by identifier.
    pub lists: BTreeMap<String, Vec<ListEntry>>,
    /// Each certificate that is in one of the lists or was asked for, by path.
    pub stores: BTreeMap<String, RuntimeCertificate>,
}

/// One line of a crt-list in the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The certificate.
    pub path: String,
    /// HAProxy's number for the line.
    pub line: u32,
}

/// One certificate in the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeCertificate {
    /// SHA-1 in upper-case hexadecimal digits; empty where the worker has only a name.
    pub fingerprint: String,
    /// Common names of the certificates behind it, without those that issued themselves.
    pub chain: Vec<String>,
    /// When it expires, where HAProxy's date can be read.
    pub not_after: Option<Timestamp>,
}

impl RuntimeCertificate {
    fn is(&self, wanted: &Certificate) -> bool {
        // A file without a chain may get one from elsewhere (`issuers-chain-path`).
        self.fingerprint == wanted.fingerprint && (wanted.chain.is_empty() || self.chain == wanted.chain)
    }
}

/// One change of the running worker's certificates. Carries no key: the file is read when the step is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateStep {
    /// `new ssl cert` where the worker does not know it, then `set ssl cert`, `commit ssl cert`.
    Store {
        /// The file.
        path: Utf8PathBuf,
        /// Of what was judged: another content is not sent.
        digest: Digest,
        /// When the certificate expires.
        not_after: Timestamp,
        /// The worker does not know it yet.
        is_new: bool,
    },
    /// `add ssl crt-list`
    Add {
        /// The list's identifier.
        list: String,
        /// The certificate.
        path: String,
    },
    /// `del ssl crt-list`
    Remove {
        /// The list's identifier.
        list: String,
        /// The line.
        entry: ListEntry,
    },
    /// `del ssl cert`: of a certificate that is in no list any more.
    Forget {
        /// The certificate.
        path: String,
    },
}

impl fmt::Display for CertificateStep {
    /// One line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store { path, digest: _, not_after, is_new } => {
                let verb = if *is_new { "load" } else { "renew" };
                write!(f, "certificate {verb} {path}, valid until {}", not_after.strftime("%Y-%m-%d"))
            }
            Self::Add { list, path } => write!(f, "certificate serve {path} in {list}"),
            Self::Remove { list, entry } => write!(f, "certificate remove {} from {list}", entry.path),
            Self::Forget { path } => write!(f, "certificate forget {path}"),
        }
    }
}

/// The steps, in a safe order: the new ones are served before the old ones go. Adds to `reasons` where only a reload
/// will do.
pub(super) fn certificate_steps(question: &Question<'_>, reasons: &mut Vec<ReloadReason>) -> Vec<Step> {
    let now = &question.observed.certificates;
    let room = usize::try_from(question.desired.config.haproxy.buffer_bytes.value).unwrap_or(usize::MAX);
    let room = room.saturating_sub(BUFFER_RESERVE_BYTES);
    let mut wanted: BTreeMap<&str, &Certificate> = BTreeMap::new();
    let (mut add, mut remove) = (vec![], vec![]);
    for (list, file) in &question.rendered.lists {
        wanted.extend(file.certificates.iter().map(|one| (one.path.as_str(), one)));
        match now.lists.get(list) {
            Some(entries) => list_steps(list, file, entries, &mut add, &mut remove, reasons),
            None => reasons.push(ReloadReason::whole(format!("the running HAProxy has no {list}"))),
        }
    }
    let mut store = Vec::new();
    for certificate in wanted.values() {
        let known = now.stores.get(certificate.path.as_str());
        if known.is_some_and(|known| known.is(certificate)) {
            continue;
        }
        let Certificate { path, digest, not_after, payload_bytes, has_extras, .. } = certificate;
        if *payload_bytes > room {
            reasons.push(ReloadReason::whole(format!(
                "{path} has {payload_bytes} bytes, more than the {room} that the running HAProxy takes at once"
            )));
        }
        if *has_extras {
            reasons.push(ReloadReason::whole(format!("beside {path} lies a file that only a reload loads")));
        }
        let (path, digest, not_after) = (path.clone(), *digest, *not_after);
        store.push(CertificateStep::Store { path, digest, not_after, is_new: known.is_none() });
    }
    let gone: BTreeSet<String> = remove
        .iter()
        .filter_map(|step| match step {
            CertificateStep::Remove { entry, .. } => Some(&entry.path),
            _ => None,
        })
        .filter(|path| !wanted.contains_key(path.as_str()))
        .cloned()
        .collect();
    let forget = gone.into_iter().map(|path| CertificateStep::Forget { path });
    store.into_iter().chain(add).chain(remove).chain(forget).map(Step::Certificate).collect()
}

fn list_steps(
    list: &str,
    wanted: &ListFile,
    now: &[ListEntry],
    add: &mut Vec<CertificateStep>,
    remove: &mut Vec<CertificateStep>,
    reasons: &mut Vec<ReloadReason>,
) {
    let mut kept: Vec<&Certificate> = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in now {
        match wanted.certificates.iter().find(|one| one.path.as_str() == entry.path) {
            Some(certificate) if seen.insert(&entry.path) => kept.push(certificate),
            _ => remove.push(CertificateStep::Remove { list: list.to_owned(), entry: entry.clone() }),
        }
    }
    for certificate in &wanted.certificates {
        if !seen.contains(&certificate.path.to_string()) {
            kept.push(certificate);
            add.push(CertificateStep::Add { list: list.to_owned(), path: certificate.path.to_string() });
        }
    }
    let default = (now.first().map(|entry| entry.path.as_str()), wanted.certificates.first());
    if let (Some(from), Some(to)) = default
        && from != to.path
    {
        reasons.push(ReloadReason::whole(format!(
            "the default certificate of {list} becomes {} instead of {from}: HAProxy changes it only in a reload",
            to.path
        )));
    }
    if let Some((first, second, name)) = misplaced(&wanted.certificates, &kept) {
        reasons.push(ReloadReason::whole(format!(
            "{first} and {second} are both for {name}: only a reload puts the first one first"
        )));
    }
}

/// Two certificates of one name that the running HAProxy would have in another order than the file.
fn misplaced<'a>(wanted: &'a [Certificate], kept: &[&Certificate]) -> Option<(&'a str, &'a str, &'a str)> {
    let place: BTreeMap<&str, usize> = kept.iter().enumerate().map(|(at, one)| (one.path.as_str(), at)).collect();
    let mut of_name: BTreeMap<(&str, &str), Vec<&Certificate>> = BTreeMap::new();
    for certificate in wanted {
        for name in &certificate.names {
            of_name.entry((name, &certificate.key_kind)).or_default().push(certificate);
        }
    }
    of_name.into_iter().find_map(|((name, _), group)| {
        let swapped =
            group.windows(2).find(|pair| place.get(pair[0].path.as_str()) > place.get(pair[1].path.as_str()))?;
        Some((swapped[0].path.as_str(), swapped[1].path.as_str(), name))
    })
}
