//! What somebody else changed in HAProxy is put right, and named.

use super::agent_servers::{has_server, quiet};
use super::support::haproxy::binaries;
use super::support::stage::Stage;
use super::support::{PATIENCE, wait_for};
use std::time::Duration;

#[test]
fn drift_made_by_hand_is_put_right_and_named() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| {
            super::support::stage::swapped(&text, "state = \"ready\" # c", "state = \"ready\" # c\nmaxconn = 30")
        });
        let map = stage.private().admin("show map");
        let routes = map.lines().find(|line| line.contains("routes")).expect("a map of routes");
        let routes = routes.split_whitespace().find(|word| word.contains("routes")).expect("its name");
        let routes = routes.trim_matches(|c: char| "()'".contains(c)).to_owned();
        stage.private().admin("set server chat/a weight 5");
        stage.private().admin("set server chat/b state drain");
        stage.private().admin("set maxconn server chat/c 5");
        stage.private().admin("set maxconn global 500");
        stage.private().admin(&format!("add map {routes} /v1/elsewhere chat"));
        let since = std::time::Instant::now();
        let took = stage.effect("everything put right", since, |stage| {
            let entries = stage.private().admin(&format!("show map {routes}"));
            let is_process_back = stage.private().admin("show info").contains("\nMaxconn: 1000\n");
            stage.weight("a") == 100 && stage.is_ready("b") && !entries.contains("elsewhere") && is_process_back
        });
        assert!(took < Duration::from_secs(10), "{took:?}");
        println!("{} drift put right after {} ms", binary.version, took.as_millis());
        let named = wait_for("the names", PATIENCE, || {
            let corrections = stage.json(&["status"])["corrections"].to_string();
            (corrections.matches("text").count() >= 5).then_some(corrections)
        });
        for words in [
            "weight chat/a: HAProxy 5, wanted 100",
            "state chat/b: HAProxy drain, wanted ready",
            "maxconn chat/c: HAProxy 5, wanted 30",
            "maxconn of the process: HAProxy 500, wanted 1000",
            "elsewhere",
        ] {
            assert!(named.contains(words), "{words} in {named}");
        }
        assert!(stage.agent_said("drift put right: weight chat/a"));
        assert!(stage.done(&["status"]).contains("weight chat/a: HAProxy 5, wanted 100"));
        // Our own changes are no drift.
        stage.done(&["server", "weight", "chat/a", "30"]);
        stage.done(&["server", "ready", "chat/a"]);
        assert_eq!(stage.json(&["status"])["corrections"].to_string(), named);
    }
}

#[test]
fn servers_added_or_removed_by_hand_are_put_right() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let worker = stage.worker();
        let admin = |command: &str| stage.private().admin(command);
        admin("set server chat/a state maint");
        admin("del server chat/a");
        admin("add server chat/stranger 127.0.0.1:9");
        assert!(!has_server(&stage, "a") && has_server(&stage, "stranger"));
        let begun = std::time::Instant::now();
        wait_for("the lost one to be back, the stranger to be gone", PATIENCE, || {
            (has_server(&stage, "a") && stage.is_ready("a") && !has_server(&stage, "stranger")).then_some(())
        });
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!(stage.worker(), worker, "a reload");
    }
}

#[test]
fn a_haproxy_that_was_reloaded_with_an_older_file_is_brought_back() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        // Runtime changes from elsewhere: drift.
        stage.private().admin("set server chat/a weight 3");
        let since = std::time::Instant::now();
        let took = stage.effect("the weight of the file", since, |stage| stage.weight("a") == 100);
        println!("{} drift of a weight: back after {} ms", binary.version, took.as_millis());
        let worker = stage.worker();
        assert!(stage.private().reload().succeeded);
        assert_ne!(stage.worker(), worker);
        wait_for("the agent to see the new worker", PATIENCE, || {
            (stage.json(&["status"])["haproxy"]["pid"] == stage.worker().as_raw()).then_some(())
        });
        assert_eq!(stage.json(&["status"])["agent"]["reloads"], 0);
    }
}
