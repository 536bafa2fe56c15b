//! What is there now: files on disk and what the running HAProxy says of itself. Plain data, filled by `haproxy`.

use super::RuntimeServers;
use super::{RuntimeCertificates, Step};
use crate::model::{AdminState, Digest, OperState, Weight};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Everything that a plan looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// haproxy.cfg on disk; `None` where there is none.
    pub config: Option<FileState>,
    /// Digest of each map file below `maps/`, by its path relative to the configuration's directory.
    pub maps: BTreeMap<String, Digest>,
    /// Digest of each crt-list below `crt-lists/` and of each certificate below `certificates/`, in the same way.
    pub lists: BTreeMap<String, Digest>,
    /// Digest of each Lua program below `hapilot-lua/`, in the same way.
    pub scripts: BTreeMap<String, Digest>,
    /// The certificates of the running HAProxy; none where none runs.
    pub certificates: RuntimeCertificates,
    /// The running HAProxy; `None` where none answers on the admin socket.
    pub runtime: Option<Runtime>,
}

/// One haproxy.cfg on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Of the whole content.
    pub digest: Digest,
    /// Its first line is hapilot's.
    pub is_ours: bool,
    /// The digest in its first line fits the lines below; false after an edit by hand or a truncation.
    pub is_intact: bool,
}

/// The running worker, as it says itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    /// Worker's process id.
    pub pid: u32,
    /// Worker's version.
    pub version: Version,
    /// `description` of `show info`, which carries the revision marker; `None` where it has none.
    pub description: Option<String>,
    /// Seconds since the worker started.
    pub uptime_s: u64,
    /// `maxconn` of the process in force.
    pub maxconn: u32,
    /// The same when the worker started: the runtime can raise it no further.
    pub most_maxconn: u32,
    /// Its servers.
    pub servers: RuntimeServers,
    /// Content of each map that hapilot rendered, in order, by identifier.
    pub maps: BTreeMap<String, Arc<Vec<(String, String)>>>,
    /// What the master socket says; `None` where it cannot be reached.
    pub master: Option<Master>,
}

impl Runtime {
    /// Notes that the worker has taken these steps over, so that they are not sent again before it is asked anew.
    /// Weights and maps only: the others change more than one field.
    pub fn took(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::SetWeight { proxy, server, from: _, to } => {
                    if let Some(now) = self.servers.get_mut(&(proxy.clone(), server.clone())) {
                        now.weight = *to;
                    }
                }
                Step::SetState { proxy, server, from: _, to } => {
                    if let Some(now) = self.servers.get_mut(&(proxy.clone(), server.clone())) {
                        now.admin = *to;
                    }
                }
                Step::ReplaceMap { map, entries, .. } => {
                    self.maps.insert(map.clone(), Arc::new(entries.clone()));
                }
                _ => {}
            }
        }
    }
}

/// One server in the running worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeServer {
    /// Its id, which tells the shape of a dynamic server.
    pub id: u32,
    /// Weight in force.
    pub weight: Weight,
    /// `maxconn` in force; 0 is no limit.
    pub maxconn: u32,
    /// Administrative state, folded from HAProxy's flags.
    pub admin: AdminState,
    /// What HAProxy's own checks say.
    pub oper: OperState,
    /// Address, empty while a name is unresolved.
    pub address: String,
    /// Port.
    pub port: u16,
    /// The DNS name, where the server was configured by one.
    pub fqdn: Option<String>,
}

/// What the master process says of itself and its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Master's process id.
    pub pid: u32,
    /// Reloads since the master started.
    pub reloads: u32,
    /// Failed reloads (2.7 and newer); on 2.6 the count in `show proc`.
    pub failed: u32,
    /// Process ids of workers that are on their way out.
    pub old_workers: Vec<u32>,
}

/// HAProxy's version: 3.0.11.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Version {
    /// 3 of 3.0.11.
    pub major: u16,
    /// 0 of 3.0.11.
    pub minor: u16,
    /// 11 of 3.0.11.
    pub patch: u16,
}

impl Version {
    /// Whether it is this branch or newer.
    pub fn at_least(self, major: u16, minor: u16) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl std::str::FromStr for Version {
    type Err = crate::model::Refused;
    /// Takes what `haproxy -v` and `show info` print: `2.6.12-1+deb12u4`, `3.4-dev1-abc`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || crate::model::Refused(format!("{text:?} is not a HAProxy version"));
        let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse::<u16>().ok());
        let major = numbers.next().flatten().ok_or_else(refused)?;
        let minor = numbers.next().flatten().ok_or_else(refused)?;
        let patch = numbers.next().flatten().unwrap_or(0);
        Ok(Self { major, minor, patch })
    }
}
