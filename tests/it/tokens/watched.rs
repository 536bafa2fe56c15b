//! Streams that are counted and watched: two programs read each, and the first hides what the client did not ask for.

use super::shapes::{ASKED_USAGE, EVENTS, Framing, STREAM, Shape, odd_provider, shape};
use super::{CHAT, COUNTED, used};
use crate::clients::{client, key};
use crate::stream_watch::{is_end, logged};
use crate::support::haproxy::{Binary, binaries};
use crate::support::http::{Connection, Request};
use crate::support::stage::{Stage, swapped};
use crate::support::{PATIENCE, wait_for};
use std::net::UdpSocket;
use std::time::Duration;

const DELTA: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"event: error\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":31}}\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\"}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Each with how it ends.
fn streams() -> Vec<(Shape, &'static str)> {
    let claude = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n\
                  event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n\n\
                  event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    let of = |parts: &[&str]| DELTA.repeat(20) + &parts.concat();
    vec![
        (shape("well", CHAT, STREAM, EVENTS, of(&[USAGE, DONE]), 42), "-"),
        (shape("asked by the client", CHAT, ASKED_USAGE, EVENTS, of(&[USAGE, ERROR, DONE]), 42), "error"),
        (shape("an error behind the usage", CHAT, STREAM, EVENTS, of(&[USAGE, ERROR, DONE]), 42), "error"),
        (shape("an error before it", CHAT, STREAM, EVENTS, of(&[ERROR, USAGE]), 42), "error"),
        (shape("no end", CHAT, STREAM, EVENTS, of(&[USAGE]), 42), "cut"),
        (shape("CRLF", CHAT, STREAM, EVENTS, of(&[USAGE, ERROR]).replace('\n', "\r\n"), 42), "error"),
        (shape("half an event", CHAT, STREAM, EVENTS, of(&[USAGE, "data: [DO"]), 42), "cut"),
        (shape("anthropic", "/v1/messages", STREAM, EVENTS, claude, 17), "overload"),
    ]
}

fn stage(binary: &Binary) -> (Stage, UdpSocket) {
    let log = UdpSocket::bind("127.0.0.1:0").expect("a socket for the log");
    log.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    let address = log.local_addr().expect("its address");
    let url = format!("http://{}", odd_provider(streams().into_iter().map(|(shape, _)| shape).collect()));
    let stage = Stage::with_haproxy(binary, |file| {
        let file = swapped(&file, "log           = \"\"", &format!("log = \"{address}\""));
        let file = swapped(
            &file,
            "backend = \"chat\"\nroutes  = [{ path = [\"/v1/embeddings\"], backend = \"embeddings\" }]",
            "backend = \"odd\"",
        );
        let client = client("acme", "counted");
        format!(
            "{file}\n{COUNTED}{client}[backend.odd]\nask_usage = true\nstream_watch = true\n[backend.odd.check]\nmodels = false\n\
             [backend.odd.server.o]\nurl = \"{url}\"\n"
        )
    });
    (stage, log)
}

#[test]
fn a_stream_that_is_watched_is_counted_exactly_and_its_late_error_is_told() {
    for binary in binaries() {
        let (stage, log) = stage(&binary);
        let mut sum = 0;
        for (number, (shape, end)) in streams().iter().enumerate() {
            for framing in [Framing::Length, Framing::Chunks, Framing::Close, Framing::Broken] {
                for piece in [1, 13, usize::MAX >> 1] {
                    let what = format!("{} {} {framing:?} {piece}", binary.version, shape.name);
                    let wanted = format!("{number} {} {piece}", format!("{framing:?}").to_ascii_lowercase());
                    let request = Request::post(shape.path, shape.asked)
                        .header("Authorization", &format!("Bearer {}", key("acme")))
                        .header("X-Shape", &wanted);
                    let reply = Connection::open(&stage.address).and_then(|mut one| one.send(&request));
                    if framing == Framing::Broken {
                        assert!(reply.is_err(), "{what}");
                    } else if shape.asked == STREAM && shape.path == CHAT {
                        let text = reply.expect(&what).text();
                        assert!(!text.contains("\"usage\":{") && text.len() == shape.body.len(), "{what}: {text}");
                        assert_eq!(text.contains("server_error"), *end == "error", "{what}: {text}");
                    } else {
                        assert_eq!(reply.expect(&what).body, shape.body, "{what}");
                    }
                    let line = logged(&log);
                    assert!(is_end(&binary, &line, end), "{what}: {line}");
                    assert_eq!(line["tokens_are"], "exact", "{what}: {line}");
                    sum += shape.cost;
                    wait_for(&what, PATIENCE, || (used(&stage, "acme") == sum).then_some(()));
                }
            }
        }
    }
}
