//! The guardian's loop: the one place where its clocks, ears and words meet.

use super::local::{self, LocalView};
use super::own::Own;
use super::report::{PeerView, VipEventKind, VipReport};
use super::sharing;
use super::sums::Sums;
use super::{Charge, dialect};
use crate::agent::tell::bulletin::Bulletin;
use crate::config::Config;
use crate::heartbeat::{Circle, Heard, NodeNews, SharedKey, VipNews};
use crate::keepalived::{self, Daemon, Ear, KeepalivedEvents, Track, VipState};
use crate::model::Name;
use crate::network::{self, WantedNetwork};
use crate::sys::epoch::Epoch;
use crate::usage::SharedLedger;
use crate::vip::{Fitness, HoldDown, Local, decide};
use camino::Utf8PathBuf;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

/// Between two datagrams to each other node; a change is told at once.
const TELL: Duration = Duration::from_millis(100);
/// Between two looks at interfaces and at Keepalived's process.
const LOOK: Duration = Duration::from_millis(250);
/// Between two dumps of Keepalived: what the FIFO has lost is known again then.
const ASK: Duration = Duration::from_secs(30);
/// A dump that was overtaken is asked for again after this; so is one after a new file.
const AGAIN: Duration = Duration::from_millis(500);
/// What a dump may take.
const DUMP: Duration = Duration::from_secs(2);
/// Between two settlings of the node's network.
const SETTLE: Duration = Duration::from_secs(10);
/// Between two tries to open what could not be opened.
const REOPEN: Duration = Duration::from_secs(2);
/// After its start the guardian waits as long for Keepalived to say who owns what.
const KNOWN: Duration = Duration::from_secs(3);
/// Datagrams by another key are told for as long.
const FORGED: Duration = Duration::from_secs(10);

/// What is said while HAProxy cannot be looked at.
const BLIND: &str =
    "this agent lacks descriptors or memory and cannot look at HAProxy: what it saw last holds (raise LimitNOFILE)";

/// The watcher and its memory.
#[derive(Debug)]
pub(super) struct Guardian {
    charge: watch::Receiver<Charge>,
    report: watch::Sender<VipReport>,
    /// What is being made, published when a round has ended.
    draft: VipReport,
    bulletin: Bulletin,
    sight: watch::Receiver<LocalView>,
    own: Own,
    hold: HoldDown,
    started: Instant,
    epoch: Epoch,
    directory: Utf8PathBuf,
    track: Option<Track>,
    events: Option<KeepalivedEvents>,
    ear: Option<Ear>,
    circle: Option<Circle>,
    /// Nodes whose HAProxy does not share its counters with ours.
    apart: watch::Receiver<BTreeSet<String>>,
    /// What clients have spent, here and elsewhere.
    sums: Sums,
    /// What the circle was opened for.
    circle_of: Option<CircleOf>,
    daemon: Option<Daemon>,
    was_seen: bool,
    dumps: (mpsc::Sender<Dump>, mpsc::Receiver<Dump>),
    settled: (mpsc::Sender<Vec<String>>, mpsc::Receiver<Vec<String>>),
    ask_at: Instant,
    settle_at: Instant,
    /// The network is being settled.
    settling: bool,
    settled_for: WantedNetwork,
    reopen_at: Instant,
    problems: BTreeMap<&'static str, Vec<String>>,
    tell_now: bool,
    known_config: Option<Arc<Config>>,
    /// Datagrams by another key, and when the last one came.
    forged: u64,
    forged_at: Option<Instant>,
}

/// When it was asked for, and what came.
type Dump = (Instant, Result<Vec<VipState>, String>);

/// When one of these changes, the circle is another.
#[derive(Clone, Debug, PartialEq)]
struct CircleOf {
    own: Name,
    peers: BTreeMap<Name, IpAddr>,
    port: u16,
    key: crate::model::Secret,
}

