//! This node's part in each VIP: what Keepalived says, what the interface bears, what follows from the others' claims.

use super::report::{VipEventKind, VipReport};
use super::{Charge, dialect};
use crate::config::Vip;
use crate::heartbeat::NodeNews;
use crate::keepalived::{Daemon, Ear, KeepalivedEvent, VipState};
use crate::model::{Moment, Name, VrrpState};
use crate::network;
use crate::vip::{Claim, Other, Settling, Split, VipRole};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// Addresses without an owner for so many looks in a row are orphans.
const ORPHAN_LOOKS: u32 = 3;
/// Adverts that came for as long show that the nodes hear each other again.
const HEARD: Duration = Duration::from_millis(500);

/// What is remembered of each VIP beside the report.
#[derive(Debug, Default)]
pub(super) struct Own {
    splits: BTreeMap<Name, Split>,
    orphaned: BTreeMap<Name, u32>,
    told_split: BTreeMap<Name, bool>,
    /// When the FIFO last spoke of each.
    spoken: BTreeMap<Name, Instant>,
    /// When a dump last confirmed what is known of each.
    confirmed: BTreeMap<Name, Instant>,
}

impl Own {
    /// A line of the FIFO.
    pub fn heard(&mut self, event: &KeepalivedEvent, report: &mut VipReport) {
        let KeepalivedEvent { vip, state, priority } = event;
        let Ok(name) = Name::new(vip) else { return };
        let Some(view) = report.vips.get_mut(&name) else { return };
        self.spoken.insert(name.clone(), Instant::now());
        view.priority = Some(*priority);
        // What a line says of a priority alone, it says of a state that was told before.
        let is_new = view.state != Some(*state);
        if is_new {
            (view.state, view.since) = (Some(*state), Some(Instant::now()));
        }
        if is_new {
            let (kind, text) = match state {
                VrrpState::Master => (VipEventKind::Master, "this node owns the addresses"),
                VrrpState::Backup => (VipEventKind::Backup, "this node stands by"),
                VrrpState::Fault => (VipEventKind::Fault, "this node cannot own the addresses"),
                VrrpState::Stop => (VipEventKind::Stop, "Keepalived stops"),
            };
            report.note(kind, Some(&name), format!("{text} (priority {priority})"));
        }
    }

    /// Keepalived's own dump, which also tells what the FIFO has lost; false where the FIFO has spoken since it was asked
    /// for: then the dump may be the older word.
    pub fn dumped(&mut self, states: &[VipState], asked: Instant, report: &mut VipReport) -> bool {
        let mut is_whole = true;
        for VipState { vip, state, priority, since } in states {
            let Some(name) = Name::new(vip).ok().filter(|name| report.vips.contains_key(name)) else { continue };
            if self.spoken.get(&name).is_some_and(|spoken| *spoken >= asked) {
                is_whole = false;
                continue;
            }
            let view = report.vips.get(&name);
            if view.is_none_or(|view| view.state != Some(*state) || view.priority != Some(*priority)) {
                self.heard(&KeepalivedEvent { vip: vip.clone(), state: *state, priority: *priority }, report);
            }
            self.confirmed.insert(name.clone(), Instant::now());
            let age = since.and_then(|since| SystemTime::now().duration_since(since).ok()).unwrap_or_default();
            if let Some(view) = report.vips.get_mut(&name) {
                view.since = Instant::now().checked_sub(age).or(view.since);
            }
        }
        is_whole
    }

