//! A whole node in a directory of its own: mock backends, an operator's file, HAProxy, the agent. Each part can be
//! started, ended and started again; everything is gone with the value.

use super::agent;
use super::haproxy::{Binary, Place, Private};
use super::load::Load;
use super::port::free_port;
use super::process::{Background, Finished};
use super::{PATIENCE, wait_for, write};
use hapilot::mock::{Fault, Mock, MockConfig};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The servers of `[backend.chat]`.
pub const SERVERS: [&str; 3] = ["a", "b", "c"];
/// A mock that no server stands for until an address is edited.
pub const SPARE: &str = "spare";
/// The providers' key. No file but the one it is referred to by may ever hold it, and the secret map.
pub const KEY: &str = "sk-never-to-be-seen-4711";
/// Longest time that a change may take to be effective on a busy machine of two cores. An idle one needs a tenth.
pub const LENIENT: Duration = Duration::from_secs(15);

/// A node. Fields end in their order: who uses something ends before it.
#[derive(Debug)]
pub struct Stage {
    agent: Option<Background>,
    haproxy: Option<Private>,
    place: Option<Place>,
    mocks: Mocks,
    dir: PathBuf,
    /// Where HAProxy serves: `127.0.0.1:PORT`.
    pub address: String,
}

/// Mock backends on a runtime of their own.
struct Mocks {
    running: Vec<Mock>,
    runtime: Runtime,
}

impl std::fmt::Debug for Mocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mocks").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