impl Guardian {
    pub fn new(
        charge: watch::Receiver<Charge>,
        report: watch::Sender<VipReport>,
        epoch: Epoch,
        bulletin: Bulletin,
        ledger: SharedLedger,
    ) -> Self {
        let now = Instant::now();
        Self {
            sight: local::watch(charge.clone()),
            apart: sharing::watch(charge.clone()),
            charge,
            report,
            draft: VipReport::default(),
            bulletin,
            own: Own::default(),
            hold: HoldDown::default(),
            started: now,
            epoch,
            directory: Utf8PathBuf::new(),
            track: None,
            events: None,
            ear: None,
            circle: None,
            sums: Sums::of(ledger),
            circle_of: None,
            daemon: None,
            was_seen: false,
            dumps: mpsc::channel(4),
            settled: mpsc::channel(4),
            ask_at: now,
            settle_at: now,
            settling: false,
            settled_for: WantedNetwork::default(),
            reopen_at: now,
            problems: BTreeMap::new(),
            tell_now: false,
            known_config: None,
            forged: 0,
            forged_at: None,
        }
    }

    pub async fn run(mut self) {
        let ticks = |every| {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut tell, mut look) = (ticks(TELL), ticks(LOOK));
        loop {
            let charge = self.charge.borrow_and_update().clone();
            self.attend(&charge).await;
            tokio::select! {
                seen = self.sight.changed() => if seen.is_err() {
                    return;
                },
                event = next_event(self.events.as_mut()) => match event {
                    Ok(event) => {
                        self.own.heard(&event, &mut self.draft);
                        self.look(&charge).await;
                        self.tell_now = true;
                    }
                    Err(e) => {
                        self.problem("fifo", vec![format!("Keepalived's FIFO cannot be read: {e}")]);
                        self.events = None;
                    }
                },
                heard = next_beat(self.circle.as_mut()) => match heard {
                    Ok(Heard::Beat(_)) => {}
                    Ok(Heard::Sums(sums)) => {
                        self.sums.hear(sums);
                        continue;
                    }
                    Err(e) => {
                        self.problem("heartbeat", vec![format!("the heartbeat cannot be heard: {e}")]);
                        self.circle = None;
                    }
                },
                () = next_advert(self.ear.as_mut()) => continue,
                _ = tell.tick() => self.tell_now = true,
                _ = look.tick() => self.look(&charge).await,
                Some((asked, dump)) = self.dumps.1.recv() => match dump {
                    Ok(states) => {
                        if !self.own.dumped(&states, asked, &mut self.draft) {
                            self.ask_at = Instant::now() + AGAIN;
                        }
                        self.problem("dump", vec![]);
                        self.look(&charge).await;
                    }
                    Err(e) => self.problem("dump", vec![e]),
                },
                Some(problems) = self.settled.1.recv() => {
                    (self.settling, self.settle_at) = (false, Instant::now() + SETTLE);
                    self.problem("network", problems);
                }
                changed = self.charge.changed() => if changed.is_err() {
                    return;
                },
            }
            let charge = self.charge.borrow().clone();
            self.judge(&charge);
            if std::mem::take(&mut self.tell_now) {
                self.tell(&charge);
            }
            std::mem::take(&mut self.draft.untold).into_iter().for_each(|event| self.bulletin.tell(event));
            self.draft.problems = self.problems.values().flatten().cloned().collect();
            self.report.send_if_modified(|report| {
                let is_news = !report.is_like(&self.draft);
                report.clone_from(&self.draft);
                is_news
            });
        }
    }

    fn problem(&mut self, of: &'static str, words: Vec<String>) {
        let before = self.problems.get(of).map(Vec::as_slice).unwrap_or_default();
        for text in words.iter().filter(|text| !before.contains(text)) {
            tracing::warn!("{text}");
        }
        self.problems.insert(of, words);
    }

