//! What this node serves, and every way to change it: an edit, a rollback, an operator's word, a weight.
//!
//! Holds the lock and the store. The loop of the running agent and commands that work alone both call it, so there is
//! one path only. Knows no socket of its own.

pub(super) mod alert_charge;
pub(super) mod alone;
pub(super) mod following;
pub(super) mod going_back;
pub(super) mod guarding;
pub(super) mod lost_state;
pub(super) mod observe_only;
pub(super) mod opening;
pub(super) mod planning;
pub(super) mod reaching;
pub(super) mod saved;
pub(super) mod serving;
pub(super) mod steering;
pub(super) mod vip_charge;
pub(super) mod vrrp_following;
pub(super) mod word;

use crate::agent::alert::desk::AlertDesk;
use crate::agent::apply::engine::Engine;
use crate::agent::apply::interim::Baseline;
use crate::agent::file::operator_file::OperatorFile;
use crate::agent::file::unserved::{Unserved, rolled_back, waits_at_start};
use crate::agent::files::live_files::LiveFiles;
use crate::agent::history::adopted::{adopt, base_weights};
use crate::agent::history::ledger::Ledger;
use crate::agent::history::locking::take_lock;
use crate::agent::history::spending::{load_canaries, load_models, load_soak};
use crate::agent::history::usage_book;
use crate::agent::judge::preflight::STAGING;
use crate::agent::outcome::report::Failed;
use crate::agent::probes::traffic_listener::TrafficListener;
use crate::agent::sources::certificate_news::CertificateNews;
use crate::agent::sources::place::{Place, Sources, SourcesError, live_config};
use crate::agent::sources::unread::SecretUse;
use crate::agent::steering::Steering;
use crate::agent::tell::bulletin::Bulletin;
use crate::agent::tell::refusal::{At, Objection, Refusal};
use crate::agent::tell::troubles::{Matter, Troubles};
use crate::agent::vip::vips::Vips;
use crate::agent::vip::vrrp_file::VRRP_STAGING;
use crate::event::{Event, EventKind, Severity};
use crate::fleet::{Fleet, Keyring};
use crate::model::{Digest, Moment, ServerId};
use crate::plan::Runtime;
use crate::render;
use crate::store::{self, Journal, archive};
use crate::sys;
use crate::sys::epoch::Epoch;
use jiff::Timestamp;
use std::time::SystemTime;

