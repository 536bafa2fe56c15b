//! How it goes with the sinks, for `status` and metrics. Data only.

use crate::alerts::AlertNews;
use jiff::Timestamp;

/// How it goes with all sinks.
#[derive(Clone, Debug, Default)]
pub struct AlertReport {
    /// In the order of their names.
    pub sinks: Vec<SinkReport>,
    /// Why what waits is not kept, while it is not.
    pub disk: Option<String>,
    /// What the other nodes are to know.
    pub news: AlertNews,
}

/// How it goes with one sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkReport {
    /// Its name.
    pub name: String,
    /// What kind of sink it is.
    pub kind: &'static str,
    /// Notifications that it took since the agent's start.
    pub sent: u64,
    /// Tries that failed since the agent's start.
    pub failed: u64,
    /// Notifications that were dropped for want of room.
    pub dropped: u64,
    /// Notifications that wait.
    pub waiting: usize,
    /// Matters that it was told and that are not over.
    pub open: usize,
    /// What is open and why, one line each.
    pub matters: Vec<String>,
    /// Why the last try failed, where it did.
    pub failure: Option<String>,
    /// When it took the last one, and what it said.
    pub last: Option<(Timestamp, String)>,
    /// Why it does not deliver, and since when.
    pub problem: Option<(Timestamp, String)>,
}

impl AlertReport {
    /// What somebody should read, one line each.
    pub fn problems(&self) -> Vec<String> {
        let of_sink = |sink: &SinkReport| {
            let (since, why) = sink.problem.as_ref()?;
            let waiting = match sink.waiting {
                0 => String::new(),
                1 => "; 1 notification waits".to_owned(),
                many => format!("; {many} notifications wait"),
            };
            let since = since.strftime("%Y-%m-%d %H:%M:%S UTC");
            Some(format!("alerts do not reach {} ({}) since {since}: {why}{waiting}", sink.name, sink.kind))
        };
        self.sinks.iter().filter_map(of_sink).chain(self.disk.clone()).collect()
    }
}