    /// Opens what the file wants open, and closes what it does not.
    async fn attend(&mut self, charge: &Charge) {
        let config = &charge.config;
        let now = Instant::now();
        let wanted: Vec<Name> = charge.vips().map(|vip| vip.name.clone()).collect();
        self.draft.vips.retain(|name, _| wanted.contains(name));
        for name in wanted {
            self.draft.vips.entry(name).or_default();
        }
        if self.known_config.as_ref().is_none_or(|known| !Arc::ptr_eq(known, config)) {
            // Keepalived may have read a new file, and says nothing of it by itself.
            self.known_config = Some(config.clone());
            self.ask_at = self.ask_at.min(now + AGAIN);
        }
        let directory = &config.keepalived.directory.value;
        if *directory != self.directory {
            self.directory.clone_from(directory);
            (self.track, self.events, self.reopen_at) = (None, None, now);
        }
        let circle_of = circle_of(charge);
        if circle_of != self.circle_of {
            (self.circle, self.reopen_at) = (None, now);
            self.circle_of = circle_of;
        }
        if now < self.reopen_at {
            return;
        }
        self.reopen_at = now + REOPEN;
        if self.track.is_none() {
            let opened = Track::open(&self.directory).map_err(|e| e.to_string());
            self.problem("track", opened.as_ref().err().cloned().into_iter().collect());
            self.track = opened.ok();
        }
        if self.events.is_none() {
            let opened = KeepalivedEvents::open(&self.directory)
                .map_err(|e| format!("Keepalived's FIFO in {} cannot be opened: {e}", self.directory));
            self.problem("fifo", opened.as_ref().err().cloned().into_iter().collect());
            self.events = opened.ok();
            // What was said before is told by a dump alone.
            self.ask_at = now;
        }
        if self.ear.is_none() {
            let opened = Ear::open().map_err(|e| format!("adverts of the other nodes cannot be heard: {e}"));
            self.problem("ear", opened.as_ref().err().cloned().into_iter().collect());
            self.ear = opened.ok();
        }
        if self.circle.is_none()
            && let Some(of) = &self.circle_of
        {
            let opened = Circle::open(&of.own, &of.peers, of.port, SharedKey::of(&of.key)).await;
            let problem =
                opened.as_ref().err().map(|e| format!("UDP port {} for the heartbeat cannot be bound: {e}", of.port));
            self.circle = opened.ok();
            self.problem("heartbeat", problem.into_iter().collect());
        }
    }

    /// At interfaces, processes and clocks.
    async fn look(&mut self, charge: &Charge) {
        let now = Instant::now();
        // Where this process lacks what it takes to look, what was seen last holds.
        let daemon = keepalived::running(&charge.config.keepalived.pid_file).unwrap_or(self.daemon);
        if daemon.map(|daemon| daemon.pid) != self.daemon.map(|daemon| daemon.pid) {
            let (kind, text) = match daemon {
                Some(daemon) => (VipEventKind::KeepalivedSeen, format!("Keepalived runs (pid {})", daemon.pid)),
                None => (VipEventKind::KeepalivedLost, "Keepalived ended".to_owned()),
            };
            self.draft.note(kind, None, text);
            self.ask_at = now;
            if daemon.is_none() {
                // Nobody says any more what it is.
                self.draft.vips.values_mut().for_each(|view| (view.state, view.priority) = (None, None));
            }
        }
        if self.events.as_ref().is_some_and(|events| !events.is_in_place()) {
            (self.events, self.reopen_at) = (None, now);
        }
        self.was_seen |= daemon.is_some();
        self.daemon = daemon;
        self.draft.keepalived = daemon.map(|daemon| daemon.pid);
        if let Some(daemon) = daemon.filter(|daemon| daemon.speaks && now >= self.ask_at) {
            self.ask_at = now + ASK;
            let sender = self.dumps.0.clone();
            let directory = self.directory.clone();
            tokio::spawn(
                async move { sender.send((now, keepalived::ask_state(daemon, &directory, DUMP).await)).await },
            );
        }
        let wanted = network::wanted(&charge.config);
        if !self.settling && (now >= self.settle_at || wanted != self.settled_for) {
            (self.settling, self.settled_for) = (true, wanted.clone());
            let sender = self.settled.0.clone();
            tokio::spawn(async move { sender.send(network::settle(&wanted).await).await });
        }
        if self.own.look(charge, daemon, self.was_seen, &mut self.draft).await {
            self.ask_at = self.ask_at.min(now + AGAIN);
        }
        // The backstop looks at its time, and asks the socket that it names. Where it cannot be written, the backstop
        // asks as well.
        let _ = keepalived::beat(&self.directory, &charge.config.haproxy.admin_socket.value);
    }

