//! The same files with other weights and states: only the lines of the servers that moved are rendered anew.
//!
//! One server that breaks among thousands costs one line. Called by `agent`, where nothing else has changed.

use super::context::{ContextMaker, Pass};
use super::dynamic::server_lines;
use super::marks::{LineMarks, Marks, read_back};
use super::shape::Ids;
use super::{RenderError, Rendered, Target, Templates, header, maps};
use crate::desired::{Desired, needs_hops};
use crate::model::ServerId;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use tera::Context;

/// The template part that spells a server line.
const PART: &str = "parts/server.cfg";

/// What [`super::render`] would give, from what it gave for `was`: the same configuration and certificates for the same
/// version. `None` where that is no shorter way: an operator's own template may do anything with a weight, and where most
/// servers moved all lines are rendered at once.
///
/// # Errors
/// As [`super::render`].
pub fn reweighed(
    before: &Rendered,
    was: &Desired,
    desired: &Desired,
    templates: &Templates,
    target: Target,
) -> Option<Result<Rendered, RenderError>> {
    let moved = moved(was, desired).filter(|_| templates.is_built_in())?;
    let lines = match lines(&moved, before, desired, templates, target) {
        Ok(lines) => lines?,
        Err(e) => return Some(Err(e)),
    };
    let body = replaced(before, &lines)?;
    let Desired {
        config: _,
        servers: _,
        secrets,
        certificates: _,
        trust: _,
        clients,
        spent,
        lists,
        canaries,
        active_keys,
        spread_keys,
    } = desired;
    let has_same_keys = (&was.secrets, &was.active_keys, &was.spread_keys) == (secrets, active_keys, spread_keys);
    let has_same_rows = was.spent == *spent && was.lists == *lists && was.canaries == *canaries;
    let maps = match has_same_keys && Arc::ptr_eq(&was.clients, clients) && has_same_rows {
        true => before.maps.clone(),
        false => match maps::all(desired) {
            Ok(all) => Arc::new(maps::used(all, &body)),
            Err(e) => return Some(Err(e)),
        },
    };
    Some(Ok(Rendered {
        haproxy_cfg: header::with_header(&body),
        structure: before.structure.clone(),
        maps,
        dynamic: before.dynamic.clone(),
        words: OnceLock::new(),
        maxconn: before.maxconn.clone(),
        lists: before.lists.clone(),
        trust: before.trust.clone(),
        scripts: before.scripts.clone(),
        // Of the same key, or the structure would be another.
        nodes: before.nodes.clone(),
        target,
        digest: OnceLock::new(),
    }))
}

/// The servers of which something else is wanted; `None` where those are most of them, or where others are there.
fn moved<'a>(was: &Desired, desired: &'a Desired) -> Option<Vec<&'a ServerId>> {
    if was.servers.len() != desired.servers.len() {
        return None;
    }
    let mut moved = Vec::new();
    for ((before, was), (id, wish)) in was.servers.iter().zip(&desired.servers) {
        if before != id {
            return None;
        }
        if was != wish {
            moved.push(id);
        }
    }
    (moved.len() * 2 <= desired.servers.len()).then_some(moved)
}

/// Lines by (backend, server).
type Lines<'a> = BTreeMap<(&'a str, &'a str), String>;

fn lines<'a>(
    moved: &[&'a ServerId],
    before: &Rendered,
    desired: &Desired,
    templates: &Templates,
    target: Target,
) -> Result<Option<Lines<'a>>, RenderError> {
    let none = Ids::new();
    let mut lines = Lines::new();
    // In the order of the names: those of one backend follow each other.
    for of_backend in moved.chunk_by(|a, b| a.backend == b.backend) {
        let Some((backend, _)) = desired.config.server(of_backend[0]) else { return Ok(None) };
        let hops = needs_hops(backend);
        for id in of_backend {
            let Some((_, server)) = desired.config.server(id) else { return Ok(None) };
            let mut maker = ContextMaker::without_places(desired, target, Pass::Real, &none);
            let check = maker.check(&backend.check);
            let dynamic = before.dynamic.get(&(backend.name.to_string(), server.name.to_string()));
            let line = maker.line(backend, server, &check, hops, dynamic);
            let mut marks = maker.marks;
            marks.verdict()?;
            let mut context = Context::new();
            context.insert_value("line", line.into());
            let text = templates.fill_part(PART, &context, &marks)?;
            let (mut text, lines_of_it) =
                read_back(text.trim_end_matches('\n'), &Marks::silent(), &LineMarks::default());
            if text.pop() != Some('\n') || lines_of_it.len() != 1 {
                return Ok(None);
            }
            lines.insert((id.backend.as_str(), id.server.as_str()), text);
        }
    }
    Ok(Some(lines))
}

/// The text below its header with these lines in the place of those that are there; `None` where one has no place.
fn replaced(before: &Rendered, lines: &Lines<'_>) -> Option<String> {
    let text = &before.haproxy_cfg;
    let mut body = String::with_capacity(text.len() + lines.len() * 16);
    let mut copied = text.find('\n')? + 1;
    let mut left = lines.len();
    for line in server_lines(text) {
        let Some(new) = lines.get(&(&*line.backend, &*line.name)) else { continue };
        body.push_str(&text[copied..line.start]);
        body.push_str(new);
        copied = line.start + text[line.start..].find('\n')?;
        left = left.checked_sub(1)?;
    }
    body.push_str(&text[copied..]);
    (left == 0).then_some(body)
}
