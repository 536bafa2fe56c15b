//! What this node is, for its virtual addresses.

use crate::agent::sources::place::Sources;
use crate::alerts::AlertNews;
use crate::fleet::Fleet;
use crate::heartbeat::{CanaryNews, RefusedFile};
use crate::render::Rendered;
use crate::rollout::BackendNews;
use std::collections::BTreeMap;
use std::time::Duration;

/// What this node is now.
#[derive(Debug)]
pub(in crate::agent) struct Facts<'a> {
    /// What serves, or is to serve first.
    pub serving: &'a Sources,
    /// Whether it serves.
    pub is_settled: bool,
    /// It is compared with what served before, for so long already.
    pub soaked: Option<Duration>,
    pub revision: Option<u32>,
    /// The file that is not served for its mistakes.
    pub refuses: Option<RefusedFile>,
    /// Where canaries are.
    pub canaries: BTreeMap<String, CanaryNews>,
    /// What came to its backends.
    pub backends: BTreeMap<String, BackendNews>,
    /// What sinks of alerts were told.
    pub alerts: AlertNews,
    pub fleet: &'a Fleet,
    /// The last files that were rendered.
    pub rendered: Option<&'a Rendered>,
    /// Why HAProxy does not follow.
    pub problem: Option<String>,
    /// HAProxy does not follow, and that is no want of this process.
    pub is_behind: bool,
}
