//! What this node remembers: revisions and trials, operators' words, and what health has learnt.

pub(super) mod adopted;
pub(super) mod entry;
pub(super) mod git_book;
pub(super) mod last_results;
pub(super) mod ledger;
pub(super) mod locking;
pub(super) mod recovery;
pub(super) mod remark;
pub(super) mod spending;
pub(super) mod trial;
pub(super) mod usage_book;
