//! What the certificates of a frontend's clients are judged by, as files that the running HAProxy takes anew.

use super::names::trust_file;
use crate::cfg;
use crate::config::Frontend;
use crate::desired::Desired;
use crate::model::{Digest, TRUST, TrustFile, TrustKind};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet};

/// What of `tune.bufsize` a file on its way over the admin socket must leave free: the command with its path, and a
/// margin, because 2.6 does not refuse a payload that just fails to fit but spins and dies.
pub const SOCKET_RESERVE_BYTES: usize = 2048;
/// Before each part of such a file stands the operator's own file.
const MARK: &str = "# ";

/// All authorities of a frontend, or all their lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    /// The file, which is also HAProxy's name for it.
    pub path: Utf8PathBuf,
    /// What it holds.
    pub kind: TrustKind,
    /// The operator's files, at least one.
    pub files: Vec<TrustFile>,
    /// It fits through the admin socket. Of one that does not, the digest is part of the structure.
    pub is_data: bool,
}

impl TrustBundle {
    /// The file's text.
    pub fn text(&self) -> String {
        self.files.iter().map(|file| format!("{MARK}{}\n{}", file.source, file.pem)).collect()
    }

    /// The same as the admin socket takes it.
    pub fn payload(&self) -> String {
        self.files.iter().map(|file| &*file.pem).collect()
    }

    /// How the running HAProxy tells its parts.
    pub fn marks(&self) -> BTreeSet<&str> {
        self.files.iter().flat_map(|file| &file.items).map(|item| item.mark.as_str()).collect()
    }

    /// Of the text.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(self.text())
    }
}

/// The part of such a text that was read from a file of the operator's.
pub fn trust_part<'a>(text: &'a str, source: &Utf8Path) -> Option<&'a str> {
    let is_begin = |line: &str| line.strip_prefix(MARK).is_some_and(|rest| rest.trim_end() == source.as_str());
    let mut at = 0;
    let mut begin = None;
    for line in text.split_inclusive('\n') {
        match begin {
            None if is_begin(line) => begin = Some(at + line.len()),
            Some(begin) if line.starts_with(MARK) => return Some(&text[begin..at]),
            _ => {}
        }
        at += line.len();
    }
    begin.map(|begin| &text[begin..])
}

/// What one frontend trusts; `None` where it asks for none, or names no list.
pub(super) fn bundle(desired: &Desired, frontend: &Frontend, kind: TrustKind) -> Option<TrustBundle> {
    let named = frontend.client_certificates.iter().flat_map(|trust| trust.files());
    let named = named.filter(|(of, _)| *of == kind).map(|(_, path)| path);
    let files: Vec<TrustFile> =
        named.filter_map(|path| desired.trust.get(&(kind, path.value.clone()))).cloned().collect();
    let haproxy = &desired.config.haproxy;
    let path = haproxy.config.with_file_name("").join(trust_file(&frontend.name, kind));
    let bytes: usize = files.iter().map(|file| file.pem.len()).sum();
    let buffer = usize::try_from(haproxy.buffer_bytes.value).unwrap_or(usize::MAX);
    let is_data = bytes <= buffer.saturating_sub(SOCKET_RESERVE_BYTES);
    (!files.is_empty()).then_some(TrustBundle { path, kind, files, is_data })
}

/// Those that the rendered text refers to, by path relative to the configuration.
pub(super) fn used(desired: &Desired, haproxy_cfg: &str) -> BTreeMap<String, TrustBundle> {
    let named = cfg::lines(haproxy_cfg).filter(|line| line.text.contains(TRUST)).flat_map(|line| line.words());
    let named: BTreeSet<_> = named.filter_map(|word| word.said).collect();
    let both = [TrustKind::Authorities, TrustKind::Revoked];
    let all = desired.config.frontends.iter().flat_map(|frontend| both.map(|kind| (frontend, kind)));
    let all =
        all.filter_map(|(frontend, kind)| Some((trust_file(&frontend.name, kind), bundle(desired, frontend, kind)?)));
    all.filter(|(_, bundle)| named.contains(bundle.path.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::trust_part;
    use camino::Utf8Path;

    #[test]
    fn a_part_is_found_by_the_file_that_it_was_read_from() {
        let text = "# /a.pem\n-----A\n1\n# /b.pem\n-----B\n";
        let part = |source: &str| trust_part(text, Utf8Path::new(source));
        assert_eq!([part("/a.pem"), part("/b.pem"), part("/c.pem")], [Some("-----A\n1\n"), Some("-----B\n"), None]);
    }
}
