//! Keeps a git repository of the confirmed revisions, beside the loop: nothing waits for it.
//!
//! What the repository has is read from the repository itself, each time: what was missed while git failed, or while no
//! agent ran, is committed later, in the order of the revisions, as far as the history still has them.

use super::ledger::Ledger;
use crate::agent::sources::place::Place;
use crate::agent::tell::bulletin::LAST_WRITE;
use crate::agent::tell::refusal::Refusal;
use crate::config::{Config, own_vips};
use crate::render;
use crate::store::git::{Commit, GitError, Repository};
use crate::store::{Manifest, Revisions};
use crate::sys;
use camino::Utf8PathBuf;
use jiff::Timestamp;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// So long after a revision: a word on it (`apply --reason`) may come a moment later.
const SOON: Duration = Duration::from_secs(1);
/// First and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// Revisions that are committed at once…
const MAX_BATCH: usize = 50;
/// …and the size of their files, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// What was done, and what is wrong.
#[derive(Debug)]
pub(in crate::agent) struct GitBook {
    /// What the last round was for; another repository or node begins anew.
    repository: Option<(Utf8PathBuf, String)>,
    /// The changes of the ledger that are known, and those that are committed.
    seen: Option<u64>,
    done: Option<u64>,
    not_before: Instant,
    pause: Duration,
    round: Option<JoinHandle<(u64, Result<(), GitError>)>>,
    problem: Option<String>,
}

impl Default for GitBook {
    fn default() -> Self {
        let not_before = Instant::now();
        Self { repository: None, seen: None, done: None, not_before, pause: PAUSES.0, round: None, problem: None }
    }
}

impl GitBook {
    /// Commits what is new, where it is time. `ledger` is what this life has written.
    pub async fn keep(&mut self, config: &Config, place: &Place, ledger: &Ledger) {
        if self.round.as_ref().is_some_and(JoinHandle::is_finished) {
            self.ended().await;
        }
        let wanted = config.history.git.as_ref().map(|path| (path.value.clone(), config.node.name.value.to_string()));
        if self.round.is_none() {
            self.turn_to(wanted);
        }
        let Some((path, node)) = &self.repository else { return };
        if self.seen != Some(ledger.changes) {
            self.seen = Some(ledger.changes);
            self.not_before = self.not_before.max(Instant::now() + SOON);
        }
        let is_behind = self.done != self.seen || self.problem.is_some();
        if !is_behind || self.round.is_some() || Instant::now() < self.not_before {
            return;
        }
        let round = Round {
            path: path.clone(),
            node: node.clone(),
            place: place.clone(),
            revisions: Revisions::read_only(&ledger.state),
        };
        let changes = ledger.changes;
        self.round = Some(tokio::spawn(async move { (changes, round.go().await) }));
    }

    /// Another repository begins anew. Whether it is well is not known before its first round, so that the trouble with the
    /// one before stands until then.
    fn turn_to(&mut self, wanted: Option<(Utf8PathBuf, String)>) {
        if wanted != self.repository {
            let problem = self.problem.take().filter(|_| wanted.is_some());
            *self = Self { repository: wanted, problem, ..Self::default() };
        }
    }

    /// Whether the file names a repository.
    pub fn is_asked_for(&self) -> bool {
        self.repository.is_some()
    }

    /// When [`Self::keep`] has something to do. `None`: not before something changes.
    pub fn next_wake(&self, ledger: &Ledger) -> Option<Instant> {
        self.repository.as_ref()?;
        let is_behind = self.done != Some(ledger.changes) || self.problem.is_some();
        (self.round.is_none() && is_behind).then_some(self.not_before)
    }

    /// Why the repository does not have what it should, while it does not.
    pub fn problem(&self) -> Option<Refusal> {
        self.problem.as_ref().map(Refusal::notice)
    }

    /// The agent ends: what is under way may end, too; the rest comes with the next life.
    pub async fn close(mut self) {
        if let Some(round) = &mut self.round
            && tokio::time::timeout(LAST_WRITE, &mut *round).await.is_err()
        {
            round.abort();
        }
    }

