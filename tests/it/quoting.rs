//! Quoting against real HAProxys: what goes in as a text comes out as the same text.

use crate::haproxies::{directory, installed};
use crate::sample::{backend, config, desired, frontend, server};
use crate::support::port::free_port;
use hapilot::model::{Origin, Provider, Sourced};
use hapilot::render::{RenderError, Target, Templates, render};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config as RunnerConfig, RngAlgorithm, TestRng, TestRunner};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A template that prints each raw line of `global` in four contexts, as the answer to a request of its own.
const TEMPLATE: &str = r#"global
    stats socket {{ haproxy.admin_socket }} level admin
defaults
    mode http
    timeout client 10s
    timeout connect 10s
    timeout server 10s
frontend quoting
    bind {{ frontends[0].bind[0].address }}
{% for text in haproxy.raw %}
    http-request return status 200 content-type text/plain string {{ text }} if { path /word/{{ loop.index0 }} }
    http-request return status 200 content-type text/plain string {{ text | sq }} if { path /sq/{{ loop.index0 }} }
    http-request return status 200 content-type text/plain string {{ text | dq }} if { path /dq/{{ loop.index0 }} }
    http-request return status 200 content-type text/plain lf-string {{ text | lf }} if { path /lf/{{ loop.index0 }} }
    http-request set-var(txn.v) {{ text | sample }} if { path /sample/{{ loop.index0 }} }
{% endfor %}
    http-request return status 200 content-type text/plain lf-string %[var(txn.v),hex]
"#;

const CONTEXTS: [&str; 5] = ["word", "sq", "dq", "lf", "sample"];

/// Texts that broke a naive quoting once, and as many by chance.
fn texts(seed: u8, count: usize) -> Vec<String> {
    let mut texts: Vec<String> = [
        "plain",
        "two words",
        "#",
        "a#b",
        "it's",
        "\"",
        "\\",
        "\\\\",
        "$HOME",
        "${HOME}",
        "\"${X-y}\"",
        "%",
        "%%",
        "%[src]",
        "%ci",
        "{",
        "}",
        "a,b",
        "(x)",
        "\\x41",
        "\\n",
        "'",
        "''",
        "\"'\"",
        "a' if FALSE #",
        "ü€𝄞",
        "\t",
        "a\tb",
        "if",
        "!",
        "'\"'\"'",
        "a;b",
        "-m",
        "--",
        "[",
        "]",
        "str(\"a\")",
        "\\'",
        "\\\"",
        "$",
        "a$",
        "\u{7f}",
        "\u{1}",
    ]
    .map(str::to_owned)
    .to_vec();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(RunnerConfig::default(), rng);
    let special = "[ -~]{1,12}";
    let any = "[^\\r\\n\\x00\u{E000}-\u{F8FF}\u{F0000}-\u{10FFFF}]{1,12}";
    for strategy in [special, any] {
        let strategy = proptest::string::string_regex(strategy).unwrap();
        texts.extend((0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()));
    }
    // The lines of `raw` lose the blanks around them.
    texts.retain(|text| !text.trim().is_empty() && text.trim() == text);
    texts
}

#[test]
fn every_text_comes_back_as_it_went_in() {
    let templates = Templates::with_root("quoting.tera", TEMPLATE).unwrap();
    for haproxy in installed() {
        let seed = 7;
        println!("{} seed {seed}", haproxy.path);
        let texts = texts(seed, 150);
        let port = free_port();
        let (_keep, directory) = directory();
        let chat = backend("chat", Provider::Vllm, vec![server("s", "http://127.0.0.1:1")]);
        let mut config = config(vec![frontend("api", &format!("127.0.0.1:{port}"), "chat")], vec![chat]);
        config.haproxy.admin_socket = Sourced::default_value(directory.join("admin.sock"));
        config.haproxy.raw = texts.iter().map(|text| Sourced::default_value(text.clone())).collect();
        let rendered = render(&desired(config), &templates, haproxy.target).unwrap();
        let path = directory.join("haproxy.cfg");
        fs_err::write(&path, &rendered.haproxy_cfg).unwrap();
        let (is_valid, said) = haproxy.check(&path);
        assert!(is_valid, "{said}");
        let mut child = Command::new(&haproxy.path)
            .args(["-db", "-n", "100", "-f", path.as_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() && start.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        let mut wrong = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            for context in CONTEXTS {
                let answer = get(port, &format!("/{context}/{i}"));
                // A variable prints with its control characters encoded, so it prints in hexadecimal.
                let expected = match context {
                    "sample" => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
                    _ => text.clone(),
                };
                if answer != expected.as_bytes() {
                    wrong.push(format!("{context}: {text:?} became {:?}", String::from_utf8_lossy(&answer)));
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), texts.len() * CONTEXTS.len(), wrong.join("\n"));
    }
}

fn get(port: u16, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    answer.split_off(end)
}

#[test]
fn a_text_that_no_file_can_carry_is_refused_at_its_place() {
    let templates = Templates::built_in().unwrap();
    for bad in ["a\nb", "a\rb", "a\0b", "a\u{E000}b", "a\u{10FFFD}b"] {
        let chat = backend("chat", Provider::Vllm, vec![server("s", "http://127.0.0.1:1")]);
        let mut config = config(vec![frontend("api", "127.0.0.1:80", "chat")], vec![chat]);
        let origin = Origin { line: 12, column: 7 };
        config.haproxy.raw = vec![Sourced::new(bad.to_owned(), origin)];
        let error = render(&desired(config), &templates, Target::new(3, 0)).unwrap_err();
        assert!(matches!(error, RenderError::Value { origin: Some(place), .. } if place == origin), "{error:?}");
    }
}
