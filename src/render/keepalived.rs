//! Config → keepalived.conf.
//!
//! Keepalived's language knows no quoting that could be trusted (`$`, `@`, `!`, `#`, braces and line breaks are live
//! everywhere), so nothing is escaped: every value is a number, a parsed address, or text from an allow-list that the
//! reader of the file holds to. Called by `agent` and `cli`.

use super::RenderError;
use super::error::from_tera;
use super::header::with_header;
use super::value::ContextMap;
use crate::config::{Config, Vip};
use crate::model::{InterfaceAddress, Name};
use std::net::IpAddr;
use tera::{Context, Tera, Value};

/// The priority of the first node. Near the top the skew that a backup waits is short: (256 − priority) / 256 of an
/// advert interval.
const FIRST: u8 = 250;
/// Between two ranks: less than any word of the agent about a node's fitness weighs.
const STEP: u8 = 2;

const NAME: &str = "builtin/keepalived.conf";

/// The file for the configuration's node; without any instance where no address is its business.
///
/// # Errors
/// Never for a released hapilot; a test holds that.
pub fn keepalived(config: &Config) -> Result<String, RenderError> {
    let own = &config.node.name.value;
    let vips: Vec<Value> = config.vips.iter().filter_map(|vip| instance(config, vip, own)).collect();
    let mut context = Context::new();
    context.insert_value("node", own.to_string().into());
    context.insert_value("directory", config.keepalived.directory.as_str().into());
    context.insert_value("backstop", config.keepalived.backstop.as_str().into());
    // The reader of the file allows more in it than Keepalived could carry; the agent's heartbeat names it as well.
    let socket = config.haproxy.admin_socket.as_str();
    let is_plain = socket.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
    context.insert_value("admin_socket", is_plain.then_some(socket).into());
    context.insert_value("vips", vips.into());
    let mut tera = Tera::default();
    let failed = |error: &tera::Error| from_tera(error, NAME, |_| None, str::to_owned);
    tera.add_raw_template(NAME, include_str!("../../templates/keepalived.conf")).map_err(|e| failed(&e))?;
    tera.render(NAME, &context).map(|body| with_header(&body)).map_err(|e| failed(&e))
}

/// The rendered priority of a node, and why it is that; `None` where the node takes no part.
///
/// Only the order of the operator's numbers counts. Without `failback` all are equal: a node that comes back finds the
/// addresses taken by somebody of its own rank, and leaves them there.
pub fn priority_of(vip: &Vip, node: &Name) -> Option<(u8, String)> {
    let written = vip.priority.get(node)?.value;
    let before = vip.priority.values().filter(|other| other.value > written).count();
    if !vip.failback {
        return Some((FIRST, format!("{written} in the file; equal on all nodes, so that nobody takes them back")));
    }
    let steps = u8::try_from(before).unwrap_or(u8::MAX).saturating_mul(STEP);
    let rank = before + 1;
    Some((FIRST.saturating_sub(steps), format!("{written} in the file: number {rank} of {}", vip.priority.len())))
}

fn instance(config: &Config, vip: &Vip, own: &Name) -> Option<Value> {
    let (priority, why) = priority_of(vip, own)?;
    let address_of = |node: &Name| config.node.peers.get(node).map(|ip| ip.value);
    let others = vip.priority.keys().filter(|node| *node != own);
    let peers: Vec<IpAddr> = if vip.multicast { Vec::new() } else { others.filter_map(address_of).collect() };
    let family = peers.first().copied().or_else(|| vip.addresses.first().map(|address| address.ip))?;
    // Adverts are of one family and can only carry its addresses; the others move along unnamed.
    let (named, excluded): (Vec<_>, Vec<_>) =
        vip.addresses.iter().map(|address| address.value).partition(|address| is_like(address, family));
    let texts = |list: &[InterfaceAddress]| Value::from(list.iter().map(ToString::to_string).collect::<Vec<_>>());
    let table = ContextMap::default()
        .with("name", vip.name.to_string())
        .with("interface", vip.interface.to_string())
        .with("router_id", vip.router_id.value)
        .with("priority", priority)
        .with("why", why)
        .with("advert_s", seconds(vip.advert_interval.value))
        .with("own", address_of(own).map(|ip| ip.to_string()))
        .with("peers", peers.iter().map(ToString::to_string).collect::<Vec<_>>())
        .with("addresses", texts(&named))
        .with("excluded", texts(&excluded));
    Some(table.into())
}

fn is_like(address: &InterfaceAddress, family: IpAddr) -> bool {
    address.ip.is_ipv4() == family.is_ipv4()
}

/// Keepalived counts in hundredths of a second.
fn seconds(interval: std::time::Duration) -> String {
    let hundredths = interval.as_millis().div_ceil(10).max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
