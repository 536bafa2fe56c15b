//! The desk: where events come in and notifications go out. The only reader of the clock here.
//!
//! The loop hands it what it must know and waits for nothing. It dies with the loop; what it knows is on disk before
//! anything is sent, so that the next one goes on where it ended.

use super::keeper::Keeper;
use super::postman::Postman;
use super::readings::Readings;
use super::report::AlertReport;
use super::watches::Watches;
use crate::agent::tell::bulletin::{AlertEar, Bulletin};
use crate::agent::vip::guardian::VipReport;
use crate::alerts::{AlertNews, AlertTable, Elsewhere, Identity, Other, Part, SinkBook, classify, speaks};
use crate::config::{Backend, Config, Server, own_vips};
use crate::event::Event;
use crate::model::{AdminState, Digest, VrrpState};
use crate::store::{self, EventReader};
use crate::sys;
use camino::Utf8PathBuf;
use futures_util::future::select_all;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant as TokioInstant, sleep_until};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Events within this…
const GATHER: Duration = Duration::from_millis(50);
/// …and so many at the most are taken in together.
const MAX_BATCH: usize = 1_000;
/// An alert that lasts when the first sink is set up began at the most so long before.
const FIRST_LOOK_BACK: Duration = Duration::from_secs(86_400);
/// Longest name of a cluster that is made of those of its nodes.
const MAX_CLUSTER: usize = 64;
/// An agent that ends waits so long for what is under way.
const LAST_POST: Duration = Duration::from_secs(2);

/// What the loop knows and the desk must.
#[derive(Clone, Debug)]
pub(in crate::agent) struct AlertCharge {
    pub config: Arc<Config>,
    /// Who owns the addresses; `None`: nobody looks.
    pub vips: Option<watch::Receiver<VipReport>>,
    /// `None`: no rule wants to know.
    pub readings: Option<Readings>,
    /// The agent ends.
    pub is_last: bool,
}

/// The loop's side of the desk.
#[derive(Debug)]
pub struct AlertDesk {
    charge: watch::Sender<AlertCharge>,
    report: watch::Receiver<AlertReport>,
    task: JoinHandle<()>,
    /// When the loop has to hand over readings again.
    next: Instant,
}

impl AlertDesk {
    /// Begins; it keeps what it knows in this state directory.
    pub(in crate::agent) fn begin(charge: AlertCharge, state: Utf8PathBuf, bulletin: Bulletin) -> Self {
        let (sender, charged) = watch::channel(charge);
        let (report, seen) = watch::channel(AlertReport::default());
        let ear = bulletin.listen();
        let task = tokio::spawn(Box::pin(async move {
            Desk::open(charged, report, state, bulletin, ear).await.run().await;
        }));
        Self { charge: sender, report: seen, task, next: Instant::now() }
    }

    /// Whether it has ended, by a bug of ours.
    pub(in crate::agent) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Whether it is time to hand over what is so now, or that is another.
    pub(in crate::agent) fn wants(&self, config: &Arc<Config>, vips: Option<&watch::Receiver<VipReport>>) -> bool {
        let charge = self.charge.borrow();
        let is_same_watch = match (&charge.vips, vips) {
            (Some(before), Some(now)) => before.same_channel(now),
            (None, None) => true,
            _ => false,
        };
        let is_due = !config.alerts.rules.is_empty() && Instant::now() >= self.next;
        is_due || !is_same_watch || !Arc::ptr_eq(&charge.config, config)
    }

    /// Hands it over.
    pub(in crate::agent) fn attend(&mut self, charge: AlertCharge) {
        self.next = Instant::now() + LOOK;
        self.charge.send_replace(charge);
    }

    /// How it goes with the sinks.
    pub fn report(&self) -> AlertReport {
        self.report.borrow().clone()
    }

    /// What the other nodes are to know of it.
    pub(in crate::agent) fn news(&self) -> AlertNews {
        self.report.borrow().news.clone()
    }

    /// The agent ends: what is under way is waited for, a little.
    pub(in crate::agent) async fn close(self) {
        self.charge.send_modify(|charge| charge.is_last = true);
        let _ = tokio::time::timeout(LAST_POST * 2, self.task).await;
    }
}

struct Desk {
    charge: watch::Receiver<AlertCharge>,
    report: watch::Sender<AlertReport>,
    bulletin: Bulletin,
    ear: AlertEar,
    state: Utf8PathBuf,
    table: AlertTable,
    postmen: BTreeMap<String, Postman>,
    watches: Watches,
    keeper: Keeper,
    started: Instant,
    /// It told what all nodes see when it looked last.
    speaks: bool,
    disk_told: Option<String>,
}

