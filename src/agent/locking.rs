//! One writer per node: the lock of the state directory (invariant I6).

use super::report::Failed;
use super::sources::Place;
use crate::config;
use crate::sys;
use camino::Utf8Path;
use std::time::{Duration, Instant};

/// A command that works alone is done within it, `haproxy -c` included.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Takes the lock; waits for a command that works alone (the guard of a deadline may be rolling back), not for an agent.
pub(super) async fn take_lock(place: &Place, state: &Utf8Path) -> Result<sys::lock::Lock, Failed> {
    let began = Instant::now();
    let text = fs_err::read_to_string(&place.file).unwrap_or_default();
    let socket = config::peek(&text, "api", "socket");
    let socket = socket.as_deref().unwrap_or(config::DEFAULT_SOCKET);
    loop {
        let error = match sys::lock::Lock::acquire(&state.join("lock")) {
            Ok(lock) => return Ok(lock),
            Err(error) => error,
        };
        let is_agent = std::os::unix::net::UnixStream::connect(socket).is_ok();
        if is_agent || began.elapsed() >= LOCK_PATIENCE || matches!(error, sys::lock::LockError::Io { .. }) {
            return Err(Failed::refused(format!("another hapilot works on this node: {}", sys::chain(&error))));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
