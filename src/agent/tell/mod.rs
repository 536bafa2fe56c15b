//! How things are told: refusals, troubles, events and outages, in words, each once.

pub(super) mod bulletin;
pub(super) mod explain;
pub(super) mod fallbacks;
pub(super) mod guards;
pub(super) mod outages;
pub(super) mod refusal;
pub(super) mod troubles;
pub(super) mod unanswered;
