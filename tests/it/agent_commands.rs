//! The command line beside the running agent: an operator's word on a server, and everything that only looks.

use super::support::agent;
use super::support::haproxy::binaries;
use super::support::stage::{KEY, Stage, swapped};
use super::support::{PATIENCE, pause, wait_for};
use hapilot::mock::Fault;
use std::time::{Duration, Instant};

#[test]
fn an_operators_word_holds_over_a_restart_of_the_agent() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        let worker = stage.worker();
        stage.done(&["server", "drain", "chat/a"]);
        stage.done(&["server", "maint", "chat/b"]);
        stage.done(&["server", "weight", "chat/c", "7"]);
        let is_held = |stage: &Stage| {
            !stage.is_ready("b") && stage.weight("c") == 7 && stage.server_status("a")["admin"] == "drain"
        };
        assert!(is_held(&stage));
        assert_eq!(stage.agent().stop(), Some(0));
        assert_eq!(stage.weight("c"), 7);
        stage.start_agent();
        assert!(is_held(&stage));
        let word = stage.server_status("c")["override"].to_string();
        assert!(word.contains("weight 7 by"), "{word}");

        for server in ["a", "b", "c"] {
            stage.done(&["server", "ready", &format!("chat/{server}")]);
        }
        wait_for("all to be back", PATIENCE, || {
            ["a", "b", "c"].iter().all(|server| stage.is_ready(server) && stage.weight(server) == 100).then_some(())
        });
        assert_eq!((stage.worker(), stage.revisions()), (worker, (1, 1)));
        let unknown = stage.cli(&["server", "drain", "chat/aa"]);
        assert!(unknown.code == Some(1) && unknown.stderr.contains("did you mean"), "{}", unknown.stderr);
        let other = stage.cli(&["server", "drain", "chat/nope"]);
        assert!(other.code == Some(1) && !other.stderr.contains("did you mean"), "{}", other.stderr);
        assert_eq!(stage.cli(&["server", "weight", "chat/a", "257"]).code, Some(2));
    }
}

#[test]
fn the_answer_to_a_word_says_what_haproxy_took_for_it_and_nothing_of_others() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let said = |words: &[&str]| stage.done(words).trim().to_owned();
        for turn in 0..4 {
            // Other weights move at the same time.
            stage.break_mock("b", vec![Fault::new(hapilot::mock::FaultKind::Refuse)]);
            let weight = 30 + turn;
            let before = stage.weight("c");
            let expected = format!("weight chat/c {before} → {weight}");
            assert_eq!(said(&["server", "weight", "chat/c", &weight.to_string()]), expected, "{}", binary.version);
            assert_eq!(
                said(&["server", "weight", "chat/c", &weight.to_string()]),
                "it was so already; it holds until `hapilot server ready` ends it"
            );
            assert_eq!(said(&["server", "drain", "chat/c"]), "state chat/c ready → drain", "{}", binary.version);
            assert_eq!(
                said(&["server", "drain", "chat/c", "--for", "20s"]),
                "it was so already; from now on it holds for 20s"
            );
            let back = said(&["server", "ready", "chat/c"]);
            assert!(back.contains("state chat/c drain → ready") && !back.contains("chat/b"), "{back}");
            let json = stage.json(&["server", "maint", "chat/a"]);
            assert_eq!((&json["how"], json["steps"].as_array().map(Vec::len)), (&"runtime".into(), Some(1)), "{json}");
            assert!(said(&["server", "ready", "chat/a"]).contains("state chat/a maint → ready"));
            stage.mend_mock("b");
        }
    }
}

#[test]
fn that_it_was_so_already_is_what_haproxy_says_now_and_not_what_it_said_a_moment_ago() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let ask = |words: &[&str]| stage.done(words).trim().to_owned();
        // Or the agent has looked in between, and has put it right by itself.
        let is_told = |said: &str, change: &str, drift: &str| {
            said.contains(change) || said.starts_with("it was so already") && stage.agent_said(drift)
        };
        for (by_hand, word) in [("maint", "ready"), ("drain", "ready"), ("ready", "drain")] {
            assert!(!ask(&["server", word, "chat/c"]).is_empty());
            // Whoever types this has not told the agent, which looks by itself every few seconds only.
            stage.private().admin(&format!("set server chat/c state {by_hand}"));
            let said = ask(&["server", word, "chat/c"]);
            let (change, drift) =
                (format!("state chat/c {by_hand} → {word}"), format!("state chat/c: HAProxy {by_hand}, wanted {word}"));
            assert!(is_told(&said, &change, &drift), "{}: {said}", binary.version);
            assert_eq!(stage.is_ready("c"), word == "ready", "{}", binary.version);
            assert!(ask(&["server", word, "chat/c"]).starts_with("it was so already"), "{}", binary.version);
        }
        // What the agent knows of it is right in one half only.
        assert!(!ask(&["server", "weight", "chat/c", "13"]).is_empty());
        stage.private().admin("set server chat/c state maint");
        let said = ask(&["server", "ready", "chat/c"]);
        assert!(said.contains("weight chat/c 13 → 100"), "{}: {said}", binary.version);
        assert!(stage.is_ready("c") && stage.weight("c") == 100, "{}: {said}", binary.version);
        assert!(!ask(&["server", "drain", "chat/c"]).is_empty());
        stage.private().admin("set server chat/c weight 3");
        let said = ask(&["server", "drain", "chat/c"]);
        let drift = "weight chat/c: HAProxy 3, wanted 100";
        assert!(is_told(&said, "weight chat/c 3 → 100", drift), "{}: {said}", binary.version);
        assert_eq!(stage.weight("c"), 100, "{}", binary.version);
    }
}

