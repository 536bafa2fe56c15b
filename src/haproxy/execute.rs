//! Carries out the steps of a plan over the admin socket.
//!
//! Decides nothing: the order is the plan's. Steps about servers travel in one pipelined burst; a map is replaced in
//! one transaction, so that a request sees the old map or the new one.

use super::certificates;
use super::command::{CommandRefused, MAX_BYTES, Pipeline, word};
use super::error::AdminError;
use super::servers::{self, Changed};
use super::session::Session;
use super::verb::{judge, server_of, spell, spell_before, words};
use crate::model::AdminState;
use crate::plan::Step;
use crate::sys;
use camino::Utf8Path;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Most commands in one burst: bounds the memory for commands and replies.
const MAX_BURST: usize = 10_000;

/// Why a certificate is not taken away where the one in its place could not be served.
const NOT_SENT: &str = "not sent, because a step about a certificate before it failed";

/// Why a server stays in where the one that was to help it could not be added.
const NOT_RELIEVED: &str = "not sent, because a server could not be added to its backend";

/// What became of the steps. Those that are not listed as failed were done, as HAProxy itself said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// The worker that took them.
    pub pid: u32,
    /// How many were done.
    pub done: usize,
    /// How many servers are out and wait for their last requests before they can be removed.
    pub waiting: usize,
    /// The others, in their order.
    pub failures: Vec<StepFailure>,
}

/// A step that was not done. Shows as `weight be/s1 10 → 30: No such server.`
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct StepFailure {
    /// Its place among the steps, from 0.
    pub index: usize,
    /// The step, for people, without secrets.
    pub step: String,
    /// HAProxy's own words, or why it was not sent.
    pub reason: String,
    /// It waits for a step before it that failed: to take a server away where none was added could leave nobody.
    pub is_withheld: bool,
}

/// The conversation broke off. Some steps may have been done: the caller observes again before anything else.
#[derive(Debug, thiserror::Error)]
#[error("could not send the changes to HAProxy")]
pub struct ExecuteError {
    /// What was known to be done and to have failed before that.
    pub so_far: Executed,
    /// What happened.
    pub source: AdminError,
}

/// Carries out steps in their order, within one deadline. A step that fails does not stop the others, except those
/// about a server whose address could not be set: to make such a server ready would send traffic to the wrong place; and
/// those that take a server away in a backend to which one could not be added.
///
/// Steps follow from what one worker was seen to run: with `seen` (its pid) they go to that one or to none. All of them
/// go over one connection, and so to one worker.
///
/// # Errors
/// Another worker serves than the one that was seen, nobody listens, no permission for the socket, the deadline, or
/// HAProxy hung up in the middle.
pub async fn execute(
    admin_socket: &Utf8Path,
    steps: &[Step],
    seen: Option<u32>,
    deadline: Duration,
) -> Result<Executed, ExecuteError> {
    let mut executed = Executed::default();
    match run(admin_socket, steps, seen, Instant::now() + deadline, &mut executed).await {
        Ok(()) => Ok(executed),
        Err(source) => Err(ExecuteError { so_far: executed, source }),
    }
}

