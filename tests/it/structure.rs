//! What needs a reload and what does not: the masked text against edits.

use crate::sample::{backend, config, desired, frontend, limit, parsed, route, server, server_with_key, set};
use hapilot::config::Config;
use hapilot::desired::{Desired, needs_hops};
use hapilot::model::{AdminState, Digest, Provider, Secret, Weight};
use hapilot::render::{Rendered, Target, Templates, render, render_of, runtime_names};
use std::time::{Duration, Instant};

fn start() -> Config {
    let servers = vec![server("a", "http://192.0.2.1:8000"), server("b", "https://192.0.2.2:8000")];
    let named = vec![server_with_key("c", "https://c.example/v1", "env:C"), server("d", "https://d.example")];
    let mut api = frontend("api", "*:80", "ip");
    api.routes = vec![route(&["/x"], &[], "dns")];
    let mut config =
        config(vec![api], vec![backend("dns", Provider::OpenAi, named), backend("ip", Provider::Vllm, servers)]);
    config.limit_address = Some(limit("100/10s", 20));
    config
}

fn rendered(desired: &Desired, templates: &Templates) -> Rendered {
    render(desired, templates, Target::new(3, 0)).unwrap()
}

/// Both templates judge alike: ours and one of the operator's own.
#[track_caller]
fn check(edit: impl Fn(&mut Config), needs_reload: bool, changes_file: bool) {
    let own = "global\n{% for backend in backends %}\n{% include \"parts/backend.cfg\" %}\n{% endfor %}\n\
               {% for backend in backends %}{% for server in backend.servers %}{% if server.hop %}\n\
               {% include \"parts/hop.cfg\" %}\n{% endif %}{% endfor %}{% endfor %}\n\
               # {{ limit.window }} {{ frontends[0].bind[0].address }} {{ frontends[0].routes is undefined }}\n";
    let built_in = Templates::built_in().unwrap();
    let before = desired(start());
    let mut edited = start();
    edit(&mut edited);
    let after = desired(edited);
    let (before_file, after_file) = (rendered(&before, &built_in), rendered(&after, &built_in));
    assert_eq!(before_file.structure.digest != after_file.structure.digest, needs_reload);
    assert_eq!(before_file.haproxy_cfg != after_file.haproxy_cfg, changes_file);
    let own = Templates::with_root("own.cfg", own).unwrap();
    assert_eq!(rendered(&before, &own).structure != rendered(&after, &own).structure, needs_reload, "own template");
}

#[test]
fn what_the_runtime_can_set_leaves_the_structure_alone() {
    check(|_| (), false, false);
    check(|c| c.backends[1].servers[0].weight = set(Weight::new(7).unwrap()), false, true);
    check(|c| c.backends[0].servers[0].weight = set(Weight::ZERO), false, true);
    check(|c| c.backends[1].servers[0].state = set(AdminState::Drain), false, true);
    check(|c| c.backends[1].servers[1].state = set(AdminState::Maint), false, true);
    check(|c| c.backends[0].servers[1].state = set(AdminState::Maint), false, true);
    check(|c| c.backends[1].servers[0].url = parsed("http://198.51.100.9:9000"), false, true);
    check(|c| c.backends[1].servers[0].url = parsed("http://[2001:db8::9]:9000"), false, true);
    // A limit of a server: by address, behind a hop; of the process.
    check(|c| c.backends[1].servers[0].maxconn = Some(set(3)), false, true);
    check(|c| c.backends[0].servers[0].maxconn = Some(set(3)), false, true);
    // Servers by address come and go.
    check(|c| c.backends[1].servers.truncate(1), false, true);
    check(|c| c.backends[1].servers.push(server("z", "http://192.0.2.9:80")), false, true);
    check(|c| c.backends[1].servers.push(server("z", "https://192.0.2.9:443")), false, true);
    // Data of the maps.
    check(|c| c.limit_address.as_mut().unwrap().burst = set(30), false, false);
    check(|c| c.frontends[0].routes[0] = route(&["/y"], &[], "dns"), false, false);
    check(|c| c.frontends[0].routes.push(route(&["/z"], &[], "ip")), false, false);
}

