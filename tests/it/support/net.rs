//! Network namespaces on one switch, for what must not touch the machine's own network. Root only; gone with the value,
//! and also when the test process dies without dropping it.

use super::process::{Finished, run};
use super::{is_root, skip_or_demand};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longest time of one command.
const LIMIT: Duration = Duration::from_secs(30);
/// The nodes: each has `eth0` with 198.51.100.N/24 and 2001:db8::N/64.
pub const NODES: [(&str, u8); 3] = [("a", 11), ("b", 12), ("c", 100)];

/// Nodes `a`, `b` and `c`, and the switch between them.
#[derive(Debug)]
pub struct Net {
    prefix: String,
    guard: Child,
}

impl Net {
    /// Makes the namespaces; nothing after a skip has been said, where the machine does not let us or a tool of `needs`
    /// is missing.
    pub fn new(needs: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !is_root() {
            skip_or_demand("network namespaces need root");
            return None;
        }
        let missing = ["ip"].iter().chain(needs).find(|tool| !has(tool));
        if let Some(tool) = missing {
            skip_or_demand(&format!("needs `{tool}`"));
            return None;
        }
        let prefix = format!("hn{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Reads from a pipe that only this test process holds: its end is the end of the namespaces.
        let sweep = "read -r _; for n in a b c sw; do ip netns pids \"$0-$n\" 2>/dev/null | xargs -r kill -KILL; \
                     ip netns del \"$0-$n\" 2>/dev/null; done";
        let guard = Command::new("sh")
            .args(["-c", sweep, &prefix])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell to guard the namespaces");
        let net = Self { prefix, guard };
        let switch = net.space("sw");
        if ip(&["netns", "add", &switch]).code != Some(0) {
            skip_or_demand("this machine lets nobody make network namespaces");
            return None;
        }
        must(&["-n", &switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0"]);
        must(&["-n", &switch, "link", "set", "br0", "up"]);
        for (name, last) in NODES {
            let (space, port) = (net.space(name), format!("p{name}"));
            must(&["netns", "add", &space]);
            let pair =
                ["link", "add", "eth0", "netns", &space, "type", "veth", "peer", "name", &port, "netns", &switch];
            must(&pair);
            must(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
            // No address that comes by itself, later.
            must(&["-n", &space, "link", "set", "eth0", "addrgenmode", "none"]);
            must(&["-n", &space, "link", "set", "lo", "up"]);
            must(&["-n", &space, "link", "set", "eth0", "up"]);
            must(&["-n", &space, "addr", "add", &format!("198.51.100.{last}/24"), "dev", "eth0"]);
            must(&["-n", &space, "addr", "add", &format!("2001:db8::{last}/64"), "dev", "eth0", "nodad"]);
        }
        Some(net)
    }

    fn space(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// The file by which a thread can go into a node's network.
    pub fn space_path(&self, node: &str) -> String {
        format!("/var/run/netns/{}", self.space(node))
    }

    /// A command inside a node, with no more of the environment than `PATH`.
    pub fn command(&self, node: &str, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(node)]).args(words).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("NO_COLOR", "1");
        command
    }

    /// Runs a command inside a node to its end.
    pub fn run(&self, node: &str, words: &[&str]) -> Finished {
        run(self.command(node, words), LIMIT)
    }

    /// The same, which must succeed; what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn done(&self, node: &str, words: &[&str]) -> String {
        let Finished { code, stdout, stderr } = self.run(node, words);
        assert_eq!(code, Some(0), "{node}: {words:?}: {stderr}");
        stdout
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Whether a program is in `PATH`.
pub fn has(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
}

fn ip(words: &[&str]) -> Finished {
    let mut command = Command::new("ip");
    command.args(words);
    run(command, LIMIT)
}

fn must(words: &[&str]) {
    let done = ip(words);
    assert_eq!(done.code, Some(0), "ip {words:?}: {}", done.stderr);
}

#[test]
fn nodes_reach_each_other_and_nothing_stays_behind() {
    let Some(net) = Net::new(&[]) else { return };
    assert!(net.done("a", &["ip", "-o", "addr", "show", "dev", "eth0"]).contains("198.51.100.11/24"));
    let (prefix, list) = (net.prefix.clone(), || ip(&["netns", "list"]).stdout);
    assert!(list().contains(&prefix));
    drop(net);
    assert!(!list().contains(&prefix));
}
