//! Canaries on a real node: who is in which group, over growth, restarts and rollbacks. Real HAProxy, on every version.

use super::support::haproxy::binaries;
use super::support::http::{Connection, Request};
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, pause, wait_for, write};
use hapilot::mock::{Fault, FaultKind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const KEYS: usize = 400;
const PATH: &str = "/v1/chat/completions";

fn body(model: &str) -> String {
    format!("{{\"model\":\"{model}\",\"max_tokens\":3,\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}")
}

/// A node whose `c` is a canary. The frontend takes the client's name from a header, so that thousands need no keys.
fn stage(binary: &super::support::haproxy::Binary, canary: &str) -> Stage {
    Stage::running(binary, |text| {
        let named = "raw = [\"http-request set-var(txn.client) req.fhdr(x-test-client) if { req.fhdr(x-test-client) -m found }\"]\n";
        swapped(&text, "[frontend.api]\n", &format!("[frontend.api]\n{named}")) + canary
    })
}

/// The group that a request was served by, and the answer's status and body.
fn ask(connection: &mut Connection, client: &str, model: &str, more: &[(&str, &str)]) -> (String, u16, Value) {
    let mut request = Request::post(PATH, &body(model)).header("X-Test-Client", client);
    for (name, value) in more {
        request = request.header(name, value);
    }
    let answer = connection.send(&request).expect("an answer");
    let version = answer.header("X-Served-Version").unwrap_or("-").to_owned();
    let is_kept = answer.header("Cache-Control") == Some("no-store");
    assert!(is_kept || version != "turbo" || answer.status != 200, "an answer that a cache may keep");
    (version, answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

fn groups(stage: &Stage) -> BTreeMap<usize, String> {
    let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
    (0..KEYS).map(|key| (key, ask(&mut connection, &format!("client-{key}"), "mock-small", &[]).0)).collect()
}

fn of(stage: &Stage, name: &str) -> Value {
    let status = stage.cli(&["canary", "status", "--json"]);
    let canaries: Vec<Value> = serde_json::from_str(&status.stdout).expect("JSON");
    canaries.into_iter().find(|canary| canary["name"] == name).expect("the canary")
}

const FOUR: &str = "[canary.turbo]\nbackend = \"chat\"\nservers = [\"c\"]\n\
    stages = [{ percent = 5, hold = \"1h\" }, { percent = 25, hold = \"1h\" }, { percent = 50, hold = \"1h\" }, { percent = 99.99, hold = \"1h\" }]\n\
    override = { clients = [\"qa-*\"] }\n";

#[test]
fn whoever_is_in_stays_in_as_a_canary_grows_and_over_restarts() {
    for binary in binaries() {
        let version = &binary.version;
        let mut stage = stage(&binary, FOUR);
        let worker = stage.worker();
        let mut before = BTreeMap::new();
        for (at, percent) in [5.0_f64, 25.0, 50.0, 99.99].into_iter().enumerate() {
            if at > 0 {
                stage.done(&["canary", "promote", "turbo"]);
            }
            wait_for("the stage in HAProxy", PATIENCE, || {
                let canary = of(&stage, "turbo");
                let is_there = canary["percent"].as_f64() == Some(percent) && in_haproxy(&stage) == percent;
                is_there.then_some(())
            });
            let now = groups(&stage);
            let share = now.values().filter(|group| *group == "turbo").count() as f64 / KEYS as f64 * 100.0;
            // Four standard deviations of so many keys.
            let room = 4.0 * (percent * (100.0 - percent) / KEYS as f64).sqrt() + 0.5;
            assert!((share - percent).abs() <= room, "{version}: {share} % of {percent} %");
            let left: Vec<_> = before.iter().filter(|(key, group)| *group == "turbo" && now[*key] != "turbo").collect();
            assert!(left.is_empty(), "{version}: {left:?} left the canary");
            before = now;
            if at == 1 {
                stage.agent().kill();
                assert_eq!(groups(&stage), before, "{version}: without an agent");
                let status = stage.cli(&["canary", "status"]);
                let kept = flat(&status.stdout).contains("turbo 25 % of the clients of chat, stage 2 of 4");
                assert!(status.code == Some(1) && kept, "{version}: {}", status.stdout);
                stage.start_agent();
                wait_for("the agent", PATIENCE, || (of(&stage, "turbo")["stage"] == 2).then_some(()));
                assert_eq!(groups(&stage), before, "{version}: after its restart");
            }
        }
        // Who may chooses; who may not does not.
        let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
        let choose = [("X-Canary", "control")];
        assert_eq!(ask(&mut connection, "qa-1", "mock-small", &choose).0, "control", "{version}");
        let key = *before.iter().find(|(_, group)| *group == "turbo").expect("one").0;
        assert_eq!(ask(&mut connection, &format!("client-{key}"), "mock-small", &choose).0, "turbo", "{version}");

        let began = Instant::now();
        stage.done(&["canary", "abort", "turbo"]);
        wait_for("all clients back", PATIENCE, || (in_haproxy(&stage) == 0.0).then_some(()));
        let took = began.elapsed();
        assert!(groups(&stage).values().all(|group| group == "control"), "{version}");
        assert!(took < Duration::from_secs(5), "{version}: {took:?}");
        let status = stage.cli(&["canary", "status"]);
        assert!(status.code == Some(1) && status.stdout.contains("an operator aborted it"), "{}", status.stdout);
        assert!(flat(&status.stdout).contains("`hapilot canary restart turbo --force`"), "{}", status.stdout);
        let line = "turbo 0 % of the clients of chat: rolled back: an operator aborted it";
        let status = flat(&stage.cli(&["status"]).stdout);
        assert!(status.contains(line), "{version}: {status}");
        let refused = stage.cli(&["canary", "promote", "turbo"]);
        assert!(refused.code == Some(1) && refused.stderr.contains("was rolled back"), "{}", refused.stderr);
        let refused = stage.cli(&["canary", "restart", "turbo"]);
        assert!(refused.code == Some(1) && refused.stderr.contains("--force"), "{}", refused.stderr);
        // The same again by an edit waits as well, also after a restart.
        let text = stage.text();
        stage.write_file(&swapped(&text, FOUR, ""));
        wait_for("no canary", PATIENCE, || stage.cli(&["canary", "status"]).stdout.contains("has no").then_some(()));
        stage.write_file(&text);
        wait_for("it waits", PATIENCE, || {
            let status = stage.cli(&["canary", "status"]).stdout;
            status.contains("the same content was rolled back").then_some(())
        });
        stage.done(&["canary", "restart", "turbo", "--force"]);
        wait_for("it begins", PATIENCE, || (in_haproxy(&stage) == 5.0).then_some(()));
        stage.write_file(&swapped(&text, "{ percent = 5, hold = \"1h\" }", "{ percent = 5, hold = \"2h\" }"));
        wait_for("the edit", PATIENCE, || {
            let events = stage.done(&["events", "--subject", "turbo"]);
            flat(&events).contains("it goes on with 5 % of the clients").then_some(())
        });
        assert_eq!(in_haproxy(&stage), 5.0, "{version}: what was begun by force is not blocked again");
        let events = stage.done(&["events", "--subject", "turbo"]);
        for told in ["begins with 5 %", "(stage 2)", "was rolled back", "does not begin"] {
            assert!(events.contains(told), "{version}: no {told:?} in\n{events}");
        }
        let reloads = stage.worker() != worker;
        // The edits that took it away and brought it back were the only ones.
        assert!(reloads, "{version}");
    }
}

/// In one line, however it was wrapped.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The canary's part that HAProxy has, in percent.
fn in_haproxy(stage: &Stage) -> f64 {
    let said = stage.private().admin("show map maps/canaries.map");
    let line = said.lines().find(|line| line.contains(" turbo ")).unwrap_or_default().to_owned();
    line.rsplit(' ')
        .next()
        .and_then(|number| number.trim().parse::<f64>().ok())
        .map_or(-1.0, |hundredths| hundredths / 100.0)
}

#[test]
fn a_canary_that_fails_is_taken_back_by_itself_and_says_why() {
    for binary in binaries() {
        let version = &binary.version;
        let stage = stage(
            &binary,
            "[canary.turbo]\nbackend = \"chat\"\nservers = [\"c\"]\nstages = [{ percent = 50, hold = \"1h\" }]\nsticky = \"none\"\n\
             rollback = [{ metric = \"error_rate\", above = 0.02, for = \"10s\" }]\n",
        );
        wait_for("the canary in HAProxy", PATIENCE, || (in_haproxy(&stage) == 50.0).then_some(()));
        // Of clients' requests alone: probes find nothing, so that its condition must.
        let fault =
            Fault { code: Some(500), share: Some(0.12), path: Some(PATH.to_owned()), ..Fault::new(FaultKind::Status) };
        stage.break_mock("c", vec![fault]);
        let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
        let began = Instant::now();
        let (mut asked, mut failed) = (0, 0);
        while in_haproxy(&stage) > 0.0 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{version}: {}",
                stage.cli(&["canary", "status"]).stdout
            );
            for _ in 0..10 {
                asked += 1;
                failed += u32::from(ask(&mut connection, "someone", "mock-small", &[]).1 != 200);
            }
            pause(Duration::from_millis(200));
        }
        // Each failed attempt of the canary was repeated at the control group.
        assert_eq!(failed, 0, "{version}: of {asked}");
        let canary = of(&stage, "turbo");
        assert_eq!(canary["phase"], "rolled_back", "{version}: {canary}");
        let events = stage.done(&["events", "--subject", "turbo"]);
        assert!(events.contains("was rolled back") && events.contains("error_rate"), "{version}: {events}");
        assert_eq!(ask(&mut connection, "someone", "mock-small", &[]).0, "control", "{version}");
    }
}

#[test]
fn a_canary_of_another_model_asks_the_same_servers_for_it() {
    for binary in binaries() {
        let version = &binary.version;
        let stage = stage(
            &binary,
            "[canary.turbo]\nbackend = \"chat\"\nmodels = { \"mock-small\" = \"mock-large\" }\n\
             stages = [{ percent = 50, hold = \"1h\" }]\n",
        );
        wait_for("the canary in HAProxy", PATIENCE, || (in_haproxy(&stage) == 50.0).then_some(()));
        let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
        let mut seen = BTreeMap::<(String, String), usize>::new();
        for key in 0..60 {
            let (group, status, answer) = ask(&mut connection, &format!("client-{key}"), "mock-small", &[]);
            assert_eq!(status, 200, "{version}: {answer}");
            *seen.entry((group, answer["model"].as_str().unwrap_or_default().to_owned())).or_default() += 1;
        }
        let kinds: Vec<_> = seen.keys().map(|(group, model)| (group.as_str(), model.as_str())).collect();
        assert_eq!(kinds, [("control", "mock-small"), ("turbo", "mock-large")], "{version}: {seen:?}");
        // Another model is no part of it.
        let (group, status, answer) = ask(&mut connection, "client-1", "mock-large", &[]);
        assert_eq!((group.as_str(), status, answer["model"].as_str()), ("-", 200, Some("mock-large")), "{version}");
        wait_for("what was heard", PATIENCE, || {
            let canary = of(&stage, "turbo");
            let told = |group: &str| canary[group]["told"].as_u64();
            (told("canary").zip(told("control")).map(|(canary, control)| canary + control) == Some(60)).then_some(())
        });
    }
}

#[test]
fn nobody_waits_at_a_canary_while_the_control_group_has_a_slot_and_a_drained_one_gets_nothing() {
    for binary in binaries() {
        let version = &binary.version;
        let stage = Stage::running(&binary, |text| {
            swapped(&text, "state = \"ready\" # c\n", "state = \"ready\" # c\nmaxconn = 1\n")
                + "[canary.turbo]\nbackend = \"chat\"\nservers = [\"c\"]\nstages = [{ percent = 99.99, hold = \"1h\" }]\nsticky = \"none\"\n"
        });
        wait_for("the canary in HAProxy", PATIENCE, || (in_haproxy(&stage) > 99.0).then_some(()));
        stage.break_mock(
            "c",
            vec![Fault { delay_ms: Some(3_000), path: Some(PATH.to_owned()), ..Fault::new(FaultKind::FirstToken) }],
        );
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let address = stage.address.clone();
                // HAProxy's threads see each other's queue a moment later.
                pause(Duration::from_millis(50));
                std::thread::spawn(move || {
                    let mut connection = Connection::open(&address).expect("HAProxy accepts");
                    ask(&mut connection, &format!("client-{client}"), "mock-small", &[])
                })
            })
            .collect();
        let answers: Vec<_> = clients.into_iter().map(|client| client.join().expect("an answer")).collect();
        let of = |group: &str| answers.iter().filter(|(by, status, _)| by == group && *status == 200).count();
        // One has the slot, one may wait for it.
        assert!((1..=2).contains(&of("turbo")) && of("turbo") + of("control") == 8, "{version}: {answers:?}");
        stage.mend_mock("c");
        let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
        assert_eq!(ask(&mut connection, "client-1", "mock-small", &[]).0, "turbo", "{version}");
        stage.done(&["server", "drain", "chat/c"]);
        for client in 0..20 {
            let (group, status, _) = ask(&mut connection, &format!("client-{client}"), "mock-small", &[]);
            assert_eq!((group.as_str(), status), ("control", 200), "{version}: drained");
        }
        stage.done(&["server", "ready", "chat/c"]);
        wait_for("the canary again", PATIENCE, || {
            (ask(&mut connection, "client-1", "mock-small", &[]).0 == "turbo").then_some(())
        });
    }
}

