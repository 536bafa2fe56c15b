//! What a client sees through a running HAProxy that serves the rendered files. Each test runs on every binary.

use crate::haproxies::{HaproxyBinary, directory, installed, write_files};
use crate::sample::{backend, config, desired, frontend, limit, parsed, route, server, server_with_key, set};
use crate::support::port::free_port;
use base64::Engine as _;
use camino::Utf8PathBuf;
use hapilot::config::{Backend, Config, Server, Stats};
use hapilot::model::{Provider, Weight};
use hapilot::render::{Templates, render};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running HAProxy; killed when dropped.
pub struct Serving {
    pub child: Child,
    directory: TempDir,
}

impl Serving {
    /// Where its files lie.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the configuration until the value is dropped.
pub fn serve(haproxy: &HaproxyBinary, mut config: Config) -> Serving {
    let (keep, directory) = directory();
    config.haproxy.config = set(directory.join("haproxy.cfg"));
    config.haproxy.admin_socket = set(directory.join("admin.sock"));
    // A test has fewer file descriptors than a service.
    config.haproxy.maxconn = set(200);
    config.haproxy.user = set(String::new());
    config.haproxy.group = set(String::new());
    if config.haproxy.log.value == "/dev/log" {
        config.haproxy.log = set(String::new());
    }
    let binds: Vec<_> = config.frontends.iter().map(|frontend| frontend.bind[0].to_connect()).collect();
    let rendered = render(&desired(config), &Templates::built_in().unwrap(), haproxy.target).unwrap();
    let path = write_files(&directory, &rendered);
    haproxy.accepts(&path);
    let said = directory.join("stderr");
    let child = Command::new(&haproxy.path)
        .args(["-db", "-f", path.as_str()])
        .stdout(Stdio::null())
        .stderr(fs_err::File::create(&said).unwrap().into_file())
        .spawn()
        .unwrap();
    let serving = Serving { child, directory: keep };
    let start = Instant::now();
    while !binds.iter().all(|bind| TcpStream::connect(bind).is_ok()) {
        let said = || fs_err::read_to_string(&said).unwrap();
        assert!(start.elapsed() < PATIENCE, "HAProxy does not listen: {}", said());
        std::thread::yield_now();
    }
    serving
}

/// A model server that answers each request with what it received, as text; or with a status of its own.
pub fn upstream(name: &'static str, status: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || answer_all(stream, name, status));
        }
    });
    url
}

fn answer_all(mut stream: TcpStream, name: &str, status: u16) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if head.contains("/stream ") {
            return stream_events(&mut stream);
        }
        let text = format!("upstream: {name}\r\n{head}");
        let head =
            format!("HTTP/1.1 {status} x\r\nX-Request-Id: from-{name}\r\nContent-Length: {}\r\n\r\n", text.len());
        stream.write_all((head + &text).as_bytes()).ok()?;
    }
}

