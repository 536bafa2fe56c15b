//! (Desired, Rendered, Observed) → Plan: the smallest change that makes what runs what should run.
//!
//! Pure. Refuses to know how a step is spelt on the socket. Called by `agent` and `cli`.

mod certificates;
mod decide;
#[cfg(test)]
mod decide_tests;
mod described;
mod drastic_changes;
mod drift;
mod observed;
mod reasons;
mod reshaped;
mod runtime_servers;
mod step;

pub use certificates::{CertificateStep, ListEntry, RuntimeCertificate, RuntimeCertificates};
pub use decide::{Action, FileChange, Obstacle, Plan, Question, decide, keys_step, map_step, weight_steps, word_steps};
pub use described::brief;
pub use drastic_changes::{DrasticChange, drastic_changes};
pub use drift::{Expectation, drift};
pub use observed::{FileState, Master, Observed, Runtime, RuntimeServer, Version};
pub use reasons::{ReloadReason, reload_reasons};
pub use runtime_servers::RuntimeServers;
pub use step::Step;

/// What `description` of a configuration with this structure says: `hapilot` and 12 digits.
pub fn marker(structure: &crate::model::Digest) -> String {
    format!("hapilot {}", structure.short())
}