#[test]
fn what_no_route_asks_for_is_not_rendered() {
    let templates = Templates::built_in().unwrap();
    let with = |routes| {
        let mut config = start();
        config.frontends[0].routes = routes;
        rendered(&desired(config), &templates)
    };
    let none = with(vec![]);
    assert!(!none.haproxy_cfg.contains("lua-load") && !none.haproxy_cfg.contains("route_path"));
    let by_path = with(vec![route(&["/x"], &[], "dns")]);
    assert!(!by_path.haproxy_cfg.contains("lua-load") && by_path.haproxy_cfg.contains("route_path"));
    assert!(by_path.scripts.is_empty());
    let by_model = with(vec![route(&["/x"], &[], "dns"), route(&[], &["m-*"], "ip")]);
    assert!(by_model.haproxy_cfg.contains("lua-load-per-thread /etc/haproxy/hapilot-lua/model."));
    assert_eq!(by_model.scripts.len(), 1);
    assert!(none.structure != by_path.structure && by_path.structure != by_model.structure);
}

#[test]
fn a_map_that_the_template_does_not_use_is_not_kept() {
    let own = "global\n# maps/health.api.map\nfrontend api\n{% for backend in frontends[0].reaches %}\n\
               acl can_serve nbsrv({{ backend }}) ge 1\n{% endfor %}\nuse_backend %[path,map_reg({{ frontends[0].routes.paths }})]\n";
    let own = rendered(&desired(start()), &Templates::with_root("own.cfg", own).unwrap());
    assert_eq!(own.maps.keys().collect::<Vec<_>>(), ["maps/routes.api.paths.map"]);
    assert!(own.haproxy_cfg.contains("nbsrv(dns)") && own.haproxy_cfg.contains("nbsrv(ip)"));
    let built_in = rendered(&desired(start()), &Templates::built_in().unwrap());
    assert_eq!(built_in.maps["maps/health.api.map"].text(), "ip ip\ndns dns\n");
}

#[test]
fn maxconn_of_the_process_leaves_the_structure_alone() {
    let templates = Templates::built_in().unwrap();
    let mut config = start();
    let before = rendered(&desired(config.clone()), &templates);
    config.haproxy.maxconn = set(77);
    let after = rendered(&desired(config), &templates);
    assert_eq!(before.structure.digest, after.structure.digest);
    assert_eq!((before.maxconn.process, after.maxconn.process), (Some(10_000), Some(77)));
}

#[test]
fn the_order_of_routes_is_data() {
    let templates = Templates::built_in().unwrap();
    let text = |order: [usize; 3]| {
        let mut config = start();
        config.backends.push(backend("more", Provider::Vllm, vec![server("m", "http://192.0.2.3:80")]));
        let routes = [route(&["/x"], &[], "dns"), route(&["/y"], &[], "more"), route(&["/z"], &[], "ip")];
        config.frontends[0].routes = order.map(|at| routes[at].clone()).to_vec();
        rendered(&desired(config), &templates).haproxy_cfg
    };
    assert_eq!(text([0, 1, 2]), text([2, 1, 0]));
}

#[test]
fn everything_else_changes_the_structure() {
    check(|c| c.backends[1].timeout.idle = set(Duration::from_secs(61)), true, true);
    check(|c| c.backends[0].servers[1].url = parsed("https://e.example"), true, true);
    check(|c| c.backends[0].servers.push(server("z", "http://192.0.2.9:80")), true, true);
    check(|c| c.backends[1].servers.push(server("z", "http://z.example:80")), true, true);
    check(|c| c.backends[1].servers[0].raw = vec![set("slowstart 5s".to_owned())], true, true);
    check(|c| c.limit_address.as_mut().unwrap().requests = parsed("100/20s"), true, true);
    check(|c| c.backends[1].servers[0].keys = vec![parsed("env:K")], true, true);
}

#[test]
fn another_key_of_the_list_is_data() {
    let templates = Templates::built_in().unwrap();
    let mut config = start();
    for server in &mut config.backends[1].servers {
        server.keys = vec![parsed("env:ONE"), parsed("env:TWO")];
    }
    let first = rendered(&desired(config.clone()), &templates);
    let mut wish = desired(config);
    wish.active_keys = [("ip".to_owned(), 1)].into();
    let second = rendered(&wish, &templates);
    let key = |rendered: &Rendered| {
        let entries = &rendered.maps["maps/keys.map"].entries;
        entries.iter().find(|(name, _)| name == "ip").unwrap().1.clone()
    };
    assert_eq!((key(&first).as_str(), key(&second).as_str()), ("k1 secret-env:ONE", "k2 secret-env:TWO"));
    assert_eq!((first.haproxy_cfg, first.structure), (second.haproxy_cfg, second.structure));
}

