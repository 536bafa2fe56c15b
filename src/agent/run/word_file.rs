//! Operators' words on their way to the disk. A thread of its own writes them down, while HAProxy is told: whoever said
//! something is answered when both have it.

use super::body::Agent;
use super::tasks::{PendingWord, WordAnswer};
use super::work::WORD_PATIENCE;
use crate::agent::history::ledger::told;
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::tell::troubles::Matter;
use crate::store;
use std::time::Instant;

impl Agent {
    /// Writes down what is new, where nothing is being written.
    pub(super) fn write_words(&mut self) {
        if !self.node.steering.word_count.is_behind() || self.writing.is_some() || self.node.is_observer() {
            return;
        }
        let until = self.node.steering.word_count.until_now();
        let (state, overrides) = (self.node.ledger.state.clone(), self.node.steering.overrides.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            (until, store::save_overrides(&state, &overrides).map_err(|e| told(&e)))
        }));
    }

    /// The write has ended; `None`: by a bug of ours.
    pub(super) fn words_written(&mut self, ended: Option<(u64, Result<(), Failed>)>) {
        self.writing = None;
        let broken = || Err(Failed::refused("to write them broke off by a bug of hapilot"));
        let (until, result) = ended.unwrap_or_else(|| (self.node.steering.word_count.until_now(), broken()));
        self.node.words_kept(until, result);
        self.send_word_answers();
    }

    /// Answers who said something, as soon as it is written down.
    pub(in crate::agent) fn answer_word(&mut self, word: PendingWord, result: Result<Report, Attempt>) {
        let PendingWord { id, reply, began, steps, .. } = word;
        let answer = self.node.word_followed(&id, steps, result, began);
        let word = self.node.steering.word_count.until_now();
        self.answers.push(WordAnswer { reply, answer, word, until: began + WORD_PATIENCE });
        self.send_word_answers();
    }

    /// Sends what waits no more. A disk that hangs keeps nobody waiting for ever.
    pub(super) fn send_word_answers(&mut self) {
        let (now, count) = (Instant::now(), self.node.steering.word_count);
        let is_ready = |answer: &mut WordAnswer| answer.word <= count.written || answer.until <= now;
        let ready: Vec<WordAnswer> = self.answers.extract_if(.., is_ready).collect();
        for WordAnswer { reply, answer, word, .. } in ready {
            let answer = answer.map(|mut report| {
                if word > count.written {
                    let state = &self.node.ledger.state;
                    report.notes.push(format!(
                        "this is not yet kept over a restart: the disk of {state} has not answered for {} s",
                        WORD_PATIENCE.as_secs()
                    ));
                }
                report.notes.extend(self.node.troubles.of(Matter::Words).map(ToString::to_string));
                report
            });
            // Whoever asked may be gone.
            let _ = reply.send(answer.map_err(Attempt::into_failed));
        }
    }

    /// The agent ends: what was said is written down, where the disk answers.
    pub(super) async fn close_words(&mut self) {
        let write = async {
            loop {
                match self.writing.as_mut() {
                    Some(writing) => {
                        let ended = writing.await.ok();
                        self.words_written(ended);
                    }
                    None if self.node.steering.word_count.is_behind() && !self.node.is_observer() => self.write_words(),
                    None => break,
                }
            }
        };
        if tokio::time::timeout(WORD_PATIENCE, write).await.is_err() {
            tracing::error!("the disk does not answer: what operators said last may be lost");
        }
    }
}