    /// Decides what Keepalived is told, and tells it.
    fn judge(&mut self, charge: &Charge) {
        self.tell_local();
        self.hear_peers();
        // Until HAProxy was looked at, what stands in the files holds; and until Keepalived has said who owns what, unless
        // HAProxy is gone: the restart of an agent is no reason to move an address.
        let Some(local) = self.draft.local else { return };
        let is_known = self.draft.vips.values().all(|view| view.state.is_some());
        if local == Local::Serves && !is_known && self.started.elapsed() < KNOWN {
            return;
        }
        let instant = Instant::now();
        let now = self.epoch.now();
        let peers: Vec<(Name, NodeNews, Duration)> = self
            .draft
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_heard)
            .filter_map(|(name, peer)| {
                let age = instant.saturating_duration_since(peer.at?);
                Some((name.clone(), peer.news.clone()?, age))
            })
            .collect();
        let peers: Vec<_> = peers.iter().map(|(name, news, age)| (name, news, *age)).collect();
        let others = self.draft.peers.len();
        let is_last = others > 0 && peers.len() == others && peers.iter().all(|(_, news, _)| !news.can_serve);
        let fitness = Fitness { local, is_starting: !charge.is_settled, is_degraded: charge.is_degraded, is_last };
        let held = self.hold.see(local, now);
        let mut problem = None;
        for vip in charge.vips() {
            let part = self.own.part(vip, charge, &peers, self.ear.as_ref(), now, &mut self.draft);
            let word = decide(&fitness, &part, held, now);
            let told = self.track.as_mut().map(|track| track.tell(vip.name.as_str(), word.fault, word.adjustment));
            if let Some(Err(e)) = &told {
                problem = Some(e.to_string());
            }
            let Some(view) = self.draft.vips.get_mut(&vip.name) else { continue };
            let is_news =
                |before: &crate::vip::VrrpAdvice| (before.fault, before.adjustment) != (word.fault, word.adjustment);
            if view.word.as_ref().is_none_or(is_news) {
                let (fault, adjustment, why) = (word.fault, word.adjustment, &word.why);
                tracing::info!(vip = %vip.name, fault, adjustment, why, "told Keepalived");
                self.tell_now = true;
            }
            view.word = Some(word);
        }
        if self.track.is_some() {
            self.problem("track", problem.into_iter().collect());
        }
    }

    fn tell_local(&mut self) {
        let LocalView { local: now, is_full, is_blind, connections } = self.sight.borrow_and_update().clone();
        self.problem("blind", is_blind.then(|| BLIND.to_owned()).into_iter().collect());
        let before = std::mem::replace(&mut self.draft.local, now);
        (self.draft.is_full, self.draft.connections) = (is_full, connections);
        let serves = |local: Option<Local>| local.map(|local| local == Local::Serves);
        if serves(before) == serves(now) {
            return;
        }
        match now {
            Some(Local::Gone) => self.draft.note(VipEventKind::HaproxyLost, None, "HAProxy is gone".to_owned()),
            Some(Local::Hangs) => {
                self.draft.note(VipEventKind::HaproxyLost, None, "HAProxy does not answer".to_owned())
            }
            Some(Local::Serves) if before.is_some() => {
                self.draft.note(VipEventKind::HaproxyBack, None, "HAProxy answers again".to_owned());
            }
            Some(Local::Serves) | None => {}
        }
    }

    /// Who is heard, who fell silent.
    fn hear_peers(&mut self) {
        let now = Instant::now();
        let Some(circle) = &self.circle else {
            self.draft.peers.clear();
            return;
        };
        let mut notes = Vec::new();
        for (name, heard) in circle.heard() {
            let view = self.draft.peers.entry(name.clone()).or_default();
            let is_heard = heard.fresh(now).is_some();
            if view.is_heard != is_heard {
                notes.push(match is_heard {
                    true => (VipEventKind::PeerHeard, format!("{name} is heard")),
                    false => (VipEventKind::PeerLost, format!("{name} is silent")),
                });
            }
            *view = PeerView { news: heard.news.clone(), at: heard.at, is_heard };
        }
        let forged = circle.forged;
        let known: Vec<Name> = circle.heard().map(|(name, _)| name.clone()).collect();
        self.draft.peers.retain(|name, _| known.contains(name));
        if forged > self.forged {
            (self.forged, self.forged_at) = (forged, Some(now));
        }
        let is_forged = self.forged_at.is_some_and(|at| now.saturating_duration_since(at) < FORGED);
        let told = "heartbeats come in that are sealed with another key: is `heartbeat.key` the same on all nodes?";
        self.problem("forged", is_forged.then(|| told.to_owned()).into_iter().collect());
        self.tell_apart();
        if !notes.is_empty() {
            // A second chance is for nodes that are there.
            self.settle_at = now;
        }
        notes.into_iter().for_each(|(kind, text)| self.draft.note(kind, None, text));
    }

    /// Which of the nodes that are heard share no counters with this one.
    fn tell_apart(&mut self) {
        let heard = self.draft.peers.iter().filter(|(_, peer)| peer.is_heard).map(|(name, _)| name.as_str());
        let apart: Vec<&str> = {
            let apart = self.apart.borrow();
            heard.filter(|name| apart.contains(*name)).collect()
        };
        let port = self.circle_of.as_ref().map_or(0, |of| of.port);
        let told = (!apart.is_empty()).then(|| {
            format!(
                "HAProxy shares no counters with {}: limits of requests and tokens count on each node alone. Is TCP port {port} open \
                 between the nodes, and does HAProxy there serve this file?",
                apart.join(", ")
            )
        });
        self.problem("counters", told.into_iter().collect());
    }

    /// Tells the other nodes.
    fn tell(&mut self, charge: &Charge) {
        let now = Instant::now();
        let vip_news = |vip: &crate::config::Vip| {
            let view = self.draft.vips.get(&vip.name).cloned().unwrap_or_default();
            let owned_ms = view
                .owned_since
                .map(|since| u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX));
            let dialect = dialect(vip, &charge.config);
            let news = VipNews { state: view.state, owned_ms, priority: view.priority, word: view.word, dialect };
            (vip.name.to_string(), news)
        };
        let news = NodeNews {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            vips: charge.vips().map(vip_news).collect(),
            can_serve: self.draft.local == Some(Local::Serves),
            revision: charge.revision,
            serves: charge.serves.clone(),
            refuses: charge.refuses.clone(),
            canaries: charge.canaries.clone(),
            backends: charge.backends.clone(),
            alerts: charge.alerts.clone(),
        };
        if let Some(circle) = &mut self.circle {
            circle.tell(&news, now);
            self.sums.tell(circle);
        }
    }
}

/// What the heartbeat needs; none: the file wants none, or names no other node.
fn circle_of(charge: &Charge) -> Option<CircleOf> {
    let node = &charge.config.node;
    let heartbeat = node.heartbeat.as_ref()?;
    let peers: BTreeMap<Name, IpAddr> = node.peers.iter().map(|(name, ip)| (name.clone(), ip.value)).collect();
    let own = node.name.value.clone();
    let is_alone = peers.keys().all(|name| *name == own);
    let key = charge.key.clone().filter(|_| !is_alone)?;
    Some(CircleOf { own, peers, port: heartbeat.port, key })
}

async fn next_event(events: Option<&mut KeepalivedEvents>) -> io::Result<keepalived::KeepalivedEvent> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn next_beat(circle: Option<&mut Circle>) -> io::Result<Heard> {
    match circle {
        Some(circle) => circle.next().await,
        None => std::future::pending().await,
    }
}

async fn next_advert(ear: Option<&mut Ear>) {
    match ear {
        Some(ear) => ear.next().await,
        None => std::future::pending().await,
    }
}