/// Three events, each sent only after the client has told that it saw the one before.
fn stream_events(stream: &mut TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .ok()?;
    for _ in 0..5 {
        let event = format!("data: {}\n\n", jiff::Timestamp::now().as_nanosecond());
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).ok()?;
        // The pace of a model; what is measured is how late each event arrives.
        let (_open, wait) = std::sync::mpsc::channel::<()>();
        let _ = wait.recv_timeout(Duration::from_millis(40));
    }
    stream.write_all(b"0\r\n\r\n").ok()
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// A line of what the upstream received.
    pub fn received(&self, name: &str) -> Option<&str> {
        self.body.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request.push_str("Host: lb.example\r\n");
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub fn get(port: u16, path: &str) -> Answer {
    ask(port, "GET", path, &[], "")
}

pub fn on_every_haproxy(test: impl Fn(&HaproxyBinary)) {
    for haproxy in installed() {
        println!("{}", haproxy.path);
        test(&haproxy);
    }
}

pub fn bind(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The instance's port and what serves it, for one backend.
pub fn serve_backend(haproxy: &HaproxyBinary, backend: Backend) -> (u16, Serving) {
    let port = free_port();
    let name = backend.name.to_string();
    let serving = serve(haproxy, config(vec![frontend("api", &bind(port), &name)], vec![backend]));
    (port, serving)
}

#[test]
fn requests_go_by_path_and_model_to_the_backend_of_the_first_route_that_matches() {
    on_every_haproxy(|haproxy| {
        let port = free_port();
        let pool = |name: &'static str| backend(name, Provider::Vllm, vec![server("s", &upstream(name, 200))]);
        let mut api = frontend("api", &bind(port), "other");
        api.routes = vec![
            route(&["/v1/embeddings"], &[], "embeddings"),
            route(&["/v1/chat"], &["claude-*", "gpt-4.1", "a b?"], "claude"),
        ];
        let _serving = serve(haproxy, config(vec![api], vec![pool("claude"), pool("embeddings"), pool("other")]));
        let json = ("Content-Type", "application/json; charset=utf-8");
        for (path, body, expected) in [
            ("/v1/embeddings", r#"{"model":"claude-3"}"#, "embeddings"),
            ("/v1/embeddings/x?y", "{}", "embeddings"),
            ("/v1/chat/completions", r#"{"model":"claude-3-opus"}"#, "claude"),
            ("/v1/chat/completions?a=b", r#"{"messages":[],"model":"gpt-4.1"}"#, "claude"),
            ("/v1/chat/completions", r#"{"model":"gpt-431"}"#, "other"),
            ("/v1/chat/completions", r#"{"model":"a bc"}"#, "claude"),
            ("/v1/chat/completions", r#"{"model":"xclaude-3"}"#, "other"),
            ("/v1/models", r#"{"model":"claude-3"}"#, "other"),
            ("/v1/chat/completions", "not json", "other"),
        ] {
            let answer = ask(port, "POST", path, &[json], body);
            assert_eq!(answer.received("upstream"), Some(expected), "{path} {body}\n{answer:?}");
            assert_eq!(answer.header("X-Served-By"), Some(&*format!("{expected}/s")));
        }
        assert_eq!(get(port, "/v1/embeddings").received("upstream"), Some("embeddings"));
        // Whatever it is called: servers look at the body, not at its type.
        let answer = ask(port, "POST", "/v1/chat", &[("Content-Type", "text/plain")], r#"{"model":"claude-3"}"#);
        assert_eq!(answer.received("upstream"), Some("claude"));
    });
}

#[test]
fn a_client_is_known_by_what_we_see_not_by_what_it_says() {
    on_every_haproxy(|haproxy| {
        let (port, _serving) =
            serve_backend(haproxy, backend("chat", Provider::Vllm, vec![server("s", &upstream("s", 200))]));
        let forged = [("X-Forwarded-For", "1.2.3.4"), ("X-Real-IP", "1.2.3.4"), ("X-Request-Id", "no\"good")];
        let answer = ask(port, "GET", "/v1/models", &forged, "");
        assert_eq!(answer.received("X-Forwarded-For"), Some("127.0.0.1"));
        assert_eq!(answer.received("X-Real-IP"), None);
        assert_eq!(answer.received("X-Forwarded-Proto"), Some("http"));
        assert_eq!(answer.received("X-Forwarded-Host"), Some("lb.example"));
        let id = answer.received("X-Request-Id").unwrap();
        assert_eq!(id.len(), 36, "{id}");
        assert_eq!(answer.header("X-Request-Id"), Some(id));
        assert_eq!(answer.header("X-Upstream-Request-Id"), Some("from-s"));
        let answer = ask(port, "GET", "/v1/models", &[("X-Request-Id", "trace-0001")], "");
        assert_eq!(answer.received("X-Request-Id"), Some("trace-0001"));
    });
}

#[test]
fn an_address_that_asks_too_often_gets_429_in_the_shape_of_openai() {
    on_every_haproxy(|haproxy| {
        let port = free_port();
        let chat = backend("chat", Provider::Vllm, vec![server("s", &upstream("s", 200))]);
        let mut config = config(vec![frontend("api", &bind(port), "chat")], vec![chat]);
        config.limit_address = Some(limit("3/1m", 2));
        let _serving = serve(haproxy, config);
        let statuses: Vec<u16> = (0..7).map(|_| get(port, "/v1/models").status).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
        let answer = get(port, "/v1/models");
        assert_eq!(answer.header("Retry-After"), Some("60"));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["error"]["code"], "rate_limit_exceeded");
        // Whoever watches the node is not limited.
        assert_eq!(get(port, "/health").status, 200);
    });
}

#[test]
fn health_is_false_when_no_backend_can_serve() {
    on_every_haproxy(|haproxy| {
        let up = || backend("up", Provider::Vllm, vec![server("s", &upstream("s", 200))]);
        let drained = || {
            let server = Server { weight: set(Weight::ZERO), ..server("s", &upstream("s", 200)) };
            backend("drained", Provider::Vllm, vec![server])
        };
        let (bad, good) = (free_port(), free_port());
        let mut both = frontend("both", &bind(good), "drained");
        both.routes = vec![route(&["/x"], &[], "up")];
        let none = frontend("none", &bind(bad), "drained");
        let _serving = serve(haproxy, config(vec![both, none], vec![drained(), up()]));
        assert_eq!(get(good, "/health").status, 200);
        assert_eq!(get(bad, "/health").status, 503);
        let answer = get(bad, "/v1/models");
        assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("5")));
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let error = (&body["type"], &body["error"]["type"], &body["error"]["code"]);
        assert_eq!(error, (&"error".into(), &"overloaded_error".into(), &"service_unavailable".into()));
    });
}

#[test]
fn the_statistics_want_the_login_and_the_exporter_too() {
    on_every_haproxy(|haproxy| {
        let (port, stats) = (free_port(), free_port());
        let chat = backend("chat", Provider::Vllm, vec![server("s", &upstream("s", 200))]);
        let mut config = config(vec![frontend("api", &bind(port), "chat")], vec![chat]);
        let login = Some((set("ops".to_owned()), parsed("file:/p,w")));
        config.haproxy.stats = Some(Stats { bind: parsed(&bind(stats)), login });
        let _serving = serve(haproxy, config);
        let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
        let answer = get(stats, "/metrics");
        assert_eq!(answer.status, 401);
        assert!(answer.header("WWW-Authenticate").unwrap().starts_with("Basic"));
        let (right, wrong) = (basic("ops:secret-file:/p,w"), basic("ops:secret"));
        assert_eq!(ask(stats, "GET", "/", &[("Authorization", &wrong)], "").status, 401);
        let page = ask(stats, "GET", "/", &[("Authorization", &right)], "");
        assert!(page.status == 200 && page.body.contains("Statistics Report"), "{page:?}");
        let metrics = ask(stats, "GET", "/metrics", &[("Authorization", &right)], "");
        assert!(metrics.body.contains("haproxy_server_status"), "{metrics:?}");
    });
}

#[test]
fn the_provider_gets_our_key_and_never_the_clients() {
    on_every_haproxy(|haproxy| {
        let servers = vec![server_with_key("s", &(upstream("s", 200) + "/openai/v1"), "env:KEY")];
        let (port, _serving) = serve_backend(haproxy, backend("chat", Provider::OpenAi, servers));
        let theirs = [("Authorization", "Bearer client"), ("x-api-key", "client"), ("api-key", "client")];
        let answer = ask(port, "POST", "/v1/chat/completions?x=1", &theirs, "{}");
        assert_eq!(answer.received("Authorization"), Some("Bearer secret-env:KEY"));
        assert!(!answer.body.contains("client"), "{answer:?}");
        assert!(answer.body.contains("POST /openai/v1/chat/completions?x=1 HTTP/1.1"), "{answer:?}");
        // The API's root ends at a slash.
        assert!(get(port, "/v1beta").body.contains("GET /v1beta HTTP/1.1"));
    });
}

#[test]
fn every_provider_gets_the_key_in_its_own_header_and_its_version() {
    on_every_haproxy(|haproxy| {
        for (provider, header, value, path) in [
            (Provider::Anthropic, "x-api-key", "secret-env:A", "/v1/messages"),
            (Provider::Gemini, "x-goog-api-key", "secret-env:A", "/v1beta/models/m:generateContent"),
            (Provider::Azure, "api-key", "secret-env:A", "/openai/deployments/d/chat/completions?api-version=1"),
            (Provider::Bedrock, "authorization", "Bearer secret-env:A", "/model/m/converse"),
        ] {
            // Alone and through a hop.
            for keys in [&["env:A"][..], &["env:A", "env:B"]] {
                let names = ["a", "b"];
                let servers = names.into_iter().zip(keys).map(|(name, key)| {
                    let tier = if name == "a" { 1 } else { 2 };
                    Server { tier, ..server_with_key(name, &upstream(name, 200), key) }
                });
                let mut chat = backend("chat", provider, servers.collect());
                let mut profile = hapilot::model::Profile::clone(&chat.provider);
                profile.headers.insert("x-team".to_owned(), "100% \"ai\" $x".to_owned());
                chat.provider = std::sync::Arc::new(profile);
                let (port, _serving) = serve_backend(haproxy, chat);
                let theirs =
                    ["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-team"].map(|name| (name, "client"));
                let answer = ask(port, "POST", path, &theirs, "{}");
                assert_eq!(answer.received(header), Some(value), "{answer:?}");
                assert_eq!(answer.received("x-team"), Some("100% \"ai\" $x"), "{answer:?}");
                assert!(!answer.body.contains("client"), "{answer:?}");
                assert!(answer.body.contains(&format!("POST {path} HTTP/1.1")), "{answer:?}");
                let is_anthropic = provider == Provider::Anthropic;
                assert_eq!(answer.received("anthropic-version"), is_anthropic.then_some("2023-06-01"));
                let own = ask(port, "POST", path, &[("anthropic-version", "2099-01-01")], "{}");
                assert_eq!(own.received("anthropic-version"), Some("2099-01-01"), "{own:?}");
            }
        }
    });
}

#[test]
fn each_hop_presents_its_own_key_host_and_path_and_a_failure_moves_on() {
    on_every_haproxy(|haproxy| {
        let gone = format!("http://127.0.0.1:{}/gone", free_port());
        for failing in [upstream("bad", 500), gone] {
            let named = upstream("good", 200).replace("127.0.0.1", "localhost") + "/base/v1";
            let servers =
                vec![server_with_key("bad", &failing, "env:BAD"), server_with_key("good", &named, "env:GOOD")];
            let (port, _serving) = serve_backend(haproxy, backend("chat", Provider::OpenAi, servers));
            for _ in 0..20 {
                let answer = ask(port, "POST", "/v1/chat", &[("Authorization", "Bearer client")], "{}");
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(answer.header("X-Served-By"), Some("chat/good"));
                assert_eq!(answer.received("Authorization"), Some("Bearer secret-env:GOOD"));
                assert!(answer.received("Host").unwrap().starts_with("localhost:"), "{answer:?}");
                assert!(answer.body.contains("POST /base/v1/chat HTTP/1.1"), "{answer:?}");
            }
            assert_eq!(get(port, "/health").status, 200);
        }
    });
}

#[test]
fn a_name_too_long_for_a_socket_still_hops() {
    on_every_haproxy(|haproxy| {
        let long: &'static str = "a-name-of-sixty-four-characters-that-does-not-fit-into-a-socket-";
        let servers = vec![
            server_with_key(long, &upstream("s", 200), "env:A"),
            Server { tier: 2, ..server_with_key("b", &upstream("b", 200), "env:B") },
        ];
        let (port, _serving) = serve_backend(haproxy, backend(long, Provider::OpenAi, servers));
        let answer = get(port, "/v1/models");
        assert_eq!(answer.received("Authorization"), Some("Bearer secret-env:A"), "{answer:?}");
    });
}

#[test]
fn the_pieces_of_a_stream_pass_at_once_direct_and_through_a_hop() {
    on_every_haproxy(|haproxy| {
        let direct = || vec![server("s", &upstream("s", 200))];
        let hops = || vec![server_with_key("s", &upstream("s", 200), "env:A"), server("t", &upstream("t", 200))];
        for servers in [direct(), hops()] {
            let (port, _serving) = serve_backend(haproxy, backend("chat", Provider::Vllm, servers));
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            (&stream).write_all(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut delays_ms = Vec::new();
            for line in BufReader::new(&stream).lines() {
                if let Some(sent) = line.unwrap().strip_prefix("data: ") {
                    let sent: i128 = sent.parse().unwrap();
                    delays_ms.push((jiff::Timestamp::now().as_nanosecond() - sent) / 1_000_000);
                }
            }
            assert_eq!(delays_ms.len(), 5);
            // Without `option http-no-delay` all of them arrive at the end, the first 160 ms late. A busy machine adds
            // some, but not to the fastest.
            delays_ms.sort_unstable();
            assert!(delays_ms[1] < 60, "{delays_ms:?}");
        }
    });
}

#[test]
fn clear_text_is_sent_to_the_same_place_under_tls() {
    on_every_haproxy(|haproxy| {
        let (clear, tls) = (free_port(), free_port());
        let (_keep, certificates) = directory();
        let certificate: Utf8PathBuf = certificates.join("api.pem");
        crate::haproxies::write_certificate(&certificate);
        let mut api = frontend("api", &bind(tls), "chat");
        api.certificates = vec![set(certificate)];
        api.redirect_http = Some(parsed(&bind(clear)));
        let chat = backend("chat", Provider::Vllm, vec![server("s", &upstream("s", 200))]);
        let _serving = serve(haproxy, config(vec![api], vec![chat]));
        for (host, expected) in [("a.example:80", "a.example"), ("a.example", "a.example"), ("[::1]:80", "[::1]")] {
            let answer = ask(clear, "POST", "/v1/chat?x=%20y", &[("Host", host)], "{}");
            assert_eq!(answer.status, 308);
            assert_eq!(answer.header("Location"), Some(&*format!("https://{expected}:{tls}/v1/chat?x=%20y")));
        }
    });
}

#[test]
fn each_request_is_logged_as_json_whatever_the_client_sends() {
    on_every_haproxy(|haproxy| {
        let port = free_port();
        let log = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        log.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut api = frontend("api", &bind(port), "chat");
        api.routes = vec![route(&[], &["x*"], "chat")];
        let chat = backend("chat", Provider::Vllm, vec![server("s", &upstream("s", 200))]);
        let mut config = config(vec![api], vec![chat]);
        config.haproxy.log = set(log.local_addr().unwrap().to_string());
        let _serving = serve(haproxy, config);
        let headers = [("Content-Type", "application/json"), ("X-Request-Id", "trace-0001")];
        let body = r#"{"model":"x\"},{\\ \u00e9"}"#;
        ask(port, "POST", r#"/v1/"},{\?q="#, &headers, body);
        let next_line = || {
            let mut buffer = [0; 8192];
            loop {
                let length = log.recv(&mut buffer).unwrap();
                let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
                // HAProxy logs its own start too.
                if let Some(at) = line.find('{').filter(|_| line.contains("total_ms")) {
                    break line[at..].to_owned();
                }
            }
        };
        let logged = next_line();
        let entry: serde_json::Value = serde_json::from_str(&logged).unwrap_or_else(|e| panic!("{e}: {logged}"));
        assert_eq!(entry["path"], r#"/v1/"},{\"#);
        assert_eq!(entry["request_id"], "trace-0001");
        assert_eq!((&entry["backend"], &entry["server"]), (&"chat".into(), &"s".into()));
        assert_eq!(entry["status"], 200);
        assert!(entry["model"].as_str().unwrap().starts_with("x\"},{"), "{logged}");
        assert!(entry["time"].as_f64().unwrap() > 1.7e9);

        // What looks like a key is not written down, wherever a client puts it.
        let headers = [("Content-Type", "application/json"), ("X-Request-Id", "sk-hap-0123456789abcdef")];
        for (path, shown) in [
            ("/v1/sk-hap-0123456789abcdef", "/v1/sk-…"),
            ("/v1/sk-hap-0123456789_-abcd/%2Bef/g", "/v1/sk-…"),
            ("/v1/a-sk-sk-sk-hap-0123456789", "/v1/a-sk-…"),
            ("/v1/task-sk-short/sk-", "/v1/task-sk-short/sk-"),
            ("/v1/models", "/v1/models"),
        ] {
            ask(port, "POST", path, &headers, "{}");
            let logged = next_line();
            let entry: serde_json::Value = serde_json::from_str(&logged).unwrap_or_else(|e| panic!("{e}: {logged}"));
            assert_eq!(entry["path"], shown, "{logged}");
            assert!(!logged.contains("0123456789"), "{logged}");
            assert_eq!(entry["request_id"].as_str().unwrap().len(), 36, "one of ours: {logged}");
        }
        // The longest path of many beginnings takes no time to speak of.
        let began = Instant::now();
        ask(port, "POST", &format!("/{}", "sk-0123456789abcd/".repeat(400)), &headers, "{}");
        assert!(next_line().contains("sk-0123456789abcd"), "too short for a key");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    });
}