#[test]
fn the_id_of_a_server_is_its_shape() {
    let templates = Templates::built_in().unwrap();
    let id_after = |edit: fn(&mut Config)| {
        let mut config = start();
        edit(&mut config);
        let rendered = rendered(&desired(config), &templates);
        rendered.dynamic[&("ip".to_owned(), "a".to_owned())]
    };
    let id = id_after(|_| ());
    assert_eq!(id, id_after(|c| c.backends[1].servers[0].weight = set(Weight::new(7).unwrap())));
    assert_eq!(id, id_after(|c| c.backends[1].servers[0].state = set(AdminState::Maint)));
    assert_eq!(id, id_after(|c| c.backends[1].servers[0].url = parsed("http://198.51.100.9:9000")));
    assert_eq!(id, id_after(|c| c.backends[1].servers.push(server("z", "http://192.0.2.9:80"))));
    assert_ne!(id, id_after(|c| c.backends[1].servers[0].url = parsed("https://192.0.2.1:8000")));
    assert_ne!(id, id_after(|c| c.backends[1].servers[0].tier = 2));
    assert_eq!(id, id_after(|c| c.backends[1].servers[0].maxconn = Some(set(3))));
    assert_ne!(id, id_after(|c| c.backends[1].check.interval = Duration::from_secs(77)));
}

#[test]
fn rotated_keys_and_certificates_are_data() {
    let templates = Templates::built_in().unwrap();
    let mut config = start();
    config.frontends[0].certificates = vec![set("/c.pem".into())];
    let before = desired(config.clone());
    let mut after = desired(config.clone());
    after.secrets.values_mut().for_each(|secret| *secret = Secret::new("sk-new".to_owned()).unwrap());
    let (old, new) = (rendered(&before, &templates), rendered(&after, &templates));
    assert_eq!(old.haproxy_cfg, new.haproxy_cfg);
    assert_ne!(old.maps["maps/keys.map"], new.maps["maps/keys.map"]);
    assert!(new.maps["maps/keys.map"].is_secret && !new.haproxy_cfg.contains("sk-new"));
    assert!(new.maps["maps/keys.map"].entries.iter().all(|(_, value)| value == "k1 sk-new"));

    after.certificates.values_mut().flatten().for_each(|certificate| certificate.digest = Digest::of("renewed"));
    let renewed = rendered(&after, &templates);
    assert_eq!(renewed.haproxy_cfg, old.haproxy_cfg);
    assert_eq!(renewed.lists["crt-lists/api.list"].text(), old.lists["crt-lists/api.list"].text());
    config.frontends[0].certificates.push(set("/d.pem".into()));
    let added = rendered(&desired(config), &templates);
    assert_eq!(added.haproxy_cfg, old.haproxy_cfg);
    assert_eq!(added.lists["crt-lists/api.list"].text(), "/c.pem\n/d.pem\n");
}

#[test]
fn a_template_that_names_certificates_itself_has_no_list_and_may_show_a_renewal() {
    let own = "global\n# crt-lists/api.list\nfrontend api\n{% for c in frontends[0].certificates %}\n\
               # sha256={{ c.digest }}\n bind :443 ssl crt {{ c.path }}\n{% endfor %}\n";
    let templates = Templates::with_root("own.cfg", own).unwrap();
    let mut config = start();
    config.frontends[0].certificates = vec![set("/c.pem".into())];
    let mut wish = desired(config);
    let before = rendered(&wish, &templates);
    assert!(before.lists.is_empty() && before.haproxy_cfg.contains("ssl crt /c.pem"));
    wish.certificates.values_mut().flatten().for_each(|certificate| certificate.digest = Digest::of("renewed"));
    assert_ne!(rendered(&wish, &templates).structure.digest, before.structure.digest);
}

