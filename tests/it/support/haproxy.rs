//! Private HAProxies: each test starts its own in a directory of its own, in every version that the machine offers.

use super::process::{Background, run};
use super::{PATIENCE, skip_or_demand, wait_for};
use camino::Utf8Path;
use hapilot::plan::Version;
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// An HAProxy that the machine offers.
#[derive(Clone, Debug)]
pub struct Binary {
    /// Where it is, or its name in `PATH`.
    pub path: PathBuf,
    /// What `-v` says.
    pub version: Version,
}

impl Binary {
    /// Its path, as the product takes it.
    pub fn utf8_path(&self) -> &Utf8Path {
        Utf8Path::from_path(&self.path).expect("HAPILOT_TEST_HAPROXY is UTF-8")
    }
}

/// Every HAProxy that `HAPILOT_TEST_HAPROXY` names (separated by colons; default `haproxy`), without those that
/// cannot be started. Empty only after a skip has been said.
pub fn binaries() -> Vec<Binary> {
    let list = std::env::var("HAPILOT_TEST_HAPROXY").unwrap_or_else(|_| "haproxy".to_owned());
    let found: Vec<Binary> = list.split(':').filter(|path| !path.is_empty()).filter_map(binary).collect();
    if found.is_empty() {
        skip_or_demand(&format!("no HAProxy answers to -v (looked for {list})"));
    }
    found
}

/// The same, of this branch or newer.
pub fn binaries_since(major: u16, minor: u16) -> Vec<Binary> {
    let all = binaries();
    let new: Vec<Binary> = all.iter().filter(|binary| binary.version.at_least(major, minor)).cloned().collect();
    if new.is_empty() && !all.is_empty() {
        skip_or_demand(&format!("needs HAProxy {major}.{minor} or newer (HAPILOT_TEST_HAPROXY names others)"));
    }
    new
}

fn binary(path: &str) -> Option<Binary> {
    let output = Command::new(path).arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find_map(|word| word.parse().ok())?;
    Some(Binary { path: PathBuf::from(path), version })
}

/// The place of one private HAProxy: its directory, where its configuration is written before it is started.
#[derive(Debug)]
pub struct Place {
    binary: Binary,
    dir: TempDir,
}

impl Place {
    /// Makes an empty place.
    pub fn new(binary: &Binary) -> Self {
        let dir = tempfile::Builder::new().prefix("hapilot-").tempdir().expect("a directory for HAProxy");
        Self { binary: binary.clone(), dir }
    }

    /// Everything of this HAProxy is in here; it is deleted with the value.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it reads: `DIR/haproxy.cfg`.
    pub fn config(&self) -> PathBuf {
        self.dir().join("haproxy.cfg")
    }

    /// Where the configuration must bind its `stats socket … level admin`: `DIR/admin.sock`.
    pub fn admin_socket(&self) -> PathBuf {
        self.dir().join("admin.sock")
    }

    /// Where the master listens: `DIR/master.sock`.
    pub fn master_socket(&self) -> PathBuf {
        self.dir().join("master.sock")
    }

    /// A `global` and a `defaults` section that suffice: the admin socket, two threads, short times.
    pub fn preamble(&self) -> String {
        format!(
            "global\n  stats socket {} mode 600 level admin expose-fd listeners\n  stats timeout 1m\n  nbthread 2\n\
             defaults\n  mode http\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n",
            self.admin_socket().display()
        )
    }

    /// Judges the configuration as HAProxy does, without binding anything.
    pub fn check(&self) -> super::process::Finished {
        let mut command = Command::new(&self.binary.path);
        command.args(["-c", "-f"]).arg(self.config());
        run(command, PATIENCE)
    }