    /// Looks at the interfaces; what they bear without an owner is an orphan, and is taken away.
    ///
    /// `was_seen`: Keepalived ran in sight of this agent. One that runs where we cannot see it is no dead one.
    /// Answers whether Keepalived should be asked what it is.
    pub async fn look(
        &mut self,
        charge: &Charge,
        daemon: Option<Daemon>,
        was_seen: bool,
        report: &mut VipReport,
    ) -> bool {
        let mut is_doubtful = false;
        for vip in charge.vips() {
            // The kernel does not tell: what was seen last holds.
            let Ok(borne) = network::addresses_of(&vip.interface) else { continue };
            let here: Vec<_> = vip
                .addresses
                .iter()
                .map(|address| address.value)
                .filter(|address| borne.contains(&address.ip))
                .collect();
            let Some(view) = report.vips.get_mut(&vip.name) else { continue };
            view.bears = !here.is_empty();
            let owns = view.bears && view.state == Some(VrrpState::Master) && !(was_seen && daemon.is_none());
            // Of an agent that has just started, it owned it before.
            view.owned_since = if owns { view.owned_since.or(view.since).or(Some(Instant::now())) } else { None };
            let speaks = daemon.is_none_or(|daemon| daemon.speaks);
            let is_dead = (daemon.is_none() && was_seen) || !speaks;
            // Only what Keepalived itself has said since: a line of the FIFO may be lost.
            let is_confirmed = self.confirmed.get(&vip.name) > self.spoken.get(&vip.name);
            let is_given_up = matches!(view.state, Some(state) if state != VrrpState::Master);
            is_doubtful |= view.bears && is_given_up && !is_confirmed;
            let looks = self.orphaned.entry(vip.name.clone()).or_default();
            *looks = if view.bears && (is_dead || (is_given_up && is_confirmed)) { *looks + 1 } else { 0 };
            if *looks < ORPHAN_LOOKS {
                continue;
            }
            *looks = 0;
            for address in here {
                let text = match network::remove(&vip.interface, address).await {
                    Ok(()) => format!("{address} was left on {} without an owner and is removed", vip.interface.value),
                    Err(e) => format!("{address} is left on {} without an owner: {e}", vip.interface.value),
                };
                report.note(VipEventKind::Orphan, Some(&vip.name), text);
            }
        }
        is_doubtful
    }

    /// This node's part in a VIP, as its word to Keepalived needs it.
    pub fn part(
        &mut self,
        vip: &Vip,
        charge: &Charge,
        peers: &[(&Name, &NodeNews, Duration)],
        ear: Option<&Ear>,
        now: Moment,
        report: &mut VipReport,
    ) -> VipRole {
        let name = &vip.name;
        let own_name = &charge.config.node.name.value;
        let own_rank = vip.priority.get(own_name).map(|priority| priority.value);
        let higher = vip.priority.values().filter(|other| own_rank.is_some_and(|own| other.value > own)).count();
        let owned_since = report.vips.get(name).and_then(|view| view.owned_since);
        // Of several that claim it, the newest: that is where the clients are.
        let claim = peers
            .iter()
            .filter_map(|(node, news, age)| {
                let there = news.vips.get(name.as_str())?;
                let held = Duration::from_millis(there.owned_ms?) + *age;
                Some((Claim { node, held }, there))
            })
            .min_by_key(|(claim, _)| claim.held);
        let other = match claim {
            None => Other::default(),
            Some((claim, there)) => {
                let heard_for = charge
                    .config
                    .node
                    .peers
                    .get(claim.node)
                    .and_then(|ip| ear?.heard_for(ip.value, vip.router_id.value, Instant::now()));
                Other {
                    claim: Some(claim),
                    is_heard: heard_for.is_some_and(|time| time >= HEARD),
                    is_foreign: there.dialect != dialect(vip, &charge.config),
                }
            }
        };
        let own = owned_since.map(|since| Claim { node: own_name, held: since.elapsed() });
        let settling = self.splits.entry(name.clone()).or_default().see(own, other, vip.advert_interval.value, now);
        self.tell_split(name, &settling, own.is_some(), report);
        let gives_way = match settling {
            Settling::GiveWay(node) if other.is_foreign => {
                Some(format!("{node} owns the addresses and speaks another VRRP: waiting until both speak the same"))
            }
            Settling::GiveWay(node) => Some(format!("{node} owns the addresses, and its adverts do not come here")),
            Settling::Clear | Settling::Both(_) | Settling::Stand(_) => None,
        };
        VipRole {
            rank: u8::try_from(higher).unwrap_or(u8::MAX),
            owns: owned_since.is_some(),
            is_draining: charge.released.contains(name),
            is_wanted: charge.wanted.contains(name),
            gives_way,
        }
    }

    /// `owns`: this node does as well. Who waits outside for another reason has nothing to tell.
    fn tell_split(&mut self, name: &Name, settling: &Settling, owns: bool, report: &mut VipReport) {
        let told = self.told_split.entry(name.clone()).or_default();
        let (is_split, text) = match settling {
            Settling::Stand(node) => (true, format!("{node} owns the addresses as well, and is to give way")),
            Settling::GiveWay(node) if owns || *told => {
                (true, format!("{node} owns the addresses as well; this node gives way: the clients are there"))
            }
            Settling::Both(_) => return,
            Settling::Clear | Settling::GiveWay(_) => (false, "there is one owner again".to_owned()),
        };
        if *told != is_split {
            *told = is_split;
            let kind = if is_split { VipEventKind::TwoMasters } else { VipEventKind::Healed };
            report.note(kind, Some(name), text);
        }
    }
}
