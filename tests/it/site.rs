//! A whole node for tests of the command line: the operator's file, a model server, a HAProxy that serves what `apply`
//! wrote, all in one directory that goes with the value.

use crate::support::agent;
use crate::support::haproxy::Binary;
use crate::support::http::get;
use crate::support::port::free_port;
use crate::support::process::{Background, Finished};
use crate::support::{PATIENCE, wait_for};
use camino::{Utf8Path, Utf8PathBuf};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use tempfile::TempDir;

/// The node. In this order: HAProxy ends before its directory goes.
#[derive(Debug)]
pub struct Site {
    haproxy: Option<Background>,
    binary: Binary,
    directory: Utf8PathBuf,
    port: u16,
    upstreams: [u16; 2],
    _held: TempDir,
}

impl Site {
    /// A directory, a port, a model server.
    pub fn new(binary: &Binary) -> Self {
        let held = tempfile::Builder::new().prefix("hapilot-site-").tempdir().unwrap();
        let directory = Utf8Path::from_path(held.path()).unwrap().to_owned();
        Self {
            haproxy: None,
            binary: binary.clone(),
            directory,
            port: free_port(),
            upstreams: [upstream(), upstream()],
            _held: held,
        }
    }

    /// Everything is in here.
    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// Where `frontend api` listens on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The operator's file.
    pub fn file(&self) -> Utf8PathBuf {
        self.directory.join("hapilot.toml")
    }

    /// What HAProxy reads.
    pub fn haproxy_cfg(&self) -> Utf8PathBuf {
        self.directory.join("etc/haproxy.cfg")
    }

    /// The admin socket.
    pub fn admin(&self) -> Utf8PathBuf {
        self.directory.join("admin.sock")
    }

    /// The master's socket.
    pub fn master(&self) -> Utf8PathBuf {
        self.directory.join("master.sock")
    }

    /// An operator's file with one frontend and two servers; `inside` follows `[haproxy]` and may open sections, else
    /// it ends up in `[frontend.api]`.
    pub fn toml(&self, inside: &str) -> String {
        let Self { directory, port, upstreams: [a, b], binary, .. } = self;
        let (of_haproxy, of_frontend) = if inside.starts_with("stats") {
            inside.split_once('\n').map_or((inside, ""), |(first, rest)| (first, rest))
        } else {
            ("", inside)
        };
        // A section within `of_frontend` ends [frontend.api].
        format!(
            "[node]\nname = \"lb1\"\nstate = \"{directory}/state\"\n\
             [api]\nsocket = \"{directory}/hapilot.sock\"\n\
             [haproxy]\nconfig = \"{haproxy_cfg}\"\nadmin_socket = \"{admin}\"\nmaster_socket = \"{master}\"\n\
             binary = \"{binary}\"\nuser = \"\"\ngroup = \"\"\nlog = \"\"\nmaxconn = 200\nthreads = 2\n{of_haproxy}\n\
             [frontend.api]\nbind = [\"127.0.0.1:{port}\"]\nbackend = \"chat\"\n\
             routes = [{{ path = [\"/v1/embeddings\"], backend = \"chat\" }}]\n{of_frontend}\
             [backend.chat]\nprovider = \"http\"\n\
             [backend.chat.server.a]\nurl = \"http://127.0.0.1:{a}\"\nweight = 10\n\
             [backend.chat.server.b]\nurl = \"http://127.0.0.1:{b}\"\nweight = 20\n",
            haproxy_cfg = self.haproxy_cfg(),
            admin = self.admin(),
            master = self.master(),
            binary = binary.path.display(),
        )
    }

    /// Puts the operator's file there.
    pub fn write(&self, toml: &str) {
        hapilot::sys::files::replace_file(&self.file(), toml.as_bytes(), 0o644).unwrap();
    }

    /// A command of the command line on this node.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = agent::command(arguments);
        command.args(["--config", self.file().as_str()]);
        command
    }

    /// Runs one to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        crate::support::process::run(self.command(arguments), agent::LIMIT)
    }

    /// `hapilot apply`, alone.
    pub fn apply(&self) -> Finished {
        self.run(&["apply"])
    }

    /// Writes the files of the first revision and starts HAProxy on them; returns when it serves.
    pub fn start(&mut self) {
        fs_err::create_dir_all(self.directory.join("etc")).unwrap();
        let applied = self.apply();
        assert_eq!(applied.code, Some(0), "{}{}", applied.stdout, applied.stderr);
        let mut command = Command::new(&self.binary.path);
        command.args(["-W", "-S", self.master().as_str(), "-f", self.haproxy_cfg().as_str()]);
        self.haproxy = Some(Background::start(command));
        self.wait_until_it_serves();
    }

    /// Waits for a good answer through the frontend.
    pub fn wait_until_it_serves(&mut self) {
        wait_for("an answer through HAProxy", PATIENCE, || {
            if let Some(haproxy) = &mut self.haproxy {
                assert!(haproxy.status().is_none(), "HAProxy ended:\n{}", haproxy.stderr());
            }
            self.serves().ok()
        });
    }

    /// Asks the model server through the frontend, and HAProxy itself for its health; one request each, on connections
    /// of their own.
    ///
    /// # Errors
    /// Any other answer than the good one, in words. Nothing is asked twice: a reload is no excuse for a refused
    /// connection, a lost request or a `/health` that is not 200, on no version.
    pub fn serves(&self) -> Result<(), String> {
        let address = format!("127.0.0.1:{}", self.port);
        let answer = get(&address, "/v1/models").map_err(|e| format!("/v1/models: {e}"))?;
        if (answer.status, answer.text().as_str()) != (200, "model") {
            return Err(format!("/v1/models: {} {}", answer.status, answer.text()));
        }
        match get(&address, "/health").map_err(|e| format!("/health: {e}"))?.status {
            200 => Ok(()),
            health => Err(format!("/health: {health}")),
        }
    }

    /// HAProxy's master.
    pub fn master_pid(&self) -> i32 {
        self.haproxy.as_ref().expect("HAProxy was started").pid().as_raw()
    }

    /// What HAProxy says of the live files.
    pub fn check(&self) -> Finished {
        let mut command = Command::new(&self.binary.path);
        command.args(["-c", "-f", self.haproxy_cfg().as_str()]);
        crate::support::process::run(command, PATIENCE)
    }
}

/// A server that answers every request with one word, as long as the process lives.
fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || answer_all(stream));
        }
    });
    port
}

fn answer_all(mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmodel").ok()?;
    }
}
