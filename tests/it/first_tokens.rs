//! Streams whose first token decides: those that begin with an error, or with silence, are repeated at another server, and
//! the client sees one whole stream. Real HAProxy, on every version.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Reply, Request, post};
use super::support::stage::{SERVERS, Stage, swapped};
use super::support::{PATIENCE, wait_for};
use hapilot::mock::{Fault, FaultKind};
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str =
    r#"{"model":"mock-small","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"hello"}]}"#;
const WHOLE: &str = r#"{"model":"mock-small","max_tokens":5,"messages":[{"role":"user","content":"hello"}]}"#;
/// How long a first event is waited for.
const WAIT: Duration = Duration::from_millis(1000);

fn stage(binary: &Binary, words: &str) -> Stage {
    let before = "timeout  = { connect = \"2s\", first_byte = \"10s\", idle = \"10s\" }";
    let keys = format!("{words}\ntimeout = {{ first_byte = \"10s\", first_token = \"1s\", idle = \"9s\" }}");
    Stage::with_haproxy(binary, |file| swapped(&file, before, &keys))
}

/// How one server, and no other, begins its streams.
fn breaks(stage: &Stage, fault: Fault) {
    stage.break_mock("a", vec![Fault { path: Some(CHAT.to_owned()), ..fault }]);
}

fn events(body: &str) -> Fault {
    Fault { body: Some(body.to_owned()), ..Fault::new(FaultKind::ErrorEvent) }
}

/// What so many clients get, who ask one after the other, so that each server has its turn; and the longest that one waited.
fn asked(stage: &Stage, body: &str, times: usize) -> (Vec<Reply>, Duration) {
    let mut longest = Duration::ZERO;
    let replies = (0..times).map(|_| {
        let began = Instant::now();
        let reply = post(&stage.address, CHAT, body).expect("an answer");
        longest = longest.max(began.elapsed());
        reply
    });
    (replies.collect(), longest)
}

fn is_whole(reply: &Reply) -> bool {
    let text = reply.text();
    reply.status == 200
        && text.contains("[DONE]")
        && !text.contains("\"error\"")
        && text.matches("\"role\"").count() == 1
}

/// Begins that are none.
fn errors() -> Vec<(&'static str, Fault)> {
    vec![
        ("an error", Fault::new(FaultKind::ErrorEvent)),
        ("an error behind its header", Fault { body_after_ms: Some(200), ..Fault::new(FaultKind::ErrorEvent) }),
        (
            "an error in pieces",
            Fault { body_after_ms: Some(50), ..events("da|ta: {\"err|or\":{\"message\":\"no\"}}\n\n") },
        ),
        (
            "an error behind comments",
            Fault { body_after_ms: Some(100), ..events(": wait\n\n|: wait\n\n|event: error\ndata: {}\n\n") },
        ),
        (
            "half an error behind a comment",
            Fault { body_after_ms: Some(100), ..events(": wait\n\nda|ta: {\"error\":\"no\"}\n\n") },
        ),
        (
            "an error behind its number",
            Fault {
                body_after_ms: Some(100),
                ..events("id: 1\nretry: 5\n|event: message\n|data:\t{\"error\":{}}\n\n")
            },
        ),
        ("a status", Fault::status(503)),
        ("a reset", Fault::new(FaultKind::Reset)),
        ("a reset behind the header", Fault::new(FaultKind::ResetAfterHeaders)),
        ("no answer", Fault::new(FaultKind::CloseOnAccept)),
    ]
}

/// Silence of all kinds; whether a version without two time-outs notices it.
fn silences() -> Vec<(&'static str, bool, Fault)> {
    vec![
        ("silence", false, Fault::new(FaultKind::Hang)),
        ("a header and silence", true, Fault::new(FaultKind::HangAfterHeaders)),
        ("comments", true, Fault { body_after_ms: Some(300), ..events(&[": wait\n\n"; 30].join("|")) }),
        ("half a line and silence", true, Fault { body_after_ms: Some(5_000), ..events("da|ta: 1\n\n") }),
    ]
}

#[test]
fn a_stream_that_begins_with_an_error_is_repeated_and_the_client_sees_a_whole_one() {
    for binary in binaries() {
        for words in ["retry_streams = \"errors\"", "retry_streams = \"errors and silence\""] {
            let stage = stage(&binary, words);
            for (what, fault) in errors() {
                breaks(&stage, fault);
                let (replies, longest) = asked(&stage, STREAM, 3);
                for reply in replies {
                    assert!(is_whole(&reply), "{} {words}: {what}: {} {}", binary.version, reply.status, reply.text());
                }
                assert!(longest < Duration::from_secs(2), "{} {what}: {longest:?}", binary.version);
            }
            // Where all of them do so, the client is told, and may repeat it.
            for server in SERVERS {
                stage.break_mock(server, vec![Fault::new(FaultKind::ErrorEvent)]);
            }
            let (replies, _) = asked(&stage, STREAM, 2);
            for reply in replies {
                assert_eq!(reply.status, 503, "{}: {}", binary.version, reply.text());
                assert_eq!(reply.json()["error"]["code"], "stream_error");
                assert!(reply.header("retry-after").is_some());
            }
        }
    }
}

