//! Certificates: what the running HAProxy serves against the files, and the steps between them.
//!
//! Pure. A renewed file, one that is added to a list and one that leaves it need no reload, on every version that we
//! support. What does: another default certificate (HAProxy refuses to take the first of a list out), an order among
//! certificates of one name that additions at the end cannot reach, a file that does not fit into HAProxy's buffer.

use super::ReloadReason;
use crate::model::{Certificate, TrustKind};
use crate::render::{ListFile, SOCKET_RESERVE_BYTES, TrustBundle};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The certificates of the running worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeCertificates {
    /// Each crt-list that hapilot rendered and the worker knows, in its order, by identifier.
    pub lists: BTreeMap<String, Vec<ListEntry>>,
    /// Each certificate that is in one of the lists or was asked for, by path.
    pub stores: BTreeMap<String, RuntimeCertificate>,
    /// What the certificates of clients are judged by: the marks of what each file that was asked for holds, by path.
    pub trust: BTreeMap<String, BTreeSet<String>>,
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
    /// Whether it is what the file holds.
    fn is(&self, wanted: &Certificate) -> bool {
        // A file without a chain may get one from elsewhere (`issuers-chain-path`).
        self.fingerprint == wanted.fingerprint && (wanted.chain.is_empty() || self.chain == wanted.chain)
    }
}

/// One change of the running worker's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateStep {
    /// `new ssl cert` where the worker does not know it, then `set ssl cert`, `commit ssl cert`.
    Store {
        /// As it was judged, with its key.
        certificate: Box<Certificate>,
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
    /// `set ssl ca-file` or `set ssl crl-file`, and `commit`.
    Trust(Box<TrustBundle>),
    /// `del ssl cert`: of a certificate that is in no list any more.
    Forget {
        /// The certificate.
        path: String,
    },
}

impl fmt::Display for CertificateStep {
    /// One line for people, with the operator's files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store { certificate, is_new } => {
                let verb = if *is_new { "load" } else { "renew" };
                let Certificate { source, not_after, .. } = &**certificate;
                write!(f, "certificate {verb} {source}, valid until {}", not_after.strftime("%Y-%m-%d"))
            }
            Self::Add { list, path } => write!(f, "certificate serve {} in {list}", Certificate::source_of(path)),
            Self::Remove { list, entry } => {
                write!(f, "certificate remove {} from {list}", Certificate::source_of(&entry.path))
            }
            Self::Trust(bundle) => {
                let what = match bundle.kind {
                    TrustKind::Authorities => "authorities",
                    TrustKind::Revoked => "revoked certificates",
                };
                let sources: Vec<&str> = bundle.files.iter().map(|file| file.source.as_str()).collect();
                write!(f, "{what} of clients from {}", sources.join(", "))
            }
            Self::Forget { path } => write!(f, "certificate forget {}", Certificate::source_of(path)),
        }
    }
}

