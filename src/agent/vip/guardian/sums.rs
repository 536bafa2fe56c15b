//! What clients spent, told to the other nodes and heard from them.

use crate::heartbeat::Circle;
use crate::usage::{Hour, SharedLedger, ToldSum};
use jiff::Timestamp;

/// Sums in one datagram: with the longest names it is shorter than what a network carries in one piece.
const PER_DATAGRAM: usize = 8;
/// Datagrams at a time, so that 640 clients a second can be told of.
const DATAGRAMS: usize = 8;

/// The ledger, as the other nodes see it.
#[derive(Debug)]
pub(super) struct Sums(SharedLedger);

impl Sums {
    pub fn of(ledger: SharedLedger) -> Self {
        Self(ledger)
    }

    /// Tells what is news, and some of what is known, in its turn.
    pub fn tell(&self, circle: &Circle) {
        for _ in 0..DATAGRAMS {
            let (page, has_news) = {
                let mut ledger = self.0.lock();
                (ledger.page(PER_DATAGRAM, Hour::of(Timestamp::now())), ledger.elsewhere().has_news())
            };
            if !page.is_empty() {
                circle.tell_sums(page);
            }
            if !has_news {
                return;
            }
        }
    }

    /// Takes in what another node says.
    pub fn hear(&self, sums: Vec<ToldSum>) {
        let (mut ledger, hour) = (self.0.lock(), Hour::of(Timestamp::now()));
        sums.into_iter().for_each(|sum| ledger.hear(sum, hour));
    }
}
