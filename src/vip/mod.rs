//! Who should own the virtual addresses, as far as this node has a say: what Keepalived is told, who gives way where two
//! own the same, who takes a new revision first.
//!
//! Pure: time is handed in. Knows no Keepalived and no HAProxy; the backends' health is not among what it looks at,
//! because no other node would find them better. Called by `agent`.

mod fitness;
mod order;
mod split;

pub use fitness::{Fitness, HoldDown, Local, VipRole, VrrpAdvice, decide};
pub use order::{PeerStanding, Proof, Turn, turn};
pub use split::{Claim, Other, Settling, Split};