impl Desk {
    async fn open(
        charge: watch::Receiver<AlertCharge>,
        report: watch::Sender<AlertReport>,
        state: Utf8PathBuf,
        bulletin: Bulletin,
        ear: AlertEar,
    ) -> Self {
        let config = charge.borrow().config.clone();
        let names: Vec<String> = config.alerts.sinks.iter().map(|sink| sink.name.to_string()).collect();
        let place = state.clone();
        let load = move || store::load_alerts(&place, names.iter().map(String::as_str));
        let kept = tokio::task::spawn_blocking(load).await.unwrap_or_default();
        for damaged in &kept.damaged {
            tracing::warn!("what was told and what waited is forgotten, it cannot be read: {damaged}");
        }
        let mut books = kept.books;
        let postman = |sink: &crate::config::AlertSink| {
            let name = sink.name.to_string();
            let book = books.remove(&name).filter(|book| *book != SinkBook::default());
            let book = book.unwrap_or_else(|| SinkBook::begin(Timestamp::now()));
            (name, Postman::new(sink.clone(), book))
        };
        let postmen = config.alerts.sinks.iter().map(postman).collect();
        let keeper = Keeper::new(state.clone());
        let mut desk = Self {
            charge,
            report,
            bulletin,
            ear,
            state,
            table: kept.table,
            postmen,
            watches: Watches::default(),
            keeper,
            started: Instant::now(),
            speaks: false,
            disk_told: None,
        };
        desk.catch_up().await;
        desk
    }

    /// Takes in from the history what was told and not taken in.
    async fn catch_up(&mut self) {
        let now = Timestamp::now();
        let from = self.table.unread_from();
        let first = now.checked_sub(FIRST_LOOK_BACK).unwrap_or(now);
        let (state, since) = (self.state.clone(), from.unwrap_or(first));
        let read = tokio::task::spawn_blocking(move || {
            let mut events = vec![];
            let read = EventReader::new(&state).read(|event| {
                if event.at >= since && !classify(&event).is_empty() {
                    events.push(event);
                }
            });
            (events, read.map_err(|e| sys::chain(&e)))
        });
        let Ok((events, read)) = read.await else { return };
        if let Err(why) = read {
            tracing::warn!("what happened before cannot be read: {why}");
        }
        events.iter().for_each(|event| self.table.take(event, true));
        if from.is_none() {
            // What only happened before anybody wanted to know is no news.
            self.table.begin_at(now);
            self.table.forget_what_happened();
        }
    }

    async fn run(mut self) {
        let mut look_at = Instant::now();
        loop {
            let due = self.postmen.values().filter_map(Postman::next_wake).min();
            let wake = due.map_or(look_at, |due| due.min(look_at));
            tokio::select! {
                event = self.ear.next() => {
                    let Some(event) = event else { return };
                    self.hear(event).await;
                    self.look().await;
                }
                event = one_ended(&mut self.postmen) => {
                    event.into_iter().for_each(|event| self.bulletin.tell(event));
                    self.keep().await;
                }
                changed = self.charge.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if self.charge.borrow().is_last {
                        return self.end().await;
                    }
                    self.reconfigure().await;
                }
                () = sleep_until(TokioInstant::from_std(wake)) => {
                    if Instant::now() >= look_at {
                        look_at = Instant::now() + LOOK;
                        self.measure();
                        self.look().await;
                    }
                }
            }
            self.postmen.values_mut().for_each(Postman::set_out);
            self.publish();
        }
    }

    async fn hear(&mut self, first: Event) {
        // What comes at once is written down at once.
        tokio::time::sleep(GATHER).await;
        let mut events = vec![first];
        while let (true, Some(event)) = (events.len() < MAX_BATCH, self.ear.try_next()) {
            events.push(event);
        }
        let who = self.identity();
        for event in &events {
            self.table.take(event, false);
            for postman in self.postmen.values_mut() {
                postman.book.applied(event, &postman.sink.rules(), &who);
            }
        }
        if self.ear.has_missed() {
            self.catch_up().await;
        }
    }

    /// Decides what is told, and keeps it before it is sent.
    async fn look(&mut self) {
        let (now, who) = (Timestamp::now(), self.identity());
        self.speaks = who.speaks;
        self.table.know_pools(pools(&self.charge.borrow().config));
        self.table.look(now);
        for postman in self.postmen.values_mut() {
            postman.book.look(&self.table, &postman.sink.rules(), &who, now);
            self.table.note_told(postman.book.told());
            postman.tell_dropped().into_iter().for_each(|event| self.bulletin.tell(event));
        }
        self.keep().await;
    }

    async fn keep(&mut self) {
        // Nobody wants to know: nothing is written.
        if self.postmen.is_empty() && self.keeper.has_nothing() {
            return;
        }
        let books = self.postmen.iter().map(|(name, postman)| (name.as_str(), &postman.book));
        self.keeper.keep(&self.table, books).await;
        let problem = self.keeper.problem().map(str::to_owned);
        if problem != self.disk_told {
            match &problem {
                Some(problem) => tracing::error!("{problem}"),
                None => tracing::info!("what is to be told is kept again"),
            }
            self.disk_told = problem;
        }
    }

    fn measure(&mut self) {
        let charge = self.charge.borrow().clone();
        let Some(readings) = &charge.readings else { return };
        let events = self.watches.look(&charge.config.alerts, readings, &self.table, Timestamp::now());
        events.into_iter().for_each(|event| self.bulletin.tell(event));
    }

    async fn reconfigure(&mut self) {
        let config = self.charge.borrow_and_update().config.clone();
        let sinks = &config.alerts.sinks;
        self.postmen.retain(|name, _| sinks.iter().any(|sink| sink.name.as_str() == name));
        for sink in sinks {
            match self.postmen.get_mut(sink.name.as_str()) {
                Some(postman) if postman.sink == *sink => {}
                Some(postman) => postman.reconfigure(sink.clone()),
                None => {
                    let name = sink.name.to_string();
                    self.postmen.insert(name, Postman::new(sink.clone(), SinkBook::begin(Timestamp::now())));
                }
            }
        }
        self.keep().await;
    }

    /// The last events are taken in, and what is under way is waited for.
    async fn end(mut self) {
        if let Some(event) = self.ear.try_next() {
            self.hear(event).await;
        }
        self.look().await;
        let until = TokioInstant::now() + LAST_POST;
        while self.postmen.values().any(Postman::is_under_way) {
            let Ok(event) = tokio::time::timeout_at(until, one_ended(&mut self.postmen)).await else { break };
            event.into_iter().for_each(|event| self.bulletin.tell(event));
        }
        self.keep().await;
    }

    fn identity(&self) -> Identity {
        let charge = self.charge.borrow();
        let config = &charge.config;
        let node = config.node.name.value.to_string();
        let mut names: Vec<&str> = config.node.peers.keys().map(crate::model::Name::as_str).collect();
        if !names.contains(&node.as_str()) {
            names.push(&node);
            names.sort_unstable();
        }
        let joined = names.join("+");
        let cluster = if joined.len() > MAX_CLUSTER { Digest::of(&joined).short() } else { joined };
        let report = charge.vips.as_ref().map(|vips| vips.borrow().clone());
        let speaks = may_speak(config, report.as_ref(), self.started);
        Identity { node, cluster, speaks, elsewhere: elsewhere(report.as_ref()) }
    }

    fn publish(&self) {
        let sinks = self.postmen.values().map(|postman| postman.report(&self.table)).collect();
        let books = || self.postmen.iter().map(|(name, postman)| (name, &postman.book));
        let now = Timestamp::now();
        let open = books().flat_map(|(sink, book)| book.open_marks(sink, now));
        let news = AlertNews::of(self.speaks, open, books().flat_map(|(sink, book)| book.over_marks(sink, now)));
        let disk = self.keeper.problem().map(str::to_owned);
        self.report.send_replace(AlertReport { sinks, disk, news });
    }
}

