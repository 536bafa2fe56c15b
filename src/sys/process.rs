//! Child processes that end in time and leave nothing behind.
//!
//! Refuses to know what they do. Called by the adapters that need a binary's verdict.

use super::fault::{self, Fault};
use super::{lack, redact};
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How long output is still read after the child ended: only a descendant that inherited the pipe can hold it open.
const DRAIN: Duration = Duration::from_millis(500);

/// Keeps the kernel from giving this process and its children memory by huge pages: an agent of many small things
/// would hold twice what it uses. A kernel that refuses changes nothing.
pub fn refuse_huge_pages() {
    let _ = nix::sys::prctl::set_thp_disable(true);
}

/// What a child left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended; by a signal where it was killed.
    pub status: ExitStatus,
    /// The first bytes of its standard output.
    pub stdout: Vec<u8>,
    /// The first bytes of its standard error.
    pub stderr: Vec<u8>,
    /// It was killed at the deadline.
    pub timed_out: bool,
}

/// A child could not be started or waited for.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing} {program}")]
pub struct ProcessError {
    /// What we were doing.
    pub doing: &'static str,
    /// The program.
    pub program: Utf8PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Runs a program to its end or to the deadline, with no standard input and this process's environment, but for the
/// variables that hold a secret. What it says comes back without any secret that is known.
///
/// It gets a process group of its own, which is killed whole at the deadline, when a descendant keeps the pipes open
/// after the child's end, and when the caller drops this future. The child is always reaped.
///
/// **Units**: `max_output_bytes` for each of the two streams; what comes after is read and thrown away.
///
/// # Errors
/// The program is missing or not executable. A non-zero exit and a timeout are no errors but part of the answer.
pub async fn run<S: AsRef<OsStr>>(
    program: &Utf8Path,
    args: &[S],
    deadline: Duration,
    max_output_bytes: usize,
) -> Result<Finished, ProcessError> {
    run_with(program, args, &[], deadline, max_output_bytes).await
}

/// As [`run`], with these variables of the environment, secret or not.
///
/// # Errors
/// As [`run`].
pub async fn run_with<S: AsRef<OsStr>>(
    program: &Utf8Path,
    args: &[S],
    variables: &[String],
    deadline: Duration,
    max_output_bytes: usize,
) -> Result<Finished, ProcessError> {
    let mut command = Command::new(program);
    for name in redact::secret_variables() {
        match variables.contains(&name) {
            true => std::env::var(&name).iter().for_each(|value| redact::learn(value)),
            false => drop(command.env_remove(name)),
        }
    }
    run_command(command.stdin(Stdio::null()), program, args, deadline, max_output_bytes).await
}

/// As [`run`], in an environment of these variables alone, with a file as standard input.
///
/// # Errors
/// As [`run`].
pub async fn run_clean<S: AsRef<OsStr>>(
    program: &Utf8Path,
    args: &[S],
    environment: &[(&str, String)],
    input: Option<std::fs::File>,
    deadline: Duration,
    max_output_bytes: usize,
) -> Result<Finished, ProcessError> {
    let mut command = Command::new(program);
    command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(input.map_or_else(Stdio::null, Stdio::from));
    run_command(&mut command, program, args, deadline, max_output_bytes).await
}

async fn run_command<S: AsRef<OsStr>>(
    command: &mut Command,
    program: &Utf8Path,
    args: &[S],
    deadline: Duration,
    max_output_bytes: usize,
) -> Result<Finished, ProcessError> {
    let told = |doing| move |source| ProcessError { doing, program: program.to_owned(), source };
    let first: String = args.first().map(|first| first.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
    let deadline = match fault::told("process.wait", format_args!("{program} {first}")) {
        Some(Fault::Timeout) => Duration::ZERO,
        Some(fault) => return Err(told("wait for")(fault.into_error())),
        None => deadline,
    };
    fault::pass("process.spawn", format_args!("{program} {first}")).map_err(told("start"))?;
    let mut child = command
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(told("start"))?;
    let mut group = Group(child.id());
    let (stdout_pipe, stderr_pipe) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());

    let exited = {
        let capture = async {
            tokio::join!(
                fill(stdout_pipe, &mut stdout, max_output_bytes),
                fill(stderr_pipe, &mut stderr, max_output_bytes)
            )
        };
        tokio::pin!(capture);
        let expiry = tokio::time::sleep(deadline);
        tokio::pin!(expiry);
        let mut is_drained = false;
        let exited = loop {
            tokio::select! {
                status = child.wait() => break Some(status.map_err(told("wait for"))?),
                _ = &mut capture, if !is_drained => is_drained = true,
                () = &mut expiry => break None,
            }
        };
        if exited.is_some() && !is_drained {
            is_drained = tokio::time::timeout(DRAIN, &mut capture).await.is_ok();
        }
        if exited.is_some() && is_drained {
            group.0 = None;
        }
        exited
    };
    group.kill();
    let timed_out = exited.is_none();
    let status = match exited {
        Some(status) => status,
        None => child.wait().await.map_err(told("wait for"))?,
    };
    let (stdout, stderr) = (redact::redact_bytes(stdout), redact::redact_bytes(stderr));
    Ok(Finished { status, stdout, stderr, timed_out })
}

/// A process group that is killed at most once, at the latest when it is dropped.
struct Group(Option<u32>);

impl Group {
    fn kill(&mut self) {
        if let Some(id) = self.0.take().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended by itself in this moment.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads a pipe to its end, keeps the first `max_bytes`.
async fn fill(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, max_bytes: usize) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; 16 << 10];
    while let Ok(length) = pipe.read(&mut chunk).await {
        if length == 0 {
            return;
        }
        let room = max_bytes.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(&chunk[..room]);
    }
}

/// Resident memory in bytes of a process of that name; `None` where there is none, or where it is another's: process
/// ids mean nothing across containers.
///
/// **Source**: proc(5), `/proc/PID/status`.
pub fn resident_bytes(pid: u32, name: &str) -> Option<u64> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let kib: u64 = value("VmRSS:").filter(|_| value("Name:") == Some(name))?.strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// How many descriptors a process may open at most: its hard limit, or the kernel's where it may raise that; this process
/// itself for `None`. `None` where it cannot be told.
///
/// **Source**: proc(5), `/proc/PID/limits` and `/proc/PID/status`; capabilities(7), CAP_SYS_RESOURCE.
pub fn most_descriptors(pid: Option<u32>) -> Option<u64> {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let of = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let limits = fs_err::read_to_string(format!("/proc/{of}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let hard = line.split_ascii_whitespace().nth(1)?;
    let status = fs_err::read_to_string(format!("/proc/{of}/status")).ok()?;
    let powers = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let may_raise = u64::from_str_radix(powers.trim(), 16).ok()? & CAP_SYS_RESOURCE != 0;
    if may_raise {
        return fs_err::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok();
    }
    hard.parse().ok()
}

/// The program that a process runs; `None` where that cannot be seen.
pub fn program_of(pid: u32) -> Option<Utf8PathBuf> {
    Utf8PathBuf::from_path_buf(fs_err::read_link(format!("/proc/{pid}/exe")).ok()?).ok()
}

/// The name of a process, at most 15 bytes of it; `None` where there is none, or only a dead one that nobody has reaped.
///
/// # Errors
/// This process lacks what it takes to look.
///
/// **Source**: proc(5), `/proc/PID/stat`.
pub fn name_of(pid: u32) -> io::Result<Option<String>> {
    let stat = seen(std::fs::read_to_string(format!("/proc/{pid}/stat")))?;
    let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    let living = name.filter(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']));
    Ok(living.map(|(name, _)| name.to_owned()))
}

/// The children of a process, as far as they can be seen.
///
/// # Errors
/// This process lacks what it takes to look.
///
/// **Source**: proc(5), `/proc/PID/task/TID/children`.
pub fn children_of(pid: u32) -> io::Result<Vec<u32>> {
    let text = seen(std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")))?;
    Ok(text.split_whitespace().filter_map(|word| word.parse().ok()).collect())
}

/// What a file of /proc says: nothing, where it is not there or hidden.
fn seen(read: io::Result<String>) -> io::Result<String> {
    match read {
        Err(e) if lack::is_ours(&e) => Err(e),
        read => Ok(read.unwrap_or_default()),
    }
}

/// Sends SIGHUP.
///
/// # Errors
/// There is no such process, or this one may not.
pub fn hang_up(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGHUP)?)
}

#[cfg(test)]
mod tests {
    use super::run;
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn output_and_exit_code_come_back() {
        let done = run("/bin/sh".into(), &["-c", "echo out; echo err >&2; exit 3"], LONG, 100).await.unwrap();
        assert_eq!(done.status.code(), Some(3));
        assert_eq!((&done.stdout[..], &done.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert!(!done.timed_out);
    }

    #[tokio::test]
    async fn output_is_bounded_and_the_rest_is_drained() {
        let done = run("/bin/sh".into(), &["-c", "head -c 3000000 /dev/zero"], LONG, 1000).await.unwrap();
        assert_eq!(done.stdout.len(), 1000);
        assert!(done.status.success());
    }

    #[tokio::test]
    async fn the_whole_group_dies_at_the_deadline() {
        let begun = Instant::now();
        let script = "sleep 1000 & echo $!; wait";
        let done = run("/bin/sh".into(), &["-c", script], Duration::from_millis(300), 100).await.unwrap();
        assert!(done.timed_out && begun.elapsed() < LONG);
        let grandchild: u32 = String::from_utf8(done.stdout).unwrap().trim().parse().unwrap();
        wait_until_gone(grandchild).await;
    }

    #[tokio::test]
    async fn a_descendant_that_holds_the_pipe_open_does_not_delay_the_answer() {
        let begun = Instant::now();
        let done = run("/bin/sh".into(), &["-c", "sleep 1000 & echo $!"], LONG, 100).await.unwrap();
        assert!(done.status.success() && !done.timed_out && begun.elapsed() < LONG);
        wait_until_gone(String::from_utf8(done.stdout).unwrap().trim().parse().unwrap()).await;
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = run("/nonexistent/haproxy".into(), &["-c"], LONG, 1).await.unwrap_err();
        assert_eq!(error.to_string(), "could not start /nonexistent/haproxy");
    }

    /// Gone, or a zombie that init has not reaped yet.
    async fn wait_until_gone(pid: u32) {
        let until = Instant::now() + LONG;
        loop {
            match fs_err::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) if !stat.contains(") Z ") => {}
                _ => return,
            }
            assert!(Instant::now() < until, "process {pid} still runs");
            tokio::task::yield_now().await;
        }
    }
}
