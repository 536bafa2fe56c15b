//! Streams that begin well and end badly, in backends that watch them: what the log, health and the client see. Real HAProxy, on
//! every version.

use super::live_traffic::{Ear, alone, no_checks};
use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request};
use super::support::pause;
use super::support::stage::{KEY, Stage, swapped};
use hapilot::health::Outcome;
use hapilot::mock::{Fault, FaultKind};
use std::net::UdpSocket;
use std::time::Duration;

const OPENAI: &str = "/v1/chat/completions";
const ANTHROPIC: &str = "/v1/messages";

/// A stage whose access log comes here.
fn stage(binary: &Binary, more: &str) -> (Stage, UdpSocket) {
    let log = UdpSocket::bind("127.0.0.1:0").expect("a socket for the log");
    log.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    let address = log.local_addr().expect("its address");
    let stage = Stage::with_haproxy(binary, |text| {
        let text = swapped(&alone(no_checks(text), "b"), "log           = \"\"", &format!("log = \"{address}\""));
        // The mock takes it in either way.
        let key = format!(
            "raw = [\"http-request set-header x-api-key {KEY}\", \"http-request set-header anthropic-version 2023-06-01\"]\n"
        );
        swapped(&text, "[backend.chat]\n", &format!("[backend.chat]\nstream_watch = true\n{key}")) + more
    });
    (stage, log)
}

fn request(path: &str, is_stream: bool) -> Request {
    let body = format!(
        "{{\"model\":\"mock-small\",\"stream\":{is_stream},\"max_tokens\":20,\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}"
    );
    Request::post(path, &body)
}

/// What the log says of the end of the stream that was asked for last.
fn logged(log: &UdpSocket) -> String {
    loop {
        let mut line = vec![0; 65_536];
        let length = log.recv(&mut line).expect("a line of the log");
        let line = String::from_utf8_lossy(&line[..length]).into_owned();
        if let Some((_, end)) = line.split_once("\"stream_end\":\"") {
            return end.split('"').next().unwrap_or_default().to_owned();
        }
    }
}

fn late(body: &str) -> Fault {
    Fault { body: Some(body.to_owned()), ..Fault::new(FaultKind::LateError) }
}

fn events(body: &str) -> Fault {
    Fault { body: Some(body.to_owned()), ..Fault::new(FaultKind::ErrorEvent) }
}

/// Each byte by itself.
fn in_bytes(text: &str) -> Fault {
    events(&text.chars().map(String::from).collect::<Vec<_>>().join("|"))
}

const GOOD: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";

#[test]
fn an_error_behind_the_first_event_and_a_missing_end_are_told_and_count() {
    let limit = "data: {\"error\":{\"message\":\"slower\",\"type\":\"rate_limit_error\"}}\n\n";
    let quoted =
        "data: {\"id\":\"data: {\\\"error\\\":{\"}\n\ndata: {\"error\":null}\n\n: event: error\n\ndata: [DONE]\n\n";
    let split = format!(
        "{GOOD}event: error\r\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\"}}}}\r\n\r\n"
    );
    for binary in binaries() {
        let version = &binary.version;
        let (stage, log) = stage(&binary, "");
        let mut ear = Ear::at(&stage);
        for (path, fault, end, outcome) in [
            (OPENAI, None, "-", Outcome::Ok),
            (ANTHROPIC, None, "-", Outcome::Ok),
            (OPENAI, Some(Fault::new(FaultKind::LateError)), "error", Outcome::BadContent),
            (ANTHROPIC, Some(Fault::new(FaultKind::LateError)), "overload", Outcome::Overloaded),
            (OPENAI, Some(late(limit)), "limit", Outcome::RateLimited),
            (OPENAI, Some(late(quoted)), "-", Outcome::Ok),
            (OPENAI, Some(Fault::new(FaultKind::NoDone)), "cut", Outcome::Reset),
            (ANTHROPIC, Some(Fault::new(FaultKind::NoDone)), "cut", Outcome::Reset),
            // A connection that breaks is told by HAProxy's own state.
            (OPENAI, Some(Fault::new(FaultKind::Cut)), "-", Outcome::Reset),
            (OPENAI, Some(in_bytes(&split)), "overload", Outcome::Overloaded),
        ] {
            let what = format!("{version} {path} {fault:?}");
            stage.break_mock("b", fault.clone().into_iter().collect());
            let before = ear.count("chat/b", outcome);
            let reply = Connection::open(&stage.address).and_then(|mut one| one.send(&request(path, true)));
            if fault.as_ref().is_none_or(|fault| fault.kind != FaultKind::Cut) {
                let reply = reply.expect("an answer");
                assert_eq!(reply.status, 200, "{what}");
                if fault.is_none() {
                    assert!(reply.text().contains("[DONE]") || reply.text().contains("message_stop"), "{what}");
                }
            }
            assert_eq!(logged(&log), end, "{what}");
            ear.wait(&what, "chat/b", |sample| sample.outcomes.get(&outcome).copied().unwrap_or(0) > before);
        }
        // What is no stream, and a client that goes away.
        stage.break_mock("b", vec![]);
        Connection::open(&stage.address).and_then(|mut one| one.send(&request(OPENAI, false))).expect("an answer");
        assert_eq!(logged(&log), "-", "{version}");
        let fault = Fault { rate: Some(5.0), ..Fault::new(FaultKind::Rate) };
        stage.break_mock("b", vec![fault]);
        let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
        let mut stream = connection.stream(&request(OPENAI, true)).expect("a stream");
        stream.next_piece().expect("its first piece");
        drop(connection);
        assert_eq!(logged(&log), "-", "{version}");
        ear.wait("the client's own end", "chat/b", |sample| sample.outcomes.contains_key(&Outcome::SelfCaused));
    }
}

/// Whatever a server sends: a fixed time for each byte.
#[test]
fn hostile_streams_cost_a_small_fixed_time_for_each_byte() {
    const MOST_NS: u128 = 1_500;
    for binary in binaries() {
        let (stage, log) = stage(&binary, "");
        let cpu = || {
            let tasks = fs_err::read_dir(format!("/proc/{}/task", stage.worker())).expect("HAProxy lives");
            let of = |task: std::io::Result<fs_err::DirEntry>| -> Option<u128> {
                let text = fs_err::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
                text.split(' ').next()?.parse().ok()
            };
            tasks.filter_map(of).sum::<u128>()
        };
        let body = |unit: &str| events(&format!("{GOOD}{}", unit.repeat(4_000_000 / unit.len())));
        for (name, fault) in [
            ("one event", Fault { bytes: Some(10 << 20), ..Fault::new(FaultKind::HugeEvent) }),
            ("no line break", body("data: x")),
            ("tiny events", body("data: 1\n\n")),
            ("empty lines", body("\n")),
            ("blanks", body(" ")),
            ("names", body("event: x\n")),
            ("half errors", body("data: {\"error\" :")),
            ("types", body("data: {\"type\":\"x\"\n")),
            ("errors", body("event: error\ndata: {\"error\":{\n\n")),
        ] {
            stage.break_mock("b", vec![Fault { path: Some(OPENAI.to_owned()), ..fault }]);
            let before = cpu();
            let reply =
                Connection::open(&stage.address).and_then(|mut one| one.send(&request(OPENAI, true))).expect(name);
            let end = logged(&log);
            let cost = (cpu() - before) / reply.body.len() as u128;
            println!("{} {name}: {cost} ns a byte, {end}", binary.version);
            assert!(reply.body.len() > 3_000_000 && cost < MOST_NS, "{} {name}: {cost} ns a byte", binary.version);
            pause(Duration::from_millis(1));
        }
    }
}
