//! `api.listen`: status and metrics for everybody who may read, and nothing that changes anything.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request, get, post};
use super::support::net::has;
use super::support::port::free_port;
use super::support::process::run;
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, skip_or_demand, wait_for, write};
use hapilot::mock::{Fault, FaultKind};
use std::collections::BTreeMap;
use std::time::Duration;

fn binary() -> Binary {
    binaries().into_iter().next_back().expect("a HAProxy")
}

/// A node with its agent, and where it may be read.
fn start(binary: &Binary) -> (Stage, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let listen = format!("\nlisten = \"{address}\"\n[frontend.api]");
    let stage = Stage::running(binary, |text| swapped(&text, "\n[frontend.api]", &listen));
    stage.wait_for_health();
    (stage, address)
}

/// Samples by their name and labels. Every line must be one that Prometheus reads.
fn scrape(address: &str) -> BTreeMap<String, f64> {
    let reply = get(address, "/metrics").expect("an answer");
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = reply.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        })
        .collect()
}

#[test]
fn metrics_say_what_status_says_and_old_workers_show_with_what_they_still_have() {
    let binary = binary();
    let (stage, address) = start(&binary);
    let status = get(&address, "/v1/status").expect("an answer").json();
    assert_eq!(status["node"], "test");
    let samples = scrape(&address);
    for server in ["a", "b", "c"] {
        let weight = f64::from(stage.weight(server));
        assert_eq!(samples[&format!(r#"hapilot_server_runtime_weight{{backend="chat",server="{server}"}}"#)], weight);
        let healthy = format!(r#"hapilot_server_health{{backend="chat",server="{server}",state="healthy"}}"#);
        assert_eq!(samples[&healthy], 1.0);
    }
    assert_eq!((samples["hapilot_haproxy_up"], samples["hapilot_file_serving"]), (1.0, 1.0));
    assert_eq!((samples["hapilot_old_workers"], samples["hapilot_reloads_total"]), (0.0, 0.0));

    // A kept connection holds the old worker after a reload.
    let rate = Fault { rate: Some(1.0), path: Some("/v1/chat".into()), ..Fault::new(FaultKind::Rate) };
    ["a", "b", "c"].iter().for_each(|server| stage.break_mock(server, vec![rate.clone()]));
    let worker = stage.worker();
    let mut kept = Connection::open(&stage.address).expect("a connection");
    let question = r#"{"model":"mock-small","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut stream = kept.stream(&Request::post("/v1/chat/completions", question)).expect("a stream");
    assert!(stream.next_piece().expect("a piece").is_some());
    stage.edit("retries  = 2", "retries  = 3");
    let connections = format!(r#"hapilot_old_worker_connections{{pid="{worker}"}}"#);
    let mut last = BTreeMap::new();
    wait_for("the old worker in the metrics", Duration::from_secs(30), || {
        last = scrape(&address);
        last.contains_key(&connections).then_some(())
    });
    assert!(last[&connections] >= 1.0, "{last:?}");
    assert!(last[&format!(r#"hapilot_old_worker_resident_bytes{{pid="{worker}"}}"#)] > 1e6, "{last:?}");
    assert_eq!((last["hapilot_old_workers"], last["hapilot_reloads_total"]), (1.0, 1.0));
    let shown = stage.cli(&["status"]).stdout;
    assert!(shown.contains(&format!("worker   {worker} finishes")) && shown.contains(" left"), "{shown}");
}

#[test]
fn streams_that_end_badly_are_counted_by_how() {
    let address = format!("127.0.0.1:{}", free_port());
    let stage = Stage::running(&binary(), |text| {
        let text = swapped(&text, "\n[frontend.api]", &format!("\nlisten = \"{address}\"\n[frontend.api]"));
        swapped(&text, "[backend.chat]\n", "[backend.chat]\nstream_watch = true\n")
    });
    let question = r#"{"model":"mock-small","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let sum = |end: &str| -> f64 {
        let is_it = |name: &str| {
            name.starts_with("hapilot_live_stream_failures_total{backend=\"chat\"")
                && name.contains(&format!("end=\"{end}\""))
        };
        scrape(&address).iter().filter(|(name, _)| is_it(name)).map(|(_, count)| count).sum()
    };
    for (kind, end) in [(FaultKind::LateError, "error"), (FaultKind::NoDone, "cut"), (FaultKind::Cut, "cut")] {
        let before = sum(end);
        let fault = Fault { path: Some("/v1/chat".into()), ..Fault::new(kind) };
        ["a", "b", "c"].iter().for_each(|server| stage.break_mock(server, vec![fault.clone()]));
        let reply = Connection::open(&stage.address)
            .and_then(|mut one| one.send(&Request::post("/v1/chat/completions", question)));
        assert_eq!(reply.is_err(), kind == FaultKind::Cut, "{reply:?}");
        wait_for("the stream in the metrics", PATIENCE, || (sum(end) > before).then_some(()));
        assert_eq!(sum(end), before + 1.0, "{kind:?}");
    }
    assert_eq!(sum("limit") + sum("overload") + sum("request"), 0.0);
}

#[test]
fn promtool_finds_nothing_to_say() {
    if !has("promtool") {
        return skip_or_demand("needs promtool (Debian: prometheus)");
    }
    let (stage, address) = start(&binary());
    let (metrics, get_metrics) = (stage.path("metrics"), || get(&address, "/metrics").expect("an answer").text());
    // Live traffic has quantiles, and a key that was used a count.
    wait_for("live traffic in the metrics", PATIENCE, || {
        get(&stage.address, "/v1/models").expect("an answer");
        get_metrics().contains("quantile=").then_some(())
    });
    write(&metrics, get_metrics());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "promtool check metrics <\"$0\""]).arg(&metrics);
    let said = run(command, PATIENCE);
    assert_eq!((said.code, said.stdout + &said.stderr), (Some(0), String::new()), "{}", stage.read("metrics"));
}

#[test]
fn readers_change_nothing() {
    let (stage, address) = start(&binary());
    for path in ["/v1/apply", "/v1/server", "/v1/rollback", "/v1/confirm", "/v1/expire", "/v1/tag"] {
        assert_eq!(post(&address, path, "{}").expect("an answer").status, 404, "{path}");
    }
    assert_eq!(post(&address, "/v1/status", "{}").expect("an answer").status, 405);
    assert_eq!(stage.revisions(), (1, 1));
}

#[test]
fn a_taken_port_does_not_keep_the_agent_from_steering() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let listen = format!("\nlisten = \"{address}\"\n[frontend.api]");
    let stage = Stage::running(&binary(), |text| swapped(&text, "\n[frontend.api]", &listen));
    stage.wait_for_health();
    assert!(stage.agent_said("cannot be bound"));
    drop(taken);
    wait_for("the readers' listener", Duration::from_secs(30), || get(&address, "/metrics").ok());
}
