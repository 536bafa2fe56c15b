//! Sections of backends that nothing has changed are taken from the text of before: byte for byte what a whole rendering
//! gives, whatever an edit changes.

use crate::cases::{CASES, config_for};
use crate::reweighed::mixed;
use crate::sample::{backend, desired, frontend, limit, parsed, server, server_with_key, set};
use crate::support::chance::Chance;
use hapilot::config::{Backend, Config, ProxyProtocol};
use hapilot::desired::Desired;
use hapilot::model::{AdminState, Balance, Origin, Provider, Weight};
use hapilot::render::{Before, Target, Templates, line_origins, render, render_after};
use std::time::Duration;

fn text_of(chance: &mut Chance, of: &[&'static str]) -> &'static str {
    of[chance.index(of.len())]
}

/// One edit of the operator's.
fn edit(config: &mut Config, chance: &mut Chance) {
    let ms = |chance: &mut Chance| Duration::from_millis(500 * (1 + chance.below(9)));
    match chance.below(16) {
        0 => config.haproxy.live = !config.haproxy.live,
        1 => config.haproxy.config = parsed(text_of(chance, &["/etc/haproxy/haproxy.cfg", "/srv/haproxy.cfg"])),
        2 => config.haproxy.user = set((*chance.pick(&["", "haproxy"])).to_owned()),
        3 => config.limit_address = chance.one_in(2).then(|| limit("100/10s", 5)),
        4 => {
            let to = config.backends[0].name.to_string();
            config.frontends.push(frontend(&format!("f{}", chance.below(1000)), "*:8081", &to));
        }
        5 => {
            let called = format!("{}{}", chance.pick(&["a", "m", "z"]), chance.below(1000));
            let servers = (0..1 + chance.below(3)).map(|n| server(&format!("s{n}"), "http://192.0.2.9:80")).collect();
            config.backends.push(backend(&called, *chance.pick(&[Provider::OpenAi, Provider::Vllm]), servers));
            config.backends.sort_by(|a, b| a.name.cmp(&b.name));
            config.backends.dedup_by(|a, b| a.name == b.name);
        }
        6 if config.backends.len() > 2 => {
            let at = chance.index(config.backends.len());
            config.backends.remove(at);
        }
        _ => {
            let at = chance.index(config.backends.len());
            let backend = &mut config.backends[at];
            edit_backend(backend, chance, ms);
        }
    }
    // Every place moves, as below a new line.
    for backend in &mut config.backends {
        let to = Origin { line: backend.origin.line + 1, column: 1 };
        backend.origin = to;
        backend.check.origin = to;
        backend.retries.origin = Some(to);
        backend.servers.iter_mut().for_each(|server| server.origin = to);
    }
}

fn edit_backend(backend: &mut Backend, chance: &mut Chance, ms: impl Fn(&mut Chance) -> Duration) {
    let at = chance.index(backend.servers.len());
    let server_of = &mut backend.servers[at];
    match chance.below(22) {
        0 => backend.retries = set(u32::try_from(chance.below(4)).unwrap()),
        1 => backend.timeout.idle = set(ms(chance)),
        2 => backend.timeout.first_byte = set(ms(chance)),
        3 => backend.timeout.connect = set(ms(chance)),
        4 => backend.check.interval = ms(chance),
        5 => backend.check.fall = 1 + u32::try_from(chance.below(5)).unwrap(),
        6 => backend.forward_client = !backend.forward_client,
        7 => backend.raw = vec![set("http-request set-header X-Of 1".to_owned()); chance.index(3)],
        8 => backend.balance = set(*chance.pick(&[Balance::LeastConn, Balance::RoundRobin, Balance::Source])),
        9 => backend.provider = hapilot::config::profile(*chance.pick(&[Provider::OpenAi, Provider::Anthropic])),
        10 => {
            server_of.url =
                parsed(text_of(chance, &["http://192.0.2.7:8", "https://192.0.2.7:8/v2", "https://x.example"]))
        }
        11 => server_of.tier = 1 + u8::try_from(chance.below(2)).unwrap(),
        12 => server_of.maxconn = chance.one_in(2).then(|| set(9)),
        13 => server_of.keys = server_with_key("k", "http://192.0.2.1:1", text_of(chance, &["env:A", "env:B"])).keys,
        14 => server_of.tls.verify = !server_of.tls.verify,
        15 => server_of.proxy_protocol = chance.one_in(2).then(|| set(ProxyProtocol::V2)),
        16 => server_of.raw = vec![set("slowstart 3s".to_owned()); chance.index(2)],
        17 => server_of.host = chance.one_in(2).then(|| parsed("other.example")),
        18 => server_of.weight = set(Weight::new(*chance.pick(&[1, 7, 256])).unwrap()),
        19 => server_of.state = set(*chance.pick(&[AdminState::Ready, AdminState::Drain, AdminState::Maint])),
        20 if backend.servers.len() > 1 => drop(backend.servers.remove(at)),
        _ => {
            backend.servers.push(server(&format!("n{}", chance.below(1000)), "http://192.0.2.77:80"));
            backend.servers.sort_by(|a, b| a.name.cmp(&b.name));
            backend.servers.dedup_by(|a, b| a.name == b.name);
        }
    }
}

#[test]
fn whatever_an_edit_changes_the_sections_of_before_give_what_a_whole_rendering_gives() {
    let built_in = Templates::built_in().unwrap();
    // Fills everything at once, marks and all.
    let own = Templates::with_root("own.cfg", "{% extends \"builtin/haproxy.cfg\" %}").unwrap();
    let mut chance = Chance::new(11);
    for target in [Target::new(2, 6), Target::new(3, 0), Target::new(3, 2), Target::new(3, 4)] {
        for config in CASES.map(config_for).into_iter().chain([mixed()]) {
            let mut was = desired(config);
            let mut before = render(&was, &built_in, target).unwrap();
            for turn in 0..14 {
                let mut config = (*was.config).clone();
                (0..=chance.below(2)).for_each(|_| edit(&mut config, &mut chance));
                let mut now: Desired = desired(config);
                if chance.one_in(3) {
                    let at = chance.index(now.servers.len());
                    now.servers.values_mut().nth(at).unwrap().weight = Weight::new(3).unwrap();
                }
                let expected = render(&now, &built_in, target).unwrap();
                let found = render_after(Some(Before { rendered: &before, desired: &was }), &now, &built_in, target);
                let found = found.unwrap();
                assert_eq!(found.haproxy_cfg, expected.haproxy_cfg);
                assert_eq!(found.structure.text(), expected.structure.text());
                assert!(found == expected, "other parts differ");
                if turn % 7 == 0 {
                    assert_eq!(render(&now, &own, target).unwrap().haproxy_cfg, expected.haproxy_cfg);
                    let origins = line_origins(&now, &built_in, target);
                    assert_eq!(origins.len(), expected.haproxy_cfg.lines().count());
                }
                (was, before) = (now, found);
            }
        }
    }
}
