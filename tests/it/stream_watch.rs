//! Streams that begin well and end badly, in backends that watch them: what the log, health and the client see. Real HAProxy, on
//! every version.

use super::live_traffic::{Ear, alone, no_checks};
use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request};
use super::support::stage::{KEY, Stage, swapped};
use super::support::{PATIENCE, pause, wait_for};
use hapilot::health::Outcome;
use hapilot::mock::{Fault, FaultKind};
use serde_json::Value;
use std::net::UdpSocket;
use std::time::Duration;

const OPENAI: &str = "/v1/chat/completions";
const ANTHROPIC: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const GEMINI: &str = "/v1beta/models/mock-small:streamGenerateContent?alt=sse";

/// A stage whose access log comes here.
fn stage(binary: &Binary, more: &str) -> (Stage, UdpSocket) {
    let log = UdpSocket::bind("127.0.0.1:0").expect("a socket for the log");
    log.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    let address = log.local_addr().expect("its address");
    let stage = Stage::with_haproxy(binary, |text| {
        let text = swapped(&alone(no_checks(text), "b"), "log           = \"\"", &format!("log = \"{address}\""));
        // The mock takes it in every way.
        let key = format!(
            "raw = [\"http-request set-header x-api-key {KEY}\", \"http-request set-header x-goog-api-key {KEY}\", \"http-request set-header anthropic-version 2023-06-01\"]\n"
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

/// What the log says of the next request.
pub(super) fn logged(log: &UdpSocket) -> Value {
    loop {
        let mut line = vec![0; 65_536];
        let length = log.recv(&mut line).expect("a line of the log");
        let line = String::from_utf8_lossy(&line[..length]).into_owned();
        if let Some(at) = line.find("{\"time\"") {
            return serde_json::from_str(line[at..].trim_end()).expect("a line of JSON");
        }
    }
}

/// Whether the end of a stream is the expected one. Of an answer that breaks off 3.0 says now and then that the client went away.
pub(super) fn is_end(binary: &Binary, line: &Value, expected: &str) -> bool {
    let is_vague = binary.version.at_least(3, 0) && !binary.version.at_least(3, 2) && expected == "cut";
    line["stream_end"] == expected || is_vague && line["state"] == "CD"
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

/// Streams, and what is told of each.
fn cases() -> Vec<(&'static str, Option<Fault>, &'static str, Outcome)> {
    use Outcome::{BadContent, Ok, Overloaded, ProbeConfig, RateLimited, Reset};
    let after = |more: &str| format!("{GOOD}{more}");
    let error = |error: &str| late(&format!("data: {{\"error\":{{{error}}}}}\n\n"));
    let no_error = after(
        "data: {\"id\":\"data: {\\\"error\\\":{\"}\n\ndata: {\"error\":null}\n\n: event: error\n\n\
         data: {\"choices\":[{\"delta\":{\"content\":\"event: error\\ndata: {\\\"error\\\":{ \\\"finish_reason\\\":\\\"error\\\"\"}}]}\n\n\
         data: [DONE]\n\n",
    );
    let overload =
        after("event: error\r\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\r\n\r\n");
    let openrouter = after(
        "data: {\"id\":\"x\",\"error\":{\"code\":502},\"choices\":[{\"finish_reason\":\"error\"}]}\n\ndata: [DONE]\n\n",
    );
    let created = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n";
    let response = |kind: &str, more: &str| {
        format!(
            "{created}event: response.{kind}\ndata: {{\"type\":\"response.{kind}\",\"response\":{{\"id\":\"rate_limit\",{more}}}}}\n\n"
        )
    };
    let gemini = |more: &str| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"finishReason\"}}]}}}}]}}\r\n\r\n{more}"
        )
    };
    let finished = "data: {\"candidates\":[{\"content\":{},\"finishReason\": \"STOP\"}]}\r\n\r\n";
    vec![
        (OPENAI, None, "-", Ok),
        (ANTHROPIC, None, "-", Ok),
        (OPENAI, Some(Fault::new(FaultKind::LateError)), "error", BadContent),
        (OPENAI, Some(Fault { interim: Some(103), ..Fault::new(FaultKind::LateError) }), "error", BadContent),
        (ANTHROPIC, Some(Fault::new(FaultKind::LateError)), "overload", Overloaded),
        (OPENAI, Some(error("\"message\":\"slower\",\"type\":\"rate_limit_error\"")), "limit", RateLimited),
        (
            OPENAI,
            Some(error("\"message\":\"no tool 'overloaded'\",\"type\":\"invalid_request_error\"")),
            "request",
            ProbeConfig,
        ),
        (OPENAI, Some(events(&openrouter)), "error", BadContent),
        (OPENAI, Some(in_bytes(&openrouter)), "error", BadContent),
        (OPENAI, Some(events(&no_error)), "-", Ok),
        (OPENAI, Some(in_bytes(&no_error)), "-", Ok),
        (OPENAI, Some(in_bytes(&overload)), "overload", Overloaded),
        // Lines may end so, too; a byte order mark is none of the first one.
        (OPENAI, Some(events(&no_error.replace('\n', "\r"))), "-", Ok),
        (OPENAI, Some(in_bytes(&no_error.replace('\n', "\r"))), "-", Ok),
        (OPENAI, Some(in_bytes(&overload.replace("\r\n", "\r").replace('\n', "\r"))), "overload", Overloaded),
        (OPENAI, Some(in_bytes("\u{feff}data: [DONE]\n\n")), "-", Ok),
        (OPENAI, Some(Fault::new(FaultKind::NoDone)), "cut", Reset),
        (ANTHROPIC, Some(Fault::new(FaultKind::NoDone)), "cut", Reset),
        // A connection that breaks: HAProxy's own state tells it as well.
        (OPENAI, Some(Fault::new(FaultKind::Cut)), "cut", Reset),
        (OPENAI, Some(Fault::new(FaultKind::ResetMidStream)), "cut", Reset),
        (RESPONSES, Some(events(&response("completed", "\"usage\":null"))), "-", Ok),
        (RESPONSES, Some(in_bytes(&response("incomplete", "\"usage\":null"))), "-", Ok),
        (RESPONSES, Some(events(created)), "cut", Reset),
        (RESPONSES, Some(events(&response("failed", "\"error\":{\"code\":\"server_error\"}"))), "error", BadContent),
        (
            RESPONSES,
            Some(in_bytes(&response("failed", "\"error\":{\"code\":\"rate_limit_exceeded\"}"))),
            "limit",
            RateLimited,
        ),
        (
            RESPONSES,
            Some(events(&format!(
                "{created}event: error\ndata: {{\"type\":\"error\",\"code\":\"invalid_prompt\"}}\n\n"
            ))),
            "request",
            ProbeConfig,
        ),
        (GEMINI, Some(events(&gemini(finished))), "-", Ok),
        (GEMINI, Some(in_bytes(&gemini(finished))), "-", Ok),
        (GEMINI, Some(events("data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\r\n\r\n")), "-", Ok),
        (GEMINI, Some(events(&gemini(""))), "cut", Reset),
        (
            GEMINI,
            Some(events(&gemini("data: {\"error\":{\"code\": 429,\"message\":\"x\"}}\r\n\r\n"))),
            "limit",
            RateLimited,
        ),
    ]
}

#[test]
fn an_error_behind_the_first_event_and_a_missing_end_are_told_and_count_once() {
    for binary in binaries() {
        let version = &binary.version;
        let (stage, log) = stage(&binary, "");
        let mut ear = Ear::at(&stage);
        for (number, (path, fault, end, outcome)) in cases().into_iter().enumerate() {
            let what = format!("{version} {path} {fault:?}");
            stage.break_mock("b", fault.clone().into_iter().collect());
            let counts = [outcome, Outcome::Reset].map(|outcome| ear.count("chat/b", outcome));
            let reply = Connection::open(&stage.address).and_then(|mut one| one.send(&request(path, true)));
            // Before 3.2 HAProxy itself now and then ends an answer that an interim one came before where a piece of it ends, with
            // the end of a whole one: its client saw no error.
            let is_shortened = !binary.version.at_least(3, 2)
                && fault.as_ref().is_some_and(|fault| fault.interim.is_some())
                && reply.as_ref().is_ok_and(|reply| !String::from_utf8_lossy(&reply.body).contains("\"error\""));
            let (end, outcome, before) =
                if is_shortened { ("cut", Outcome::Reset, counts[1]) } else { (end, outcome, counts[0]) };
            match fault.map(|fault| fault.kind) {
                Some(FaultKind::Cut | FaultKind::ResetMidStream) => assert!(reply.is_err(), "{what}"),
                Some(FaultKind::ErrorEvent) => assert!(!reply.expect(&what).body.is_empty(), "{what}"),
                _ => assert_eq!(reply.expect(&what).status, 200, "{what}"),
            }
            let line = logged(&log);
            assert!(is_end(&binary, &line, end), "{what}: {line}");
            let outcome = if line["state"] == "CD" { Outcome::SelfCaused } else { outcome };
            let sample = ear.wait(&what, "chat/b", |sample| sample.outcomes.values().sum::<u32>() as usize > number);
            assert_eq!(sample.outcomes.values().sum::<u32>() as usize, number + 1, "{what}: {sample:?}");
            assert!(outcome == Outcome::SelfCaused || sample.outcomes[&outcome] == before + 1, "{what}: {sample:?}");
        }
        // What is no stream, and a client that goes away.
        stage.break_mock("b", vec![]);
        Connection::open(&stage.address).and_then(|mut one| one.send(&request(OPENAI, false))).expect("an answer");
        assert_eq!(logged(&log)["stream_end"], "-", "{version}");
        let fault = Fault { rate: Some(5.0), ..Fault::new(FaultKind::Rate) };
        stage.break_mock("b", vec![fault]);
        let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
        let mut stream = connection.stream(&request(OPENAI, true)).expect("a stream");
        stream.next_piece().expect("its first piece");
        let before = ear.count("chat/b", Outcome::SelfCaused);
        drop(connection);
        assert_eq!(logged(&log)["stream_end"], "-", "{version}");
        ear.wait("the client's own end", "chat/b", |sample| {
            sample.outcomes.get(&Outcome::SelfCaused).is_some_and(|count| *count > before)
        });
    }
}

#[test]
fn a_stream_that_an_old_worker_finishes_is_told_as_well() {
    for binary in binaries() {
        let (stage, log) = stage(&binary, "");
        let mut ear = Ear::at(&stage);
        let worker = stage.worker();
        stage.break_mock("b", vec![Fault { body_after_ms: Some(4000), ..Fault::new(FaultKind::LateError) }]);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| Connection::open(&stage.address)?.send(&request(OPENAI, true)));
            pause(Duration::from_millis(300));
            assert!(stage.private().reload().succeeded);
            wait_for("the new worker", PATIENCE, || (stage.worker() != worker).then_some(()));
            assert!(!client.is_finished(), "{}: it ended before the reload", binary.version);
            assert_eq!(client.join().expect("a client").expect("an answer").status, 200);
        });
        assert_eq!(logged(&log)["stream_end"], "error", "{}", binary.version);
        ear.wait("the error", "chat/b", |sample| sample.outcomes.get(&Outcome::BadContent) == Some(&1));
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
            ("carriage returns", body("\r")),
            ("lines that end so", events(&"data: {\"x\"\r".repeat(330_000))),
            ("half words", body("data: \"finish_reason\":\"erro ")),
            ("errors", body("event: error\ndata: {\"error\":{\n\n")),
        ] {
            stage.break_mock("b", vec![Fault { path: Some(OPENAI.to_owned()), ..fault }]);
            let before = cpu();
            let reply =
                Connection::open(&stage.address).and_then(|mut one| one.send(&request(OPENAI, true))).expect(name);
            let end = logged(&log);
            let cost = (cpu() - before) / reply.body.len() as u128;
            println!("{} {name}: {cost} ns a byte, {}", binary.version, end["stream_end"]);
            assert!(reply.body.len() > 3_000_000 && cost < MOST_NS, "{} {name}: {cost} ns a byte", binary.version);
            pause(Duration::from_millis(1));
        }
    }
}
