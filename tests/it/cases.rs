//! `tests/cases/NAME/`: the operator's `input.toml` beside the files that it becomes; HAProxy judges them too.
//!
//! `UPDATE=1` writes the files anew.

use crate::haproxies::{directory, installed, write_certificate, write_files};
use crate::sample::{backend, config, desired, frontend, limit, name, parsed, route, server, server_with_key, set};
use camino::Utf8PathBuf;
use hapilot::config::{Backend, Config, Frontend, Server, Stats};
use hapilot::model::{AdminState, Balance, Provider, Weight};
use hapilot::render::{Rendered, Target, Templates, inspect, render};
use std::collections::BTreeMap;

const CASES: [&str; 3] = ["smallest", "selfhosted", "providers"];

/// The configuration of a case. To be replaced by parsing its `input.toml`.
fn config_for(case: &str) -> Config {
    match case {
        "smallest" => smallest(),
        "selfhosted" => selfhosted(),
        "providers" => providers(),
        other => panic!("no case {other}"),
    }
}

fn smallest() -> Config {
    config(
        vec![frontend("api", "127.0.0.1:8080", "chat")],
        vec![backend("chat", Provider::OpenAi, vec![server("only", "http://192.0.2.10:8000")])],
    )
}

fn selfhosted() -> Config {
    let embeddings = Backend {
        balance: set(Balance::Source),
        retries: set(0),
        raw: vec![set("http-request set-header X-Pool embeddings".to_owned())],
        ..backend(
            "embeddings",
            Provider::Http,
            vec![server("e1", "http://[2001:db8::11]:8080/embed"), server("e2", "http://[2001:db8::12]:8080/embed")],
        )
    };
    let llama = backend(
        "llama",
        Provider::Vllm,
        vec![
            Server { maxconn: Some(set(32)), ..server("gpu1", "http://192.0.2.21:8000") },
            Server { state: set(AdminState::Drain), ..server("gpu2", "http://192.0.2.22:8000") },
            Server { state: set(AdminState::Maint), ..server("gpu3", "http://192.0.2.23:8000") },
            Server {
                weight: set(Weight::new(20).unwrap()),
                tier: 2,
                raw: vec![set("slowstart 30s".to_owned())],
                ..server("spare", "http://192.0.2.24:8000")
            },
        ],
    );
    let mut api = frontend("api", "*:8080", "llama");
    api.bind.push(parsed("[::1]:8080"));
    api.routes = vec![route(&["/v1/embeddings", "/v1/rerank"], &[], "embeddings")];
    api.raw = [
        "http-response del-header Server",
        "http-request deny if { path_beg /internal }",
        "tcp-request connection reject if { src 203.0.113.0/24 }",
    ]
    .map(|line| set(line.to_owned()))
    .to_vec();
    let mut config = config(vec![api], vec![embeddings, llama]);
    config.haproxy.log = set(String::new());
    config.haproxy.user = set(String::new());
    config.haproxy.group = set(String::new());
    config.haproxy.threads = Some(set(2));
    config.haproxy.raw = vec![set("tune.http.maxhdr 128".to_owned())];
    config.haproxy.raw_defaults = vec![set("timeout tarpit 5s".to_owned())];
    config.haproxy.stats = Some(Stats { bind: parsed("127.0.0.1:8404"), login: None });
    config
}

fn providers() -> Config {
    let anthropic = backend(
        "anthropic",
        Provider::OpenAi,
        vec![server_with_key("anthropic-1", "https://api.anthropic.example", "env:ANTHROPIC_KEY")],
    );
    let chat = backend(
        "chat",
        Provider::OpenAi,
        vec![
            Server {
                tier: 2,
                state: set(AdminState::Maint),
                ..server_with_key("gateway", "https://gw.example/openai/v1", "env:GATEWAY_KEY")
            },
            Server {
                maxconn: Some(set(200)),
                ..server_with_key("openai-1", "https://api.openai.com/v1", "env:OPENAI_KEY")
            },
            Server { weight: set(Weight::new(50).unwrap()), ..server("vllm-1", "http://192.0.2.31:8000") },
        ],
    );
    let api = Frontend {
        certificates: vec![set("/etc/hapilot/certs/api.pem".into())],
        redirect_http: Some(parsed("[::]:80")),
        routes: vec![
            route(&["/v1/chat/"], &["claude-*", "sonnet-4.?"], "anthropic"),
            route(&["/v1/messages"], &[], "anthropic"),
        ],
        ..frontend("api", "[::]:443", "chat")
    };
    let internal = frontend("internal", "127.0.0.1:8081", "chat");
    let mut config = config(vec![api, internal], vec![anthropic, chat]);
    config.limit_address = Some(limit("100/10s", 20));
    config.haproxy.stats = Some(Stats {
        bind: parsed("127.0.0.1:8404"),
        login: Some((set("ops".to_owned()), parsed("file:/etc/hapilot/stats"))),
    });
    config
}

