//! The decision as a table: one thing differs, and exactly that is planned.

use super::{Action, FileState, Observed, Plan, Question, Runtime, RuntimeServer, decide, marker};
use crate::config::{self, Config};
use crate::desired::Desired;
use crate::model::{AdminState, Digest, Host, OperState, ServerId, Weight};
use crate::render::{self, Rendered, Target, Templates};
use std::collections::BTreeMap;
use std::sync::Arc;

const FILE: &str = r#"
[frontend.api]
bind = ["127.0.0.1:8080"]
backend = "chat"
routes = [{ path = ["/e"], backend = "other" }]
[backend.chat.server.a]
url = "http://192.0.2.1:8000"
[backend.chat.server.b]
url = "http://192.0.2.2:8000"
[backend.other.server.c]
url = "http://c.example:8000"
"#;

struct Scene {
    live_config: String,
    desired: Desired,
    rendered: Rendered,
    observed: Observed,
}

fn wish(text: &str) -> (Desired, Rendered) {
    let config: Config = config::parse("test.toml", text, "lb1").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let none = BTreeMap::new();
    let desired = Desired::new(Arc::new(config), &none, &BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let rendered = render::render(&desired, &Templates::built_in().unwrap(), Target::new(3, 0)).unwrap();
    (desired, rendered)
}

/// HAProxy runs exactly `FILE`.
fn scene() -> Scene {
    let (desired, rendered) = wish(FILE);
    let names = render::runtime_names(&desired.config);
    let server = |(backend, server): (&config::Backend, &config::Server)| {
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        let name = names[&id].weight.clone();
        let (address, fqdn) = match &server.url.host {
            Host::Ip(ip) => (ip.to_string(), None),
            Host::Dns(name) => (String::new(), Some(name.clone())),
        };
        let runs = RuntimeServer {
            id: rendered.dynamic.get(&name).copied().unwrap_or(1),
            weight: server.weight.value,
            maxconn: 0,
            admin: AdminState::Ready,
            oper: OperState::Up,
            address,
            port: server.url.port,
            fqdn,
        };
        (name, runs)
    };
    let observed = Observed {
        scripts: BTreeMap::new(),
        config: Some(FileState { digest: Digest::of(&rendered.haproxy_cfg), is_ours: true, is_intact: true }),
        maps: rendered.maps.iter().map(|(name, map)| (name.clone(), Digest::of(map.text()))).collect(),
        lists: BTreeMap::new(),
        certificates: Default::default(),
        runtime: Some(Runtime {
            pid: 7,
            version: "3.0.11".parse().unwrap(),
            description: Some(marker(&rendered.structure.digest)),
            uptime_s: 1,
            maxconn: 10_000,
            most_maxconn: 10_000,
            servers: desired.config.servers().map(server).collect(),
            maps: rendered.maps.iter().map(|(name, map)| (name.clone(), Arc::new(map.entries.clone()))).collect(),
            master: None,
        }),
    };
    Scene { live_config: rendered.haproxy_cfg.clone(), desired, rendered, observed }
}

fn plan(scene: &Scene) -> Plan {
    decide(&Question {
        desired: &scene.desired,
        rendered: &scene.rendered,
        names: &render::runtime_names(&scene.desired.config),
        observed: &scene.observed,
        loaded_structure: None,
        live_config: &scene.live_config,
        may_replace_foreign_file: false,
        reload_instead: None,
    })
}

/// Another file is wanted than the one that runs.
#[track_caller]
fn check_edit(from: &str, to: &str, expected: &[&str]) {
    assert!(FILE.contains(from));
    let mut scene = scene();
    (scene.desired, scene.rendered) = wish(&FILE.replacen(from, to, 1));
    assert_eq!(told(&plan(&scene)), expected);
}

/// Something else runs than the file says.
#[track_caller]
fn check_drift(change: impl FnOnce(&mut Runtime), expected: &[&str]) {
    let mut scene = scene();
    change(scene.observed.runtime.as_mut().unwrap());
    let plan = plan(&scene);
    assert!(plan.files.is_empty());
    assert_eq!(told(&plan), expected);
}

fn told(plan: &Plan) -> Vec<String> {
    match &plan.action {
        Action::Nothing => vec![],
        Action::Start => vec!["start".to_owned()],
        Action::Runtime(steps) => steps.iter().map(ToString::to_string).collect(),
        Action::Reload(_) => vec!["reload".to_owned()],
    }
}

fn server<'a>(runtime: &'a mut Runtime, name: &str) -> &'a mut RuntimeServer {
    runtime.servers.get_mut(&("chat".to_owned(), name.to_owned())).unwrap()
}

#[test]
fn what_runs_as_wanted_needs_nothing() {
    assert!(plan(&scene()).is_empty());
}

#[test]
fn what_the_runtime_takes_over_is_no_reload() {
    check_edit("[backend.chat.server.a]", "[backend.chat.server.a]\nweight = 7", &["weight chat/a 100 → 7"]);
    check_edit(
        "[backend.chat.server.a]",
        "[backend.chat.server.a]\nstate = \"maint\"",
        &["state chat/a ready → maint"],
    );
    check_edit("[backend.chat.server.a]", "[backend.chat.server.a]\nmaxconn = 50", &["maxconn chat/a none → 50"]);
    check_edit("[backend.other.server.c]", "[backend.other.server.c]\nmaxconn = 50", &["maxconn other/c none → 50"]);
    check_edit("[frontend.api]", "[haproxy]\nmaxconn = 5000\n[frontend.api]", &["maxconn of the process 10000 → 5000"]);
    check_edit("192.0.2.1:8000", "192.0.2.9:9000", &["address chat/a 192.0.2.1:8000 → 192.0.2.9:9000"]);
    check_edit("\"/e\"", "\"/f\"", &["routes changed (maps/routes.api.paths.map, 1 entry)"]);
    check_edit(
        "[backend.other.",
        "[backend.chat.server.z]\nurl = \"http://192.0.2.3:1\"\n[backend.other.",
        &["add chat/z 192.0.2.3:1 ready"],
    );
    check_edit("[backend.chat.server.b]\nurl = \"http://192.0.2.2:8000\"\n", "", &["remove chat/b"]);
}

