//! What this node serves, and every way to change it: an edit, a rollback, an operator's word, a weight.
//!
//! Holds the lock and the store. The loop of the running agent and commands that work alone both call it, so there is
//! one path only. Knows no socket of its own.

use super::adopted::{adopt, base_weights};
use super::apply::{ApplyError, How, Wish};
use super::attempt::Attempt;
use super::bulletin::Bulletin;
use super::certificate_news::CertificateNews;
use super::engine::Engine;
use super::fleet::Fleet;
use super::intent::Intent;
use super::keyring::Keyring;
use super::ledger::Ledger;
use super::listening::Listening;
use super::locking::take_lock;
use super::overrides::Overrides;
use super::preflight::STAGING;
use super::report::{Failed, Report, SourceOfChange};
use super::saved::Waiting;
use super::sources::{Place, Sources, SourcesError};
use super::troubles::{Matter, Troubles};
use super::vips::Vips;
use super::vrrp_file::VRRP_STAGING;
use crate::desired::Desired;
use crate::event::{Event, Kind, Severity};
use crate::model::{Digest, Moment, SecretRef, ServerId, Sourced, Weight};
use crate::plan::Runtime;
use crate::render;
use crate::store::Journal;
use crate::sys;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Instant;

/// What this node serves.
#[derive(Debug)]
pub struct Node {
    /// The operator's file.
    pub place: Place,
    /// What is served: the file, or an older revision where the file is broken or was rolled back.
    pub serving: Sources,
    /// Whether anything was applied yet in this life.
    pub is_settled: bool,
    /// The newest file cannot be served: why, as it is to be printed.
    pub file_problem: Option<String>,
    /// What a good file would do that waits for the operator.
    pub(super) waiting: Option<Waiting>,
    /// What else is wrong; what could not be written is tried again with each look at HAProxy.
    pub troubles: Troubles,
    /// HAProxy has followed in this life.
    pub(super) has_followed: bool,
    /// Whoever runs this agent starts HAProxy after the first files, and ends it with the agent.
    pub owns_haproxy: bool,
    /// That was for want of descriptors or memory of this process: no word of HAProxy's.
    pub(super) lacks: bool,
    /// What operators set by command.
    pub overrides: Overrides,
    /// The health of all servers.
    pub fleet: Fleet,
    /// The keys of all servers.
    pub keyring: Keyring,
    /// The ears at HAProxy, while an agent runs and the file wants them.
    pub listening: Option<Listening>,
    /// The virtual addresses, while an agent runs and the file has some.
    pub vips: Option<Vips>,
    /// The first apply of this life is under way.
    pub(super) is_opening: bool,
    /// A new file waits for its turn among the nodes: whom for.
    pub order_wait: Option<String>,
    /// Plans and applies.
    pub engine: Engine,
    /// The certificates that serve, and what was told of them.
    pub certificate_news: CertificateNews,
    /// What the log knows each server's weight to come from.
    pub(super) told_causes: BTreeMap<ServerId, String>,
    /// What the start found of an apply that was interrupted, and did about it.
    pub recovered: Option<String>,
    /// Tells what happens.
    pub(super) bulletin: Bulletin,
    pub(super) ledger: Ledger,
    /// The file just before it was read at the start.
    pub(super) read_at_start: Option<Digest>,
    /// `None` while it only observes.
    pub(super) lock: Option<sys::lock::Lock>,
    started: Instant,
}

impl Node {
    /// Takes the lock, reads the file (or, where it is broken, the last revision) and adopts what HAProxy runs.
    /// Changes nothing.
    ///
    /// # Errors
    /// Another hapilot holds the lock; or there is neither a good file nor a revision; exit code inside.
    pub async fn open(place: Place) -> Result<Self, Failed> {
        let read_at_start = place.digest();
        let loaded = place.load();
        let state = match &loaded {
            Ok(sources) => sources.config.node.state.value.clone(),
            Err(_) => place.state_directory(),
        };
        // Where the file could not be read, that is what the operator must know, not what became of the usual directory.
        let cause = loaded.as_ref().err().map(Failed::from_sources);
        let first = |failed: Failed| cause.clone().unwrap_or(failed);
        sys::directory::create_directory(&state, 0o750).map_err(Failed::refused).map_err(first)?;
        let lock = take_lock(&place, &state).await?;
        for left in [STAGING, VRRP_STAGING].iter().flat_map(|prefix| sys::directory::sweep(&state, prefix)) {
            tracing::warn!(path = %left, "a killed run left its staged files; they are removed");
        }
        let mut node = Self::around(place, loaded, Ledger::open(&state).map_err(first)?, Some(lock)).await?;
        node.read_at_start = read_at_start;
        node.engine.journal = Some(Journal::of(&state));
        node.bulletin = Bulletin::open(&state);
        node.engine.bulletin = node.bulletin.clone();
        node.troubles.bulletin = node.bulletin.clone();
        Ok(node)
    }

