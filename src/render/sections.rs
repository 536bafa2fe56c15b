//! haproxy.cfg piece by piece: what stands above the backends, and the section of each of them. A section of which
//! nothing has changed is taken from the text of before, so that an edit costs what it changes.
//!
//! For the built-in templates alone: an operator's own may write anything anywhere. Called by `render`.

use super::context::{ContextMaker, Pass, draws};
use super::marks::{LineMarks, Marks, read_back};
use super::shape::Ids;
use super::{RenderError, Rendered, Target, Templates};
use crate::config::{Backend, Check, Server};
use crate::desired::{Desired, DesiredServer};
use crate::model::ServerId;
use std::collections::{BTreeMap, BTreeSet};
use tera::Context;

/// The template part that spells the section of a backend, and of its hops.
const PART: &str = "parts/section.cfg";

/// What was rendered before, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The files.
    pub rendered: &'a Rendered,
    /// The wish.
    pub desired: &'a Desired,
}

/// The text below the header in one pass.
pub(super) fn text(
    before: Option<Before<'_>>,
    desired: &Desired,
    templates: &Templates,
    target: Target,
    pass: Pass,
    ids: &Ids<'_>,
    marker: &str,
) -> Result<String, RenderError> {
    let masked = before.filter(|_| pass == Pass::Masked).map(|before| before.rendered.structure.text());
    let kept = match before {
        Some(before) => {
            let text = masked.as_deref().unwrap_or(&before.rendered.haproxy_cfg);
            kept(before, text, desired, target, pass)
        }
        None => BTreeMap::new(),
    };
    let mut maker = ContextMaker::without_places(desired, target, pass, ids);
    let mut context = maker.head(marker);
    let mut text = String::with_capacity(before.map_or(0, |before| before.rendered.haproxy_cfg.len() + (64 << 10)));
    text.push_str(&tidied(&templates.fill(&context, &maker.marks)?));
    for backend in &desired.config.backends {
        text.push('\n');
        match kept.get(backend.name.as_str()).filter(|(was, _)| is_alike(was, backend)) {
            Some((_, section)) => text.push_str(section),
            None => {
                context.insert_value("backend", maker.backend(backend));
                text.push_str(&tidied(&templates.fill_part(PART, &context, &maker.marks)?));
            }
        }
    }
    maker.marks.verdict()?;
    Ok(text)
}

fn tidied(marked: &str) -> String {
    read_back(marked, &Marks::silent(), &LineMarks::default()).0
}

/// The sections of before (its `text` in this pass) that may be taken as they are, where their backends are still the same.
fn kept<'a>(
    before: Before<'a>,
    text: &'a str,
    desired: &Desired,
    target: Target,
    pass: Pass,
) -> BTreeMap<&'a str, (&'a Backend, &'a str)> {
    let (was, is) = (&before.desired.config, &desired.config);
    let common =
        |desired: &Desired| -> Context { ContextMaker::without_places(desired, target, pass, &Ids::new()).common() };
    // Hops listen where `[haproxy]` says.
    let is_same = before.rendered.target == target
        && was.haproxy == is.haproxy
        && draws(was) == draws(is)
        && common(before.desired) == common(desired);
    if !is_same {
        return BTreeMap::new();
    }
    let moved = match pass {
        Pass::Real => moved(&before.desired.servers, &desired.servers),
        Pass::Masked => BTreeSet::new(),
    };
    let mut kept = BTreeMap::new();
    let mut rest = text;
    let mut open: Option<&Backend> = None;
    for backend in was.backends.iter().map(Some).chain([None]) {
        let next = match backend {
            Some(backend) => rest.find(&format!("\nbackend {}\n", backend.name)).map(|at| at + 1),
            None => Some(rest.len()),
        };
        let Some(next) = next else { return BTreeMap::new() };
        if let Some(open) = open.filter(|open| !moved.contains(open.name.as_str())) {
            let section = rest[..next].trim_end_matches('\n');
            kept.insert(open.name.as_str(), (open, &rest[..section.len() + 1]));
        }
        rest = &rest[next..];
        open = backend;
    }
    kept
}

/// Backends of which another weight or state is wanted for a server, or another server.
fn moved<'a>(
    was: &'a BTreeMap<ServerId, DesiredServer>,
    is: &'a BTreeMap<ServerId, DesiredServer>,
) -> BTreeSet<&'a str> {
    let (mut was, mut is) = (was.iter().peekable(), is.iter().peekable());
    let mut moved = BTreeSet::new();
    loop {
        let (before, now) = match (was.peek().copied(), is.peek().copied()) {
            (None, None) => return moved,
            (Some(before), Some(now)) if before.0 == now.0 => (was.next(), is.next()),
            (Some(before), now) if now.is_none_or(|now| before.0 < now.0) => (was.next(), None),
            _ => (None, is.next()),
        };
        if before != now {
            moved.extend([before, now].into_iter().flatten().map(|(id, _)| id.backend.as_str()));
        }
    }
}

/// Whether two backends have the same section, wherever they stand in the file.
fn is_alike(one: &Backend, other: &Backend) -> bool {
    let Backend {
        name,
        origin: _,
        provider,
        balance,
        affinity,
        weighting: _,
        retries,
        retry_streams,
        stream_watch,
        timeout,
        forward_client,
        ask_usage,
        check: Check { interval, fall, rise, .. },
        servers,
        canary,
        raw,
    } = one;
    (name, balance, affinity, (retries, retry_streams, stream_watch), timeout, (forward_client, ask_usage), raw)
        == (
            &other.name,
            &other.balance,
            &other.affinity,
            (&other.retries, &other.retry_streams, &other.stream_watch),
            &other.timeout,
            (&other.forward_client, &other.ask_usage),
            &other.raw,
        )
        && (interval, fall, rise) == (&other.check.interval, &other.check.fall, &other.check.rise)
        && provider == &other.provider
        && canary == &other.canary
        && servers.len() == other.servers.len()
        && servers.iter().zip(&other.servers).all(|(one, other)| is_alike_server(one, other))
}

fn is_alike_server(one: &Server, other: &Server) -> bool {
    let Server {
        name,
        origin: _,
        url,
        host,
        weight,
        state,
        tier,
        region,
        keys,
        maxconn,
        tls,
        proxy_protocol,
        price: _,
        spread,
        models,
        raw,
    } = one;
    (name, url, host, weight, state, tier, region)
        == (&other.name, &other.url, &other.host, &other.weight, &other.state, &other.tier, &other.region)
        && (keys, maxconn, tls, proxy_protocol, spread, raw)
            == (&other.keys, &other.maxconn, &other.tls, &other.proxy_protocol, &other.spread, &other.raw)
        && models == &other.models
}
