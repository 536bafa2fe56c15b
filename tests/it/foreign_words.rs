//! Keys never come out by the words of others: HAProxy's, a backend's.

use super::support::agent::{LIMIT, command};
use super::support::haproxy::binaries;
use super::support::process::run;
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, wait_for, write};
use hapilot::mock::{Fault, FaultKind};

const OTHER: &str = "sk-of-another-server-qzvw";

#[test]
fn a_key_of_the_environment_is_in_no_word_of_haproxys() {
    for binary in binaries() {
        let stage = Stage::new(&binary);
        let mut text = stage.text();
        text = swapped(
            &text,
            "[backend.embeddings]\n",
            "[backend.embeddings]\nraw = [\"\\\"${ROBUST_KEY_A}\\\" x\", \"\\\"${ROBUST_TOKEN}\\\" y\"]\n",
        );
        text = text.replacen(
            &format!("keys = [\"file:{}/key\"]", stage.path("").display().to_string().trim_end_matches('/')),
            "keys = [\"env:ROBUST_KEY_A\"]",
            1,
        );
        assert!(text.contains("env:ROBUST_KEY_A"), "{text}");
        stage.write_file(&text);
        let file = stage.file();
        for words in [&["check"][..], &["apply"], &["plan"]] {
            let mut command = command(&[&["-c", file.to_str().expect("ASCII")], words].concat());
            command.env("ROBUST_KEY_A", OTHER).env("ROBUST_TOKEN", "nobody-ever-named-this-one-42");
            let said = run(command, LIMIT);
            let all = said.stdout + &said.stderr;
            assert_ne!(said.code, Some(0), "{all}");
            assert!(!all.contains("qzvw") && !all.contains("one-42"), "{words:?}: {all}");
            assert!(all.contains("[secret]"), "{words:?}: {all}");
        }
    }
}

#[test]
fn a_key_that_a_backend_repeats_is_seen_nowhere() {
    for binary in binaries().into_iter().rev().take(1) {
        let mut stage = Stage::with_haproxy(&binary, |text| text);
        write(stage.path("other"), OTHER);
        let own = format!("keys = [\"file:{}\"]\n\n[backend.chat]", stage.path("key").display());
        let other = format!("keys = [\"file:{}\"]\n\n[backend.chat]", stage.path("other").display());
        stage.edit(&own, &other);
        stage.start_agent();
        stage.wait_for_health();
        let body = format!("{{\"error\":{{\"message\":\"your key {OTHER} is not enough\"}}}}");
        let echo = Fault { code: Some(500), body: Some(body), ..Fault::new(FaultKind::Status) };
        stage.break_mock("a", vec![echo]);
        let status = wait_for("the words of the backend", PATIENCE, || {
            Some(stage.json(&["status"]).to_string()).filter(|status| status.contains("is not enough"))
        });
        assert!(status.contains("[secret]") && !status.contains("qzvw"), "{status}");
        wait_for("the results on disk", PATIENCE, || {
            fs_err::read_to_string(stage.path("state/probes.json"))
                .is_ok_and(|text| text.contains("is not enough"))
                .then_some(())
        });
        assert!(!stage.read("state/probes.json").contains("qzvw"));
        assert!(!stage.agent_said("qzvw"));
        let probe = stage.cli(&["probe", "chat/a"]);
        assert!(!(probe.stdout + &probe.stderr).contains("qzvw"));
    }
}

#[test]
fn a_key_in_the_place_of_a_name_is_not_shown() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::new(&binary);
        let text = stage.text();
        let reference = format!("keys = [\"file:{}\"] # a", stage.path("key").display());
        for literal in
            ["env:sk-proj-qzvwabcdef", "env:hf_qzvwabcdefgh", "credential:sk-qzvw-abcdefgh", "file:sk-qzvwabcdef"]
        {
            stage.write_file(&swapped(&text, &reference, &format!("keys = [\"{literal}\"]")));
            for words in [&["check"][..], &["check", "--json"], &["apply"]] {
                let said = stage.cli(words);
                let all = said.stdout + &said.stderr;
                assert!(said.code != Some(0) && !all.contains("qzvw"), "{literal}: {all}");
            }
        }
    }
}
