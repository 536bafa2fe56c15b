//! Alerts of a running agent: what it sees comes out at a sink, once, whatever dies in between.

use super::support::haproxy::binaries;
use super::support::sink::{Heard, Manner, Sink};
use super::support::stage::{Stage, private};
use super::support::{PATIENCE, wait_for, write};
use super::two_nodes::pair;
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
    stage.start_agent();
    wait_for("the next agent to see it", PATIENCE, || {
        let status = stage.json(&["status"]);
        status["backends"]
            .as_array()?
            .iter()
            .any(|one| one["name"] == "chat" && !one["outage_since"].is_null())
            .then_some(())
    });
    for server in ["a", "b", "c"] {
        stage.mend_mock(server);
    }
    let told = wait_for("its end", Duration::from_secs(120), || {
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

#[test]
fn a_threshold_of_the_operators_own_is_an_event_and_is_told() {
    let sink = Sink::start(Manner::well());
    let rule = "[alert.rule.quick]\nmetric = \"latency_p95\"\nserver = \"*\"\nbelow = \"1h\"\nfor = \"0s\"\nseverity = \"page\"\n";
    let Some(stage) = stage(&sink, rule) else { return };
    stage.edit("on = [\"outage\"]", "on = [\"rule\"]");
    let load = stage.load(4).start();
    let heard = wait_for("the page", Duration::from_secs(60), || {
        sink.heard().into_iter().find(|heard| heard.json()["scope"] == "rule/quick")
    });
    drop(load);
    let json = heard.json();
    assert_eq!((&json["severity"], &json["alerts"][0]["topic"]), (&"page".into(), &"rule".into()));
    let text = json["alerts"][0]["text"].as_str().expect("a text").to_owned();
    assert!(
        text.starts_with("latency_p95 of chat/") && text.ends_with("below the limit 3600.0 s (rule quick)"),
        "{text}"
    );
    let events = stage.cli(&["events", "--json"]).stdout;
    assert!(events.contains("\"kind\":\"rule\"") && events.contains("\"key\":\"rule/chat/a/quick\""), "{events}");
    let metrics = stage.cli(&["alert", "list", "--json"]).stdout;
    assert!(metrics.contains("\"sent\""), "{metrics}");
}

#[test]
fn of_two_agents_one_tells_what_both_see_and_the_other_after_its_death() {
    let Some(binary) = binaries().pop() else { return };
    let sink = Sink::start(Manner::well());
    let hook = format!(
        "[alert.hook]\nwebhook = {{ url = \"http://{}/\" }}\non = [\"outage\", \"rollback\"]\ngroup = \"2s\"\n",
        sink.address
    );
    let [mut first, second] = pair([&binary, &binary], ["a key that both nodes have"; 2], &hook);
    let told = |scope: &str| -> Vec<String> {
        let of = sink.heard().into_iter().map(|heard| heard.json()).filter(|json| json["scope"] == scope);
        of.map(|json| format!("{} {} {}", json["node"], json["event"], json["key"])).collect()
    };
    for stage in [&first, &second] {
        break_all(stage);
    }
    let waits = |stage: &Stage| stage.json(&["alert", "list"])[0]["open"].as_u64().filter(|open| *open >= 1);
    wait_for("both to know of it", PATIENCE, || waits(&first).and(waits(&second)));
    wait_for("the page", PATIENCE, || (!told("chat").is_empty()).then_some(()));
    assert_eq!(told("chat"), ["\"lb1\" \"trigger\" \"hapilot/lb1+lb2/page/all/chat\""]);
    // What it knew of before is not told again by who takes over, and its end is.
    first.agent().kill();
    for server in ["a", "b", "c"] {
        second.mend_mock(server);
    }
    let all = wait_for("its end", Duration::from_secs(200), || {
        let told = told("chat");
        told.iter().any(|line| line.contains("resolve")).then_some(told)
    });
    assert!(all.iter().all(|line| line.ends_with("\"hapilot/lb1+lb2/page/all/chat\"")), "{all:?}");
    assert!(all.last().is_some_and(|line| line.starts_with("\"lb2\" \"resolve\"")), "{all:?}");
}