/// What this node serves.
#[derive(Debug)]
pub struct Node {
    /// The operator's file.
    pub file: OperatorFile,
    /// What is served: the file, or an older revision where the file is broken or was rolled back.
    pub serving: Sources,
    /// Whether anything was applied yet in this life.
    pub is_settled: bool,
    /// What else is wrong; what could not be written is tried again with each look at HAProxy.
    pub troubles: Troubles,
    /// HAProxy has followed in this life.
    pub(super) has_followed: bool,
    /// Whoever runs this agent starts HAProxy after the first files, and ends it with the agent.
    pub owns_haproxy: bool,
    /// That was for want of descriptors or memory of this process: no word of HAProxy's.
    pub(super) lacks: bool,
    /// Health, keys and operators' words, and what follows from them.
    pub steering: Steering,
    /// What HAProxy was to follow when the order that is under way began.
    pub(super) known: Option<Baseline>,
    /// The ears at HAProxy, while an agent runs and the file wants them.
    pub listening: Option<TrafficListener>,
    /// The virtual addresses, while an agent runs and the file has some.
    pub vips: Option<Vips>,
    /// Who is told what happens, while an agent runs and the file wants it.
    pub alerts: Option<AlertDesk>,
    /// The first apply of this life is under way.
    pub(super) is_opening: bool,
    /// Plans and applies.
    pub engine: Engine,
    /// The certificates that serve, and what was told of them.
    pub certificate_news: CertificateNews,
    /// What the start found of an apply that was interrupted, and did about it.
    pub recovered: Option<String>,
    /// Tells what happens.
    pub(super) bulletin: Bulletin,
    pub(super) ledger: Ledger,
    /// `None` while it only observes.
    pub(super) lock: Option<sys::lock::Lock>,
    pub(super) epoch: Epoch,
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
        let at = loaded.as_ref().map_or_else(|_| At::subject(&place.file), |sources| sources.at_state());
        let unmade = |e: std::io::Error| Failed::refused(Objection::new(format_args!("`node.state`: {e}")).at(at));
        sys::directory::create_directory(&state, 0o750).map_err(unmade).map_err(first)?;
        let lock = take_lock(&place, &state).await.map_err(first)?;
        let ended = archive::finish_restore(&state);
        let broken = |e: store::StoreError| Failed::refused(format!("a restore was interrupted: {}", sys::chain(&e)));
        if ended.map_err(broken).map_err(first)?.is_some() {
            tracing::warn!("a restore that was interrupted is whole now");
            drop(lock);
            return Box::pin(Self::open(place)).await;
        }
        for left in [STAGING, VRRP_STAGING].iter().flat_map(|prefix| sys::directory::sweep(&state, prefix)) {
            tracing::warn!(path = %left, "a killed run left its staged files; they are removed");
        }
        sys::files::sweep_staged(&state);
        sys::files::sweep_staged(&state.join(store::USAGE));
        LiveFiles::of(&live_config(&place)).sweep();
        let mut node =
            Self::around(place, read_at_start, loaded, Ledger::open(&state).map_err(first)?, Some(lock)).await?;
        node.engine.journal = Some(Journal::of(&state));
        node.bulletin = Bulletin::open(&state);
        node.engine.bulletin = node.bulletin.clone();
        node.troubles.bulletin = node.bulletin.clone();
        Ok(node)
    }

    /// A node around what was read and remembered.
    pub(super) async fn around(
        place: Place,
        read_at_start: Option<Digest>,
        loaded: Result<Sources, SourcesError>,
        ledger: Ledger,
        lock: Option<sys::lock::Lock>,
    ) -> Result<Self, Failed> {
        let (serving, problem) = choose(&place, loaded, &ledger)?;
        let mut overrides = ledger.overrides()?;
        overrides.expire(Timestamp::now(), |id| serving.config.server(id).is_some());
        let mut adopted = adopt(&serving.config, base_weights(&place, &ledger)).await;
        // What an operator's command gave is not what health left.
        adopted.weights.retain(|id, _| overrides.get(id).is_none_or(|entry| entry.wish().weight.is_none()));
        let fleet = Fleet::new(serving.config.clone(), adopted.weights, Moment::default());
        let keyring = Keyring::new(&serving.config, &serving.secrets, &adopted.keys, Moment::default());
        let file = OperatorFile::new(place, read_at_start, problem, &serving.config);
        let engine = Engine::new();
        let mut steering = Steering::new(
            fleet,
            keyring,
            overrides,
            usage_book::load(&ledger.state, &serving.config),
            load_models(&ledger.state),
            load_canaries(&ledger.state),
            load_soak(&ledger.state),
        );
        steering.models.look(&serving);
        steering.canaries.look(&serving.config, Moment::default(), SystemTime::now());
        Ok(Self {
            file,
            serving,
            is_settled: false,
            troubles: Troubles::default(),
            has_followed: false,
            owns_haproxy: false,
            bulletin: Bulletin::log_only(),
            lacks: false,
            certificate_news: CertificateNews::default(),
            recovered: None,
            steering,
            known: None,
            listening: None,
            vips: None,
            alerts: None,
            is_opening: false,
            engine,
            ledger,
            lock,
            epoch: Epoch::begin(),
        })
    }

    /// Files whose change means that the sources must be read again: of what serves, and of a file that is refused.
    pub(in crate::agent) fn watched(&mut self) -> Vec<camino::Utf8PathBuf> {
        let mut paths = self.serving.watched(&self.file.place.file);
        paths.extend_from_slice(self.file.named_files());
        paths
    }

    /// Leaves word beside the lock of where this agent is asked, now that it listens there.
    pub fn tell_socket(&self) {
        self.lock.iter().for_each(|lock| lock.tell(self.file.socket_at_start()));
    }

    /// Time since the start, for the pure parts.
    pub fn now(&self) -> Moment {
        self.epoch.now()
    }

    /// The revision that serves.
    pub fn revision(&self) -> Option<u32> {
        self.ledger.current()
    }

    /// Whether it changes nothing.
    pub fn is_observer(&self) -> bool {
        self.engine.would.is_some()
    }

    /// The HAProxy that was seen last.
    pub fn runtime(&self) -> Option<&Runtime> {
        self.engine.runtime.as_ref()
    }

    /// Takes over certificates that were renewed under the same configuration, however that was (not) noticed.
    pub(super) fn renew_certificates(&mut self) {
        if self.serving.renew_certificates() {
            let text = "certificates were renewed, added or removed";
            self.bulletin.tell(Event::once(EventKind::Certificate, Severity::Info, "certificates", text));
        }
        self.tell_certificates();
    }

    /// Takes note of the certificates that serve, and logs what is new of them.
    pub fn tell_certificates(&mut self) {
        let Sources { config, certificates, trust, certificate_problems, .. } = &self.serving;
        let now = Timestamp::now();
        self.certificate_news.look(config, certificates, trust, certificate_problems, now, &self.bulletin);
    }

    /// What the file says and the running version does not do.
    pub(super) fn not_in_force(&self, sources: &Sources) -> Vec<String> {
        let target = self.engine.version.map(|version| render::Target::new(version.major, version.minor));
        let mut all = target.map_or_else(Vec::new, |target| target.not_in_force(&sources.config));
        all.extend(self.file.not_followed(&sources.config));
        all
    }

    pub(super) fn tell_not_in_force(&self, sources: &Sources) {
        let before = if self.is_settled { self.not_in_force(&self.serving) } else { vec![] };
        for line in self.not_in_force(sources).iter().filter(|line| !before.contains(line)) {
            tracing::warn!("{line}");
        }
    }

    /// A full disk must not keep a change from being served; it is told until it is mended.
    pub(super) fn note_history(&mut self, failed: Option<Failed>) {
        let problem = failed
            .map(|failed| Refusal::notice(format_args!("what serves cannot be written into the history: {failed}")));
        self.troubles.set(Matter::History, problem);
    }

    /// Whoever wrote into the history has died: it says itself what became of it.
    pub(super) fn read_ledger_again(&mut self) {
        match Ledger::open(&self.ledger.state) {
            Ok(ledger) if !self.is_observer() => self.ledger = ledger,
            Ok(_) => {}
            Err(failed) => tracing::error!("the history cannot be read: {failed}"),
        }
    }

    /// The very address that HAProxy uses for a server.
    pub fn address_of(&self, id: &ServerId) -> Option<std::net::IpAddr> {
        let (backend, server) = self.serving.config.server(id)?;
        let names = render::names_of(backend, server);
        self.runtime()?.servers.get(&names.address)?.address.parse().ok()
    }
}

