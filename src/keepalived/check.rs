//! `keepalived -t`, judged by what it says: its exit code is 5 for harmless warnings too, and 0 for an empty file.

use crate::sys::process::{self, ProcessError};
use camino::Utf8Path;
use std::time::Duration;

/// What is kept of its output.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// The file may not be served.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It could not be run.
    #[error("could not ask the Keepalived binary")]
    Process(#[from] ProcessError),
    /// It was killed at the deadline.
    #[error("`keepalived -t` did not end within {0:?}")]
    Deadline(Duration),
    /// It crashed.
    #[error("`keepalived -t` crashed ({0})")]
    Crashed(std::process::ExitStatus),
    /// It says what it does not like, a line each.
    #[error("Keepalived does not accept the file:\n{}", .0.join("\n"))]
    Refused(Vec<String>),
}

/// Lets the binary judge a file, in this network namespace: interfaces are looked up.
///
/// # Errors
/// Any word against the file; `dynamic` interfaces and missing scripts included, because none of them is meant.
pub async fn check(binary: &Utf8Path, config: &Utf8Path, deadline: Duration) -> Result<(), CheckError> {
    let done = process::run(binary, &["-t", "-f", config.as_str()], deadline, MAX_OUTPUT_BYTES).await?;
    if done.timed_out {
        return Err(CheckError::Deadline(deadline));
    }
    if done.status.code().is_none() {
        return Err(CheckError::Crashed(done.status));
    }
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let complaints: Vec<String> = said
        .iter()
        .flat_map(|text| text.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(Into::into)
        .collect();
    match (complaints.is_empty(), done.status.success()) {
        (true, true) => Ok(()),
        (true, false) => Err(CheckError::Refused(vec![format!("no reason given; {}", done.status)])),
        (false, _) => Err(CheckError::Refused(complaints)),
    }
}
