//! Whether the ledger and HAProxy's own counters know the same money; and what one of them lacks is made up.
//!
//! The ledger may lack lines: those that a ring lost while nobody read it, or that an old worker wrote last. HAProxy may lack
//! what ended in an old worker, or what was written down too late before it was restarted. A difference counts that two
//! comparisons find, with time between the two sides of each for what is on its way; and the ledger lacks nothing while its
//! client asks, since a plain answer is counted when it begins, and told when it ends.

use crate::haproxy::{self, AdminError};
use crate::render::MONEY_TABLE;
use crate::sys;
use crate::usage::{Amounts, Hour, Period, SharedLedger, UsageKey, money};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;

/// What is on its way has arrived after this.
const SETTLE: Duration = Duration::from_millis(1500);
/// Longest wait for the table.
const ANSWER: Duration = Duration::from_secs(10);
/// It is compared again after this, so often at first and while there is an old worker…
const SOON: Duration = Duration::from_secs(5);
const SOON_ROUNDS: u32 = 12;
/// …and then after this.
const LATER: Duration = Duration::from_secs(60);
/// So many comparisons agree.
const ROUNDS: usize = 2;

/// What each client was found to lack, by its name and window: above zero in the ledger, below in HAProxy.
type Lacks = BTreeMap<(String, i64), i64>;

/// Compares again and again, and makes up for what is lacking, until another worker serves. From the first time on clients are
/// forgiven.
pub(super) async fn settle(admin_socket: Utf8PathBuf, pid: u32, ledger: SharedLedger) {
    for round in 0_u32.. {
        match make_up(&admin_socket, pid, &ledger).await {
            Compared::Yes => ledger.lock().hold_forgiving(false),
            Compared::NotYet => {}
            Compared::OtherWorker => return,
        }
        let is_soon = round < SOON_ROUNDS || ledger.lock().has_old_worker();
        sleep(if is_soon { SOON } else { LATER }).await;
    }
}

/// How a comparison ended.
enum Compared {
    Yes,
    /// HAProxy did not answer.
    NotYet,
    /// Another worker serves.
    OtherWorker,
}

async fn make_up(admin_socket: &Utf8Path, pid: u32, ledger: &SharedLedger) -> Compared {
    let mut found: Option<Lacks> = None;
    for _ in 0..ROUNDS {
        let lacks = match compare(admin_socket, pid, ledger).await {
            Ok(Some(lacks)) => lacks,
            Ok(None) => return Compared::OtherWorker,
            Err(error) => {
                tracing::debug!("what clients have spent is not compared: {}", sys::chain(&error));
                return Compared::NotYet;
            }
        };
        found = Some(match found {
            None => lacks,
            Some(before) => agreed(&before, &lacks),
        });
    }
    let (mut ledger, hour) = (ledger.lock(), Hour::of(jiff::Timestamp::now()));
    for ((client, window), lack) in found.unwrap_or_default() {
        // A day or a month that is over by now.
        let is_now = [Period::Day, Period::Month].iter().any(|period| period.number(hour) == window / 1000);
        if !is_now || ledger.is_ahead_of(hour) {
            continue;
        }
        let (nano_usd, late) = if lack > 0 { (lack, 0) } else { (0, -lack) };
        let text = if nano_usd > 0 {
            "was counted by HAProxy, and no line told of it"
        } else {
            "is not in HAProxy's counters"
        };
        let usd = money::told(lack.unsigned_abs());
        tracing::info!("of what client {client} has spent (window {window}) ${usd} {text}: that is made up for");
        let [nano_usd, late_nano_usd] = [nano_usd, late].map(|amount| u64::try_from(amount).unwrap_or(0));
        let key = UsageKey::made_up(client);
        ledger.make_up(hour, key, Amounts { nano_usd, late_nano_usd, ..Amounts::default() });
    }
    Compared::Yes
}

async fn compare(admin_socket: &Utf8Path, pid: u32, ledger: &SharedLedger) -> Result<Option<Lacks>, AdminError> {
    let clients = ledger.lock().spenders();
    let early = known(ledger, &clients);
    // What the ledger knows by now, HAProxy has counted.
    let node = ledger.lock().node().to_owned();
    let (asked, counted) = haproxy::counted_spending(admin_socket, MONEY_TABLE, &node, ANSWER).await?;
    if asked != pid {
        return Ok(None);
    }
    // And what HAProxy has counted by now, the ledger knows after this.
    sleep(SETTLE).await;
    let names: Vec<String> = counted.iter().map(|one| one.client.clone()).collect();
    let late = known(ledger, &names);
    let has_old_worker = ledger.lock().has_old_worker();
    let mut lacks = Lacks::new();
    for one in counted {
        let key = (one.client, one.window);
        let of =
            |known: &BTreeMap<(String, i64), u64>| known.get(&key).map(|sum| i64::try_from(*sum).unwrap_or(i64::MAX));
        let counted = i64::try_from(one.nano_usd).unwrap_or(i64::MAX);
        // A window that is over, or one that was forgiven meanwhile, is none of both.
        let Some(late) = of(&late) else { continue };
        let lack = match of(&early) {
            _ if counted > late && (one.is_asking || has_old_worker) => continue,
            _ if counted > late => counted - late,
            Some(early) if early > counted => counted - early,
            _ => continue,
        };
        lacks.insert(key, lack);
    }
    Ok(Some(lacks))
}

/// What the ledger knows that HAProxy should have counted, by client and window of now.
fn known(ledger: &SharedLedger, clients: &[String]) -> BTreeMap<(String, i64), u64> {
    let (ledger, hour) = (ledger.lock(), Hour::of(jiff::Timestamp::now()));
    let mut sums = BTreeMap::new();
    for client in clients {
        for period in [Period::Day, Period::Month] {
            let (window, forgiven) = ledger.spent(client, period, hour);
            sums.insert((client.clone(), window.tag(forgiven)), window.known_nano_usd());
        }
    }
    sums
}

/// What both found, and no more than that.
fn agreed(one: &Lacks, other: &Lacks) -> Lacks {
    let both = one.iter().filter_map(|(key, lack)| {
        let again = *other.get(key)?;
        (lack.signum() == again.signum()).then(|| (key.clone(), lack.signum() * lack.abs().min(again.abs())))
    });
    both.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_comparison_found_was_on_its_way() {
        let lacks = |all: &[(&str, i64)]| all.iter().map(|(client, lack)| (((*client).to_owned(), 1), *lack)).collect();
        let one: Lacks = lacks(&[("a", 5), ("b", -7), ("c", 3), ("d", 9)]);
        let other: Lacks = lacks(&[("a", 8), ("b", -2), ("c", -3)]);
        assert_eq!(agreed(&one, &other), lacks(&[("a", 5), ("b", -2)]));
    }
}
