//! What this node's network must be like so that a virtual address moves well: streams of before a move end fast or
//! live on, and VRRP is taken from the other nodes alone.
//!
//! Knows `ip`, `nft` and /proc/sys. Refuses to know Keepalived, HAProxy, and who owns an address. Keeps no memory of its
//! own: what was made is recognised by its marks in the kernel, so that it is found again after any restart, and goes
//! away with the machine. Called by `agent` and `cli`.

mod addresses;
mod arp;
mod command;
mod nft;
mod peer;
mod tables;
mod wanted;

pub use addresses::{addresses_of, remove};
pub use wanted::{WantedNetwork, wanted};

use nft::Tables;
use std::time::Duration;
use tables::NftTable;

/// No settling takes longer, whatever the commands do: twenty addresses take 0.1 s.
const LONGEST: Duration = Duration::from_secs(30);

/// Makes it so, and takes away what an earlier call made and nobody wants any more. Where all is right, nothing is
/// touched. Nothing is taken away when the process ends.
///
/// Call it again from time to time (10 to 60 s): it mends what others removed, and notices that the node of a second
/// chance went away or came back. Two calls at once are harmless, but the second may undo what the first just made.
///
/// Answers what could not be done, a sentence each.
pub async fn settle(wanted: &WantedNetwork) -> Vec<String> {
    let mut problems = Vec::new();
    if tokio::time::timeout(LONGEST, make(wanted, &mut problems)).await.is_err() {
        problems.push(format!("the node's network was not settled within {} s", LONGEST.as_secs()));
    }
    problems
}

async fn make(wanted: &WantedNetwork, problems: &mut Vec<String>) {
    let tables = match Tables::look().await {
        Ok(tables) => Some(tables),
        Err(_) if wanted.adverts.is_empty() && wanted.chances.is_empty() => None,
        Err(why) => {
            problems.push(format!("the firewall for VRRP and a second chance for streams need nftables: {why}"));
            None
        }
    };
    // An address on `lo` must never be answered for, so ARP is quiet before it comes and until it has gone.
    let mut before = arp::Before::read(tables.as_ref()).await;
    let quiet = before.quieten(&wanted.interfaces(), problems).await;
    if addresses::settle(&wanted.addresses, &quiet, problems).await {
        before.restore(&wanted.interfaces(), problems).await;
    }
    let Some(tables) = tables else { return };
    let vrrp = tables::vrrp(&peer::known_here(&wanted.adverts).await);
    let streams = tables::streams(&peer::reachable(&wanted.chances, problems).await);
    for (name, table) in [(tables::VRRP, vrrp), (tables::STREAMS, streams)] {
        if let Err(why) = replace(&tables, name, table.as_ref()).await {
            problems.push(format!("the nftables table {name} could not be set: {why}"));
        }
    }
}

async fn replace(tables: &Tables, name: tables::Named, wish: Option<&NftTable>) -> Result<(), String> {
    match wish {
        Some(table) if !tables.holds(table) => nft::replace(table).await,
        None if tables.has(name) => nft::delete(name).await,
        Some(_) | None => Ok(()),
    }
}
