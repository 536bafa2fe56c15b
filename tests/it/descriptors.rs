//! Who connects and says nothing takes no descriptor that the agent needs; and an agent that has none left judges nobody.

use super::support::cluster::Cluster;
use super::support::haproxy::binaries;
use super::support::http::get;
use super::support::port::free_port;
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, pause, wait_for};
use hapilot::mock::{Fault, FaultKind};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What a shell, a container or an old unit gives.
const LIMIT: u64 = 1024;
/// More than that.
const IDLE: usize = 1100;

/// Sets how many descriptors a process may have; answers what it was.
fn limit(pid: Pid, new: Rlimit) -> Rlimit {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).expect("a process id");
    prlimit(Some(pid), Resource::Nofile, new).expect("our own child")
}

fn descriptors(pid: Pid) -> usize {
    fs_err::read_dir(format!("/proc/{pid}/fd")).expect("our own child").count()
}

#[test]
fn connections_that_say_nothing_blind_no_agent() {
    hapilot::sys::descriptors::raise_limit().expect("room for the connections of this test");
    for binary in binaries().into_iter().rev().take(1) {
        let address = format!("127.0.0.1:{}", free_port());
        let listen = format!("\nlisten = \"{address}\"\n[frontend.api]");
        let mut stage = Stage::running(&binary, |text| swapped(&text, "\n[frontend.api]", &listen));
        let agent = stage.agent().pid();
        limit(agent, Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) });
        wait_for("the readers' listener", PATIENCE, || get(&address, "/metrics").ok());
        let tcp: Vec<TcpStream> =
            (0..IDLE).map(|_| TcpStream::connect(&address).expect("the kernel takes it")).collect();
        let socket = stage.path("hapilot.sock");
        let unix: Vec<UnixStream> = (0..IDLE)
            .map(|_| wait_for("a place in the queue", PATIENCE, || UnixStream::connect(&socket).ok()))
            .collect();
        // Probes, edits, the command line and readers go on.
        stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
        wait_for("the fault", PATIENCE, || (stage.server_status("b")["health"] == "unhealthy").then_some(()));
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the edit", PATIENCE, || (stage.weight("a") == 40).then_some(()));
        stage.done(&["server", "weight", "chat/c", "30"]);
        assert_eq!(get(&address, "/metrics").expect("the one that comes last is served").status, 200);
        for server in ["a", "c"] {
            assert_eq!(stage.server_status(server)["health"], "healthy", "{server}");
        }
        let held = descriptors(agent);
        assert!(held < 300, "{held} descriptors");
        for words in ["Too many open files", "does not follow", "lacks descriptors"] {
            assert!(!stage.agent_said(words), "{words}");
        }
        assert!(stage.agent_said("as many connections as it may"));
        drop((tcp, unix));
    }
}

#[test]
fn the_limit_of_descriptors_is_raised_at_the_start() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::with_haproxy(&binary, |text| text);
        stage.start_agent();
        let agent = stage.agent().pid();
        let limits = fs_err::read_to_string(format!("/proc/{agent}/limits")).expect("our own child");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit of descriptors");
        let words: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(words.len() < 2 || words[0] == words[1].min(1 << 20), "{line}");
    }
}

#[test]
fn an_agent_without_descriptors_judges_nobody() {
    let Some(cluster) = Cluster::serving(&["a", "b"]) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    let moves = ["haproxy_lost", "keepalived_lost", "orphan", "master", "backup", "fault"];
    let count = || {
        let events = [cluster.events(owner), cluster.events(other)].concat();
        events.iter().filter(|event| moves.contains(&event.as_str())).count()
    };
    let before_all = count();
    let agent = cluster.pid(owner, "agent");
    // What is open stays open; nothing more can be.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let before = limit(agent, Rlimit { current: Some(3), maximum });
    wait_for("the agent to notice", PATIENCE, || {
        cluster.said(owner, "agent").contains("lacks descriptors").then_some(())
    });
    // Longer than a hang, a loss of Keepalived and a degraded node take to be noticed.
    pause(Duration::from_secs(8));
    assert_eq!(cluster.bearers(), [owner], "{}", cluster.said(owner, "agent"));
    limit(agent, before);
    wait_for("the agent's answer", PATIENCE, || cluster.vips(owner)["vips"][0]["nodes"].is_array().then_some(()));
    assert_eq!(cluster.wait_until_quiet(), (owner, other));
    assert_eq!(count(), before_all, "{}", cluster.said(owner, "agent"));
    let status = cluster.status(owner);
    let server = &status["backends"][0]["servers"][0];
    assert_eq!(server["health"], "healthy", "{server}");
}
