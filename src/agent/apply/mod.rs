//! Plan and apply: the only rooms that change files and the running HAProxy.

pub(super) mod engine;
pub(super) mod haproxy_look;
pub(super) mod interim;
pub(super) mod maxconn_look;
pub(super) mod persist;
pub(super) mod push;
pub(super) mod reloading;
pub(super) mod renderer;
pub(super) mod stand_in;
pub(super) mod undertaking;
