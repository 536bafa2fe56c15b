//! The keys of one entry of HAProxy's map of keys: which of them work, which one serves, when one is asked again.
//!
//! Pure: time is handed in as [`Moment`](crate::model::Moment), keys are numbers from 0. Refuses to know a key's value,
//! where it is kept, and who asks. Called by `agent`, which runs the tests and writes the map.

mod key;
mod pool;
#[cfg(test)]
mod pool_tests;

pub use key::{KeyState, KeyWitness, Rejection};
pub use pool::{Exhausted, KeyChange, KeyPool, KeyPoolOutcome, KeyPoolParams, KeySnapshot, KeyTest, KeyWord, Rotation};