/// How many servers each backend has that are meant to serve.
fn pools(config: &Config) -> BTreeMap<String, usize> {
    let is_meant = |server: &&Server| server.state.value == AdminState::Ready;
    let count = |backend: &Backend| backend.servers.iter().filter(is_meant).count();
    config.backends.iter().map(|backend| (backend.name.to_string(), count(backend))).collect()
}

/// What became of the first try that ends; for ever while none is under way.
async fn one_ended(postmen: &mut BTreeMap<String, Postman>) -> Option<Event> {
    if postmen.is_empty() {
        return std::future::pending().await;
    }
    let ends = postmen.values_mut().map(|postman| Box::pin(postman.ended()));
    select_all(ends).await.0
}

/// What the other nodes told, as far as they were heard.
fn elsewhere(report: Option<&VipReport>) -> Elsewhere {
    let (now, mut elsewhere) = (Timestamp::now(), Elsewhere::default());
    for peer in report.into_iter().flat_map(|report| report.peers.values()) {
        if let (Some(news), Some(at)) = (&peer.news, peer.at) {
            let heard = now.checked_sub(at.elapsed()).unwrap_or(now);
            elsewhere.hear(&news.alerts, heard);
        }
    }
    elsewhere
}

/// Whether this node tells what all nodes see.
fn may_speak(config: &Config, report: Option<&VipReport>, started: Instant) -> bool {
    let Some(report) = report else { return true };
    let is_backup = || report.vips.values().any(|view| view.state == Some(VrrpState::Backup));
    let part = match own_vips(config).next() {
        Some(_) if report.owned() > 0 => Part::Owner,
        Some(_) if is_backup() => Part::Backup,
        _ => Part::None,
    };
    let others: Vec<Other<'_>> = report
        .peers
        .iter()
        .map(|(name, peer)| Other {
            name: name.as_str(),
            is_heard: peer.is_heard,
            silent: peer.at.map_or_else(|| started.elapsed(), |at| at.elapsed()),
            owns: peer.news.as_ref().is_some_and(|news| news.vips.values().any(|vip| vip.owned_ms.is_some())),
        })
        .collect();
    speaks(config.node.name.value.as_str(), part, &others)
}