#[test]
fn an_edit_that_is_saved_while_a_rollback_is_under_way_is_served() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let first = stage.text();
        for (weight, delay) in (50..).zip([0, 2, 5, 10, 20, 40]) {
            // Something to go back from.
            let edited = |weight: u16| swapped(&first, "weight = 100 # a", &format!("weight = {weight} # a"));
            stage.write_file(&edited(weight));
            wait_for("the edit", PATIENCE, || (stage.weight("a") == weight).then_some(()));
            std::thread::scope(|scope| {
                let back = scope.spawn(|| stage.cli(&["rollback"]));
                pause(Duration::from_millis(delay));
                stage.write_file(&edited(weight + 100));
                // It may say that the file is about to be served: then there is nothing to go back from.
                let back = back.join().expect("an answer");
                assert!(back.code == Some(0) || back.stderr.contains("about to be served"), "{}", back.stderr);
            });
            wait_for("what was saved last", PATIENCE, || {
                (stage.weight("a") == weight + 100 && stage.cli(&["status"]).code == Some(0)).then_some(())
            });
        }
    }
}

#[test]
fn a_command_about_another_file_or_node_is_refused_and_its_plan_is_its_own() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        let other = stage.path("copy.toml");
        fs_err::write(&other, swapped(&stage.text(), "weight = 100 # a", "weight = 40 # a")).expect("a copy");
        let link = stage.path("link.toml");
        fs_err::os::unix::fs::symlink(stage.file(), &link).expect("a link");
        let about = |file: &std::path::Path, arguments: &[&str]| {
            agent::run(&[&["-c", file.to_str().expect("ASCII")], arguments].concat())
        };
        let commands: [&[&str]; 10] = [
            &["apply"],
            &["rollback"],
            &["rollback", "--write"],
            &["confirm"],
            &["status"],
            &["explain", "chat/a"],
            &["key", "list"],
            &["server", "drain", "chat/a"],
            &["tag", "1", "good"],
            &["apply", "--force"],
        ];
        for arguments in commands {
            let refused = about(&other, arguments);
            assert_eq!(refused.code, Some(2), "{arguments:?}: {}{}", refused.stdout, refused.stderr);
            let file = stage.file();
            assert!(refused.stderr.contains(file.to_str().expect("ASCII")), "{arguments:?}: {}", refused.stderr);
        }
        assert_eq!(stage.cli(&["plan", "--node", "elsewhere"]).code, Some(2));
        let planned = about(&other, &["plan"]);
        assert_eq!(planned.code, Some(0), "{}", planned.stderr);
        assert!(planned.stdout.contains("40") && planned.stdout.contains("does not serve"), "{}", planned.stdout);
        fs_err::write(&other, swapped(&stage.text(), "weight = 100 # a", "weigth = 40 # a")).expect("a mistake");
        assert_eq!(about(&other, &["plan"]).code, Some(2));
        assert_eq!((stage.weight("a"), stage.revisions()), (100, (1, 1)), "nothing was changed");

        // The same file by another way is no other file.
        for arguments in [&["status"][..], &["plan"], &["apply"]] {
            let same = about(&link, arguments);
            assert_eq!(same.code, Some(0), "{arguments:?}: {}{}", same.stdout, same.stderr);
        }
    }
}

