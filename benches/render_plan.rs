//! From the operator's text to a plan, step by step: `cargo bench --bench render_plan`.
//!
//! The plan is the usual one: HAProxy runs everything, and one weight in ten has changed. Two references run beside it:
//! the same number of `server` lines with plain `format!` and a digest, and `haproxy -c` on the rendered file, by the
//! first HAProxy that HAPILOT_TEST_HAPROXY names (default `haproxy`).

mod support;

use hapilot::config;
use hapilot::desired::Desired;
use hapilot::model::{AdminState, Digest, Host, OperState, ServerId, Weight};
use hapilot::plan::{Action, FileState, Observed, Question, Runtime, RuntimeServer, Version, decide, marker};
use hapilot::render::{self, Rendered, Target, Templates};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{PER_BACKEND, Pair, Turns, haproxies, median, ms};
use tempfile::TempDir;

/// Time for one number of servers; at least [`LEAST_TURNS`] whatever it takes.
const BUDGET: Duration = Duration::from_secs(10);
const LEAST_TURNS: usize = 5;
const MOST_TURNS: usize = 200;

fn main() {
    let haproxy = haproxies().into_iter().next();
    let version = haproxy.as_ref().map_or(Version { major: 3, minor: 2, patch: 0 }, |(_, version)| *version);
    println!("From the file's text to a plan of runtime commands for HAProxy {version}, medians of alternating runs;");
    println!("in brackets the median ratio of total to reference:\n");
    println!(
        "{:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>20} {:>18} {:>6}",
        "servers", "parse", "desired", "render", "plan", "total", "plain lines", "haproxy -c", "turns"
    );
    for servers in [10, 1_000, 5_000] {
        measure(servers, version, haproxy.as_ref().map(|(binary, _)| binary.as_str()));
    }
}

fn measure(servers: usize, version: Version, haproxy: Option<&str>) {
    let text = toml(servers, "/var/tmp/bench");
    let templates = Templates::built_in().expect("the built-in templates parse");
    let target = Target::new(version.major, version.minor);
    let rendered =
        |desired: &Desired| render::render(desired, &templates, target).expect("the desired state can be rendered");
    let config = Arc::new(config::parse("bench.toml", &text, "bench").expect("the file is right"));
    let before = rendered(&desired(&config, &BTreeMap::new()));
    let observed = observed(&config, &before, version);
    let weights: BTreeMap<ServerId, Weight> = config
        .servers()
        .step_by(10)
        .map(|(backend, server)| (ServerId::new(backend.name.clone(), server.name.clone()), Weight::ZERO))
        .collect();
    let check = haproxy.map(|binary| Check::new(binary, &before));

    let begun = Instant::now();
    let (mut beside_lines, mut beside_check) = (Turns::default(), Turns::default());
    let mut parts: [Vec<Duration>; 4] = Default::default();
    while parts[0].len() < MOST_TURNS && (parts[0].len() < LEAST_TURNS || begun.elapsed() < BUDGET) {
        let (lines, _) = timed(|| plain(servers));
        let (parse, config) = timed(|| Arc::new(config::parse("bench.toml", &text, "bench").expect("the file")));
        let (join, desired) = timed(|| desired(&config, &weights));
        let (render, rendered) = timed(|| rendered(&desired));
        let (plan, found) = timed(|| {
            let names = render::runtime_names(&config);
            decide(&Question {
                desired: &desired,
                rendered: &rendered,
                names: &names,
                observed: &observed,
                loaded_structure: Some(&before.structure.text()),
                live_config: &rendered.haproxy_cfg,
                may_replace_foreign_file: false,
                reload_instead: None,
            })
        });
        let Action::Runtime(steps) = found.action else { panic!("{:?}", found.action) };
        assert_eq!(steps.len(), weights.len());
        let total = parse + join + render + plan;
        beside_lines.add(total, lines);
        if let Some(check) = &check {
            beside_check.add(total, timed(|| check.run()).0);
        }
        for (all, part) in parts.iter_mut().zip([parse, join, render, plan]) {
            all.push(part);
        }
    }
    let turns = parts[0].len();
    let [parse, join, render, plan] = parts.each_mut().map(|part| ms(median(part)));
    let lines = beside_lines.pair();
    let total = ms(lines.subject);
    let beside = |pair: Pair| format!("{} ({:.2}x)", ms(pair.reference), pair.ratio);
    let lines = beside(lines);
    let check = check.map_or_else(|| "-".to_owned(), |_| beside(beside_check.pair()));
    println!("{servers:>7} {parse:>9} {join:>9} {render:>9} {plan:>9} {total:>9} {lines:>20} {check:>18} {turns:>6}");
}

