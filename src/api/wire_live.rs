//! Live traffic and guards as they go over the wire. Names are a contract: they are only ever added.

use crate::health::{Count, GuardEvent, Outcome};
use crate::model::Moment;
use crate::traffic::{Quantiles, ServerPicture, TrafficStats};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How well the agent hears what HAProxy tells of requests; the counts since the agent's start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Hearing {
    /// Requests that were heard of.
    pub requests: u64,
    /// Requests of which HAProxy told, and nothing came.
    pub lost: u64,
    /// Lines that could not be read.
    pub malformed: u64,
    /// Workers that are listened to, those on their way out included.
    pub workers: usize,
    /// Seconds since the last one.
    pub last_s: Option<f64>,
}

/// What the requests of clients told of one server in the last minute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Live {
    /// Finished requests.
    pub requests: u32,
    /// Of them those that failed by the server's fault.
    pub failed: u32,
    /// Attempts that failed here and were repeated, so that no client saw them.
    pub hidden: u32,
    /// Finished requests by what became of them.
    pub outcomes: BTreeMap<String, u32>,
    /// Requests in flight now.
    pub in_flight: u32,
    /// Until the connection was there.
    pub connect_ms: Option<Percentiles>,
    /// Until the response's header, or the first token where that is measured, of successes.
    pub first_byte_ms: Option<Percentiles>,
    /// Whole requests.
    pub total_ms: Option<Percentiles>,
}

/// Three percentiles, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// Exceeded by one in twenty.
    pub p95: f64,
    /// Exceeded by one in a hundred.
    pub p99: f64,
}

/// A guard that holds back weights now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Guard {
    /// suspect_ourselves, keep_half, fail_open or budget_spent.
    pub guard: String,
    /// The backend; `None`: all of them.
    pub backend: Option<String>,
    /// Seconds since it began.
    pub since_s: u64,
    /// One sentence for people.
    pub why: String,
}

impl From<&TrafficStats> for Hearing {
    fn from(stats: &TrafficStats) -> Self {
        let TrafficStats { lines, malformed, lost, without_server: _, workers, last_line_age } = *stats;
        let last_s = last_line_age.map(|age| age.as_secs_f64());
        Self { requests: lines, lost, malformed, workers, last_s }
    }
}

impl From<&ServerPicture> for Live {
    fn from(picture: &ServerPicture) -> Self {
        let counted = |count: fn(Outcome) -> bool| {
            picture.outcomes.iter().filter(|(outcome, _)| count(**outcome)).map(|(_, n)| n).sum::<u32>()
        };
        Self {
            requests: counted(|_| true),
            failed: counted(|outcome| outcome.count() == Count::HardFailure),
            hidden: picture.hidden,
            outcomes: picture.outcomes.iter().map(|(outcome, n)| (outcome.as_str().to_owned(), *n)).collect(),
            in_flight: picture.in_flight,
            connect_ms: picture.connect.map(Percentiles::from),
            first_byte_ms: picture.first_byte.map(Percentiles::from),
            total_ms: picture.total.map(Percentiles::from),
        }
    }
}

impl From<Quantiles> for Percentiles {
    fn from(Quantiles { p50, p95, p99 }: Quantiles) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        Self { p50: ms(p50), p95: ms(p95), p99: ms(p99) }
    }
}

impl Guard {
    /// The event as it is at `now`.
    pub fn of(event: &GuardEvent, now: Moment) -> Self {
        let GuardEvent { guard, pool, since, why } = event;
        Self {
            guard: guard.to_string(),
            backend: pool.as_ref().map(ToString::to_string),
            since_s: now.since(*since).as_secs(),
            why: why.clone(),
        }
    }
}