async fn run(
    socket: &Utf8Path,
    steps: &[Step],
    seen: Option<u32>,
    deadline: Instant,
    executed: &mut Executed,
) -> Result<(), AdminError> {
    if steps.is_empty() {
        return Ok(());
    }
    let (mut session, info) = Session::with_serving_worker(socket, deadline).await?;
    if let Some(expected) = seen.filter(|pid| *pid != info.pid) {
        return Err(AdminError::OtherWorker { socket: socket.to_owned(), expected, found: info.pid });
    }
    executed.pid = info.pid;
    let mut burst = Burst::default();
    let mut misplaced = BTreeSet::new();
    let mut unrelieved = BTreeSet::new();
    let mut is_certificate_amiss = false;
    for (index, step) in steps.iter().enumerate() {
        if burst.must_end_before(step) {
            burst.send(&mut session, steps, executed, &mut misplaced).await?;
        }
        if server_of(step).is_some_and(|server| misplaced.contains(&server)) {
            executed.failed(index, step, "not sent, because the server's address could not be set".to_owned());
            continue;
        }
        if leaves(step).is_some_and(|proxy| unrelieved.contains(proxy)) {
            executed.withheld(index, step);
            continue;
        }
        match spell(step) {
            Ok(Some(line)) => match burst.push(index, step, &line) {
                Ok(()) => {}
                Err(refused) => executed.failed(index, step, refused.to_string()),
            },
            Ok(None) => match servers::change(&mut session, step).await? {
                Some(Changed::Done) => executed.done += 1,
                Some(Changed::Waits) => executed.waiting += 1,
                Some(Changed::Refused(reason)) => {
                    if let Step::AddServer { proxy, .. } = step {
                        unrelieved.insert(proxy.as_str());
                    }
                    executed.failed(index, step, reason);
                }
                None => {
                    let outcome = match step {
                        Step::Certificate(_) if is_certificate_amiss => Ok(Err(NOT_SENT.to_owned())),
                        Step::Certificate(change) => certificates::carry_out(&mut session, change).await,
                        _ => replace_map(&mut session, step).await,
                    }?;
                    is_certificate_amiss |= matches!((step, &outcome), (Step::Certificate(_), Err(_)));
                    executed.note(index, step, outcome);
                }
            },
            Err(refused) => executed.failed(index, step, refused.to_string()),
        }
    }
    burst.send(&mut session, steps, executed, &mut misplaced).await
}

impl Executed {
    fn note(&mut self, index: usize, step: &Step, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.done += 1,
            Err(reason) => self.failed(index, step, reason),
        }
    }

    fn failed(&mut self, index: usize, step: &Step, reason: String) {
        self.failures.push(StepFailure {
            index,
            step: step.to_string(),
            reason: sys::redact::redact(reason),
            is_withheld: false,
        });
    }

    fn withheld(&mut self, index: usize, step: &Step) {
        let reason = NOT_RELIEVED.to_owned();
        self.failures.push(StepFailure { index, step: step.to_string(), reason, is_withheld: true });
    }
}

/// The backend that loses a server by this step. A weight is not asked: health lowers it, and a broken server goes out
/// whatever else fails.
fn leaves(step: &Step) -> Option<&str> {
    match step {
        Step::SetState { proxy, to: AdminState::Drain | AdminState::Maint, .. }
        | Step::RemoveServer { proxy, is_out: false, .. } => Some(proxy),
        _ => None,
    }
}

/// Commands that travel together.
#[derive(Default)]
struct Burst<'a> {
    pipeline: Pipeline,
    /// Which step each command's answer decides on.
    indices: Vec<Option<usize>>,
    /// Servers whose address is being set in it.
    moving: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Burst<'a> {
    /// Whether this step can only be sent when the answers to the burst are known.
    fn must_end_before(&self, step: &Step) -> bool {
        self.indices.len() >= MAX_BURST || server_of(step).is_none_or(|server| self.moving.contains(&server))
    }

    fn push(&mut self, index: usize, step: &'a Step, line: &str) -> Result<(), CommandRefused> {
        if let Some(before) = spell_before(step)? {
            self.pipeline.push(&before)?;
            self.indices.push(None);
        }
        self.pipeline.push(line)?;
        self.indices.push(Some(index));
        if let Step::SetAddress { proxy, server, .. } = step {
            self.moving.insert((proxy, server));
        }
        Ok(())
    }

    async fn send(
        &mut self,
        session: &mut Session,
        steps: &'a [Step],
        executed: &mut Executed,
        misplaced: &mut BTreeSet<(&'a str, &'a str)>,
    ) -> Result<(), AdminError> {
        let Self { pipeline, indices, moving: _ } = std::mem::take(self);
        if indices.is_empty() {
            return Ok(());
        }
        let replies = session.run(&pipeline).await?;
        for (index, reply) in indices.into_iter().zip(replies) {
            let Some(index) = index else { continue };
            let step = &steps[index];
            let outcome = judge(step, &reply);
            if let (Err(_), Step::SetAddress { proxy, server, .. }) = (&outcome, step) {
                misplaced.insert((proxy, server));
            }
            executed.note(index, step, outcome);
        }
        Ok(())
    }
}