    async fn ended(&mut self) {
        let Some(round) = self.round.take() else { return };
        let result = match round.await {
            Ok((changes, Ok(()))) => {
                (self.done, self.pause, self.problem) = (Some(changes), PAUSES.0, None);
                return;
            }
            Ok((_, Err(why))) => sys::chain(&why),
            Err(broken) => format!("this broke off by a bug of hapilot: {broken}"),
        };
        let path = self.repository.iter().map(|(path, _)| path.as_str()).next().unwrap_or_default();
        self.problem = Some(format!("the git repository {path} is behind the history: {result}"));
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSES.1);
    }
}

/// One time through all of it.
struct Round {
    path: Utf8PathBuf,
    node: String,
    place: Place,
    revisions: Revisions,
}

impl Round {
    async fn go(self) -> Result<(), GitError> {
        let repository = Repository::open(&self.path, &self.node).await?;
        let last = repository.last().await?;
        let revisions = self.revisions.clone();
        let good = tokio::task::spawn_blocking(move || good(&revisions)).await.unwrap_or_default();
        let is_new = |manifest: &&Manifest| {
            // After a restore numbers come again, later.
            last.is_none_or(|last| manifest.revision > last.revision || manifest.created > last.created)
        };
        let mut numbers: Vec<u32> = good.iter().filter(is_new).map(|manifest| manifest.revision).collect();
        numbers.reverse();
        while !numbers.is_empty() {
            let (revisions, place) = (self.revisions.clone(), self.place.clone());
            let read = tokio::task::spawn_blocking(move || {
                let batch = batch(&revisions, &place, &mut numbers);
                (batch, numbers)
            });
            let Ok((batch, rest)) = read.await else { break };
            numbers = rest;
            if !batch.is_empty() {
                repository.add(&batch, Timestamp::now()).await?;
            }
        }
        let tags = good.iter().flat_map(|manifest| manifest.tags.iter().map(|tag| (tag.clone(), manifest.revision)));
        let tags: Vec<(String, u32)> = tags.collect();
        repository.tag(&tags).await?;
        repository.push(&tags).await?;
        Ok(())
    }
}

/// What is known of every confirmed revision, in their order.
fn good(revisions: &Revisions) -> Vec<Manifest> {
    let all = revisions.list().unwrap_or_default();
    all.into_iter().filter_map(|listed| listed.manifest.ok()).filter(Manifest::is_good).collect()
}

/// The next ones, taken from the end of `numbers`. One that is damaged, or forgotten by now, is left out.
fn batch(revisions: &Revisions, place: &Place, numbers: &mut Vec<u32>) -> Vec<Commit> {
    let (mut commits, mut bytes) = (vec![], 0);
    while commits.len() < MAX_BATCH && bytes < MAX_BYTES {
        let Some(number) = numbers.pop() else { break };
        let revision = match revisions.load(number) {
            Ok(revision) => revision,
            Err(why) => {
                tracing::warn!(revision = number, "a revision is not committed to git: {}", sys::chain(&why));
                continue;
            }
        };
        let toml = revision.files.get("hapilot.toml").map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let config = toml.and_then(|toml| place.parse(&toml).ok()).filter(|config| own_vips(config).next().is_some());
        let keepalived = config.and_then(|config| render::keepalived(&config).ok());
        let more = keepalived.map(|text| ("keepalived.conf".to_owned(), text.into_bytes()));
        let commit = Commit::of(revision, more.into_iter().collect());
        bytes += commit.size();
        commits.push(commit);
    }
    commits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_repository_mends_nothing_before_it_was_tried() {
        let at = |path: &str| Some((Utf8PathBuf::from(path), "lb1".to_owned()));
        let mut book = GitBook::default();
        book.turn_to(at("/a"));
        assert!(book.problem().is_none() && book.is_asked_for());
        book.problem = Some("the git repository /a is behind the history: it is a file".to_owned());
        book.turn_to(at("/b"));
        assert!(book.problem().is_some_and(|problem| problem.to_string().contains("/a is behind")));
        book.turn_to(None);
        assert!(book.problem().is_none() && !book.is_asked_for());
    }
}
