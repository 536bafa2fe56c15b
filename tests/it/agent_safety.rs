//! What keeps a slip from becoming an outage: guards, tags, drift that is named, an agent that only looks, a journal.

use super::support::haproxy::binaries;
use super::support::process::is_alive;
use super::support::stage::Stage;
use super::support::{PATIENCE, wait_for, write};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn an_edit_that_takes_half_a_backend_away_waits_for_force() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let text = stage.text();
        let without = |text: &str| {
            let mut keep = true;
            let lines = text.lines().filter(|line| {
                if line.starts_with('[') {
                    keep = !line.starts_with("[backend.chat.server.b") && !line.starts_with("[backend.chat.server.c");
                }
                keep
            });
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        stage.write_file(&without(&text));
        let told = wait_for("the refusal", PATIENCE, || {
            let problems = stage.json(&["status"])["problems"].to_string();
            problems.contains("removes 2 of the 3 servers of backend chat").then_some(problems)
        });
        let file = stage.file();
        assert!(told.contains(&format!("hapilot -c {} apply --force", file.display())), "{told}");
        let plan = stage.done(&["plan"]);
        assert!(plan.contains("--force"), "{plan}");
        let refused = stage.cli(&["apply"]);
        assert!(refused.code == Some(1) && refused.stderr.contains("removes 2 of the 3"), "{}", refused.stderr);
        assert_eq!((stage.weight("b"), stage.revisions()), (100, (1, 1)));

        stage.done(&["apply", "--force"]);
        assert_eq!(stage.revisions(), (2, 2));
        assert!(!stage.read("haproxy.cfg").contains("server b "));
        // The way back grows again, and nobody asks.
        stage.done(&["rollback"]);
        assert_eq!((stage.weight("b"), stage.revisions()), (100, (3, 3)));
    }
}

#[test]
fn a_tag_names_a_revision_for_ever() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.done(&["tag", "1", "before-the-sale"]);
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        let taken = stage.cli(&["tag", "2", "before-the-sale"]);
        assert!(taken.code == Some(1) && taken.stderr.contains("revision 1 is called"), "{}", taken.stderr);
        assert!(stage.done(&["history"]).contains("before-the-sale"));
        assert_eq!(stage.json(&["history"])[1]["tags"][0], "before-the-sale");
        let diff = stage.done(&["diff", "before-the-sale", "2"]);
        assert!(diff.contains("+weight = 40 # a"), "{diff}");
        stage.done(&["rollback", "before-the-sale"]);
        assert_eq!((stage.weight("a"), stage.revisions()), (100, (3, 3)));
        let outcome = stage.json(&["history"])[1]["outcome"].to_string();
        assert!(outcome.contains("rolled-back"), "{outcome}");
        let unknown = stage.cli(&["rollback", "never"]);
        assert!(
            unknown.code == Some(1) && unknown.stderr.contains("no revision is called never"),
            "{}",
            unknown.stderr
        );
    }
}

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

