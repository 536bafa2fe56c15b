//! `confirm`, `tag`, and the process that guards a deadline when the agent has died.

use super::agent::{actor, agent, failure};
use super::output::{Failure, Output, Tone};
use crate::agent::{Ledger, Node, Place, Remark, SecretUse, clocks};
use crate::api::wire::{Applied, ConfirmRequest, TagRequest};
use crate::store;
use crate::sys;
use camino::Utf8Path;
use std::time::Duration;

/// The guard looks at the deadline this often: it may be confirmed, moved, or be that of another revision.
const LOOK: Duration = Duration::from_millis(300);
/// First and longest pause after a rollback that did not work.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// `hapilot confirm`
pub(super) async fn confirm(place: &Place, out: Output) -> Result<(), Failure> {
    let confirmed = match agent(place)? {
        Some(agent) => agent.confirm(&ConfirmRequest { actor: actor() }).await.map_err(Failure::from)?,
        None => {
            let mut node = Node::open(place.using(SecretUse::Nothing)).await.map_err(Failure::from)?;
            Applied::from(&node.alone().remark(&Remark::Confirm(actor())).map_err(Failure::from)?)
        }
    };
    print(&confirmed, out);
    Ok(())
}

/// `hapilot tag REV NAME`
pub(super) async fn tag(place: &Place, revision: &str, name: String, out: Output) -> Result<(), Failure> {
    let revision = resolve(place, revision)?;
    let tagged = match agent(place)? {
        Some(agent) => agent.tag(&TagRequest { revision, name, actor: actor() }).await.map_err(Failure::from)?,
        None => {
            let mut node = Node::open(place.using(SecretUse::Nothing)).await.map_err(Failure::from)?;
            Applied::from(&node.alone().remark(&Remark::Tag(revision, name, actor())).map_err(Failure::from)?)
        }
    };
    print(&tagged, out);
    Ok(())
}

/// The number of a revision by its number or its tag.
pub(super) fn resolve(place: &Place, name: &str) -> Result<u32, Failure> {
    Ledger::read_only(&place.state_directory()).and_then(|ledger| ledger.resolve(name)).map_err(Failure::from)
}

fn print(done: &Applied, out: Output) {
    if out.json {
        out.print_json(done);
    } else {
        done.notes.iter().for_each(|note| out.line(out.paint(Tone::Good, note)));
    }
}

/// `hapilot __deadline STATE`: waits until the trial is over, however it ends, and rolls back at its deadline where the
/// agent does not. One guard per state directory: a second one ends at once.
pub(super) async fn guard(place: &Place, state: &Utf8Path) -> Result<(), Failure> {
    sys::detached::lead_a_session();
    super::run::log_to_stderr(false);
    let Ok(_lock) = sys::lock::Lock::acquire(&state.join("deadline.lock")) else { return Ok(()) };
    let mut pause = PAUSES.0;
    // A state directory that is gone has no trial either.
    while let Ok(Some(trial)) = store::load_provisional(state) {
        if trial.keeps {
            return Ok(());
        }
        let left = trial.left(&clocks());
        if !left.is_zero() {
            pause = PAUSES.0;
            tokio::time::sleep(left.min(LOOK)).await;
            continue;
        }
        match roll_back(place).await {
            Ok(()) => tracing::info!(revision = trial.revision, back_to = trial.back_to, "the deadline has passed"),
            Err(failure) => tracing::warn!("the rollback is tried again: {failure}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
    Ok(())
}

/// By the agent, where one answers, else by ourselves.
async fn roll_back(place: &Place) -> Result<(), Failure> {
    if let Ok(Some(agent)) = agent(place) {
        return agent.expire().await.map(|_| ()).map_err(Failure::from);
    }
    let mut node = Node::open(place.clone()).await.map_err(Failure::from)?;
    node.alone().expire("deadline").await.map(|_| ()).map_err(failure)
}
