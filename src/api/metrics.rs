//! `GET /metrics`: what `status` says, as Prometheus reads it.
//!
//! Made anew for each scrape; `docs/metrics.md` names every family. Names and labels are a contract: they are only
//! ever added.

use super::alert_metrics::register_alerts;
use super::exposition;
use super::live_metrics::register_live;
use super::series::{Float, ServerLabels};
use super::vip_metrics::register_vips;
use super::wire::{Backend, Certificate, Guard, Haproxy, Server, Status, Trial};
use crate::traffic::Picture;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateFile {
    file: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Worker {
    pid: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Guarding {
    guard: String,
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    backend: String,
    server: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyPlace {
    backend: String,
    server: String,
    key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyState {
    backend: String,
    server: String,
    key: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Probe {
    backend: String,
    server: String,
    kind: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timing {
    backend: String,
    server: String,
    kind: String,
    until: String,
}

/// The text of a scrape.
pub(super) fn text(status: &Status, traffic: Option<&Picture>) -> String {
    let mut registry = Registry::with_prefix("hapilot");
    agent(&mut registry, status);
    if let Some(haproxy) = &status.haproxy {
        running(&mut registry, haproxy);
    }
    servers(&mut registry, &status.backends);
    outages(&mut registry, status);
    keys(&mut registry, &status.backends);
    guards(&mut registry, &status.guards);
    certificates(&mut registry, &status.certificates);
    if let Some(vips) = &status.vips {
        register_vips(&mut registry, vips);
    }
    register_alerts(&mut registry, &status.alerts);
    if let Some(picture) = traffic {
        register_live(&mut registry, picture);
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &registry);
    exposition::prometheus(&text)
}

fn agent(registry: &mut Registry, status: &Status) {
    let version = Version { version: status.version.clone() };
    one(registry, "build_info", "The agent's version", version, 1);
    if let Some(agent) = &status.agent {
        number(registry, "uptime", "Since the agent's start", Some(Unit::Seconds), agent.uptime_s);
        count(registry, "writes", "Files, runtime commands and reloads since the agent's start", agent.writes);
        count(registry, "reloads", "Reloads since the agent's start", agent.reloads);
        count(registry, "corrections", "Drift that was put right since the agent's start", status.corrections_total);
    }
    number(
        registry,
        "file_serving",
        "1 while the operator's file is what serves",
        None,
        status.config.is_serving.into(),
    );
    number(registry, "problems", "Lines of `status` that somebody should read", None, status.problems.len() as u64);
    number(registry, "haproxy_up", "1 while HAProxy answers on its admin socket", None, answers(status).into());
    if let Some(revision) = status.config.revision {
        number(registry, "revision", "The revision that serves", None, revision.into());
    }
    // What only soaks has no deadline.
    let goes_back = |trial: &&Trial| trial.soak.as_ref().is_none_or(|soak| !soak.keeps);
    if let Some(trial) = status.trial.as_ref().filter(goes_back) {
        let left = trial.left_s.max(0.0) as u64;
        number(registry, "trial_left", "Until an unconfirmed revision goes back", Some(Unit::Seconds), left);
    }
}

/// None where no frontend speaks TLS.
fn certificates(registry: &mut Registry, certificates: &[Certificate]) {
    if certificates.is_empty() {
        return;
    }
    let expiry = Family::<CertificateFile, Gauge>::default();
    for certificate in certificates {
        expiry.get_or_create(&CertificateFile { file: certificate.file.clone() }).set(certificate.expires_in_s);
    }
    registry.register_with_unit(
        "certificate_expiry",
        "Until a certificate of a frontend expires; negative afterwards",
        Unit::Seconds,
        expiry,
    );
}

/// Guards that do not work now are not named: a series that ends is an alert that is over.
fn guards(registry: &mut Registry, guards: &[Guard]) {
    let active = Family::<Guarding, Gauge>::default();
    for guard in guards {
        let backend = guard.backend.clone().unwrap_or_default();
        active.get_or_create(&Guarding { guard: guard.guard.clone(), backend }).set(1);
    }
    registry.register("guard_active", "1 while the guard holds back weights; no backend: all of them", active);
}

fn answers(status: &Status) -> bool {
    status.haproxy.as_ref().is_some_and(Haproxy::answers)
}

/// A backend can serve where HAProxy runs and a server is left that takes requests.
fn outages(registry: &mut Registry, status: &Status) {
    let (serving, tiers) = (Family::<Pool, Gauge>::default(), Family::<Pool, Gauge>::default());
    for backend in &status.backends {
        let can_serve = answers(status) && backend.outage.is_none();
        let pool = Pool { backend: backend.name.clone() };
        tiers.get_or_create(&pool).set(backend.tier.into());
        serving.get_or_create(&pool).set(can_serve.into());
    }
    registry.register("backend_serving", "1 while a server of the backend can take requests, 0 in an outage", serving);
    registry.register("backend_tier", "The tier whose servers take requests: 2 while none of tier 1 can", tiers);
}

fn running(registry: &mut Registry, haproxy: &Haproxy) {
    one(registry, "haproxy_info", "HAProxy's version", Version { version: haproxy.version.clone() }, 1);
    number(registry, "haproxy_uptime", "Since the worker's start", Some(Unit::Seconds), haproxy.uptime_s);
    let old = haproxy.old_workers.len() as u64;
    number(registry, "old_workers", "Workers that finish their streams after a reload", None, old);
    let age = Family::<Worker, Gauge>::default();
    let connections = Family::<Worker, Gauge>::default();
    let resident = Family::<Worker, Gauge>::default();
    for worker in &haproxy.finishing {
        let label = Worker { pid: worker.pid };
        age.get_or_create(&label).set(signed(worker.finishing_s));
        if let Some(count) = worker.connections {
            connections.get_or_create(&label).set(signed(count));
        }
        if let Some(bytes) = worker.resident_bytes {
            resident.get_or_create(&label).set(signed(bytes));
        }
    }
    registry.register_with_unit("old_worker_age", "Since it was seen to be an old one", Unit::Seconds, age);
    registry.register("old_worker_connections", "Client connections that it still has", connections);
    registry.register_with_unit("old_worker_resident", "Its resident memory", Unit::Bytes, resident);
}

fn servers(registry: &mut Registry, backends: &[Backend]) {
    let (base, wanted, runtime) = (
        Family::<ServerLabels, Gauge>::default(),
        Family::<ServerLabels, Gauge>::default(),
        Family::<ServerLabels, Gauge>::default(),
    );
    let (health, admin) = (Family::<State, Gauge>::default(), Family::<State, Gauge>::default());
    let attention = Family::<ServerLabels, Gauge>::default();
    let (age, took) = (Family::<Probe, Float>::default(), Family::<Timing, Float>::default());
    let guarded = Family::<Pool, Gauge>::default();
    for backend in backends {
        let pool = Pool { backend: backend.name.clone() };
        guarded.get_or_create(&pool).set(backend.guard.is_some().into());
        for server in &backend.servers {
            let place = ServerLabels { backend: backend.name.clone(), server: server.name.clone() };
            base.get_or_create(&place).set(server.base_weight.into());
            wanted.get_or_create(&place).set(server.weight.into());
            if let Some(weight) = server.runtime_weight {
                runtime.get_or_create(&place).set(weight.into());
            }
            attention.get_or_create(&place).set(server.attention.is_some().into());
            health.get_or_create(&place.state(&server.health)).set(1);
            admin.get_or_create(&place.state(&server.admin)).set(1);
            probes(&place, server, &age, &took);
        }
    }
    registry.register("server_base_weight", "The weight in the operator's file", base);
    registry.register("server_weight", "The weight that it should have", wanted);
    registry.register("server_runtime_weight", "The weight that HAProxy says it has", runtime);
    registry.register("server_health", "1 for the state of health that it is in", health);
    registry.register("server_admin", "1 for its administrative state", admin);
    registry.register(
        "server_attention",
        "1 where the operator should mend something, such as a rejected key",
        attention,
    );
    registry.register("backend_guarded", "1 while a guard keeps servers in that health would take out", guarded);
    registry.register_with_unit(
        "probe_age",
        "Since the last probe of a kind ended, by its outcome",
        Unit::Seconds,
        age,
    );
    registry.register_with_unit("probe_duration", "What the last probe of a kind took", Unit::Seconds, took);
}

fn probes(place: &ServerLabels, server: &Server, age: &Family<Probe, Float>, took: &Family<Timing, Float>) {
    for probe in &server.probes {
        let ServerLabels { backend, server } = place.clone();
        let timing = |until: &str| Timing {
            backend: place.backend.clone(),
            server: place.server.clone(),
            kind: probe.kind.clone(),
            until: until.to_owned(),
        };
        let label = Probe { backend, server, kind: probe.kind.clone(), outcome: probe.outcome.clone() };
        age.get_or_create(&label).set(probe.age_s);
        took.get_or_create(&timing("end")).set(probe.total_ms / 1000.0);
        if let Some(first_token) = probe.first_token_ms {
            took.get_or_create(&timing("first_token")).set(first_token / 1000.0);
        }
    }
}

fn keys(registry: &mut Registry, backends: &[Backend]) {
    let (active, uses) = (Family::<KeyPlace, Gauge>::default(), Family::<KeyPlace, Counter>::default());
    let (state, rotations) = (Family::<KeyState, Gauge>::default(), Family::<ServerLabels, Counter>::default());
    let servers = backends.iter().flat_map(|backend| backend.servers.iter().map(|server| (&backend.name, server)));
    for (backend, server) in servers.filter(|(_, server)| !server.keys.is_empty()) {
        let place = ServerLabels { backend: backend.clone(), server: server.name.clone() };
        rotations.get_or_create(&place).inc_by(server.key_rotations);
        for key in &server.keys {
            let ServerLabels { backend, server } = place.clone();
            let place = KeyPlace { backend, server, key: key.id.clone() };
            active.get_or_create(&place).set(key.is_active.into());
            uses.get_or_create(&place).inc_by(key.uses);
            let KeyPlace { backend, server, key: id } = place;
            state.get_or_create(&KeyState { backend, server, key: id, state: key.state.clone() }).set(1);
        }
    }
    registry.register("key_active", "1 for the key that HAProxy puts in", active);
    registry.register("key_state", "1 for the state of a key: in_service, cooling, retired", state);
    registry.register("key_uses", "Client requests that were seen to use a key since the agent's start", uses);
    registry.register("key_rotations", "How often another key was chosen since the agent's start", rotations);
}

impl ServerLabels {
    fn state(&self, state: &str) -> State {
        State { backend: self.backend.clone(), server: self.server.clone(), state: state.to_owned() }
    }
}

fn count(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstCounter::new(value));
}

fn number(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, value: u64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(signed(value));
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, gauge),
        None => registry.register(name, help, gauge),
    }
}

fn one(registry: &mut Registry, name: &str, help: &str, label: Version, value: i64) {
    let family = Family::<Version, Gauge>::default();
    family.get_or_create(&label).set(value);
    registry.register(name, help, family);
}

/// Counts are below 2⁶³.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
