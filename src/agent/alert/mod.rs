//! Who is told what happens: a task of its own, for which nobody waits.
//!
//! ```text
//! bulletin ──► desk ──► alerts (pure) ──► one postman for each sink ──► alert (the wire)
//! readings ──►  │  ◄─────────────── how it ended ◄──────┘
//!               └──► keeper (the disk), report (status, metrics)
//! ```

pub(super) mod desk;
pub(super) mod keeper;
pub(super) mod postman;
pub(super) mod readings;
pub(super) mod report;
pub(super) mod watches;
