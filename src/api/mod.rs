//! The agent to the outside: wire types, server on a Unix socket and, for readers, on TCP, client.
//!
//! Refuses to know the agent's internals: everything comes from its snapshot and its answers. Called by `cli`.

mod alert_metrics;
mod client;
mod connections;
mod convert;
mod exposition;
mod live_metrics;
mod metrics;
mod series;
mod server;
mod vip_metrics;
pub mod wire;
mod wire_alert;
mod wire_canary;
mod wire_live;
mod wire_soak;
mod wire_vip;

pub use client::{About, Client, ClientError};
pub use server::{Listener, serve, serve_readers};
