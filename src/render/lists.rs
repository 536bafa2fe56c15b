//! The crt-lists: which certificates a frontend serves, as data that the running HAProxy takes.

use super::ListFile;
use super::names::crt_list;
use crate::cfg;
use crate::config::Frontend;
use crate::desired::Desired;
use crate::model::Certificate;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The list of each frontend that the rendered text refers to. An operator's own template may name the certificates
/// in another way, and then there is no list to keep.
pub(super) fn used(desired: &Desired, haproxy_cfg: &str) -> BTreeMap<String, ListFile> {
    let named = cfg::lines(haproxy_cfg).filter(|line| line.text.contains("crt-lists/")).flat_map(|line| line.words());
    let named: BTreeSet<Cow<'_, str>> = named.filter_map(|word| word.said).collect();
    let frontends = desired.config.frontends.iter().filter(|frontend| !frontend.certificates.is_empty());
    let lists = frontends.map(|frontend| (crt_list(&frontend.name), ListFile { certificates: of(desired, frontend) }));
    lists.filter(|(path, _)| named.contains(path.as_str())).collect()
}

/// The certificates of a frontend in the order of the file; one that is named twice counts where it is first.
fn of(desired: &Desired, frontend: &Frontend) -> Vec<Certificate> {
    let mut seen = BTreeSet::new();
    let found = frontend.certificates.iter().filter_map(|path| desired.certificates.get(&path.value)).flatten();
    found.filter(|certificate| seen.insert(&certificate.path)).cloned().collect()
}
