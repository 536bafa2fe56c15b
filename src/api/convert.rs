//! Inner values → wire types. Each conversion names every field, so that a new one is a compile error here.

use super::{wire, wire_live};
use crate::agent::{
    Applied, BackendSnapshot, CertificateStatus, Correction, HaproxySnapshot, OldWorker, Report, ServerSnapshot,
    Snapshot, SnapshotParts, TrialSnapshot,
};
use crate::config::Clients;
use crate::fleet::KeyStatus;
use crate::health::{Attention, CircuitPhase, CircuitSnapshot, HealthSnapshot, ProbeSnapshot};
use crate::keys::KeyState;
use crate::plan::FileChange;
use crate::traffic::Picture;
use serde::{Serialize, Serializer};

/// The servers of one backend, by its place among the backends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Servers<'a> {
    parts: &'a SnapshotParts,
    traffic: Option<&'a Picture>,
    backend: usize,
}

impl Servers<'_> {
    fn iter(&self) -> impl Iterator<Item = wire::Server> {
        let heard = self.traffic.map_or(&[][..], |picture| &picture.servers);
        self.parts.servers(self.backend).map(|server| {
            let live = heard.binary_search_by(|one| one.id.cmp(&server.id)).ok().map(|at| (&heard[at]).into());
            wire::Server { live, ..wire::Server::from(server) }
        })
    }
}

/// Each is made when it is written, and gone after that: of thousands, only their text is ever held.
impl Serialize for Servers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl wire::Status {
    /// With all servers; and what was heard of traffic.
    pub fn of(parts: &SnapshotParts) -> (Self, Option<Picture>) {
        let snapshot = parts.picture();
        let status = wire::Status::made(&snapshot, |backend| {
            Servers { parts, traffic: snapshot.traffic.as_ref(), backend }.iter().collect()
        });
        (status, snapshot.traffic)
    }
}

impl<'a> wire::Status<Servers<'a>> {
    /// To be written; `snapshot` is the parts' own picture.
    pub(super) fn to_write(parts: &'a SnapshotParts, snapshot: &'a Snapshot) -> Self {
        Self::made(snapshot, |backend| Servers { parts, traffic: snapshot.traffic.as_ref(), backend })
    }
}

impl<S> wire::Status<S> {
    fn made(snapshot: &Snapshot, servers: impl Fn(usize) -> S) -> Self {
        let Snapshot {
            node,
            file,
            state,
            is_file_serving,
            pending,
            waiting,
            revision,
            uptime,
            writes,
            reloads,
            problems,
            warnings,
            haproxy,
            backends,
            trial,
            recovered,
            corrections,
            corrections_total,
            would,
            certificates,
            clients,
            vips,
            canaries,
            alerts,
            traffic,
            guards: (now, guards),
        } = snapshot;
        let backends = backends.iter().enumerate();
        let backends: Vec<_> = backends.map(|(at, backend)| wire::Backend::of(backend, servers(at))).collect();
        Self {
            node: node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            agent: Some(wire::Agent {
                pid: std::process::id(),
                uptime_s: uptime.as_secs(),
                writes: *writes,
                reloads: *reloads,
            }),
            config: wire::ConfigFile {
                path: camino::absolute_utf8(file).unwrap_or_else(|_| file.clone()).to_string(),
                revision: *revision,
                is_serving: *is_file_serving,
                state: Some(camino::absolute_utf8(state).unwrap_or_else(|_| state.clone()).to_string()),
                pending: pending.map(str::to_owned),
            },
            waits: waiting.as_ref().map(|waiting| wire::Waits {
                saved: waiting.saved.map(|saved| saved.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
                changes: waiting.changes,
                is_reload: waiting.is_reload,
            }),
            haproxy: haproxy.as_ref().map(wire::Haproxy::from),
            problems: once(outages(haproxy.is_some(), &backends).chain(problems.iter().cloned())),
            warnings: warnings.clone(),
            backends,
            trial: trial.as_ref().map(wire::Trial::from),
            recovered: recovered.clone(),
            corrections: corrections.iter().map(wire::Correction::from).collect(),
            corrections_total: *corrections_total,
            would: would.clone(),
            hearing: traffic.as_ref().map(|picture| wire_live::Hearing::from(&picture.stats)),
            guards: guards.iter().map(|event| wire_live::Guard::of(event, *now)).collect(),
            certificates: certificates.iter().map(wire::Certificate::from).collect(),
            clients: clients.as_deref().map(wire::Clients::from),
            alerts: alerts.sinks.iter().map(wire::AlertSink::from).collect(),
            canaries: canaries.iter().map(wire::Canary::from).collect(),
            vips: vips.as_ref().map(|vips| wire::Vips::of(vips, node, *revision)),
        }
    }
}

impl From<&Clients> for wire::Clients {
    fn from(clients: &Clients) -> Self {
        Self { count: clients.len(), file_digest: clients.file_digest().short() }
    }
}

impl From<&CertificateStatus> for wire::Certificate {
    fn from(certificate: &CertificateStatus) -> Self {
        let CertificateStatus { file, names, not_after, left, problem } = certificate;
        Self {
            file: file.to_string(),
            names: names.clone(),
            not_after: rfc3339(*not_after),
            expires_in_s: left.as_secs(),
            problem: problem.clone(),
        }
    }
}

impl From<&TrialSnapshot> for wire::Trial {
    fn from(trial: &TrialSnapshot) -> Self {
        let TrialSnapshot { revision, back_to, until, left, soak } = trial;
        let soak = soak.as_ref().map(wire::Soak::from);
        Self { revision: *revision, back_to: *back_to, until: rfc3339(*until), left_s: left.as_secs_f64(), soak }
    }
}

impl From<&Correction> for wire::Correction {
    fn from(correction: &Correction) -> Self {
        let Correction { at, text } = correction;
        Self { at: rfc3339(*at), text: text.clone() }
    }
}

/// Each text once: a file that is refused for what is wrong with HAProxy as well says the same.
fn once(problems: impl Iterator<Item = String>) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for problem in problems {
        if !told.contains(&problem) {
            told.push(problem);
        }
    }
    told
}

