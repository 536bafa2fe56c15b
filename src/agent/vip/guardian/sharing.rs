//! Whether HAProxy shares its counters with the other nodes: looked at by a task of its own.

use super::Charge;
use crate::haproxy;
use crate::render::SHARED_PEERS;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch as channel;
use tokio::time::sleep;

/// Between two looks. HAProxy itself tries again every five seconds.
const BEAT: Duration = Duration::from_secs(10);
/// For an answer.
const WITHIN: Duration = Duration::from_secs(5);

/// Begins to look; ends with the sender of the charge or the last receiver. Seen are the names of nodes that HAProxy was not
/// connected with in two looks.
pub(super) fn watch(charge: channel::Receiver<Charge>) -> channel::Receiver<BTreeSet<String>> {
    let (sight, seen) = channel::channel(BTreeSet::new());
    tokio::spawn(async move {
        tokio::select! {
            () = look_for_ever(charge, &sight) => {}
            () = sight.closed() => {}
        }
    });
    seen
}

async fn look_for_ever(charge: channel::Receiver<Charge>, sight: &channel::Sender<BTreeSet<String>>) {
    let mut before = BTreeSet::new();
    while charge.has_changed().is_ok() {
        sleep(BEAT).await;
        let config = charge.borrow().config.clone();
        // A node without others, or without tables, has no such section.
        if config.node.heartbeat.is_none() {
            continue;
        }
        let socket = &config.haproxy.admin_socket.value;
        // HAProxy that does not answer is told elsewhere.
        let Ok(peers) = haproxy::connected_peers(socket, SHARED_PEERS, WITHIN).await else { continue };
        let apart: BTreeSet<String> =
            peers.into_iter().filter(|(_, is_connected)| !is_connected).map(|(name, _)| name).collect();
        let lasting: BTreeSet<String> = apart.intersection(&before).cloned().collect();
        sight.send_if_modified(|seen| {
            let is_news = *seen != lasting;
            *seen = lasting;
            is_news
        });
        before = apart;
    }
}
