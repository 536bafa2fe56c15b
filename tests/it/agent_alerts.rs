//! Alerts of a running agent: what it sees comes out at a sink, once, whatever dies in between.

use super::support::haproxy::binaries;
use super::support::sink::{Heard, Manner, Sink};
use super::support::stage::{Stage, private};
use super::support::{PATIENCE, wait_for, write};
use hapilot::mock::{Fault, FaultKind};
use std::time::Duration;

/// A stage with a webhook to a sink that tells of pages at once.
fn stage(sink: &Sink, more: &str) -> Option<Stage> {
    let binary = binaries().pop()?;
    let mut stage = Stage::with_haproxy(&binary, |text| {
        format!(
            "{text}\n[alert.hook]\nwebhook = {{ url = \"http://{}/hook\" }}\non = [\"outage\"]\ngroup = \"0s\"\n{more}",
            sink.address
        )
    });
    stage.start_agent();
    stage.wait_for_health();
    Some(stage)
}

fn break_all(stage: &Stage) {
    for server in ["a", "b", "c"] {
        stage.break_mock(server, vec![Fault::new(FaultKind::Refuse)]);
    }
}

fn of_chat(sink: &Sink) -> Vec<Heard> {
    sink.heard().into_iter().filter(|heard| heard.json()["scope"] == "chat").collect()
}

#[test]
fn an_outage_is_told_once_though_the_sink_is_down_and_the_agent_is_killed() {
    let sink = Sink::absent(Manner::well());
    let Some(mut stage) = stage(&sink, "") else { return };
    break_all(&stage);
    let waiting = |stage: &Stage| stage.json(&["alert", "list"])[0]["waiting"].as_u64();
    wait_for("a notification that waits", PATIENCE, || (waiting(&stage)? >= 1).then_some(()));
    // It is told once that it does not come through.
    wait_for("the trouble", Duration::from_secs(60), || {
        let status = stage.json(&["status"]);
        let problems = status["problems"].as_array()?.clone();
        problems
            .iter()
            .any(|line| line.as_str().is_some_and(|line| line.contains("alerts do not reach hook")))
            .then_some(())
    });
    let events = stage.cli(&["events", "--subject", "alert/hook"]).stdout;
    assert_eq!(events.matches("alerts do not reach hook").count(), 1, "{events}");
    for _ in 0..3 {
        stage.agent().kill();
        stage.start_agent();
        wait_for("what waits", PATIENCE, || (waiting(&stage)? >= 1).then_some(()));
    }
    sink.listen();
    let heard = wait_for("the notification", Duration::from_secs(60), || of_chat(&sink).into_iter().next());
    assert_eq!((&heard.json()["event"], &heard.json()["severity"]), (&"trigger".into(), &"page".into()));
    assert_eq!(heard.json()["alerts"][0]["key"], "outage/chat");
    wait_for("an empty queue", PATIENCE, || (waiting(&stage)? == 0).then_some(()));
    assert_eq!(of_chat(&sink).len(), 1, "{:?}", of_chat(&sink));
    // Killed once more, nothing is told twice; and its end is told, by the next agent.
    stage.agent().kill();
    for server in ["a", "b", "c"] {
        stage.mend_mock(server);
    }
    stage.start_agent();
    let told = wait_for("its end", Duration::from_secs(420), || {
        let heard = of_chat(&sink);
        (heard.len() > 1).then_some(heard)
    });
    assert_eq!(
        (told.len(), &told[1].json()["event"], &told[1].json()["key"]),
        (2, &"resolve".into(), &heard.json()["key"])
    );
}

#[test]
fn a_sink_that_hangs_holds_up_neither_another_nor_the_agent() {
    let (slow, quick) = (Sink::start(Manner::Silent), Sink::start(Manner::well()));
    let more = format!(
        "[alert.quick]\nwebhook = {{ url = \"http://{}/\" }}\non = [\"outage\"]\ngroup = \"0s\"\n",
        quick.address
    );
    let Some(stage) = stage(&slow, &more) else { return };
    break_all(&stage);
    wait_for("the quick sink", PATIENCE, || of_chat(&quick).into_iter().next());
    wait_for("the slow one", PATIENCE, || of_chat(&slow).into_iter().next());
    let since = std::time::Instant::now();
    stage.done(&["server", "drain", "chat/a"]);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    // An agent that ends waits for it only a little.
    let mut stage = stage;
    let since = std::time::Instant::now();
    assert_eq!(stage.agent().stop(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(12), "{:?}", since.elapsed());
}

#[test]
fn a_sink_with_a_wrong_key_is_told_once_and_a_new_key_needs_no_reload() {
    let sink = Sink::start(Manner::well());
    let Some(binary) = binaries().pop() else { return };
    let mut stage = Stage::with_haproxy(&binary, |text| text);
    let secret = stage.path("slack");
    write(&secret, "no URL at all");
    private(&secret);
    let section = format!("\n[alert.team]\nslack = {{ webhook = \"file:{}\" }}\ngroup = \"0s\"\n", secret.display());
    stage.write_file(&format!("{}{section}", stage.text()));
    stage.start_agent();
    stage.wait_for_health();
    let tried = stage.cli(&["alert", "test", "team"]);
    assert_eq!(tried.code, Some(1), "{}", tried.stderr);
    assert!(tried.stderr.contains("did not take the test") && tried.stderr.contains("no URL"), "{}", tried.stderr);
    assert!(!tried.stderr.contains("no URL at all"), "the secret is not repeated: {}", tried.stderr);
    break_all(&stage);
    wait_for("the trouble", PATIENCE, || stage.json(&["alert", "list"])[0]["problem"].as_str().map(str::to_owned));
    let url = format!("http://{}/services/T0/B0/hunter2-hunter2", sink.address);
    write(&secret, &url);
    let tried = stage.done(&["alert", "test", "team"]);
    assert!(tried.contains("team (slack) took the test: it answered 200"), "{tried}");
    // The agent reads it anew with its next try: soon where the file changes.
    stage.write_file(&stage.text().replace("group = \"0s\"", "group = \"1s\""));
    wait_for("the page", PATIENCE, || {
        sink.heard()
            .into_iter()
            .find(|heard| heard.json()["text"].as_str().is_some_and(|text| text.starts_with("PAGE")))
    });
    wait_for("no trouble", PATIENCE, || stage.json(&["alert", "list"])[0]["problem"].is_null().then_some(()));
    let all =
        stage.cli(&["events", "--json"]).stdout + &stage.cli(&["status", "--json"]).stdout + &stage.agent().stderr();
    assert!(!all.contains("hunter2"), "no secret is told");
    let unknown = stage.cli(&["alert", "test", "nobody"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("the file has team"), "{}", unknown.stderr);
}
