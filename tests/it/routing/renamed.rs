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

/// What has the same name in other places keeps it, and so does a name that is written with escapes.
#[test]
fn no_other_place_with_the_same_name_is_renamed() {
    const NEW: &str = "the-name-of-a-deployment";
    on_every_haproxy(|haproxy| {
        let (url, seen) = capture();
        let port = free_port();
        let models = [("gpt-4o".to_owned(), set(NEW.to_owned()))].into();
        let renaming = Server { models, ..server("s", &url) };
        let config =
            config(vec![frontend("api", &bind(port), "all")], vec![backend("all", Provider::Vllm, vec![renaming])]);
        let _serving = serve(haproxy, config);
        let came = |path: &str, body: &str| {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = ask(port, request.as_bytes());
            assert_eq!(answer.status, 200, "{} {path} {body}", haproxy.path);
            seen.recv_timeout(PATIENCE).expect("it came")
        };
        // `@` is the new name, and stands for the old one in what is sent.
        for pattern in [
            r#"{"model":"@"}"#,
            r#"{"mod\u0065l":"@","a":{"model":"gpt-4o"}}"#,
            r#"{"a":{"model":"gpt-4o"},"mod\u0065l":"@"}"#,
            r#"{"messages":[{"model":"gpt-4o"}],"model":"@"}"#,
            r#"{"model":"@","messages":[{"model":"gpt-4o","content":"\"model\":\"gpt-4o\""}]}"#,
            r#"{"model":"@","x":1,"mod\u0065l":"@"}"#,
            r#" {"model" :  "@" , "user":"gpt-4o"} "#,
            r#"{"models":["gpt-4o"],"model":"@"}"#,
        ] {
            let body = came("/v1/x", &pattern.replace('@', "gpt-4o")).body;
            assert_eq!(String::from_utf8_lossy(&body), pattern.replace('@', NEW), "{}", haproxy.path);
        }
        // However a path is spelt, and whatever a name has in it; names of the rest of a path keep their slashes.
        for (path, new_path) in [
            ("//model/gpt-4o//converse", format!("/model/{NEW}/converse")),
            ("/model/gpt%2D4o/invoke?a=1", format!("/model/{NEW}/invoke?a=1")),
            (
                "/openai/d%65ployments/gpt-4o/chat",
                format!("/openai/deployments/{NEW}/chat").replace("deployments", "d%65ployments"),
            ),
            ("/v1beta/models/gpt-4o%3AgenerateContent", format!("/v1beta/models/{NEW}:generateContent")),
            ("/v1//models/gpt-4o", format!("/v1/models/{NEW}")),
            ("/model/gpt-4o%2Fx/invoke", "/model/gpt-4o%2Fx/invoke".to_owned()),
        ] {
            assert_eq!(came(path, "{}").target, new_path, "{}", haproxy.path);
        }
        // A model that is not named passes, and so does one with blanks around the name.
        for body in [r#"{"model":"gpt-4"}"#, r#"{"model":" gpt-4o"}"#, r#"{"model":"gpt-4o "}"#, "{}", ""] {
            assert_eq!(came("/v1/x", body).body, body.as_bytes(), "{}", haproxy.path);
        }
        // Gemini's embeddings name it twice; other bodies do not count where the path names it.
        let twice = |name: &str| {
            format!(
                r#"{{"requests":[{{"model":"models/{name}","x":"\"model\":\"models/gpt-4o\""}},{{"model" : "models/{name}"}}]}}"#
            )
        };
        for (path, body, new_path, new_body) in [
            (
                "/v1beta/models/gpt-4o:batchEmbedContents",
                twice("gpt-4o"),
                format!("/v1beta/models/{NEW}:batchEmbedContents"),
                twice(NEW),
            ),
            (
                "/v1beta/models/gpt-4o:generateContent",
                "{}".to_owned(),
                format!("/v1beta/models/{NEW}:generateContent"),
                "{}".to_owned(),
            ),
            (
                "/openai/deployments/gpt-4o/chat/completions",
                r#"{"model":"gpt-4o"}"#.to_owned(),
                format!("/openai/deployments/{NEW}/chat/completions"),
                r#"{"model":"gpt-4o"}"#.to_owned(),
            ),
        ] {
            let came = came(path, &body);
            assert_eq!(
                (came.target, String::from_utf8_lossy(&came.body).into_owned()),
                (new_path, new_body),
                "{}",
                haproxy.path
            );
        }
    });
}

/// What a client repeats costs little, and what does not fit is refused, in the place of hanging.
#[test]
fn many_names_in_one_body_are_refused_and_cost_next_to_nothing() {
    on_every_haproxy(|haproxy| {
        let (url, seen) = capture();
        let port = free_port();
        let models = [("*".to_owned(), set("x".repeat(50)))].into();
        let renaming = Server { models, ..server("s", &url) };
        let mut config =
            config(vec![frontend("api", &bind(port), "all")], vec![backend("all", Provider::Vllm, vec![renaming])]);
        config.haproxy.buffer_bytes = set(262_144);
        let serving = serve(haproxy, config);
        for (kind, one, size) in [
            ("application/json", r#""model":"z","#, 0),
            ("application/json", r#""model":"gpt-4o","#, 260_900),
            ("application/x-www-form-urlencoded", "model=z&", 0),
        ] {
            for count in [2, 16, 17, 60, 100, 400, 4000] {
                let mut body = one.repeat(count);
                if kind.ends_with("json") {
                    let pad = "y".repeat(usize::max(size, body.len() + 20) - body.len() - 10);
                    body = format!("{{{body}\"p\":\"{pad}\"}}");
                }
                let request = format!(
                    "POST /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let before = super::cpu(&serving);
                let answer = ask(port, request.as_bytes());
                let cost = super::cpu(&serving).saturating_sub(before);
                let what = || format!("{} {kind} {count} {size}: {answer:?} {cost:?}", haproxy.path);
                assert!(cost < super::MOST_CPU, "{}", what());
                match answer.status {
                    200 if count <= 16 => assert_eq!(
                        seen.recv_timeout(PATIENCE).expect("it came").body.len() as i64 - body.len() as i64,
                        (50 - one
                            .split(['"', '=', '&', ','])
                            .rev()
                            .nth(if kind.ends_with("json") { 2 } else { 1 })
                            .map_or(0, str::len) as i64)
                            * count as i64,
                        "{}",
                        what()
                    ),
                    413 => assert!(count > 16 || count == 16 && size > 0, "{}", what()),
                    _ => panic!("{}", what()),
                }
            }
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
