//! From events to notifications: what somebody is told, how often, and by which node. Pure.
//!
//! ```text
//! events ──► AlertTable ──► SinkBook (one for each sink) ──► queue ──► a sink
//!            what lasts     groups: 30 s together, at most every 5 min, again after 4 h, resolved once
//! ```
//!
//! Knows events and what each means to people. Refuses to know clocks, files, networks and how a sink spells it. Everything
//! here is kept over a restart by whoever calls it (`agent`): an alert that was told is resolved by the same key, whatever
//! died in between.

mod book;
mod classify;
mod elsewhere;
mod line;
mod notification;
mod queue;
mod rule;
mod speaker;
mod table;
#[cfg(test)]
mod tests;
mod topic;

pub use book::{Identity, SinkBook, SinkRules};
pub use classify::{Finding, Home, classify};
pub use elsewhere::{AlertNews, Elsewhere};
pub use notification::{Change, Line, Notification};
pub use queue::{MAX_WAITING, Queue};
pub use rule::{Metric, RuleTurn, RuleWatch, Threshold};
pub use speaker::{Other, Part, speaks};
pub use table::{Alert, AlertTable};
pub use topic::{Selection, Topic, Urgency, WORDS};
