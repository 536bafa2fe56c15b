//! Who dies and comes back: the agent under load, HAProxy beside a living agent, both in any order.

use super::support::haproxy::binaries;
use super::support::http::get;
use super::support::process::is_alive;
use super::support::stage::{SERVERS, Stage, swapped};
use super::support::{PATIENCE, wait_for, write};
use hapilot::mock::Fault;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Inode and time of every file that hapilot writes for what serves; what the probes told is none of it.
fn written(stage: &Stage) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut pending = vec![stage.path("haproxy.cfg"), stage.path("maps"), stage.path("state")];
    let mut found = BTreeMap::new();
    while let Some(path) = pending.pop() {
        let metadata = fs_err::metadata(&path).expect("a file of the node");
        if metadata.is_dir() {
            let entries = fs_err::read_dir(&path).expect("a directory");
            pending.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path
            .file_name()
            .is_some_and(|name| !["lock", "probes.json", "events.jsonl"].iter().any(|beside| name == *beside))
        {
            found.insert(path, (metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    found
}

#[test]
fn a_killed_agent_is_not_missed_and_its_successor_writes_nothing_under_load() {
    for binary in binaries() {
        // Weights of every kind: the file's, an operator's, one of a drained server.
        let mut stage = Stage::running(&binary, |text| swapped(&text, "weight = 100 # a", "weight = 70 # a"));
        stage.done(&["server", "weight", "chat/b", "25"]);
        stage.done(&["server", "drain", "chat/c"]);
        let (files, worker, revisions) = (written(&stage), stage.worker(), stage.revisions());
        let load = stage.load(20).start();
        stage.agent().kill();
        let begun = load.begun();
        wait_for("traffic without an agent", PATIENCE, || (load.begun() > begun + 500).then_some(()));
        stage.start_agent();
        stage.wait_for_health();
        // Long enough for a look at everything, beyond the first probes.
        wait_for("an agent of six seconds", PATIENCE, || {
            (stage.json(&["status"])["agent"]["uptime_s"].as_u64() >= Some(6)).then_some(())
        });
        let tally = load.stop();
        println!("{} killed agent: {} requests ok, {} failed", binary.version, tally.ok, tally.failed);
        assert!(tally.failed == 0 && tally.ok > 500, "{tally:?}");

        let status = stage.json(&["status"]);
        assert_eq!((&status["agent"]["writes"], &status["agent"]["reloads"]), (&0.into(), &0.into()), "{status}");
        assert_eq!((stage.worker(), stage.revisions()), (worker, revisions));
        assert_eq!(written(&stage), files);
        assert_eq!(SERVERS.map(|server| stage.weight(server))[..2], [70, 25]);
        assert_eq!(stage.server_status("c")["admin"], "drain");
    }
}

#[test]
fn a_restarted_haproxy_has_the_weights_of_before_at_once() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        stage.done(&["server", "weight", "chat/a", "17"]);
        stage.done(&["server", "maint", "chat/b"]);
        let before = stage.worker();
        stage.end_haproxy();
        wait_for("the agent to notice", PATIENCE, || {
            let status = stage.cli(&["status"]);
            (status.code == Some(1) && status.stdout.contains("start it")).then_some(())
        });
        stage.start_haproxy();
        assert_ne!(stage.worker(), before);
        assert_eq!(stage.weight("a"), 17, "from disk, before the agent can have said anything");
        assert!(!stage.is_ready("b"));
        assert_eq!(get(&stage.address, "/v1/models").expect("an answer").status, 200);
        wait_for("the agent to follow", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
        assert_eq!(stage.json(&["status"])["agent"]["reloads"], 0);
        stage.done(&["server", "ready", "chat/b"]);
        assert!(stage.is_ready("b"));
    }
}

#[test]
fn an_agent_that_starts_before_haproxy_finds_it_later() {
    for binary in binaries() {
        let mut stage = Stage::new(&binary);
        stage.start_agent();
        assert!(stage.path("haproxy.cfg").exists());
        let status = stage.cli(&["status"]);
        assert!(status.code == Some(1) && status.stdout.contains("start it"), "{}", status.stdout);
        stage.start_haproxy();
        stage.wait_for_health();
        wait_for("a status without problems", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
        assert_eq!(stage.revisions(), (1, 1));
        assert_eq!(stage.agent().stop(), Some(0));
        assert!(!stage.path("hapilot.sock").exists());
    }
}

#[test]
fn a_second_agent_is_refused_and_does_not_disturb_the_first() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        let second = stage.cli(&["run"]);
        assert_eq!(second.code, Some(1), "{}", second.stderr);
        assert!(second.stderr.contains("another hapilot"), "{}", second.stderr);
        assert_eq!(stage.cli(&["status"]).code, Some(0));
    }
}

#[test]
fn an_agent_starts_beside_commands_that_look_for_themselves() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::with_haproxy(&binary, |text| text);
        let held = fs_err::File::open(stage.path("state/lock")).expect("the lock's file");
        held.file().lock().expect("nobody holds it");
        let ends = std::thread::spawn(move || {
            super::support::pause(std::time::Duration::from_millis(300));
            drop(held);
        });
        stage.start_agent();
        ends.join().expect("it ends");
        assert_eq!(stage.json(&["status"])["agent"]["writes"], 0);
    }
}

