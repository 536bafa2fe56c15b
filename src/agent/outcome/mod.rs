//! What is asked of an apply, and how it ended: values, for everybody.

pub(super) mod applied;
pub(super) mod attempt;
pub(super) mod corrections;
pub(super) mod intent;
pub(super) mod limits;
pub(super) mod report;
