//! Edits of the operator's file while the agent runs that need no reload: weight, state, address, routes, limits.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{get, post};
use super::support::stage::{LENIENT, SPARE, Stage, swapped};
use super::support::{PATIENCE, wait_for};
use std::time::Duration;

/// A node whose probes stay out of the way.
fn quiet(binary: &Binary) -> Stage {
    Stage::running(binary, |text| swapped(&text, "interval = \"500ms\"", "interval = \"2s\""))
}

/// Asserts what holds after every edit that the runtime takes over.
fn check(binary: &Binary, stage: &Stage, what: &str, took: Duration, worker: nix::unistd::Pid, in_file: &str) {
    println!("{} {what}: effective after {} ms", binary.version, took.as_millis());
    assert!(took < LENIENT, "{what}: {took:?}");
    assert_eq!(stage.worker(), worker, "{what}: a reload");
    let live = stage.read("haproxy.cfg");
    assert!(live.contains(in_file), "{what}: {in_file:?} in\n{live}");
    let check = stage.check_live(binary);
    assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""), "{what}");
}

#[test]
fn a_weight_edit_is_live_without_a_reload() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let (worker, (before, _)) = (stage.worker(), stage.revisions());
        let edited = stage.edit("weight = 100 # a", "weight = 40 # a");
        let took = stage.effect("weight 40", edited, |stage| stage.weight("a") == 40);
        check(&binary, &stage, "weight", took, worker, "weight 40");
        wait_for_revision(&stage, before + 1);
        let newest = &stage.json(&["history"])[0];
        assert_eq!(newest["how"], "runtime", "{newest}");
    }
}

#[test]
fn health_follows_the_routes_without_a_reload() {
    for binary in binaries() {
        let port = super::support::port::free_port();
        let address = format!("127.0.0.1:{port}");
        // A frontend whose one backend serves nobody.
        let stage = Stage::with_haproxy(&binary, |text| {
            let frontend = format!(
                "[frontend.second]\nbind = [\"{address}\"]\nbackend = \"idle\"\nroutes = [{{ path = [\"/y\"], backend = \"idle\" }}]\n"
            );
            let backend = "[backend.idle.server.i]\nurl = \"http://127.0.0.1:9\"\nstate = \"maint\"\n";
            format!("{text}\n{frontend}\n{backend}")
        });
        let (worker, before) = (stage.worker(), stage.text());
        let health = || get(&address, "/health").map(|reply| (reply.status, reply.body)).expect("an answer");
        assert_eq!(health().0, 503, "{}", binary.version);
        stage.edit("path = [\"/y\"], backend = \"idle\"", "path = [\"/x\"], backend = \"chat\"");
        stage.done(&["apply"]);
        let (status, body) = health();
        assert_eq!(status, 200, "{}", binary.version);
        assert!(String::from_utf8_lossy(&body).contains("200 OK"), "{body:?}");
        stage.write_file(&before);
        stage.done(&["apply", "--force"]);
        assert_eq!(health().0, 503, "{}", binary.version);
        assert_eq!(stage.worker(), worker, "a reload");
    }
}

#[test]
fn a_state_edit_is_live_without_a_reload() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let worker = stage.worker();
        // srv_admin_state: 0x08 is drain by command.
        let edited = stage.edit("state = \"ready\" # b", "state = \"drain\" # b");
        let is_drain = |stage: &Stage| stage.state("chat", "b", "srv_admin_state") == "8" || stage.weight("b") == 0;
        let took = stage.effect("drain", edited, is_drain);
        check(&binary, &stage, "drain", took, worker, "weight 0");
        for _ in 0..6 {
            let reply = get(&stage.address, "/v1/models").expect("an answer");
            assert_ne!(reply.header("x-served-by"), Some("chat/b"));
        }

        let edited = stage.edit("state = \"drain\" # b", "state = \"maint\" # b");
        let took = stage.effect("maint", edited, |stage| stage.state("chat", "b", "srv_admin_state") != "8");
        check(&binary, &stage, "maint", took, worker, "disabled");

        let edited = stage.edit("state = \"maint\" # b", "state = \"ready\" # b");
        let took = stage.effect("ready", edited, |stage| stage.is_ready("b") && stage.weight("b") == 100);
        check(&binary, &stage, "ready", took, worker, "weight 100");
        assert!(!stage.read("haproxy.cfg").contains("disabled"));
    }
}

#[test]
fn an_address_edit_is_live_without_a_reload() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let worker = stage.worker();
        let (a, b) = (stage.mock_address("a"), stage.mock_address(SPARE));
        assert_eq!(stage.target("a"), a);
        let edited = stage.edit(&format!("http://{a}/v1\" # a"), &format!("http://{b}/v1\" # a"));
        let took = stage.effect("the other port", edited, |stage| stage.target("a") == b);
        check(&binary, &stage, "port", took, worker, &b);
        let elsewhere = b.replace("127.0.0.1", "127.0.0.2");
        let edited = stage.edit(&format!("http://{b}/v1\" # a"), &format!("http://{elsewhere}/v1\" # a"));
        let took = stage.effect("the other address", edited, |stage| stage.target("a") == elsewhere);
        check(&binary, &stage, "address", took, worker, &elsewhere);
        let edited = stage.edit(&format!("http://{elsewhere}/v1\" # a"), &format!("http://{a}/v1\" # a"));
        let took = stage.effect("both", edited, |stage| stage.target("a") == a);
        check(&binary, &stage, "address and port", took, worker, &a);
    }
}

