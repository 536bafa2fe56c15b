//! What an attempt is judged by, however the server's answer comes in: behind an interim one, late, or in pieces.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request, post};
use super::support::stage::{SERVERS, Stage, swapped};
use super::support::{PATIENCE, wait_for};
use hapilot::mock::{Fault, FaultKind};
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"mock-small","messages":[{"role":"user","content":"hello"}]}"#;
const STREAM: &str = r#"{"model":"mock-small","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;

fn tell_attempts() -> impl Iterator<Item = Binary> {
    binaries().into_iter().filter(|binary| binary.version.at_least(3, 0))
}

fn of_completions(fault: Fault) -> Fault {
    Fault { path: Some(CHAT.to_owned()), ..fault }
}

/// Servers that differ by their host, so that each has a hop.
fn with_hops(text: String) -> String {
    SERVERS.iter().fold(text, |text, server| {
        let line = format!("weight = 100 # {server}");
        swapped(&text, &line, &format!("{line}\nhost = \"{server}.example\""))
    })
}

fn break_all(stage: &Stage, fault: &Fault) {
    for server in SERVERS {
        stage.break_mock(server, vec![of_completions(fault.clone())]);
    }
}

/// Asks until the agent says why a server is out; nothing else may be said of one meanwhile.
fn asks_until(stage: &Stage, why: &str) {
    wait_for(why, PATIENCE, || {
        let _ = post(&stage.address, CHAT, BODY).expect("an answer");
        assert!(!stage.agent_said("(refused)"), "{why}");
        stage.agent_said(why).then_some(())
    });
}

#[test]
fn a_limit_behind_an_interim_answer_is_a_limit_and_no_refused_connection() {
    for binary in tell_attempts() {
        for (is_direct, edit) in [(true, std::convert::identity as fn(String) -> String), (false, with_hops)] {
            let stage = Stage::running(&binary, edit);
            assert_eq!(stage.read("haproxy.cfg").contains("listen chat:a"), !is_direct);
            println!("{} direct: {is_direct}", binary.version);
            let limit = Fault { retry_after: Some("20".to_owned()), interim: Some(103), ..Fault::status(429) };
            // A repeat hides it; a hop tells nevertheless what it was, without one nobody knows.
            stage.break_mock("b", vec![of_completions(limit.clone())]);
            asks_until(
                &stage,
                if is_direct { "chat/b weight 100 →" } else { "chat/b health healthy → degraded(rate_limited)" },
            );
            // The client sees it: all is known.
            break_all(&stage, &limit);
            asks_until(&stage, "chat/a health healthy → degraded(rate_limited)");
        }
    }
}

#[test]
fn a_spent_account_is_known_though_its_body_comes_behind_its_header() {
    for binary in tell_attempts() {
        for edit in [std::convert::identity as fn(String) -> String, with_hops] {
            let stage = Stage::running(&binary, edit);
            break_all(&stage, &Fault { body_after_ms: Some(50), ..Fault::new(FaultKind::InsufficientQuota) });
            asks_until(&stage, "retired(billing)");
        }
    }
}

#[test]
fn the_begin_of_a_stream_is_judged_by_what_it_means_in_whatever_pieces_it_comes() {
    for binary in tell_attempts() {
        let version = &binary.version;
        for edit in [std::convert::identity as fn(String) -> String, with_hops] {
            let stage = Stage::with_haproxy(&binary, edit);
            let ask = |body: &str, interim: Option<u16>| {
                let fault = Fault { body: Some(body.to_owned()), interim, ..Fault::new(FaultKind::ErrorEvent) };
                break_all(&stage, &Fault { body_after_ms: Some(30), ..fault });
                post(&stage.address, CHAT, STREAM).expect("an answer").status
            };
            for good in [
                "data: {\"error\":null,\"id\":\"1\"}\n\n",
                "data: {\"error\":\"\"}\n\n",
                ": error\n\n|data: {\"id\":\"1\"}\n\n",
                "da|ta: {\"error\": nu|ll}\n\n",
                "data: 1\n\n|data: 2\n\n",
                "data: 1",
            ] {
                assert_eq!(ask(good, None), 200, "{version} {good:?}");
                assert_eq!(ask(good, Some(103)), 200, "{version} 103 {good:?}");
            }
            for bad in [
                "data: {\"error\":{\"message\":\"no\"}}\n\n",
                "data:{ \"error\" : \"full\"}\n\n",
                "da|ta: {\"err|or\":{\"message\":\"no\"}}\n\n",
                "event:error\ndata: {}\n\n",
                "\u{feff}: ping\r\n\r\nevent: error\ndata: {}\n\n",
                "\n: one\n: two\n\ndata: {\"type\":\"error\"}\n\n",
            ] {
                assert_eq!(ask(bad, None), 503, "{version} {bad:?}");
            }
            assert_eq!(ask("", None), 504, "{version}: no event");
            // 3.0 would abort, were it answered in the server's place.
            let expected = if binary.version.at_least(3, 2) { 503 } else { 200 };
            for _ in 0..10 {
                assert_eq!(ask("data: {\"error\":{\"message\":\"no\"}}\n\n", Some(103)), expected, "{version}");
            }
        }
    }
}

#[test]
fn half_a_line_and_the_body_of_an_error_hang_no_client() {
    for binary in tell_attempts() {
        let version = &binary.version;
        for edit in [std::convert::identity as fn(String) -> String, with_hops] {
            let stage = Stage::with_haproxy(&binary, edit);
            let first = |faults: Fault, body: &str| {
                break_all(&stage, &faults);
                let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
                let begun = Instant::now();
                let mut stream = connection.stream(&Request::post(CHAT, body)).expect("a head");
                let status = stream.status;
                let _ = stream.next_piece().expect("a piece");
                println!("{version} {status}: {:?}", begun.elapsed());
                assert!(begun.elapsed() < Duration::from_millis(4500), "{version} {status}: {:?}", begun.elapsed());
                status
            };
            // A body that never comes, and one that never ends.
            let silent = Fault { body_after_ms: Some(60_000), ..Fault::status(400) };
            assert_eq!(first(silent, BODY), 504, "{version}");
            let endless = ["x"; 300].join("|");
            let events = |body: &str| Fault { body: Some(body.to_owned()), ..Fault::new(FaultKind::ErrorEvent) };
            let endless = Fault { code: Some(429), body_after_ms: Some(300), ..events(&endless) };
            assert_eq!(first(endless, BODY), 429, "{version}");
            // A comment is there at once, whenever the first event comes.
            let comment = Fault { body_after_ms: Some(100), ..events(": ping\n\n") };
            assert_eq!(first(comment, STREAM), 200, "{version}");
        }
    }
}
