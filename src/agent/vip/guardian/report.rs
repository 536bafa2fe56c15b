//! What the guardian knows, for whoever looks: `status`, metrics, the agent's loop.

use crate::event::{Event, EventKind, Severity};
use crate::heartbeat::NodeNews;
use crate::model::{Name, VrrpState};
use crate::vip::{Local, VrrpAdvice};
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Instant;

/// So many events are kept.
const MAX_EVENTS: usize = 50;

/// What the guardian knows.
#[derive(Clone, Debug, Default)]
pub struct VipReport {
    /// The local HAProxy; none: it was not looked at yet.
    pub local: Option<Local>,
    /// It takes no more clients, but lives.
    pub is_full: bool,
    /// Client connections that it has: known while addresses are released.
    pub connections: Option<u64>,
    /// Keepalived's process id; none: it does not run, or cannot be seen from here.
    pub keepalived: Option<u32>,
    /// This node's part in each VIP.
    pub vips: BTreeMap<Name, VipView>,
    /// The other nodes.
    pub peers: BTreeMap<Name, PeerView>,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
    /// What happened, newest first.
    pub events: VecDeque<VipEvent>,
    /// How often each kind happened since the agent's start.
    pub counts: BTreeMap<VipEventKind, u64>,
    /// What happened and is not told yet.
    pub(super) untold: Vec<Event>,
}

/// This node's part in one VIP.
#[derive(Clone, Debug, Default)]
pub struct VipView {
    /// What Keepalived says; none: nothing yet.
    pub state: Option<VrrpState>,
    /// Since when.
    pub since: Option<Instant>,
    /// The priority that it goes by.
    pub priority: Option<u8>,
    /// The interface bears one of the addresses.
    pub bears: bool,
    /// MASTER, and the address is there: since when.
    pub owned_since: Option<Instant>,
    /// What Keepalived was told last.
    pub word: Option<VrrpAdvice>,
}

/// Another node.
#[derive(Clone, Debug, Default)]
pub struct PeerView {
    /// What it said last.
    pub news: Option<NodeNews>,
    /// When.
    pub at: Option<Instant>,
    /// It is heard now.
    pub is_heard: bool,
}

impl VipReport {
    /// How many VIPs this node owns.
    pub fn owned(&self) -> usize {
        self.vips.values().filter(|vip| vip.owned_since.is_some()).count()
    }

    /// Whether nothing differs that somebody waits for: not how long it has been so.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let part = |view: &VipView| (view.state, view.owned_since.is_some(), view.word.clone());
        let parts =
            |report: &Self| report.vips.iter().map(|(name, view)| (name.clone(), part(view))).collect::<Vec<_>>();
        let heard = |report: &Self| report.peers.values().map(|peer| peer.is_heard).collect::<Vec<_>>();
        (self.local, self.is_full, self.keepalived) == (other.local, other.is_full, other.keepalived)
            && parts(self) == parts(other)
            && heard(self) == heard(other)
            && self.problems == other.problems
            && self.events.front() == other.events.front()
    }

    /// Notes what happened; whoever holds the report tells it.
    pub(super) fn note(&mut self, kind: VipEventKind, vip: Option<&Name>, text: String) {
        let name = vip.map(ToString::to_string);
        let severity = if kind.is_bad() { Severity::Warning } else { Severity::Info };
        let subject = name.unwrap_or_else(|| "node".to_owned());
        self.untold.push(Event::once(EventKind::Vip, severity, subject, &text).about(kind));
        *self.counts.entry(kind).or_default() += 1;
        self.events.push_front(VipEvent { at: Timestamp::now(), kind, vip: vip.cloned(), text });
        self.events.truncate(MAX_EVENTS);
    }
}

/// Something that happened to a VIP or to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipEvent {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: VipEventKind,
    /// Which VIP; none: the whole node.
    pub vip: Option<Name>,
    /// In words.
    pub text: String,
}

/// The kinds of events. Their names are a contract: metrics and alerts carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VipEventKind {
    /// This node owns the addresses.
    Master,
    /// Another node may have them.
    Backup,
    /// This node cannot own them.
    Fault,
    /// Keepalived stops.
    Stop,
    /// Two nodes own the same addresses.
    TwoMasters,
    /// That is over.
    Healed,
    /// Addresses without an owner were taken from the interface.
    Orphan,
    /// Another node is silent.
    PeerLost,
    /// It is heard again.
    PeerHeard,
    /// HAProxy is gone or hangs.
    HaproxyLost,
    /// It answers again.
    HaproxyBack,
    /// Keepalived ended.
    KeepalivedLost,
    /// It runs (again).
    KeepalivedSeen,
}

impl VipEventKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
            Self::Fault => "fault",
            Self::Stop => "stop",
            Self::TwoMasters => "two_masters",
            Self::Healed => "healed",
            Self::Orphan => "orphan",
            Self::PeerLost => "peer_lost",
            Self::PeerHeard => "peer_heard",
            Self::HaproxyLost => "haproxy_lost",
            Self::HaproxyBack => "haproxy_back",
            Self::KeepalivedLost => "keepalived_lost",
            Self::KeepalivedSeen => "keepalived_seen",
        }
    }

    fn is_bad(self) -> bool {
        matches!(
            self,
            Self::Fault | Self::TwoMasters | Self::Orphan | Self::PeerLost | Self::HaproxyLost | Self::KeepalivedLost
        )
    }
}

impl fmt::Display for VipEventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
