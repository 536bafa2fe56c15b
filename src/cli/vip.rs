//! `vip status|release|reclaim`, and the backstop that Keepalived runs.

use super::agent::{actor, agent, how_to_start};
use super::args::VipCommand;
use super::output::{Failure, Output, Tone, span};
use super::status::look;
use super::table::Table;
use crate::agent::Place;
use crate::api::wire::{Status, Vip, VipNode, VipPart, VipRequest, Vips};
use crate::keepalived;
use crate::model::{Name, format_duration};
use camino::Utf8Path;
use std::time::{Duration, Instant};

/// Between two looks while something is waited for.
const LOOK: Duration = Duration::from_millis(250);
/// Addresses change hands within this time, or something is wrong.
const MOVE: Duration = Duration::from_secs(10);
/// Progress is told this often.
const TELL: Duration = Duration::from_secs(2);

/// `hapilot vip …`
pub(super) async fn vip(place: &Place, command: &VipCommand, out: Output) -> Result<(), Failure> {
    match command {
        VipCommand::Status => status(place, out).await,
        VipCommand::Release { names, drain, force } => release(place, names, *drain, *force, out).await,
        VipCommand::Reclaim { names } => reclaim(place, names, out).await,
    }
}

/// `hapilot __backstop DIRECTORY`: exit code 0 where this node may own its addresses.
pub(super) fn backstop(directory: &Utf8Path, admin_socket: Option<&Utf8Path>) -> Result<(), Failure> {
    keepalived::backstop(directory, admin_socket).map_err(Failure::refused)
}

async fn status(place: &Place, out: Output) -> Result<(), Failure> {
    let status = look(place).await?;
    let vips = vips_of(place, &status)?;
    if out.json {
        out.print_json(vips);
    } else {
        print(vips, &out);
    }
    let has_owner = |vip: &Vip| vip.nodes.iter().filter(|part| part.owned_s.is_some()).count() == 1;
    let is_well = vips.vips.iter().all(has_owner) && vips.nodes.iter().all(|node| node.is_heard && !node.differs);
    if is_well { Ok(()) } else { Err(Failure::said(super::output::REFUSED)) }
}

fn vips_of<'a>(place: &Place, status: &'a Status) -> Result<&'a Vips, Failure> {
    status.vips.as_ref().ok_or_else(|| match status.agent {
        Some(_) => Failure::refused("the file gives this node no part in a [vip.NAME]"),
        None => Failure::refused(
            "the agent does not run on this node: if the file has virtual addresses, nobody watches them",
        )
        .help(format_args!("start it: {}", how_to_start(place))),
    })
}

fn print(vips: &Vips, out: &Output) {
    for vip in &vips.vips {
        let released = if vip.is_released { ", released here" } else { "" };
        out.text(
            2,
            format_args!(
                "{}  {} on {}{released}",
                out.paint(Tone::Strong, &vip.name),
                vip.addresses.join(", "),
                vip.interface
            ),
        );
        let mut table = Table::new(["NODE", "STATE", "OWNS IT", "PRIORITY", "TOLD"]);
        for part in &vip.nodes {
            let tone = match (part.state.as_deref(), part.owned_s) {
                (_, Some(_)) => Tone::Good,
                (Some("BACKUP"), None) => Tone::Plain,
                _ => Tone::Bad,
            };
            table.row([
                (Tone::Strong, part.node.clone()),
                (tone, part.state.clone().unwrap_or_else(|| "unknown".to_owned())),
                (tone, part.owned_s.map_or_else(|| "no".to_owned(), |owned| format!("for {}", span(owned as u64)))),
                (Tone::Plain, part.priority.map_or_else(|| "-".to_owned(), |priority| priority.to_string())),
                (Tone::Dim, told(part)),
            ]);
        }
        out.print(&table.render(out));
    }
    let mut table = Table::new(["NODE", "HEARD", "HAPROXY", "REVISION", "FILE"]);
    for node in &vips.nodes {
        table.row([
            (Tone::Strong, format!("{}{}", node.node, if node.is_self { " (here)" } else { "" })),
            match (node.is_self, node.is_heard, node.heard_s) {
                (true, ..) => (Tone::Dim, "-".to_owned()),
                (_, true, _) => (Tone::Good, "now".to_owned()),
                (_, _, Some(since)) => (Tone::Bad, format!("{} ago", span(since as u64))),
                (_, _, None) => (Tone::Bad, "never".to_owned()),
            },
            haproxy(node),
            (Tone::Plain, node.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string())),
            file(node),
        ]);
    }
    out.print(&table.render(out));
    if let Some(connections) = vips.connections {
        let words = if connections == 1 { "connection is" } else { "connections are" };
        out.line(format_args!("{connections} client {words} left here"));
    }
    for event in vips.events.iter().take(5) {
        let vip = event.vip.as_ref().map(|vip| format!("{vip}: ")).unwrap_or_default();
        out.text(2, out.paint(Tone::Dim, format_args!("{}  {vip}{}", event.at, event.text)));
    }
}

fn told(part: &VipPart) -> String {
    match (part.fault, part.adjustment, &part.why) {
        (Some(true), _, Some(why)) => format!("fault: {why}"),
        (_, Some(0), Some(why)) => why.clone(),
        (_, Some(adjustment), Some(why)) => format!("{adjustment:+}: {why}"),
        _ => "nothing yet".to_owned(),
    }
}

fn haproxy(node: &VipNode) -> (Tone, String) {
    match (&node.haproxy, node.can_serve) {
        (Some(word), Some(true)) => (Tone::Good, word.clone()),
        (None, Some(true)) => (Tone::Good, "serves".to_owned()),
        (Some(word), _) => (Tone::Bad, word.clone()),
        (None, Some(false)) => (Tone::Bad, "cannot serve".to_owned()),
        (None, None) => (Tone::Warn, "unknown".to_owned()),
    }
}

