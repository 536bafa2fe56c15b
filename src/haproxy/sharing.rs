//! With which other nodes HAProxy shares its counters.
//!
//! **Source**: `show peers` of 2.6, 3.0, 3.2 and 3.4, which agree on the words that are read here.

use super::error::AdminError;
use super::session::Session;
use camino::Utf8Path;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Asks the worker that serves which nodes of a `peers` section it is connected with; a section that it does not have is empty.
///
/// # Errors
/// Nobody answers in time.
pub async fn connected_peers(
    admin_socket: &Utf8Path,
    section: &str,
    deadline: Duration,
) -> Result<BTreeMap<String, bool>, AdminError> {
    let (mut session, _) = Session::with_serving_worker(admin_socket, Instant::now() + deadline).await?;
    Ok(connected(&session.ask("show peers").await?, section))
}

/// Per section a line `0x… id=hapilot:nodes …`, below it one per peer: `0x… id=lb2(remote,active) … last_status=ESTA …`.
fn connected(reply: &str, section: &str) -> BTreeMap<String, bool> {
    let mut peers = BTreeMap::new();
    let mut is_ours = false;
    for line in reply.lines() {
        let Some(id) = line.split_whitespace().find_map(|word| word.strip_prefix("id=")) else { continue };
        if line.starts_with("0x") {
            is_ours = id == section;
        } else if let Some((name, state)) = id.split_once("(remote,").filter(|_| is_ours) {
            let is_connected = state.starts_with("active") && line.contains(" last_status=ESTA ");
            peers.insert(name.to_owned(), is_connected);
        }
    }
    peers
}

#[cfg(test)]
mod tests {
    use super::connected;

    #[test]
    fn only_an_active_and_established_peer_of_the_section_is_connected() {
        let reply = "0x56: [30/Nov/2026:20:30:59] id=hapilot:nodes disabled=0 flags=0x6833 resync_timeout=<PAST>\n  \
             0x57: id=lb1(local,inactive) addr=127.0.0.41:9441 last_status=NONE last_hdshk=<NEVER>\n  \
             0x58: id=lb2(remote,active) addr=127.0.0.42:9441 last_status=ESTA last_hdshk=7s\n        \
             remote_table:0x56 id=limit:client local_id=1 remote_id=1\n  \
             0x59: id=lb3(remote,inactive) addr=127.0.0.43:9441 app_state=STOPPED last_status=ESTA last_hdshk=9s\n  \
             0x5a: id=lb4(remote,active) addr=127.0.0.44:9441 last_status=CONN last_hdshk=1s\n\
             0x5b: [30/Nov/2026:20:30:59] id=hapilot disabled=0 flags=0x33\n  \
             0x5c: id=lb5(remote,active) addr=127.0.0.45:1 last_status=ESTA last_hdshk=1s\n";
        let found: Vec<_> = connected(reply, "hapilot:nodes").into_iter().collect();
        assert_eq!(found, [("lb2".into(), true), ("lb3".into(), false), ("lb4".into(), false)]);
        assert!(connected("", "hapilot:nodes").is_empty());
    }
}
