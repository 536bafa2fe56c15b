//! Health of servers: outcomes of probes, the state machine of one server, guards over a pool.
//!
//! Pure: time is handed in as [`Moment`](crate::model::Moment). Refuses to know TOML, HTTP and HAProxy. Called by
//! `agent`, which runs the probes, and by `weights`.

mod outcome;

pub use outcome::{Observation, Outcome, Phase, ProbeKind};
