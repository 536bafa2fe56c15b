//! What canaries do, as events.

use crate::event::{Event, EventKind, Severity};
use crate::model::Name;
use crate::rollout::{ABORTED, Change, Hold, Percent, Phase, Rollout};

pub(super) fn event(name: &Name, severity: Severity, text: String) -> Event {
    Event::once(EventKind::Canary, severity, name, text)
}

pub(super) fn told(name: &Name, change: &Change) -> Event {
    let once = |severity, text: String| event(name, severity, text);
    match change {
        Change::Stage { stage, percent } => {
            once(Severity::Info, format!("the canary {name} has {percent} of the clients (stage {})", stage + 1))
        }
        Change::Gate { stage } => {
            let text = format!("the canary {name} waits for `hapilot canary promote {name}` (stage {})", stage + 1);
            once(Severity::Warning, text)
        }
        Change::Held(hold) => {
            let severity = match hold {
                Hold::Operator | Hold::TooLittleData { .. } | Hold::Unproven { .. } => Severity::Info,
                Hold::MetricsLost { .. } | Hold::SharedCause { .. } => Severity::Warning,
            };
            once(severity, format!("the canary {name} is held: {}", hold.in_words()))
        }
        Change::WentOn => once(Severity::Info, format!("the canary {name} goes on")),
        Change::Baking => once(Severity::Info, format!("the canary {name} has all clients, and is watched")),
        Change::Done => {
            let text = format!("the canary {name} is promoted: it has all clients, and nobody watches it any more");
            once(Severity::Info, text)
        }
        Change::RolledBack { reason } => {
            // Who wanted it knows it.
            let severity = if reason.ends_with(ABORTED) { Severity::Info } else { Severity::Error };
            once(severity, format!("the canary {name} was rolled back: {reason}")).about("rollback")
        }
    }
}

/// Its rules are others: what became of its part.
pub(super) fn edited(name: &Name, rollout: &Rollout, before: Percent) -> Event {
    let (now, stages) = (rollout.percent(), rollout.rules().stages.len());
    let place = match rollout.phase() {
        Phase::Stage(at) | Phase::Gate(at) => format!("stage {} of {stages}", at + 1),
        Phase::Baking => "the bake".to_owned(),
        Phase::Done => "promoted".to_owned(),
        Phase::RolledBack { .. } => "rolled back".to_owned(),
    };
    if now == before {
        let text = format!("the rules of the canary {name} are others: it goes on with {now} of the clients ({place})");
        return event(name, Severity::Info, text);
    }
    let (moved, severity) = match now < before {
        true => ("falls", Severity::Warning),
        false => ("rises", Severity::Info),
    };
    let text = format!(
        "the rules of the canary {name} are others: it {moved} from {before} to {now} of the clients ({place}), since no \
         stage has {before} any more"
    );
    event(name, severity, text)
}
