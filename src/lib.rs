//! hapilot steers a running HAProxy from one TOML file by deep health checks of AI backends.
//!
//! Data goes one way: TOML → [`config`] → [`desired`] → [`render`] → [`plan`] → apply ([`agent`]) → observed
//! ([`haproxy`]). A module names only modules on a lower floor; `tests/floors.rs` holds that rule and
//! `ARCHITECTURE.md` draws it.

// Floor 0: the words.
pub mod model;

// Floor 1 and 2: decisions about health and weight, what is told, and how HAProxy reads its files.
pub mod alerts;
pub mod cfg;
pub mod event;
pub mod health;
pub mod keys;
pub mod rollout;
pub mod traffic;
pub mod usage;
pub mod vip;
pub mod weights;

// Floor 3 to 6: from the operator's file to a plan.
pub mod config;
pub mod desired;
pub mod fleet;
pub mod plan;
pub mod render;

// Floor 7: the only door to the operating system.
pub mod sys;

// Floor 8: adapters, one each.
pub mod alert;
pub mod haproxy;
pub mod heartbeat;
pub mod keepalived;
pub mod mock;
pub mod network;
pub mod probe;
pub mod store;

// Floor 9 to 11: the agent and its faces.
pub mod agent;
pub mod api;
pub mod cli;