#[test]
fn what_it_cannot_take_over_is_a_reload() {
    check_edit("[frontend.api]", "[frontend.api]\ntimeout = { client = \"7s\" }", &["reload"]);
    check_edit("http://192.0.2.1:8000\"", "https://192.0.2.1:8000\"\ntls = { verify = false }", &["reload"]);
    check_edit("[backend.chat.server.a]", "[backend.chat.server.a]\ntier = 2", &["reload"]);
    check_edit("[frontend.api]", "[haproxy]\nmaxconn = 10001\n[frontend.api]", &["reload"]);
    check_edit("c.example:8000", "c.example:8001", &["reload"]);
    check_edit("c.example", "d.example", &["reload"]);
}

#[test]
fn drift_is_put_right_by_what_does_it() {
    check_drift(|runtime| server(runtime, "a").weight = Weight::new(3).unwrap(), &["weight chat/a 3 → 100"]);
    check_drift(|runtime| server(runtime, "b").maxconn = 9, &["maxconn chat/b 9 → none"]);
    check_drift(|runtime| runtime.maxconn = 9, &["maxconn of the process 9 → 10000"]);
    check_drift(|runtime| server(runtime, "a").admin = AdminState::Drain, &["state chat/a drain → ready"]);
    check_drift(|runtime| server(runtime, "b").port = 1, &["address chat/b 192.0.2.2:1 → 192.0.2.2:8000"]);
    check_drift(
        |runtime| drop(runtime.maps.insert("maps/routes.api.paths.map".to_owned(), Arc::default())),
        &["routes changed (maps/routes.api.paths.map, 0 → 1 entry)"],
    );
    check_drift(
        |runtime| drop(runtime.servers.remove(&("chat".to_owned(), "a".to_owned()))),
        &["add chat/a 192.0.2.1:8000 ready"],
    );
    check_drift(
        |runtime| {
            let stranger = server(runtime, "a").clone();
            runtime.servers.insert(("chat".to_owned(), "stranger".to_owned()), stranger);
        },
        &["remove chat/stranger"],
    );
    check_drift(|runtime| drop(runtime.servers.remove(&("other".to_owned(), "c".to_owned()))), &["reload"]);
    check_drift(|runtime| runtime.description = None, &["reload"]);
}

#[test]
fn a_process_that_began_with_less_than_its_file_says_is_left_alone() {
    check_drift(|runtime| (runtime.maxconn, runtime.most_maxconn) = (4000, 4000), &[]);
    check_drift(|runtime| (runtime.maxconn, runtime.most_maxconn) = (300, 4000), &[]);
}

#[test]
fn traffic_is_let_in_before_it_is_taken_away() {
    let mut scene = scene();
    let text = FILE
        .replacen("[backend.chat.server.a]", "[backend.chat.server.a]\nweight = 5\nstate = \"drain\"", 1)
        .replacen("192.0.2.2:8000", "192.0.2.8:8000", 1);
    (scene.desired, scene.rendered) = wish(&text);
    server(scene.observed.runtime.as_mut().unwrap(), "b").admin = AdminState::Maint;
    let expected = [
        "address chat/b 192.0.2.2:8000 → 192.0.2.8:8000",
        "state chat/b maint → ready",
        "state chat/a ready → drain",
        "weight chat/a 100 → 5",
    ];
    assert_eq!(told(&plan(&scene)), expected);
}

#[test]
fn a_file_that_is_not_ours_is_an_obstacle_and_a_missing_haproxy_a_start() {
    let mut scene = scene();
    scene.observed.config.as_mut().unwrap().is_intact = false;
    assert_eq!(plan(&scene).obstacles, [super::Obstacle::EditedByHand]);
    scene.observed.config.as_mut().unwrap().is_ours = false;
    assert_eq!(plan(&scene).obstacles, [super::Obstacle::ForeignConfig]);
    scene.observed.config = None;
    scene.observed.runtime = None;
    let plan = plan(&scene);
    assert_eq!((told(&plan), plan.files.len(), plan.obstacles.len()), (vec!["start".to_owned()], 1, 0));
}

#[test]
fn the_last_server_that_takes_traffic_goes_out_with_the_whole_plan_only() {
    let mut scene = scene();
    let steps = |scene: &Scene| {
        let names = render::runtime_names(&scene.desired.config);
        let steps = super::weight_steps(&scene.desired.servers, &names, scene.observed.runtime.as_ref().unwrap());
        steps.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let id = |name: &str| name.parse::<ServerId>().unwrap();
    scene.desired.servers.get_mut(&id("chat/a")).unwrap().weight = Weight::ZERO;
    assert_eq!(steps(&scene), ["weight chat/a 100 → 0"]);
    scene.desired.servers.get_mut(&id("chat/b")).unwrap().weight = Weight::new(200).unwrap();
    assert_eq!(steps(&scene), ["weight chat/b 100 → 200", "weight chat/a 100 → 0"]);
    // b is to come back, by the plan.
    server(scene.observed.runtime.as_mut().unwrap(), "b").admin = AdminState::Maint;
    assert!(steps(&scene).is_empty());
}
