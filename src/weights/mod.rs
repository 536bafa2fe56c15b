//! From health to weight, with every factor explained.
//!
//! Pure and deterministic: the same members and the same previous weights give the same decisions. Refuses to know
//! sockets, files and the configuration. Called by `agent` after each observation and at least every five seconds;
//! its answers go into the desired state and into `explain`.
//!
//! ```text
//! base × health × latency × queue × cap ──► guards of the pool ──► dead band ──► slew ──► weight
//! ```

mod cap;
mod decide;
#[cfg(test)]
mod decide_tests;
mod latency;
mod smoothing;

pub use decide::{FactorLine, PoolMember, WeightDecision, Weighting, decide};
