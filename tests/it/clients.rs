//! Who may ask, how often, how many at a time, and for what: through HAProxy, on every version.

use super::support::haproxy::{Binary, Place, binaries};
use super::support::http::{Connection, Reply, Request};
use super::support::port::free_port;
use super::support::stage::{KEY, LENIENT, SERVERS, Stage, swapped};
use super::support::{pause, wait_for, write};
use crate::haproxies::write_files;
use camino::Utf8Path;
use hapilot::desired::Desired;
use hapilot::mock::{Fault, FaultKind};
use hapilot::model::Digest;
use hapilot::render::{Target, Templates, render};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"mock-small","messages":[{"role":"user","content":"hello"}]}"#;

/// A client's key; the file has its digest.
pub(super) fn key(of: &str) -> String {
    format!("sk-hap-of-{of}-0123456789")
}

pub(super) fn client(name: &str, plan: &str) -> String {
    format!("[client.{name}]\nplan = \"{plan}\"\nkey_sha256 = \"{}\"\n", Digest::of(key(name)))
}

/// A stage with these plans and clients.
pub(super) fn stage(binary: &Binary, text: &str) -> Stage {
    Stage::running(binary, |file| file + "\n" + text)
}

pub(super) fn ask(stage: &Stage, request: &Request) -> Reply {
    Connection::open(&stage.address).and_then(|mut connection| connection.send(request)).expect("an answer")
}

pub(super) fn chat(stage: &Stage, of: &str) -> Reply {
    ask(stage, &Request::post(CHAT, BODY).header("Authorization", &format!("Bearer {}", key(of))))
}

