//! The life of a canary and of a soaking revision, and the statistics that decide it.
//!
//! Pure: moments are handed in, and so is what requests came to. Refuses to know clocks, files, HAProxy and TOML. The
//! agent drives it:
//!
//! ```text
//! Rollout::new(rules, content, now)      a canary begins: Percent(0) until the first `decide`
//!   observe(&Heard, now)                 about each second: what came since the last time, empty counts too
//!   decide(now) -> Vec<Change>           after each `observe`, and at `next_deadline(now)`
//!   told(Word, now) -> Result<Vec<Change>, Deaf>   promote, hold, resume, abort
//!   percent()                            what HAProxy should send to the canary now
//!   view(now) -> View                    for `canary status`, and --json
//! serde                                  the whole state, to save after each change and now and then in between;
//!                                        what is loaded goes on where it was, by the first call's `now`
//!   after_gap(gap)                       after loading: so long nobody watched (by the wall clock)
//! may_begin(content, &[Rejected], today) a content that was rolled back waits for 30 minutes
//!
//! Soak::new(SoakRules, before, now)      a revision soaks: what the five minutes before it were like, for each backend
//!   observe(&SoakHeard, now), decide(now) -> Option<Verdict>, next_deadline(now), view(now) -> SoakView
//! ```

mod counts;
mod phase;
mod rules;
mod sums;
mod times;

pub use counts::{Counts, Request};
pub use phase::{Change, Deaf, Heard, Hold, Phase, Rejected, Servers, Word};
pub use rules::{Condition, HardRules, Limit, Lost, Metric, Percent, Rules, Stage};
pub use sums::Sums;
pub use times::Times;
