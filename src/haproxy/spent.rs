//! What HAProxy's own counters say that clients have spent.

use super::command::word;
use super::error::AdminError;
use super::session::Session;
use camino::Utf8Path;
use std::time::Duration;
use tokio::time::Instant;

/// What the counter begins with at the begin of a window, so that it never is below zero (`budget.cfg`).
const ORIGIN: i128 = 1 << 60;
/// Cells and counters of an entry.
const ASKING: &str = "conn_cur=";
const WINDOW: &str = "gpt0=";
const BEFORE_LOW: &str = "gpt1=";
const BEFORE_HIGH: &str = "gpt2=";
const DIGITS: [&str; 5] = ["gpc0=", "gpc1=", "gpc2=", "gpc3=", "gpc4="];

/// Of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedSpending {
    /// Its name.
    pub client: String,
    /// The day or the month, thousandfold, and how often it was forgiven.
    pub window: i64,
    /// What it has spent in it, in billionths of a US dollar.
    pub nano_usd: u64,
    /// Requests of it are under way: the cost of an answer may be counted before it has reached the client.
    pub is_asking: bool,
}

/// Asks the worker that serves for all clients that have a budget and were counted at this node; and which worker that is.
///
/// # Errors
/// Nobody answers in time, or there is no such table.
pub async fn counted_spending(
    admin_socket: &Utf8Path,
    table: &str,
    node: &str,
    deadline: Duration,
) -> Result<(u32, Vec<CountedSpending>), AdminError> {
    let (mut session, info) = Session::with_serving_worker(admin_socket, Instant::now() + deadline).await?;
    let reply = session.ask(&format!("show table {}", word(table)?)).await?;
    Ok((info.pid, reply.lines().filter_map(|line| parse(line, node)).collect()))
}

/// `0x7f: key=lb1/acme use=0 exp=1 shard=0 conn_cur=0 gpt0=… ` and so on; `None`: it is no entry of this node, or has no
/// budget.
fn parse(line: &str, node: &str) -> Option<CountedSpending> {
    let number = |name: &str| -> Option<i128> {
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(name))?;
        word.parse().ok()
    };
    let client = line.split_whitespace().find_map(|word| word.strip_prefix("key="))?;
    let client = client.strip_prefix(node)?.strip_prefix('/')?.to_owned();
    let window = number(WINDOW).filter(|window| *window > 0)?;
    let mut sum = 0;
    for digit in DIGITS.iter().rev() {
        sum = sum * 64 + number(digit)?;
    }
    let before = (number(BEFORE_HIGH)? << 32) + number(BEFORE_LOW)? - ORIGIN;
    Some(CountedSpending {
        client,
        window: i64::try_from(window).ok()?,
        nano_usd: u64::try_from((sum - before).max(0)).ok()?,
        is_asking: number(ASKING).is_some_and(|requests| requests > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_and_anything_else_is_not() {
        let entry = |before: i128| {
            let (low, high) = (before & 0xffff_ffff, before >> 32);
            format!(
                "0x55: key=lb1/acme use=0 exp=89999 shard=0 conn_cur=0 gpt0=202611001 gpt1={low} gpt2={high} gpc0=63 \
                 gpc1=1 gpc2=0 gpc3=0 gpc4=2"
            )
        };
        let sum = 63 + 64 + 2 * 16_777_216;
        for (before, expected) in
            [(ORIGIN, sum), (ORIGIN - 1000, sum + 1000), (ORIGIN + 27, sum - 27), (ORIGIN << 1, 0)]
        {
            let found = parse(&entry(before), "lb1").unwrap();
            assert_eq!((found.client.as_str(), found.window, found.nano_usd), ("acme", 202_611_001, expected));
            assert!(!found.is_asking);
        }
        let none = entry(ORIGIN).replace("gpt0=202611001", "gpt0=0");
        for line in ["# table: limit:money, type: string, size:102400, used:1", "", none.as_str()] {
            assert_eq!(parse(line, "lb1"), None, "{line}");
        }
        assert_eq!((parse(&entry(ORIGIN), "lb2"), parse(&entry(ORIGIN), "lb")), (None, None));
    }
}
