//! The master CLI: which processes there are, and the reload.
//!
//! A connection carries one command: we close our half after it, the master answers and closes. For a while after a
//! start or a reload it refuses connections, since it executes itself anew; that is waited out.

use super::error::AdminError;
use super::session::RETRY;
use crate::plan::{Master, Version};
use crate::sys::fault;
use crate::sys::redact::redact;
use camino::Utf8Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

/// Longest answer: the log of a start with a warning per server.
const MAX_REPLY_BYTES: usize = 4 << 20;

/// What `show proc` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processes {
    /// The master; its old workers are those listed as such.
    pub master: Master,
    /// Process ids of the workers that are not listed as old. Empty after a failed reload on 3.2, which lists the
    /// worker that goes on serving as old.
    pub workers: Vec<u32>,
}

impl Processes {
    /// The master, its old workers judged by which one really serves: after a failed reload the lists mislead.
    pub fn master_beside(self, serving_pid: u32) -> Master {
        let Self { mut master, workers } = self;
        master.old_workers.extend(workers);
        master.old_workers.retain(|pid| *pid != serving_pid);
        master
    }
}

/// What 3.2 says while it makes somebody else's reload: ours is not refused, only not begun.
const BUSY: &str = "Another reload is still in progress";

/// How a reload ended, as the master says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadReport {
    /// The new worker was started. Not yet a proof that it serves what it should: see [`super::prove_reload`].
    pub ok: bool,
    /// What the new process printed; empty on 2.6, which says nothing: `haproxy -c` or the journal knows.
    pub log: String,
}

/// Asks for the master and its workers; waits while the master executes itself anew.
///
/// # Errors
/// Nobody listens until the deadline, no permission, or an answer that cannot be read.
pub async fn processes(master_socket: &Utf8Path, deadline: Duration) -> Result<Processes, AdminError> {
    processes_until(master_socket, Instant::now() + deadline).await
}

pub(super) async fn processes_until(socket: &Utf8Path, deadline: Instant) -> Result<Processes, AdminError> {
    loop {
        // A master that is about to execute itself may accept and hang up.
        let reply = ask(socket, "show proc", deadline).await?;
        if !reply.trim().is_empty() || Instant::now() + RETRY >= deadline {
            return parse_processes(&reply).map_err(|problem| AdminError::Unreadable {
                socket: socket.to_owned(),
                command: "show proc",
                problem,
            });
        }
        sleep(RETRY).await;
    }
}

/// Reloads HAProxy and waits until the master says how it went. `version` is the running one's: before 2.7 the master
/// hangs up without a word, and the count of reloads tells.
///
/// # Errors
/// The master cannot be reached, or does not say how it went until the deadline. The reload may have happened.
pub async fn reload(
    master_socket: &Utf8Path,
    version: Version,
    deadline: Duration,
) -> Result<ReloadReport, AdminError> {
    let deadline = Instant::now() + deadline;
    let before = processes_until(master_socket, deadline).await?.master;
    let reply = loop {
        let reply = ask(master_socket, "reload", deadline).await?;
        if !reply.contains(BUSY) || Instant::now() + RETRY >= deadline {
            break reply;
        }
        sleep(RETRY).await;
    };
    if version.at_least(2, 7)
        && let Some((verdict, log)) = reply.trim_start().split_once('\n')
    {
        match verdict.trim() {
            "Success=1" => return Ok(ReloadReport { ok: true, log: redact(after_dashes(log)) }),
            "Success=0" => return Ok(ReloadReport { ok: false, log: redact(after_dashes(log)) }),
            _ => {}
        }
    }
    if reply.contains("Permission denied") {
        let source = std::io::Error::new(std::io::ErrorKind::PermissionDenied, "the socket is not of level operator");
        return Err(AdminError::Denied { socket: master_socket.to_owned(), source });
    }
    loop {
        let now = processes_until(master_socket, deadline).await?.master;
        if now.reloads != before.reloads {
            return Ok(ReloadReport { ok: now.failed == 0, log: redact(reply.trim().to_owned()) });
        }
        if Instant::now() + RETRY >= deadline {
            return Err(AdminError::Deadline { socket: master_socket.to_owned() });
        }
        sleep(RETRY).await;
    }
}

/// Client connections that an old worker still has, as it says itself; `None` where it does not answer any more.
///
/// # Errors
/// The master cannot be reached.
pub async fn connections_of(master_socket: &Utf8Path, pid: u32, deadline: Duration) -> Result<Option<u64>, AdminError> {
    let reply = ask(master_socket, &format!("@!{pid} show info"), Instant::now() + deadline).await?;
    Ok(reply.lines().find_map(|line| line.strip_prefix("CurrConns: ")?.trim().parse().ok()))
}

