//! What the contract promises and this version does not have: the subject of "… not exist yet".
//!
//! An entry is deleted in the change that builds its feature.

pub(super) const API_TOKEN: &str = "writing over TCP, and so its token, does";