pub(super) fn message(reply: &Reply) -> String {
    reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_key_is_known_wherever_clients_put_it_and_nobody_else_gets_in() {
    for binary in binaries() {
        let old = "old_key_sha256 = ";
        let text = format!(
            "[plan.free]\n{}{old}\"{}\"\nold_key_until = \"2031-01-01T00:00:00Z\"\n{}{old}\"{}\"\nold_key_until = \"2021-01-01T00:00:00Z\"\n",
            client("acme", "free"),
            Digest::of(key("still-good")),
            client("late", "free"),
            Digest::of(key("over")),
        );
        let stage = stage(&binary, &text);
        let keyed = |name: &str, value: String| ask(&stage, &Request::get("/v1/models").header(name, &value)).status;
        for (name, value) in [
            ("Authorization", format!("Bearer {}", key("acme"))),
            ("authorization", format!("bearer   {}", key("acme"))),
            ("x-api-key", key("acme")),
            ("Api-Key", key("acme")),
            ("x-goog-api-key", key("acme")),
            ("Authorization", format!("Bearer {}", key("still-good"))),
        ] {
            assert_eq!(keyed(name, value.clone()), 200, "{} {name}: {value}", binary.version);
        }
        assert_eq!(ask(&stage, &Request::get(&format!("/v1/models?key={}", key("acme")))).status, 200);
        for (name, value) in [
            ("Authorization", format!("Bearer {}", key("nobody"))),
            ("Authorization", format!("Basic {}", key("acme"))),
            ("Authorization", "Bearer ".to_owned()),
            ("Authorization", key("acme")),
            // The provider's own key lets nobody in.
            ("Authorization", format!("Bearer {KEY}")),
            ("x-api-key", String::new()),
            ("x-api-key", Digest::of(key("acme")).to_string()),
            ("x-api-key", "x".repeat(4000)),
            ("x-other", key("acme")),
        ] {
            assert_eq!(keyed(name, value.clone()), 401, "{} {name}: {value}", binary.version);
        }
        let over = chat(&stage, "over");
        assert_eq!((over.status, message(&over).contains("its time is over")), (401, true), "{}", over.text());
        // Each API's own shape, which its official client understands.
        let shapes = [
            (CHAT, "/error/code", "invalid_api_key"),
            ("/v1/messages", "/error/type", "authentication_error"),
            ("/v1beta/models/gemini-2.5-pro:generateContent", "/error/status", "UNAUTHENTICATED"),
        ];
        for (path, pointer, expected) in shapes {
            let reply = ask(&stage, &Request::post(path, BODY));
            let body: Value = reply.json();
            assert_eq!(body.pointer(pointer).and_then(Value::as_str), Some(expected), "{path}: {body}");
            assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")));
            assert_eq!(reply.header("content-type"), Some("application/json"));
            assert!(message(&reply).contains("No API key was sent"), "{body}");
            assert!(reply.header("x-request-id").is_some());
        }
        // Neither file nor screen has a key.
        for file in ["haproxy.cfg", "maps/clients.map", "hapilot.toml"] {
            assert!(!stage.read(file).contains("sk-hap-"), "{file}");
        }
    }
}

#[test]
fn a_bucket_bites_with_the_request_that_is_too_many_and_nobody_else_feels_it() {
    for binary in binaries() {
        let text = format!(
            "[plan.small]\nrequests = \"4/8s\"\nburst = 1\n[plan.big]\nrequests = \"1000/1m\"\n{}{}{}",
            client("acme", "small"),
            client("other", "small"),
            client("rich", "big"),
        );
        let stage = stage(&binary, &text);
        let began = Instant::now();
        for left in ["4", "3", "2", "1", "0"] {
            let reply = chat(&stage, "acme");
            assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (200, Some(left)));
            assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("5"));
        }
        let refused = chat(&stage, "acme");
        assert!(began.elapsed() < Duration::from_secs(2), "this machine is too slow to judge it");
        let wait = refused.header("retry-after").map(str::to_owned);
        assert_eq!((refused.status, wait.as_deref()), (429, Some("2")), "{}: {}", binary.version, refused.text());
        assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
        assert!(
            message(&refused).contains("the plan small allows 4/8s requests. Try again in 2 s"),
            "{}",
            refused.text()
        );
        assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
        assert_eq!((chat(&stage, "other").status, chat(&stage, "rich").status), (200, 200));
        // Refused requests do not prolong the wait; after it there is one more, and only one.
        for _ in 0..20 {
            assert_eq!(chat(&stage, "acme").status, 429);
        }
        pause(Duration::from_millis(2050).saturating_sub(began.elapsed()));
        let again = [chat(&stage, "acme").status, chat(&stage, "acme").status];
        assert_eq!(again, [200, 429], "{}", binary.version);
        // Anthropic's spelling for who calls its API.
        let request = Request::post("/v1/messages", BODY).header("x-api-key", &key("rich"));
        let reply = ask(&stage, &request);
        assert_eq!(reply.header("anthropic-ratelimit-requests-limit"), Some("1000"));
        let left = reply.header("anthropic-ratelimit-requests-remaining");
        assert!(left == Some("998") || left == Some("999"), "{left:?}");
        assert!(reply.header("anthropic-ratelimit-requests-reset").is_some_and(|at| at.ends_with('Z')));
        assert_eq!(reply.header("x-ratelimit-limit-requests"), None);
    }
}

