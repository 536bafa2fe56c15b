//! The other nodes as this one's kernel sees them: in the same network, and there.

use super::command;
use super::wanted::{Adverts, Chance};
use crate::model::Interface;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The kernel asks once a second: a node has two questions' time to answer.
const LOOKS: u32 = 60;
const PAUSE: Duration = Duration::from_millis(20);

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
    let mut seen: BTreeMap<(&Interface, Ipv4Addr), bool> = BTreeMap::new();
    let mut reachable = Vec::new();
    for chance in chances {
        let Chance { vip, interface, peer, addresses: _ } = chance;
        match is_on_link((*peer).into(), interface).await {
            Ok(true) => {
                let is_there = match seen.get(&(interface, *peer)) {
                    Some(is_there) => *is_there,
                    None => answers(&peer.to_string(), interface).await,
                };
                seen.insert((interface, *peer), is_there);
                reachable.extend(is_there.then(|| chance.clone()));
            }
            Ok(false) => problems.push(format!(
                "streams of [vip.{vip}] get no second chance: {peer} is not in the network of {interface}"
            )),
            Err(why) => problems.push(format!("streams of [vip.{vip}] get no second chance: {peer}: {why}")),
        }
    }
    reachable
}

/// Whether a node answers ARP now. What the kernel knows of its neighbours may be 45 s old, so it is told to look again.
/// The operator's own entry is never looked at again, and counts.
async fn answers(peer: &str, interface: &Interface) -> bool {
    let on = ["dev", interface.as_str()];
    // Nothing is known yet, or it was away: the kernel asks. Else nothing happens.
    let _ = command::run("ip", &[&["neigh", "replace", peer], &on[..], &["use"]].concat()).await;
    let mut is_asked = false;
    for _ in 0..LOOKS {
        let known = command::json("ip", &[&["-j", "neigh", "show", peer], &on[..]].concat()).await.unwrap_or_default();
        match known[0]["state"][0].as_str() {
            Some("PERMANENT" | "NOARP") => return true,
            Some("REACHABLE") if is_asked => return true,
            Some("REACHABLE" | "STALE" | "DELAY") => {
                let again = [&["neigh", "change", peer], &on[..], &["nud", "probe"]].concat();
                // Who may not ask believes what is known.
                if command::run("ip", &again).await.is_err() {
                    return true;
                }
                is_asked = true;
            }
            _ => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}