/// The file where it is good and was not rolled back; else the revision that serves.
fn choose(
    place: &Place,
    loaded: Result<Sources, SourcesError>,
    ledger: &Ledger,
) -> Result<(Sources, Option<Unserved>), Failed> {
    let mut lacks = None;
    let problem = match loaded {
        Ok(sources) if ledger.rejected() != Some(Digest::of(&sources.toml)) => {
            match waits_at_start(place, &sources, ledger) {
                Some(told) => Unserved::Waits(told),
                None => return Ok((sources, None)),
            }
        }
        Ok(sources) => {
            let why = ledger.why_rolled_back();
            Unserved::RolledBack(rolled_back(place, sources.config.apply.waits_on_save, why.as_deref(), None))
        }
        Err(e) => {
            let failed = Failed::from_sources(&e);
            if ledger.current().is_none() {
                return Err(failed);
            }
            lacks = Some(failed.clone());
            Unserved::Refused(failed.refusal)
        }
    };
    let Some(current) = ledger.to_serve() else { return Err(Failed::refused(problem.why().clone().as_error())) };
    let toml = ledger.toml_of(current)?;
    let understood = place.understand(toml.clone()).or_else(|e| match e {
        // Told is that the file cannot be served, and why.
        SourcesError::References(_) | SourcesError::Secrets(_) if place.secrets == SecretUse::Kept => {
            place.understand_served(toml).map_err(|_| e)
        }
        _ => Err(e),
    });
    let sources = understood.map_err(|e| {
        // The same words twice say no more.
        if let Some(failed) = lacks.take_if(|failed| failed.refusal == e.refusal()) {
            return failed;
        }
        let words = format!("and revision {current} cannot be read either: ");
        Failed::refused(problem.why().clone().as_error().besides(words, e.refusal()))
    })?;
    match &problem {
        Unserved::Waits(why) => tracing::info!(revision = current, "the revision serves on: {why}"),
        other => {
            let why = other.why();
            tracing::warn!(revision = current, "the file cannot be served; the revision serves on:\n{why}");
        }
    }
    Ok((sources, Some(problem)))
}
