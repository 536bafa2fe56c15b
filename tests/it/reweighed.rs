//! Only the lines of servers that moved are rendered anew: byte for byte, line for line what a whole rendering gives.

use crate::cases::{CASES, config_for};
use crate::sample::{backend, config, desired, frontend, server, server_with_key, set};
use crate::support::chance::Chance;
use hapilot::config::Config;
use hapilot::desired::Desired;
use hapilot::model::{AdminState, Provider, Weight};
use hapilot::render::{Rendered, Target, Templates, render, reweighed};

/// By address, by name, behind hops, with keys, words of the operator's and limits.
pub fn mixed() -> Config {
    let plain = (0..9).map(|n| server(&format!("s{n}"), &format!("http://192.0.2.{}:80", n + 1))).collect();
    let named = vec![server("a", "https://a.example"), server("b", "http://192.0.2.1:1")];
    let keyed =
        (0..3).map(|n| server_with_key(&format!("k{n}"), &format!("https://k{n}.example/v1"), "env:C")).collect();
    let mut backends = vec![
        backend("plain", Provider::Vllm, plain),
        backend("named", Provider::Vllm, named),
        backend("keyed", Provider::OpenAi, keyed),
    ];
    backends[0].servers[1].tier = 2;
    backends[0].servers[2].maxconn = Some(set(7));
    backends[0].servers[3].raw = vec![set("slowstart 3s weight 9 disabled".to_owned())];
    backends[0].raw = vec![set("server s77 192.0.2.99:1 weight 3".to_owned())];
    // As they are read.
    backends.sort_by(|a, b| a.name.cmp(&b.name));
    config(vec![frontend("api", "*:80", "plain")], backends)
}

fn whole(desired: &Desired, target: Target) -> Rendered {
    render(desired, &Templates::built_in().unwrap(), target).unwrap()
}

#[test]
fn whatever_moves_the_short_way_gives_what_a_whole_rendering_gives() {
    let templates = Templates::built_in().unwrap();
    let mut chance = Chance::new(7);
    let mut short = 0;
    for target in [Target::new(2, 6), Target::new(3, 0), Target::new(3, 4)] {
        for config in CASES.map(config_for).into_iter().chain([mixed()]) {
            let mut was = desired(config);
            let mut before = whole(&was, target);
            for _ in 0..30 {
                let mut now = was.clone();
                let ids: Vec<_> = now.servers.keys().cloned().collect();
                for _ in 0..chance.below(3) {
                    let wish = now.servers.get_mut(&ids[chance.index(ids.len())]).unwrap();
                    wish.weight = Weight::new(*chance.pick(&[0, 1, 9, 10, 100, 256])).unwrap();
                    wish.state = *chance.pick(&[AdminState::Ready, AdminState::Drain, AdminState::Maint]);
                }
                if chance.one_in(4) {
                    now.active_keys = now.active_keys.into_keys().map(|name| (name, chance.index(2))).collect();
                }
                let expected = whole(&now, target);
                if let Some(found) = reweighed(&before, &was, &now, &templates, target) {
                    let found = found.unwrap();
                    assert_eq!(found.haproxy_cfg, expected.haproxy_cfg);
                    assert!(found == expected, "other parts differ");
                    found.dynamic.keys().for_each(|name| assert_eq!(found.words_of(name), expected.words_of(name)));
                    short += 1;
                    before = found;
                } else {
                    before = expected;
                }
                was = now;
            }
        }
    }
    assert!(short > 300, "the short way was taken {short} times only");
}

#[test]
fn there_is_no_short_way_where_it_is_none() {
    let (target, built_in) = (Target::new(3, 0), Templates::built_in().unwrap());
    let was = desired(mixed());
    let before = whole(&was, target);
    let is_short = |now: &Desired, templates: &Templates| reweighed(&before, &was, now, templates, target).is_some();
    let mut one = was.clone();
    one.servers.values_mut().next().unwrap().weight = Weight::ZERO;
    assert!(is_short(&one, &built_in));
    let own = Templates::with_root("own.cfg", "{% extends \"builtin/haproxy.cfg\" %}").unwrap();
    assert!(!is_short(&one, &own), "an operator's template may do anything with a weight");
    let mut all = was.clone();
    all.servers.values_mut().for_each(|wish| wish.weight = Weight::ZERO);
    assert!(!is_short(&all, &built_in), "all at once is quicker");
    let mut fewer = was.clone();
    fewer.servers.pop_last();
    assert!(!is_short(&fewer, &built_in), "others are there");
}
