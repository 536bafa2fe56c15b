//! Watches the HAProxy of this node and tells Keepalived what the node is fit for, beside the agent's loop: an apply
//! that takes seconds must not keep the addresses on a node that cannot serve.
//!
//! Hears from the loop what it cannot see itself ([`Charge`]); tells everybody what it knows ([`VipReport`]).

use crate::config::{Config, Vip};
use crate::haproxy::{Listener, Pulse, pulse};
use crate::keepalived::{Event, Events, Track};
use crate::model::{Moment, VrrpState};
use crate::sys::pidfd::Watched;
use crate::vip::{Fitness, HoldDown, Local, Word, decide};
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks at HAProxy.
const BEAT: Duration = Duration::from_millis(50);
/// A look takes no longer.
const WITHIN: Duration = Duration::from_millis(100);
/// Looks in vain, one after the other, until HAProxy counts as hung.
const FALL: u32 = 2;
/// The backstop believes in a living agent for four of these.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// What the agent's loop knows and the guardian must.
#[derive(Clone, Debug)]
pub struct Charge {
    /// What is served.
    pub config: Arc<Config>,
    /// Where HAProxy can be asked; none: it cannot.
    pub listener: Option<Listener>,
    /// The agent has compared HAProxy with the file once.
    pub is_settled: bool,
    /// HAProxy does not run what the file says, or cannot be steered.
    pub is_degraded: bool,
    /// An operator moves the addresses away.
    pub is_draining: bool,
}

/// What the guardian knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VipReport {
    /// What Keepalived was told last.
    pub word: Option<Word>,
    /// Each VIP's state, as Keepalived says.
    pub states: BTreeMap<String, (VrrpState, u8)>,
    /// What is wrong: a track file that cannot be written, no FIFO.
    pub problem: Option<String>,
}

/// The watcher's memory.
#[derive(Debug)]
struct Guardian {
    charge: watch::Receiver<Charge>,
    report: watch::Sender<VipReport>,
    directory: Utf8PathBuf,
    track: Track,
    hold: HoldDown,
    local: Option<Local>,
    misses: u32,
    worker: Option<Watched>,
    started: Instant,
}

/// Begins to watch; ends with the receiver of `charge` or when the file gives the node no part in a VIP any more.
///
/// # Errors
/// The directory or the FIFO cannot be made: for people.
pub fn start(charge: watch::Receiver<Charge>) -> Result<watch::Receiver<VipReport>, String> {
    let directory = charge.borrow().config.keepalived.directory.value.clone();
    let track = Track::open(&directory).map_err(|e| e.to_string())?;
    let fifo = directory.join("vrrp.fifo");
    let events = Events::open(&fifo).map_err(|e| format!("{fifo} cannot be opened: {e}"))?;
    let (report, seen) = watch::channel(VipReport::default());
    let guardian = Guardian {
        charge,
        report,
        directory,
        track,
        hold: HoldDown::default(),
        local: None,
        misses: 0,
        worker: None,
        started: Instant::now(),
    };
    tokio::spawn(guardian.run(events));
    Ok(seen)
}

impl Guardian {
    async fn run(mut self, mut events: Events) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heartbeat = interval(HEARTBEAT);
        loop {
            let listener = self.charge.borrow().listener.clone();
            tokio::select! {
                _ = beat.tick() => {
                    if let Some(listener) = listener {
                        let found = pulse(&listener, WITHIN).await;
                        self.felt(found);
                    }
                }
                () = ended(self.worker.as_ref()) => {
                    self.worker = None;
                    // A reload ends a worker too: what counts is whether another one answers.
                    if let Some(listener) = listener {
                        match pulse(&listener, WITHIN).await {
                            Pulse::Refused => self.local = Some(Local::Gone),
                            found => self.felt(found),
                        }
                    }
                }
                event = events.next() => match event {
                    Ok(event) => self.heard(&event),
                    Err(e) => {
                        self.report.send_modify(|report| report.problem = Some(format!("Keepalived's FIFO: {e}")));
                        return;
                    }
                },
                _ = heartbeat.tick() => {
                    // The backstop looks at its time. Where it cannot be written, the backstop asks HAProxy itself.
                    let _ = fs_err::write(self.directory.join("heartbeat"), "");
                }
                changed = self.charge.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            self.tell();
        }
    }

    fn felt(&mut self, found: Pulse) {
        match found {
            Pulse::Beats(pid) => {
                self.misses = 0;
                self.local = Some(Local::Serves);
                if let Some(pid) = pid.filter(|pid| self.worker.as_ref().is_none_or(|watched| watched.pid != *pid)) {
                    // One that has ended meanwhile is found out by the next look.
                    self.worker = Watched::open(pid).ok();
                }
            }
            Pulse::Elsewhere => {}
            Pulse::Refused | Pulse::Silent => {
                self.misses += 1;
                if self.misses >= FALL {
                    self.local = Some(if found == Pulse::Refused { Local::Gone } else { Local::Hangs });
                }
            }
        }
    }

    fn heard(&mut self, event: &Event) {
        let Event { vip, state, priority, is_transition } = event;
        if *is_transition {
            tracing::info!(vip, %state, priority, "VRRP");
        }
        self.report.send_modify(|report| {
            report.states.insert(vip.clone(), (*state, *priority));
        });
    }

    fn tell(&mut self) {
        // Until HAProxy was looked at, what stands in the files holds.
        let Some(local) = self.local else { return };
        let now = Moment(self.started.elapsed());
        let charge = self.charge.borrow().clone();
        let rank = charge.config.vips.iter().map(|vip| rank(vip, &charge.config)).max().unwrap_or(0);
        let has_owner = self.report.borrow().states.values().any(|(state, _)| *state == VrrpState::Master);
        let fitness = Fitness {
            local,
            is_starting: !charge.is_settled,
            is_draining: charge.is_draining,
            is_degraded: charge.is_degraded,
            is_last: false,
            rank,
            has_owner,
        };
        let word = decide(&fitness, self.hold.see(local, now), now);
        let told = self.track.tell(word.fault, word.adjustment);
        let problem = told.as_ref().err().map(ToString::to_string);
        if let Ok(true) = told {
            tracing::info!(fault = word.fault, adjustment = word.adjustment, why = word.why, "told Keepalived");
        }
        self.report.send_if_modified(|report| {
            let is_new = report.word.as_ref() != Some(&word) || report.problem != problem;
            (report.word, report.problem) = (Some(word), problem);
            is_new
        });
    }
}

/// How many nodes the operator ranks higher.
fn rank(vip: &Vip, config: &Config) -> u8 {
    let own = vip.priority.get(&config.node.name.value).map(|priority| priority.value);
    let higher = vip.priority.values().filter(|other| own.is_some_and(|own| other.value > own)).count();
    u8::try_from(higher).unwrap_or(u8::MAX)
}

/// The end of the worker; never, where none is known.
async fn ended(worker: Option<&Watched>) {
    match worker {
        Some(watched) if watched.ended().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}