#[test]
fn weights_are_set_in_front_of_a_hop_and_addresses_behind_it() {
    let desired = desired(start());
    let [dns, ip] = &desired.config.backends[..] else { panic!() };
    assert!(needs_hops(dns) && !needs_hops(ip));
    let names = runtime_names(&desired.config);
    let pair = |proxy: &str, server: &str| (proxy.to_owned(), server.to_owned());
    let hop = &names[&"dns/c".parse().unwrap()];
    assert_eq!((&hop.weight, &hop.address), (&pair("dns", "c"), &pair("dns:c", "c")));
    let direct = &names[&"ip/a".parse().unwrap()];
    assert_eq!((&direct.weight, &direct.address), (&pair("ip", "a"), &pair("ip", "a")));
}

#[test]
fn a_known_structure_renders_the_same_files_whatever_weights_states_and_secrets_became() {
    let templates = Templates::built_in().unwrap();
    let before = rendered(&desired(start()), &templates);
    let mut wish = desired(start());
    for server in wish.servers.values_mut() {
        server.weight = Weight::new(3).unwrap();
        server.state = AdminState::Drain;
    }
    wish.secrets.values_mut().for_each(|secret| *secret = Secret::new("sk-new".to_owned()).unwrap());
    let again = render_of(before.structure.clone(), &wish, &templates, Target::new(3, 0)).unwrap();
    assert_eq!(again, rendered(&wish, &templates));
    assert_ne!(again.haproxy_cfg, before.haproxy_cfg);
}

#[test]
fn the_marker_in_the_file_is_the_digest_of_its_structure() {
    let rendered = rendered(&desired(start()), &Templates::built_in().unwrap());
    let marker = format!("description 'hapilot {}'", rendered.structure.digest.short());
    assert!(rendered.haproxy_cfg.contains(&marker));
    assert_eq!(rendered.structure.digest, Digest::of(rendered.structure.text()));
}

#[test]
fn five_thousand_servers_render_in_time_that_grows_with_their_number_only() {
    let templates = Templates::built_in().unwrap();
    let of = |count: usize| {
        let backends = (0..count / 50)
            .map(|b| {
                let servers = (0..50).map(|s| server(&format!("s{s:02}"), &format!("http://192.0.2.{s}:{}", 1000 + b)));
                backend(&format!("b{b:03}"), Provider::Vllm, servers.collect())
            })
            .collect();
        desired(config(vec![frontend("api", "*:80", "b000")], backends))
    };
    let time = |desired: &Desired| {
        let start = Instant::now();
        let rendered = rendered(desired, &templates);
        (start.elapsed(), rendered.haproxy_cfg.lines().count())
    };
    let (small, large) = (of(500), of(5000));
    let (short, _) = time(&small);
    let (long, lines) = time(&large);
    println!("500 servers {short:?}, 5000 servers {long:?}, {lines} lines");
    // Ten times the work; quadratic would be a hundred.
    assert!(long < short * 40 + Duration::from_millis(50), "{short:?} {long:?}");
}

#[test]
fn servers_without_their_ids_in_a_template_of_the_operators_own_are_structure() {
    let own = "global\n    description '{{ marker }}'\n{% for backend in backends %}\nbackend {{ backend.name }}\n\
               {% for server in backend.servers %}    server {{ server.name }} {{ server.line.address }}:{{ server.line.port }} \
               weight {{ server.line.weight }}{% if ids %} id {{ server.line.id }}{% endif %}\n{% endfor %}{% endfor %}\n";
    let render_with = |own: &str, servers: usize| {
        let servers = (0..servers).map(|n| server(&format!("s{n}"), &format!("http://192.0.2.{}:80", n + 1))).collect();
        let config = config(vec![frontend("api", "*:80", "chat")], vec![backend("chat", Provider::Vllm, servers)]);
        let templates = Templates::with_root("own.cfg", own).unwrap();
        render(&desired(config), &templates, Target::new(3, 2)).unwrap()
    };
    let (without, with) = (own.replace("{% if ids %}", "{% if false %}"), own.replace("{% if ids %}", "{% if true %}"));
    let is_structure = |own: &str| render_with(own, 2).structure.digest != render_with(own, 3).structure.digest;
    assert!(is_structure(&without) && render_with(&without, 2).dynamic.is_empty());
    assert!(!is_structure(&with) && render_with(&with, 2).dynamic.len() == 2);
}