    /// A node around what was read and remembered.
    pub(super) async fn around(
        place: Place,
        loaded: Result<Sources, SourcesError>,
        ledger: Ledger,
        lock: Option<sys::lock::Lock>,
    ) -> Result<Self, Failed> {
        let (serving, file_problem) = choose(&place, loaded, &ledger)?;
        let mut overrides = ledger.overrides()?;
        overrides.expire(Timestamp::now(), |id| serving.config.server(id).is_some());
        let started = Instant::now();
        let mut adopted = adopt(&serving.config, base_weights(&place, &ledger)).await;
        // What an operator's command gave is not what health left.
        adopted.weights.retain(|id, _| overrides.get(id).is_none_or(|entry| entry.wish().weight.is_none()));
        let fleet = Fleet::new(serving.config.clone(), adopted.weights, Moment::default());
        let keyring = Keyring::new(&serving, &adopted.keys, Moment::default());
        let engine = Engine::new();
        let mut node = Self {
            place,
            serving,
            is_settled: false,
            file_problem,
            waiting: None,
            troubles: Troubles::default(),
            has_followed: false,
            owns_haproxy: false,
            bulletin: Bulletin::log_only(),
            lacks: false,
            certificate_news: CertificateNews::default(),
            told_causes: BTreeMap::new(),
            recovered: None,
            overrides,
            fleet,
            keyring,
            listening: None,
            vips: None,
            is_opening: false,
            order_wait: None,
            engine,
            ledger,
            read_at_start: None,
            lock,
            started,
        };
        node.fleet.silence(&node.overrides, Moment::default());
        Ok(node)
    }

    /// Time since the start, for the pure parts.
    pub fn now(&self) -> Moment {
        Moment(self.started.elapsed())
    }

    /// The revision that serves.
    pub fn revision(&self) -> Option<u32> {
        self.ledger.current()
    }

    /// The HAProxy that was seen last.
    pub fn runtime(&self) -> Option<&Runtime> {
        self.engine.runtime.as_ref()
    }

    /// Reads the file and serves it.
    ///
    /// # Errors
    /// The file's mistakes, or whatever keeps it from being served; what serves goes on.
    pub async fn apply_file(&mut self, intent: &Intent) -> Result<Report, Attempt> {
        self.recover();
        let sources = match self.place.load() {
            Ok(sources) => sources,
            Err(e) => {
                let failed = Failed::from_sources(&e);
                self.file_problem = Some(failed.message.clone());
                return Err(Attempt::Failed(failed));
            }
        };
        let comes_back = self.ledger.rejected().is_some() && sources.toml != self.serving.toml;
        if !self.is_observer() {
            self.ledger.reject(None)?;
        }
        let source = if self.is_settled { SourceOfChange::Edit } else { SourceOfChange::Start };
        let mut report = self.serve(sources, intent, source).await?;
        if comes_back {
            // Whoever edits an unrelated line must not miss it; an edit that waits would surprise the one who mends.
            let text = "the file was rolled back before: what it still has of that serves again";
            tracing::warn!(revision = self.revision(), "{text}");
            report.notes.push(format!("{text}; `{}` says what changed", self.place.command("diff REV")));
        }
        Ok(report)
    }

    /// Reads anew what the serving revision refers to: keys, certificates, the template. For a time in which the file
    /// itself is not what serves.
    ///
    /// # Errors
    /// Something cannot be read; what was read before serves on.
    pub async fn refresh(&mut self) -> Result<(), Attempt> {
        if !self.is_settled {
            return Ok(());
        }
        let sources = self.place.understand(self.serving.toml.clone()).map_err(|e| Failed::from_sources(&e))?;
        let (problem, intent) =
            (self.file_problem.take(), Intent::of_agent(Some("what the revision refers to changed")));
        let result = self.serve(sources.clone(), &intent, SourceOfChange::Start).await;
        self.file_problem = problem;
        if let Err(Attempt::TooSoon(_)) = result {
            // The next look at HAProxy carries it out.
            self.keyring.reconfigure(&sources, self.now());
            self.serving = sources;
            return Ok(());
        }
        result.map(|_| ())
    }

