//! What is heard of servers: which probe runs next, and live traffic.

mod accounts;
pub(super) mod ears;
pub(super) mod probe_errand;
pub(super) mod queue;
pub(super) mod room;
pub(super) mod traffic_listener;
pub(super) mod wanted;
