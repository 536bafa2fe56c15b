//! When the running HAProxy is asked for the maxconn of its servers.
//!
//! The answer costs HAProxy five times what all else does that is looked at (20 ms at 5,000 servers). So it is asked
//! where a server has a limit, by the file or as it was last seen, and else only now and then, for what somebody set by
//! hand. In between no server has one.

use crate::plan::Runtime;
use crate::render::Rendered;
use std::time::{Duration, Instant};

/// Where no server has a limit, it is asked this often.
const NOW_AND_THEN: Duration = Duration::from_secs(60);

/// When it was asked last.
#[derive(Debug, Default)]
pub(super) struct MaxconnLook {
    last: Option<Instant>,
}

impl MaxconnLook {
    /// Whether to ask now; a yes counts as asked.
    pub(super) fn is_due(&mut self, rendered: &Rendered, seen: Option<&Runtime>, now: Instant) -> bool {
        let had_limits = seen.is_none_or(|seen| seen.servers.values().any(|server| server.maxconn != 0));
        let is_long_ago = self.last.is_none_or(|last| now.duration_since(last) >= NOW_AND_THEN);
        let is_due = rendered.maxconn.limits_servers() || had_limits || is_long_ago;
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}