fn case_directory(case: &str) -> Utf8PathBuf {
    Utf8PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases")).join(case)
}

/// The files of a revision by their path below the case.
fn files(rendered: &Rendered) -> BTreeMap<String, String> {
    let mut files: BTreeMap<_, _> = rendered.maps.iter().map(|(path, map)| (path.clone(), map.text())).collect();
    files.insert("haproxy.cfg".to_owned(), rendered.haproxy_cfg.clone());
    files
}

#[test]
fn each_case_renders_to_the_files_beside_it() {
    let templates = Templates::built_in().unwrap();
    for case in CASES {
        let rendered = render(&desired(config_for(case)), &templates, Target::new(3, 0)).unwrap();
        assert_eq!(rendered.lines.len(), rendered.haproxy_cfg.lines().count());
        assert!(inspect(rendered.haproxy_cfg.as_bytes()).is_intact);
        for (path, text) in files(&rendered) {
            let path = case_directory(case).join(path);
            if std::env::var_os("UPDATE").is_some() {
                fs_err::create_dir_all(path.parent().unwrap()).unwrap();
                fs_err::write(&path, &text).unwrap();
            }
            let expected = fs_err::read_to_string(&path).unwrap_or_default();
            assert!(text == expected, "{path} differs (UPDATE=1 writes it anew):\n{text}");
        }
    }
}

#[test]
fn haproxy_takes_each_case_without_a_warning() {
    let templates = Templates::built_in().unwrap();
    for haproxy in installed() {
        for case in CASES {
            let (_keep, directory) = directory();
            write_certificate(&directory.join("certs/api.pem"));
            let mut rendered = render(&desired(config_for(case)), &templates, haproxy.target).unwrap();
            // What belongs to the operator's machine.
            rendered.haproxy_cfg = rendered
                .haproxy_cfg
                .replace("/etc/hapilot/certs", directory.join("certs").as_str())
                .replace("    user haproxy\n    group haproxy\n", "")
                // A name that does not resolve is a warning, and rightly so: a reload would lose the server.
                .replace("init-addr last,libc,none", "init-addr none");
            haproxy.accepts(&write_files(&directory, &rendered));
        }
    }
}

#[test]
fn many_frontends_and_backends_make_no_warning() {
    let called = |kind: &str, i: usize| format!("{kind}{i:03}");
    let backends: Vec<_> = (0..150)
        .map(|i| {
            let servers = (0..4).map(|k| server(&called("s", k), &format!("http://192.0.2.{k}:{}", 8000 + i)));
            backend(&called("b", i), Provider::Vllm, servers.collect())
        })
        .collect();
    let frontends = (0..40)
        .map(|i| {
            let mut frontend = frontend(&called("f", i), &format!("127.0.0.1:{}", 10_000 + i), "b000");
            frontend.routes = (0..150).map(|i| route(&[], &[&format!("model-{i}-*")], &called("b", i))).collect();
            frontend
        })
        .collect();
    let mut config = config(frontends, backends);
    config.limit_address = Some(limit("100/1m", 0));
    config.haproxy.user = set(String::new());
    config.haproxy.group = set(String::new());
    let templates = Templates::built_in().unwrap();
    for haproxy in installed() {
        let (_keep, directory) = directory();
        let rendered = render(&desired(config.clone()), &templates, haproxy.target).unwrap();
        haproxy.accepts(&write_files(&directory, &rendered));
    }
    assert_eq!(config.frontends[0].name.value, name("f000"));
}
