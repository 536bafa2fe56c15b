//! Ends what a demo leaves that could not end by itself: killed by `kill -9`, it can neither stop HAProxy nor remove the
//! directory with its keys.
//!
//! A process of its own, whose standard input only the demo holds: the end of it is the demo's end.

use camino::Utf8Path;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{self, BufRead, Write};
use std::process::{Child, Command, Stdio};

/// Longest that the demo waits for its guard when all is done.
const END: std::time::Duration = std::time::Duration::from_secs(2);

/// The demo's side.
#[derive(Debug)]
pub(super) struct DemoGuard(Child);

impl DemoGuard {
    /// Begins to guard a directory.
    pub fn start(directory: &Utf8Path) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new("/proc/self/exe");
        command.args(["__demo_guard", directory.as_str()]).stdin(Stdio::piped());
        // Neither Ctrl-C nor whoever reads the demo's output concerns it.
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self(command.spawn()?))
    }

    /// Tells it of a process group that must not stay.
    pub fn watch(&mut self, group: Option<u32>) {
        self.say(&group.unwrap_or_default().to_string());
    }

    /// All has ended by itself.
    pub async fn end(mut self) {
        self.say("0");
        drop(self.0.stdin.take());
        let wait = tokio::task::spawn_blocking(move || self.0.wait());
        // It does nothing now but end; where it does not, that is no reason to stay.
        let _ = tokio::time::timeout(END, wait).await;
    }

    fn say(&mut self, line: &str) {
        if let Some(stdin) = &mut self.0.stdin {
            // A guard that was killed can be told nothing.
            let _ = writeln!(stdin, "{line}");
        }
    }
}

/// `hapilot __demo_guard DIRECTORY`: until the demo's end.
pub(super) fn guard(directory: &Utf8Path) {
    let mut group = None;
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        group = line.trim().parse::<i32>().ok();
    }
    if group == Some(0) {
        return;
    }
    if let Some(group) = group {
        // It may have ended with the demo.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    // The demo made it, and nobody else knows of it.
    let _ = std::fs::remove_dir_all(directory);
}
