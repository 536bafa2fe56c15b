//! A cluster in network namespaces: on each node the agent, HAProxy, Keepalived and a mock backend, all real; and a client
//! that asks through the virtual address all the time. Each node sees its own directory at one and the same path, so
//! that all are given the same file.

use super::haproxy::binaries;
use super::net::{NODES, Net};
use super::process::{Background, Finished};
use super::{PATIENCE, wait_for, write};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The virtual address.
pub const VIP: &str = "198.51.100.200";
const PORT: u16 = 8080;
/// The client's pace.
const PACE: Duration = Duration::from_millis(5);
/// One request of the client.
const REQUEST: Duration = Duration::from_millis(500);

/// The nodes, and what runs on them.
pub struct Cluster {
    /// Dropped first: nothing may hold the directories.
    processes: BTreeMap<(&'static str, &'static str), Background>,
    pub net: Net,
    /// The node's own directory and the binary, as every node sees them. Below /run, since Keepalived runs no script of
    /// a path that others may write to.
    place: TempDir,
    dir: TempDir,
    haproxy: PathBuf,
    pub nodes: Vec<&'static str>,
}

impl Cluster {
    /// The cluster of these nodes before anything runs; nothing after a skip has been said.
    pub fn new(nodes: &[&'static str]) -> Option<Self> {
        let net = Net::new(&["keepalived", "nft"])?;
        // The newest: nothing here depends on the version.
        let haproxy = binaries().pop()?.path;
        let place = tempfile::tempdir_in("/run").expect("root may write to /run");
        let dir = tempfile::tempdir().expect("a directory for the nodes");
        for sub in nodes {
            std::fs::create_dir(dir.path().join(sub)).expect("a directory for a node");
        }
        std::fs::create_dir(place.path().join("node")).expect("a place for a node's directory");
        write(place.path().join("hapilot"), "");
        net.done("sw", &["ip", "addr", "add", "198.51.100.1/24", "dev", "br0"]);
        let cluster = Self { processes: BTreeMap::new(), net, place, dir, haproxy, nodes: nodes.to_vec() };
        write(cluster.dir.path().join("heartbeat.key"), "a key for one test alone\n");
        Some(cluster)
    }

    /// The same, serving: one owner, and each node hears the others.
    pub fn serving(nodes: &[&'static str]) -> Option<Self> {
        Self::serving_with(nodes, "")
    }

    /// The same, with more lines in the section of the virtual address.
    pub fn serving_with(nodes: &[&'static str], of_vip: &str) -> Option<Self> {
        let mut cluster = Self::new(nodes)?;
        cluster.write_file(&cluster.toml().replace("router_id = 51\n", &format!("router_id = 51\n{of_vip}")));
        for node in nodes {
            cluster.start_node(node);
        }
        cluster.wait_until_quiet();
        Some(cluster)
    }

    /// The file of the cluster.
    pub fn toml(&self) -> String {
        let own = self.place.path().join("node");
        let (own, place, dir) = (own.display(), self.place.path().display(), self.dir.path().display());
        let haproxy = self.haproxy.display();
        let priority: Vec<String> =
            self.nodes.iter().enumerate().map(|(at, node)| format!("{node} = {}", 200 - 50 * at)).collect();
        let priority = priority.join(", ");
        let address = |node: &&str| NODES.iter().find(|(name, _)| name == node).expect("a node of the network").1;
        let peers: Vec<String> =
            self.nodes.iter().map(|node| format!("{node} = \"198.51.100.{}\"", address(node))).collect();
        let peers = peers.join(", ");
        format!(
            "[node]\nstate = \"{own}/state\"\n\
             peers = {{ {peers} }}\n\
             heartbeat = {{ key = \"file:{dir}/heartbeat.key\" }}\n\
             [haproxy]\nbinary = \"{haproxy}\"\nconfig = \"{own}/haproxy.cfg\"\nadmin_socket = \"{own}/admin.sock\"\n\
             master_socket = \"{own}/master.sock\"\nuser = \"\"\ngroup = \"\"\nmaxconn = 200\nlog = \"\"\n\
             [api]\nsocket = \"{own}/hapilot.sock\"\n\
             [keepalived]\nconfig = \"{own}/keepalived.conf\"\ndirectory = \"{own}/vrrp\"\n\
             pid_file = \"{own}/keepalived.pid\"\nbackstop = \"{place}/hapilot\"\n\
             [vip.public]\naddresses = [\"{VIP}/24\"]\ninterface = \"eth0\"\nrouter_id = 51\n\
             priority = {{ {priority} }}\n\
             [frontend.api]\nbind = [\"*:{PORT}\"]\nbackend = \"chat\"\n\
             raw = [\"http-request return status 200 hdr X-Node %[env(NODE)] content-type text/plain string ok if {{ path /who }}\"]\n\
             [backend.chat.check]\ninterval = \"1s\"\n\
             [backend.chat.server.one]\nurl = \"http://127.0.0.1:9001/v1\"\n"
        )
    }

    /// Gives all nodes a file.
    pub fn write_file(&self, text: &str) {
        let file = self.dir.path().join("hapilot.toml");
        // At once, as an editor does: no agent reads a half.
        write(file.with_extension("new"), text);
        std::fs::rename(file.with_extension("new"), file).expect("a rename within a directory");
    }

    /// A path on a node, as this process sees it.
    pub fn path(&self, node: &str, name: &str) -> PathBuf {
        self.dir.path().join(node).join(name)
    }

    fn words(&self, node: &str, words: &[&str]) -> Vec<String> {
        let (own, place) = (self.dir.path().join(node), self.place.path());
        let mount = format!(
            "mount --bind {} {place}/node && mount --bind {} {place}/hapilot && exec \"$@\"",
            own.display(),
            env!("CARGO_BIN_EXE_hapilot"),
            place = place.display(),
        );
        ["sh", "-c", &mount, "sh"].iter().chain(words).map(|word| (*word).to_owned()).collect()
    }

    /// Runs a command on a node.
    pub fn run(&self, node: &str, words: &[&str]) -> Finished {
        let words = self.words(node, words);
        self.net.run(node, &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs hapilot on a node, with the file.
    pub fn hapilot(&self, node: &str, words: &[&str]) -> Finished {
        let (binary, file) = self.binary_and_file();
        let all: Vec<&str> = [&binary, "-c", &file, "--node", node].into_iter().chain(words.iter().copied()).collect();
        self.run(node, &all)
    }

    fn binary_and_file(&self) -> (String, String) {
        let text = |path: PathBuf| path.to_str().expect("a path of ASCII").to_owned();
        (text(self.place.path().join("hapilot")), text(self.dir.path().join("hapilot.toml")))
    }

    /// Starts a process on a node under a name.
    fn start(&mut self, node: &'static str, name: &'static str, words: &[&str]) {
        let words = self.words(node, words);
        let mut command = self.net.command(node, &words.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("NODE", node).env("TMPDIR", self.dir.path().join(node));
        self.processes.insert((node, name), Background::start(command));
    }

    /// Everything of a node, in the order in which a machine starts it.
    pub fn start_node(&mut self, node: &'static str) {
        let (binary, _) = self.binary_and_file();
        self.start(node, "mock", &[&binary, "mock", "--listen", "127.0.0.1:9001"]);
        self.start_agent(node);
        let conf = self.path(node, "keepalived.conf");
        wait_for(&format!("keepalived.conf of {node}"), PATIENCE, || conf.exists().then_some(()));
        self.start_haproxy(node);
        self.start_keepalived(node);
    }

    pub fn start_agent(&mut self, node: &'static str) {
        let (binary, file) = self.binary_and_file();
        self.start(node, "agent", &[&binary, "-c", &file, "--node", node, "run"]);
    }

    pub fn start_haproxy(&mut self, node: &'static str) {
        let own = self.place.path().join("node").display().to_string();
        let haproxy = self.haproxy.display().to_string();
        let (socket, file) = (format!("{own}/master.sock"), format!("{own}/haproxy.cfg"));
        self.start(node, "haproxy", &[&haproxy, "-W", "-S", &socket, "-f", &file]);
    }

    pub fn start_keepalived(&mut self, node: &'static str) {
        let own = self.place.path().join("node").display().to_string();
        // As systemd does: one that is started at once after the death of another says that it runs already.
        let script = format!(
            "while :; do keepalived -n -l -D -G -P -f {own}/keepalived.conf -p {own}/keepalived.pid -r {own}/vrrp.pid \
             -c {own}/checkers.pid -b {own}/bfd.pid; \
             sleep 0.5; done"
        );
        self.start(node, "keepalived", &["sh", "-c", &script]);
    }

    /// `kill -9` of a process and all below it.
    pub fn kill(&mut self, node: &'static str, name: &'static str) {
        let mut process = self.processes.remove(&(node, name)).expect("it was started");
        for child in family(process.pid()).into_iter().rev() {
            let _ = kill(child, Signal::SIGKILL);
        }
        process.wait(PATIENCE).expect("nothing survives SIGKILL");
    }

    /// A signal to a process and all below it.
    pub fn signal(&self, node: &'static str, name: &'static str, signal: Signal) {
        let all = family(self.processes[&(node, name)].pid());
        all.into_iter().rev().for_each(|pid| kill(pid, signal).expect("our own child can be signalled"));
    }

    /// The process itself, below the shells that led to it.
    pub fn pid(&self, node: &'static str, name: &'static str) -> Pid {
        *family(self.processes[&(node, name)].pid()).last().expect("the process itself")
    }

    /// What a process said.
    pub fn said(&self, node: &'static str, name: &'static str) -> String {
        self.processes.get(&(node, name)).map(|process| process.stdout() + &process.stderr()).unwrap_or_default()
    }

    /// `vip status --json` of a node; `Null` where it says nothing.
    pub fn vips(&self, node: &str) -> Value {
        serde_json::from_str(&self.hapilot(node, &["--json", "vip", "status"]).stdout).unwrap_or_default()
    }

    /// `status --json` of a node.
    pub fn status(&self, node: &str) -> Value {
        serde_json::from_str(&self.hapilot(node, &["--json", "status"]).stdout).unwrap_or_default()
    }

    /// The kinds of events that a node tells, newest first.
    pub fn events(&self, node: &str) -> Vec<String> {
        let vips = self.vips(node);
        let events = vips["events"].as_array().cloned().unwrap_or_default();
        events.iter().filter_map(|event| event["kind"].as_str().map(str::to_owned)).collect()
    }

    /// Whether the node's interface bears the address.
    pub fn bears(&self, node: &str) -> bool {
        self.net.done(node, &["ip", "-o", "addr", "show", "dev", "eth0"]).contains(&format!(" {VIP}/"))
    }

    /// The nodes that bear the address.
    pub fn bearers(&self) -> Vec<&'static str> {
        self.nodes.iter().copied().filter(|node| self.bears(node)).collect()
    }

    /// Waits until exactly this node bears the address.
    pub fn wait_for_owner(&self, owner: &str) {
        wait_for(&format!("{owner} to be the owner: {:?}", self.bearers()), PATIENCE, || {
            (self.bearers() == [owner]).then_some(())
        });
    }

    /// Waits until one node owns the address, the others stand by, and all hear each other; the owner and another node.
    pub fn wait_until_quiet(&self) -> (&'static str, &'static str) {
        let is_quiet = || {
            self.nodes.iter().all(|node| {
                let vips = self.vips(node);
                let parts = vips["vips"][0]["nodes"].as_array().cloned().unwrap_or_default();
                let count = |state: &str| parts.iter().filter(|part| part["state"] == state).count();
                parts.len() == self.nodes.len() && count("MASTER") == 1 && count("BACKUP") == parts.len() - 1
            })
        };
        let began = Instant::now();
        while !is_quiet() {
            assert!(began.elapsed() < PATIENCE, "the cluster does not come to rest:{}", self.all_said());
            super::pause(Duration::from_millis(50));
        }
        let owner = self.bearers()[0];
        let other = self.nodes.iter().copied().find(|node| *node != owner).expect("two nodes");
        (owner, other)
    }

    /// The last words of everybody, for a failure.
    fn all_said(&self) -> String {
        let said = self.processes.iter().map(|((node, name), process)| {
            let text = process.stdout() + &process.stderr();
            let lines: Vec<&str> = text.lines().rev().take(15).collect();
            format!("\n--- {name} of {node}\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        });
        said.chain(self.nodes.iter().map(|node| format!("\n--- {node}: {}", self.vips(node)["vips"]))).collect()
    }

    /// Begins to ask through the address.
    pub fn client(&self) -> Client {
        Client::start(&self.net.space_path("sw"))
    }

    /// Connections to a node's own address that ask nothing, until they are dropped.
    pub fn idle_connections(&self, node: &str, count: usize) -> Vec<TcpStream> {
        let last = NODES.iter().find(|(name, _)| *name == node).expect("a node of the network").1;
        let at = SocketAddr::new([198, 51, 100, last].into(), PORT);
        let space = File::open(self.net.space_path("sw")).expect("the client's namespace");
        let connect = move || {
            setns(space, CloneFlags::CLONE_NEWNET).expect("a thread may go into a namespace");
            (0..count).map(|_| TcpStream::connect_timeout(&at, PATIENCE).expect("the kernel takes it")).collect()
        };
        std::thread::spawn(connect).join().expect("it connects")
    }
}

/// A process and everything below it.
fn family(pid: Pid) -> Vec<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|word| word.parse().ok()).map(Pid::from_raw);
    std::iter::once(pid).chain(children.flat_map(family)).collect()
}

/// When a request began, and who answered it.
type Answer = (Instant, Option<String>);

/// Asks through the virtual address, one request after the other, until it is dropped.
pub struct Client {
    ending: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    fn start(space: &str) -> Self {
        let space = File::open(space).expect("the client's namespace");
        let (ending, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stop, list) = (ending.clone(), answers.clone());
        let thread = std::thread::spawn(move || {
            setns(space, CloneFlags::CLONE_NEWNET).expect("a thread may go into a namespace");
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let answer = ask();
                list.lock().expect("nobody panics with it").push((began, answer));
                super::pause(PACE.saturating_sub(began.elapsed()));
            }
        });
        let client = Self { ending, answers, thread: Some(thread) };
        wait_for("the first answers", PATIENCE, || (client.served().len() > 10).then_some(()));
        client
    }

    /// The requests that were answered since the start, and by whom.
    fn served(&self) -> Vec<String> {
        self.answers.lock().expect("nobody panics with it").iter().filter_map(|(_, who)| who.clone()).collect()
    }

    /// So many requests of those that began since then were not answered; and the longest time between two that were.
    pub fn lost_since(&self, since: Instant) -> (usize, Duration) {
        let answers = self.answers.lock().expect("nobody panics with it");
        let after: Vec<_> = answers.iter().filter(|(began, _)| *began >= since).collect();
        let good: Vec<Instant> = after.iter().filter(|(_, who)| who.is_some()).map(|(began, _)| *began).collect();
        let gaps = std::iter::once(since).chain(good.iter().copied()).zip(good.iter().copied());
        let longest = gaps.map(|(earlier, later)| later.saturating_duration_since(earlier)).max();
        (after.len() - good.len(), longest.unwrap_or_else(|| since.elapsed()))
    }

    /// Waits until this node answers.
    pub fn wait_for(&self, node: &str) {
        wait_for(&format!("an answer of {node}"), PATIENCE, || {
            (self.served().last().map(String::as_str) == Some(node)).then_some(())
        });
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// One request; who answered it.
fn ask() -> Option<String> {
    let at = SocketAddr::new(VIP.parse().expect("an address"), PORT);
    let mut stream = TcpStream::connect_timeout(&at, REQUEST).ok()?;
    stream.set_read_timeout(Some(REQUEST)).ok()?;
    stream.write_all(b"GET /who HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let who = answer.lines().find_map(|line| line.strip_prefix("x-node: "))?;
    answer.contains(" 200 ").then(|| who.to_owned())
}
