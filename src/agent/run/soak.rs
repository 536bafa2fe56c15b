//! A revision that soaks, in the loop: what was heard goes to it, what it comes to goes into the history and to HAProxy.

use super::body::Agent;
use super::waiting::Aim;
use crate::agent::history::remark::Remark;
use crate::agent::node::Node;
use crate::agent::outcome::intent::Intent;
use crate::agent::steering::SoakEnd;
use crate::event::{Event, EventKind, Severity};
use std::collections::BTreeSet;
use std::time::SystemTime;
use tokio::sync::oneshot;

/// Lets a soak decide, where it is time.
pub(super) async fn look_at_soak(agent: &mut Agent) {
    let now = agent.node.now();
    let Node { ledger, serving, steering, .. } = &mut agent.node;
    let (config, soaking) = (&serving.config, &mut steering.soaking);
    // It may have been confirmed, or rolled back, by an operator.
    let was_soaking = soaking.is_soaking();
    soaking.follow(ledger.provisional(), BTreeSet::new(), config, now, SystemTime::now());
    let keeps = ledger.provisional().is_some_and(|trial| trial.keeps);
    let end = soaking.decide(config, &steering.fleet, keeps, now);
    if was_soaking != soaking.is_soaking() {
        agent.soaks.iter_mut().for_each(|book| book.hurry());
    }
    match end {
        // What is asked again with the next look waits for what is under way.
        Some(SoakEnd::Worse(reason))
            if agent.is_free() && agent.postponed.as_ref().is_none_or(|it| it.what != Aim::Worse) =>
        {
            let (intent, file) = (Intent::of_agent(Some(&reason)), agent.node.file.place.digest());
            agent.change(Aim::Worse, intent, vec![], file).await;
        }
        Some(SoakEnd::Keep(seen)) if agent.is_free() => {
            let (nobody, _) = oneshot::channel();
            agent.file(Remark::Soaked(seen), nobody);
        }
        Some(SoakEnd::Open(seen)) => {
            let text = format!("the soak is over, and the deadline of the trial decides: {seen}");
            agent.node.bulletin.tell(Event::once(EventKind::Trial, Severity::Info, "file", text));
        }
        Some(SoakEnd::Worse(_) | SoakEnd::Keep(_)) | None => {}
    }
    if let Some(book) = &mut agent.soaks {
        book.keep(|| agent.node.steering.soaking.to_save(SystemTime::now())).await;
    }
}