/// Sends one command, answers everything up to the end of the connection. A refused connection is tried again until
/// the deadline; a missing socket is not, since nothing will make it appear.
async fn ask(socket: &Utf8Path, command: &str, deadline: Instant) -> Result<String, AdminError> {
    let told = |source| AdminError::from_io(socket, source);
    fault::pass("master.connect", format_args!("{socket} {command}")).map_err(told)?;
    let mut stream = loop {
        let connecting = timeout_at(deadline, UnixStream::connect(socket.as_std_path())).await;
        match connecting.map_err(|_| AdminError::Deadline { socket: socket.to_owned() })? {
            Ok(stream) => break stream,
            Err(e)
                // Reset: the listener went away in the middle of it, as 2.6 does while it executes itself anew.
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::ConnectionRefused
                        | std::io::ErrorKind::ConnectionReset
                        | std::io::ErrorKind::WouldBlock
                ) && Instant::now() + RETRY < deadline =>
            {
                sleep(RETRY).await;
            }
            Err(e) => return Err(told(e)),
        }
    };
    fault::pass("master.send", format_args!("{socket} {command}")).map_err(told)?;
    let talk = async {
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        stream.shutdown().await?;
        let mut bytes = Vec::new();
        let mut limited = stream.take(MAX_REPLY_BYTES as u64);
        match limited.read_to_end(&mut bytes).await {
            // 2.6 executes itself anew and forgets the connection.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
            read => {
                read?;
            }
        }
        // The command has taken effect by now.
        if fault::pass_reply("master.reply", format_args!("{socket} {command}"))? {
            bytes.truncate(bytes.len() / 2);
        }
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = match timeout_at(deadline, talk).await {
        // A master that executes itself anew hangs up on whoever is just writing. The caller asks again, or counts
        // reloads; to call it a failure would put the files back under a worker that runs the new ones.
        Ok(Err(e)) if is_hang_up(&e) => Vec::new(),
        Ok(done) => done.map_err(told)?,
        Err(_) => return Err(AdminError::Deadline { socket: socket.to_owned() }),
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_hang_up(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

fn after_dashes(log: &str) -> String {
    log.trim_start().strip_prefix("--\n").unwrap_or(log).trim().to_owned()
}

/// Reads `show proc`: `12709 master 2 [failed: 1] 0d00h00m01s 2.6.12`, then `# workers`, `# old workers`, `# programs`.
fn parse_processes(reply: &str) -> Result<Processes, String> {
    let mut master = None;
    let (mut workers, mut old_workers) = (Vec::new(), Vec::new());
    let mut is_old = false;
    for line in reply.lines() {
        if let Some(title) = line.strip_prefix("# ") {
            is_old = title.trim() == "old workers";
            continue;
        }
        let mut cells = line.split_ascii_whitespace();
        let (Some(pid), Some(kind)) = (cells.next(), cells.next()) else { continue };
        let Ok(pid) = pid.parse::<u32>() else { continue };
        match kind {
            "master" => {
                let reloads = cells.next().and_then(|n| n.parse().ok());
                let reloads = reloads.ok_or_else(|| "it has no count of reloads".to_owned())?;
                let failed = match (cells.next(), cells.next()) {
                    (Some("[failed:"), Some(count)) => count
                        .trim_end_matches(']')
                        .parse()
                        .map_err(|_| "it has no count of failed reloads".to_owned())?,
                    _ => 0,
                };
                master = Some(Master { pid, reloads, failed, old_workers: Vec::new() });
            }
            "worker" if is_old => old_workers.push(pid),
            "worker" => workers.push(pid),
            // Programs are not ours.
            _ => {}
        }
    }
    let mut master = master.ok_or_else(|| "it names no master".to_owned())?;
    master.old_workers = old_workers;
    Ok(Processes { master, workers })
}

#[cfg(test)]
mod tests {
    use super::{after_dashes, parse_processes};

    #[test]
    fn the_forms_of_every_version_are_read() {
        let old = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
            12709           master          3 [failed: 1]   0d00h00m01s     2.6.12-1+deb12u4\n\
            # workers\n12721           worker          0               0d00h00m00s     2.6.12-1+deb12u4\n\
            # old workers\n12715           worker          2               0d00h00m01s     2.6.12-1+deb12u4\n\
            # programs\n777             dataplane       0               0d00h00m01s     -\n\n";
        let found = parse_processes(old).unwrap();
        assert_eq!((found.master.pid, found.master.reloads, found.master.failed), (12709, 3, 1));
        assert_eq!((&found.workers[..], &found.master.old_workers[..]), (&[12721][..], &[12715][..]));
        assert_eq!(found.clone().master_beside(12721).old_workers, [12715]);
        assert_eq!(found.master_beside(12715).old_workers, [12721]);
        let new =
            "#<PID> <type> <reloads> <uptime> <version>\n1 master 0 [failed: 0] 0d00h00m00s 3.2.26-1\n# workers\n";
        assert!(parse_processes(new).unwrap().workers.is_empty());
        for broken in ["", "Permission denied\n", "1 master x\n"] {
            assert!(parse_processes(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn the_log_of_a_reload_stands_below_the_dashes() {
        assert_eq!(after_dashes("--\n[ALERT] (1) : config : x\n\n"), "[ALERT] (1) : config : x");
        assert_eq!(after_dashes("--\n"), "");
    }
}
