//! `ip` and `nft` as one line: what they say, or why not.

use crate::sys;
use crate::sys::process;
use std::io::ErrorKind;
use std::time::Duration;

/// Each takes some 3 ms; a machine that swaps takes longer.
const DEADLINE: Duration = Duration::from_secs(5);
/// More than the largest listing of a node with twenty addresses and foreign tables.
const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// Its standard output; or a reason, in the command's own first words.
pub(super) async fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let done =
        process::run(program.into(), args, DEADLINE, MAX_OUTPUT_BYTES).await.map_err(|e| match e.source.kind() {
            ErrorKind::NotFound => format!("`{program}` is not installed"),
            _ => sys::chain(&e),
        })?;
    if done.timed_out {
        return Err(format!("`{program}` did not end within {} s", DEADLINE.as_secs()));
    }
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let reason = said.lines().map(str::trim).find(|line| !line.is_empty());
    // The reason alone, without who says it.
    let reason =
        reason.map(|line| line.trim_start_matches("RTNETLINK answers: ").trim_start_matches("Error: ").to_owned());
    Err(reason.unwrap_or_else(|| format!("`{program}`: {}", done.status)))
}

/// As [`run`], read as JSON. No output is an empty list.
pub(super) async fn json(program: &str, args: &[&str]) -> Result<serde_json::Value, String> {
    let text = run(program, args).await?;
    if text.trim().is_empty() {
        return Ok(serde_json::Value::Array(vec![]));
    }
    serde_json::from_str(&text).map_err(|e| format!("`{program} {}` answers no JSON: {e}", args.join(" ")))
}
