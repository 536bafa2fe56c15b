//! How the operator's file stands to what serves.

pub(super) mod at_start;
pub(super) mod operator_file;
pub(super) mod unserved;