/// `haproxy -c` on files of its own.
struct Check {
    binary: String,
    dir: TempDir,
}

impl Check {
    #[expect(clippy::disallowed_methods, reason = "files that nobody else reads")]
    fn new(binary: &str, rendered: &Rendered) -> Self {
        let dir = tempfile::Builder::new().prefix("hapilot-bench-").tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("maps")).expect("a directory for the maps");
        for (name, map) in rendered.maps.iter() {
            std::fs::write(dir.path().join(name), map.text()).expect("a map can be written");
        }
        std::fs::write(dir.path().join("haproxy.cfg"), &rendered.haproxy_cfg).expect("haproxy.cfg can be written");
        Self { binary: binary.to_owned(), dir }
    }

    fn run(&self) {
        let mut command = Command::new(&self.binary);
        command.args(["-c", "-f"]).arg(self.dir.path().join("haproxy.cfg"));
        let output = command.output().expect("HAProxy can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn desired(config: &Arc<config::Config>, weights: &BTreeMap<ServerId, Weight>) -> Desired {
    Desired::new(config.clone(), weights, &BTreeMap::new(), BTreeMap::new(), BTreeMap::new())
}

/// HAProxy serves exactly what was rendered.
fn observed(config: &config::Config, rendered: &Rendered, version: Version) -> Observed {
    let names = render::runtime_names(config);
    let server = |(backend, server): (&config::Backend, &config::Server)| {
        let Host::Ip(ip) = server.url.host else { panic!("the bench has addresses only") };
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        let runs = RuntimeServer {
            id: rendered.dynamic[&names[&id].weight],
            weight: server.weight.value,
            maxconn: 0,
            admin: AdminState::Ready,
            oper: OperState::Up,
            address: ip.to_string(),
            port: server.url.port,
            fqdn: None,
        };
        (names[&id].weight.clone(), runs)
    };
    Observed {
        scripts: BTreeMap::new(),
        config: Some(FileState { digest: Digest::of(&rendered.haproxy_cfg), is_ours: true, is_intact: true }),
        maps: rendered.maps.iter().map(|(name, map)| (name.clone(), Digest::of(map.text()))).collect(),
        lists: BTreeMap::new(),
        certificates: Default::default(),
        runtime: Some(Runtime {
            pid: 1,
            version,
            description: Some(marker(&rendered.structure.digest)),
            uptime_s: 1,
            maxconn: 1000,
            most_maxconn: 1000,
            servers: config.servers().map(server).collect(),
            maps: rendered.maps.iter().map(|(name, map)| (name.clone(), Arc::new(map.entries.clone()))).collect(),
            master: None,
        }),
    }
}

/// An operator's file with that many servers. `dir` is where HAProxy's files and sockets are.
fn toml(servers: usize, dir: &str) -> String {
    let mut text = format!(
        "[node]\nname = \"bench\"\nstate = \"{dir}/state\"\n\n[haproxy]\nconfig = \"{dir}/haproxy.cfg\"\n\
         admin_socket = \"{dir}/admin.sock\"\nmaster_socket = \"{dir}/master.sock\"\nuser = \"\"\ngroup = \"\"\n\
         log = \"\"\nmaxconn = 1000\nthreads = 2\n\n\
         [frontend.api]\nbind = [\"127.0.0.1:18080\"]\nbackend = \"b0\"\n"
    );
    for number in 0..servers {
        let (backend, member) = (number / PER_BACKEND, number % PER_BACKEND);
        if member == 0 {
            text += &format!("\n[backend.b{backend}]\nbalance = \"roundrobin\"\n");
        }
        let (high, low) = (number / 250 % 250, number % 250 + 1);
        text += &format!(
            "\n[backend.b{backend}.server.s{member}]\nurl = \"http://10.0.{high}.{low}:8000/v1\"\nweight = 100\n"
        );
    }
    text
}

/// How long something takes, once.
fn timed<T>(mut work: impl FnMut() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let result = black_box(work());
    (begun.elapsed(), result)
}

/// The reference: the same server lines, without templates, provenance or a second pass.
fn plain(servers: usize) -> Digest {
    let mut text = String::new();
    for number in 0..servers {
        let (high, low) = (number / 250 % 250, number % 250 + 1);
        text += &format!(
            "    server s{number} 10.0.{high}.{low}:8000 weight 100 check inter 10s fastinter 1s downinter 5s fall 3 rise 2\n"
        );
    }
    Digest::of(text)
}
