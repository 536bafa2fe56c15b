//! `plan`, `apply` and `rollback`: through the running agent, or alone where none runs.

use super::agent::{actor, agent, failure};
use super::args;
use super::output::{Failure, Output, Tone, counted, ms};
use crate::agent::{Attempt, Intent, Ledger, Node, Place, Refusal, Report, SecretUse, Unread};
use crate::api::wire::{Applied, ApplyRequest, RollbackRequest};
use crate::api::{Client, ClientError};
use crate::sys;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// A running agent sees a file that was written within a quarter of a second.
const SEEN: Duration = Duration::from_secs(2);

/// `hapilot plan`
pub(super) async fn plan(place: &Place, out: Output) -> Result<(), Failure> {
    let answered = match agent(place)? {
        Some(agent) => match agent.plan().await {
            // Another file can be planned without its agent; another node's HAProxy cannot.
            Err(ClientError::Other(_)) if place.node.is_none() => Some(Box::pin(plan_beside(place, out)).await?),
            answer => Some(answer.map_err(Failure::from)?),
        },
        None => None,
    };
    let planned = match answered {
        Some(planned) => planned,
        None => {
            let node = Node::open(place.using(SecretUse::Compared)).await.map_err(Failure::from)?;
            Box::pin(plan_alone(node, out)).await?
        }
    };
    if out.json {
        out.print_json(&planned);
    } else {
        out.diff(&planned.diff);
        print(&planned, &out, Verb::Plan);
    }
    Ok(())
}

/// A file that the running agent does not serve: looked at from here, nothing is changed.
async fn plan_beside(place: &Place, out: Output) -> Result<Applied, Failure> {
    let node = Node::observe_only(place.using(SecretUse::Compared)).await.map_err(Failure::from)?;
    let mut planned = Box::pin(plan_alone(node, out)).await?;
    planned.notes.push(format!("this is the plan for {}, which the running agent does not serve", place.file));
    Ok(planned)
}

/// The plan without an agent, and a line on the keys that cannot be read here.
async fn plan_alone(mut node: Node, out: Output) -> Result<Applied, Failure> {
    let began = Instant::now();
    let mut report = node.alone().plan_report().await.map_err(failure)?;
    report.took = began.elapsed();
    let mut planned = Applied::from(&report);
    match Unread::line(&report.unread) {
        Some(line) if out.json => planned.notes.push(line),
        line => line.iter().for_each(|line| out.note(line)),
    }
    Ok(planned)
}

/// `hapilot apply`
pub(super) async fn apply(place: &Place, options: &args::Apply, out: Output) -> Result<(), Failure> {
    let actor = actor();
    let applied = match agent(place)? {
        Some(agent) => {
            let request = ApplyRequest {
                adopt: options.adopt,
                force: options.force,
                confirm_ms: options.confirm.map(|confirm| u64::try_from(confirm.as_millis()).unwrap_or(u64::MAX)),
                actor,
                reason: options.reason.clone(),
            };
            agent.apply(&request).await.map_err(Failure::from)?
        }
        None => {
            let args::Apply { adopt, force, confirm, ref reason } = *options;
            let intent = Intent { actor, reason: reason.clone(), adopt, force, confirm };
            let mut node = Node::open(place.clone()).await.map_err(Failure::from)?;
            Applied::from(&patiently(async || node.alone().apply_file(&intent).await).await?)
        }
    };
    finish(&applied, out);
    Ok(())
}

