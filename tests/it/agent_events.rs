//! What happened, from the history on disk: whole over a `kill -9`, followed while it grows, told in the right words.

use super::support::agent;
use super::support::haproxy::binaries;
use super::support::process::Background;
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, wait_for};
use hapilot::mock::{Fault, FaultKind};
use serde_json::Value;

/// Events of this node, the oldest first.
fn events(stage: &Stage, filter: &[&str]) -> Vec<Value> {
    let told = stage.cli(&[&["events", "--json"], filter].concat());
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    told.stdout.lines().map(|line| serde_json::from_str(line).expect("an object in each line")).collect()
}

#[test]
fn what_began_and_what_ended_is_told_over_the_death_of_the_agent() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        stage.break_mock("a", vec![Fault::new(FaultKind::Refuse)]);
        wait_for("a to be out", PATIENCE, || (stage.server_status("a")["health"] == "unhealthy").then_some(()));
        let out = wait_for("the event", PATIENCE, || {
            events(&stage, &["--subject", "chat/a", "--severity", "warning"])
                .into_iter()
                .find(|event| event["kind"] == "health")
        });
        assert_eq!((&out["phase"], &out["key"]), (&"begins".into(), &"health/chat/a".into()), "{out}");
        assert!(out["cause"].as_str().is_some_and(|cause| cause.contains("refused")), "{out}");
        stage.agent().kill();
        stage.mend_mock("a");
        stage.start_agent();
        let back = wait_for("its end", PATIENCE, || {
            let later = |event: &Value| event["at"].as_str() > out["at"].as_str() && event["phase"] == "ends";
            events(&stage, &["--subject", "chat/a"])
                .into_iter()
                .find(|event| event["key"] == out["key"] && later(event))
        });
        assert!(back["text"].as_str().is_some_and(|text| text.starts_with("chat/a health unknown → ")), "{back}");
        // Those of the life before are still there, once each.
        let all = events(&stage, &[]);
        assert_eq!(all.iter().filter(|event| **event == out).count(), 1);
        assert_eq!(all.iter().filter(|event| event["kind"] == "agent" && event["phase"] == "begins").count(), 2);
        let kinds: std::collections::BTreeSet<_> = all.iter().filter_map(|event| event["kind"].as_str()).collect();
        assert!(
            ["agent", "health", "revision", "haproxy", "weight"].iter().all(|kind| kinds.contains(kind)),
            "{kinds:?}"
        );
        assert_eq!(events(&stage, &["--subject", "embeddings/a"]), Vec::<Value>::new());
    }
}

#[test]
fn who_follows_sees_what_happens_from_now_on_and_people_get_lines_that_fit() {
    let Some(binary) = binaries().into_iter().next() else { return };
    let stage = Stage::running(&binary, |text| text);
    let file = stage.path("hapilot.toml");
    let mut command = agent::command(&["-c", file.to_str().expect("a path"), "events", "--follow", "--since", "1h"]);
    command.env("COLUMNS", "60");
    let mut follower = Background::start(command);
    follower.wait_for_output("hapilot runs");
    stage.done(&["server", "drain", "chat/b"]);
    follower.wait_for_output("chat/b drain");
    stage.write_file(&swapped(&stage.text(), "weight = 100 # a", "weihgt = 100 # a"));
    follower.wait_for_output("did you mean `weight`?");
    let wide: Vec<_> = follower.stdout().lines().filter(|line| line.chars().count() > 60).map(str::to_owned).collect();
    assert!(wide.iter().all(|line| line.contains('/')), "only paths may be wider: {wide:#?}");
}

#[test]
fn a_time_a_kind_and_an_end_choose_what_is_told() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let stage = Stage::running(&binary, |text| text);
    stage.done(&["tag", "1", "first"]);
    let tagged = wait_for("the tag", PATIENCE, || {
        events(&stage, &["--kind", "revision"])
            .into_iter()
            .find(|event| event["text"].to_string().contains("is called first by"))
    });
    let at = tagged["at"].as_str().expect("a time");
    let second = format!("{}Z", &at[..19]);
    let of_second = events(&stage, &["--since", &second, "--until", &second]);
    assert!(of_second.contains(&tagged), "{of_second:?}");
    assert!(of_second.iter().all(|event| event["at"].as_str().is_some_and(|time| time.starts_with(&second[..19]))));
    let health = events(&stage, &["--kind", "health,weight"]);
    assert!(!health.is_empty() && health.iter().all(|event| event["kind"] == "health" || event["kind"] == "weight"));
    assert_eq!(events(&stage, &["--until", "1h"]), Vec::<Value>::new());
    for wrong in [&["--kind", "helth"][..], &["--since", "25:00"], &["--since", "1h", "--until", "2h"]] {
        let refused = stage.cli(&[&["events"], wrong].concat());
        assert_eq!(refused.code, Some(2), "{wrong:?}: {}", refused.stderr);
    }
}
