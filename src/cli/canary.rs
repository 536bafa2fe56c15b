//! `canary status|promote|hold|resume|abort|restart`.

use super::agent::{actor, agent, how_to_start};
use super::args::{CanaryCommand, CanaryTarget};
use super::output::{Failure, Output, Tone, span};
use super::status::look;
use super::table::Table;
use crate::agent::Place;
use crate::api::wire::{Canary, CanaryCondition, CanaryRequest, Haproxy, Status};
use crate::model::Name;

/// `hapilot canary …`
pub(super) async fn canary(place: &Place, command: &CanaryCommand, out: Output) -> Result<(), Failure> {
    let (CanaryTarget { name }, word, force) = match command {
        CanaryCommand::Status { name } => return status(place, name.as_ref(), out).await,
        CanaryCommand::Promote(target) => (target, "promote", false),
        CanaryCommand::Hold(target) => (target, "hold", false),
        CanaryCommand::Resume(target) => (target, "resume", false),
        CanaryCommand::Abort(target) => (target, "abort", false),
        CanaryCommand::Restart { target, force } => (target, "restart", *force),
    };
    let agent = agent(place)?.ok_or_else(|| {
        let told = "the agent does not run on this node, and it is the agent that steers canaries";
        Failure::refused(told).help(format_args!("start it: {}", how_to_start(place)))
    })?;
    agent.canary(&CanaryRequest { name: name.to_string(), word: word.to_owned(), force, actor: actor() }).await?;
    let status = look(place).await?;
    let is_deaf = is_deaf(&status);
    let canaries = named(status.canaries, Some(name))?;
    if out.json {
        out.print_json(&canaries);
    } else {
        canaries.iter().for_each(|canary| print_head(canary, &out));
        tell_deaf(is_deaf, &out);
    }
    Ok(())
}

/// Exit code 1 where one was rolled back.
async fn status(place: &Place, name: Option<&Name>, out: Output) -> Result<(), Failure> {
    let status = look(place).await?;
    if status.agent.is_none() {
        // What they had when the last life of the agent wrote it down is what HAProxy still gives them.
        let kept = if out.json { vec![] } else { named(status.canaries, name).unwrap_or_default() };
        kept.iter().for_each(|canary| out.text(2, head(canary, &out)));
        let told = "the agent does not run on this node: nobody watches canaries, and each keeps what it has";
        return Err(Failure::refused(told).help(format_args!("start it: {}", how_to_start(place))));
    }
    let is_deaf = is_deaf(&status);
    let canaries = named(status.canaries, name)?;
    if out.json {
        out.print_json(&canaries);
    } else if canaries.is_empty() {
        out.line("the file has no [canary.NAME]");
    } else {
        canaries.iter().for_each(|canary| print(canary, &out));
        tell_deaf(is_deaf, &out);
    }
    let is_well = canaries.iter().all(|canary| canary.phase != "rolled_back");
    if is_well { Ok(()) } else { Err(Failure::said(super::output::REFUSED)) }
}

/// Whether HAProxy does not hear what it is to give.
fn is_deaf(status: &Status) -> bool {
    !status.haproxy.as_ref().is_some_and(Haproxy::answers)
}

fn tell_deaf(is_deaf: bool, out: &Output) {
    if is_deaf {
        let told = "HAProxy does not answer: these are the shares that it is to give, and where it runs it may give older ones \
                    until it answers again; see `hapilot status`";
        out.text(2, out.paint(Tone::Bad, told));
    }
}

fn named(mut canaries: Vec<Canary>, name: Option<&Name>) -> Result<Vec<Canary>, Failure> {
    let names: Vec<String> = canaries.iter().map(|canary| canary.name.clone()).collect();
    canaries.retain(|canary| name.is_none_or(|name| name.as_str() == canary.name));
    match name.filter(|_| canaries.is_empty()) {
        Some(name) if names.is_empty() => {
            Err(Failure::refused(format!("the file has no canary, so none is called {name}")))
        }
        Some(name) => Err(Failure::refused(format!("no canary is called {name}; there is {}", names.join(", ")))),
        None => Ok(canaries),
    }
}

/// Who it is, and how far: `turbo  5 % of the clients of chat, stage 1 of 4`.
pub(super) fn head(canary: &Canary, out: &Output) -> String {
    let stage = match (canary.stage, canary.stages) {
        (Some(stage), Some(stages)) => format!(", stage {stage} of {stages}"),
        _ => String::new(),
    };
    let name = out.paint(Tone::Strong, &canary.name);
    format!("{name}  {} % of the clients of {}{stage}", canary.percent, canary.backend)
}

