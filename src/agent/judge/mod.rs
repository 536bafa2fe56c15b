//! What is judged before the first byte is written.

pub(super) mod checks;
pub(super) mod preflight;
pub(super) mod start;
