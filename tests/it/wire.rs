//! What leaves the house: the requests that a provider gets, whatever its caller sends. On every binary.

use crate::sample::{backend, config, frontend, limit, server, server_with_key, set};
use crate::support::haproxy::binaries;
use crate::support::port::free_port;
use crate::support::stage::Stage;
use crate::support::{PATIENCE, wait_for, write};
use crate::traffic::{ask, bind, get, on_every_haproxy, serve, serve_backend, upstream};
use hapilot::config::{Backend, Server, ServerTls};
use hapilot::mock::{Mock, MockConfig, MockTls};
use hapilot::model::Provider;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

/// The two ways in which a provider's own things are put in: by the backend, and by a hop to each server.
fn with_and_without_hop(url: &str) -> [Vec<Server>; 2] {
    let keyed = |name: &str, key: &str| server_with_key(name, url, key);
    [vec![keyed("s", "env:K")], vec![keyed("s", "env:K"), Server { tier: 2, ..keyed("other", "env:L") }]]
}

#[test]
fn no_spelling_of_connection_takes_away_what_is_put_in() {
    on_every_haproxy(|haproxy| {
        for servers in with_and_without_hop(&upstream("s", 200)) {
            let (port, _serving) = serve_backend(haproxy, backend("chat", Provider::OpenAi, servers));
            for headers in [
                vec![("Connection", "authorization")],
                vec![("connection", "Keep-Alive, AUTHORIZATION"), ("CONNECTION", "x-request-id ,\thost")],
                vec![("Connection", "close,authorization,close"), ("Authorization", "Bearer theirs")],
                vec![("Proxy-Connection", "authorization"), ("Keep-Alive", "timeout=5")],
                vec![
                    ("Connection", "upgrade, authorization"),
                    ("Upgrade", "websocket"),
                    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ],
                vec![("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")],
            ] {
                let answer = ask(port, "GET", "/v1/models", &headers, "");
                assert_eq!(answer.received("authorization"), Some("Bearer secret-env:K"), "{headers:?} {answer:?}");
                assert!(answer.received("x-request-id").is_some() && answer.received("host").is_some());
                let lines = answer.body.lines().map(str::to_ascii_lowercase);
                let named: Vec<String> = lines.filter(|line| line.contains("connection:")).collect();
                let wants = match headers[0].1 {
                    "upgrade, authorization" => vec!["connection: upgrade".to_owned()],
                    _ => vec![],
                };
                assert_eq!(named, wants, "{headers:?} {answer:?}");
            }
            let answer = over_h2(port, "GET", &[("connection", "authorization")]);
            assert!(!answer.to_ascii_lowercase().contains("connection: authorization"), "{answer}");
        }
    });
}

#[test]
fn trace_and_connect_are_refused_in_the_shape_of_the_api() {
    on_every_haproxy(|haproxy| {
        let servers = vec![server_with_key("s", &upstream("s", 200), "env:K")];
        let (port, _serving) = serve_backend(haproxy, backend("chat", Provider::OpenAi, servers));
        for (method, path) in [("TRACE", "/v1/models"), ("trace", "/v1/models"), ("CONNECT", "s.example:443")] {
            let answer = ask(port, method, path, &[("Host", "s.example:443")], "");
            assert_eq!(answer.status, 405, "{method}: {answer:?}");
            assert!(!answer.body.contains("secret-"), "{answer:?}");
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(body["error"]["code"], "method_not_allowed");
        }
        assert!(!over_h2(port, "TRACE", &[]).contains("upstream:"));
        assert!(over_h2(port, "GET", &[]).contains("upstream: s"));
    });
}

#[test]
fn a_key_in_the_query_goes_no_further_than_one_in_a_header() {
    on_every_haproxy(|haproxy| {
        for servers in with_and_without_hop(&upstream("s", 200)) {
            let (port, _serving) = serve_backend(haproxy, backend("chat", Provider::Gemini, servers));
            for (asked, left) in [
                ("/v1beta/models?key=SECRET", "/v1beta/models?"),
                ("/other?a=1&key=SECRET&b=2", "/other?a=1&b=2"),
                ("/v1beta/x?%6bey=SECRET&alt=sse&KE%59=SECRET", "/v1beta/x?alt=sse"),
                ("/v1/x?access_token=SECRET;a=1", "/v1/x?a=1"),
                ("/v1/x?$key=SECRET&api%2dkey=SECRET&monkey=1", "/v1/x?monkey=1"),
                ("/v1/x?monkey=1&pageToken=2", "/v1/x?monkey=1&pageToken=2"),
            ] {
                let answer = get(port, asked);
                assert!(answer.body.contains(&format!("GET {left} HTTP/1.1")), "{asked}: {answer:?}");
                assert_eq!(answer.received("x-goog-api-key"), Some("secret-env:K"));
            }
        }
        // Who has no key of the operator's for it brings one.
        let (port, _serving) =
            serve_backend(haproxy, backend("own", Provider::Gemini, vec![server("s", &upstream("s", 200))]));
        assert!(get(port, "/v1beta/models?key=theirs").body.contains("GET /v1beta/models?key=theirs HTTP/1.1"));
    });
}

