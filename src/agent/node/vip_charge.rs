//! The loop's side of the virtual addresses: what the guardian is charged with, what it found, and what operators and
//! the other nodes have to say in it.

use super::Node;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::troubles::Matter;
use crate::agent::vip::guardian::{self, Charge};
use crate::agent::vip::vips::Vips;
use crate::config::{Config, own_vips};
use crate::event::{Event, EventKind, Severity};
use crate::haproxy;
use crate::health::State;
use crate::heartbeat::{self, Serves};
use crate::model::{Digest, Name};
use crate::store;
use crate::sys;
use crate::vip::{PeerStanding, Proof, Turn, turn};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A revision that has served as long, and whose servers were all asked, is proven.
const PROVEN: Duration = Duration::from_secs(3);
/// Servers of which nobody could say by then whether they answer are no reason to wait.
const ASKED: Duration = Duration::from_secs(60);
/// An address that an operator takes back comes in this time or not at all.
pub(super) const RECLAIM: Duration = Duration::from_secs(10);
/// The guardian has told Keepalived by then.
const ANNOUNCED: Duration = Duration::from_millis(200);
/// Between two looks at what the guardian should know.
const LOOK: Duration = Duration::from_millis(250);
/// HAProxy that does not follow for as long makes this node worth less than another: moving an address cuts streams.
const DEGRADED: Duration = Duration::from_secs(10);
/// Share of the usual rhythm of probes where this node owns nothing: the owner probes.
const STANDBY_PACE: f64 = 1.0 / 6.0;

impl Node {
    /// When [`Self::look_at_vips`] has something to do next.
    pub fn vips_wake(&self) -> Option<Instant> {
        self.vips.as_ref().map(|vips| vips.look_at)
    }

    /// [`Self::attend_vips`], a few times a second: it looks at every server.
    pub fn look_at_vips(&mut self) {
        if self.vips.as_ref().is_none_or(|vips| vips.look_at <= Instant::now()) {
            self.attend_vips();
        }
    }

    /// Starts the guardian where there is something to guard, and charges it with what is so now.
    pub fn attend_vips(&mut self) {
        let config = self.serving.config.clone();
        let is_wanted = own_vips(&config).next().is_some() || config.node.heartbeat.is_some();
        if self.is_observer() || (self.vips.is_none() && !is_wanted) {
            return;
        }
        let mut vips = match self.vips.take() {
            Some(vips) if vips.report.has_changed().is_ok() => vips,
            Some(_) => {
                tracing::error!("the watch over the virtual addresses ended by a bug of ours; it begins anew");
                self.begin_vips()
            }
            None => self.begin_vips(),
        };
        vips.look_at = Instant::now() + LOOK;
        vips.wanted.retain(|name| vips.report.borrow().vips.get(name).is_some_and(|view| view.owned_since.is_none()));
        if Instant::now() > vips.wanted_until {
            vips.wanted.clear();
        }
        let serves = self.proof(&mut vips);
        if let Some((_, rendered)) = &self.engine.last
            && vips.listener.as_ref().is_none_or(|(of, _)| *of != rendered.structure.digest)
        {
            let listener = haproxy::pulse_listener(&rendered.haproxy_cfg);
            vips.listener = Some((rendered.structure.digest, listener));
        }
        let listener = vips.listener.as_ref().and_then(|(_, listener)| listener.clone());
        let is_degraded = self.is_settled && self.troubles.has(Matter::Haproxy) && !self.lacks;
        vips.degraded_since = vips.degraded_since.or(Some(Instant::now())).filter(|_| is_degraded);
        let is_degraded = vips.degraded_since.is_some_and(|since| since.elapsed() >= DEGRADED);
        let charge = Charge { listener, serves, is_degraded, ..self.charge(&vips.released, &vips.wanted) };
        vips.charge.send_if_modified(|before| {
            let is_new = !before.is_like(&charge);
            *before = charge;
            is_new
        });
        // Only the owner probes at full rate, and who becomes it does at once; so does who proves a revision for others.
        let is_proving = vips.charge.borrow().serves.as_ref().is_none_or(|serves| !serves.is_proven);
        let is_busy = own_vips(&config).next().is_none() || is_proving || vips.report.borrow().owned() > 0;
        let now = self.now();
        self.steering.fleet.set_pace(if is_busy { 1.0 } else { STANDBY_PACE }, now);
        self.vips = Some(vips);
    }

