//! Each rendered line knows its place in the operator's file and in the template, also in a template of their own.

use crate::haproxies::installed;
use crate::sample::{backend, config, desired, frontend, server};
use hapilot::config::Config;
use hapilot::haproxy::CheckVerdict;
use hapilot::model::{Origin, Provider, Sourced};
use hapilot::render::{LineOrigin, RenderError, Rendered, Target, Templates, line_origins, render};
use std::time::Duration;

fn at(line: u32) -> Origin {
    Origin { line, column: 1 }
}

fn start() -> Config {
    let mut chat = backend("chat", Provider::Vllm, vec![server("a", "http://192.0.2.1:8000")]);
    chat.origin = at(20);
    chat.timeout.connect = Sourced::new(Duration::from_secs(3), at(21));
    chat.servers[0].origin = at(30);
    chat.servers[0].url = Sourced::new("http://192.0.2.1:8000".parse().unwrap(), at(31));
    chat.servers[0].maxconn = Some(Sourced::new(7, at(32)));
    chat.raw = vec![Sourced::new("http-request nonsense".to_owned(), at(22))];
    let mut config = config(vec![frontend("api", "*:80", "chat")], vec![chat]);
    config.frontends[0].name.origin = Some(at(10));
    config
}

type Lines = (Rendered, Vec<LineOrigin>);

fn line<'a>((rendered, origins): &'a Lines, beginning: &str) -> &'a LineOrigin {
    let index = rendered.haproxy_cfg.lines().position(|line| line.trim_start().starts_with(beginning));
    &origins[index.unwrap_or_else(|| panic!("no line {beginning:?} in\n{}", rendered.haproxy_cfg))]
}

fn with(templates: &Templates) -> Lines {
    let desired = desired(start());
    let rendered = render(&desired, templates, Target::new(3, 0)).unwrap();
    let origins = line_origins(&desired, templates, Target::new(3, 0));
    assert!(!rendered.haproxy_cfg.chars().any(|c| ('\u{E000}'..='\u{F8FF}').contains(&c) || c >= '\u{F0000}'));
    assert_eq!(origins.len(), rendered.haproxy_cfg.lines().count());
    (rendered, origins)
}

#[test]
fn lines_of_the_built_in_template_know_their_places() {
    let rendered = with(&Templates::built_in().unwrap());
    assert_eq!(line(&rendered, "frontend api").toml, [at(10)]);
    assert_eq!(line(&rendered, "server a").toml[..3], [at(30), at(31), at(32)]);
    assert_eq!(line(&rendered, "server a").template.as_ref().unwrap().0.as_ref(), "parts/server.cfg");
    assert_eq!(line(&rendered, "http-request nonsense").toml, [at(22)]);
    // No value of its own: the nearest above.
    assert_eq!(line(&rendered, "http-reuse safe").toml, [at(21)]);
    assert_eq!(line(&rendered, "defaults").toml, []);
}

#[test]
fn lines_of_the_operators_own_template_know_theirs() {
    let own = "global\n    maxconn 5\n{% for backend in backends -%}\n\nbackend {{ backend.name }}\n    \
               {%- set wait = backend.timeout.connect %}\n    timeout connect {{ wait | upper | lower }}\n\
               {% for server in backend.servers %}{% set line = server.line %}{% include \"parts/server.cfg\" %}{% endfor %}\n\
               {% endfor %}\n";
    let rendered = with(&Templates::with_root("/etc/my.tera", own).unwrap());
    assert_eq!(line(&rendered, "backend chat").toml, [at(20)]);
    assert_eq!(line(&rendered, "timeout connect 3s").toml, [at(21)]);
    assert_eq!(line(&rendered, "timeout connect 3s").template, Some(("/etc/my.tera".into(), 7)));
    assert_eq!(line(&rendered, "server a 192.0.2.1:8000").toml[..2], [at(30), at(31)]);
}

#[test]
fn an_extended_template_keeps_ours_and_adds_its_own() {
    let own = "{% extends \"builtin/haproxy.cfg\" %}\n{% block tail %}\n\nbackend mine\n    # {{ node }}\n{% endblock tail %}\n";
    let rendered = with(&Templates::with_root("/etc/my.cfg", own).unwrap());
    assert_eq!(line(&rendered, "backend mine").template, Some(("/etc/my.cfg".into(), 4)));
    assert_eq!(line(&rendered, "frontend api").toml, [at(10)]);
}

#[test]
fn a_mistake_in_a_template_is_named_with_its_place() {
    let place = |source: &str| {
        let templates = Templates::with_root("/etc/my.cfg", source);
        match templates.and_then(|templates| render(&desired(start()), &templates, Target::new(3, 0))) {
            Err(RenderError::Template { file, position, message, .. }) => (file, position, message),
            other => panic!("{source:?}: {other:?}"),
        }
    };
    let file = "/etc/my.cfg".to_owned();
    let (syntax, at_syntax, _) = place("global\n  {{ a b }}\n");
    assert_eq!((syntax, at_syntax.unwrap().0), (file.clone(), 2));
    let (missing, at_missing, message) = place("global\n\n  x {{ nothing }}\n");
    assert_eq!((missing, at_missing), (file.clone(), Some((3, 8))));
    assert!(message.contains("`nothing` is not defined"), "{message}");
    let (_, _, message) = place("{% include \"no.cfg\" %}\n");
    assert!(message.contains("no.cfg"), "{message}");
    let (_, _, message) = place("{{ \"a\nb\" ~ backends[0].name }}\n");
    assert!(message.contains("a line break"), "{message}");
    let (_, position, message) = place("x\ny\u{E000}\n");
    assert_eq!(position, Some((2, 2)));
    assert!(message.contains("private-use"), "{message}");
    let (_, _, message) = place("{{ backends[0].retries | sq | nofilter }}\n");
    assert!(message.contains("nofilter"), "{message}");
}

#[test]
fn what_haproxy_dislikes_is_led_back_to_the_operators_line() {
    for haproxy in installed() {
        let (_keep, directory) = crate::haproxies::directory();
        let mut config = start();
        config.haproxy.user = Sourced::default_value(String::new());
        config.haproxy.group = Sourced::default_value(String::new());
        let (desired, templates) = (desired(config), Templates::built_in().unwrap());
        let rendered = render(&desired, &templates, haproxy.target).unwrap();
        let path = crate::haproxies::write_files(&directory, &rendered);
        let (is_valid, said) = haproxy.check(&path);
        assert!(!is_valid);
        let verdict = CheckVerdict::parse(&said, &rendered, || line_origins(&desired, &templates, haproxy.target));
        let [message] = &verdict.messages[..] else { panic!("{said}\n{verdict:?}") };
        assert_eq!(message.toml, [at(22)], "{message:?}");
        assert_eq!(message.rendered_line.as_deref(), Some("http-request nonsense"));
        assert_eq!(message.template.as_ref().unwrap().0.as_ref(), "parts/backend.cfg");
    }
}
