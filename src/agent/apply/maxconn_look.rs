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
        let had_limits = seen.is_none_or(|seen| seen.servers.iter().any(|(.., server)| server.maxconn != 0));
        let is_long_ago = self.last.is_none_or(|last| now.duration_since(last) >= NOW_AND_THEN);
        let is_due = rendered.maxconn.limits_servers() || had_limits || is_long_ago;
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RuntimeServer;
    use std::collections::BTreeMap;

    fn rendered(haproxy_cfg: &str) -> Rendered {
        Rendered::of_text(haproxy_cfg, BTreeMap::new())
    }

    fn runs(maxconn: u32) -> Runtime {
        let server = RuntimeServer {
            id: 1,
            weight: crate::model::Weight::DEFAULT,
            maxconn,
            admin: crate::model::AdminState::Ready,
            oper: crate::model::OperState::Up,
            address: "192.0.2.1".to_owned(),
            port: 80,
            fqdn: None,
        };
        Runtime {
            pid: 1,
            version: "3.2.0".parse().unwrap(),
            description: None,
            uptime_s: 1,
            maxconn: 1000,
            most_maxconn: 1000,
            servers: [(("b".to_owned(), "s".to_owned()), server)].into_iter().collect(),
            maps: BTreeMap::new(),
            master: None,
        }
    }

    #[test]
    fn it_is_asked_at_first_where_one_is_known_and_once_a_minute() {
        let (none, some) = (rendered(""), rendered("backend b\n    server s 192.0.2.1:80 maxconn 5\n"));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut look = MaxconnLook::default();
        assert!(look.is_due(&none, None, start), "nobody was seen yet");
        assert!(!look.is_due(&none, Some(&runs(0)), after(1)));
        assert!(look.is_due(&some, Some(&runs(0)), after(2)), "the file states one");
        assert!(look.is_due(&none, Some(&runs(5)), after(3)), "one runs");
        assert!(!look.is_due(&none, Some(&runs(0)), after(62)));
        assert!(look.is_due(&none, Some(&runs(0)), after(63)), "a minute");
    }
}
