//! A probe that is to start, and whom it asked.

use crate::health::ProbeKind;
use crate::model::{Endpoint, Secret, ServerId};
use crate::sys;

/// Probes in flight, of which one backend alone gets half; never more than half of the descriptors that there are.
const MAX_PROBES: usize = 1024;

/// How many probes may be in flight.
pub(in crate::agent) fn places() -> usize {
    MAX_PROBES.min(sys::descriptors::limit() / 2)
}

/// A probe that is to start.
#[derive(Clone, Debug)]
pub(in crate::agent) struct DueProbe {
    pub id: ServerId,
    pub kind: ProbeKind,
    /// Only to test this key of the server, from 0: it says nothing of the server's health.
    pub key: Option<usize>,
}

/// Whom a probe asked: the URL and the key of that moment, with its place in the list.
#[derive(Debug, PartialEq)]
pub(in crate::agent) struct Asked {
    pub url: Endpoint,
    pub key: Option<(usize, Secret)>,
}