#[test]
fn a_canary_of_a_model_that_nobody_has_is_taken_back() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let stage = stage(
        &binary,
        "[canary.turbo]\nbackend = \"chat\"\nmodels = { \"mock-small\" = \"mock-smal\" }\nsticky = \"none\"\n\
         stages = [{ percent = 50, hold = \"1h\" }]\n",
    );
    wait_for("the canary in HAProxy", PATIENCE, || (in_haproxy(&stage) == 50.0).then_some(()));
    let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
    let began = Instant::now();
    while in_haproxy(&stage) > 0.0 {
        assert!(began.elapsed() < Duration::from_secs(90), "{}", stage.cli(&["canary", "status"]).stdout);
        (0..10).for_each(|_| drop(ask(&mut connection, "someone", "mock-small", &[])));
        pause(Duration::from_millis(300));
    }
    let canary = of(&stage, "turbo");
    assert!(canary["waits"].as_str().is_some_and(|why| why.contains("refused (4xx): 100 % of ")), "{canary}");
    assert!(canary["canary"]["refused"].as_u64() > Some(20), "{canary}");
}

#[test]
fn what_was_said_is_kept_though_the_agent_dies_and_where_that_is_lost_none_begins() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let mut stage = stage(&binary, FOUR);
    wait_for("the canary in HAProxy", PATIENCE, || (in_haproxy(&stage) == 5.0).then_some(()));
    stage.done(&["canary", "promote", "turbo"]);
    stage.agent().kill();
    stage.start_agent();
    wait_for("its stage", PATIENCE, || (of(&stage, "turbo")["stage"] == 2).then_some(()));
    stage.done(&["canary", "abort", "turbo"]);
    stage.agent().kill();
    stage.start_agent();
    wait_for("its end", PATIENCE, || (of(&stage, "turbo")["phase"] == "rolled_back").then_some(()));
    assert_eq!(in_haproxy(&stage), 0.0);
    stage.agent().stop();
    write(stage.path("state/canaries.json"), "{\"canaries\":");
    stage.start_agent();
    let waits = wait_for("why it does not begin", PATIENCE, || {
        let canary = of(&stage, "turbo");
        (canary["phase"] == "waiting").then(|| canary["waits"].to_string())
    });
    assert!(waits.contains("nobody knows where it was") && waits.contains("canaries.json"), "{waits}");
    let events = stage.done(&["events", "--kind", "canary"]);
    assert!(events.contains("the canary turbo does not begin"), "{events}");
    assert_eq!(in_haproxy(&stage), 0.0);
    stage.done(&["canary", "restart", "turbo", "--force"]);
    wait_for("the canary in HAProxy", PATIENCE, || (in_haproxy(&stage) == 5.0).then_some(()));
    // A word that HAProxy cannot hear yet.
    assert!(!stage.cli(&["canary", "status"]).stdout.contains("does not answer"));
    fs_err::remove_file(stage.path("admin.sock")).expect("HAProxy's socket");
    wait_for("its silence", PATIENCE, || {
        stage.cli(&["canary", "status"]).stdout.contains("HAProxy does not answer").then_some(())
    });
    assert!(stage.done(&["canary", "abort", "turbo"]).contains("HAProxy does not answer"));
}
