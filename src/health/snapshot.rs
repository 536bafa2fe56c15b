//! The health of one server as status and explain show it.
//!
//! Knows ages instead of moments, because those who read it have another clock. Made from [`ServerHealth`]; read by
//! `api` and `cli`.

use super::{CircuitPhase, Outcome, ProbeKind, ServerHealth};
use crate::model::Moment;
use serde::Serialize;
use std::time::Duration;

/// What needs the operator although it is not the server's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// The key was rejected, or its account is spent.
    KeyRejected,
    /// It asks for a key, and the file gives it none.
    KeyMissing,
    /// Our probe is wrong: its path, its model or its form.
    ProbeWrong,
    /// The server's name does not resolve here.
    NameUnresolved,
    /// The server does not tell its load.
    LoadUnread,
    /// Its certificate ends soon, or cannot be read.
    CertificateEnds,
    /// The budget of its deep probes is spent until midnight UTC.
    BudgetSpent,
}

/// The health of one server at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HealthSnapshot {
    /// `unknown`, `healthy`, `degraded`, `unhealthy` or `probation`.
    pub state: &'static str,
    /// What made it so: a degradation or an outcome.
    pub cause: Option<&'static str>,
    /// One sentence on the last change.
    pub reason: String,
    /// How long it has been so.
    pub since_ms: u64,
    /// Share of the base weight, 0 to 1; nothing while unknown.
    pub factor: Option<f64>,
    /// What real requests closed and opened, unless it was always closed.
    pub circuit: Option<CircuitSnapshot>,
    /// Why no key is left for clients.
    pub keyless: Option<String>,
    /// Nothing was heard for so long that its weight stays as it is.
    pub is_stale: bool,
    /// Real requests of the last minute prove that it works, whatever a probe says.
    pub is_proven_by_traffic: bool,
    /// While unhealthy: so long it stays out at least.
    pub held_ms: Option<u64>,
    /// How often it went down in the last half an hour.
    pub downs: usize,
    /// What needs the operator, each once.
    pub attention: Vec<Attention>,
    /// One for each kind of probe that runs.
    pub probes: Vec<ProbeSnapshot>,
}

/// The circuit that failures of real requests open.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CircuitSnapshot {
    /// Where it stands.
    pub phase: CircuitPhase,
    /// While open: until a trickle is let in, at least. While half open: until it ends by itself where nobody asks.
    pub until_ms: Option<u64>,
    /// Openings since real traffic last showed for minutes that the server works.
    pub openings: u32,
}

/// What one kind of probe told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeSnapshot {
    /// Which.
    pub kind: ProbeKind,
    /// Successes in a row.
    pub successes: u32,
    /// Hard failures in a row.
    pub failures: u32,
    /// It took the server out, and has not yet let it back.
    pub in_trouble: bool,
    /// Until the next one starts; 0: at once.
    pub next_ms: u64,
    /// Its decayed latency: first token for chat, total for the others.
    pub latency_ms: Option<u64>,
    /// The last one that said something.
    pub last: Option<LastProbe>,
}

/// The last probe of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastProbe {
    /// What it found, as in logs and metrics.
    pub outcome: &'static str,
    /// How long ago it ended.
    pub ago_ms: u64,
    /// To the first token.
    pub first_token_ms: Option<u64>,
    /// To the end.
    pub total_ms: u64,
    /// Tokens that it cost.
    pub tokens: u64,
    /// One line for people.
    pub detail: String,
}

impl ServerHealth {
    /// The picture for status and explain.
    pub fn snapshot(&self, now: Moment) -> HealthSnapshot {
        let probes: Vec<_> = self
            .evidence()
            .map(|(kind, evidence, next)| ProbeSnapshot {
                kind,
                successes: evidence.successes,
                failures: evidence.failures,
                in_trouble: evidence.in_trouble,
                next_ms: ms(next.since(now)),
                latency_ms: evidence.latency().map(ms),
                last: evidence.last.as_ref().map(|(at, observation)| LastProbe {
                    outcome: observation.outcome.as_str(),
                    ago_ms: ms(now.since(*at)),
                    first_token_ms: observation.first_token.map(ms),
                    total_ms: ms(observation.total),
                    tokens: observation.tokens,
                    detail: observation.detail.clone(),
                }),
            })
            .collect();
        HealthSnapshot {
            state: self.state.as_str(),
            cause: self.state.cause(),
            reason: self.reason.clone(),
            since_ms: ms(now.since(self.since)),
            factor: self.factor(now).map(|factor| factor.value),
            circuit: self.circuit_snapshot(now),
            keyless: self.keyless.as_ref().map(|keyless| keyless.why.clone()),
            is_stale: self.is_stale(now),
            is_proven_by_traffic: self.traffic.as_ref().is_some_and(|traffic| traffic.proves_health(now)),
            held_ms: self.state.is_unhealthy().then(|| ms(self.held_until().since(now))),
            downs: self.swings.downs(now),
            attention: self.attention(),
            probes,
        }
    }

