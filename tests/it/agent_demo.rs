//! `hapilot demo`: a complete setup from nothing, and nothing left of it.

use super::support::agent;
use super::support::haproxy::binaries;
use super::support::http::post;
use super::support::port::free_port;
use super::support::process::{Background, is_alive};
use super::support::{PATIENCE, wait_for};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

#[test]
fn the_demo_serves_completions_and_leaves_nothing_behind() {
    for binary in binaries() {
        let (listen, stats) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let temporary = tempfile::tempdir().expect("a directory for the demo");
        let mocks = free_mock_ports().to_string();
        let haproxy = binary.path.to_str().expect("a path of ASCII");
        let mut command = agent::command(&[
            "demo",
            "--listen",
            &listen,
            "--stats",
            &stats,
            "--mock-port",
            &mocks,
            "--haproxy",
            haproxy,
        ]);
        command.env("TMPDIR", temporary.path());
        let mut demo = Background::start(command);
        demo.wait_for_output("ready:");
        let children = children_of(demo.pid());
        assert!(!children.is_empty(), "HAProxy is the demo's child");

        let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#;
        let reply = post(&listen, "/v1/chat/completions", body).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.json()["choices"][0]["message"]["content"].is_string());

        demo.signal(Signal::SIGINT);
        let status = demo.wait(PATIENCE).expect("SIGINT ends it");
        assert_eq!(status.code(), Some(0), "{}{}", demo.stdout(), demo.stderr());
        wait_for("the end of its children", PATIENCE, || children.iter().all(|pid| !is_alive(*pid)).then_some(()));
        let left: Vec<_> = fs_err::read_dir(temporary.path()).expect("the directory").collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(std::net::TcpStream::connect(&listen).is_err());
    }
}

/// The first of three ports, ten apart, each with its neighbour free.
fn free_mock_ports() -> u16 {
    let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    wait_for("ports for the mocks", PATIENCE, || {
        let first = free_port();
        [0, 1, 10, 11, 20, 21].iter().all(|step| *step == 0 || is_free(first + step)).then_some(first)
    })
}

/// Every process below one.
fn children_of(parent: Pid) -> Vec<Pid> {
    let mut found = vec![];
    let mut pending = vec![parent];
    while let Some(pid) = pending.pop() {
        let tasks = fs_err::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
        let lists = tasks.filter_map(|task| fs_err::read_to_string(task.path().join("children")).ok());
        let children: Vec<Pid> = lists
            .flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<i32>>())
            .map(Pid::from_raw)
            .collect();
        found.extend(&children);
        pending.extend(children);
    }
    found
}
