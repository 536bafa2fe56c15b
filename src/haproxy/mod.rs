//! The running HAProxy and its binary: asks, changes, reloads, judges by evidence.
//!
//! Knows the admin socket's framing, the master CLI, and what each version answers. Refuses to know why a change is
//! wanted: it executes [`Step`](crate::plan::Step)s and fills [`Runtime`](crate::plan::Runtime). Called by `agent`
//! and `cli`.
//!
//! Supported and tested: 2.6 (degraded), 3.0, 3.2. **Source**: management guide, "Unix Socket commands" and "Master
//! CLI".

mod answers;
mod certificates;
mod check;
mod command;
mod error;
mod execute;
mod handover;
mod info;
mod layout;
mod listeners;
mod live;
mod master;
mod observe;
mod own_tls;
mod pem;
mod proof;
mod pulse;
mod reply;
mod servers;
mod session;
mod sharing;
mod spent;
mod stat;
mod verb;
mod verdict;

pub use certificates::observe_certificates;
pub use check::{BinaryError, CheckReport, binary_version, check, start_command};
pub use command::CommandRefused;
pub use error::AdminError;
pub use execute::{ExecuteError, Executed, StepFailure, execute};
pub use layout::certificate_files;
pub use listeners::{Listener, Question, listeners};
pub use live::{EventStream, RingPart, WorkerLook, WorkerWatch};
pub use master::{Processes, ReloadReport, connections_of, processes, reload};
pub use observe::{observe, observe_backend};
pub use pem::{Unusable, read_certificate};
pub use proof::{Proof, Sockets, Unproven, prove_reload};
pub use pulse::{Pulse, clients, pulse, pulse_listener};
pub use sharing::connected_peers;
pub use spent::{CountedSpending, counted_spending};
pub use stat::{ServerCounters, counters, parse_stat};
pub use verdict::{CheckVerdict, HaproxyMessage, MessageLevel};
