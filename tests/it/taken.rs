//! What a frontend takes: methods, kinds of bodies, their size; and how long a large request may take. Real HAProxy, on
//! every version.

use super::support::haproxy::binaries;
use super::support::pause;
use super::support::stage::{SERVERS, Stage, swapped};
use hapilot::mock::{Fault, FaultKind};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Sends these bytes; the status that comes, and the rest.
fn sent(address: &str, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    stream.write_all(request).expect("a request");
    let mut text = Vec::new();
    let mut bytes = [0; 4096];
    while !text.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(length) if length > 0 => text.extend_from_slice(&bytes[..length]),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {text:?}")), text)
}

fn request(method: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("{method} /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}").into_bytes()
}

#[test]
fn methods_kinds_and_sizes_that_are_not_taken_are_answered_with_what_is_wrong() {
    const BODY: &str = r#"{"model":"mock-small","messages":[{"role":"user","content":"hello"}]}"#;
    for binary in binaries() {
        let stage = Stage::running(&binary, |file| {
            let taken = "methods = [\"GET\", \"POST\"]\ncontent_types = [\"application/json\", \"audio/*\"]\nmax_body = \"200KiB\"\nbackend = \"chat\"\nroutes";
            swapped(&file, "backend = \"chat\"\nroutes", taken)
        });
        let told = |length: usize, kind: &str| format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n");
        let long = "x".repeat(300 << 10);
        let chunked = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let json_chunks = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
        let cases: [(&str, Vec<u8>, u16); 20] = [
            ("a good one", request("POST", &told(BODY.len(), "application/json"), BODY), 200),
            ("with a charset", request("POST", &told(BODY.len(), "Application/JSON; charset=utf-8"), BODY), 200),
            ("in chunks", request("POST", json_chunks, &chunked(BODY)), 200),
            ("another method", request("PUT", &told(BODY.len(), "application/json"), BODY), 405),
            ("a method that nobody knows", request("BREW", "", ""), 405),
            ("a method by another case", request("get", "", ""), 405),
            ("another kind", request("POST", &told(BODY.len(), "text/plain"), BODY), 415),
            ("no kind", request("POST", &format!("Content-Length: {}\r\n", BODY.len()), BODY), 415),
            (
                "two kinds",
                request("POST", &format!("Content-Type: text/plain\r\n{}", told(BODY.len(), "application/json")), BODY),
                415,
            ),
            ("a kind within another", request("POST", &told(BODY.len(), "application/jsonx"), BODY), 415),
            ("a kind behind a comma", request("POST", &told(BODY.len(), "text/plain, application/json"), BODY), 415),
            ("too large", request("POST", &told(205_000, "application/json"), ""), 413),
            ("larger than a number", request("POST", &told(1_000_000_000_000_000, "application/json"), ""), 413),
            ("too large in chunks", request("POST", json_chunks, &chunked(&long)), 413),
            (
                "of no told length",
                request("POST", "Content-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
                411,
            ),
            ("nothing", request("POST", "Content-Length: 0\r\n", ""), 400),
            ("nothing at all", request("POST", "", ""), 400),
            ("nothing, with a kind", request("POST", "Content-Type: audio/wav\r\n", ""), 400),
            ("another method with a body", request("GET", json_chunks, &chunked(&long)), 413),
            (
                "another method with a body of no told length",
                request("GET", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
                411,
            ),
        ];
        // Piece by piece, so that the first of it says nothing.
        let mut slow = TcpStream::connect(&stage.address).expect("a connection");
        slow.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        slow.write_all(&request("GET", json_chunks, "")).expect("a header");
        for size in [1000].into_iter().chain([8000; 40]) {
            pause(Duration::from_millis(20));
            if slow.write_all(format!("{size:x}\r\n{}\r\n", "x".repeat(size)).as_bytes()).is_err() {
                break;
            }
        }
        let mut said = [0; 12];
        slow.read_exact(&mut said).expect("a status");
        assert_eq!(String::from_utf8_lossy(&said), "HTTP/1.1 413", "{}", binary.version);
        for (what, bytes, expected) in cases {
            let (status, text) = sent(&stage.address, &bytes);
            assert_eq!(status, expected, "{} {what}: {text}", binary.version);
            if matches!(expected, 405 | 411 | 413 | 415) {
                assert!(text.to_ascii_lowercase().contains("content-type: application/json"), "{what}: {text}");
            }
            assert_eq!(expected == 405, text.to_ascii_lowercase().contains("\nallow: get, post\r"), "{what}: {text}");
        }
    }
}

#[test]
fn who_asks_for_much_may_wait_longer_for_the_first_byte() {
    for binary in binaries() {
        let said = binary.version.to_string();
        let stage = Stage::running(&binary, |file| {
            let head = "[backend.chat]\n";
            let slow =
                "retries = 0\ntimeout = { first_byte = \"1s\", first_byte_per_ktoken = \"1s\", idle = \"1s\" }\n";
            let file = file.lines().filter(|line| !line.starts_with("retries") && !line.starts_with("timeout"));
            let file = file.collect::<Vec<_>>().join("\n") + "\n";
            swapped(&file, head, &format!("{head}{slow}"))
        });
        for server in SERVERS {
            stage.break_mock(server, vec![Fault { path: Some("/v1/chat".into()), ..Fault::new(FaultKind::Hang) }]);
        }
        let large =
            format!(r#"{{"model":"mock-small","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(8_000));
        let cases = [
            (r#"{"model":"mock-small"}"#, 1.0),
            (r#"{"model":"mock-small","max_tokens":2000}"#, 3.0),
            (r#"{"model":"mock-small","max_tokens":2000,"stream":true}"#, 1.0),
            (r#"{"model":"mock-small","max_tokens":-5}"#, 1.0),
            (large.as_str(), 3.0),
            (r#"{"model":"mock-small","max_completion_tokens":2000000}"#, 10.0),
        ];
        std::thread::scope(|scope| {
            for (body, seconds) in cases {
                let (stage, said) = (&stage, &said);
                scope.spawn(move || {
                    let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
                    let began = Instant::now();
                    let (status, _) = sent(&stage.address, &request("POST", &headers, body));
                    let took = began.elapsed().as_secs_f64();
                    assert_eq!(status, 504, "{said}: {body:.80}");
                    // The large one has some tokens more.
                    assert!((seconds - 0.2..seconds + 1.5).contains(&took), "{said}: {took} {body:.80}");
                });
            }
        });
    }
}