/// What a client and the proxies in front of us tell of a caller.
const TOLD: [(&str, &str); 12] = [
    ("X-Forwarded-For", "1.2.3.4"),
    ("X-Forwarded-Host", "caller.example"),
    ("X-Forwarded-Server", "caller.example"),
    ("X-Real-IP", "1.2.3.4"),
    ("Forwarded", "for=1.2.3.4"),
    ("True-Client-IP", "1.2.3.4"),
    ("CF-Connecting-IP", "1.2.3.4"),
    ("Via", "1.1 caller.example"),
    // As servers see them that speak CGI.
    ("X_Forwarded_For", "1.2.3.4"),
    ("X_Real-IP", "1.2.3.4"),
    ("Forwarded_For", "1.2.3.4"),
    ("x_forwarded-HOST", "caller.example"),
];

#[test]
fn no_key_of_a_clients_passes_beside_ours_in_whatever_header_or_trailer() {
    on_every_haproxy(|haproxy| {
        for servers in with_and_without_hop(&upstream("s", 200)) {
            let (port, _serving) = serve_backend(haproxy, backend("chat", Provider::OpenAi, servers));
            for name in
                hapilot::model::KEY_HEADERS.into_iter().chain(["ocp-apim-subscription-key", "proxy-authorization"])
            {
                for name in [name.to_owned(), name.replace('-', "_"), name.to_uppercase().replacen('-', "_", 1)] {
                    let answer = ask(port, "GET", "/v1/models", &[(&name, "theirs")], "");
                    assert_eq!(answer.received("authorization"), Some("Bearer secret-env:K"), "{name}: {answer:?}");
                    assert!(!answer.body.contains("theirs"), "{name}: {answer:?}");
                }
            }
        }
        let provider = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", provider.local_addr().unwrap());
        let hears = std::thread::spawn(move || {
            let (mut stream, _) = provider.accept().unwrap();
            let mut heard = Vec::new();
            let mut part = [0; 4096];
            while !String::from_utf8_lossy(&heard).contains("\r\n0\r\n") || !heard.ends_with(b"\r\n\r\n") {
                match stream.read(&mut part).unwrap() {
                    0 => break,
                    length => heard.extend(&part[..length]),
                }
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            String::from_utf8_lossy(&heard).to_ascii_lowercase()
        });
        let chat = backend("chat", Provider::OpenAi, vec![server_with_key("s", &url, "env:K")]);
        let (port, _serving) = serve_backend(haproxy, chat);
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let head =
            "POST /v1/files HTTP/1.1\r\nHost: lb.example\r\nTransfer-Encoding: chunked\r\nTrailer: x-api-key\r\n\r\n";
        client.write_all(format!("{head}2\r\n{{}}\r\n0\r\nx-api-key: theirs\r\n\r\n").as_bytes()).unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let heard = hears.join().unwrap();
        assert!(heard.contains("bearer secret-env:k"), "{heard}");
        let passes_trailers = (haproxy.target.major, haproxy.target.minor) < (3, 2);
        assert_eq!(heard.contains("theirs"), passes_trailers, "{}: {heard}", haproxy.path);
    });
}

#[test]
fn who_asked_is_told_only_to_a_backend_that_may_know() {
    on_every_haproxy(|haproxy| {
        for servers in with_and_without_hop(&upstream("s", 200)) {
            for (forward_client, raw) in [
                (true, vec![]),
                (false, vec![]),
                (true, vec![set("http-request del-header X-Forwarded-For".to_owned())]),
            ] {
                let chat = Backend { forward_client, raw, ..backend("chat", Provider::OpenAi, servers.clone()) };
                let wants = (forward_client && chat.raw.is_empty()).then_some("127.0.0.1");
                let (port, _serving) = serve_backend(haproxy, chat);
                let answer = ask(port, "GET", "/v1/models", &TOLD, "");
                assert_eq!(answer.received("X-Forwarded-For"), wants, "{answer:?}");
                assert_eq!(answer.received("X-Forwarded-Host"), forward_client.then_some("lb.example"));
                assert_eq!(answer.received("X-Forwarded-Proto"), forward_client.then_some("http"));
                assert!(!answer.body.contains("1.2.3.4") && !answer.body.contains("caller.example"), "{answer:?}");
                assert!(forward_client || !answer.body.contains("lb.example"), "{answer:?}");
            }
        }
    });
}

#[test]
fn addresses_of_the_own_network_may_know_who_asked_and_names_may_not() {
    let told = |urls: &[&str], more: &str| {
        let servers =
            urls.iter().enumerate().map(|(at, url)| format!("[backend.chat.server.s{at}]\nurl = \"{url}\"\n"));
        let text = format!(
            "[frontend.api]\nbind = [\"127.0.0.1:8080\"]\n[backend.chat]\n{more}\n{}",
            servers.collect::<String>()
        );
        let read = hapilot::config::parse("test.toml", &text, "lb1").unwrap_or_else(|mistakes| panic!("{mistakes}"));
        read.backends[0].forward_client
    };
    for inside in
        ["http://10.0.0.1", "http://127.0.0.1:1", "http://localhost", "http://[fd00::1]", "http://169.254.1.1"]
    {
        assert!(told(&[inside], ""), "{inside}");
        assert!(!told(&[inside], "forward_client = false"), "{inside}");
        assert!(!told(&[inside, "http://198.51.100.1"], ""), "{inside}");
    }
    for outside in ["http://gpu.internal", "http://198.51.100.1", "http://[2001:db8::1]", "http://100.64.0.1"] {
        assert!(!told(&[outside], ""), "{outside}");
        assert!(told(&[outside], "forward_client = true"), "{outside}");
    }
}

#[test]
fn the_host_is_the_servers_own_and_never_the_clients() {
    on_every_haproxy(|haproxy| {
        let url = upstream("s", 200);
        let at = url.trim_start_matches("http://").to_owned();
        let named = Server { host: Some(set("gpu.example:8443".to_owned())), ..server("s", &url) };
        for (server, expected) in [(server("s", &url), "localhost"), (named, "gpu.example:8443")] {
            let (port, _serving) = serve_backend(haproxy, backend("chat", Provider::Ollama, vec![server]));
            let answer = ask(port, "GET", "/v1/models", &[("Host", "evil.example")], "");
            assert_eq!(answer.received("Host"), Some(expected), "{at}");
            // A client may name the host in the request line as well.
            let absolute = ask(port, "GET", "http://evil.example/v1/models", &[("Host", "evil.example")], "");
            assert_eq!(absolute.received("Host"), Some(expected));
            let line = absolute.body.lines().nth(1).unwrap_or_default();
            assert!(line.starts_with("GET ") && !line.contains("evil"), "{absolute:?}");
        }
        // A pool of addresses needs no hop for it.
        let pool = vec![server("a", &upstream("a", 200)), server("b", &upstream("b", 200))];
        assert!(!hapilot::desired::needs_hops(&backend("chat", Provider::Ollama, pool)));
    });
}

#[test]
fn a_probe_and_a_request_come_with_one_host() {
    for binary in binaries() {
        let stage = Stage::with_haproxy(&binary, |text| text);
        stage.cli(&["probe", "chat/a"]);
        let probed = stage.last_headers("a", "/v1/models")["host"].clone();
        assert_eq!(probed, "localhost");
        let port = stage.address.rsplit(':').next().unwrap().parse().unwrap();
        for _ in 0..3 {
            ask(port, "GET", "/v1/models?x", &[("Host", "evil.example")], "");
        }
        let seen = ["a", "b", "c"].map(|server| stage.last_headers(server, "/v1/models")["host"].clone());
        assert_eq!(seen, [probed.clone(), probed.clone(), probed]);
    }
}

#[test]
fn no_client_chooses_the_name_that_is_verified() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tls = MockTls { names: vec!["gpu.example".into(), "localhost".into()], ..MockTls::default() };
    let mock = MockConfig { tls: Some(tls), ..MockConfig::default() };
    let mock = MockConfig {
        bind: ([127, 0, 0, 1], free_port()).into(),
        control: ([127, 0, 0, 1], free_port()).into(),
        ..mock
    };
    let mock = runtime.block_on(Mock::start(mock)).unwrap();
    let held = tempfile::tempdir().unwrap();
    let ca = held.path().join("ca.pem");
    write(&ca, mock.ca_pem().unwrap());
    let ca = set(camino::Utf8PathBuf::from_path_buf(ca).unwrap());
    on_every_haproxy(|haproxy| {
        for (server_name, expected) in [("gpu.example", 200), ("other.example", 503)] {
            let tls = ServerTls {
                ca: Some(ca.clone()),
                server_name: Some(set(server_name.to_owned())),
                certificate: None,
                verify: true,
            };
            let one = Server { tls, ..server("s", &format!("https://{}", mock.addr())) };
            let (port, _serving) = serve_backend(haproxy, backend("chat", Provider::OpenAi, vec![one]));
            for host in ["gpu.example", "other.example", "api.company.example", "localhost"] {
                let answer = ask(port, "GET", "/v1/models", &[("Host", host)], "");
                assert_eq!(answer.status, expected, "{server_name}, Host {host}: {answer:?}");
            }
        }
    });
}

