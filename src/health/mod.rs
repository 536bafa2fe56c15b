//! Health of servers: outcomes of probes, the state machine of one server, guards over a pool.
//!
//! Pure: time is handed in as [`Moment`](crate::model::Moment). Refuses to know TOML, HTTP and HAProxy. Called by
//! `agent`, which runs the probes, and by `weights`.

mod answers;
mod budget;
mod by_kind;
mod circuit;
mod evidence;
mod ewma;
mod factor;
mod guards;
mod judged_by_traffic;
mod limit;
mod live;
mod outcome;
mod params;
mod ramp;
mod reasons;
mod schedule;
mod server;
#[cfg(test)]
mod simulation;
mod snapshot;
mod speed;
mod state;
mod suspicion;
mod swings;
mod traffic;
mod window;

pub use budget::{Budget, BudgetDenial, BudgetLimits, Spent};
pub use circuit::CircuitPhase;
pub use factor::{Factor, FactorKind, FactorName, Signals};
pub use guards::{Guard, GuardEvent, Member, PoolGuards, Ruling};
pub use live::{LiveSample, SinceSuccess};
pub use outcome::{Count, Load, Observation, Outcome, Phase, ProbeKind};
pub use params::HealthParams;
pub use server::{Keyless, ServerHealth};
pub use snapshot::{Attention, CircuitSnapshot, HealthSnapshot, LastProbe, ProbeSnapshot};
pub use state::{Degradation, State, Transition};
pub use suspicion::{Ours, PoolReport, Suspicion};
