//! (Desired, Rendered, Observed) → Plan: the smallest change that makes what runs what should run.
//!
//! Pure. Refuses to know how a step is spelt on the socket. Called by `agent` and `cli`.

mod observed;
mod step;

pub use observed::{FileState, Master, Observed, Runtime, RuntimeServer, Version};
pub use step::Step;
