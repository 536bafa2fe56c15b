//! `alert list` and `alert test`: who is told what happens, and whether it comes through.

use super::args::AlertCommand;
use super::output::{Failure, Output, Tone, span};
use super::status::look;
use super::table::Table;
use super::target;
use crate::agent::{Place, SecretUse};
use crate::alert::{self, Delivery};
use crate::alerts::{Change, Notification};
use crate::api::wire::{AlertSink as Told, Status};
use crate::config::{AlertSink, SinkKind};
use crate::sys;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;

/// `hapilot alert …`
pub(super) async fn alert(place: &Place, command: &AlertCommand, out: Output) -> Result<(), Failure> {
    match command {
        AlertCommand::List => list(place, out).await,
        AlertCommand::Test { name } => test(place, name, out).await,
    }
}

async fn list(place: &Place, out: Output) -> Result<(), Failure> {
    let Status { agent, alerts, .. } = look(place).await?;
    if out.json {
        out.print_json(&alerts);
        return Ok(());
    }
    if agent.is_none() {
        let told = "the agent does not run: nobody is told anything; start it:";
        out.text(0, out.paint(Tone::Warn, format_args!("{told} `{}`", super::agent::how_to_start(place))));
        return Ok(());
    }
    if alerts.is_empty() {
        out.note("the file tells nobody: add a section such as `[alert.team]`");
        return Ok(());
    }
    let mut table = Table::new(["SINK", "KIND", "LAST", "SENT", "WAITING", "OPEN", "FAILED"]);
    for sink in &alerts {
        table.row(cells(sink));
        if let Some(problem) = &sink.problem {
            table.note(Tone::Bad, format!("it does not deliver: {problem}"));
        } else if let Some(failure) = &sink.failure {
            table.note(Tone::Warn, format!("the last try failed, and is repeated: {failure}"));
        }
        if sink.dropped > 0 {
            table.note(Tone::Warn, format!("{} notifications were dropped for want of room", sink.dropped));
        }
    }
    out.print(&table.render(&out));
    let open: BTreeSet<&String> = alerts.iter().flat_map(|sink| &sink.matters).collect();
    if !open.is_empty() {
        out.text(0, "open:");
        open.iter().for_each(|matter| out.text(2, format_args!("  {matter}")));
    }
    Ok(())
}

fn cells(sink: &Told) -> [(Tone, String); 7] {
    let Told { name, kind, sent, failed, waiting, open, last_s, problem, .. } = sink;
    let last = last_s.map_or_else(|| "-".to_owned(), |age| format!("{} ago", span(age)));
    let count = |number: u64| if number == 0 { "-".to_owned() } else { number.to_string() };
    let tone = if problem.is_some() { Tone::Bad } else { Tone::Strong };
    [
        (tone, name.clone()),
        (Tone::Plain, kind.clone()),
        (Tone::Plain, last),
        (Tone::Plain, count(*sent)),
        (if *waiting > 0 { Tone::Warn } else { Tone::Plain }, count(*waiting)),
        (Tone::Plain, count(*open)),
        (Tone::Dim, count(*failed)),
    ]
}

/// `hapilot alert test --json`
#[derive(Serialize)]
struct Tested<'a> {
    sink: &'a str,
    kind: &'a str,
    is_delivered: bool,
    answer: String,
    took_ms: f64,
}

/// Exit code 1 where it was not taken.
async fn test(place: &Place, name: &str, out: Output) -> Result<(), Failure> {
    let sources = target::load(&place.using(SecretUse::Nothing))?;
    let sinks = &sources.config.alerts.sinks;
    let Some(sink) = sinks.iter().find(|sink| sink.name.as_str() == name) else {
        let all: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
        let has = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        return Err(Failure::usage(format!("there is no sink {name:?}; the file has {has}")));
    };
    let began = std::time::Instant::now();
    let delivery = send(sink, sources.config.node.name.value.as_str()).await?;
    let (is_delivered, answer) = match delivery {
        Delivery::Done(said) => (true, said),
        Delivery::Again { why, .. } | Delivery::Refused { why, .. } => (false, why),
    };
    let (kind, took_ms) = (sink.kind_name(), began.elapsed().as_secs_f64() * 1000.0);
    if out.json {
        out.print_json(&Tested { sink: name, kind, is_delivered, answer: answer.clone(), took_ms });
    }
    match is_delivered {
        true if out.json => Ok(()),
        true => {
            out.line(format_args!("{name} ({kind}) took the test: {answer}"));
            Ok(())
        }
        false if out.json => Err(Failure::said(super::output::REFUSED)),
        false => Err(Failure::refused(format!("{name} ({kind}) did not take the test: {answer}"))),
    }
}

/// One that opens nothing for long: where a sink keeps open what it was told, the end is sent too.
async fn send(sink: &AlertSink, node: &str) -> Result<Delivery, Failure> {
    let secret = match sink.secret() {
        None => None,
        Some(reference) => {
            let read = sys::secrets::read_secret(&reference.value);
            Some(read.map_err(|e| Failure::refused(format!("{}: {}", reference.value, sys::chain(&e))))?.secret)
        }
    };
    let now = Timestamp::now();
    let mut delivery = alert::deliver(sink, secret.as_ref(), &Notification::test(node, now, Change::Trigger)).await;
    let keeps_open = matches!(sink.kind, SinkKind::Pagerduty { .. } | SinkKind::Alertmanager { .. });
    if let (true, Delivery::Done(_)) = (keeps_open, &delivery) {
        delivery = alert::deliver(sink, secret.as_ref(), &Notification::test(node, now, Change::Resolve)).await;
    }
    Ok(delivery)
}