#[test]
fn a_word_for_a_time_ends_by_itself() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let set = Instant::now();
        stage.done(&["server", "maint", "chat/a", "--for", "2s"]);
        assert!(!stage.is_ready("a"));
        let took = stage.effect("its end", set, |stage| stage.is_ready("a"));
        println!("{} --for 2s: ended after {} ms", binary.version, took.as_millis());
        assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(15), "{took:?}");
        let set = Instant::now();
        stage.done(&["server", "weight", "chat/a", "5", "--for", "1500ms"]);
        let took = stage.effect("its end", set, |stage| stage.weight("a") == 100);
        assert!(took >= Duration::from_millis(1400), "no sooner than asked for: {took:?}");
    }
}

#[test]
fn what_only_looks_says_what_it_sees_and_no_key() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        let worker = stage.worker();
        let mut said = vec![];
        let plan = stage.done(&["plan"]);
        assert!(plan.contains("nothing to do"), "{plan}");
        // The agent must not serve the edit before the plan is made.
        stage.agent().signal(nix::sys::signal::Signal::SIGKILL);
        stage.agent().wait(PATIENCE);
        stage.edit("weight = 100 # a", "weight = 9 # a");
        let plan = stage.done(&["plan"]);
        assert!(plan.contains("no reload: 1 runtime command") && plan.contains("weight chat/a 100 → 9"), "{plan}");
        assert!(plan.lines().any(|line| line.starts_with('+') && line.contains("weight 9")), "{plan}");
        said.push(plan);
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        let plan = stage.done(&["plan"]);
        assert!(plan.contains("a reload, because") && plan.contains("backend chat"), "{plan}");
        said.push(plan);
        let json = stage.json(&["plan"]);
        assert_eq!(json["how"], "reload", "{json}");
        said.push(json.to_string());
        stage.start_agent();

        let rendered = stage.done(&["render"]);
        assert_eq!(rendered, stage.read("haproxy.cfg"));
        said.extend([rendered, stage.json(&["render"]).to_string()]);
        said.extend([stage.json(&["status"]).to_string(), stage.done(&["status"])]);
        said.extend([stage.json(&["history"]).to_string(), stage.done(&["history"])]);
        said.extend([stage.done(&["diff", "1", "2"]), stage.done(&["diff", "--haproxy", "1", "2"])]);
        said.push(stage.done(&["check"]));
        said.push(stage.agent().stderr());
        for text in &said {
            assert!(!text.contains(KEY), "a key in:\n{text}");
        }
        assert!(!stage.read("haproxy.cfg").contains(KEY));
        assert!(stage.read("maps/keys.map").contains(KEY), "the one place where it belongs");
        assert_ne!(stage.worker(), worker);
        assert_no_key_below(&stage, "state");
    }
}

fn assert_no_key_below(stage: &Stage, name: &str) {
    let mut pending = vec![stage.path(name)];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs_err::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else {
            let text = String::from_utf8_lossy(&fs_err::read(&path).expect("a file")).into_owned();
            assert!(!text.contains(KEY), "a key in {}", path.display());
        }
    }
}

#[test]
fn probes_on_demand_report_like_a_load_tool() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::new(&binary);
        let report = stage.json(&["probe", "chat", "-n", "5"]);
        let rows = report.as_array().expect("rows");
        assert_eq!(rows.len(), 3, "{report}");
        let text = rows[0].to_string();
        for field in ["\"probes\":5", "success_rate", "p50", "p95", "p99", "mean", "outcomes"] {
            assert!(text.contains(field), "{field} in {text}");
        }
        stage.break_mock("b", vec![Fault::status(500)]);
        let failed = stage.cli(&["probe", "chat/b", "-n", "2"]);
        assert_eq!(failed.code, Some(1), "{}", failed.stdout);
        assert!(failed.stdout.contains("2 × server_error: HTTP 500"), "{}", failed.stdout);
        assert_eq!(stage.cli(&["probe", "chat/nobody"]).code, Some(2));
    }
}

#[test]
fn schema_and_completions_need_no_file() {
    let schema = agent::run(&["-c", "/nowhere", "schema"]);
    assert_eq!(schema.code, Some(0), "{}", schema.stderr);
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).expect("JSON");
    assert!(schema["properties"]["backend"].is_object(), "{schema}");
    let script = agent::run(&["-c", "/nowhere", "completions", "bash"]);
    assert!(script.code == Some(0) && script.stdout.contains("complete -F"), "{}", script.stderr);
    assert_eq!(agent::run(&["-c", "/nowhere", "check"]).code, Some(2));
    let json = agent::run(&["-c", "/nowhere", "check", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON, whatever is wrong");
    assert_eq!((&said["ok"], json.code), (&false.into(), Some(2)), "{said}");
    assert!(said["refused"].as_str().is_some_and(|text| text.contains("/nowhere")), "{said}");
    assert_eq!(agent::run(&["no-such-command"]).code, Some(2));
}