    /// Starts master and worker on [`Self::config`] and waits until the admin socket answers.
    ///
    /// # Panics
    /// When it ends instead, or does not answer soon: with what it printed.
    pub fn start(self) -> Private {
        let mut command = Command::new(&self.binary.path);
        command.arg("-W").arg("-S").arg(self.master_socket()).arg("-f").arg(self.config());
        let mut private = Private { process: Background::start(command), place: self };
        wait_for("HAProxy's admin socket", PATIENCE, || {
            let ended = private.process.status();
            assert!(ended.is_none(), "HAProxy ended ({ended:?}):\n{}", private.process.stderr());
            private.ask(&private.place.admin_socket(), "show info").ok().and_then(|info| pid(&info))
        });
        private
    }
}

/// A running HAProxy, master and worker; dropping it kills both and deletes its directory.
#[derive(Debug)]
pub struct Private {
    // In this order: the processes end before their directory goes.
    process: Background,
    place: Place,
}

/// How a reload ended.
#[derive(Debug)]
pub struct Reload {
    /// Whether the master says that it worked.
    pub succeeded: bool,
    /// What the master told: on 2.6 only its `show proc`.
    pub log: String,
}

impl Private {
    /// Writes `config` and starts an HAProxy on it.
    pub fn start(binary: &Binary, config: impl FnOnce(&Place) -> String) -> Self {
        let place = Place::new(binary);
        super::write(place.config(), config(&place));
        place.start()
    }

    /// Its files.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Ends master and worker as a crash would; the files stay, to be started from again.
    pub fn end(self) -> Place {
        let worker = self.worker_pid();
        let Self { process, place } = self;
        drop(process);
        wait_for("the worker's end", PATIENCE, || (!super::process::is_alive(worker)).then_some(()));
        place
    }

    /// The master and its output, for signals and the log.
    pub fn process(&mut self) -> &mut Background {
        &mut self.process
    }

    /// Sends one line to the admin socket; gives the reply without the blank line at its end.
    pub fn admin(&self, line: &str) -> String {
        let socket = self.place.admin_socket();
        self.ask(&socket, line).unwrap_or_else(|error| panic!("{line:?} on the admin socket: {error}"))
    }

    /// Sends one line to the master; waits while it executes itself anew.
    pub fn master(&self, line: &str) -> String {
        let socket = self.place.master_socket();
        wait_for("the master's answer", PATIENCE, || self.ask(&socket, line).ok().filter(|text| !text.is_empty()))
    }

    /// The process that started it.
    pub fn master_pid(&self) -> Pid {
        let stat = fs_err::read_to_string(format!("/proc/{}/stat", self.worker_pid())).expect("the worker");
        let behind_name = stat.rsplit_once(") ").expect("a name").1;
        Pid::from_raw(behind_name.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("the parent"))
    }

    /// The process that serves now.
    pub fn worker_pid(&self) -> Pid {
        pid(&self.admin("show info")).expect("`show info` tells the pid")
    }

    /// Reloads over the master socket; returns when the new worker, or after a failure the old one, answers.
    pub fn reload(&self) -> Reload {
        let (worker, (reloads, _)) = (self.worker_pid(), self.reloads());
        let mut log = self.ask(&self.place.master_socket(), "reload").unwrap_or_default();
        let succeeded = if log.contains("Success=") {
            log.contains("Success=1")
        } else {
            // Before 2.7 the master says nothing, executes itself anew and then counts one more.
            let count = || Some(self.reloads()).filter(|(after, _)| *after != reloads);
            let (_, failed) = wait_for("the master's count of reloads", PATIENCE, count);
            log = self.master("show proc");
            failed == 0
        };
        if succeeded {
            wait_for("the new worker", PATIENCE, || {
                let info = self.ask(&self.place.admin_socket(), "show info").unwrap_or_default();
                pid(&info).filter(|now| *now != worker)
            });
        }
        Reload { succeeded, log }
    }