#[test]
fn a_server_that_is_not_verified_hears_no_name_of_a_clients() {
    on_every_haproxy(|haproxy| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tls = ServerTls { ca: None, server_name: None, certificate: None, verify: false };
        let one = Server { tls, ..server("s", &format!("https://{address}")) };
        let port = free_port();
        let chat = Backend { retries: set(0), ..backend("chat", Provider::OpenAi, vec![one]) };
        let _serving = serve(haproxy, config(vec![frontend("api", &bind(port), "chat")], vec![chat]));
        listener.set_nonblocking(true).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
        // HAProxy's own check and the request, in whatever order.
        for _ in 0..2 {
            let mut stream = wait_for("a connection", PATIENCE, || listener.accept().ok()).0;
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut hello = [0; 4096];
            let length = stream.read(&mut hello).unwrap();
            assert_eq!(hello[0], 22, "a TLS handshake");
            assert!(!String::from_utf8_lossy(&hello[..length]).contains("evil"), "{}", haproxy.path);
        }
    });
}

#[test]
fn what_haproxy_says_to_itself_passes_through_files_of_its_own() {
    on_every_haproxy(|haproxy| {
        let jail = tempfile::tempdir().unwrap();
        let jail = jail.path().to_str().unwrap();
        // Only root can lock itself in.
        let jails: &[Option<&str>] = if nix::unistd::geteuid().is_root() { &[None, Some(jail)] } else { &[None] };
        for jail in jails {
            let [_, hops] = with_and_without_hop(&upstream("s", 200));
            let port = free_port();
            let mut config =
                config(vec![frontend("api", &bind(port), "chat")], vec![backend("chat", Provider::OpenAi, hops)]);
            config.limit_address = Some(limit("100/10s", 10));
            config.haproxy.raw = jail.iter().map(|jail| set(format!("chroot {jail}"))).collect();
            let serving = serve(haproxy, config);
            let answer = get(port, "/v1/models");
            assert_eq!(answer.received("Authorization"), Some("Bearer secret-env:K"), "{jail:?}: {answer:?}");
            let directory = jail.map_or_else(|| serving.directory(), std::path::Path::new);
            let mut found = Vec::new();
            for entry in fs_err::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                if let Some((kind @ ("hop" | "peers"), _)) = name.split_once('-') {
                    assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
                    found.push(kind.to_owned());
                }
            }
            found.sort();
            let wants: &[&str] = if jail.is_some() { &["hop", "hop"] } else { &["hop", "hop", "peers"] };
            assert_eq!(found, wants);
            let text = fs_err::read_to_string(serving.directory().join("haproxy.cfg")).unwrap();
            assert!(!text.contains("abns@"));
        }
    });
}

