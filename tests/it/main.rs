//! The one integration binary: one module per subject, and what they share in `support`.

mod admin;
mod agent_commands;
mod agent_demo;
mod agent_edits;
mod agent_first_contact;
mod agent_health;
mod agent_history;
mod agent_mistakes;
mod agent_reload;
mod agent_restart;
mod agent_servers;
mod bad;
mod cases;
mod deny;
mod docs;
mod floors;
mod haproxies;
mod house;
mod private_haproxy;
mod probe;
mod provenance;
mod quoting;
mod sample;
mod structure;
mod support;
mod traffic;
