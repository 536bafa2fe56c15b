//! An operator's word on one server, given by command.

use super::Node;
use crate::agent::outcome::applied::{Applied, How};
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::steering::steps_of;
use crate::agent::tell::refusal::{At, Refusal};
use crate::agent::tell::troubles::Matter;
use crate::model::{AdminState, ServerId};
use crate::plan::Step;
use std::time::Instant;

impl Node {
    /// Whether HAProxy, as it was seen last, has what is wanted of a server.
    pub(in crate::agent) fn has_followed_word(&self, id: &ServerId) -> bool {
        self.runtime().is_some_and(|runtime| self.steering.has_word(&self.serving.config, &runtime.servers, id))
    }

    /// The answer to who said something of a server: what HAProxy took for it, `ahead` of the rest or with it, and nothing
    /// of other servers.
    ///
    /// # Errors
    /// HAProxy does not follow (the word stays and is tried again).
    pub(in crate::agent) fn word_followed(
        &mut self,
        id: &ServerId,
        ahead: Vec<Step>,
        result: Result<Report, Attempt>,
        began: Instant,
    ) -> Result<Report, Attempt> {
        let mut notes = vec![];
        let is_checking = self.engine.checks.is_checking();
        // HAProxy has taken it, whatever is wrong with the rest.
        let is_taken = !ahead.is_empty() && self.has_followed_word(id);
        let mut report = match result {
            // The command went to HAProxy; its files wait for a verdict that takes its time, or for room.
            Err(attempt)
                if is_taken || self.engine.files_wait || is_checking && matches!(attempt, Attempt::TooSoon(_)) =>
            {
                if let Attempt::Failed(failed) = attempt {
                    notes.push(format!("HAProxy has it; its files do not: {failed}"));
                }
                let applied = Applied { how: How::Runtime, ..Applied::nothing() };
                Report::new(applied, self.revision(), String::new(), began.elapsed())
            }
            Err(Attempt::Failed(failed)) => return Err(kept_all_the_same(self, id, &failed).into()),
            result => result?,
        };
        let mut steps = ahead;
        steps.extend(steps_of(&self.serving.config, id, &report.applied.steps));
        if !steps.is_empty() && matches!(report.applied.how, How::Unchanged | How::Files) {
            report.applied.how = How::Runtime;
        }
        report.applied.steps = steps;
        report.notes.append(&mut notes);
        report.notes.extend(overrules_the_file(self, id));
        report.notes.extend(nobody_is_left(self, id));
        Ok(report)
    }

    /// A full disk keeps no server from being drained; it is told until it is mended.
    pub(in crate::agent) fn words_kept(&mut self, until: u64, kept: Result<(), Failed>) {
        let problem = kept.err().map(|failed| {
            Refusal::notice(format_args!("what operators said last is not kept over a restart: {failed}"))
        });
        self.troubles.set(Matter::Words, problem);
        self.steering.word_count.is_done(until);
    }
}

/// The answer where HAProxy has not taken it for long, while a change is under way.
pub(in crate::agent) fn word_waits(node: &Node, id: &ServerId) -> Failed {
    let admin = &node.serving.config.haproxy.admin_socket.value;
    kept_all_the_same(node, id, &Failed::refused(format!("HAProxy does not answer in time on {admin}")))
}

/// HAProxy could not be told, or not wholly: the word is kept, and follows.
fn kept_all_the_same(node: &Node, id: &ServerId, failed: &Failed) -> Failed {
    let status = node.file.place.command("status");
    let way_back = node
        .steering
        .overrides
        .get(id)
        .map(|_| format!("; `{}` takes it back", node.file.place.command(&format!("server ready {id}"))));
    let kept = format!(
        "what you said of {id} is kept all the same, and HAProxy follows as soon as it can: see `{status}`{}",
        way_back.unwrap_or_default()
    );
    Failed::refused(failed.refusal.clone().something_changed().done(kept))
}

/// A note where operators and health have taken every server of this backend out of service.
fn nobody_is_left(node: &Node, id: &ServerId) -> Option<String> {
    node.steering.is_nobody_left(&node.serving.config, id).then(|| {
        format!(
            "no server of backend {} takes new requests now: clients get 503 until one is healthy and ready (`{}`)",
            id.backend,
            node.file.place.command(&format!("server ready {id}"))
        )
    })
}

/// A note where an operator's `ready` goes before a file that says otherwise: what holds, and how long.
fn overrules_the_file(node: &Node, id: &ServerId) -> Option<String> {
    let (_, server) = node.serving.config.server(id)?;
    let (word, of_file) = (node.steering.overrides.get(id)?, server.state.value);
    if word.wish().state? != AdminState::Ready || of_file == AdminState::Ready {
        return None;
    }
    let place = &node.file.place;
    let at = At::origin(&place.file, server.state.origin);
    let back = place.command(&format!("server {of_file} {id}"));
    Some(format!(
        "{at}: the file says state = \"{of_file}\", and your word goes before it: {word}{}, over restarts and edits. To \
         have it for good, write state = \"ready\" there; `{back}` takes it back",
        if word.has_end() { "" } else { ", without an end" }
    ))
}
