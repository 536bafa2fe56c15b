//! Operators' words on servers: held, told, over for a time, over restarts, against HAProxy.

use super::agent_servers::quiet;
use super::support::haproxy::binaries;
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, wait_for};
use hapilot::mock::Fault;
use nix::sys::signal::{Signal, kill};
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

#[test]
fn a_word_that_a_hanging_haproxy_does_not_take_is_kept_and_said_to_be() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let hung = stage.worker();
        kill(hung, Signal::SIGSTOP).expect("a signal");
        let told = stage.cli(&["server", "weight", "chat/a", "42"]);
        kill(hung, Signal::SIGCONT).expect("a signal");
        assert_eq!(told.code, Some(1), "{}: {}{}", binary.version, told.stdout, told.stderr);
        assert!(told.stderr.contains("answer in time"), "{}", told.stderr);
        assert!(told.stderr.contains("chat/a is kept all the same"), "{}", told.stderr);
        assert!(told.stderr.contains("server ready chat/a"), "{}", told.stderr);
        assert!(!told.stderr.contains("nothing was changed"), "{}", told.stderr);
        wait_for("what was kept to be in force", PATIENCE, || (stage.weight("a") == 42).then_some(()));
    }
}

#[test]
fn ready_against_the_file_says_what_holds_and_how_long() {
    let stage = Stage::running(&binaries().pop().expect("a HAProxy"), |text| {
        swapped(&text, "state = \"ready\" # b", "state = \"drain\" # b")
    });
    let line =
        stage.text().lines().position(|line| line.ends_with("# b") && line.contains("state")).expect("a line") + 1;
    let said = stage.done(&["server", "ready", "chat/b"]);
    let place = format!("{}:{line}:", stage.file().display());
    assert!(said.contains(&place) && said.contains("state = \"drain\""), "{said}");
    assert!(said.contains("without an end") && said.contains("server drain chat/b"), "{said}");
    let said = stage.done(&["server", "ready", "chat/b", "--for", "30m"]);
    assert!(said.contains(" until ") && !said.contains("without an end"), "{said}");
    let said = stage.done(&["server", "ready", "chat/a"]);
    assert!(!said.contains("the file says"), "{said}");
}