/// What comes before all other problems: backends that cannot serve. Without a HAProxy, that is the problem.
fn outages<S>(runs: bool, backends: &[wire::Backend<S>]) -> impl Iterator<Item = String> {
    backends.iter().filter(move |_| runs).filter_map(|backend| {
        let why = backend.outage.as_ref()?;
        Some(format!("backend {} cannot serve: {why}", backend.name))
    })
}

fn rfc3339(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl From<&HaproxySnapshot> for wire::Haproxy {
    fn from(haproxy: &HaproxySnapshot) -> Self {
        let HaproxySnapshot { version, pid, uptime_s, structure, old_workers, finishing } = haproxy;
        let old = |worker: &OldWorker| wire::OldWorker {
            pid: worker.pid,
            finishing_s: worker.age.as_secs(),
            connections: worker.connections,
            resident_bytes: worker.resident_bytes,
        };
        Self {
            version: version.clone(),
            pid: *pid,
            uptime_s: *uptime_s,
            structure: structure.clone(),
            old_workers: old_workers.clone(),
            silent_s: None,
            finishing: finishing.iter().map(old).collect(),
        }
    }
}

impl<S> wire::Backend<S> {
    fn of(backend: &BackendSnapshot, servers: S) -> Self {
        let BackendSnapshot { name, provider, balance, guard, outage, tier } = backend;
        Self {
            name: name.clone(),
            provider: provider.clone(),
            balance: balance.clone(),
            guard: guard.clone(),
            outage: outage.as_ref().map(|outage| outage.why.clone()),
            outage_since: outage.as_ref().and_then(|outage| outage.since).map(rfc3339),
            tier: *tier,
            servers,
        }
    }
}

impl From<ServerSnapshot> for wire::Server {
    fn from(server: ServerSnapshot) -> Self {
        let ServerSnapshot { id, url, tier, base, admin, weight, decision, runtime, health, word, keys, key_rotations } =
            server;
        let factors = decision.into_iter().flat_map(|decision| decision.factors).map(|factor| wire::Factor {
            name: factor.name.to_string(),
            value: factor.value,
            why: factor.why,
        });
        let health_name = health.as_ref().map_or("unknown", |health| health.state);
        let held_ms = health.as_ref().and_then(|health| health.held_ms).filter(|ms| *ms > 0);
        let (attention, circuit) = match &health {
            Some(health) => (attention(health), health.circuit.as_ref().map(circuit)),
            None => (None, None),
        };
        let since_s = health.as_ref().map_or(0, |health| health.since_ms / 1000);
        let (reason, probes) = health.map(|health| (health.reason, probes(health.probes))).unwrap_or_default();
        Self {
            name: id.server.to_string(),
            url,
            tier,
            base_weight: base.get(),
            weight: weight.get(),
            runtime_weight: runtime.as_ref().map(|runtime| runtime.weight.get()),
            admin: admin.to_string(),
            oper: runtime.as_ref().map(|runtime| runtime.oper.to_string()),
            health: health_name.to_owned(),
            reason,
            since_s,
            attention,
            held_s: held_ms.map(|ms| ms.div_ceil(1000)),
            circuit,
            factors: factors.collect(),
            probes,
            r#override: word,
            live: None,
            keys: keys.iter().map(wire::Key::from).collect(),
            key_rotations,
        }
    }
}

impl From<&KeyStatus> for wire::Key {
    fn from(key: &KeyStatus) -> Self {
        let KeyStatus { id, reference, is_active, state, age, left, last, uses } = key;
        Self {
            id: id.clone(),
            reference: reference.clone(),
            is_active: *is_active,
            state: state.as_str().to_owned(),
            why: match state {
                KeyState::Retired { why, .. } => Some(why.as_str().to_owned()),
                KeyState::InService | KeyState::Cooling { .. } => None,
            },
            since_s: age.map(|age| age.as_secs()),
            left_s: left.map(|left| left.as_secs_f64()),
            last_outcome: last.map(|(outcome, _)| outcome.to_string()),
            last_age_s: last.map(|(_, age)| age.as_secs_f64()),
            uses: *uses,
        }
    }
}

fn circuit(circuit: &CircuitSnapshot) -> String {
    let CircuitSnapshot { phase, until_ms, openings } = circuit;
    let left = until_ms.unwrap_or_default().div_ceil(1000);
    let times = if *openings == 1 { "opened once".to_owned() } else { format!("opened {openings} times") };
    match phase {
        CircuitPhase::Open if left == 0 => format!("open, {times}; a trickle of requests when its probes succeed"),
        CircuitPhase::Closed => format!("closed, {times}"),
        CircuitPhase::Open => format!("open, {times}; a trickle of requests in {left} s at the earliest"),
        CircuitPhase::HalfOpen => format!("half open, {times}; where nobody asks it closes in {left} s"),
    }
}

fn attention(health: &HealthSnapshot) -> Option<String> {
    let words = health.attention.iter().map(|attention| match attention {
        Attention::KeyRejected => "the key was rejected, or its account is spent: see `hapilot key list`",
        Attention::KeyMissing => {
            "it asks for a key, and the file gives it none: add one to the server, such as keys = [\"env:OPENAI_KEY\"]"
        }
        Attention::ProbeWrong => "the probe is answered as wrong: check `url`, then the probe's path and model",
        Attention::NameUnresolved => "the name does not resolve here",
        Attention::LoadUnread => "it does not tell its load: weights go without",
        Attention::CertificateEnds => "its certificate ends soon or cannot be read",
        Attention::BudgetSpent => "the budget of its deep probes is spent until midnight UTC",
    });
    let text = words.collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then_some(text)
}

fn probes(probes: Vec<ProbeSnapshot>) -> Vec<wire::ProbeResult> {
    let told = probes.into_iter().filter_map(|probe| {
        let last = probe.last?;
        Some(wire::ProbeResult {
            kind: probe.kind.to_string(),
            outcome: last.outcome.to_owned(),
            total_ms: last.total_ms as f64,
            first_token_ms: last.first_token_ms.map(|ms| ms as f64),
            age_s: last.ago_ms as f64 / 1000.0,
            detail: last.detail,
        })
    });
    told.collect()
}

impl From<&Report> for wire::Applied {
    fn from(report: &Report) -> Self {
        let Report { applied, revision, diff, notes, took, unread: _ } = report;
        let Applied { how, steps, reload_reasons, files, kept: _, remarks: _ } = applied;
        let file = |change: &FileChange| match change {
            FileChange::Create(path) => format!("create {path}"),
            FileChange::Replace(path) => format!("replace {path}"),
            FileChange::Remove(path) => format!("remove {path}"),
        };
        Self {
            how: how.to_string(),
            revision: *revision,
            steps: steps.iter().map(ToString::to_string).collect(),
            reload_reasons: reload_reasons.iter().map(ToString::to_string).collect(),
            files: files.iter().map(file).collect(),
            diff: diff.clone(),
            notes: notes.clone(),
            took_ms: took.as_secs_f64() * 1000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_circuit_waits_for_is_told_also_when_its_time_is_over() {
        let told = |phase, until_ms| circuit(&CircuitSnapshot { phase, until_ms, openings: 1 });
        assert_eq!(
            told(CircuitPhase::Open, Some(0)),
            "open, opened once; a trickle of requests when its probes succeed"
        );
        assert!(told(CircuitPhase::Open, Some(1_500)).ends_with("in 2 s at the earliest"));
        assert_eq!(told(CircuitPhase::Closed, None), "closed, opened once");
    }
}
