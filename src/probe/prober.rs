//! Runs one probe from beginning to end, within its deadline.
//!
//! Knows the deadlines; refuses to know when to probe, what a kind of probe asks and what an outcome changes. Called by
//! `agent` and by `cli` (`hapilot probe`).

use super::asking::{Asking, ProbeProgress};
use super::classify::ProbeVerdict;
use super::detail::detail_line;
use super::lag::with_lag;
use super::target::{Probe, Target};
use super::trust::Trust;
use super::{certificate, chat, embedding, figures, list, page};
use crate::health::{Observation, Outcome, Phase};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Deadlines that the operator's file does not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Name, TCP and TLS together.
    pub connect: Duration,
    /// A whole probe of the cheap kinds.
    pub cheap_total: Duration,
    /// Lag of our own scheduling beyond which a time-out is our own fault.
    pub lag: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), cheap_total: Duration::from_secs(5), lag: Duration::from_millis(250) }
    }
}

/// Probes servers. One is enough for all; it holds no connection.
#[derive(Default)]
pub struct Prober {
    limits: Limits,
    trust: Trust,
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Prober {
    /// A prober with the usual deadlines.
    pub fn new() -> Self {
        Self::default()
    }

    /// A prober with other deadlines.
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, trust: Trust::default() }
    }

    /// Probes once. Never longer than the probe's total deadline by more than scheduling takes, never more than 1 MiB
    /// of body (of a list of models 16 MiB, of which it keeps no more); dropping the future closes the connection.
    pub async fn probe(&self, target: &Target, what: &Probe) -> Observation {
        self.probe_within(target, what, self.limits.cheap_total).await
    }

    /// As [`Self::probe`], with another total deadline for a cheap probe; a deep one brings its own.
    pub async fn probe_within(&self, target: &Target, what: &Probe, cheap_total: Duration) -> Observation {
        let started = Instant::now();
        let total = what.total(cheap_total);
        let mut seen = ProbeProgress { phase: Phase::Connect, first_token: None, tokens: 0, load: None, models: None };
        let connect = self.limits.connect.min(total);
        let run = async {
            let asking = Asking { target, trust: &self.trust, connect, seen: &mut seen };
            match what {
                Probe::Models(models) => list::probe(asking, models).await,
                Probe::Chat(chat) => chat::probe(asking, chat).await,
                Probe::Embeddings(embeddings) => embedding::probe(asking, embeddings).await,
                Probe::Http(http) => page::probe(asking, http).await,
                Probe::Metrics(metrics) => figures::probe(asking, metrics).await,
                Probe::Certificate(warn_below) => certificate::probe(asking, *warn_below).await,
            }
        };
        let (result, lag) = Box::pin(with_lag(timeout_at(started + total, run))).await;
        let mut verdict = match result {
            Ok(Ok(detail)) => ProbeVerdict::new(Outcome::Ok, detail),
            Ok(Err(verdict)) => verdict,
            Err(_) => ProbeVerdict::new(Outcome::Timeout(seen.phase), waited_for(seen.phase, what)),
        };
        if let (Probe::Chat(chat), Outcome::Ok, Some(first)) = (what, verdict.outcome, seen.first_token)
            && first > chat.first_token_soft
        {
            verdict = ProbeVerdict::new(
                Outcome::Slow,
                format!("first token after {} ms, {} ms allowed", first.as_millis(), chat.first_token_soft.as_millis()),
            );
        }
        if lag > self.limits.lag {
            // What was measured is our own delay. What the server said stays true.
            seen.first_token = None;
            if matches!(verdict.outcome, Outcome::Slow | Outcome::Timeout(_)) {
                verdict = ProbeVerdict::new(
                    Outcome::SelfCaused,
                    format!("this machine lagged by {} ms during the probe", lag.as_millis()),
                );
            }
        }
        Observation {
            kind: what.kind(),
            outcome: verdict.outcome,
            retry_after: verdict.retry_after,
            is_billing: verdict.is_billing,
            first_token: seen.first_token,
            total: started.elapsed(),
            tokens: seen.tokens,
            load: seen.load,
            models: seen.models,
            detail: detail_line(&verdict.detail, target.key.as_ref()),
        }
    }
}

fn waited_for(phase: Phase, what: &Probe) -> &'static str {
    match (phase, what) {
        (Phase::Connect, _) => "no connection before the total deadline",
        (Phase::FirstToken, Probe::Chat(_)) => "no token before the total deadline",
        (Phase::FirstToken, _) => "no head of an answer before the total deadline",
        (Phase::Stall | Phase::Total, _) => "no end before the total deadline",
    }
}
