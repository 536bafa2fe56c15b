//! The agent: sources in, health and weights decided, HAProxy made to follow.
//!
//! Refuses to know wire formats. Called by `api` (through [`Handle`]) and by commands that work alone.

mod certificates;
mod engine;
mod explain;
mod fleet;
mod ledger;
mod live_files;
mod node;
mod overrides;
mod preflight;
mod probing;
mod report;
mod run;
mod snapshot;
mod sources;

pub use engine::{Applied, ApplyError, Engine, How, Prepared, Wish, render_files};
pub use fleet::{Fleet, health_params};
pub use ledger::{Entry, Ledger};
pub use node::{Attempt, Intent, Node};
pub use overrides::{Override, Overrides};
pub use preflight::Refusal;
pub use probing::Errand;
pub use report::{Failed, Report, SourceOfChange, unified_diff};
pub use run::{Agent, Handle, Reply, Request};
pub use snapshot::{BackendSnapshot, HaproxySnapshot, ServerSnapshot, Snapshot};
pub use sources::{Place, Sources, SourcesError, live_config};
