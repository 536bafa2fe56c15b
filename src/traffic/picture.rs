//! What live traffic looks like at one moment, for status and metrics. Data only.

use super::callers::CallerPicture;
use super::line::StreamEnd;
use crate::health::Outcome;
use crate::model::ServerId;
use std::collections::BTreeMap;
use std::time::Duration;

/// All servers that had traffic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// In the order of their names.
    pub servers: Vec<ServerPicture>,
    /// Clients in the order of their names; who is unknown comes first.
    pub callers: Vec<CallerPicture>,
    /// How well we hear.
    pub stats: TrafficStats,
}

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerPicture {
    /// Which.
    pub id: ServerId,
    /// Finished requests of the last minute, by what became of them.
    pub outcomes: BTreeMap<Outcome, u32>,
    /// Attempts of the last minute that failed here and were repeated.
    pub hidden: u32,
    /// Until the connection was there, over the last minute.
    pub connect: Option<Quantiles>,
    /// From the end of the queue to the response's header or the first token, of successes of the last minute.
    pub first_byte: Option<Quantiles>,
    /// Whole requests of the last minute, from the client's first byte.
    pub total: Option<Quantiles>,
    /// Requests in flight, old workers included.
    pub in_flight: u32,
    /// Finished requests since the agent's start.
    pub outcomes_total: BTreeMap<Outcome, u64>,
    /// Attempts that failed here and were repeated, since the agent's start.
    pub hidden_total: u64,
    /// Streams that ended badly behind their first event, since the agent's start.
    pub stream_ends: BTreeMap<StreamEnd, u64>,
    /// Bytes sent to clients since the agent's start.
    pub bytes_out_total: u64,
}

/// Three quantiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// Median.
    pub p50: Duration,
    /// Exceeded by one in twenty.
    pub p95: Duration,
    /// Exceeded by one in a hundred.
    pub p99: Duration,
}

/// How well we hear; the counts since the agent's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficStats {
    /// Lines that were read and understood.
    pub lines: u64,
    /// Lines of ours that could not be read.
    pub malformed: u64,
    /// Lines that HAProxy wrote and that never came: the ring was full, or nobody read it.
    pub lost: u64,
    /// Of the lines: requests for which no server was chosen.
    pub without_server: u64,
    /// Workers that are heard now, those on their way out included.
    pub workers: usize,
    /// Since the last line.
    pub last_line_age: Option<Duration>,
}