/// `hapilot rollback`
pub(super) async fn rollback(place: &Place, options: args::Rollback, out: Output) -> Result<(), Failure> {
    let args::Rollback { revision, reason, write } = options;
    if write && revision.is_none() && has_what_serves(place)? {
        let told = Refusal::notice(format_args!("{} has what serves already: nothing was changed", place.file));
        let command = place.command("rollback REV --write");
        out.note(told.help(format_args!("to go back and write that: {command}")));
        return Ok(());
    }
    let is_serving = write && revision.is_none() && is_left_behind(place)?;
    if is_serving && let Some(agent) = agent(place)? {
        // One that serves another file, or for another node, refuses.
        agent.status().await.map_err(Failure::from)?;
    }
    if is_serving && !is_rolled_back(place)? {
        out.note(format_args!(
            "{} does not serve as it stands: nothing is rolled back, and what serves comes into the file",
            place.file
        ));
    }
    if !is_serving {
        let revision = revision.map(|name| super::confirm::resolve(place, &name)).transpose()?;
        let actor = actor();
        let applied = match agent(place)? {
            Some(agent) => agent.rollback(&RollbackRequest { revision, actor, reason }).await.map_err(Failure::from)?,
            None => {
                let intent = Intent { actor, reason, ..Intent::default() };
                let mut node = Node::open(place.clone()).await.map_err(Failure::from)?;
                Applied::from(&patiently(async || node.alone().roll_back(revision, &intent).await).await?)
            }
        };
        match out.json {
            true => out.print_json(&applied),
            false => print(&applied, &out, Verb::Rollback),
        }
    }
    if write {
        write_back(place, out)?;
        if let Some(agent) = agent(place)? {
            has_seen(&agent).await;
        }
        return Ok(());
    }
    if serves_the_file(place)? {
        return Ok(());
    }
    let text = match is_rolled_back(place)? {
        true => {
            "still has the content that was rolled back. `apply` serves it again, and so does the next edit, unless a saved \
             file waits ([apply] on_save): then all of it is served, the rolled-back part too"
        }
        false => "has another content than what serves",
    };
    let told = Refusal::notice(format_args!("{} {text}", place.file));
    out.note(told.help(format_args!("{} puts what serves into the file", place.command("rollback --write"))));
    Ok(())
}

/// Whether a rollback serves, and the file was given its content since: who says `--write` wants no more than that.
fn has_what_serves(place: &Place) -> Result<bool, Failure> {
    let ledger = Ledger::read_only(&place.state_directory()).map_err(Failure::from)?;
    Ok(ledger.serves_a_rollback() && serves_the_file(place)?)
}

/// Whether the file has the very content that serves.
fn serves_the_file(place: &Place) -> Result<bool, Failure> {
    let ledger = Ledger::read_only(&place.state_directory()).map_err(Failure::from)?;
    Ok(ledger.current_toml().is_some_and(|serves| place.digest() == Some(serves)))
}

/// Whether the file as it stands was rolled back already, so that `--write` alone is missing.
fn is_rolled_back(place: &Place) -> Result<bool, Failure> {
    let ledger = Ledger::read_only(&place.state_directory()).map_err(Failure::from)?;
    Ok(ledger.rejected().is_some_and(|rejected| place.digest() == Some(rejected)))
}

/// Whether the file as it stands is not what serves, for whatever reason: who says `--write` wants what serves in it, and
/// not one revision less. Where saved files wait for an operator's word, his first word is about what serves; once that was
/// rolled back, it is about the file.
fn is_left_behind(place: &Place) -> Result<bool, Failure> {
    if !place.file.is_file() || serves_the_file(place)? {
        return Ok(false);
    }
    let ledger = Ledger::read_only(&place.state_directory()).map_err(Failure::from)?;
    let Some(revision) = ledger.current() else { return Ok(false) };
    let serving = place.using(SecretUse::Nothing).understand(ledger.toml_of(revision).map_err(Failure::from)?);
    let waits = serving.is_ok_and(|serving| serving.config.apply.waits_on_save);
    Ok(!waits || ledger.serves_a_rollback())
}

