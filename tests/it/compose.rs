//! docker-compose.yml: a cluster from nothing, through the death of a HAProxy, and nothing left of it.
//!
//! The images take the binary under test instead of compiling one. `scripts/measure/compose` does more, and in numbers.

use super::support::agent;
use super::support::process::{Finished, run};
use super::support::{PATIENCE, skip_or_demand, wait_for, write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Three images on a machine that has none of their packages yet.
const BUILD: Duration = Duration::from_secs(420);
/// The engine starts and stops fourteen containers.
const ENGINE: Duration = Duration::from_secs(120);
/// Through the virtual address.
const QUESTION: &str = "http://198.51.100.100:8080/v1/models";

fn docker(words: &[&str], limit: Duration) -> Finished {
    let mut command = Command::new("docker");
    command.args(words).current_dir(ROOT).env_remove("COMPOSE_FILE").env_remove("COMPOSE_PROFILES");
    run(command, limit)
}

/// A project of its own name; everything of it goes with the value.
struct Project(String);

impl Project {
    fn compose(&self, words: &[&str], limit: Duration) -> Finished {
        let files = ["compose", "-p", &self.0, "-f", "docker-compose.yml", "-f", "compose/prebuilt.yml"];
        docker(&[&files[..], words].concat(), limit)
    }

    /// The same, where it must work.
    fn must(&self, words: &[&str], limit: Duration) -> String {
        let done = self.compose(words, limit);
        assert_eq!(done.code, Some(0), "{words:?}: {}", done.stderr);
        done.stdout
    }

    /// The node that answers through the virtual address now.
    fn owner(&self) -> Option<String> {
        let curl = ["curl", "-fsS", "-m2", "-o/dev/null", "-w", "%header{x-node}", QUESTION];
        let done = self.compose(&[&["exec", "-T", "mock1"][..], &curl].concat(), PATIENCE);
        (done.code == Some(0)).then_some(done.stdout)
    }

    /// Asks until somebody for whom `is_right` answers.
    fn wait_for_owner(&self, what: &str, is_right: impl Fn(&str) -> bool) -> String {
        wait_for(what, PATIENCE, || self.owner().filter(|node| is_right(node)))
    }

    /// Asks both agents until each of these was told, with a request before each: one that came before an agent listened
    /// to its HAProxy is not counted.
    fn wait_for_metrics(&self, names: &[String]) {
        let ask = |ip: &str| {
            let question = ["exec", "-T", "mock1", "curl", "-fsS", "-m2", &format!("http://{ip}:9440/metrics")];
            self.compose(&question, PATIENCE).stdout
        };
        wait_for(&format!("{names:?}"), PATIENCE, || {
            self.owner()?;
            let told = ask("198.51.100.11") + &ask("198.51.100.12");
            let is_told = |name: &String| {
                told.lines().any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")))
            };
            names.iter().all(is_told).then_some(())
        });
    }

    fn down(&self) -> Finished {
        self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "3", "--rmi", "all"], ENGINE)
    }

    /// Whatever of it is still there.
    fn left(&self) -> Vec<String> {
        let label = format!("label=com.docker.compose.project={}", self.0);
        let images = format!("reference={}-*", self.0);
        let kinds: [(&[&str], &String); 4] = [
            (&["container", "ls", "--all"], &label),
            (&["network", "ls"], &label),
            (&["volume", "ls"], &label),
            (&["image", "ls"], &images),
        ];
        let list = |(kind, filter): (&[&str], &String)| {
            let done = docker(&[kind, &["--quiet", "--filter", filter]].concat(), ENGINE);
            assert_eq!(done.code, Some(0), "{}", done.stderr);
            done.stdout.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        kinds.into_iter().flat_map(list).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for words in [&["ps", "--all"][..], &["logs", "--tail", "20"]] {
                let said = self.compose(words, ENGINE);
                eprintln!("{}{}", said.stdout, said.stderr);
            }
            // What is wrong was said already.
            let _ = self.down();
        }
    }
}