    /// Makes HAProxy follow what is known now: weights, overrides that ended, drift.
    ///
    /// # Errors
    /// As [`Self::apply_file`].
    pub async fn reconcile(&mut self) -> Result<Report, Attempt> {
        self.keep_state();
        if !self.is_settled {
            // Nothing of this life serves yet: what does then is a revision, and not only a change of weights.
            return self.settle().await;
        }
        let config = self.serving.config.clone();
        let ended = self.overrides.expire(Timestamp::now(), |id| config.server(id).is_some());
        if self.troubles.has(Matter::Words) || !ended.is_empty() && !self.is_observer() {
            self.keep_words();
            let event =
                |id| Event::once(Kind::Override, Severity::Info, id, format!("the operator's word on {id} ended"));
            ended.iter().for_each(|id| self.bulletin.tell(event(id)));
        }
        let began = Instant::now();
        self.renew_certificates();
        let now = self.now();
        self.fleet.silence(&self.overrides, now);
        let weights = self.fleet.decide(&self.overrides, now);
        let desired = desired(&self.serving, &weights, &self.overrides, &self.keyring);
        let result = self.engine.apply(wish_of(&self.serving, &desired), Some(&self.ledger)).await;
        self.remember(&result);
        self.engine.files_wait = matches!(result, Err(ApplyError::Files(_)));
        let applied = result?;
        self.engine.look_at_old_workers(&config.haproxy.master_socket.value).await;
        self.tell_steps(&applied.steps);
        for reason in &applied.reload_reasons {
            let text = format!("HAProxy was reloaded: {reason}");
            self.bulletin.tell(Event::once(Kind::Haproxy, Severity::Info, "haproxy", text));
        }
        if self.troubles.has(Matter::History) {
            let intent = Intent::of_agent(Some("the history is complete again"));
            return self.serve(self.serving.clone(), &intent, SourceOfChange::Edit).await;
        }
        Ok(Report::new(applied, self.revision(), String::new(), began.elapsed()))
    }

    /// Sends the weights and keys that follow from what is known now, and nothing else: no file, no look at what runs.
    /// [`Self::reconcile`] does the rest, later.
    pub async fn hasten(&mut self) {
        if !self.is_settled {
            return;
        }
        let weights = self.fleet.decide(&self.overrides, self.now());
        let desired = desired(&self.serving, &weights, &self.overrides, &self.keyring);
        let steps = self.engine.hasten(wish_of(&self.serving, &desired)).await;
        self.tell_steps(&steps);
    }

    /// Takes over certificates that were renewed under the same configuration, however that was (not) noticed.
    fn renew_certificates(&mut self) {
        if self.serving.renew_certificates() {
            let text = "certificates were renewed, added or removed";
            self.bulletin.tell(Event::once(Kind::Certificate, Severity::Info, "certificates", text));
        }
        self.tell_certificates();
    }

    /// Takes note of the certificates that serve, and logs what is new of them.
    pub fn tell_certificates(&mut self) {
        let Sources { config, certificates, certificate_problems, .. } = &self.serving;
        self.certificate_news.look(config, certificates, certificate_problems, Timestamp::now(), &self.bulletin);
    }