/// The steps, in a safe order: the new ones are served before the old ones go. Adds to `reasons` where only a reload
/// will do.
///
/// **Units**: `buffer_bytes` is the running worker's `tune.bufsize`.
pub(super) fn certificate_steps(
    lists: &BTreeMap<String, ListFile>,
    now: &RuntimeCertificates,
    buffer_bytes: usize,
    reasons: &mut Vec<ReloadReason>,
) -> Vec<CertificateStep> {
    let room = buffer_bytes.saturating_sub(SOCKET_RESERVE_BYTES);
    let mut wanted: BTreeMap<&str, &Certificate> = BTreeMap::new();
    let (mut add, mut remove) = (vec![], vec![]);
    for (list, file) in lists {
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
        let (source, payload_bytes) = (&certificate.source, certificate.payload_bytes());
        if payload_bytes > room {
            reasons.push(ReloadReason::whole(format!(
                "{source} has {payload_bytes} bytes, more than the {room} that the running HAProxy takes at once"
            )));
        }
        if !certificate.extras.is_empty() {
            reasons.push(ReloadReason::whole(format!("beside {source} lies a file that only a reload loads")));
        }
        store.push(CertificateStep::Store { certificate: Box::new((*certificate).clone()), is_new: known.is_none() });
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
    store.into_iter().chain(add).chain(remove).chain(forget).collect()
}

/// Who may be a client: what the running HAProxy judges by against the files.
pub(super) fn trust_steps(
    wanted: &BTreeMap<String, TrustBundle>,
    now: &RuntimeCertificates,
    reasons: &mut Vec<ReloadReason>,
) -> Vec<CertificateStep> {
    let mut steps = Vec::new();
    // One that does not fit through the admin socket is part of the structure.
    for bundle in wanted.values().filter(|bundle| bundle.is_data) {
        match now.trust.get(bundle.path.as_str()) {
            Some(marks) if marks.iter().map(String::as_str).eq(bundle.marks()) => {}
            Some(_) => steps.push(CertificateStep::Trust(Box::new(bundle.clone()))),
            None => reasons.push(ReloadReason::whole(format!("the running HAProxy has no {}", bundle.path))),
        }
    }
    steps
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
            "the default certificate of {list} becomes {} instead of {}: HAProxy changes it only in a reload",
            to.source,
            Certificate::source_of(from)
        )));
    }
    if let Some((first, second, name)) = misplaced(&wanted.certificates, &kept) {
        reasons.push(ReloadReason::whole(format!(
            "{} and {} are both for {name}: only a reload puts the first one first",
            Certificate::source_of(first),
            Certificate::source_of(second)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, PrivatePem};

    /// `path name`: a certificate of this name; `path name RSA` with another kind of key.
    fn certificate(text: &str) -> Certificate {
        let mut words = text.split(' ');
        let path = words.next().unwrap();
        Certificate {
            path: path.into(),
            source: path.into(),
            read_from: vec![],
            digest: Digest::of(text),
            fingerprint: format!("of {path}"),
            chain: vec![],
            names: words.next().map(str::to_owned).into_iter().collect(),
            key_kind: words.next().unwrap_or("EC").to_owned(),
            lacks_issuer: false,
            not_before: "2026-11-19T00:00:00Z".parse().unwrap(),
            not_after: "2027-02-19T00:00:00Z".parse().unwrap(),
            pem: PrivatePem::new(&"x".repeat(2000)),
            extras: vec![],
        }
    }

    fn list(certificates: Vec<Certificate>) -> BTreeMap<String, ListFile> {
        [("api.list".to_owned(), ListFile { certificates })].into()
    }

    fn runtime(paths: &[&str]) -> RuntimeCertificates {
        let entry = |(path, line): (&&str, u32)| ListEntry { path: (*path).to_owned(), line };
        let store = |path: &&str| {
            let fingerprint = format!("of {path}");
            ((*path).to_owned(), RuntimeCertificate { fingerprint, chain: vec![], not_after: None })
        };
        RuntimeCertificates {
            lists: [("api.list".to_owned(), paths.iter().zip(1..).map(entry).collect())].into(),
            stores: paths.iter().map(store).collect(),
            trust: BTreeMap::new(),
        }
    }

    #[track_caller]
    fn check(wanted: Vec<Certificate>, now: &RuntimeCertificates, steps: &[&str], reload: &[&str]) {
        let mut reasons = Vec::new();
        let found = certificate_steps(&list(wanted), now, 16_384, &mut reasons);
        assert_eq!(reasons.iter().map(ToString::to_string).collect::<Vec<_>>(), reload);
        if reload.is_empty() {
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), steps);
        }
    }

    fn all(texts: &[&str]) -> Vec<Certificate> {
        texts.iter().map(|text| certificate(text)).collect()
    }

    #[test]
    fn nothing_differs_nothing_happens() {
        check(all(&["/a a", "/b b"]), &runtime(&["/a", "/b"]), &[], &[]);
        // The order of names that do not meet has no meaning.
        check(all(&["/a a", "/c c", "/b b"]), &runtime(&["/a", "/b", "/c"]), &[], &[]);
    }

    #[test]
    fn what_is_new_is_served_before_what_is_old_goes() {
        let steps = [
            "certificate load /c, valid until 2027-02-19",
            "certificate serve /c in api.list",
            "certificate remove /b from api.list",
            "certificate forget /b",
        ];
        check(all(&["/a a", "/c b"]), &runtime(&["/a", "/b"]), &steps, &[]);
    }

    #[test]
    fn a_renewal_and_a_changed_chain_are_noticed() {
        let mut now = runtime(&["/a", "/b"]);
        now.stores.get_mut("/b").unwrap().fingerprint = "other".to_owned();
        check(all(&["/a a", "/b b"]), &now, &["certificate renew /b, valid until 2027-02-19"], &[]);
        let mut with_chain = certificate("/a a");
        with_chain.chain = vec!["R3".to_owned()];
        check(vec![with_chain.clone()], &runtime(&["/a"]), &["certificate renew /a, valid until 2027-02-19"], &[]);
        now = runtime(&["/a"]);
        now.stores.get_mut("/a").unwrap().chain = vec!["R3".to_owned()];
        check(vec![with_chain], &now, &[], &[]);
        // The file has none, so it came from elsewhere.
        check(all(&["/a a"]), &now, &[], &[]);
    }

    #[test]
    fn a_line_twice_or_of_somebody_else_goes() {
        let steps =
            ["certificate remove /a from api.list", "certificate remove /x from api.list", "certificate forget /x"];
        check(all(&["/a a"]), &runtime(&["/a", "/a", "/x"]), &steps, &[]);
    }

    #[test]
    fn what_the_runtime_cannot_do_is_a_reload_that_says_why() {
        let default =
            "the default certificate of api.list becomes /b instead of /a: HAProxy changes it only in a reload";
        check(all(&["/b b", "/a a"]), &runtime(&["/a", "/b"]), &[], &[default]);
        check(all(&["/b b"]), &runtime(&["/a", "/b"]), &[], &[default]);
        check(all(&["/a a"]), &RuntimeCertificates::default(), &[], &["the running HAProxy has no api.list"]);
        let mut large = certificate("/a a");
        (large.pem, large.fingerprint) = (PrivatePem::new(&"x".repeat(14_337)), "new".to_owned());
        let room = "/a has 14337 bytes, more than the 14336 that the running HAProxy takes at once";
        check(vec![large], &runtime(&["/a"]), &[], &[room]);
        let mut extra = certificate("/a a");
        (extra.extras, extra.fingerprint) = (vec![(".ocsp", [1].into())], "new".to_owned());
        check(vec![extra], &runtime(&["/a"]), &[], &["beside /a lies a file that only a reload loads"]);
    }

    #[test]
    fn two_of_one_name_keep_the_order_of_the_file() {
        let order = "/b and /c are both for same: only a reload puts the first one first";
        check(all(&["/a a", "/b same", "/c same"]), &runtime(&["/a", "/c"]), &[], &[order]);
        let appended = ["certificate load /c, valid until 2027-02-19", "certificate serve /c in api.list"];
        check(all(&["/a a", "/b same", "/c same"]), &runtime(&["/a", "/b"]), &appended, &[]);
        // Clients choose between kinds of keys.
        let kinds = ["certificate load /b, valid until 2027-02-19", "certificate serve /b in api.list"];
        check(all(&["/a a", "/b same RSA", "/c same"]), &runtime(&["/a", "/c"]), &kinds, &[]);
    }
}
