//! A revision that soaks, in the loop: what was heard goes to it, what it comes to goes into the history and to HAProxy.

use super::body::{Agent, RETRY};
use super::waiting::Aim;
use crate::agent::history::remark::Remark;
use crate::agent::node::Node;
use crate::agent::outcome::intent::Intent;
use crate::agent::steering::SoakEnd;
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::troubles::Matter;
use crate::event::{Event, EventKind, Severity};
use std::time::{Instant, SystemTime};
use tokio::sync::oneshot;

/// Lets a soak decide, where it is time.
pub(super) async fn look_at_soak(agent: &mut Agent) {
    let now = agent.node.now();
    let Node { ledger, serving, steering, vips, .. } = &mut agent.node;
    let (config, soaking) = (&serving.config, &mut steering.soaking);
    // It may have been confirmed, or rolled back, by an operator.
    soaking.follow(ledger.provisional(), None, config, now, SystemTime::now());
    if let Some(vips) = vips {
        let report = vips.report();
        let heard = report.peers.iter().filter(|(_, peer)| peer.is_heard);
        for (name, news) in heard.filter_map(|(name, peer)| Some((name, peer.news.as_ref()?))) {
            let is_control = news.serves.as_ref().is_some_and(|serves| serves.file != serving.digest);
            soaking.hear_node(name.as_str(), &news.backends, is_control);
        }
    }
    let keeps = ledger.provisional().is_some_and(|trial| trial.keeps);
    let end = soaking.decide(config, &steering.fleet, keeps, now);
    match end {
        Some(SoakEnd::Worse(reason)) => go_back(agent, reason).await,
        Some(SoakEnd::Keep(seen)) if agent.is_free() => {
            let (nobody, _) = oneshot::channel();
            agent.file(Remark::Soaked(seen), nobody);
        }
        Some(SoakEnd::Open(seen)) => {
            let text = format!("the soak is over, and the deadline of the trial decides: {seen}");
            agent.node.bulletin.tell(Event::once(EventKind::Trial, Severity::Info, "file", text));
        }
        Some(SoakEnd::Keep(_)) | None => {}
    }
    if let Some(book) = &mut agent.soaks {
        // Another one than was written down.
        if book.written().as_ref().map(|saved| saved.revision) != agent.node.steering.soaking.revision() {
            book.hurry();
        }
        book.keep(|| agent.node.steering.soaking.to_save(SystemTime::now())).await;
    }
}

/// A revision on trial is to be taken back, and cannot be: it stands as a problem until it is over.
pub(super) fn no_way_back(node: &mut Node, what: Aim, why: &Refusal) {
    let Some(trial) = node.ledger.provisional() else { return };
    let (revision, back_to, file) = (trial.revision, trial.back_to, &node.file.place.file);
    let why = why.headline().replace(file.as_str(), &format!("{file} of revision {back_to}"));
    let serves = match what {
        Aim::Worse => format!("revision {revision} serves on, which is worse than before"),
        _ => format!("revision {revision} serves on, which nobody confirmed"),
    };
    let (rollback, confirm) = (node.file.place.command("rollback REV"), node.file.place.command("confirm"));
    let problem = Refusal::new(format_args!("revision {back_to} cannot come back: {why}"))
        .done(serves)
        .help(format!("put back what it names (it is tried again every 10 s), save a file that is good, or go to another: {rollback}"))
        .help(format!("to keep revision {revision}: {confirm}"));
    node.troubles.set(Matter::WayBack, Some(problem));
}

/// Takes the revision back; again after a while, where that fails.
async fn go_back(agent: &mut Agent, reason: String) {
    let is_under_way = agent.postponed.as_ref().is_some_and(|postponed| postponed.what == Aim::Worse);
    let now = Instant::now();
    if !agent.is_free() || is_under_way || now < agent.expire_at {
        return;
    }
    agent.expire_at = now + RETRY;
    if let Some(trial) = agent.node.ledger.provisional().filter(|_| agent.node.steering.soaking.is_worse_news()) {
        let (revision, back_to) = (trial.revision, trial.back_to);
        let text = format!("revision {revision} is worse than before: {reason}; rolling back to revision {back_to}");
        let event = Event::once(EventKind::Trial, Severity::Warning, "file", text).about("rollback");
        agent.node.bulletin.tell(event);
    }
    let (intent, file) = (Intent::of_agent(Some(&reason)), agent.node.file.place.digest());
    agent.change(Aim::Worse, intent, vec![], file).await;
}
