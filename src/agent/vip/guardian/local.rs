//! Whether the HAProxy of this node serves, looked at every few milliseconds by a task of its own: one that hangs keeps
//! nobody from hearing the other nodes.

use super::Charge;
use crate::haproxy::{self, Pulse};
use crate::sys::pidfd::Watched;
use crate::vip::Local;
use std::time::Duration;
use tokio::sync::watch as channel;
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks.
const BEAT: Duration = Duration::from_millis(50);
/// A look takes no longer.
const WITHIN: Duration = Duration::from_millis(100);
/// Looks in vain, one after the other, until HAProxy counts as hung or gone.
const FALL: u32 = 2;
/// Between two counts of its clients while addresses are released.
const COUNT: Duration = Duration::from_millis(250);
/// For a count.
const COUNT_WITHIN: Duration = Duration::from_millis(300);

/// What is known of the local HAProxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LocalView {
    /// What it is like; none: it was not seen yet.
    pub local: Option<Local>,
    /// It answers over its admin socket only: it takes no more clients.
    pub is_full: bool,
    /// This process lacks what it takes to look: the rest is what was seen last.
    pub is_blind: bool,
    /// Client connections that it has: known while addresses are released.
    pub connections: Option<u64>,
}

/// Begins to look; ends with the sender of the charge or the last receiver of what is seen.
pub(super) fn watch(charge: channel::Receiver<Charge>) -> channel::Receiver<LocalView> {
    let (sight, seen) = channel::channel(LocalView::default());
    tokio::spawn(Box::pin(async move {
        tokio::select! {
            () = look_for_ever(charge.clone(), &sight) => {}
            () = count_for_ever(charge, &sight) => {}
            () = sight.closed() => {}
        }
    }));
    seen
}

async fn look_for_ever(mut charge: channel::Receiver<Charge>, sight: &channel::Sender<LocalView>) {
    let mut watchman = Watchman::default();
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = charge.borrow_and_update().clone();
        tokio::select! {
            _ = beat.tick() => watchman.look(&now).await,
            () = watchman.ended() => watchman.worker_ended(&now).await,
            changed = charge.changed() => match changed {
                Ok(()) => {}
                Err(_) => return,
            },
        }
        sight.send_if_modified(|sight| {
            let before = (sight.local, sight.is_full, sight.is_blind);
            (sight.local, sight.is_full, sight.is_blind) = (watchman.local, watchman.is_full, watchman.is_blind);
            before != (sight.local, sight.is_full, sight.is_blind)
        });
    }
}

async fn count_for_ever(charge: channel::Receiver<Charge>, sight: &channel::Sender<LocalView>) {
    let mut ticks = interval(COUNT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let socket = {
            let charge = charge.borrow();
            (!charge.released.is_empty()).then(|| charge.config.haproxy.admin_socket.value.clone())
        };
        let connections = match socket {
            Some(socket) => haproxy::clients(&socket, COUNT_WITHIN).await.ok().map(|(_, clients)| clients),
            None => None,
        };
        sight.send_if_modified(|sight| std::mem::replace(&mut sight.connections, connections) != connections);
    }
}

/// Looks, and remembers what it needs to.
#[derive(Debug, Default)]
struct Watchman {
    local: Option<Local>,
    is_full: bool,
    is_blind: bool,
    misses: u32,
    worker: Option<Watched>,
}

impl Watchman {
    /// Looks once.
    async fn look(&mut self, charge: &Charge) {
        let admin = &charge.config.haproxy.admin_socket.value;
        let by_admin = async || match haproxy::clients(admin, WITHIN).await {
            Ok((pid, _)) => Pulse::Beats(Some(pid)),
            Err(found) => found,
        };
        let Some(listener) = &charge.listener else {
            let found = by_admin().await;
            self.felt(found);
            return;
        };
        // A HAProxy that is full takes no client, and must not be taken for one that hangs: the other node would be
        // full next. Its admin socket has no such limit.
        let (found, vouched) = match self.misses + 1 >= FALL {
            true => tokio::join!(haproxy::pulse(listener, WITHIN), by_admin()),
            false => (haproxy::pulse(listener, WITHIN).await, Pulse::Silent),
        };
        match (found, vouched) {
            (Pulse::Silent, Pulse::Beats(pid)) => {
                self.felt(Pulse::Beats(pid));
                // The next look in vain asks both again.
                (self.is_full, self.misses) = (true, FALL - 1);
            }
            // One of the two says nothing, for want of descriptors: nor does the silence of the other one count.
            (Pulse::Silent, Pulse::Blind) => self.felt(Pulse::Blind),
            (Pulse::Elsewhere, _) => {
                let found = by_admin().await;
                self.felt(found);
            }
            (found, _) => self.felt(found),
        }
    }

    /// Its worker has ended. A reload ends one too: what counts is whether another one answers.
    async fn worker_ended(&mut self, charge: &Charge) {
        self.worker = None;
        let Some(listener) = &charge.listener else { return self.look(charge).await };
        match haproxy::pulse(listener, WITHIN).await {
            Pulse::Refused => self.local = Some(Local::Gone),
            found => self.felt(found),
        }
    }

    /// Returns when the worker ends; never, where none is known.
    async fn ended(&self) {
        match &self.worker {
            Some(watched) if watched.ended().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    fn felt(&mut self, found: Pulse) {
        self.is_blind = false;
        match found {
            Pulse::Beats(pid) => {
                (self.misses, self.is_full) = (0, false);
                self.local = Some(Local::Serves);
                if let Some(pid) = pid.filter(|pid| self.worker.as_ref().is_none_or(|watched| watched.pid != *pid)) {
                    // One that has ended meanwhile, or lives in another container, is found out by the next looks.
                    self.worker = Watched::open(pid).ok();
                }
            }
            Pulse::Elsewhere => {}
            // What was seen last holds: our own want is no fault of HAProxy's.
            Pulse::Blind => self.is_blind = true,
            Pulse::Refused | Pulse::Silent => {
                self.misses += 1;
                if self.misses >= FALL {
                    self.local = Some(if found == Pulse::Refused { Local::Gone } else { Local::Hangs });
                    self.worker = None;
                }
            }
        }
    }
}