#[test]
fn a_directory_in_which_no_socket_fits_is_refused() {
    let read = |line: &str| {
        let text = format!(
            "[haproxy]\n{line}\n[frontend.api]\nbind = [\"127.0.0.1:8080\"]\n[backend.chat.server.a]\nurl = \"http://10.0.0.1\"\n"
        );
        hapilot::config::parse("test.toml", &text, "lb1").map(|_| ()).map_err(|mistakes| mistakes.to_string())
    };
    let long = |length: usize| format!("admin_socket = \"/{}/a.sock\"", "d".repeat(length - 1));
    read(&long(76)).unwrap();
    assert!(read(&long(77)).unwrap_err().contains("at most 76 bytes"));
    read("raw = [\"chroot /var/lib/haproxy\"]").unwrap();
    assert!(read("raw = [\"chroot auto\"]").unwrap_err().contains("could not reach its own sockets"));
}

/// One request over HTTP/2 in clear text, spelt by hand because no client sends what is forbidden there; everything that
/// came back, as text.
fn over_h2(port: u16, method: &str, headers: &[(&str, &str)]) -> String {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
    };
    let pseudo = [(":method", method), (":scheme", "http"), (":path", "/v1/models"), (":authority", "lb.example")];
    let mut block = Vec::new();
    for (name, value) in pseudo.iter().chain(headers) {
        // Literal without indexing, without Huffman.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frame(1, 5, 1, &block)];
    stream.write_all(&request.concat()).unwrap();
    let mut came = Vec::new();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            break;
        }
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        came.extend(&payload);
        // The end of the stream, a reset of it, or of the connection.
        let ends = matches!(head[3], 0 | 1) && head[4] & 1 == 1;
        if (head[8] == 1 && (ends || head[3] == 3)) || head[3] == 7 {
            break;
        }
    }
    String::from_utf8_lossy(&came).into_owned()
}