#[test]
fn fifty_clients_at_once_get_each_their_own_and_no_more() {
    const CLIENTS: usize = 50;
    const EACH: usize = 8;
    for binary in binaries() {
        let names: Vec<String> = (0..CLIENTS).map(|i| format!("c{i:02}")).collect();
        let clients: String = names.iter().map(|name| client(name, "small")).collect();
        let stage = stage(&binary, &format!("[plan.small]\nrequests = \"{EACH}/60m\"\n{clients}"));
        let tallies: Vec<(usize, usize)> = std::thread::scope(|scope| {
            let threads: Vec<_> = names
                .iter()
                .map(|name| {
                    let stage = &stage;
                    scope.spawn(move || {
                        let statuses: Vec<u16> = (0..EACH + 4).map(|_| chat(stage, name).status).collect();
                        let count = |of: u16| statuses.iter().filter(|status| **status == of).count();
                        (count(200), count(429))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
        });
        assert!(tallies.iter().all(|tally| *tally == (EACH, 4)), "{}: {tallies:?}", binary.version);
    }
}

#[test]
fn a_long_window_counts_to_its_end_and_over_a_reload() {
    for binary in binaries() {
        let text = format!("[plan.day]\nrequests = [\"1000/1m\", \"3/24h\"]\n{}", client("acme", "day"));
        let stage = stage(&binary, &text);
        let statuses: Vec<u16> = (0..4).map(|_| chat(&stage, "acme").status).collect();
        assert_eq!(statuses, [200, 200, 200, 429], "{}", binary.version);
        let refused = chat(&stage, "acme");
        let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a number");
        let now = jiff::Timestamp::now().as_second().unsigned_abs();
        let midnight = 86_400 - now % 86_400;
        assert!(wait.abs_diff(midnight) <= 2, "{wait}, and it is {midnight} s to midnight (UTC)");
        // A reload takes over what was counted.
        let worker = stage.worker();
        stage.write_file(
            &(stage.text() + "\n[backend.more]\nretries = 0\n[backend.more.server.x]\nurl = \"http://192.0.2.1\"\n"),
        );
        wait_for("the reload", LENIENT, || (stage.worker() != worker).then_some(()));
        wait_for("the new worker to know what was counted", LENIENT, || {
            (chat(&stage, "acme").status == 429).then_some(())
        });
        // A higher limit is data.
        let worker = stage.worker();
        stage.edit("3/24h", "300/24h");
        wait_for("the higher limit", LENIENT, || (chat(&stage, "acme").status == 200).then_some(()));
        assert_eq!(stage.worker(), worker, "{}: a reload", binary.version);
    }
}

#[test]
fn so_many_at_a_time_and_the_next_when_one_has_ended() {
    for binary in binaries() {
        let text = format!("[plan.two]\nconcurrent = 2\n{}{}", client("acme", "two"), client("other", "two"));
        let stage = stage(&binary, &text);
        let slow =
            r#"{"model":"mock-small","stream":true,"max_tokens":8,"messages":[{"role":"user","content":"hello"}]}"#;
        for server in SERVERS {
            stage.break_mock(server, vec![Fault { rate: Some(4.0), ..Fault::new(FaultKind::Rate) }]);
        }
        let request = || Request::post(CHAT, slow).header("x-api-key", &key("acme"));
        let mut connections: Vec<Connection> =
            (0..2).map(|_| Connection::open(&stage.address).expect("a connection")).collect();
        let (one, two) = connections.split_at_mut(1);
        let mut first = one[0].stream(&request()).expect("a stream");
        let mut second = two[0].stream(&request()).expect("a stream");
        assert_eq!((first.status, second.status), (200, 200));
        let refused = ask(&stage, &request());
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{}", refused.text());
        assert!(message(&refused).contains("2 requests at a time"), "{}", refused.text());
        assert_eq!(chat(&stage, "other").status, 200);
        while first.next_piece().expect("a piece").is_some() {}
        while second.next_piece().expect("a piece").is_some() {}
        assert_eq!(ask(&stage, &request()).status, 200, "{}", binary.version);
    }
}

#[test]
fn a_plan_includes_what_it_names_and_a_model_that_hides_is_not_let_through() {
    for binary in binaries() {
        let text = format!(
            "[plan.some]\nmodels = [\"mock-small\", \"gpt-4o*\", \"*-mini\"]\nroutes = [\"/v1/chat\", \"/v1/models\"]\n\
             [plan.all]\n{}{}",
            client("acme", "some"),
            client("rich", "all"),
        );
        let stage = stage(&binary, &text);
        let of = |model: &str| {
            let body = BODY.replace("mock-small", model);
            ask(&stage, &Request::post(CHAT, &body).header("x-api-key", &key("acme")))
        };
        assert_eq!(of("mock-small").status, 200);
        // Let through; that the mock has no such model is the mock's answer.
        for model in ["gpt-4o", "gpt-4o-2024", "o3-mini"] {
            assert_eq!(of(model).status, 404, "{model}");
        }
        for model in
            ["mock-large", "gpt-4", "mock-small2", "mini-x", "Mock-Small", r"mock-smal\u006c2", "free/mock-small"]
        {
            let refused = of(model);
            assert_eq!(
                (refused.status, &refused.json()["error"]["code"]),
                (403, &Value::from("not_in_plan")),
                "{model}"
            );
        }
        assert!(message(&of("a\\\"b")).contains("the model a\"b"), "{}", of("a\\\"b").text());
        let twice = r#"{"model":"mock-small","model":"mock-large","messages":[]}"#;
        assert_eq!(ask(&stage, &Request::post(CHAT, twice).header("x-api-key", &key("acme"))).status, 400);
        assert_eq!(ask(&stage, &Request::get("/v1/models").header("x-api-key", &key("acme"))).status, 200);
        // JSON in another encoding, whose first bytes come alone.
        for pieces in [[&b"\xff"[..], b"\xfe"], [b"\xff\xfe", b""], [b"\xfe", b"\xff"]] {
            let text = BODY.replace("mock-small", "mock-large");
            let units = text
                .encode_utf16()
                .flat_map(|unit| if pieces[0][0] == 0xff { unit.to_le_bytes() } else { unit.to_be_bytes() });
            let rest: Vec<u8> = pieces[1].iter().copied().chain(units).collect();
            let mut stream = TcpStream::connect(&stage.address).expect("a connection");
            let length = pieces[0].len() + rest.len();
            let head = format!(
                "POST {CHAT} HTTP/1.1\r\nHost: a\r\nx-api-key: {}\r\nContent-Length: {length}\r\n\r\n",
                key("acme")
            );
            stream.write_all(&[head.as_bytes(), pieces[0]].concat()).expect("a beginning");
            pause(Duration::from_millis(150));
            stream.write_all(&rest).expect("the rest");
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 400", "{} {pieces:?}", binary.version);
        }
        for path in ["/v1/embeddings", "/v2/chat", "/v1/chat/../embeddings"] {
            let status = ask(&stage, &Request::post(path, BODY).header("x-api-key", &key("acme"))).status;
            assert!([400, 403].contains(&status), "{path}: {status}");
        }
        assert_eq!(ask(&stage, &Request::post("/v1/embeddings", BODY).header("x-api-key", &key("rich"))).status, 200);
        // What a plan includes is data.
        let worker = stage.worker();
        stage.edit("\"mock-small\", \"gpt-4o*\"", "\"mock-large\"");
        wait_for("the other model", LENIENT, || (of("mock-large").status == 200).then_some(()));
        assert_eq!((of("mock-small").status, stage.worker()), (403, worker), "{}", binary.version);
    }
}

#[test]
fn a_server_without_a_key_of_its_own_never_sees_a_clients() {
    for binary in binaries() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let text = format!(
            "[plan.free]\n{}[backend.echo]\nretries = 0\n[backend.echo.check]\nmodels = false\n[backend.echo.server.e]\nurl = \"{url}\"\n",
            client("acme", "free"),
        );
        let stage = Stage::with_haproxy(&binary, |file| {
            swapped(&file, "backend = \"chat\"\nroutes", "backend = \"echo\"\nroutes") + "\n" + &text
        });
        let server = std::thread::spawn(move || -> String {
            // HAProxy's own checks connect too, and say nothing.
            loop {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut bytes = [0; 8192];
                let length = stream.read(&mut bytes).unwrap_or(0);
                if length > 0 {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-RateLimit-Limit-Tokens: 5\r\nConnection: close\r\n\r\n");
                    return String::from_utf8_lossy(&bytes[..length]).into_owned();
                }
            }
        });
        let path = format!("/v1/chat/completions?a=1&key={0}&b=2?key={0}", key("acme"));
        let mut request = Request::post(&path, BODY).header("Authorization", &format!("Bearer {}", key("acme")));
        for name in ["x-api-key", "api-key", "X-Goog-Api-Key"] {
            request = request.header(name, &key("acme"));
        }
        let reply = ask(&stage, &request);
        assert_eq!((reply.status, reply.header("x-ratelimit-limit-tokens")), (200, None));
        let seen = server.join().expect("the server");
        assert!(!seen.contains("sk-hap"), "{}:\n{seen}", binary.version);
        assert!(seen.starts_with("POST /v1/chat/completions?a=1&b=2 HTTP/1.1"), "{seen}");
    }
}

#[test]
fn clients_of_a_file_of_their_own_come_and_go_without_a_reload() {
    for binary in binaries() {
        let (mut stage, file) = with_file(&binary, "");
        assert_eq!(chat(&stage, "acme").status, 401);
        let worker = stage.worker();
        // Thousands of others.
        let others: String = (0..5_000).map(|i| client(&format!("other-{i}"), "free")).collect();
        let replace = |text: &str| {
            write(format!("{file}.new"), text);
            fs_err::rename(format!("{file}.new"), &file).expect("a rename");
            Instant::now()
        };
        replace(&(others.clone() + &client("acme", "free")));
        wait_for("the client to be known", LENIENT, || (chat(&stage, "acme").status == 200).then_some(()));
        // A mistake in it changes nothing, and is told with its place.
        replace(&(others + &client("acme", "fre")));
        let told = wait_for("the mistake to be told", LENIENT, || {
            let status = stage.cli(&["status"]).stdout;
            status.contains("there is no plan `fre`").then_some(status)
        });
        assert!(told.contains("clients.toml:"), "{told}");
        assert_eq!(chat(&stage, "acme").status, 200);
        // Meanwhile edits of the operator's file go on, and an agent starts.
        stage.edit("[plan.paid]", "[plan.sold]");
        wait_for("the other plan", LENIENT, || stage.read("maps/plans.map").contains("sold").then_some(()));
        // A plan that is in use stays: nobody is shut out by an edit of another file.
        stage.edit("[plan.free]", "[plan.gone]");
        wait_for("the edit to be refused", LENIENT, || {
            stage.cli(&["status"]).stdout.contains("is not what serves").then_some(())
        });
        assert_eq!(chat(&stage, "acme").status, 200);
        stage.edit("[plan.gone]", "[plan.free]");
        wait_for("the edit to be taken back", LENIENT, || {
            (!stage.cli(&["status"]).stdout.contains("is not what serves")).then_some(())
        });
        stage.agent().stop();
        stage.start_agent();
        assert_eq!((chat(&stage, "acme").status, stage.cli(&["check"]).code), (200, Some(2)));
        assert!(stage.cli(&["status"]).stdout.contains("there is no plan `fre`"));
        fs_err::remove_file(&file).expect("the clients");
        wait_for("the missing file to be told", LENIENT, || {
            stage.cli(&["status"]).stdout.contains("the clients cannot be read").then_some(())
        });
        assert_eq!(chat(&stage, "acme").status, 200);
        replace(&client("other", "free"));
        wait_for("the client to be gone", LENIENT, || (chat(&stage, "acme").status == 401).then_some(()));
        assert_eq!((chat(&stage, "other").status, stage.worker()), (200, worker), "{}", binary.version);
    }
}

/// A stage with a file of clients, and its path.
fn with_file(binary: &Binary, clients: &str) -> (Stage, String) {
    let mut file = String::new();
    let stage = Stage::running(binary, |text| {
        let directory =
            text.split_once("state = \"").and_then(|(_, rest)| rest.split_once("/state")).expect("a state").0;
        file = format!("{directory}/clients.toml");
        write(&file, clients);
        format!("clients = \"{file}\"\n{text}\n[plan.free]\n[plan.paid]\nrequests = \"1000/1m\"\n")
    });
    (stage, file)
}

#[test]
fn a_key_is_made_known_changed_and_taken_away_by_command() {
    for binary in binaries() {
        let (mut stage, file) = with_file(&binary, "# who may ask\n");
        let asked = |stage: &Stage, key: &str| ask(stage, &Request::get("/v1/models").header("x-api-key", key)).status;
        let worker = stage.worker();
        let began = Instant::now();
        let made = stage.json(&["client", "add", "acme", "--plan", "free"]);
        let took = began.elapsed();
        let first = made["key"].as_str().expect("a key").to_owned();
        assert_eq!((made["is_live"].as_bool(), asked(&stage, &first)), (Some(true), 200), "{made}");
        assert!(took < LENIENT, "{took:?}");
        let rotated = stage.json(&["client", "rotate", "acme", "--keep", "1h"]);
        let second = rotated["key"].as_str().expect("a key").to_owned();
        assert_eq!((asked(&stage, &first), asked(&stage, &second)), (200, 200));
        let rotated = stage.json(&["client", "rotate", "acme", "--keep", "0s", "--force"]);
        let third = rotated["key"].as_str().expect("a key").to_owned();
        assert_eq!((asked(&stage, &first), asked(&stage, &second), asked(&stage, &third)), (401, 401, 200));
        let listed = stage.json(&["client", "list"]);
        assert_eq!((&listed[0]["client"], &listed[0]["plan"]), (&Value::from("acme"), &Value::from("free")));
        assert_eq!(listed[0]["key_sha256"], Digest::of(&third).to_string());
        assert!(stage.done(&["status"]).contains("1 client with a key"));
        // Whose name is taken, and of whom nobody knows, is told.
        for (words, told) in [
            (&["client", "add", "acme", "--plan", "paid"][..], "there is a client acme already, with plan free"),
            (&["client", "add", "new", "--plan", "fre"], "the plans are free, paid"),
            (&["client", "revoke", "acne"], "the clients are acme"),
            (&["client", "rotate", "acne"], "the clients are acme"),
            (&["client", "rotate", "acme", "--keep", "400d"], "at most 24d"),
        ] {
            let finished = stage.cli(words);
            assert!(finished.code != Some(0) && finished.stderr.contains(told), "{words:?}: {}", finished.stderr);
        }
        let gone = stage.done(&["client", "revoke", "acme"]);
        assert!(gone.contains("its keys are refused from now on"), "{gone}");
        assert_eq!((asked(&stage, &third), stage.worker()), (401, worker), "{}", binary.version);
        let text = fs_err::read_to_string(&file).expect("the clients");
        assert!(text.starts_with("# who may ask") && !text.contains("acme"), "{text}");
        // What became of it is told, and no key.
        let events = stage.done(&["events", "--subject", "client/acme"]);
        for told in [
            "it may ask, with plan free",
            "it has a new key; the one before is good until",
            "the one before is refused",
            "it is revoked",
        ] {
            assert!(events.contains(told), "{told}:\n{events}");
        }
        let said = stage.done(&["events"]) + &stage.agent().stderr() + &stage.done(&["history"]);
        assert!(!said.contains("sk-hap-"), "{said}");
        // Without an agent it is written, and that it is not live yet is told.
        stage.agent().stop();
        let told = stage.done(&["client", "add", "late", "--plan", "paid"]);
        assert!(told.contains("Not live yet") && told.contains("sk-hap-"), "{told}");
        stage.done(&["apply"]);
        let key = told.split_whitespace().find(|word| word.starts_with("sk-hap-")).expect("a key");
        assert_eq!(asked(&stage, key), 200);
        // What is still accepted is told, and is no success.
        for words in [&["client", "revoke", "late"][..], &["--json", "client", "revoke", "new"]] {
            stage.cli(&["client", "add", "new", "--plan", "paid"]);
            let revoked = stage.cli(words);
            assert_eq!(revoked.code, Some(1), "{words:?}: {}", revoked.stdout);
            assert!(
                revoked.stdout.contains("STILL ACCEPTED") || revoked.stdout.contains("\"is_live\": false"),
                "{}",
                revoked.stdout
            );
        }
        // A mistake elsewhere does not hold back what leaks.
        stage.start_agent();
        let leaked = stage.json(&["client", "add", "leaky", "--plan", "paid"]);
        let leaked = leaked["key"].as_str().expect("a key").to_owned();
        assert_eq!(asked(&stage, &leaked), 200);
        stage.write_file(&(stage.text() + "\noops\n"));
        let refused = stage.cli(&["client", "add", "other", "--plan", "paid"]);
        assert!(refused.code != Some(0) && refused.stderr.contains("no client was changed"), "{}", refused.stderr);
        let revoked = stage.cli(&["client", "revoke", "leaky"]);
        assert_eq!((revoked.code, asked(&stage, &leaked)), (Some(0), 401), "{}{}", revoked.stdout, revoked.stderr);
    }
}

#[test]
fn a_limit_holds_when_everybody_asks_in_the_same_instant() {
    for binary in binaries() {
        let text = format!(
            "[plan.bucket]\nrequests = \"5/60m\"\n[plan.window]\nrequests = \"5/2h\"\n{}{}",
            client("acme", "bucket"),
            client("late", "window"),
        );
        let stage = stage(&binary, &text);
        for name in ["acme", "late"] {
            let start = std::sync::Barrier::new(60);
            let passed: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..60)
                    .map(|_| {
                        scope.spawn(|| {
                            let mut connection = Connection::open(&stage.address).expect("a connection");
                            let request = Request::post(CHAT, BODY).header("x-api-key", &key(name));
                            start.wait();
                            connection.send(&request).expect("an answer").status
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| usize::from(thread.join().expect("a client") == 200)).sum()
            });
            assert_eq!(passed, 5, "{} {name}", binary.version);
        }
    }
}

#[test]
fn a_bucket_that_is_used_up_stays_so_when_its_plan_becomes_smaller() {
    for binary in binaries() {
        let text = format!("[plan.some]\nrequests = \"6/60m\"\nburst = 6\n{}", client("acme", "some"));
        let stage = stage(&binary, &text);
        let statuses: Vec<u16> = (0..13).map(|_| chat(&stage, "acme").status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 12, "{statuses:?}");
        for (from, to) in [("burst = 6", "burst = 2"), ("6/60m", "3/60m"), ("3/60m", "2/60m")] {
            stage.edit(from, to);
            let rate = if from == "burst = 6" { "6/1h" } else { &to.replace("60m", "1h") };
            wait_for("the smaller plan", LENIENT, || {
                let reply = chat(&stage, "acme");
                assert_eq!(reply.status, 429, "{} {to}: {}", binary.version, reply.text());
                let map = stage.read("maps/plans.map");
                (map.contains(rate) && (from != "burst = 6" || map.contains(" 8 6/1h"))).then_some(())
            });
            assert_eq!(chat(&stage, "acme").status, 429, "{}", binary.version);
        }
    }
}

#[test]
fn a_bucket_holds_wherever_its_clock_stands() {
    /// Ticks of the clock until it begins anew.
    const WRAP: i128 = 1 << 32;
    /// Before that, in seconds: in the midst of the test, and while a deep bucket reaches over it.
    const BEFORE: [i128; 4] = [0, 1, 600, 7_000];
    let templates = Templates::built_in().expect("the templates");
    for binary in binaries() {
        for before in BEFORE {
            let place = Place::new(&binary);
            let dir = Utf8Path::from_path(place.dir()).expect("a path of text").to_owned();
            let port = free_port();
            let toml = format!(
                "[haproxy]\nconfig = \"{dir}/haproxy.cfg\"\nadmin_socket = \"{dir}/admin.sock\"\nmaster_socket = \"{dir}/master.sock\"\n\
                 user = \"\"\ngroup = \"\"\nlog = \"\"\nmaxconn = 100\n[frontend.api]\nbind = [\"127.0.0.1:{port}\"]\n\
                 [plan.deep]\nrequests = \"3/1h\"\nburst = 3\n[plan.flat]\nrequests = \"4/10s\"\n{}{}\
                 [backend.chat]\nretries = 0\n[backend.chat.server.one]\nurl = \"http://127.0.0.1:1\"\n",
                client("acme", "deep"),
                client("late", "flat"),
            );
            let config = Arc::new(hapilot::config::parse("a.toml", &toml, "node").expect("a good file"));
            let none = BTreeMap::new();
            let desired = Desired::new(config, &none, &BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            let target = Target::new(binary.version.major, binary.version.minor);
            let mut rendered = render(&desired, &templates, target).expect("a rendering");
            let now = jiff::Timestamp::now().as_microsecond();
            // A second for HAProxy's start.
            let offset = (WRAP - i128::from(now) / 50 % WRAP) * 50 - (before + 1) * 1_000_000;
            rendered.haproxy_cfg = swapped(&rendered.haproxy_cfg, "date(0,us)", &format!("date({offset},us)"));
            write_files(&dir, &rendered);
            let _private = place.start();
            let status = |of: &str| {
                let request = Request::get("/v1/models").header("x-api-key", &key(of));
                let reply = Connection::open(&format!("127.0.0.1:{port}")).and_then(|mut to| to.send(&request));
                reply.expect("an answer").status
            };
            // The server does not answer: who is let in gets 503.
            let began = Instant::now();
            let mut passed = [0, 0];
            while began.elapsed() < Duration::from_millis(2_300) {
                for (count, name) in passed.iter_mut().zip(["acme", "late"]) {
                    *count += usize::from(status(name) == 503);
                }
                pause(Duration::from_millis(20));
            }
            // Of the flat one none, or one, is there again meanwhile.
            assert!(passed[0] == 6 && (4..=5).contains(&passed[1]), "{} {before} s before: {passed:?}", binary.version);
        }
    }
}
