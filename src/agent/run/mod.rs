//! The loop of the running agent, and what runs beside it.

pub(super) mod body;
pub(super) mod canaries;
pub(super) mod changes;
pub(super) mod event_loop;
pub(super) mod filing;
pub(super) mod keepalived_file;
pub(super) mod probe_runs;
pub(super) mod probes;
pub(super) mod reading;
pub(super) mod request;
pub(super) mod soak;
pub(super) mod tasks;
pub(super) mod traffic_words;
pub(super) mod waiting;
pub(super) mod words;
pub(super) mod work;
