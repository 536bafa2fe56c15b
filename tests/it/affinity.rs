//! What belongs together goes to one server, whatever the shape of the API, and everything else is spread.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request};
use super::support::stage::{LENIENT, Stage, swapped};
use super::support::wait_for;
use hapilot::model::Digest;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;

fn stage(binary: &Binary, affinity: &str) -> Stage {
    Stage::running(binary, |text| {
        swapped(&text, "balance  = \"roundrobin\"", &format!("balance  = \"affinity\"\naffinity = \"{affinity}\""))
    })
}

fn served_by(stage: &Stage, request: &Request) -> String {
    let reply =
        Connection::open(&stage.address).and_then(|mut connection| connection.send(request)).expect("an answer");
    reply.header("x-served-by").expect("a server").to_owned()
}

/// Uploads that take their time: of fewer requests in flight than servers, some would have no place at their home.
fn uploads(stage: &Stage) -> Vec<TcpStream> {
    let begin = |number| {
        let mut upload = TcpStream::connect(&stage.address).expect("a connection");
        let head = format!("POST /v1/files HTTP/1.1\r\nHost: a\r\nx-api-key: {number}\r\nX-Session: upload {number}");
        write!(upload, "{head}\r\nContent-Length: 9\r\n\r\nfile {number:03}").expect("a request");
        upload
    };
    let all = (0..12).map(begin).collect();
    let is_there = |line: &str| line.starts_with("chat,BACKEND,") && line.split(',').nth(4) == Some("12");
    wait_for("the uploads to be in flight", LENIENT, || {
        stage.private().admin("show stat").lines().any(is_there).then_some(())
    });
    all
}

/// One turn of a conversation, in the shape of an API.
type Turn = fn(&str, usize) -> Value;

fn question(talk: &str, turn: usize) -> String {
    format!("Question {turn} of {talk}")
}

fn messages(talk: &str, turn: usize, first: &[Value]) -> Vec<Value> {
    let asked = (0..=turn).flat_map(|turn| {
        let answer = json!({"role": "assistant", "content": format!("Answer {turn} to {talk}")});
        [json!({"role": "user", "content": question(talk, turn)}), answer]
    });
    let mut all: Vec<Value> = first.iter().cloned().chain(asked).collect();
    all.pop();
    all
}

const SYSTEM: &str = "You sell garden furniture. ";

const SHAPES: [(&str, Turn); 9] = [
    ("plain", |talk, turn| json!({"model": "mock-small", "messages": messages(talk, turn, &[])})),
    ("a system prompt", |talk, turn| {
        let system = json!({"role": "system", "content": SYSTEM.repeat(200)});
        json!({"model": "mock-small", "messages": messages(talk, turn, &[system])})
    }),
    ("a developer's prompt", |talk, turn| {
        let developer = json!({"role": "developer", "content": [{"type": "text", "text": SYSTEM}]});
        json!({"messages": messages(talk, turn, &[developer]), "model": "mock-small"})
    }),
    ("pieces", |talk, turn| {
        let pieces = |text: String| json!({"role": "user", "content": [{"type": "text", "text": text}]});
        json!({"system": SYSTEM, "messages": [pieces(question(talk, 0)), pieces(question(talk, turn))]})
    }),
    ("pieces behind a system prompt", |talk, turn| {
        let pieces = |text: String| json!({"role": "user", "content": [{"type": "text", "text": text}]});
        let system = json!({"role": "system", "content": SYSTEM});
        json!({"messages": [system, pieces(question(talk, 0)), pieces(question(talk, turn))]})
    }),
    ("a text, and later a list that is to be cached", |talk, turn| {
        let first = match turn {
            0 => json!(question(talk, 0)),
            _ => {
                json!([{"type": "text", "text": question(talk, 0), "cache_control": {"type": "ephemeral", "ttl": turn}}])
            }
        };
        json!({"messages": [{"role": "user", "content": first}, {"role": "user", "content": question(talk, turn)}]})
    }),
    ("gemini", |talk, turn| {
        let part = |text: String| json!({"role": "user", "parts": [{"text": text}]});
        json!({"contents": [part(question(talk, 0)), part(question(talk, turn))]})
    }),
    ("a prompt", |talk, _| json!({"model": "mock-small", "prompt": question(talk, 0)})),
    ("an input", |talk, _| json!({"model": "mock-small", "input": question(talk, 0)})),
];

#[test]
fn a_conversation_stays_where_it_began_and_others_go_elsewhere() {
    for binary in binaries() {
        let stage = stage(&binary, "prompt");
        let _uploads = uploads(&stage);
        for (shape, turn) in SHAPES {
            let mut homes = BTreeSet::new();
            for talk in 0..12 {
                let talk = format!("guest {talk} of {shape}");
                let at = |number| {
                    served_by(&stage, &Request::post("/v1/chat/completions", &turn(&talk, number).to_string()))
                };
                let servers: BTreeSet<String> = (0..4).map(at).collect();
                assert_eq!(servers.len(), 1, "{} {talk}: {servers:?}", binary.version);
                homes.extend(servers);
            }
            assert!(homes.len() > 1, "{} {shape}: all at {homes:?}", binary.version);
        }
        // What is no JSON, and what has no body, is served as well.
        let form = Request::post("/v1/audio/transcriptions", "not JSON");
        assert!(served_by(&stage, &form).starts_with("chat/"));
        assert!(served_by(&stage, &Request::get("/v1/models")).starts_with("chat/"));
        // One that is taken out gives its conversations to others, and has them again.
        let ask = || served_by(&stage, &Request::post("/v1/chat/completions", &SHAPES[0].1("one", 0).to_string()));
        let home = ask();
        stage.done(&["server", "drain", &home]);
        wait_for("another server", LENIENT, || (ask() != home).then_some(()));
        stage.done(&["server", "ready", &home]);
        wait_for("the home again", LENIENT, || (ask() == home).then_some(()));
    }
}

#[test]
fn a_header_or_a_client_may_be_what_belongs_together() {
    for binary in binaries() {
        let stage = stage(&binary, "header:X-Session");
        let _uploads = uploads(&stage);
        let ask = |session: &str, turn: usize| {
            let body = SHAPES[0].1(&format!("talk {turn}"), turn).to_string();
            served_by(&stage, &Request::post("/v1/chat/completions", &body).header("x-session", session))
        };
        let mut homes = BTreeSet::new();
        for session in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"] {
            let servers: BTreeSet<String> = (0..4).map(|turn| ask(session, turn)).collect();
            assert_eq!(servers.len(), 1, "{} {session}: {servers:?}", binary.version);
            homes.extend(servers);
        }
        assert!(homes.len() > 1, "{}: all at {homes:?}", binary.version);
        let clients: String = (0..13)
            .map(|number: u32| {
                let key = Digest::of(number.to_string());
                format!("[client.c{number}]\nplan = \"all\"\nkey_sha256 = \"{key}\"\n")
            })
            .collect();
        let stage = Stage::running(&binary, |text| {
            let balance = "balance  = \"affinity\"\naffinity = \"client\"";
            format!("{}\n[plan.all]\n{clients}", swapped(&text, "balance  = \"roundrobin\"", balance))
        });
        let _uploads = uploads(&stage);
        let ask = |turn: usize| {
            let body = SHAPES[0].1(&format!("talk {turn}"), turn).to_string();
            served_by(&stage, &Request::post("/v1/chat/completions", &body).header("x-api-key", "12"))
        };
        let servers: BTreeSet<String> = (0..6).map(ask).collect();
        assert_eq!(servers.len(), 1, "{}: {servers:?}", binary.version);
    }
}
