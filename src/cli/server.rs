//! `server drain|ready|maint|weight`: an operator's word on one server.

use super::agent::{actor, agent, how_to_start};
use super::args::ServerCommand;
use super::output::{Failure, Output, Tone};
use crate::agent::{Attempt, Node, Place};
use crate::api::wire::{Applied, ServerRequest};
use crate::model::{AdminState, ServerId, format_duration};
use std::time::Duration;

/// `hapilot server …`
pub(super) async fn server(place: &Place, command: &ServerCommand, out: Output) -> Result<(), Failure> {
    let (target, state, weight) = command.meaning();
    let applied = match agent(place)? {
        Some(agent) => {
            let request = ServerRequest {
                server: target.server.to_string(),
                state: state.map(|state| state.to_string()),
                weight: weight.map(crate::model::Weight::get),
                for_s: target.period.map(|period| period.as_secs_f64()),
                actor: actor(),
            };
            agent.server(&request).await.map_err(Failure::from)?
        }
        None => {
            if target.period.is_some() {
                let failure = Failure::refused("the agent does not run, so nobody would end this in time");
                return Err(failure.help(format_args!("start it: {}; or leave out --for", how_to_start(place))));
            }
            let mut node = Node::open(place.clone()).await.map_err(Failure::from)?;
            let result = node.alone().set_server(&target.server, state, weight, None, &actor()).await;
            let mut report = result.map_err(|attempt| match attempt {
                Attempt::Failed(failed) => Failure::from(failed),
                Attempt::TooSoon(_) => Failure::refused("HAProxy was reloaded just now; try again"),
            })?;
            report.notes.extend(frozen(&node, &target.server));
            Applied::from(&report)
        }
    };
    if out.json {
        out.print_json(&applied);
        return Ok(());
    }
    match (applied.how.as_str(), applied.steps.is_empty()) {
        ("start", _) => out.line(out.paint(Tone::Warn, "kept; no HAProxy runs, it is in force when one does")),
        (_, true) => out.line(out.paint(Tone::Good, unchanged(target.period, state))),
        (_, false) => {}
    }
    for step in &applied.steps {
        out.line(step);
    }
    for note in &applied.notes {
        out.remark(note);
    }
    Ok(())
}

/// HAProxy needs no command; how long the word holds may be new all the same.
fn unchanged(period: Option<Duration>, state: Option<AdminState>) -> String {
    match period {
        Some(period) => format!("it was so already; from now on it holds for {}", format_duration(period)),
        None if state == Some(AdminState::Ready) => "it was so already".to_owned(),
        None => "it was so already; it holds until `hapilot server ready` ends it".to_owned(),
    }
}

/// A weight that health left, and that nobody raises while no agent runs.
fn frozen(node: &Node, id: &ServerId) -> Option<String> {
    let (_, server) = node.serving.config.server(id)?;
    let has = node.steering.fleet.view().decision(id)?.weight;
    let is_said = node.steering.overrides.get(id).is_some_and(|entry| entry.wish().weight.is_some());
    (has < server.weight.value && !is_said).then(|| {
        format!(
            "{id} keeps the weight that health left it, {has} of {}: the agent does not run, and nobody raises it; \
             `{}` does",
            server.weight.value,
            node.file.place.command(&format!("server weight {id} {}", server.weight.value))
        )
    })
}
