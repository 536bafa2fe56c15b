//! `tests/cases/NAME/`: the operator's `input.toml` beside the files that it becomes; HAProxy judges them too.
//!
//! `UPDATE=1` writes the files anew.

use crate::haproxies::{directory, installed, write_certificate, write_files};
use crate::sample::{backend, config, desired, frontend, limit, name, route, server, set};
use camino::Utf8PathBuf;
use hapilot::config::Config;
use hapilot::model::Provider;
use hapilot::render::{Rendered, Target, Templates, inspect, line_origins, render};
use std::collections::BTreeMap;

pub const CASES: [&str; 9] =
    ["smallest", "selfhosted", "providers", "anthropic", "gemini", "azure", "clients", "nodes", "canary"];

/// The configuration of a case.
pub fn config_for(case: &str) -> Config {
    let path = case_directory(case).join("input.toml");
    let text = fs_err::read_to_string(&path).unwrap();
    hapilot::config::parse(path.as_str(), &text, "lb1").unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn case_directory(case: &str) -> Utf8PathBuf {
    Utf8PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases")).join(case)
}

/// The files of a revision by their path below the case.
fn files(rendered: &Rendered) -> BTreeMap<String, String> {
    let mut files: BTreeMap<_, _> = rendered.maps.iter().map(|(path, map)| (path.clone(), map.text())).collect();
    files.extend(rendered.lists.iter().map(|(path, list)| (path.clone(), list.text())));
    files.insert("haproxy.cfg".to_owned(), rendered.haproxy_cfg.clone());
    files
}

#[test]
fn each_case_renders_to_the_files_beside_it() {
    let templates = Templates::built_in().unwrap();
    for case in CASES {
        let desired = desired(config_for(case));
        let rendered = render(&desired, &templates, Target::new(3, 0)).unwrap();
        let origins = line_origins(&desired, &templates, Target::new(3, 0));
        assert_eq!(origins.len(), rendered.haproxy_cfg.lines().count());
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
            for certificate in rendered.lists.values_mut().flat_map(|list| &mut list.certificates) {
                certificate.path = certificate.path.as_str().replace("/etc/hapilot", directory.as_str()).into();
            }
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