fn file(node: &VipNode) -> (Tone, String) {
    let file = node.file.clone().unwrap_or_else(|| "-".to_owned());
    match (&node.refuses, node.differs) {
        (Some(why), _) => (Tone::Bad, format!("{file}, refuses the newest: {why}")),
        (None, true) => (Tone::Warn, format!("{file}, another one than here")),
        (None, false) => (Tone::Plain, file),
    }
}

async fn send(place: &Place, names: &[Name], verb: &str, force: bool, out: Output) -> Result<(), Failure> {
    let agent = agent(place)?.ok_or_else(|| {
        let told = "the agent does not run on this node, so nobody can tell Keepalived";
        Failure::refused(told).help(format_args!("start it: {}", how_to_start(place)))
    })?;
    let names = names.iter().map(ToString::to_string).collect();
    let request = VipRequest { names, verb: verb.to_owned(), force, actor: actor() };
    // What it says of the move itself is seen and said here.
    agent.vip(&request).await?.notes.iter().skip(1).for_each(|note| out.note(note));
    Ok(())
}

/// Those that were named; all, where none was.
fn chosen<'a>(vips: &'a Vips, names: &[Name]) -> impl Iterator<Item = &'a Vip> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    vips.vips.iter().filter(move |vip| names.is_empty() || names.contains(&vip.name))
}

async fn release(
    place: &Place,
    names: &[Name],
    drain: Option<Duration>,
    force: bool,
    out: Output,
) -> Result<(), Failure> {
    send(place, names, "release", force, out).await?;
    let began = Instant::now();
    // Make before break: this node keeps the addresses until another one announces them.
    let status = loop {
        let status = look(place).await?;
        let own = status.node.clone();
        let is_here = |vip: &Vip| vip.nodes.iter().any(|part| part.node == own && part.owned_s.is_some());
        let left: Vec<String> =
            chosen(vips_of(place, &status)?, names).filter(|vip| is_here(vip)).map(|vip| vip.name.clone()).collect();
        if left.is_empty() {
            break status;
        }
        if began.elapsed() > MOVE {
            let what = format!(
                "nobody has taken {} within {} s; it stays here and is served",
                left.join(", "),
                MOVE.as_secs()
            );
            let help = "`hapilot vip status`; `hapilot vip reclaim` takes the release back";
            return Err(Failure::refused(what).help(help));
        }
        tokio::time::sleep(LOOK).await;
    };
    for vip in chosen(vips_of(place, &status)?, names) {
        out.note(match vip.nodes.iter().find(|part| part.owned_s.is_some()) {
            Some(owner) => format!("{}: {} owns it after {:.1} s", vip.name, owner.node, began.elapsed().as_secs_f64()),
            None => format!("{}: it is released, and no node is known to own it", vip.name),
        });
    }
    if let Some(drain) = drain {
        wait_for_streams(place, drain, out).await?;
    }
    if out.json {
        let status = look(place).await?;
        out.print_json(vips_of(place, &status)?);
    }
    Ok(())
}

/// Waits until no client connection is left here.
async fn wait_for_streams(place: &Place, drain: Duration, out: Output) -> Result<(), Failure> {
    let until = Instant::now() + drain;
    let mut told: Option<Instant> = None;
    loop {
        let status = look(place).await?;
        let left = vips_of(place, &status)?.connections;
        let time = until.saturating_duration_since(Instant::now());
        match left {
            Some(0) => {
                out.note("no client connection is left: HAProxy may be stopped now");
                return Ok(());
            }
            _ if time.is_zero() => {
                let left = left.map_or_else(|| "an unknown number of".to_owned(), |left| left.to_string());
                return Err(Failure::refused(format!(
                    "after {} {left} client connections are left here; they go on until HAProxy is stopped",
                    format_duration(drain)
                )));
            }
            _ if told.is_none_or(|told| told.elapsed() >= TELL) => {
                told = Some(Instant::now());
                let left = left.map_or_else(|| "?".to_owned(), |left| left.to_string());
                let time = Duration::from_secs(time.as_secs().max(1));
                out.note(format!("{left} client connections are left, waiting for {} at most", format_duration(time)));
            }
            _ => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn reclaim(place: &Place, names: &[Name], out: Output) -> Result<(), Failure> {
    send(place, names, "reclaim", false, out).await?;
    let began = Instant::now();
    loop {
        let status = look(place).await?;
        let vips = vips_of(place, &status)?;
        let part = |vip: &Vip| vip.nodes.iter().find(|part| part.node == status.node).cloned();
        let missing: Vec<&Vip> =
            chosen(vips, names).filter(|vip| part(vip).is_none_or(|part| part.owned_s.is_none())).collect();
        if missing.is_empty() {
            out.note(format!(
                "this node owns {} after {:.1} s",
                list(chosen(vips, names)),
                began.elapsed().as_secs_f64()
            ));
            if out.json {
                out.print_json(vips);
            }
            return Ok(());
        }
        if began.elapsed() > MOVE {
            let why = missing.iter().find_map(|vip| part(vip)).map(|part| told(&part)).unwrap_or_default();
            let names = list(missing.into_iter());
            let what = format!("this node does not own {names} after {} s ({why})", MOVE.as_secs());
            return Err(Failure::refused(what).help("`hapilot vip status` shows who does"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn list<'a>(vips: impl Iterator<Item = &'a Vip>) -> String {
    vips.map(|vip| vip.name.as_str()).collect::<Vec<_>>().join(", ")
}
