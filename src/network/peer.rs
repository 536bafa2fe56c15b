//! The other nodes as this one's kernel sees them: in the same network, and there.

use super::command;
use super::wanted::{Adverts, Chance};
use crate::model::Interface;
use std::net::IpAddr;
use std::time::Duration;

/// How often and how long a node that was just asked for may take to answer ARP.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(30);

/// Whether an address is reached through this interface without a router.
async fn is_on_link(ip: IpAddr, interface: &Interface) -> Result<bool, String> {
    let routes = command::json("ip", &["-j", "route", "get", &ip.to_string()]).await?;
    Ok(routes[0]["dev"] == interface.as_str() && routes[0]["gateway"].is_null() && routes[0]["via"].is_null())
}

/// Adverts to a group come from the first address of the sender's interface. Where the file places the node in another
/// network that is another address, so whoever is in this network is taken for it.
pub(super) async fn known_here(adverts: &[Adverts]) -> Vec<Adverts> {
    let mut known = adverts.to_vec();
    for one in known.iter_mut().filter(|one| one.is_multicast) {
        let mut is_here = true;
        for ip in one.from.iter().flatten() {
            is_here &= is_on_link(*ip, &one.interface).await.unwrap_or(false);
        }
        one.from = one.from.take().filter(|_| is_here);
    }
    known
}

/// The chances whose node is there. A node that is away would get packets that nobody refuses, so that clients wait
/// for it instead of beginning anew.
pub(super) async fn reachable(chances: &[Chance], problems: &mut Vec<String>) -> Vec<Chance> {
    let mut reachable = Vec::new();
    for chance in chances {
        let Chance { vip, interface, peer, addresses: _ } = chance;
        match is_on_link((*peer).into(), interface).await {
            Ok(true) if answers(&peer.to_string(), interface).await => reachable.push(chance.clone()),
            Ok(true) => {}
            Ok(false) => problems.push(format!(
                "streams of [vip.{vip}] get no second chance: {peer} is not in the network of {interface}"
            )),
            Err(why) => problems.push(format!("streams of [vip.{vip}] get no second chance: {peer}: {why}")),
        }
    }
    reachable
}

/// Whether a node answers ARP, by what the kernel knows of its neighbours. That may be 45 s old, so the kernel is told to
/// look again, with ARP alone: a node that has died is known to have 3 s later, by the next call.
async fn answers(peer: &str, interface: &Interface) -> bool {
    let on = ["dev", interface.as_str()];
    // Nothing is known yet, or it was away: the kernel asks now. Else nothing happens.
    let _ = command::run("ip", &[&["neigh", "replace", peer], &on[..], &["use"]].concat()).await;
    for _ in 0..LOOKS {
        let known = command::json("ip", &[&["-j", "neigh", "show", peer], &on[..]].concat()).await;
        let known = known.unwrap_or_default();
        let is = |states: &[&str]| states.iter().any(|state| known[0]["state"][0] == *state);
        if is(&["REACHABLE", "STALE", "DELAY"]) {
            let _ = command::run("ip", &[&["neigh", "change", peer], &on[..], &["nud", "probe"]].concat()).await;
            return true;
        }
        // The operator's own entry is never looked at again.
        if is(&["PROBE", "PERMANENT", "NOARP"]) {
            return true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}
