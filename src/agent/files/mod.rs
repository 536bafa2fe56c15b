//! The files that HAProxy reads at its next start or reload.

pub(super) mod leaving_out;
pub(super) mod live_files;
