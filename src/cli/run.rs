//! `run`: the agent in the foreground, as systemd and containers want it.

use super::args;
use super::output::{Failure, Output};
use crate::agent::{Agent, At, Failed, Node, Objection, Place, SecretUse};
use crate::api;
use crate::model::{Origin, Sourced};
use crate::sys;
use crate::sys::redact::redact_bytes;
use camino::Utf8Path;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// `hapilot run`: until SIGTERM or SIGINT.
pub(super) async fn run(place: Place, options: args::Run, out: Output) -> Result<(), Failure> {
    log_to_stderr(out.json);
    sys::process::refuse_huge_pages();
    if let Err(error) = sys::descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let node = match options.observe {
        // Without the lock, the socket is what tells of another.
        true if super::agent::agent(&place)?.is_some() => {
            return Err(Failure::refused("an agent runs on this node; its `plan` and `status` say the same"));
        }
        true => Node::observe_only(place).await.map_err(Failure::from)?,
        false => Node::open(place.using(SecretUse::Kept)).await.map_err(Failure::from)?,
    };
    let Sourced { value: socket, origin } = node.serving.config.api.socket.clone();
    let listen = node.serving.config.api.listen;
    let file = node.file.place.file.clone();
    let listener = api::Listener::bind(&socket).map_err(|e| Failure::from(unbound(&file, &socket, origin, &e)))?;
    node.tell_socket();
    let (agent, handle) = Agent::new(node);
    let readers = listen.map(|bind| tokio::spawn(api::serve_readers(bind.to_bind(), handle.clone())));
    let server = tokio::spawn(api::serve(listener, handle));
    // Not under systemd: there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(%socket, "hapilot {} runs", env!("CARGO_PKG_VERSION"));
    let result = Box::pin(agent.run()).await;
    server.abort();
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    // The socket's file goes away with the task.
    let _ = server.await;
    result.map_err(Failure::from)
}

/// Why nobody could talk to this agent.
fn unbound(file: &Utf8Path, socket: &Utf8Path, origin: Option<Origin>, error: &std::io::Error) -> Failed {
    let what = format!("`api.socket`: the command line's socket {socket} cannot be bound: {error}");
    let objection = Objection::new(what).at(At::origin(file, origin));
    let lack = sys::folders::lack_of(socket).map(|lack| lack.help);
    let other = "name another one: [api] socket = \"/run/hapilot/hapilot.sock\"";
    Failed::refused(lack.into_iter().fold(objection, Objection::help).help(other))
}

/// Returns at SIGINT or SIGTERM.
pub(super) async fn until_stopped() {
    match sys::signals::Signals::new() {
        Ok(mut signals) => while signals.next().await != sys::signals::Request::Stop {},
        Err(error) => tracing::error!(%error, "signals cannot be received"),
    }
}

/// One line an event on standard error; `HAPILOT_LOG` (or `RUST_LOG`) chooses what, info by default.
pub(super) fn log_to_stderr(json: bool) {
    let filter = EnvFilter::try_from_env("HAPILOT_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new("info"));
    // It tells of each event in a watched directory; where the log is in one, each line would be the next event.
    let filter = match "notify=warn".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Clean(std::io::stderr())).with_target(false);
    // It would tell of a closed standard error by a panic on standard error.
    let builder = builder.log_internal_errors(false);
    let is_set =
        if json { builder.json().try_init() } else { builder.with_ansi(std::io::stderr().is_terminal()).try_init() };
    if is_set.is_err() {
        // A second subscriber in one process happens in tests only; the first one stays.
    }
}

/// Standard error behind the door that no secret passes: whatever a line quotes.
struct Clean(std::io::Stderr);

impl std::io::Write for Clean {
    /// Called once for each line.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(&redact_bytes(line.to_vec()))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
