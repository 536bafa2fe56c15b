//! Proves that a reload took place: by evidence, not by the master's word alone (invariant I7).

use super::error::AdminError;
use super::master::processes_until;
use super::observe::observe;
use super::session::RETRY;
use crate::plan::Runtime;
use crate::sys::ports;
use camino::Utf8Path;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Time for one connection to one bind, so that a single one that hangs leaves time for another round.
const ANSWER: Duration = Duration::from_secs(2);

/// Where a HAProxy is asked.
#[derive(Clone, Copy, Debug)]
pub struct Sockets<'a> {
    /// `stats socket`, level admin.
    pub admin: &'a Utf8Path,
    /// `-S`, level operator or admin; without one the proof rests on the worker alone.
    pub master: Option<&'a Utf8Path>,
}

/// What was missing when the deadline came. The old worker probably serves: the caller puts the file back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reload is not proven: {}", missing.join("; "))]
pub struct Unproven {
    /// Each piece of evidence that was missing, for people.
    pub missing: Vec<String>,
}

/// Waits until all the evidence is there: another worker process than before, no failed reload, `marker` within the
/// worker's description, a worker that is not stopping, and a TCP answer on every bind. Answers what then runs.
///
/// # Errors
/// Lists everything that was missing at the deadline.
pub async fn prove_reload(
    sockets: Sockets<'_>,
    before: &Runtime,
    marker: &str,
    binds: &[SocketAddr],
    deadline: Duration,
) -> Result<Runtime, Unproven> {
    let deadline = Instant::now() + deadline;
    let mut last = Unproven { missing: vec!["nothing answered in time".to_owned()] };
    loop {
        match timeout_at(deadline, evidence(sockets, before, marker, binds, deadline)).await {
            Ok(Ok(runtime)) => return Ok(runtime),
            Ok(Err(missing)) => last = Unproven { missing },
            Err(_) => return Err(last),
        }
        if Instant::now() + RETRY >= deadline {
            return Err(last);
        }
        sleep(RETRY).await;
    }
}

async fn evidence(
    sockets: Sockets<'_>,
    before: &Runtime,
    marker: &str,
    binds: &[SocketAddr],
    deadline: Instant,
) -> Result<Runtime, Vec<String>> {
    let maps: Vec<String> = before.maps.keys().cloned().collect();
    let mut runtime = match observe(sockets.admin, None, &maps).await {
        Ok(Some(runtime)) => runtime,
        Ok(None) => return Err(vec![format!("nobody listens on {}", sockets.admin)]),
        Err(error) => return Err(vec![error.to_string()]),
    };
    let mut missing = Vec::new();
    if runtime.pid == before.pid {
        missing.push(format!("the worker is still the one from before (pid {})", runtime.pid));
    }
    match &runtime.description {
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
                runtime.master = Some(found.master_beside(runtime.pid));
            }
            Err(error) => missing.push(describe(&error)),
        }
    }
    for bind in binds {
        if let Err(error) = ports::answers(*bind, ANSWER).await {
            missing.push(format!("{bind} does not answer: {error}"));
        }
    }
    if missing.is_empty() { Ok(runtime) } else { Err(missing) }
}

fn describe(error: &AdminError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
