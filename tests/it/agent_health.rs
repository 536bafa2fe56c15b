//! Health moves traffic: what breaks is out within the promise, what is mended comes back by a ramp, and a pool is
//! never emptied.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request};
use super::support::stage::{SERVERS, Stage, swapped};
use super::support::{PATIENCE, pause, wait_for};
use hapilot::mock::{Fault, FaultKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// `fall × interval + 1 s` of the stage's own file.
const PROMISE: Duration = Duration::from_millis(2 * 500 + 1000);
/// What a busy machine of two cores adds.
const TOLERANCE: Duration = Duration::from_secs(2);

/// Twenty requests a second, one after the other, each on a connection of its own; ends with the failures in words.
struct Clients {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u32, Vec<String>)>,
}

impl Clients {
    fn start(address: &str, request: Request) -> Self {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), address.to_owned());
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut sent, mut failures) = (0, vec![]);
            while !asked.load(Ordering::Relaxed) {
                let outcome = Connection::open(&address).and_then(|mut connection| connection.send(&request));
                match outcome {
                    Ok(reply) if reply.status == 200 => {}
                    Ok(reply) => failures.push(format!("{}: {}", reply.status, reply.text())),
                    Err(error) => failures.push(error.to_string()),
                }
                sent += 1;
                pause(Duration::from_millis(50));
            }
            (sent, failures)
        });
        Self { stop, thread }
    }

    fn end(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the clients do not panic")
    }
}

/// Breaks one server, and tells how long until it has no weight and what clients saw of it.
fn check(binary: &Binary, name: &str, fault: Fault) {
    let stage = Stage::running(binary, |text| text);
    let body = r#"{"model":"mock-small","messages":[{"role":"user","content":"hello"}]}"#;
    let clients = Clients::start(&stage.address, Request::post("/v1/chat/completions", body));
    let broken = Instant::now();
    stage.break_mock("b", vec![fault]);
    let took = stage.effect("weight 0", broken, |stage| stage.weight("b") == 0);
    let (sent, failures) = clients.end();
    println!(
        "{} {name}: weight 0 after {} ms, {} of {sent} requests failed",
        binary.version,
        took.as_millis(),
        failures.len()
    );
    assert!(took < PROMISE + TOLERANCE, "{name}: {took:?}");
    assert!(failures.is_empty(), "{name}: {failures:?}");
    assert!(SERVERS.iter().all(|server| (stage.weight(server) == 0) == (*server == "b")));
    // The weight goes ahead of the picture.
    wait_for("the status", PATIENCE, || (stage.server_status("b")["health"] == "unhealthy").then_some(()));
}

#[test]
fn a_server_that_answers_500_loses_its_traffic() {
    for binary in binaries() {
        check(&binary, "status 500", Fault::status(500));
    }
}

#[test]
fn a_server_that_refuses_loses_its_traffic() {
    for binary in binaries() {
        check(&binary, "refuse", Fault::new(FaultKind::Refuse));
    }
}

#[test]
fn a_server_that_hangs_loses_its_traffic() {
    for binary in binaries() {
        // A client's request that hangs with it is nothing that a retry could hide: here only the free one does.
        let fault = Fault { path: Some("/v1/models".to_owned()), ..Fault::new(FaultKind::Hang) };
        check(&binary, "hang", fault);
    }
}

#[test]
fn an_error_inside_a_stream_of_status_200_is_seen_by_the_deep_probe() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| {
            swapped(
                &text,
                "models   = { expect = [\"mock-small\"] }",
                "models = {}\nchat = { model = \"mock-small\", every = \"1s\", total = \"3s\" }",
            )
        });
        wait_for("the deep probes", PATIENCE, || {
            let probes = SERVERS.map(|server| stage.server_status(server)["probes"].to_string());
            probes.iter().all(|probes| probes.contains("\"chat\"")).then_some(())
        });
        let clients = Clients::start(&stage.address, Request::get("/v1/models"));
        let broken = Instant::now();
        stage.break_mock("c", vec![Fault { path: Some("/v1/chat".to_owned()), ..Fault::new(FaultKind::ErrorEvent) }]);
        let took = stage.effect("weight 0", broken, |stage| stage.weight("c") == 0);
        let (_, failures) = clients.end();
        assert!(failures.is_empty(), "{failures:?}");
        println!("{} error inside a stream: weight 0 after {} ms", binary.version, took.as_millis());
        // Deep probes every second, two of them.
        assert!(took < Duration::from_secs(3) + TOLERANCE, "{took:?}");
        assert!(stage.server_status("c")["reason"].as_str().is_some_and(|reason| reason.contains("chat probe")));
    }
}

#[test]
fn a_mended_server_comes_back_by_a_ramp() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        stage.break_mock("a", vec![Fault::status(500)]);
        wait_for("weight 0", PATIENCE, || (stage.weight("a") == 0).then_some(()));
        let mended = Instant::now();
        stage.mend_mock("a");
        let mut seen = vec![0];
        let took = stage.effect("the whole weight", mended, |stage| {
            let weight = stage.weight("a");
            if seen.last() != Some(&weight) {
                seen.push(weight);
            }
            weight == 100
        });
        println!("{} mended: {seen:?} within {} ms", binary.version, took.as_millis());
        assert!(seen.len() >= 4 && seen.is_sorted(), "{seen:?}");
        assert!(seen[1] < 50, "{seen:?}");
        assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(9), "{took:?}");
        assert_eq!(stage.revisions(), (1, 1), "weights of health are no revisions");
    }
}

#[test]
fn a_pool_whose_servers_all_fail_is_not_emptied() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        for server in SERVERS {
            stage.break_mock(server, vec![Fault { path: Some("/v1/models".to_owned()), ..Fault::status(500) }]);
        }
        wait_for("every server to be unhealthy", PATIENCE, || {
            SERVERS.iter().all(|server| stage.server_status(server)["health"] == "unhealthy").then_some(())
        });
        wait_for("the guard", PATIENCE, || SERVERS.iter().all(|server| stage.weight(server) == 100).then_some(()));
        let status = stage.json(&["status"]);
        assert!(status["backends"][0]["guard"].is_string(), "{status}");
        let body = r#"{"model":"mock-small","messages":[{"role":"user","content":"hello"}]}"#;
        let reply = super::support::http::post(&stage.address, "/v1/chat/completions", body).expect("an answer");
        assert_eq!(reply.status, 200, "what only our probe dislikes is served on");
    }
}

#[test]
fn a_rejected_key_takes_the_server_out_and_names_the_key() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.break_mock("b", vec![Fault::new(FaultKind::InvalidApiKey)]);
        wait_for("weight 0", PATIENCE, || (stage.weight("b") == 0).then_some(()));
        let status = stage.server_status("b");
        assert!(status["attention"].as_str().is_some_and(|text| text.contains("key")), "{status}");
    }
}

#[test]
fn a_rate_limited_server_keeps_a_part_of_its_weight() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.break_mock("b", vec![Fault { retry_after: Some("30".to_owned()), ..Fault::status(429) }]);
        let weight = wait_for("a lower weight", PATIENCE, || Some(stage.weight("b")).filter(|weight| *weight < 100));
        assert_eq!(weight, 30);
        let status = stage.server_status("b");
        assert_eq!(status["health"].as_str().map(|text| text.starts_with("degraded")), Some(true), "{status}");
    }
}