    /// Tells the guardian of a file before Keepalived reads it: where it speaks another VRRP than the owner, this node must
    /// be out of the way by then.
    pub(super) async fn announce(&self, config: &Arc<Config>) {
        if let Some(vips) = &self.vips {
            vips.charge.send_modify(|charge| charge.config.clone_from(config));
            tokio::time::sleep(ANNOUNCED).await;
        }
    }

    fn begin_vips(&self) -> Vips {
        let released = store::load_released(&self.ledger.state).unwrap_or_else(|e| {
            tracing::error!("which addresses were released is forgotten: {}", sys::chain(&e));
            BTreeSet::new()
        });
        let (charge, charged) = watch::channel(self.charge(&released, &BTreeSet::new()));
        let report = guardian::start(charged, self.epoch, self.bulletin.clone());
        Vips {
            charge,
            report,
            released,
            wanted: BTreeSet::new(),
            wanted_until: Instant::now(),
            serving: None,
            dead: BTreeSet::new(),
            dead_before: None,
            listener: None,
            degraded_since: None,
            look_at: Instant::now(),
        }
    }

    fn charge(&self, released: &BTreeSet<Name>, wanted: &BTreeSet<Name>) -> Charge {
        let config = self.serving.config.clone();
        let key = config.node.heartbeat.as_ref().and_then(|heartbeat| self.serving.secrets.get(&heartbeat.key.value));
        let refuses = self
            .file
            .problem
            .as_ref()
            .filter(|_| self.file.order_wait.is_none() && self.file.waiting().is_none())
            .and_then(|problem| {
                Some(heartbeat::RefusedFile { file: self.file.place.digest()?, why: problem.why().headline() })
            });
        Charge {
            listener: None,
            key: key.cloned(),
            is_settled: self.is_settled,
            is_degraded: false,
            released: released.clone(),
            wanted: wanted.clone(),
            revision: self.revision(),
            serves: None,
            refuses,
            config,
        }
    }

    /// What becomes of the file that serves, for the nodes that wait for it.
    fn proof(&self, vips: &mut Vips) -> Option<Serves> {
        if !self.is_settled {
            return None;
        }
        let file = Digest::of(&self.serving.toml);
        let now = Instant::now();
        let since = match vips.serving {
            Some((before, since)) if before == file => since,
            _ => now,
        };
        let is_new = vips.serving.is_some_and(|(before, _)| before != file);
        vips.serving = Some((file, since));
        let states = self.serving.config.backends.iter().map(|backend| {
            let ids = backend
                .servers
                .iter()
                .map(|server| crate::model::ServerId::new(backend.name.clone(), server.name.clone()));
            let states: Vec<_> = ids
                .filter_map(|id| self.steering.fleet.view().health(&id))
                .map(crate::health::ServerHealth::state)
                .collect();
            (backend.name.clone(), states)
        });
        let states: Vec<_> = states.collect();
        let is_dead =
            |states: &[State]| !states.is_empty() && states.iter().all(|state| matches!(state, State::Unhealthy(_)));
        let dead: BTreeSet<Name> =
            states.iter().filter(|(_, states)| is_dead(states)).map(|(name, _)| name.clone()).collect();
        if is_new {
            vips.dead_before = Some(std::mem::take(&mut vips.dead));
        }
        let is_asked = states.iter().all(|(_, states)| !states.contains(&State::Unknown));
        // What was dead before is not this file's doing; nor can the first one of a life be judged by it.
        let lost = vips.dead_before.iter().flat_map(|before| dead.difference(before));
        let lost: Vec<String> = lost.map(ToString::to_string).collect();
        let failed = match (self.troubles.of(Matter::Haproxy), lost.is_empty()) {
            (Some(problem), _) => Some(problem.headline()),
            (None, false) => Some(format!("no server of {} answers as it should", lost.join(", "))),
            (None, true) => None,
        };
        let served = now.saturating_duration_since(since);
        let is_proven = failed.is_none() && served >= PROVEN && (is_asked || served >= ASKED);
        vips.dead = dead;
        Some(Serves { file, is_proven, failed })
    }

    /// Whose turn it is to serve the file as it stands. One with mistakes waits for nobody.
    pub fn its_turn(&self) -> Turn {
        let Some(file) = self.file.place.digest().filter(|_| self.vips.is_some()) else { return Turn::Go };
        match self.turn(file) {
            Turn::Wait(_) | Turn::Stop(_) if self.file.order_wait.is_none() && self.file.place.load().is_err() => {
                Turn::Go
            }
            turn => turn,
        }
    }