/// Replaces a map in one transaction: a new version is prepared, filled and, only when every entry was taken,
/// committed; else it is cleared and the old one stays.
///
/// The entries travel as payloads: their lines are read exactly as those of the map's file, without any escaping.
async fn replace_map(session: &mut Session, step: &Step) -> Result<Result<(), String>, AdminError> {
    let Step::ReplaceMap { map, from_entries: _, entries, is_secret } = step else { return Ok(Ok(())) };
    let (id, chunks) = match (word(map), payloads(entries)) {
        (Ok(id), Ok(chunks)) => (id, chunks),
        (Err(refused), _) | (_, Err(refused)) => return Ok(Err(refused.to_string())),
    };
    let prepared = session.ask(&format!("prepare map {id}")).await?;
    let Some(version) = prepared.strip_prefix("New version created: ").and_then(|n| n.trim().parse::<u32>().ok())
    else {
        return Ok(Err(words(&prepared)));
    };
    for batch in chunks.chunks(MAX_BURST) {
        let mut pipeline = Pipeline::default();
        for chunk in batch {
            pipeline.push_payload(&format!("add map @{version} {id}"), chunk)?;
        }
        let replies = session.run(&pipeline).await?;
        if let Some(refused) = replies.iter().find(|reply| !reply.is_empty()) {
            session.ask(&format!("clear map @{version} {id}")).await?;
            // HAProxy's words may repeat the entry.
            let reason = if *is_secret { "HAProxy refused an entry".to_owned() } else { words(refused) };
            return Ok(Err(reason));
        }
    }
    let committed = session.ask(&format!("commit map @{version} {id}")).await?;
    if committed.is_empty() {
        return Ok(Ok(()));
    }
    session.ask(&format!("clear map @{version} {id}")).await?;
    Ok(Err(words(&committed)))
}

/// Entries as payloads that each fit into HAProxy's buffer with the command before them.
fn payloads(entries: &[(String, String)]) -> Result<Vec<String>, CommandRefused> {
    /// Room for the command: an identifier is a path.
    const LIMIT: usize = MAX_BYTES - 4352;
    let mut chunks: Vec<String> = Vec::new();
    for (number, (key, value)) in entries.iter().enumerate() {
        // Never repeats the entry: it may be secret.
        let refused = |problem: &str| Err(CommandRefused(format!("entry {} of the map {problem}", number + 1)));
        if key.is_empty() || key.starts_with('#') || key.contains([' ', '\t']) {
            return refused("has a key that a map file cannot hold (empty, with a blank, or with '#' at its start)");
        }
        if value.starts_with([' ', '\t']) {
            return refused("has a blank at the start of its value, which HAProxy would drop");
        }
        if [key, value].iter().any(|text| text.contains(['\0', '\n', '\r'])) {
            return refused("has a line break or NUL in it");
        }
        let length = key.len() + value.len() + 2;
        if length > LIMIT {
            return refused("is longer than HAProxy's buffer");
        }
        let chunk = match chunks.last_mut() {
            Some(chunk) if chunk.len() + length <= LIMIT => chunk,
            _ => chunks.push_mut(String::with_capacity(LIMIT.min(1024))),
        };
        chunk.push_str(key);
        chunk.push(' ');
        chunk.push_str(value);
        chunk.push('\n');
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::payloads;

    fn entries(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn entries_are_cut_into_payloads_that_fit() {
        assert_eq!(payloads(&entries(&[("a", "1"), ("b", "")])).unwrap(), ["a 1\nb \n"]);
        assert!(payloads(&[]).unwrap().is_empty());
        let many: Vec<_> = (0..3000).map(|i| (format!("key{i}"), "v".repeat(20))).collect();
        let chunks = payloads(&many).unwrap();
        assert!(chunks.len() > 5 && chunks.iter().all(|chunk| chunk.len() <= 11_648));
        assert_eq!(chunks.concat().lines().count(), 3000);
    }

    #[test]
    fn an_entry_that_would_arrive_as_another_is_refused_without_being_repeated() {
        let long = "v".repeat(12_000);
        for (key, value) in [
            ("", "v"),
            ("a b", "v"),
            ("a\tb", "v"),
            ("#k", "v"),
            ("k", " v"),
            ("k", "sk\nx"),
            ("k\0", "v"),
            ("k", &long),
        ] {
            let error = payloads(&entries(&[("fine", "1"), (key, value)])).unwrap_err().to_string();
            assert!(error.starts_with("entry 2 of the map") && !error.contains("sk"), "{error}");
        }
    }
}