    fn circuit_snapshot(&self, now: Moment) -> Option<CircuitSnapshot> {
        let circuit = &self.circuit;
        let until = match circuit.phase {
            CircuitPhase::Closed => None,
            CircuitPhase::Open => Some(self.held_until()),
            CircuitPhase::HalfOpen => circuit.quiet_until(),
        };
        let is_news = circuit.phase != CircuitPhase::Closed || circuit.openings > 0;
        is_news.then(|| CircuitSnapshot {
            phase: circuit.phase,
            until_ms: until.map(|until| ms(until.since(now))),
            openings: circuit.openings,
        })
    }

    /// What needs the operator: the last word of each kind of probe.
    pub fn attention(&self) -> Vec<Attention> {
        let last = self.evidence().filter_map(|(_, evidence, _)| evidence.last.as_ref());
        let mut attention: Vec<_> = last
            .filter_map(|(_, observation)| match (observation.kind, observation.outcome) {
                (_, Outcome::Ok | Outcome::SelfCaused) => None,
                (ProbeKind::Metrics, _) => Some(Attention::LoadUnread),
                (ProbeKind::Certificate, _) => Some(Attention::CertificateEnds),
                (_, Outcome::Credential) if self.params.keys == 0 => Some(Attention::KeyMissing),
                (_, Outcome::Credential) => Some(Attention::KeyRejected),
                (_, Outcome::ProbeConfig) => Some(Attention::ProbeWrong),
                (_, Outcome::Dns) => Some(Attention::NameUnresolved),
                _ => None,
            })
            .collect();
        if self.keyless.is_some() {
            attention.push(Attention::KeyRejected);
        }
        if self.lines.values().any(|line| line.withheld) {
            attention.push(Attention::BudgetSpent);
        }
        attention.sort_unstable();
        attention.dedup();
        attention
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{HealthParams, Observation};

    #[test]
    fn a_snapshot_says_what_is_wrong_and_what_comes_next() {
        let start = Moment(Duration::from_secs(100));
        let params = HealthParams { fall: 1, cheap: vec![ProbeKind::Models], ..HealthParams::default() };
        let mut health = ServerHealth::new(params, start, 1);
        let observation = Observation {
            detail: "connection refused by 192.0.2.7:443".into(),
            ..Observation::new(ProbeKind::Models, Outcome::Refused, Duration::from_millis(3))
        };
        let transition = health.observe(&observation, start + Duration::from_millis(3)).unwrap();
        let reason = "failed once; models probe: refused: connection refused by 192.0.2.7:443";
        assert_eq!((transition.to.to_string().as_str(), transition.reason.as_str()), ("unhealthy(refused)", reason));

        let mut json = serde_json::to_value(health.snapshot(start + Duration::from_secs(1))).unwrap();
        // Jitter moves these two.
        assert!((11_000..18_000).contains(&json["held_ms"].take().as_u64().unwrap()));
        assert!((4_000..5_000).contains(&json["probes"][0]["next_ms"].take().as_u64().unwrap()));
        let expected = serde_json::json!({
            "state": "unhealthy", "cause": "refused", "reason": reason, "since_ms": 997, "factor": 0.0,
            "circuit": null, "keyless": null, "is_stale": false, "is_proven_by_traffic": false,
            "held_ms": null, "downs": 1, "attention": [],
            "probes": [{
                "kind": "models", "successes": 0, "failures": 1, "in_trouble": true, "next_ms": null, "latency_ms": null,
                "last": {
                    "outcome": "refused", "ago_ms": 997, "first_token_ms": null, "total_ms": 3, "tokens": 0,
                    "detail": "connection refused by 192.0.2.7:443",
                },
            }],
        });
        assert_eq!(json, expected);
    }
}