#[test]
fn a_first_start_onto_a_taken_port_is_made_up_for_with_a_revision() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::new(&binary);
        let held = std::net::TcpListener::bind(&stage.address).expect("the port is free");
        stage.begin_agent();
        stage.agent().wait_for_output("is in use");
        assert_eq!(stage.revisions(), (0, 0));
        drop(held);
        wait_for("the files", PATIENCE, || (stage.revisions() == (1, 1)).then_some(()));
        stage.start_haproxy();
        wait_for("a status without problems", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
        let log = stage.agent().stderr();
        assert_eq!(log.matches("the change is refused").count(), 1, "told once:\n{log}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_stops_neither_traffic_nor_health() {
    // Root may write everywhere: a file in the place of the directory stands for it.
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::new(&binary);
        write(stage.path("state"), "no directory");
        let refused = stage.cli(&["apply"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains("state"), "{}", refused.stderr);
        fs_err::remove_file(stage.path("state")).expect("our own file");
        stage.done(&["apply"]);
        stage.start_haproxy();
        stage.start_agent();
        stage.wait_for_health();
        // The directory goes away under the running agent.
        fs_err::rename(stage.path("state"), stage.path("state.gone")).expect("a rename");
        write(stage.path("state"), "no directory");
        stage.break_mock("a", vec![Fault::status(500)]);
        wait_for("health to go on", PATIENCE, || (stage.weight("a") == 0).then_some(()));
        stage.edit("weight = 100 # b", "weight = 60 # b");
        wait_for("an edit to be served", PATIENCE, || (stage.weight("b") == 60).then_some(()));
        assert_eq!(get(&stage.address, "/v1/models").expect("an answer").status, 200);
        let problem = wait_for("the problem to be told", PATIENCE, || {
            let status = stage.cli(&["status"]);
            (status.code == Some(1)).then_some(status.stdout)
        });
        assert!(problem.contains("history"), "{problem}");
        // Mended, it is made up for.
        fs_err::remove_file(stage.path("state")).expect("our own file");
        fs_err::rename(stage.path("state.gone"), stage.path("state")).expect("a rename");
        wait_for("a status without problems", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
        assert_eq!(stage.revisions(), (2, 2));
    }
}

#[test]
fn a_server_that_was_being_let_in_is_not_given_all_by_the_next_agent() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::running(&binary, |text| swapped(&text, "ramp     = \"3s\"", "ramp     = \"30s\""));
        let weight = |stage: &Stage| stage.state("chat", "a", "srv_uweight").parse::<u32>().expect("a weight");
        stage.break_mock("a", vec![Fault::status(500)]);
        wait_for("a to be out", PATIENCE, || (weight(&stage) == 0).then_some(()));
        stage.break_mock("a", vec![]);
        wait_for("a to be let in", PATIENCE, || (10..60).contains(&weight(&stage)).then_some(()));
        stage.agent().kill();
        let before = weight(&stage);
        stage.start_agent();
        wait_for("a probe's word", PATIENCE, || (stage.server_status("a")["health"] != "unknown").then_some(()));
        let now = weight(&stage);
        assert!((before..before + 30).contains(&now), "from {before} to {now}: {}", stage.server_status("a"));
        wait_for("its full share", std::time::Duration::from_secs(50), || (weight(&stage) == 100).then_some(()));
    }
}

#[test]
fn a_journal_that_a_crash_left_is_settled_at_the_start() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        let (config, map) = (stage.read("haproxy.cfg"), stage.path("maps/keys.map"));
        stage.agent().kill();
        // As a death between two renames leaves it: the first file new, the second old.
        let former = fs_err::read(&map).expect("the map");
        let digest = |bytes: &[u8]| hapilot::model::Digest::of(bytes).to_string();
        let former_file =
            |bytes: &[u8]| serde_json::to_value(hapilot::store::FormerFile::new(bytes, 0o640)).expect("a former file");
        let new = b"half a new map\n";
        let journal = serde_json::json!({
            "began": "2026-11-21T08:00:00Z",
            "kind": "reload",
            "source": digest(b"toml"),
            "files": [
                { "path": map, "before": former_file(&former), "after": [new.len(), digest(new)] },
                { "path": stage.path("haproxy.cfg"), "before": former_file(config.as_bytes()), "after": [3, digest(b"new")] },
            ],
        });
        write(stage.path("state/journal.json"), journal.to_string());
        write(&map, new);
        let worker = stage.worker();
        stage.start_agent();
        assert_eq!(fs_err::read(&map).expect("the map"), former);
        assert!(stage.agent_said("was interrupted; 1 file was put back"));
        let status = stage.json(&["status"]);
        assert!(status["recovered"].to_string().contains("interrupted"), "{status}");
        assert!(!stage.path("state/journal.json").exists());
        assert!(is_alive(worker));

        // A damaged one blocks nothing.
        stage.agent().kill();
        write(stage.path("state/journal.json"), "{ half a jour");
        stage.start_agent();
        assert!(stage.agent_said("journal.json.damaged"));
        assert!(stage.path("state/journal.json.damaged").exists());
        assert!(stage.check_live(&binary).code == Some(0));
        stage.wait_for_health();
        assert_eq!(stage.weight("a"), 100);
    }
}
