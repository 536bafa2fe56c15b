//! Who is told what happens, as it goes over the socket.

use crate::agent::SinkReport;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertSink {
    /// NAME of `[alert.NAME]`.
    pub name: String,
    /// slack, pagerduty, email, webhook or alertmanager.
    pub kind: String,
    /// Notifications that it took since the agent's start.
    pub sent: u64,
    /// Tries that failed since the agent's start.
    pub failed: u64,
    /// Notifications that were dropped for want of room.
    pub dropped: u64,
    /// Notifications that wait.
    pub waiting: u64,
    /// Matters that it was told and that are not over.
    pub open: u64,
    /// What is open and why, one line each; 25 at the most.
    #[serde(default)]
    pub matters: Vec<String>,
    /// Why the last try failed; `None`: it did not.
    #[serde(default)]
    pub failure: Option<String>,
    /// Seconds since it took the last one; `None`: none since the agent's start.
    pub last_s: Option<u64>,
    /// What it said to that.
    pub last_answer: Option<String>,
    /// Why it does not deliver; `None`: it does, or was not tried.
    pub problem: Option<String>,
    /// Seconds since that began.
    pub problem_s: Option<u64>,
}

impl From<&SinkReport> for AlertSink {
    fn from(report: &SinkReport) -> Self {
        let SinkReport { name, kind, sent, failed, dropped, waiting, open, matters, failure, last, problem } = report;
        let age = |at: &Timestamp| u64::try_from(Timestamp::now().duration_since(*at).as_secs()).unwrap_or(0);
        Self {
            name: name.clone(),
            kind: (*kind).to_owned(),
            sent: *sent,
            failed: *failed,
            dropped: *dropped,
            waiting: *waiting as u64,
            open: *open as u64,
            matters: matters.clone(),
            failure: failure.clone(),
            last_s: last.as_ref().map(|(at, _)| age(at)),
            last_answer: last.as_ref().map(|(_, said)| said.clone()),
            problem: problem.as_ref().map(|(_, why)| why.clone()),
            problem_s: problem.as_ref().map(|(at, _)| age(at)),
        }
    }
}
