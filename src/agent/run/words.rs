//! Operators' words on their way to the disk. A thread of its own writes them down, while HAProxy is told: whoever said
//! something is answered when both have it.

use super::tasks::{PendingWord, WordAnswer, Writing};
use crate::agent::history::ledger::told;
use crate::agent::node::Node;
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::tell::troubles::Matter;
use crate::store;
use std::time::{Duration, Instant};

/// Who said something is answered after this, also where HAProxy does not take it while a change is under way.
pub(super) const WORD_PATIENCE: Duration = Duration::from_secs(10);

/// Operators' words, from who says one to its answer.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Those that HAProxy may not have yet.
    pub pending: Vec<PendingWord>,
    /// Those that are being written down.
    pub writing: Option<Writing>,
    /// Answers that wait for that.
    pub answers: Vec<WordAnswer>,
}

impl Words {
    /// Writes down what is new, where nothing is being written.
    pub(super) fn write(&mut self, node: &Node) {
        if !node.steering.word_count.is_behind() || self.writing.is_some() || node.is_observer() {
            return;
        }
        let until = node.steering.word_count.until_now();
        let (state, overrides) = (node.ledger.state.clone(), node.steering.overrides.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            (until, store::save_overrides(&state, &overrides).map_err(|e| told(&e)))
        }));
    }

    /// The write has ended; `None`: by a bug of ours.
    pub(super) fn written(&mut self, ended: Option<(u64, Result<(), Failed>)>, node: &mut Node) {
        self.writing = None;
        let broken = || Err(Failed::refused("to write them broke off by a bug of hapilot"));
        let (until, result) = ended.unwrap_or_else(|| (node.steering.word_count.until_now(), broken()));
        node.words_kept(until, result);
        self.send(node);
    }

    /// Answers who said something, as soon as it is written down.
    pub(super) fn answer(&mut self, word: PendingWord, result: Result<Report, Attempt>, node: &mut Node) {
        let PendingWord { id, reply, began, steps, .. } = word;
        let answer = node.word_followed(&id, steps, result, began);
        let word = node.steering.word_count.until_now();
        self.answers.push(WordAnswer { reply, answer, word, until: began + WORD_PATIENCE });
        self.send(node);
    }

    /// Sends what waits no more. A disk that hangs keeps nobody waiting for ever.
    pub(super) fn send(&mut self, node: &Node) {
        let (now, count) = (Instant::now(), node.steering.word_count);
        let is_ready = |answer: &mut WordAnswer| answer.word <= count.written || answer.until <= now;
        let ready: Vec<WordAnswer> = self.answers.extract_if(.., is_ready).collect();
        for WordAnswer { reply, answer, word, .. } in ready {
            let answer = answer.map(|mut report| {
                if word > count.written {
                    let state = &node.ledger.state;
                    report.notes.push(format!(
                        "this is not yet kept over a restart: the disk of {state} has not answered for {} s",
                        WORD_PATIENCE.as_secs()
                    ));
                }
                report.notes.extend(node.troubles.of(Matter::Words).map(ToString::to_string));
                report
            });
            // Whoever asked may be gone.
            let _ = reply.send(answer.map_err(Attempt::into_failed));
        }
    }

    /// The agent ends: what was said is written down, where the disk answers.
    pub(super) async fn close(&mut self, node: &mut Node) {
        let write = async {
            loop {
                match self.writing.as_mut() {
                    Some(writing) => {
                        let ended = writing.await.ok();
                        self.written(ended, node);
                    }
                    None if node.steering.word_count.is_behind() && !node.is_observer() => self.write(node),
                    None => break,
                }
            }
        };
        if tokio::time::timeout(WORD_PATIENCE, write).await.is_err() {
            tracing::error!("the disk does not answer: what operators said last may be lost");
        }
    }
}