impl Stage {
    /// Starts the mocks and writes the operator's file; neither HAProxy nor the agent runs yet.
    pub fn new(binary: &Binary) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime for the mocks");
        let start = |name: &&str| {
            let config = MockConfig {
                // A port that nobody takes while the mock refuses connections.
                bind: ([127, 0, 0, 1], free_port()).into(),
                control: ([127, 0, 0, 1], free_port()).into(),
                name: (*name).to_owned(),
                key: Some(KEY.to_owned()),
                ..MockConfig::default()
            };
            runtime.block_on(Mock::start(config)).expect("a mock")
        };
        let running = SERVERS.iter().chain(&[SPARE]).map(start).collect();
        let place = Place::new(binary);
        let dir = place.dir().to_owned();
        let address = format!("127.0.0.1:{}", free_port());
        let stage = Self {
            agent: None,
            haproxy: None,
            place: Some(place),
            mocks: Mocks { running, runtime },
            dir: dir.clone(),
            address,
        };
        write(dir.join("key"), KEY);
        private(&dir.join("key"));
        write(stage.file(), stage.first_toml(binary));
        stage
    }

    /// The same with HAProxy started from the files that `hapilot apply` wrote.
    pub fn with_haproxy(binary: &Binary, edit: impl FnOnce(String) -> String) -> Self {
        let mut stage = Self::new(binary);
        stage.write_file(&edit(stage.text()));
        stage.done(&["apply"]);
        stage.start_haproxy();
        stage
    }

    /// The same with the agent running, and every server known to be healthy.
    pub fn running(binary: &Binary, edit: impl FnOnce(String) -> String) -> Self {
        let mut stage = Self::with_haproxy(binary, edit);
        stage.start_agent();
        stage.wait_for_health();
        stage
    }

    fn first_toml(&self, binary: &Binary) -> String {
        let (dir, binary, address) = (self.dir.display(), binary.path.display(), &self.address);
        let mut text = format!(
            r#"[node]
name  = "test"
state = "{dir}/state"

[haproxy]
config        = "{dir}/haproxy.cfg"
admin_socket  = "{dir}/admin.sock"
master_socket = "{dir}/master.sock"
binary        = "{binary}"
user          = ""
group         = ""
log           = ""
threads       = 2
maxconn       = 1000

[api]
socket = "{dir}/hapilot.sock"

[frontend.api]
bind    = ["{address}"]
backend = "chat"
routes  = [{{ path = ["/v1/embeddings"], backend = "embeddings" }}]

[limit.address]
requests = "10000000/10s"
burst    = 1000

[backend.embeddings]
retries = 2

[backend.embeddings.check]
models = false

[backend.embeddings.server.e]
url  = "{embeddings}"
keys = ["file:{dir}/key"]

[backend.chat]
provider = "openai"
balance  = "roundrobin"
retries  = 2
timeout  = {{ connect = "2s", first_byte = "10s", idle = "10s" }}

[backend.chat.check]
interval = "500ms"
fall     = 2
rise     = 2
ramp     = "3s"
models   = {{ expect = ["mock-small"] }}
"#,
            embeddings = self.mocks.running[0].base_url(),
        );
        for (name, mock) in SERVERS.iter().zip(&self.mocks.running) {
            text += &format!(
                "\n[backend.chat.server.{name}]\nurl = \"{}\" # {name}\nkeys = [\"file:{dir}/key\"] # {name}\n\
                 weight = 100 # {name}\nstate = \"ready\" # {name}\n",
                mock.base_url()
            );
        }
        text
    }

    /// The operator's file.
    pub fn file(&self) -> PathBuf {
        self.dir.join("hapilot.toml")
    }

    /// A path in the node's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The text of a file in the node's directory.
    pub fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).expect("a file of the node")
    }

    /// Names in the node's directory that begin so.
    pub fn beside(&self, prefix: &str) -> Vec<String> {
        let all = fs_err::read_dir(&self.dir).expect("the node's directory");
        let names = all.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// The operator's file as it is.
    pub fn text(&self) -> String {
        self.read("hapilot.toml")
    }

    /// Replaces the operator's file as editors do, by renaming; the moment is that of the rename.
    pub fn write_file(&self, text: &str) -> Instant {
        let beside = self.path("hapilot.toml.new");
        write(&beside, text);
        let renamed = Instant::now();
        fs_err::rename(beside, self.file()).expect("a rename");
        renamed
    }

    /// Replaces one piece of the operator's file by another.
    ///
    /// # Panics
    /// When the piece does not stand there exactly once.
    pub fn edit(&self, from: &str, to: &str) -> Instant {
        self.write_file(&swapped(&self.text(), from, to))
    }

    /// A command of the command line.
    pub fn cli(&self, arguments: &[&str]) -> Finished {
        let file = self.file();
        let mut all = vec!["-c", file.to_str().expect("a path of ASCII")];
        all.extend(arguments);
        agent::run(&all)
    }

    /// A command of the command line in a world of its own: mounts and limits that a shell made before, with the
    /// node's directory as `$1`, are this process's alone.
    pub fn inside(&self, preparation: &str, arguments: &[&str]) -> Finished {
        let script = format!("set -e; {preparation}; shift; exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(&self.dir);
        command.arg(env!("CARGO_BIN_EXE_hapilot")).arg("-c").arg(self.file()).args(arguments);
        super::process::run(command, agent::LIMIT)
    }

    /// The same as a process that may open few descriptors, and may not raise that.
    pub fn with_few_descriptors(&self, most: u32, arguments: &[&str]) -> Finished {
        // Root's own power to raise limits goes with the bounding set.
        let without = if super::is_root() { "setpriv --bounding-set -sys_resource" } else { "" };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {most}; exec {without} \"$@\""), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_hapilot")).arg("-c").arg(self.file()).args(arguments);
        super::process::run(command, agent::LIMIT)
    }

    /// The same, which must succeed; what it printed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let Finished { code, stdout, stderr } = self.cli(arguments);
        assert_eq!(code, Some(0), "{arguments:?}:\n{stdout}{stderr}");
        stdout
    }

    /// The same as JSON, with the exit code.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let Finished { stdout, stderr, .. } = self.cli(&[arguments, &["--json"]].concat());
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}\n{stdout}{stderr}"))
    }

    /// What the agent says of one server of `[backend.chat]`; null where it does not serve.
    pub fn server_status(&self, name: &str) -> Value {
        let status = self.json(&["status"]);
        let backends = status["backends"].as_array().expect("backends");
        let chat = backends.iter().find(|backend| backend["name"] == "chat").expect("chat");
        let servers = chat["servers"].as_array().expect("servers");
        servers.iter().find(|server| server["name"] == name).cloned().unwrap_or_default()
    }

    /// How many revisions there are, and which one serves.
    pub fn revisions(&self) -> (usize, u64) {
        let history = self.json(&["history"]);
        let all = history.as_array().expect("a list");
        let current = all.iter().find(|revision| revision["is_current"] == true);
        (all.len(), current.map_or(0, |revision| revision["revision"].as_u64().expect("a number")))
    }

    /// Starts HAProxy on the files that are there.
    pub fn start_haproxy(&mut self) {
        self.haproxy = Some(self.place.take().expect("HAProxy does not run").start());
    }

    /// Ends HAProxy, master and worker, as a crash would.
    pub fn end_haproxy(&mut self) {
        self.place = Some(self.haproxy().end());
    }

    fn haproxy(&mut self) -> Private {
        self.haproxy.take().expect("HAProxy runs")
    }

    /// The running HAProxy.
    pub fn private(&self) -> &Private {
        self.haproxy.as_ref().expect("HAProxy runs")
    }

    /// The process that serves.
    pub fn worker(&self) -> Pid {
        self.private().worker_pid()
    }

    /// What HAProxy uses as a server's weight in `[backend.chat]`.
    pub fn weight(&self, server: &str) -> u16 {
        let said = self.private().admin(&format!("get weight chat/{server}"));
        let number = said.split(' ').next().and_then(|word| word.parse().ok());
        number.unwrap_or_else(|| panic!("get weight chat/{server}: {said}"))
    }

    /// A column of `show servers state` of one server, wherever it stands.
    pub fn state(&self, proxy: &str, server: &str, column: &str) -> String {
        let table = self.private().admin(&format!("show servers state {proxy}"));
        let mut lines = table.lines().skip_while(|line| !line.starts_with('#'));
        let names: Vec<_> = lines.next().expect("a heading").split(' ').skip(1).collect();
        let at = |name: &str| names.iter().position(|known| *known == name).expect("a known column");
        let rows = lines.map(|line| line.split(' ').collect::<Vec<_>>());
        let row = rows.into_iter().find(|row| row.get(at("srv_name")) == Some(&server));
        row.unwrap_or_else(|| panic!("no {server} in:\n{table}"))[at(column)].to_owned()
    }

    /// Whether HAProxy has a server of `[backend.chat]` neither in maint nor in drain.
    pub fn is_ready(&self, server: &str) -> bool {
        let bits: u8 = self.state("chat", server, "srv_admin_state").parse().expect("a number");
        // 0x04 only remembers that the configuration began with `disabled`.
        bits & !0x04 == 0
    }

    /// Where HAProxy really sends what is meant for a server of `[backend.chat]`.
    pub fn target(&self, server: &str) -> String {
        let hop = format!("chat:{server}");
        let proxy = if self.read("haproxy.cfg").contains(&format!("listen {hop}\n")) { hop } else { "chat".into() };
        format!("{}:{}", self.state(&proxy, server, "srv_addr"), self.state(&proxy, server, "srv_port"))
    }

    /// Starts the agent and waits until it has settled.
    pub fn start_agent(&mut self) {
        self.begin_agent();
        self.agent().wait_for_output("serving");
    }

    /// Starts the agent as one that changes nothing, and waits until it has looked.
    pub fn start_observer(&mut self) {
        self.begin(&["run", "--observe"]);
        self.agent().wait_for_output("serving");
    }

    /// Starts the agent.
    pub fn begin_agent(&mut self) {
        self.begin(&["run"]);
    }

    /// The same, with some of its operations failing or slow (`sys::fault`).
    pub fn begin_agent_with(&mut self, faults: &str) {
        self.begin_as(&["run"], |command| {
            command.env("HAPILOT_FAULTS", faults);
        });
    }

    fn begin(&mut self, arguments: &[&str]) {
        self.begin_as(arguments, |_| {});
    }

    fn begin_as(&mut self, arguments: &[&str], set: impl FnOnce(&mut Command)) {
        let file = self.file();
        let mut all = vec!["-c", file.to_str().expect("a path of ASCII")];
        all.extend(arguments);
        let mut command = agent::command(&all);
        set(&mut command);
        self.agent = Some(Background::start(command));
        let socket = self.path("hapilot.sock");
        let agent = self.agent.as_mut().expect("just started");
        wait_for("the agent's socket", PATIENCE, || {
            let ended = agent.status();
            assert!(ended.is_none(), "the agent ended ({ended:?}):\n{}", agent.stderr());
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
    }

    /// The running agent.
    pub fn agent(&mut self) -> &mut Background {
        self.agent.as_mut().expect("the agent runs")
    }

    /// Whether the agent has logged this.
    pub fn agent_said(&self, words: &str) -> bool {
        self.agent.as_ref().expect("the agent runs").stderr().contains(words)
    }

    /// Waits until each server of `[backend.chat]` that is not in maint has been found healthy.
    pub fn wait_for_health(&self) {
        wait_for("every server to be healthy", PATIENCE, || {
            let all = SERVERS.iter().map(|server| self.server_status(server));
            all.into_iter().all(|server| server["health"] == "healthy" || server["admin"] == "maint").then_some(())
        });
    }

    /// Replaces the faults of one mock.
    pub fn break_mock(&self, server: &str, faults: Vec<Fault>) {
        self.mocks.runtime.block_on(self.mock(server).set_faults(faults));
    }

    /// Makes one mock healthy.
    pub fn mend_mock(&self, server: &str) {
        self.break_mock(server, vec![]);
    }

    /// The body of the last request to a path that a mock has seen.
    pub fn last_body(&self, server: &str, path: &str) -> Value {
        self.mock(server).journal()["last"][path]["body"].clone()
    }

    /// The headers of the last request to a path that a mock has seen.
    pub fn last_headers(&self, server: &str, path: &str) -> Value {
        self.mock(server).journal()["last"][path]["headers"].clone()
    }

    /// Where a mock listens: `127.0.0.1:PORT`.
    pub fn mock_address(&self, server: &str) -> String {
        self.mock(server).addr().to_string()
    }

    fn mock(&self, name: &str) -> &Mock {
        let at = SERVERS.iter().chain(&[SPARE]).position(|known| *known == name).expect("a mock of that name");
        &self.mocks.running[at]
    }

    /// A load through HAProxy on kept connections, which the test ends.
    pub fn load(&self, connections: usize) -> Load {
        Load::lasting(&self.address, "/v1/models", connections, Duration::from_secs(60))
    }

    /// `haproxy -c` on the live file, as an operator would run it.
    pub fn check_live(&self, binary: &Binary) -> Finished {
        let mut command = Command::new(&binary.path);
        command.args(["-c", "-f"]).arg(self.path("haproxy.cfg"));
        super::process::run(command, PATIENCE)
    }

    /// Waits for something that HAProxy shows, and tells how long after `since` it was there.
    pub fn effect(&self, what: &str, since: Instant, mut is_there: impl FnMut(&Self) -> bool) -> Duration {
        wait_for(what, PATIENCE, || is_there(self).then(|| since.elapsed()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let (true, Some(agent)) = (std::thread::panicking(), &self.agent) {
            println!("the agent said:\n{}", agent.stderr());
        }
    }
}

/// One piece of a text replaced by another.
///
/// # Panics
/// When the piece does not stand there exactly once.
pub fn swapped(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} once in\n{text}");
    text.replace(from, to)
}

pub fn private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}
