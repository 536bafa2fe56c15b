//! Servers that come and go while HAProxy runs: no reload, no stream cut, nothing left behind.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request, Stream, get};
use super::support::stage::{LENIENT, SPARE, Stage, swapped};
use super::support::{PATIENCE, wait_for};
use hapilot::mock::{Fault, FaultKind};

/// A node whose probes stay out of the way.
pub(super) fn quiet(binary: &Binary) -> Stage {
    Stage::running(binary, |text| swapped(&text, "interval = \"500ms\"", "interval = \"2s\""))
}

/// The operator's file with one more server.
fn with_server(stage: &Stage, name: &str, url: &str, more: &str) -> String {
    let key = stage.path("key");
    format!(
        "{}\n[backend.chat.server.{name}]\nurl = \"{url}\"\nkeys = [\"file:{}\"]\n{more}\n",
        stage.text(),
        key.display()
    )
}

pub(super) fn has_server(stage: &Stage, name: &str) -> bool {
    let table = stage.private().admin("show servers state chat");
    table.lines().any(|line| line.split(' ').nth(3) == Some(name))
}

fn is_served_by(stage: &Stage, name: &str) -> bool {
    get(&stage.address, "/v1/models").is_ok_and(|reply| reply.header("x-served-by") == Some(&format!("chat/{name}")))
}

#[test]
fn a_server_is_added_and_removed_without_a_reload() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let (worker, (before, _)) = (stage.worker(), stage.revisions());
        let url = format!("http://{}/v1", stage.mock_address(SPARE));
        let without = stage.text();
        let edited = stage.write_file(&with_server(&stage, "extra", &url, "weight = 100"));
        let took =
            stage.effect("the new server", edited, |stage| has_server(stage, "extra") && stage.is_ready("extra"));
        println!("{} added after {} ms", binary.version, took.as_millis());
        assert!(took < LENIENT, "{took:?}");
        wait_for("an answer of the new server", PATIENCE, || is_served_by(&stage, "extra").then_some(()));
        // HAProxy's own check looks after it as after the others.
        wait_for("a check", PATIENCE, || (stage.state("chat", "extra", "srv_check_status") != "0").then_some(()));
        assert_eq!(stage.worker(), worker, "a reload");
        assert!(stage.read("haproxy.cfg").contains("server extra "));
        assert_eq!(stage.check_live(&binary).code, Some(0));
        wait_for("its health", PATIENCE, || (stage.server_status("extra")["health"] == "healthy").then_some(()));

        let edited = stage.write_file(&without);
        let took = stage.effect("the server to be gone", edited, |stage| !has_server(stage, "extra"));
        println!("{} removed after {} ms", binary.version, took.as_millis());
        assert_eq!(stage.worker(), worker, "a reload");
        assert!(!stage.read("haproxy.cfg").contains("server extra "));
        wait_for("both revisions", PATIENCE, || (stage.revisions().0 == before + 2).then_some(()));
        let history = stage.json(&["history"]);
        assert_eq!((&history[0]["how"], &history[1]["how"]), (&"runtime".into(), &"runtime".into()), "{history}");
        // The next start finds nothing to do.
        assert_eq!(stage.json(&["plan"])["how"], "unchanged");
    }
}

#[test]
fn a_removed_server_finishes_its_stream_first() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let worker = stage.worker();
        // 40 tokens at 10 a second: a stream of four seconds.
        stage.break_mock(
            "c",
            vec![Fault { rate: Some(10.0), path: Some("/v1/chat".into()), ..Fault::new(FaultKind::Rate) }],
        );
        let body = r#"{"model":"mock-small","stream":true,"max_tokens":40,"messages":[{"role":"user","content":"x"}]}"#;
        let mut connections: Vec<_> =
            (0..20).map(|_| Connection::open(&stage.address).expect("a connection")).collect();
        let request = Request::post("/v1/chat/completions", body);
        let streams = connections.iter_mut().map(|connection| connection.stream(&request).expect("a stream"));
        let of_c = |stream: &Stream<'_>| {
            stream.headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("x-served-by") && value == "chat/c")
        };
        let mut stream = streams.into_iter().find(of_c).expect("round robin comes to each");
        stage.write_file(&without_server(&stage.text(), "c"));
        wait_for("the server to take nothing new", LENIENT, || (!stage.is_ready("c")).then_some(()));
        assert!(has_server(&stage, "c"), "it still finishes its stream");
        let mut text = String::new();
        while let Some(piece) = stream.next_piece().expect("the stream goes on") {
            text.push_str(&String::from_utf8_lossy(&piece.bytes));
        }
        assert!(text.contains("data: [DONE]"), "{text}");
        wait_for("the server to be gone", PATIENCE, || (!has_server(&stage, "c")).then_some(()));
        assert_eq!(stage.worker(), worker, "a reload");
    }
}

/// The operator's file without a server.
fn without_server(text: &str, name: &str) -> String {
    let begin = text.find(&format!("[backend.chat.server.{name}]")).expect("the server");
    let end = text[begin + 1..].find("\n[").map_or(text.len(), |at| begin + 1 + at);
    format!("{}{}", &text[..begin], &text[end..])
}

#[test]
fn what_the_runtime_cannot_change_of_a_server_is_a_reload_with_its_reason() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let worker = stage.worker();
        stage.edit("state = \"ready\" # b", "state = \"ready\"\ntier = 2");
        wait_for("the reload", PATIENCE, || (stage.worker() != worker).then_some(()));
        wait_for("its record", PATIENCE, || {
            let why = stage.json(&["history"])[0]["summary"].to_string();
            why.contains("chat/b").then_some(())
        });
    }
}