/// Puts the content that serves into the operator's file, who asked for it; what stood there is kept beside.
fn write_back(place: &Place, out: Output) -> Result<(), Failure> {
    let ledger = Ledger::read_only(&place.state_directory()).map_err(Failure::from)?;
    let revision = ledger.current().ok_or_else(|| Failure::refused("there is no revision yet"))?;
    let toml = ledger.toml_of(revision).map_err(Failure::from)?;
    let failed =
        |e: std::io::Error| Failure::refused(Refusal::new(e).done(format_args!("{} is as it was", place.file)));
    let mode = fs_err::metadata(&place.file).map_err(failed)?.permissions().mode() & 0o7777;
    let before = sys::files::stamp(&place.file);
    let kept = sys::files::keep_beside(&place.file, "rollback", jiff::Timestamp::now()).map_err(failed)?;
    let is_as_before = || sys::files::stamp(&place.file) == before;
    sys::files::replace_unchanged(&place.file, toml.as_bytes(), mode, is_as_before).map_err(failed)?;
    out.note(format_args!("{} has the content of revision {revision} now; what it had is kept as {kept}", place.file));
    Ok(())
}

/// Waits until the agent has seen that the file has what serves, so that a `status` behind this says so.
async fn has_seen(agent: &Client) {
    let until = Instant::now() + SEEN;
    while Instant::now() < until && !agent.status().await.is_ok_and(|status| status.config.is_serving) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for the gap between two reloads, once.
async fn patiently(mut attempt: impl AsyncFnMut() -> Result<Report, Attempt>) -> Result<Report, Failure> {
    match attempt().await {
        Err(Attempt::TooSoon(at)) => {
            tokio::time::sleep_until(at.into()).await;
            attempt().await.map_err(failure)
        }
        other => other.map_err(failure),
    }
}

fn finish(applied: &Applied, out: Output) {
    if out.json {
        out.print_json(applied);
    } else {
        print(applied, &out, Verb::Apply);
    }
}

/// What was asked for.
#[derive(Clone, Copy, PartialEq)]
enum Verb {
    Plan,
    Apply,
    Rollback,
}

fn print(applied: &Applied, out: &Output, verb: Verb) {
    let is_plan = verb == Verb::Plan;
    let (tone, text) = match (applied.how.as_str(), is_plan) {
        ("unchanged", _) if verb == Verb::Rollback => (Tone::Good, "HAProxy runs that already".to_owned()),
        ("unchanged", _) => (Tone::Good, "nothing to do: HAProxy runs what the file says".to_owned()),
        ("files", true) => (Tone::Plain, "files only: the running HAProxy already has it".to_owned()),
        ("files", false) => (Tone::Good, "files written; the running HAProxy already had it".to_owned()),
        ("runtime", true) => (Tone::Good, format!("no reload: {}", counted(applied.steps.len(), "runtime command"))),
        ("runtime", false) => {
            (Tone::Good, format!("applied with {}, no reload", counted(applied.steps.len(), "runtime command")))
        }
        ("reload", true) => (Tone::Warn, "a reload, because".to_owned()),
        ("reload", false) => (Tone::Good, "applied with a proven reload, because".to_owned()),
        ("start", true) if applied.files.is_empty() => {
            (Tone::Warn, "HAProxy does not run; its files are as they should be".to_owned())
        }
        ("start", true) => (Tone::Warn, "HAProxy does not run: the files would be written".to_owned()),
        ("start", false) => (Tone::Warn, "files written; HAProxy does not run yet".to_owned()),
        (other, _) => (Tone::Plain, other.to_owned()),
    };
    out.line(out.paint(tone, text));
    for line in applied.reload_reasons.iter().chain(&applied.steps) {
        out.line(format_args!("  {line}"));
    }
    for file in &applied.files {
        out.line(out.paint(Tone::Dim, format_args!("  {file}")));
    }
    if let (Some(revision), false) = (applied.revision, is_plan) {
        let serves = if applied.how == "start" { "is ready, and serves when HAProxy is started" } else { "serves" };
        out.line(out.paint(Tone::Dim, format_args!("revision {revision} {serves}; took {}", ms(applied.took_ms))));
    }
    for note in &applied.notes {
        out.remark(note);
    }
}
