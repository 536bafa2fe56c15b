//! `hapilot demo`: a complete setup from nothing, and nothing left of it.

use super::support::agent;
use super::support::haproxy::binaries;
use super::support::http::post;
use super::support::port::free_port;
use super::support::process::{Background, is_alive, run};
use super::support::{PATIENCE, wait_for};
use nix::sys::signal::{Signal, killpg};
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
        let log = demo.stderr();
        assert!(log.contains("revision 1 is prepared: no HAProxy runs yet"), "{log}");
        assert!(log.contains("stopping, and HAProxy with it"), "{log}");
        for untrue in ["serves on", "again", "had it already", "start it:", "WARN"] {
            assert!(!log.contains(untrue), "a first start that is well says no {untrue:?}:\n{log}");
        }
        wait_for("the end of its children", PATIENCE, || children.iter().all(|pid| !is_alive(*pid)).then_some(()));
        let left: Vec<_> = fs_err::read_dir(temporary.path()).expect("the directory").collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(std::net::TcpStream::connect(&listen).is_err());
    }
}

#[test]
fn the_demo_writes_over_no_file_of_an_operator() {
    let temporary = tempfile::tempdir().expect("a directory");
    let file = temporary.path().join("hapilot.toml");
    fs_err::write(&file, "[node]\nname = \"lb1\"\n").expect("a file");
    let said = agent::run(&["demo", "--dir", temporary.path().to_str().expect("ASCII")]);
    assert!(said.code == Some(1) && said.stderr.contains("the demo did not write it"), "{}", said.stderr);
    assert_eq!(fs_err::read_to_string(&file).expect("the file"), "[node]\nname = \"lb1\"\n");
    assert_eq!(fs_err::read_dir(temporary.path()).expect("the directory").count(), 1, "nothing else is there");
}

/// What is done to a demo, or to the shell around it.
type Deed = fn(&mut Background);

/// How a demo can lose those it runs for, as a shell's words around it (`"$@"` is the demo), and what happens then.
const ENDINGS: [(&str, &str, Deed); 6] = [
    ("the terminal hangs up", "exec \"$@\"", |demo| demo.signal(Signal::SIGHUP)),
    ("it is killed", "exec \"$@\"", Background::kill),
    ("its parent is killed", "\"$@\"; exit 1", Background::kill),
    ("its reader has enough", "\"$@\" 2>&1 | head -n 5", |_| {}),
    ("its reader is killed", "\"$@\" 2>&1 | (sed '/Ctrl-C/q'; exit 1)", |_| {}),
    ("Ctrl-C beside a reader", "\"$@\" 2>&1 | tee /dev/stderr", |demo| {
        killpg(demo.pid(), Signal::SIGINT).expect("its own group");
    }),
];

#[test]
fn the_demo_ends_with_whoever_it_runs_for() {
    for binary in binaries().into_iter().take(1) {
        for (what, script, happens) in ENDINGS {
            let temporary = tempfile::tempdir().expect("a directory for the demo");
            let listen = format!("127.0.0.1:{}", free_port());
            let mut command = std::process::Command::new("sh");
            command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_hapilot"), "demo", "--listen", &listen]);
            command.args(["--stats", &format!("127.0.0.1:{}", free_port())]);
            command.args(["--mock-port", &free_mock_ports().to_string(), "--haproxy"]).arg(&binary.path);
            command.env("TMPDIR", temporary.path()).env("NO_COLOR", "1");
            let mut demo = Background::start(command);
            if !script.contains("head") {
                demo.wait_for_output("Ctrl-C ends");
            }
            happens(&mut demo);
            wait_for(&format!("the end of all where {what}"), PATIENCE, || {
                let left = fs_err::read_dir(temporary.path()).expect("the directory").count();
                (left == 0 && naming(temporary.path()).is_empty() && demo.status().is_some()).then_some(())
            });
            assert!(std::net::TcpStream::connect(&listen).is_err(), "{what}");
        }
    }
}

#[test]
fn the_edits_that_the_demo_prints_do_what_it_says() {
    for binary in binaries() {
        let (listen, stats) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let temporary = tempfile::tempdir().expect("a directory for the demo");
        let (mocks, haproxy) = (free_mock_ports().to_string(), binary.path.to_str().expect("a path of ASCII"));
        let options = ["demo", "--listen", &listen, "--stats", &stats, "--mock-port", &mocks, "--haproxy", haproxy];
        let mut command = agent::command(&options);
        command.env("TMPDIR", temporary.path());
        let mut demo = Background::start(command);
        demo.wait_for_output("Ctrl-C ends");
        let said = demo.stdout();
        let line = |words: &str| {
            let found = said.lines().find(|line| line.contains(words));
            found.unwrap_or_else(|| panic!("{words:?} in\n{said}")).to_owned()
        };
        let below =
            |words: &str| said.lines().skip_while(|line| !line.contains(words)).nth(1).expect("a line").to_owned();
        let wide: Vec<_> = said.lines().filter(|line| line.len() > 80 && !line.contains("hapilot.toml")).collect();
        assert!(wide.is_empty(), "{wide:#?}");
        let shell = |script: &str| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", script]);
            run(command, PATIENCE)
        };
        let status_line = line(" status").trim().to_owned() + " --json";
        let status = || -> serde_json::Value { serde_json::from_str(&shell(&status_line).stdout).unwrap_or_default() };
        for (words, reloads) in [("live without a reload", 0), ("one proven reload", 1)] {
            let before = status()["config"]["revision"].clone();
            assert_eq!(shell(&below(words)).code, Some(0), "{words}");
            wait_for(words, PATIENCE, || {
                let status = status();
                (status["config"]["revision"] != before && status["config"]["is_serving"] == true).then_some(())
            });
            assert_eq!(status()["agent"]["reloads"], reloads, "{}: {words}", binary.version);
        }
        assert_eq!(shell(&below("a mistake")).code, Some(0));
        wait_for("the mistake to be told", PATIENCE, || (status()["config"]["is_serving"] == false).then_some(()));
        assert_eq!(shell(&below("slip is mended")).code, Some(0));
        wait_for("the file to serve again", PATIENCE, || (status()["config"]["is_serving"] == true).then_some(()));
        assert_eq!(shell(&line(" rollback")).code, Some(0));
        assert_eq!(demo.stop(), Some(0), "{}", demo.stderr());
    }
}

/// Processes whose command line names a path.
fn naming(path: &std::path::Path) -> Vec<String> {
    let text = path.to_str().expect("a path of ASCII");
    let all = fs_err::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let lines = all.filter_map(|entry| fs_err::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(text)).collect()
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
