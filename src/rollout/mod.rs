//! The life of a canary and of a soaking revision, and the statistics that decide it.
//!
//! Pure: moments are handed in, and so is what requests came to. Refuses to know clocks, files, HAProxy and TOML. The
//! agent drives it:
//!
//! ```text
//! may_begin(content, &[Rejected], today)   what was rolled back waits for 30 minutes
//! Rollout::new(rules, content, now)        a canary begins with its first stage
//!   percent() -> Percent                   what HAProxy should send to the canary: at once, and after each change
//!   observe(&Heard, now)                   about each second: what came since the last time, empty counts too; not
//!                                          where nothing could be read
//!   decide(now) -> Vec<Change>             after each `observe`, and at `next_deadline(now)`
//!   told(Word, now)                        promote, hold, resume, abort
//!   view(now) -> View                      for `canary status`, and --json
//!   serde                                  the whole state, to save after each change and each minute, or to hand to
//!                                          another node; what was loaded goes on where it was
//!   edit(rules, now)                       other rules for the same content: it goes on where it is
//!   after_gap(gap)                         after loading: for so long nobody watched, by the wall clock
//! ```
//!
//! [`Soak`] is driven in the same way.

mod again;
mod bounds;
mod clock;
mod counts;
mod edited;
mod judge;
mod phase;
mod row;
mod rules;
#[cfg(test)]
mod simulation;
mod soak;
mod state;
mod sums;
#[cfg(test)]
mod tests;
mod times;
mod view;
mod watch;
mod words;

pub use again::{REJECTED_FOR, Rejected, blocked_until, may_begin};
pub use counts::{Counts, Request};
pub use phase::{Change, Deaf, Decided, Heard, Hold, Phase, Servers, Word};
pub use rules::{Condition, HardRules, Limit, Lost, Metric, Percent, Rules, Stage};
pub use soak::{BackendNews, BackendSeen, ServersUp, Soak, SoakHeard, SoakView, SubjectView, Verdict};
pub use state::{ABORTED, Rollout};
pub use sums::Sums;
pub use times::Times;
pub use view::{ConditionView, GroupView, View};
