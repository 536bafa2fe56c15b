//! The same generated requests against servers that have names of their own for models: nothing of a request changes but
//! that name, wherever it stands and however it is written.

use super::request::{MODELS, Request, Truth};
use super::{ask, number};
use crate::sample::{backend, config, frontend, server, set};
use crate::support::chance::Chance;
use crate::support::port::free_port;
use crate::traffic::{PATIENCE, bind, on_every_haproxy, serve};
use hapilot::config::Server;
use hapilot::model::Provider;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Sent to each version.
const REQUESTS: u64 = 700;
/// Shorter than most names, and longer.
const NAMES: [&str; 2] = ["up-1", "the-name-of-a-deployment-which-is-longer-than-any-of-the-models-4711"];

/// What of a request a server sees, the body without its chunks.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    target: String,
    body: Vec<u8>,
}

impl Seen {
    fn text(&self) -> Vec<u8> {
        [self.target.as_bytes(), b"\n", &self.body].concat()
    }
}

#[test]
fn nothing_of_a_request_changes_but_the_name_of_its_model() {
    let (seed, requests) = (number("HAPILOT_TEST_SEED", 5), number("HAPILOT_TEST_REQUESTS", REQUESTS));
    on_every_haproxy(|haproxy| {
        for upstream in NAMES {
            let (url, seen) = capture();
            let port = free_port();
            let models = [("*".to_owned(), set(upstream.to_owned()))].into();
            let renaming = || Server { models, ..server("s", &url) };
            let mut config = config(
                vec![frontend("api", &bind(port), "all")],
                vec![backend("all", Provider::Vllm, vec![renaming()])],
            );
            config.haproxy.buffer_bytes = set(262_144);
            let _serving = serve(haproxy, config);
            let (mut renamed, mut refused) = (0, 0);
            for number in 0..requests / 2 {
                let request = Request::generate(&mut Chance::new(seed << 32 | number));
                let answer = ask(port, &request.bytes);
                let what = || format!("seed {seed}, request {number}, {}, {upstream}", request.kind);
                match (&request.truth, answer.status) {
                    (Truth::Leads { .. }, 200) => {}
                    (Truth::Leads { may_be_refused: true, .. } | Truth::Refused, 400 | 413) => {
                        refused += 1;
                        continue;
                    }
                    _ => panic!("{}: {answer:?}", what()),
                }
                let sent = read(&request.bytes[..]).expect("a whole request");
                let came = seen.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{}: nothing came", what()));
                match request.kind {
                    "no model" => assert_eq!(came, sent, "{}", what()),
                    "dear path" => {}
                    _ => {
                        renamed += 1;
                        is_renamed(&sent.text(), &came.text(), upstream).unwrap_or_else(|why| {
                            let shown =
                                |text: &[u8]| String::from_utf8_lossy(&text[..text.len().min(600)]).into_owned();
                            panic!("{}: {why}\n{}\n{}", what(), shown(&sent.text()), shown(&came.text()))
                        });
                    }
                }
            }
            println!("{}: {renamed} renamed, {refused} refused", haproxy.path);
            assert!(renamed > requests / 5 && refused > 10, "the generator has become one-sided");
        }
    });
}

/// Where the new name stands in what came, a name of the generator stood in what was sent; all else is the same.
fn is_renamed(sent: &[u8], came: &[u8], upstream: &str) -> Result<(), String> {
    let places = find_all(came, upstream.as_bytes());
    if places.is_empty() {
        return Err("it has the old name".to_owned());
    }
    let (mut at, mut from) = (0, 0);
    for (number, place) in places.iter().enumerate() {
        let before = &came[from..*place];
        if sent.get(at..at + before.len()) != Some(before) {
            return Err(format!("something else differs before place {number}"));
        }
        at += before.len();
        from = place + upstream.len();
        let behind = &came[from..places.get(number + 1).copied().unwrap_or(came.len())];
        let is_last = number + 1 == places.len();
        let end = if is_last {
            sent.len().checked_sub(behind.len())
        } else {
            find_all(&sent[at..], behind).first().map(|found| at + found)
        };
        let Some(end) = end.filter(|end| *end >= at && sent[*end..].starts_with(behind)) else {
            return Err(format!("something else differs behind place {number}"));
        };
        let name = String::from_utf8_lossy(&sent[at..end]).into_owned();
        let as_json = serde_json::from_str::<String>(&format!("\"{name}\"")).unwrap_or_default();
        let is_known = |name: &str| {
            MODELS.contains(&name)
                || name.len() >= 256
                || name.len() > 200 && name.contains("instruc")
                || name.contains("coder-visio")
        };
        if ![name.clone(), as_json, unescaped(&name)].iter().any(|name| is_known(name)) {
            return Err(format!("{name:?} is no model"));
        }
        at = end;
    }
    Ok(())
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let hex: Vec<u8> = rest.by_ref().take(2).collect();
        let hex = String::from_utf8(hex).ok().and_then(|hex| u8::from_str_radix(&hex, 16).ok());
        bytes.extend(hex);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn find_all(text: &[u8], what: &[u8]) -> Vec<usize> {
    if what.is_empty() {
        return vec![text.len()];
    }
    let first = what[0];
    let may_begin = text.iter().enumerate().filter(|(_, byte)| **byte == first);
    may_begin.filter(|(at, _)| text[*at..].starts_with(what)).map(|(at, _)| at).collect()
}

/// A model server that tells what it was asked.
fn capture() -> (String, Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let tell = tell.clone();
            std::thread::spawn(move || answer(stream, &tell));
        }
    });
    (url, told)
}

fn answer(mut stream: TcpStream, tell: &Sender<Seen>) -> Option<()> {
    let seen = read(stream.try_clone().ok()?)?;
    tell.send(seen).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").ok()
}

/// One request; nothing where it is not whole.
fn read(mut stream: impl Read) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        let length = stream.read(&mut piece).ok()?;
        bytes.extend_from_slice(&piece[..length]);
        if let Some(seen) = whole(&bytes) {
            return Some(seen);
        }
        if length == 0 {
            return None;
        }
    }
}

fn whole(bytes: &[u8]) -> Option<Seen> {
    let at = *find_all(bytes, b"\r\n\r\n").first()?;
    let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
    let target = String::from_utf8_lossy(&bytes[..at]).split(' ').nth(1)?.to_owned();
    let rest = &bytes[at + 4..];
    if !head.contains("transfer-encoding: chunked") {
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        assert!(rest.len() <= length, "more than was told: {head}");
        return (rest.len() == length).then(|| Seen { target, body: rest.to_vec() });
    }
    let (mut body, mut rest) = (Vec::new(), rest);
    loop {
        let line = *find_all(rest, b"\r\n").first()?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return rest.starts_with(b"\r\n").then_some(Seen { target, body });
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