    pub(super) async fn serve(
        &mut self,
        sources: Sources,
        intent: &Intent,
        source: SourceOfChange,
    ) -> Result<Report, Attempt> {
        let began = Instant::now();
        let may_fail_file = matches!(source, SourceOfChange::Edit | SourceOfChange::Start);
        if let Err(failed) = self.ask_guards(&sources, intent, source) {
            self.file_problem = Some(failed.message.clone());
            return Err(failed.into());
        }
        let is_rollback = matches!(source, SourceOfChange::Rollback(_));
        let vrrp = match self.vrrp_change(&sources, intent, is_rollback).await {
            Ok(vrrp) => vrrp,
            // A rollback is never blocked (I14), and an agent that starts steers HAProxy whatever Keepalived's file is like;
            // `reconcile` goes on trying and telling.
            Err(_) if is_rollback || self.is_opening => None,
            Err(failed) => {
                if may_fail_file {
                    self.file_problem = Some(failed.message.clone());
                }
                return Err(failed.into());
            }
        };
        let is_news = !self.is_observer() && self.is_news(&sources, intent);
        let armed = if is_news { Some(self.arm(&sources, intent, source)?) } else { None };
        let now = self.now();
        let mut fleet = self.fleet.clone();
        fleet.reconfigure(sources.config.clone(), now);
        fleet.silence(&self.overrides, now);
        let weights = fleet.decide(&self.overrides, now);
        let mut keyring = self.keyring.clone();
        keyring.reconfigure(&sources, now);
        let desired = desired(&sources, &weights, &self.overrides, &keyring);
        let wish = Wish {
            sources: &sources,
            desired: &desired,
            may_replace_foreign_file: intent.adopt,
            is_serving: false,
            may_exceed_limits: intent.force || self.is_opening || matches!(source, SourceOfChange::Rollback(_)),
        };
        let result = self.engine.apply(wish, Some(&self.ledger)).await;
        // A file that is refused says nothing about how HAProxy follows what serves.
        if !matches!(result, Err(ApplyError::Refused(_) | ApplyError::Render(_))) {
            self.remember(&result);
        }
        if let (Err(_), Some(armed)) = (&result, &armed) {
            self.disarm(armed);
        }
        let applied = match result {
            Ok(applied) => applied,
            Err(ApplyError::TooSoon(at)) => return Err(Attempt::TooSoon(at)),
            Err(e) => {
                self.keep_failure(&e, intent, source, &sources);
                // That HAProxy cannot be asked is no word about a file that it serves already.
                let is_unasked = matches!(e, ApplyError::Observe(_) | ApplyError::Own(_));
                if may_fail_file && !(is_unasked && self.is_settled && sources.toml == self.serving.toml) {
                    self.file_problem = Some(e.to_string());
                }
                return Err(Attempt::from(e));
            }
        };
        let vrrp_notes = match vrrp {
            Some(change) => {
                self.announce(&sources.config).await;
                change.carry_out()
            }
            None => Ok(vec![]),
        };
        self.tell_not_in_force(&sources);
        let renewed = renewed_keys(&self.serving, &sources);
        let is_known = |warning: &&String| self.is_settled && self.serving.warnings.contains(warning);
        sources.warnings.iter().filter(|warning| !is_known(warning)).for_each(|warning| tracing::warn!("{warning}"));
        self.serving = sources;
        self.fleet = fleet;
        self.keyring = keyring;
        renewed.iter().for_each(|id| self.fleet.ask_soon(id, now));
        self.is_settled = true;
        self.tell_certificates();
        if !matches!(source, SourceOfChange::Rollback(_)) {
            self.file_problem = None;
        }
        let diff = match &self.engine.last {
            Some((before, after)) => super::report::unified_diff(before, &after.haproxy_cfg, "haproxy.cfg"),
            None => String::new(),
        };
        let mut notes = Vec::new();
        if let (Some(armed), Some((_, rendered))) = (&armed, &self.engine.last) {
            let entry = super::report::entry(intent, source, &applied, &self.serving.toml, rendered);
            let keep = self.serving.config.history.keep;
            let recorded = self.ledger.record(&entry, keep, armed.standing.clone());
            entry.tell(self.revision(), &self.bulletin);
            if let Ok(revision) = &recorded {
                notes.extend(self.begin_trial(armed, *revision));
            }
            notes.extend(armed.note.clone());
            self.note_history(recorded.err());
        } else {
            // First, since a reason makes the revision the operator's.
            let trial = intent.confirm.map(|given| self.put_on_trial(given, &intent.actor)).transpose()?;
            notes.extend(self.attach_reason(intent)?);
            notes.extend(trial);
        }
        let mut report = Report::new(applied, self.revision(), diff, began.elapsed());
        report.notes.extend(notes);
        let unwritten = vrrp_notes.as_ref().err().map(|e| format!("keepalived.conf could not be written: {e}"));
        self.troubles.set(Matter::Keepalived, unwritten);
        report.notes.extend(vrrp_notes.unwrap_or_default());
        report.notes.extend(self.troubles.of(Matter::Keepalived).cloned());
        report.notes.extend(self.troubles.of(Matter::History).cloned());
        if report.applied.how == How::Start {
            report.notes.push(self.start_hint());
            report.notes.extend(self.engine.doubts.clone());
        }
        report.notes.extend(self.serving.warnings.iter().cloned());
        report.notes.extend(self.serving.certificate_problems.iter().map(|problem| problem.text.clone()));
        report.notes.extend(self.engine.warnings.iter().cloned());
        report.notes.extend(self.not_in_force(&self.serving));
        let unresolved = self.engine.said.unresolved.iter();
        report.notes.extend(
            unresolved.map(|server| format!("{server}: its name does not resolve now; it serves when it does")),
        );
        Ok(report)
    }

