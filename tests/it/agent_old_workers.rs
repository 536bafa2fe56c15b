//! Old workers that still finish their streams, and the cap on them: an edit waits, a forced one and a rollback do not.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request};
use super::support::process::is_alive;
use super::support::stage::Stage;
use super::support::{PATIENCE, wait_for};
use hapilot::mock::{Fault, FaultKind};
use std::time::Duration;

/// The gap between two reloads, the agent's pause before it tries a refused file again, and a busy machine.
const NEXT_TRY: Duration = Duration::from_secs(45);

#[test]
fn an_edit_waits_for_old_workers_and_neither_force_nor_a_rollback_does() {
    let binaries = binaries();
    // Most of it is waiting for the gap between two reloads.
    std::thread::scope(|scope| {
        for binary in &binaries {
            scope.spawn(move || check(binary));
        }
    });
}

fn check(binary: &Binary) {
    let stage =
        Stage::running(binary, |text| text.replace("maxconn       = 1000", "maxconn = 1000\nmax_old_workers = 1"));
    // Sixteen tokens, one in five seconds: longer than this test, and never silent for as long as a timeout.
    let slow = Fault { rate: Some(0.2), path: Some("/v1/chat".into()), ..Fault::new(FaultKind::Rate) };
    for server in ["a", "b", "c"] {
        stage.break_mock(server, vec![slow.clone()]);
    }
    let question = r#"{"model":"mock-small","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let ask = Request::post("/v1/chat/completions", question);
    let first_byte = |from: u32, to: u32| {
        stage.edit(&format!("first_byte = \"{from}s\""), &format!("first_byte = \"{to}s\""));
    };
    let serves = |seconds: u32| stage.read("haproxy.cfg").contains(&format!("timeout server {seconds}s"));
    let waits_for = |revision: usize| {
        wait_for("the revision", NEXT_TRY, || (stage.revisions().0 == revision).then_some(()));
    };
    let problems = || stage.json(&["status"])["problems"].to_string();

    // Two reloads with a stream in each worker that they retire.
    let (oldest, mut one) = (stage.worker(), connection(&stage));
    let mut in_oldest = one.stream(&ask).unwrap();
    assert_eq!(in_oldest.status, 200);
    first_byte(10, 11);
    waits_for(2);
    let (older, mut two) = (stage.worker(), connection(&stage));
    let mut in_older = two.stream(&ask).unwrap();
    assert_ne!(oldest, older);
    // One old worker is as many as may be.
    first_byte(11, 12);
    waits_for(3);
    let states = (is_alive(oldest), is_alive(older), serves(12));
    assert_eq!(states, (true, true, true), "{}: {oldest} and {older} live on", binary.version);

    // Two are one more.
    let is_told = |said: &str| {
        let names_both = [oldest, older].iter().all(|pid| said.contains(&pid.to_string()));
        names_both && said.contains("max_old_workers") && said.contains("hapilot apply --force")
    };
    first_byte(12, 13);
    wait_for("the refusal", PATIENCE, || is_told(&problems()).then_some(()));
    let refused = stage.cli(&["apply"]);
    assert!(refused.code == Some(1) && is_told(&refused.stderr), "{}: {refused:?}", binary.version);
    let worker = stage.worker();
    assert!(serves(12) && stage.revisions() == (3, 3), "{}: nothing was touched", binary.version);
    // What needs no reload is not held up by the file that waits.
    let drained = stage.done(&["server", "drain", "chat/c"]);
    assert!(!stage.is_ready("c"), "{drained}");
    stage.done(&["server", "ready", "chat/c"]);
    assert_eq!(stage.worker(), worker);

    stage.done(&["apply", "--force"]);
    assert!(serves(13) && stage.revisions() == (4, 4) && stage.worker() != worker, "{}", binary.version);
    let worker = stage.worker();
    stage.done(&["rollback"]);
    assert!(serves(12) && stage.revisions() == (5, 5) && stage.worker() != worker, "{}", binary.version);

    // The next edit waits again, for the streams that have outlived four reloads.
    first_byte(13, 14);
    wait_for("the second refusal", PATIENCE, || is_told(&problems()).then_some(()));
    assert!(in_oldest.next_piece().unwrap().is_some() && in_older.next_piece().unwrap().is_some());
    assert!(is_alive(oldest) && is_alive(older) && serves(12));
    // The caller has enough of one of them; nobody touches the agent.
    drop(in_oldest);
    drop(one);
    wait_for("the oldest worker's end", NEXT_TRY, || (!is_alive(oldest)).then_some(()));
    waits_for(6);
    assert!(serves(14), "{}", binary.version);
    assert!(!problems().contains("max_old_workers"), "{}", problems());
    assert!(in_older.next_piece().unwrap().is_some(), "the other stream goes on");
}

/// A connection to the worker that serves now: for a moment after a reload the old one accepts as well.
fn connection(stage: &Stage) -> Connection {
    let worker = stage.worker().to_string();
    wait_for("a connection to the new worker", PATIENCE, || {
        let mut connection = Connection::open(&stage.address).ok()?;
        let reply = connection.send(&Request::head("/.hapilot/worker")).ok()?;
        (reply.header("x-hapilot-worker") == Some(&worker)).then_some(connection)
    })
}