/// What the images are made of in place of a compiler's work; whether the cluster can run here at all.
fn prepare() -> Result<(), String> {
    let has = |words: &[&str]| Command::new("docker").args(words).output().is_ok_and(|done| done.status.success());
    if !has(&["info"]) || !has(&["compose", "version"]) {
        return Err("no Docker engine with Compose is reached".to_owned());
    }
    let image = Path::new(ROOT).join("target/image");
    fs_err::create_dir_all(&image).map_err(|e| e.to_string())?;
    fs_err::copy(env!("CARGO_BIN_EXE_hapilot"), image.join("hapilot")).map_err(|e| e.to_string())?;
    let mount = format!("{}:/image:ro", image.display());
    let tried = ["run", "--rm", "--network", "none", "-v", &mount, "debian:trixie-slim", "/image/hapilot", "--version"];
    let tried = docker(&tried, ENGINE);
    match tried.code {
        Some(0) => Ok(()),
        _ => Err(format!("the binary that was built here does not run on Debian 13: {}", tried.stderr)),
    }
}

/// Every metric that is asked for in the dashboard.
fn metrics_of_the_dashboard() -> Vec<String> {
    let text = fs_err::read_to_string(Path::new(ROOT).join("compose/grafana/dashboards/hapilot.json")).expect("a file");
    let board: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let questions = board["panels"].as_array().expect("panels").iter().flat_map(|panel| panel["targets"].as_array());
    let texts = questions.flatten().map(|question| question["expr"].as_str().expect("an expression"));
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = texts.flat_map(|text| text.split(move |c| !is_part(c)));
    let names: Vec<String> = names.filter(|word| word.starts_with("hapilot_")).map(str::to_owned).collect();
    assert!(names.len() > 10, "{names:?}");
    names
}

#[test]
fn a_cluster_comes_up_survives_a_haproxy_and_leaves_nothing() {
    if let Err(why) = prepare() {
        skip_or_demand(&why);
        return;
    }
    let project = Project(format!("hapilot-test-{}", std::process::id()));
    project.must(&["build"], BUILD);
    project.must(&["up", "--detach"], ENGINE);
    let first = project.wait_for_owner("an answer through the virtual address", |_| true);
    let network = docker(&["network", "ls", "--quiet", "--filter", &format!("name={}_cluster", project.0)], ENGINE);
    let bridge = format!("/sys/class/net/br-{}", network.stdout.trim());
    assert!(Path::new(&bridge).exists(), "{bridge}");

    project.wait_for_metrics(&metrics_of_the_dashboard());

    project.must(&["kill", &format!("{first}-haproxy")], ENGINE);
    let second = project.wait_for_owner("the other node", |node| node != first);
    assert_eq!([first.as_str(), &second].iter().filter(|node| ["lb1", "lb2"].contains(node)).count(), 2);
    // Keepalived may still be about to say what it is.
    let status = || project.compose(&["exec", "-T", &format!("{second}-hapilot"), "hapilot", "status"], PATIENCE);
    wait_for("a node without problems", PATIENCE, || (status().code == Some(0)).then_some(()));

    let down = project.down();
    assert_eq!(down.code, Some(0), "{}", down.stderr);
    assert_eq!(project.left(), Vec::<String>::new());
    assert!(!Path::new(&bridge).exists(), "{bridge}");
}

#[test]
fn the_images_with_the_binary_share_one_build_of_it() {
    let stages = ["Dockerfile", "keepalived/Dockerfile"].map(|name| {
        let text = fs_err::read_to_string(Path::new(ROOT).join(name)).expect(name);
        let (_, rest) = text.split_once(" AS build\n").expect("a stage that builds");
        rest.split_once(" AS binary\n").expect("a stage that takes").0.to_owned()
    });
    assert!(stages[0].contains("cargo build --locked --release"), "{}", stages[0]);
    assert_eq!(stages[0], stages[1]);
}

#[test]
fn both_nodes_can_read_the_file_of_the_cluster() {
    let text = fs_err::read_to_string(Path::new(ROOT).join("compose/hapilot/hapilot.toml")).expect("the file");
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name).to_str().expect("a path of ASCII").to_owned();
    let (file, key) = (place("hapilot.toml"), place("heartbeat"));
    assert!(text.contains("/run/keys/heartbeat"));
    write(&file, text.replace("/run/keys/heartbeat", &key));
    write(&key, "a key for two nodes of a test");
    for node in ["lb1", "lb2"] {
        let rendered = agent::run(&["-c", &file, "--node", node, "render", "keepalived"]);
        assert_eq!(rendered.code, Some(0), "{}", rendered.stderr);
        assert!(rendered.stdout.contains("198.51.100.100/24 dev eth0"), "{}", rendered.stdout);
        let rendered = agent::run(&["-c", &file, "--node", node, "render"]);
        assert_eq!(rendered.code, Some(0), "{}", rendered.stderr);
    }
}
