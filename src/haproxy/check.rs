//! The binary's own words: `haproxy -c` and `haproxy -v`, and the line that starts it.

use crate::plan::Version;
use crate::sys::process::{self, ProcessError};
use camino::Utf8Path;
use std::time::Duration;

/// Output of `haproxy -c` that is kept: 10,000 lines of warnings.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Time for `haproxy -v`, which does nothing.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// What `haproxy -c` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// It exited with 0. Warnings may still be in `stderr`; and a truncated file may pass: length and digest decide
    /// on that.
    pub ok: bool,
    /// Everything that it printed to standard error, at most 1 MiB.
    pub stderr: String,
}

/// The binary gave no verdict.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// It could not be run.
    #[error("could not ask the HAProxy binary")]
    Process(#[from] ProcessError),
    /// It was killed at the deadline.
    #[error("{doing} did not end within {deadline:?}")]
    Deadline {
        /// What was run.
        doing: String,
        /// How long it had.
        deadline: Duration,
    },
    /// It is no HAProxy, or a broken one.
    #[error("`{binary} -v` printed no version")]
    NoVersion {
        /// The binary.
        binary: String,
    },
}

/// Lets the binary judge a configuration file, in this process's environment: it should be that of the service, since
/// the file may refer to variables. Of those that hold a secret it gets only the ones that are named here.
///
/// # Errors
/// The binary is missing or does not end in time (5,000 servers with TLS take a second). A refusal is no error.
pub async fn check(
    binary: &Utf8Path,
    config: &Utf8Path,
    variables: &[String],
    deadline: Duration,
) -> Result<CheckReport, BinaryError> {
    let arguments = ["-c", "-f", config.as_str()];
    let done = process::run_with(binary, &arguments, variables, deadline, MAX_OUTPUT_BYTES).await?;
    if done.timed_out {
        return Err(BinaryError::Deadline { doing: format!("{binary} -c -f {config}"), deadline });
    }
    Ok(CheckReport { ok: done.status.success(), stderr: String::from_utf8_lossy(&done.stderr).into_owned() })
}

/// The version of a binary, which after an upgrade of the package is not that of the running worker.
///
/// # Errors
/// The binary is missing, hangs, or is no HAProxy.
pub async fn binary_version(binary: &Utf8Path) -> Result<Version, BinaryError> {
    let done = process::run(binary, &["-v"], VERSION_DEADLINE, MAX_OUTPUT_BYTES).await?;
    if done.timed_out {
        return Err(BinaryError::Deadline { doing: format!("{binary} -v"), deadline: VERSION_DEADLINE });
    }
    parse_version(&String::from_utf8_lossy(&done.stdout))
        .ok_or_else(|| BinaryError::NoVersion { binary: binary.to_string() })
}

/// `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/`; 1.x wrote `HA-Proxy`.
fn parse_version(text: &str) -> Option<Version> {
    let line = text.lines().find_map(|line| line.split_once("roxy version "))?;
    line.1.split_ascii_whitespace().next()?.parse().ok()
}

/// The line with which an operator starts HAProxy as hapilot expects it: master-worker, with a master socket.
pub fn start_command(binary: &Utf8Path, config: &Utf8Path, master_socket: &Utf8Path) -> String {
    format!("{} -Ws -f {} -S {}", quoted(binary), quoted(config), quoted(master_socket))
}

fn quoted(path: &Utf8Path) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !path.as_str().is_empty() && path.as_str().chars().all(is_plain) {
        path.to_string()
    } else {
        format!("'{}'", path.as_str().replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_version, start_command};

    #[test]
    fn the_version_is_found_in_what_the_binary_prints() {
        let text = "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long-term\n";
        assert_eq!(parse_version(text).unwrap().to_string(), "2.6.12");
        assert_eq!(parse_version("HA-Proxy version 1.8.4 2018/02/08\n").unwrap().to_string(), "1.8.4");
        assert_eq!(parse_version("nginx version: nginx/1.22\n"), None);
    }

    #[test]
    fn a_start_command_survives_the_shell() {
        assert_eq!(
            start_command("haproxy".into(), "/etc/it's here/haproxy.cfg".into(), "/run/master.sock".into()),
            r"haproxy -Ws -f '/etc/it'\''s here/haproxy.cfg' -S /run/master.sock"
        );
    }
}
