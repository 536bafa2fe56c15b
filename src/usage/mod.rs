//! What clients used and what it cost, by the hour.
//!
//! Pure: lines and moments are handed in. Bounded: [`MAX_ROWS`] rows an hour. Money is counted in billionths of a US dollar
//! (nano-dollars), so that the price of one token is a whole number.

mod amounts;
mod elsewhere;
mod hour;
mod ledger;
pub mod money;
mod shared;
mod spent;

pub use amounts::Amounts;
pub use elsewhere::{Elsewhere, Sum, ToldSum};
pub use hour::{Hour, MADE_UP, Row, UsageHour, UsageKey};
pub use ledger::{LineId, MAX_ROWS, OpenUsage, Told, UsageLedger};
pub use shared::SharedLedger;
pub use spent::{Forgiven, Period, Spent, Window};