/// Every file below the stage's directory but the operator's, with its content.
fn everything(stage: &Stage) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut pending = vec![stage.path("")];
    let mut found = BTreeMap::new();
    while let Some(path) = pending.pop() {
        let kind = fs_err::symlink_metadata(&path).expect("a file of the node").file_type();
        if kind.is_dir() {
            pending.extend(fs_err::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else if kind.is_file() && path.file_name().is_some_and(|name| name != "hapilot.toml") {
            found.insert(path.clone(), fs_err::read(&path).expect("its content"));
        }
    }
    found
}

#[test]
fn an_observer_changes_nothing_and_tells_what_it_would() {
    for binary in binaries() {
        let mut stage = Stage::with_haproxy(&binary, |text| text);
        let (before, worker) = (everything(&stage), stage.worker());
        stage.start_observer();
        let observed = |stage: &Stage| stage.json(&["status"])["would"].clone();
        wait_for("nothing to do", PATIENCE, || (observed(&stage) == serde_json::json!([])).then_some(()));
        stage.wait_for_health();
        stage.edit("weight = 100 # a", "weight = 40 # a");
        let would = wait_for("what it would do", PATIENCE, || {
            Some(observed(&stage).to_string()).filter(|would| would.contains("weight chat/a"))
        });
        assert!(would.contains("100 → 40") && would.contains("haproxy.cfg"), "{would}");
        assert!(stage.agent_said("observe only, would change"));
        assert!(stage.cli(&["status"]).stdout.contains("observes only"));
        assert!(stage.done(&["plan"]).contains("weight chat/a 100 → 40"));
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        wait_for("the reload", PATIENCE, || observed(&stage).to_string().contains("reload: ").then_some(()));
        for change in [&["apply"][..], &["rollback", "1"], &["server", "drain", "chat/a"], &["tag", "1", "x"]] {
            let refused = stage.cli(change);
            assert!(
                refused.code == Some(1) && refused.stderr.contains("only observes"),
                "{change:?} {}",
                refused.stderr
            );
        }
        assert_eq!((stage.weight("a"), stage.is_ready("a"), stage.worker()), (100, true, worker));
        assert_eq!(stage.agent().stop(), Some(0));
        assert!(everything(&stage) == before, "a file changed");
    }
}

#[test]
fn a_refused_reload_is_kept_in_the_history_once() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::running(&binary, |text| text);
        // Passes `haproxy -c` and every check of ours, and cannot be bound: another user's socket in a place of its own.
        let taken = stage.path("taken");
        fs_err::create_dir(&taken).expect("a directory");
        let bind = format!("raw = [\"bind unix@{}/none/x.sock\"]\n", taken.display());
        stage.edit("backend = \"chat\"\nroutes", &format!("backend = \"chat\"\n{bind}routes"));
        wait_for("the failure in the history", PATIENCE, || {
            let newest = stage.json(&["history"])[0].clone();
            newest["outcome"].as_str().is_some_and(|outcome| outcome.starts_with("failed: ")).then_some(())
        });
        assert_eq!(stage.revisions(), (2, 1));
        let refused = stage.cli(&["apply"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        assert_eq!(stage.revisions(), (2, 1), "the same failure is no news");
        assert!(stage.agent().stop().is_some());
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

#[test]
fn explain_names_every_factor_and_what_haproxy_says() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.done(&["server", "weight", "chat/b", "30", "--for", "10m"]);
        let said = stage.done(&["explain", "chat/b"]);
        for words in ["weight    30 of 100", "override", "weight 30", "healthy", "models ok", "HAProxy"] {
            assert!(said.contains(words), "{words} in {said}");
        }
        let json = stage.json(&["explain", "chat/a"]);
        assert_eq!((&json["server"]["name"], &json["backend"]), (&"a".into(), &"chat".into()));
        assert!(json["server"]["factors"].as_array().is_some_and(|factors| !factors.is_empty()), "{json}");
        let unknown = stage.cli(&["explain", "chat/z"]);
        assert!(unknown.code == Some(1) && unknown.stderr.contains("chat/a"), "{}", unknown.stderr);
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

/// What a full disk does, as root can see it as well: the file cannot be put in its place.
#[test]
fn a_word_holds_and_is_told_where_it_cannot_be_written_down() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        let file = stage.path("state/overrides.json");
        if file.exists() {
            fs_err::remove_file(&file).expect("no word yet");
        }
        fs_err::create_dir_all(file.join("in the way")).expect("a directory");
        let said = stage.done(&["server", "drain", "chat/b"]);
        assert!(said.contains("not kept over a restart"), "{said}");
        assert_eq!(stage.weight("b"), 100);
        let is_told =
            |stage: &Stage| stage.json(&["status"])["problems"].to_string().contains("not kept over a restart");
        wait_for("the problem in status", PATIENCE, || is_told(&stage).then_some(()));
        assert_eq!(stage.server_status("b")["admin"], "drain");
        fs_err::remove_dir_all(&file).expect("room");
        wait_for("the word on disk", PATIENCE, || (file.is_file() && !is_told(&stage)).then_some(()));

        // A rollback too is what it is.
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the edit", PATIENCE, || (stage.weight("a") == 40).then_some(()));
        stage.done(&["rollback"]);
        assert_eq!(stage.weight("a"), 100);
    }
}

#[test]
fn who_takes_the_last_server_out_is_told_what_clients_get() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        for server in ["a", "b"] {
            let said = stage.done(&["server", "maint", &format!("chat/{server}")]);
            assert!(!said.contains("503"), "{said}");
        }
        let said = stage.done(&["server", "maint", "chat/c"]);
        assert!(said.contains("no server of backend chat") && said.contains("server ready chat/c"), "{said}");
    }
}