/// In one line, for `status`.
pub(super) fn in_one_line(canary: &Canary, out: &Output) -> String {
    format!("{}: {}", head(canary, out), out.paint(tone(canary), &canary.waits))
}

fn tone(canary: &Canary) -> Tone {
    match (canary.phase.as_str(), canary.is_held) {
        ("rolled_back", _) => Tone::Bad,
        ("done", _) => Tone::Good,
        (_, true) | ("waiting" | "gate", _) => Tone::Warn,
        _ => Tone::Plain,
    }
}

fn print_head(canary: &Canary, out: &Output) {
    out.text(2, head(canary, out));
    let at = canary.ended_at.as_ref().map(|at| format!(" (at {at})")).unwrap_or_default();
    out.text(4, format_args!("  {}{at}", out.paint(tone(canary), &canary.waits)));
    if let Some(next) = next(canary) {
        out.text(4, format_args!("  next: {next}"));
    }
}

/// What an operator may do now, where the canary does not go on by itself.
fn next(canary: &Canary) -> Option<String> {
    let Canary { name, blocked_until, .. } = canary;
    let force = format!("`hapilot canary restart {name} --force` begins it now");
    match (canary.phase.as_str(), blocked_until) {
        ("rolled_back", Some(until)) => Some(format!(
            "mend it: an edit of its servers begins it anew. As it is, `hapilot canary restart {name}` may begin it from \
             {until} on; {force}"
        )),
        ("rolled_back", None) => Some(format!("`hapilot canary restart {name}` begins it anew")),
        ("waiting", Some(until)) => Some(format!("it begins by itself at {until}; {force}")),
        ("gate", _) => Some(format!("`hapilot canary promote {name}`, or `hapilot canary abort {name}`")),
        ("done", _) => Some(format!(
            "make it the ordinary way: take [canary.{name}] out of the file, with the old servers, or with the new models in \
             the place of the old ones. All clients back: `hapilot canary abort {name}`"
        )),
        _ => None,
    }
}

fn print(canary: &Canary, out: &Output) {
    print_head(canary, out);
    let is_over = matches!(canary.phase.as_str(), "done" | "rolled_back");
    if is_over {
        return;
    }
    if let (Some(ours), Some(control), Some(least)) = (canary.canary, canary.control, canary.least_requests) {
        let mut table = Table::new(["GROUP", "REQUESTS", "TOLD", "FAILED", "SHARE", "WANTED"]);
        let actual = canary.actual_percent.map_or_else(|| "-".to_owned(), |share| format!("{share:.1} %"));
        for (name, group, share, wanted) in [
            (canary.name.as_str(), ours, actual, format!("{} %", canary.percent)),
            ("control", control, String::new(), String::new()),
        ] {
            table.row([
                (Tone::Strong, name.to_owned()),
                (Tone::Plain, group.requests.to_string()),
                (Tone::Plain, group.told.to_string()),
                (if group.failures > 0 { Tone::Warn } else { Tone::Plain }, group.failures.to_string()),
                (Tone::Plain, share),
                (Tone::Dim, wanted),
            ]);
        }
        out.print(&table.render(out));
        let time = canary.time_s.unwrap_or_default();
        let whole = canary.time_left_s.map(|left| format!(" of {}", span((time + left).round() as u64)));
        let (time, whole) = (span(time as u64), whole.unwrap_or_default());
        let text = format!(
            "watched for {time}{whole} in this stage (while it is held, no time counts); it needs {least} requests that \
             tell something"
        );
        out.text(2, out.paint(Tone::Dim, text));
    }
    canary.conditions.iter().for_each(|condition| print_condition(condition, out));
}

fn print_condition(condition: &CanaryCondition, out: &Output) {
    let tone = match condition.state.as_str() {
        "breach" => Tone::Bad,
        "over" | "shared" => Tone::Warn,
        "within" => Tone::Good,
        _ => Tone::Dim,
    };
    let row = format!("{} of {} checks in a row breached", condition.breaches, condition.breaches_to_trip);
    let next = span(condition.next_check_s.ceil() as u64);
    out.text(4, format_args!("{}  {}", out.paint(tone, &condition.state), condition.words));
    out.text(6, out.paint(Tone::Dim, format_args!("    {row}; next check in {next}")));
}