#[test]
fn a_stream_that_says_nothing_in_time_is_repeated_where_that_is_wanted_and_answered_where_it_is_not() {
    for binary in binaries() {
        let (version, can) = (&binary.version, binary.version.at_least(3, 0));
        let repeating = stage(&binary, "retry_streams = \"errors and silence\"");
        for (what, is_noticed, fault) in silences() {
            if !can && !is_noticed {
                continue;
            }
            breaks(&repeating, fault);
            let (replies, longest) = asked(&repeating, STREAM, 3);
            for reply in replies {
                assert!(is_whole(&reply), "{version} {what}: {} {}", reply.status, reply.text());
            }
            assert!((WAIT * 9 / 10..WAIT * 2).contains(&longest), "{version} {what}: {longest:?}");
        }
        // A stream that begins in time may go on slowly, and what is no stream may take its time.
        breaks(&repeating, Fault { delay_ms: Some(600), ..Fault::new(FaultKind::FirstToken) });
        assert!(asked(&repeating, STREAM, 3).0.iter().all(is_whole), "{version}");
        breaks(&repeating, Fault { rate: Some(1.0), ..Fault::new(FaultKind::Rate) });
        let (replies, longest) = asked(&repeating, STREAM, 3);
        assert!(replies.iter().all(is_whole), "{version}");
        assert!(longest > WAIT * 3, "{version} {longest:?}");
        // What is no stream comes with its header, or not at all.
        breaks(&repeating, Fault::new(FaultKind::HangAfterHeaders));
        let (replies, longest) = asked(&repeating, WHOLE, 3);
        for reply in replies {
            assert_eq!(reply.status, 200, "{version}: {}", reply.text());
        }
        assert!((WAIT * 9 / 10..WAIT * 2).contains(&longest), "{version}: {longest:?}");
        if can {
            breaks(&repeating, Fault { delay_ms: Some(1500), ..Fault::new(FaultKind::FirstToken) });
            let (replies, longest) = asked(&repeating, WHOLE, 3);
            assert!(replies.iter().all(|reply| reply.status == 200), "{version}");
            assert!(longest > Duration::from_millis(1400), "{version} {longest:?}");
            // Elsewhere a whole error comes in time, in the place of a stream that breaks off; nothing is asked twice.
            for words in ["", "retry_streams = \"errors\""] {
                let stage = stage(&binary, words);
                for (what, _, fault) in silences() {
                    // Without a hop a comment begins a stream.
                    if words.is_empty() && (what == "comments" || what == "half a line and silence") {
                        continue;
                    }
                    for server in SERVERS {
                        stage.break_mock(server, vec![Fault { path: Some(CHAT.to_owned()), ..fault.clone() }]);
                    }
                    let began = Instant::now();
                    let reply = post(&stage.address, CHAT, STREAM);
                    let reply = reply.unwrap_or_else(|error| panic!("{version} {words} {what}: {error}"));
                    assert_eq!(reply.status, 504, "{version} {words} {what}: {}", reply.text());
                    assert_eq!(reply.json()["error"]["code"], "gateway_timeout");
                    let took = began.elapsed();
                    assert!((WAIT * 9 / 10..WAIT * 2).contains(&took), "{version} {words} {what}: {took:?}");
                }
            }
        }
        let told = repeating.cli(&["check"]);
        let said = format!("{}{}", told.stdout, told.stderr);
        assert_eq!(said.contains("first_token ends the wait behind a header only"), !can, "{said}");
    }
}

#[test]
fn what_a_healthy_stream_says_first_is_not_held_back() {
    for binary in binaries() {
        let stage = stage(&binary, "retry_streams = \"errors and silence\"");
        for server in SERVERS {
            let events = events("data: {\"id\":\"1\"}\n\n|data: {\"id\":\"2\"}\n\n|data: [DONE]\n\n");
            stage.break_mock(server, vec![Fault { body_after_ms: Some(700), ..events }]);
        }
        let began = Instant::now();
        let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
        let mut stream = connection.stream(&Request::post(CHAT, STREAM)).expect("a head");
        assert_eq!(stream.status, 200);
        for expected in [700, 1400] {
            let piece = stream.next_piece().expect("a piece");
            let late = began.elapsed().saturating_sub(Duration::from_millis(expected));
            assert!(piece.is_some() && late < Duration::from_millis(250), "{}: {late:?}", binary.version);
        }
    }
}

#[test]
fn a_529_is_repeated_and_means_an_overloaded_server_not_a_broken_one() {
    // 2.6 could not tell what it was.
    for binary in binaries().into_iter().filter(|binary| binary.version.at_least(3, 0)) {
        let version = &binary.version;
        let text = "retry_streams = \"errors\"";
        let before = "timeout  = { connect = \"2s\", first_byte = \"10s\", idle = \"10s\" }";
        let stage = Stage::running(&binary, |file| swapped(&file, before, &format!("{text}\n{before}")));
        breaks(&stage, Fault::new(FaultKind::Overloaded));
        let (replies, _) = asked(&stage, STREAM, 20);
        assert!(replies.iter().all(is_whole), "{version}");
        wait_for("an overloaded server", PATIENCE, || {
            let _ = asked(&stage, WHOLE, 5);
            assert!(!stage.agent_said("server_error"), "{version}");
            stage.agent_said("chat/a health healthy → degraded(overloaded)").then_some(())
        });
        // Where nobody can do better the client sees what it was.
        for server in SERVERS {
            stage.break_mock(server, vec![Fault::new(FaultKind::Overloaded)]);
        }
        let (replies, _) = asked(&stage, WHOLE, 3);
        for reply in replies {
            assert_eq!(reply.status, 529, "{version}: {}", reply.text());
            assert_eq!(reply.header("x-hapilot-status"), None, "{version}");
        }
    }
}
