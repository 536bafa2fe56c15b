//! Proves that a reload took place: by evidence, not by the master's word alone (invariant I7).

use super::answers::{self, Answer};
use super::error::AdminError;
use super::handover;
use super::listeners::Listener;
use super::master::processes_until;
use super::session::{RETRY, Session};
use crate::plan::Runtime;
use camino::Utf8Path;
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// So many binds are asked at once.
const MAX_AT_ONCE: usize = 32;

/// Where a HAProxy is asked.
#[derive(Clone, Copy, Debug)]
pub struct Sockets<'a> {
    /// `stats socket`, level admin.
    pub admin: &'a Utf8Path,
    /// `-S`, level operator or admin; without one the proof rests on the worker alone.
    pub master: Option<&'a Utf8Path>,
}

/// What the evidence says.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// The worker that serves now.
    pub pid: u32,
    /// What could not be proven but is no reason to doubt the reload, for people: addresses of another node, binds
    /// that only accept, stick-tables that were not handed over.
    pub remarks: Vec<String>,
}

/// What was missing when the deadline came. The old worker probably serves: the caller puts the file back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reload is not proven: {}", missing.join("; "))]
pub struct Unproven {
    /// Each piece of evidence that was missing, for people.
    pub missing: Vec<String>,
}

/// Waits until all the evidence is there: another worker process than before, no failed reload, `marker` within the
/// worker's description, a worker that is not stopping, and an answer of that very worker on every listener. Then it
/// waits, bounded, for the stick-tables.
///
/// # Errors
/// Lists everything that was missing at the deadline.
pub async fn prove_reload(
    sockets: Sockets<'_>,
    before: &Runtime,
    marker: &str,
    listeners: &[Listener],
    deadline: Duration,
) -> Result<Proof, Unproven> {
    let deadline = Instant::now() + deadline;
    let mut last = Unproven { missing: vec!["nothing answered in time".to_owned()] };
    let mut binds = Binds { listeners, worker: None, settled: vec![None; listeners.len()] };
    let mut is_first_round = true;
    loop {
        match timeout_at(deadline, evidence(sockets, before, marker, &mut binds, deadline)).await {
            Ok(Ok(pid)) => {
                let mut remarks = binds.remarks();
                remarks.extend(handover::tables(sockets.admin, before, deadline).await);
                return Ok(Proof { pid, remarks });
            }
            // What the deadline itself cut off says less than the round before.
            Ok(Err(_)) if Instant::now() >= deadline && !is_first_round => return Err(last),
            Ok(Err(missing)) => last = Unproven { missing },
            Err(_) => return Err(last),
        }
        if Instant::now() + RETRY >= deadline {
            return Err(last);
        }
        is_first_round = false;
        sleep(RETRY).await;
    }
}

async fn evidence(
    sockets: Sockets<'_>,
    before: &Runtime,
    marker: &str,
    binds: &mut Binds<'_>,
    deadline: Instant,
) -> Result<u32, Vec<String>> {
    let worker = match Session::with_serving_worker(sockets.admin, deadline).await {
        Ok((_, info)) => info,
        Err(error) => return Err(vec![describe(&error)]),
    };
    let mut missing = Vec::new();
    if worker.pid == before.pid {
        missing.push(format!("the worker is still the one from before (pid {})", worker.pid));
    }
    match &worker.description {
        Some(description) if description.contains(marker) => {}
        Some(description) => missing.push(format!("the worker calls itself {description:?} instead of {marker:?}")),
        None => missing.push(format!("the worker has no description, where {marker:?} is expected")),
    }
    if let Some(socket) = sockets.master {
        match processes_until(socket, deadline).await {
            Ok(found) => {
                // The count is that of failures in a row: a reload that succeeds sets it to 0.
                if found.master.failed != 0 {
                    missing.push(format!("the master counts {} failed reloads", found.master.failed));
                }
            }
            Err(error) => missing.push(describe(&error)),
        }
    }
    // As long as the old worker is the one to talk to, its binds prove nothing.
    if missing.is_empty() {
        missing.extend(binds.ask(worker.pid).await);
    }
    if missing.is_empty() { Ok(worker.pid) } else { Err(missing) }
}

/// The listeners, and which of them have answered already.
struct Binds<'a> {
    listeners: &'a [Listener],
    /// The worker that `settled` is about.
    worker: Option<u32>,
    settled: Vec<Option<Answer>>,
}

impl Binds<'_> {
    /// Asks those that have not answered yet for this worker; answers what is missing.
    async fn ask(&mut self, worker: u32) -> Vec<String> {
        if self.worker != Some(worker) {
            self.worker = Some(worker);
            self.settled.fill(None);
        }
        let mut missing = Vec::new();
        let open: Vec<usize> = (0..self.listeners.len()).filter(|at| self.settled[*at].is_none()).collect();
        for some in open.chunks(MAX_AT_ONCE) {
            let replies = join_all(some.iter().map(|at| answers::ask(&self.listeners[*at]))).await;
            for (at, reply) in some.iter().zip(replies) {
                let Listener { proxy, address, .. } = &self.listeners[*at];
                match reply {
                    Ok(Answer::Worker(pid)) if pid != worker => missing.push(format!(
                        "{address} of {proxy} is still answered by another worker (pid {pid}, the new one is {worker})"
                    )),
                    Ok(answer) => self.settled[*at] = Some(answer),
                    Err(silent) => missing.push(format!("{address} of {proxy} {silent}")),
                }
            }
        }
        missing
    }

    /// What was settled without a proof.
    fn remarks(&self) -> Vec<String> {
        let of = |(listener, answer): (&Listener, &Option<Answer>)| {
            let Listener { proxy, address, .. } = listener;
            match answer.as_ref()? {
                Answer::Worker(_) => None,
                Answer::Accepts(why) => {
                    Some(format!("{address} of {proxy} accepts connections; by which worker is not provable: {why}"))
                }
                Answer::Elsewhere => {
                    Some(format!("{address} of {proxy} is not provable here: the address is not on this node now"))
                }
            }
        };
        self.listeners.iter().zip(&self.settled).filter_map(of).collect()
    }
}

fn describe(error: &AdminError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
