//! Child processes that a test can rely on to be gone: with a deadline in the foreground, or in the background until
//! they are dropped.

use super::{PATIENCE, wait_for};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What a process left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything that it printed.
    pub stdout: String,
    /// Everything that it complained about.
    pub stderr: String,
}

/// Runs a process to its end.
///
/// # Panics
/// When it cannot be started, or is not done within `limit`; it is killed then, with its children.
pub fn run(command: Command, limit: Duration) -> Finished {
    let name = format!("{command:?}");
    let mut process = Background::start(command);
    let status = process.wait(limit).unwrap_or_else(|| {
        panic!("{name} was not done within {limit:?}; it said:\n{}{}", process.stdout(), process.stderr())
    });
    Finished { code: status.code(), stdout: process.stdout(), stderr: process.stderr() }
}

/// Whether a process runs: one that has ended and that nobody has reaped yet does not.
pub fn is_alive(pid: Pid) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

/// A process of its own group, with its output in files. Dropped, the whole group is killed and the process reaped;
/// the same happens when this test process dies without dropping anything.
#[derive(Debug)]
pub struct Background {
    child: Child,
    guard: Child,
    status: Option<ExitStatus>,
    output: TempDir,
}

impl Background {
    /// Starts `command` without standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Self {
        let output = tempfile::tempdir().expect("a directory for the output");
        let file = |name: &str| File::create(output.path().join(name)).expect("a file for the output");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        // The group's guard reads from a pipe that only this test process holds: end of file means that it is gone.
        let group = i32::try_from(child.id()).expect("process ids are positive");
        let guard = Command::new("sh")
            .args(["-c", "read -r _; kill -KILL 0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(group)
            .spawn()
            .expect("a shell to guard the process");
        Self { child, guard, status: None, output }
    }

    /// The process id, which is the id of its group too.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive"))
    }

    /// What it printed until now.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it complained about until now.
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, name: &str) -> String {
        let path: PathBuf = self.output.path().join(name);
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Its exit status, when it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("our own child can be asked");
        }
        self.status
    }

    /// Waits for its end; `None` when that has not come within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let started = std::time::Instant::now();
        while self.status().is_none() && started.elapsed() < limit {
            super::pause(Duration::from_millis(5));
        }
        self.status
    }

    /// Sends a signal to the process alone, not to its children. Nothing happens when it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.status().is_none() {
            kill(self.pid(), signal).expect("our own child can be signalled");
        }
    }

    /// Asks it to end by SIGTERM and gives its exit code.
    ///
    /// # Panics
    /// When it has not ended soon.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        let status = self.wait(PATIENCE);
        status.unwrap_or_else(|| panic!("SIGTERM did not end it; it said:\n{}", self.stderr())).code()
    }

    /// Ends it as a crash would: `kill -9` of the process alone; its children live on until the drop.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait(PATIENCE).expect("nothing survives SIGKILL");
    }

    /// Waits until its output contains `needle`.
    ///
    /// # Panics
    /// When it ends before, or has not said so soon.
    pub fn wait_for_output(&mut self, needle: &str) {
        wait_for(&format!("{needle:?} in the output"), PATIENCE, || {
            let ended = self.status();
            let said = self.stdout() + &self.stderr();
            if said.contains(needle) {
                return Some(());
            }
            assert!(ended.is_none(), "it ended ({ended:?}) before it said {needle:?}:\n{said}");
            None
        });
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // The group has no member left where all have ended: that is no fault.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.guard.wait();
        let _ = self.child.wait();
    }
}

/// A process that stands still; it goes on when this is dropped, also after a failure.
#[derive(Debug)]
pub struct Stopped(Pid);

impl Stopped {
    /// Stops it.
    pub fn new(pid: Pid) -> Self {
        kill(pid, Signal::SIGSTOP).expect("a signal");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_run_gives_code_and_both_outputs() {
        let finished = run(shell("echo out; echo err >&2; exit 3"), PATIENCE);
        assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.as_str()), (Some(3), "out\n", "err\n"));
    }

    #[test]
    #[should_panic(expected = "was not done within")]
    fn a_run_is_bounded() {
        run(shell("sleep 60"), Duration::from_millis(50));
    }

    #[test]
    fn a_drop_takes_the_whole_family_along() {
        let mut family = Background::start(shell("sleep 60 & echo $!; wait"));
        family.wait_for_output("\n");
        let grandchild = Pid::from_raw(family.stdout().trim().parse().expect("a process id"));
        assert!(is_alive(grandchild));
        drop(family);
        wait_for("the grandchild's end", PATIENCE, || (!is_alive(grandchild)).then_some(()));
    }

    #[test]
    fn the_guard_ends_a_family_whose_test_has_died() {
        let mut family = Background::start(shell("sleep 60 & echo $!; wait"));
        family.wait_for_output("\n");
        let grandchild = Pid::from_raw(family.stdout().trim().parse().expect("a process id"));
        drop(family.guard.stdin.take());
        assert!(family.wait(PATIENCE).is_some());
        wait_for("the grandchild's end", PATIENCE, || (!is_alive(grandchild)).then_some(()));
    }

    #[test]
    fn a_stop_asks_and_a_kill_does_not() {
        let mut polite =
            Background::start(shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"));
        polite.wait_for_output("up");
        assert_eq!(polite.stop(), Some(7));
        assert_eq!(polite.stdout(), "up\nbye\n");
        let mut deaf = Background::start(shell("trap '' TERM; echo up; while :; do sleep 0.05; done"));
        deaf.wait_for_output("up");
        deaf.kill();
        assert_eq!(deaf.status().and_then(|status| status.code()), None);
    }
}
