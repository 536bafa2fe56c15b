//! To come.

mod verdict;

pub use verdict::{HaproxyMessage, Severity, Verdict};
