//! A HAProxy of one's own: master-worker in a temporary directory, on ports that are free, gone with its owner.
//!
//! `HAPILOT_TEST_HAPROXY` lists the binaries that every test runs on, separated by colons; without it, `haproxy`.

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Deadline for everything that should take milliseconds: a machine that is busy with other tests is slow.
pub const LONG: Duration = Duration::from_secs(20);

/// The binaries under test: those that the variable names, each of which must then be there, or `haproxy` if there is
/// one.
pub fn binaries() -> Vec<Utf8PathBuf> {
    if let Ok(list) = std::env::var("HAPILOT_TEST_HAPROXY") {
        return list.split(':').filter(|name| !name.is_empty()).map(Utf8PathBuf::from).collect();
    }
    if Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: needs haproxy in PATH, or HAPILOT_TEST_HAPROXY");
        return Vec::new();
    }
    vec![Utf8PathBuf::from("haproxy")]
}

/// A running HAProxy; dropping it ends the master, which reaps its workers, and kills what is left of its process group.
pub struct PrivateHaproxy {
    pub binary: Utf8PathBuf,
    pub directory: Utf8PathBuf,
    /// The port of `frontend f`.
    pub port: u16,
    process: Child,
    _held: tempfile::TempDir,
}

impl PrivateHaproxy {
    /// Starts one whose configuration is a fixed head, `frontend f` and this text below it. `@DIR@` in the text stands
    /// for its directory.
    pub async fn start(binary: &Utf8Path, text: &str) -> Self {
        let held = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(held.path()).unwrap().to_owned();
        fs_err::write(directory.join("m.map"), "a 1\n").unwrap();
        let port = free_port();
        fs_err::write(directory.join("haproxy.cfg"), config(&directory, port, "hapilot first", text)).unwrap();
        let log = fs_err::File::create(directory.join("log")).unwrap();
        let process = Command::new(binary)
            .args(["-W", "-S", directory.join("master.sock").as_str(), "-f", directory.join("haproxy.cfg").as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log.into_file()))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{binary}: {e}"));
        let running = Self { binary: binary.to_owned(), directory, port, process, _held: held };
        running.wait_until_it_answers().await;
        running
    }

    /// Rewrites the configuration with another revision marker.
    pub fn configure(&self, marker: &str, text: &str) {
        let config = config(&self.directory, self.port, marker, text);
        fs_err::write(self.directory.join("haproxy.cfg"), config).unwrap();
    }

    pub fn admin(&self) -> Utf8PathBuf {
        self.directory.join("admin.sock")
    }

    pub fn master(&self) -> Utf8PathBuf {
        self.directory.join("master.sock")
    }

    pub fn map(&self) -> String {
        self.directory.join("m.map").into_string()
    }

    async fn wait_until_it_answers(&self) {
        let until = Instant::now() + LONG;
        while tokio::net::UnixStream::connect(self.admin().as_std_path()).await.is_err() {
            let log = fs_err::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "{} does not start: {log}", self.binary);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for PrivateHaproxy {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        let _ = killpg(group, Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(2);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn config(directory: &Utf8Path, port: u16, marker: &str, text: &str) -> String {
    let text = text.replace("@DIR@", directory.as_str());
    format!(
        "global\n  stats socket {directory}/admin.sock level admin mode 600\n  description {marker}\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n\
         frontend f\n  bind 127.0.0.1:{port}\n  http-request set-header x %[path,map({directory}/m.map)]\n{text}"
    )
}
