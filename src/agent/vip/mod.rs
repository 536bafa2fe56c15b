//! The virtual addresses of this node: their guardian, and keepalived.conf.

pub(super) mod facts;
pub(super) mod guardian;
pub(super) mod proof;
pub(super) mod release;
pub(super) mod released;
pub(super) mod vips;
pub(super) mod vrrp_file;