#[test]
fn a_route_edit_is_live_without_a_reload() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let worker = stage.worker();
        let served_by = |path: &str| {
            let reply = post(&stage.address, path, r#"{"model":"mock-small","input":"x","messages":[]}"#);
            reply.expect("an answer").header("x-served-by").unwrap_or_default().to_owned()
        };
        assert_eq!(served_by("/v1/embeddings"), "embeddings/e");
        let edited = stage.edit("path = [\"/v1/embeddings\"]", "path = [\"/v1/chat\"]");
        let took = stage.effect("the route", edited, |_| served_by("/v1/chat/completions") == "embeddings/e");
        check(&binary, &stage, "route", took, worker, "maps/routes.api.paths.map");
        assert!(served_by("/v1/embeddings").starts_with("chat/"));
        assert!(stage.read("maps/routes.api.paths.map").contains("/v1/chat"));
    }
}

#[test]
fn a_limit_edit_is_live_without_a_reload() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let worker = stage.worker();
        assert_eq!(get(&stage.address, "/v1/models").expect("an answer").status, 200);
        let edited = stage.edit("requests = \"10000000/10s\"\nburst    = 1000", "requests = \"1/10s\"\nburst    = 0");
        let status = || get(&stage.address, "/v1/models").expect("an answer").status;
        let took = stage.effect("the limit", edited, |_| status() == 429);
        check(&binary, &stage, "limit", took, worker, "maps/limits.map");
    }
}

#[test]
fn two_quick_edits_end_in_the_second() {
    for binary in binaries() {
        let stage = quiet(&binary);
        let (worker, (before, _)) = (stage.worker(), stage.revisions());
        stage.edit("weight = 100 # a", "weight = 11 # a");
        let edited = stage.edit("weight = 11 # a", "weight = 22 # a");
        let took = stage.effect("weight 22", edited, |stage| stage.weight("a") == 22);
        check(&binary, &stage, "two edits", took, worker, "weight 22");
        wait_for_revision(&stage, before + 1);
        assert_eq!(stage.revisions().0, before + 1, "two edits within the quiet time are one revision");
    }
}

fn wait_for_revision(stage: &Stage, count: usize) {
    wait_for("the revision", LENIENT, || (stage.revisions().0 >= count).then_some(()));
}

#[test]
fn files_behind_links_to_elsewhere_are_taken_over_when_they_change_there() {
    for binary in binaries() {
        let mut stage =
            Stage::with_haproxy(&binary, |text| swapped(&text, "interval = \"500ms\"", "interval = \"2s\""));
        // A checkout, and a link to it whose own directory never changes.
        fs_err::create_dir(stage.path("repo")).expect("a directory");
        for name in ["hapilot.toml", "key"] {
            fs_err::rename(stage.path(name), stage.path("repo").join(name)).expect("a rename");
            fs_err::os::unix::fs::symlink(format!("repo/{name}"), stage.path(name)).expect("a link");
        }
        stage.start_agent();
        stage.wait_for_health();
        let worker = stage.worker();
        let text = swapped(&stage.text(), "weight = 100 # a", "weight = 40 # a");
        let edited = std::time::Instant::now();
        super::support::write(stage.path("repo/hapilot.toml"), text);
        let took = stage.effect("weight 40", edited, |stage| stage.weight("a") == 40);
        check(&binary, &stage, "behind a link", took, worker, "weight 40");
        let renewed = std::time::Instant::now();
        super::support::write(stage.path("repo/key"), "sk-renewed");
        let took = stage.effect("the key", renewed, |stage| stage.read("maps/keys.map").contains("sk-renewed"));
        check(&binary, &stage, "a key behind a link", took, worker, "weight 40");
    }
}

#[test]
fn an_edit_that_takes_half_a_backend_away_waits_for_force() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let text = stage.text();
        let without = |text: &str| {
            let mut keep = true;
            let lines = text.lines().filter(|line| {
                if line.starts_with('[') {
                    keep = !line.starts_with("[backend.chat.server.b") && !line.starts_with("[backend.chat.server.c");
                }
                keep
            });
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        stage.write_file(&without(&text));
        let told = wait_for("the refusal", PATIENCE, || {
            let problems = stage.json(&["status"])["problems"].to_string();
            problems.contains("removes 2 of the 3 servers of backend chat").then_some(problems)
        });
        let file = stage.file();
        assert!(told.contains(&format!("hapilot -c {} apply --force", file.display())), "{told}");
        let plan = stage.done(&["plan"]);
        assert!(plan.contains("--force"), "{plan}");
        let refused = stage.cli(&["apply"]);
        assert!(refused.code == Some(1) && refused.stderr.contains("removes 2 of the 3"), "{}", refused.stderr);
        assert_eq!((stage.weight("b"), stage.revisions()), (100, (1, 1)));

        stage.done(&["apply", "--force"]);
        assert_eq!(stage.revisions(), (2, 2));
        assert!(!stage.read("haproxy.cfg").contains("server b "));
        // The way back grows again, and nobody asks.
        stage.done(&["rollback"]);
        assert_eq!((stage.weight("b"), stage.revisions()), (100, (3, 3)));
    }
}
