//! Edits that need a reload: exactly one, proven, with its reason; and what clients notice of it: nothing.

use super::support::haproxy::binaries;
use super::support::load::Load;
use super::support::stage::Stage;
use super::support::{PATIENCE, wait_for};
use std::time::Duration;

#[test]
fn a_timeout_edit_is_one_proven_reload_with_its_reason() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        let (worker, (before, _)) = (stage.worker(), stage.revisions());
        let edited = stage.edit("first_byte = \"10s\"", "first_byte = \"11s\"");
        let took = stage.effect("the revision", edited, |stage| stage.revisions().0 > before);
        println!("{} timeout: recorded after {} ms", binary.version, took.as_millis());

        let status = stage.json(&["status"]);
        assert_ne!(stage.worker(), worker);
        assert_eq!(status["agent"]["reloads"], 1, "{status}");
        let marker = status["haproxy"]["structure"].as_str().expect("a marker").to_owned();
        let info = stage.private().admin("show info");
        assert!(
            info.lines().any(|line| line.to_lowercase() == format!("description: {marker}")),
            "{marker} in\n{info}"
        );
        assert!(stage.read("haproxy.cfg").contains(&marker));
        let newest = &stage.json(&["history"])[0];
        assert_eq!((&newest["how"], &newest["is_current"]), (&"reload".into(), &true.into()), "{newest}");
        let why = newest["summary"].to_string();
        assert!(why.contains("backend chat") && why.contains("timeout server 11s"), "{why}");
        let check = stage.check_live(&binary);
        assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""));
        assert_eq!(stage.agent().stop(), Some(0));
    }
}

#[test]
fn an_edit_soon_after_a_reload_is_applied_when_its_time_has_come() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let (before, _) = stage.revisions();
        stage.edit("first_byte = \"10s\"", "first_byte = \"11s\"");
        let reloaded =
            wait_for("the first reload", PATIENCE, || (stage.revisions().0 > before).then(std::time::Instant::now));
        // Two more, one of which the runtime could take over alone: both wait and come together.
        stage.edit("first_byte = \"11s\"", "first_byte = \"12s\"");
        wait_for("the agent to have read it", PATIENCE, || {
            stage.agent_said("waits for the gap between two").then_some(())
        });
        stage.edit("weight = 100 # a", "weight = 33 # a");
        wait_for("the last revision", PATIENCE, || (stage.weight("a") == 33).then_some(()));
        let waited = reloaded.elapsed();
        wait_for("its record", PATIENCE, || (stage.revisions().0 == before + 2).then_some(()));
        println!("{} both edits came {} ms after the reload", binary.version, waited.as_millis());
        assert!(stage.read("haproxy.cfg").contains("timeout server 12s"));
        assert!(waited < Duration::from_secs(20), "{waited:?}");
        assert_eq!(stage.json(&["status"])["agent"]["reloads"], 2);
    }
}

#[test]
fn an_edit_during_a_reload_is_not_lost() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let worker = stage.worker();
        stage.edit("first_byte = \"10s\"", "first_byte = \"11s\"");
        // As soon as the files are written the reload is under way.
        wait_for("the new file", PATIENCE, || stage.read("haproxy.cfg").contains("timeout server 11s").then_some(()));
        let edited = stage.edit("weight = 100 # b", "weight = 44 # b");
        let took = stage
            .effect("weight 44 in the new worker", edited, |stage| stage.worker() != worker && stage.weight("b") == 44);
        println!("{} edit during a reload: effective after {} ms", binary.version, took.as_millis());
        assert_eq!(stage.json(&["status"])["agent"]["reloads"], 1);
    }
}

#[test]
fn fifty_clients_notice_nothing_of_three_reloads_under_load() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let (before, _) = stage.revisions();
        let kept = stage.load(40).start();
        let fresh = Load { keep_alive: false, ..stage.load(10) }.start();
        for round in 1..=3_usize {
            stage.edit(&format!("first_byte = \"{}s\"", round + 9), &format!("first_byte = \"{}s\"", round + 10));
            wait_for("the reload", PATIENCE, || (stage.revisions().0 == before + round).then_some(()));
        }
        let (kept, fresh) = (kept.stop(), fresh.stop());
        println!(
            "{} three reloads: kept {} ok, {} failed, new {} ok, {} failed",
            binary.version, kept.ok, kept.failed, fresh.ok, fresh.failed
        );
        assert!(kept.failed == 0 && kept.ok > 500, "{}: {kept:?}", binary.version);
        assert!(fresh.failed == 0 && fresh.ok > 100, "{}: {fresh:?}", binary.version);
        assert_eq!(stage.json(&["status"])["agent"]["reloads"], 3);
    }
}

#[test]
fn another_admin_socket_in_the_file_is_one_reload_and_no_haproxy_that_is_gone() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let line = stage.text().lines().find(|line| line.starts_with("admin_socket")).expect("a line").to_owned();
        let socket = stage.path("other.sock");
        stage.edit(&line, &format!("admin_socket = \"{}\"", socket.display()));
        wait_for("the revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        wait_for("a status without problems", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
        assert!(socket.exists() && stage.json(&["status"])["agent"]["reloads"] == 1, "{}", binary.version);
        stage.done(&["server", "weight", "chat/a", "40"]);
        for word in ["gone", "not running", "put right"] {
            assert!(!stage.agent_said(word), "{}: {word}", binary.version);
        }
    }
}

#[test]
fn reloads_beyond_the_budget_wait_and_say_so() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| {
            text.replace("maxconn       = 1000", "maxconn = 1000\nreloads_per_hour = 1")
        });
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        wait_for("the first reload", PATIENCE, || (stage.json(&["status"])["agent"]["reloads"] == 1).then_some(()));
        stage.edit("idle = \"12s\"", "idle = \"13s\"");
        wait_for("the refusal", PATIENCE, || {
            stage.json(&["status"])["problems"].to_string().contains("reloads_per_hour` = 1 are spent").then_some(())
        });
        // What needs no reload goes on.
        stage.done(&["server", "weight", "chat/a", "30"]);
        assert_eq!(stage.weight("a"), 30);
        assert_eq!(stage.revisions(), (2, 2));
        stage.done(&["apply", "--force"]);
        assert_eq!((stage.revisions(), &stage.json(&["status"])["agent"]["reloads"]), ((3, 3), &2.into()));
    }
}