    fn turn(&self, file: Digest) -> Turn {
        let config = &self.serving.config;
        let Some(vips) = self.vips.as_ref().filter(|_| config.apply.backup_first) else { return Turn::Go };
        if self.is_settled && Digest::of(&self.serving.toml) == file {
            return Turn::Go;
        }
        let report = vips.report.borrow();
        let heard = report.peers.iter().filter(|(_, peer)| peer.is_heard);
        let others: Vec<PeerStanding<'_>> = heard
            .filter_map(|(node, peer)| {
                let news = peer.news.as_ref()?;
                let proof = |serves: &Serves| match &serves.failed {
                    Some(why) => Proof::Failed(why.clone()),
                    None if serves.is_proven => Proof::Proven,
                    None => Proof::Proving,
                };
                Some(PeerStanding {
                    node,
                    owned: news.vips.values().filter(|vip| vip.owned_ms.is_some()).count(),
                    serves: news.serves.as_ref().map(|serves| (serves.file, proof(serves))),
                    refuses: news.refuses.as_ref().map(|refusal| (refusal.file, refusal.why.as_str())),
                })
            })
            .collect();
        turn(&config.node.name, report.owned(), file, &others)
    }

    /// Moves addresses to other nodes: before this one is taken down.
    ///
    /// # Errors
    /// No such VIP, or nobody else can take it, unless `force`.
    pub fn release(&mut self, names: &[Name], force: bool, actor: &str) -> Result<Report, Failed> {
        let names = self.vips_called(names)?;
        let vips = self.vips.as_mut().ok_or_else(no_vips)?;
        if !force {
            let report = vips.report.borrow();
            for name in names.iter().filter(|name| report.vips.get(*name).is_some_and(|vip| vip.owned_since.is_some()))
            {
                let takers = report.peers.values().filter(|peer| peer.is_heard).filter_map(|peer| peer.news.as_ref());
                let can = takers.filter(|news| news.can_serve).filter_map(|news| news.vips.get(name.as_str()));
                if !can.filter_map(|vip| vip.word.as_ref()).any(|word| !word.fault && word.adjustment > -100) {
                    let what = format!("no other node is known to be able to take {name}");
                    return Err(Failed::refused(Refusal::new(what).help(
                        "`hapilot vip status` shows them; with --force it is released all the same, and stays here until \
                         somebody takes it",
                    )));
                }
            }
        }
        let mut released = vips.released.clone();
        released.extend(names.iter().cloned());
        self.keep_released(released)?;
        let list = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        self.bulletin.tell(Event::once(EventKind::Vip, Severity::Info, &list, format!("{actor} released {list}")));
        self.attend_vips();
        Ok(Report::note(self.revision(), format!("{list}: released; other nodes take over")))
    }

    /// Takes addresses back.
    ///
    /// # Errors
    /// No such VIP, or the state cannot be kept.
    pub fn reclaim(&mut self, names: &[Name], actor: &str) -> Result<Report, Failed> {
        let names = self.vips_called(names)?;
        let vips = self.vips.as_mut().ok_or_else(no_vips)?;
        let mut released = vips.released.clone();
        released.retain(|name| !names.contains(name));
        vips.wanted.extend(names.iter().cloned());
        vips.wanted_until = Instant::now() + RECLAIM;
        self.keep_released(released)?;
        let list = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        self.bulletin.tell(Event::once(EventKind::Vip, Severity::Info, &list, format!("{actor} reclaimed {list}")));
        self.attend_vips();
        Ok(Report::note(self.revision(), format!("{list}: reclaimed")))
    }

    fn keep_released(&mut self, released: BTreeSet<Name>) -> Result<(), Failed> {
        store::save_released(&self.ledger.state, &released).map_err(|e| Failed::refused(sys::chain(&e)))?;
        if let Some(vips) = &mut self.vips {
            vips.released = released;
        }
        Ok(())
    }

    /// The VIPs of these names; all, where none is named.
    fn vips_called(&self, names: &[Name]) -> Result<Vec<Name>, Failed> {
        let own: Vec<Name> = own_vips(&self.serving.config).map(|vip| vip.name.clone()).collect();
        if own.is_empty() {
            return Err(no_vips());
        }
        match names.iter().find(|name| !own.contains(name)) {
            Some(unknown) => {
                let list = own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                Err(Failed::refused(format!("this node has no [vip.{unknown}]; it has {list}")))
            }
            None if names.is_empty() => Ok(own),
            None => Ok(names.to_vec()),
        }
    }
}

fn no_vips() -> Failed {
    Failed::refused("the file gives this node no part in a [vip.NAME]")
}