    /// The master's `RELOADS [failed: FAILED]`.
    fn reloads(&self) -> (u32, u32) {
        let processes = self.master("show proc");
        let line = processes.lines().find(|line| line.contains(" master ")).expect("`show proc` has the master");
        let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
        // The first number is its pid.
        let (_, reloads, failed) = (numbers.next(), numbers.next(), numbers.next());
        (reloads.expect("a count of reloads"), failed.expect("a count of failures"))
    }

    fn ask(&self, socket: &Path, line: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        // The master closes only after a half-close; the admin socket takes it, too.
        stream.shutdown(Shutdown::Write)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        Ok(String::from_utf8_lossy(&reply).trim_end().to_owned())
    }
}

fn pid(info: &str) -> Option<Pid> {
    info.lines().find_map(|line| line.strip_prefix("Pid: "))?.trim().parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::super::http::get;
    use super::super::load::Load;
    use super::super::port::free_port;
    use super::super::process::is_alive;
    use super::*;

    fn hello(place: &Place, port: u16, text: &str) -> String {
        format!(
            "{}frontend hello\n  bind 127.0.0.1:{port}\n  http-request return status 200 content-type text/plain \
             string {text}\n",
            place.preamble()
        )
    }

    #[test]
    fn a_private_haproxy_serves_reloads_and_is_gone_after_the_drop() {
        for binary in binaries() {
            let port = free_port();
            let mut haproxy = Private::start(&binary, |place| hello(place, port, "first"));
            let address = format!("127.0.0.1:{port}");
            assert_eq!(get(&address, "/").expect("an answer").text(), "first", "{}", binary.version);
            assert!(haproxy.admin("show info").contains(&format!("Version: {}", binary.version)));

            let first = haproxy.worker_pid();
            super::super::write(haproxy.place().config(), hello(haproxy.place(), port, "second"));
            let reload = haproxy.reload();
            assert!(reload.succeeded, "{}", reload.log);
            let second = haproxy.worker_pid();
            assert_ne!(first, second);
            assert_eq!(get(&address, "/").expect("an answer").text(), "second");

            super::super::write(haproxy.place().config(), "global\n  nonsense\n");
            assert_ne!(haproxy.place().check().code, Some(0));
            let reload = haproxy.reload();
            assert!(!reload.succeeded, "{}", reload.log);
            assert_eq!(get(&address, "/").expect("an answer").text(), "second", "the old worker goes on");

            let (dir, master) = (haproxy.place().dir().to_owned(), haproxy.process().pid());
            assert!(is_alive(master));
            drop(haproxy);
            assert!(!is_alive(master));
            wait_for("the worker's end", PATIENCE, || (!is_alive(second)).then_some(()));
            assert!(!dir.exists());
        }
    }

    #[test]
    fn a_panic_takes_haproxy_along() {
        for binary in binaries() {
            let port = free_port();
            let mut master = Pid::from_raw(i32::MAX);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut haproxy = Private::start(&binary, |place| hello(place, port, "first"));
                master = haproxy.process().pid();
                panic!("a failed assertion");
            }));
            assert!(outcome.is_err());
            assert!(!is_alive(master));
        }
    }

    #[test]
    fn a_reload_under_load_loses_nothing() {
        for binary in binaries() {
            let port = free_port();
            let config = |place: &Place| hello(place, port, "hello") + "  option idle-close-on-response\n";
            let haproxy = Private::start(&binary, config);
            let load = Load::lasting(&format!("127.0.0.1:{port}"), "/", 8, PATIENCE).start();
            for round in 1..=3_u64 {
                wait_for("requests before the reload", PATIENCE, || (load.begun() > round * 500).then_some(()));
                assert!(haproxy.reload().succeeded);
            }
            let tally = load.stop();
            assert!(tally.failed == 0 && tally.ok > 1000, "{}: {tally:?}", binary.version);
        }
    }

    #[test]
    fn newer_versions_are_picked_by_their_branch() {
        for binary in binaries_since(2, 6) {
            assert!(binary.version.at_least(2, 6));
        }
    }
}
