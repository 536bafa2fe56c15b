//! What the nodes of a cluster tell each other, several times a second: what each owns, serves and is fit for, and what clients
//! spent at it.
//!
//! Datagrams between the nodes' addresses, each with an HMAC of a key that all share. Nobody acts on one alone that is
//! not fresh: it must echo something that was just sent to its sender, so that a recorded one is worth nothing, and no
//! clocks are compared. Refuses to know what follows from the news. Called by `agent`.

mod beat;
mod circle;

pub use beat::{CanaryNews, MAX_CANARIES, NodeNews, RefusedFile, Serves, SharedKey, VipNews};
pub use circle::{Circle, Heard, PeerRecord};
