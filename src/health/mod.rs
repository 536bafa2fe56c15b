//! Health of servers: outcomes of probes, the state machine of one server, guards over a pool.
//!
//! Pure: time is handed in as [`Moment`](crate::model::Moment). Refuses to know TOML, HTTP and HAProxy. Called by
//! `agent`, which runs the probes, and by `weights`.

mod evidence;
mod ewma;
mod factor;
mod live;
mod outcome;
mod params;
mod pool;
mod schedule;
mod server;
#[cfg(test)]
mod simulation;
mod snapshot;
mod state;
mod swings;

pub use factor::{Factor, Signals};
pub use live::LiveSample;
pub use outcome::{Count, Load, Observation, Outcome, Phase, ProbeKind};
pub use params::HealthParams;
pub use pool::{Guarded, Member, guard};
pub use server::ServerHealth;
pub use snapshot::{Attention, HealthSnapshot, LastProbe, ProbeSnapshot};
pub use state::{Degradation, State, Transition};