    /// What the file says and the running version does not do.
    pub(super) fn not_in_force(&self, sources: &Sources) -> Vec<String> {
        let target = self.engine.version.map(|version| render::Target::new(version.major, version.minor));
        target.map_or_else(Vec::new, |target| target.not_in_force(&sources.config))
    }

    fn tell_not_in_force(&self, sources: &Sources) {
        let before = if self.is_settled { self.not_in_force(&self.serving) } else { vec![] };
        for line in self.not_in_force(sources).iter().filter(|line| !before.contains(line)) {
            tracing::warn!("{line}");
        }
    }

    /// A full disk must not keep a change from being served; it is told until it is mended.
    fn note_history(&mut self, failed: Option<Failed>) {
        let problem = failed.map(|failed| format!("what serves cannot be written into the history: {failed}"));
        self.troubles.set(Matter::History, problem);
    }

    /// Whether the file as it stands is the one that was rolled back: only an operator's `apply` serves it again.
    pub fn is_file_rejected(&self) -> bool {
        self.place.digest().is_some_and(|file| self.ledger.rejected() == Some(file))
    }

    /// Whether the file has changed since it was read at the start, when nobody watched it yet.
    pub fn is_file_newer_than_start(&self) -> bool {
        self.place.digest() != self.read_at_start
    }

    /// The very address that HAProxy uses for a server.
    pub fn address_of(&self, id: &ServerId) -> Option<std::net::IpAddr> {
        let (backend, server) = self.serving.config.server(id)?;
        let names = render::names_of(backend, server);
        self.runtime()?.servers.get(&names.address)?.address.parse().ok()
    }
}

/// Nothing but weights, states and drift.
fn wish_of<'a>(serving: &'a Sources, desired: &'a Desired) -> Wish<'a> {
    Wish { sources: serving, desired, may_replace_foreign_file: false, is_serving: true, may_exceed_limits: false }
}

/// The file where it is good and was not rolled back; else the revision that serves.
fn choose(
    place: &Place,
    loaded: Result<Sources, SourcesError>,
    ledger: &Ledger,
) -> Result<(Sources, Option<String>), Failed> {
    let (mut waits, mut lacks) = (false, None);
    let problem = match loaded {
        Ok(sources) if ledger.rejected() != Some(Digest::of(&sources.toml)) => {
            match super::saved::waits_at_start(place, &sources, ledger) {
                Some(told) => {
                    waits = true;
                    told
                }
                None => return Ok((sources, None)),
            }
        }
        Ok(_) => super::going_back::rolled_back(place, None),
        Err(e) => {
            let failed = Failed::from_sources(&e);
            if ledger.current().is_none() {
                return Err(failed);
            }
            lacks = matches!(e, SourcesError::Secrets(_)).then(|| failed.clone());
            failed.message
        }
    };
    let Some(current) = ledger.current() else { return Err(Failed::refused(problem)) };
    let toml = ledger.toml_of(current)?;
    let sources = place.understand(toml).map_err(|e| {
        if let (Some(failed), SourcesError::Secrets(_)) = (&lacks, &e) {
            // The same words twice say no more.
            return failed.clone();
        }
        Failed::refused(format!("{problem}\nand revision {current} cannot be read either: {}", e.render(false)))
    })?;
    match waits {
        true => tracing::info!(revision = current, "the revision serves on: {problem}"),
        false => tracing::warn!(revision = current, "the file cannot be served; the revision serves on:\n{problem}"),
    }
    Ok((sources, Some(problem)))
}

/// Servers of which a key has the same place and another value: a rejected key is else asked about once a minute.
fn renewed_keys(before: &Sources, after: &Sources) -> Vec<ServerId> {
    let servers = after.config.servers().filter_map(|(backend, server)| {
        let is_renewed = |key: &Sourced<SecretRef>| {
            before.secrets.get(&key.value).is_some_and(|old| after.secrets.get(&key.value) != Some(old))
        };
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        server.keys.iter().any(is_renewed).then_some(id)
    });
    servers.collect()
}

pub(super) fn desired(
    sources: &Sources,
    weights: &BTreeMap<ServerId, Weight>,
    overrides: &Overrides,
    keyring: &Keyring,
) -> Desired {
    let (secrets, certificates) = (sources.secrets.clone(), sources.certificates.clone());
    let mut desired = Desired::new(sources.config.clone(), weights, &overrides.wishes(), secrets, certificates);
    desired.active_keys = keyring.active_keys();
    desired.spread_keys = keyring.spread_keys();
    desired
}
