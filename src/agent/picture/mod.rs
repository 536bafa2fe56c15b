//! What the agent knows at one moment, for whoever looks.

pub(super) mod outage;
pub(super) mod serving_view;
pub(super) mod snapshot;
pub(super) mod snapshot_head;
pub(super) mod snapshot_parts;
