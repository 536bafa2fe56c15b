//! One writer per node: the lock of the state directory (invariant I6).

use crate::agent::outcome::report::Failed;
use crate::agent::sources::place::Place;
use crate::agent::tell::refusal::Refusal;
use crate::config;
use crate::sys;
use camino::Utf8Path;
use std::time::{Duration, Instant};

/// A command that works alone is done within it, `haproxy -c` included.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// An agent that ends lets go of its lock a moment before its socket.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Takes the lock; waits for a command that works alone (the guard of a deadline may be rolling back), not for an agent.
pub(in crate::agent) async fn take_lock(place: &Place, state: &Utf8Path) -> Result<sys::lock::Lock, Failed> {
    let began = Instant::now();
    let socket = config::peek(&place.glance(), "api", "socket");
    let socket = socket.as_deref().unwrap_or(config::DEFAULT_SOCKET);
    loop {
        let taken = sys::lock::Lock::acquire(&state.join("lock"));
        let answers = |socket: &str| std::os::unix::net::UnixStream::connect(socket).is_ok();
        // One that was started with another socket than the file names now has told its own.
        let told = match &taken {
            Err(sys::lock::LockError::Held { socket: Some(told), .. }) => Some(told.clone()),
            _ => None,
        };
        let socket = told.as_ref().map_or(socket, |told| told.as_str());
        let is_agent = answers(socket);
        let error = match taken {
            Ok(lock) if !is_agent => return Ok(lock),
            // Its state directory was deleted, and its lock with it; or it is just ending.
            Ok(_) if began.elapsed() >= END_PATIENCE => {
                return Err(Failed::refused(format!(
                    "another hapilot works on this node: it answers on {socket}, though nobody holds {state}/lock"
                )));
            }
            Ok(lock) => {
                drop(lock);
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(error) => error,
        };
        if is_agent || began.elapsed() >= LOCK_PATIENCE || matches!(error, sys::lock::LockError::Io { .. }) {
            let (words, is_io) = (sys::chain(&error), matches!(error, sys::lock::LockError::Io { .. }));
            let refusal = match error {
                sys::lock::LockError::Io { .. } if !is_agent => {
                    Refusal::new(format_args!("the state directory cannot be used: {words}"))
                }
                _ => Refusal::new(format_args!("another hapilot works on this node: {words}")),
            };
            // The agent's own start has no `--socket` that could be wrong.
            let asked = place.socket.as_ref().filter(|asked| is_agent && asked.as_str() != socket);
            return Err(Failed::refused(match asked {
                Some(asked) => refusal.help(format_args!(
                    "nobody answers on {asked}; the agent of this file answers on {socket}: name that one, or leave out \
                     --socket and HAPILOT_SOCKET"
                )),
                None if is_agent => refusal.help(format_args!("it answers on {socket}: --socket {socket}")),
                None if is_io => refusal,
                None => refusal.help(format_args!(
                    "nobody answers on {socket}: where the agent listens on another socket than the file says now, name it \
                     with `--socket PATH`, or restart the agent: systemctl restart hapilot"
                )),
            }));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
