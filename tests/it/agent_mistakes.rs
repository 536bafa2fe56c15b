//! What must never reach HAProxy: mistakes, lines that it rejects, ports that somebody else holds.

use super::support::haproxy::{Binary, binaries};
use super::support::load::Load;
use super::support::port::free_port;
use super::support::stage::{KEY, Stage, swapped};
use super::support::{PATIENCE, is_root, skip_or_demand, wait_for, write};
use hapilot::model::Digest;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// What an untouched HAProxy looks like.
#[derive(Debug, PartialEq)]
struct Footprint {
    worker: nix::unistd::Pid,
    digest: Digest,
    inode: u64,
}

fn footprint(stage: &Stage) -> Footprint {
    let live = stage.path("haproxy.cfg");
    let inode = fs_err::metadata(&live).expect("the live file").ino();
    Footprint { worker: stage.worker(), digest: Digest::of(stage.read("haproxy.cfg")), inode }
}

/// Ten mistakes of ten kinds in a good file.
fn with_ten_mistakes(text: &str) -> String {
    let swaps = [
        ("maxconn       = 1000", "maxconn = 0"),
        ("threads       = 2", "thraeds = 2"),
        ("log           = \"\"", "hard_stop_after = \"10 minutes\""),
        ("group         = \"\"", "template = \"templates/haproxy.cfg\""),
        ("backend = \"chat\"", "backend = \"chatt\""),
        ("requests = \"10000000/10s\"", "requests = \"many\""),
        ("balance  = \"roundrobin\"", "balance = \"static-rr\""),
        ("rise     = 2", "rise = \"2\""),
        ("weight = 100 # a", "weight = 1000"),
        ("state = \"ready\" # b", "state = \"drained\""),
    ];
    swaps.iter().fold(text.to_owned(), |text, (from, to)| swapped(&text, from, to))
}

#[test]
fn ten_mistakes_are_ten_diagnostics_and_touch_nothing() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        let (good, before) = (stage.text(), footprint(&stage));
        stage.write_file(&with_ten_mistakes(&good));
        stage.agent().wait_for_output("10 errors");

        let check = stage.cli(&["check"]);
        assert_eq!(check.code, Some(2), "{}", check.stderr);
        assert_eq!(check.stderr.matches("error[").count(), 10, "{}", check.stderr);
        let log = stage.agent().stderr();
        assert_eq!(log.matches("error[").count(), 10, "all of them in the log:\n{log}");
        let json = stage.json(&["check"]);
        assert_eq!(
            json["diagnostics"]["diagnostics"].as_array().or(json["diagnostics"].as_array()).map(Vec::len),
            Some(10),
            "{json}"
        );
        for command in ["apply", "plan"] {
            assert_eq!(stage.cli(&[command]).code, Some(2), "{command}");
        }
        let status = stage.json(&["status"]);
        assert_eq!(status["config"]["is_serving"], false, "{status}");
        assert_eq!(footprint(&stage), before);
        assert_eq!(Load::counted(&stage.address, "/v1/models", 2, 20).run().failed, 0);

        let mended = stage.write_file(&swapped(&good, "weight = 100 # a", "weight = 55 # a"));
        let took = stage.effect("the mended file", mended, |stage| stage.weight("a") == 55);
        println!("{} mended file: effective after {} ms", binary.version, took.as_millis());
        wait_for("a status without problems", PATIENCE, || {
            (stage.json(&["status"])["config"]["is_serving"] == true).then_some(())
        });
        assert_eq!(stage.worker(), before.worker);
    }
}

#[test]
fn a_restart_with_a_broken_file_serves_the_last_good_revision() {
    for binary in binaries().into_iter().take(1) {
        // A mistake of meaning, and one after which the text is no TOML any more.
        for broken in ["maxconn = 0", "maxconn = = 1"] {
            let mut stage = Stage::running(&binary, |text| text);
            let (before, revisions) = (footprint(&stage), stage.revisions());
            stage.agent().kill();
            stage.edit("maxconn       = 1000", broken);
            stage.start_agent();
            let status = stage.cli(&["status", "--json"]);
            assert_eq!(status.code, Some(1), "{broken}: {}{}", status.stdout, status.stderr);
            stage.wait_for_health();
            stage.break_mock("a", vec![hapilot::mock::Fault::status(500)]);
            wait_for("health to go on", PATIENCE, || (stage.weight("a") == 0).then_some(()));
            assert_eq!((stage.worker(), stage.revisions()), (before.worker, revisions));
        }
    }
}

#[test]
fn a_raw_line_that_haproxy_rejects_is_shown_at_its_place() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let (good, before) = (stage.text(), footprint(&stage));
        let line = "raw = [\"http-request frobnicate all\"]";
        stage.write_file(&swapped(&good, "backend = \"chat\"\n", &format!("backend = \"chat\"\n{line}\n")));
        let number = stage.text().lines().position(|text| text == line).expect("the line") + 1;
        let place = format!("{}:{number}:8", stage.file().display());
        for command in ["check", "apply"] {
            let refused = stage.cli(&[command]);
            assert_eq!(refused.code, Some(1), "{command}: {}", refused.stderr);
            assert!(refused.stderr.contains(&place), "{command}: {place} in\n{}", refused.stderr);
            assert!(refused.stderr.contains("HAProxy says") && refused.stderr.contains("frobnicate"));
        }
        assert_eq!(footprint(&stage), before);
        stage.write_file(&good);
        wait_for("a status without problems", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
        assert_eq!(footprint(&stage), before);
    }
}

#[test]
fn what_haproxy_warns_about_is_shown_at_its_place_and_serves() {
    for binary in binaries() {
        // A word that 3.2 calls deprecated.
        let is_deprecated = (binary.version.major, binary.version.minor) >= (3, 2);
        let stage = Stage::running(&binary, |text| text);
        let (good, before) = (stage.text(), stage.worker());
        let line = "raw = [\"option accept-invalid-http-request\"]";
        let text = swapped(&good, "backend = \"chat\"\n", &format!("backend = \"chat\"\n{line}\n"));
        let number = text.lines().position(|text| text == line).expect("the line") + 1;
        let place = format!("{}:{number}:8", stage.file().display());
        stage.write_file(&text);
        let saved = wait_for("the edit to serve", PATIENCE, || {
            let status = stage.json(&["status"]);
            (status["config"]["revision"] == 2 && stage.worker() != before).then_some(status)
        });
        let warnings = saved["warnings"].as_array().expect("warnings");
        assert_eq!(warnings.len(), usize::from(is_deprecated), "{}: {warnings:?}", binary.version);
        let (check, status) = (stage.cli(&["check"]), stage.cli(&["status"]));
        assert_eq!((check.code, status.code), (Some(0), Some(0)), "{}{}", check.stderr, status.stdout);
        for said in [&check.stderr, &status.stdout] {
            assert_eq!(said.matches("HAProxy warns about").count(), usize::from(is_deprecated), "{said}");
            assert_eq!(said.contains(&place), is_deprecated, "{place} in\n{said}");
        }
        // The next edit is not held back, and brings the warning once more to who applies it.
        stage.write_file(&swapped(&text, "idle = \"10s\"", "idle = \"11s\""));
        let applied = stage.cli(&["apply"]);
        assert_eq!(applied.code, Some(0), "{}", applied.stderr);
        assert_eq!(applied.stdout.contains(&place), is_deprecated, "{}", applied.stdout);
        stage.write_file(&good);
        wait_for("a status without warnings", PATIENCE, || {
            let status = stage.json(&["status"]);
            (status["warnings"].as_array().is_some_and(Vec::is_empty) && status["config"]["is_serving"] == true)
                .then_some(())
        });
    }
}

#[test]
fn too_few_descriptors_are_found_before_a_start_fails_by_them() {
    for binary in binaries() {
        let mut stage = Stage::new(&binary);
        stage.edit("maxconn       = 1000", "maxconn = 600");
        // Nothing runs yet: whoever starts it may have another limit.
        let words = ["maxconn` 600 needs more than", "may open 1000", "maxconn = 4"];
        for command in ["check", "plan", "apply"] {
            let told = stage.with_few_descriptors(1000, &[command]);
            let said = told.stdout + &told.stderr;
            assert_eq!(told.code, Some(0), "{said}");
            words.iter().for_each(|words| assert!(said.contains(words), "{command}: {words} in\n{said}"));
        }
        // One that runs has its own limit, which no reload changes.
        stage.start_haproxy();
        let worker = u32::try_from(stage.worker().as_raw()).expect("process ids are positive");
        let more = hapilot::sys::process::most_descriptors(Some(worker)).expect("a limit") / 2;
        stage.edit("maxconn = 600", &format!("maxconn = {more}"));
        let check = stage.cli(&["check"]);
        assert_eq!(check.code, Some(1), "{}", check.stderr);
        assert!(check.stderr.contains(&format!("maxconn` {more} needs more than")), "{}", check.stderr);
    }
}

#[test]
fn a_binary_of_another_branch_than_the_running_one_is_named_instead_of_a_wall() {
    let mut binaries = binaries();
    let (Some(newest), Some(oldest)) = (binaries.pop(), binaries.into_iter().next()) else {
        return skip_or_demand("needs two versions of HAProxy");
    };
    let stage = Stage::with_haproxy(&newest, |text| text);
    let binary = |binary: &Binary| format!("binary        = \"{}\"", binary.path.display());
    stage.edit(&binary(&newest), &binary(&oldest));
    let check = stage.cli(&["check"]);
    let named = format!("is {}, running is {}", oldest.version, newest.version);
    assert!(check.stderr.contains(&named), "{named} in\n{}", check.stderr);
    assert!(!check.stderr.contains("HAProxy says"), "{}", check.stderr);
}

#[test]
fn an_edit_that_this_version_cannot_follow_is_told() {
    for binary in binaries() {
        let is_lost = !binary.version.at_least(3, 0);
        let stage = Stage::running(&binary, |text| text);
        stage.edit("first_byte = \"10s\"", "first_byte = \"7s\"");
        let applied = stage.done(&["apply"]);
        let (warnings, check) = (stage.json(&["status"])["warnings"].to_string(), stage.cli(&["check"]).stderr);
        for said in [applied, warnings, check] {
            assert_eq!(said.contains("first_byte = 7s is not in force"), is_lost, "{}: {said}", binary.version);
        }
    }
}

#[test]
fn what_haproxy_says_of_the_machine_holds_no_file_back() {
    if !is_root() {
        return skip_or_demand("needs root, to give a process another /etc/resolv.conf");
    }
    for binary in binaries() {
        let stage = Stage::new(&binary);
        stage.edit(&format!("http://{}", stage.mock_address("b")), "http://localhost.localdomain:1");
        for (resolv, words) in [("nameserver 127.0.0.1\nnameserver fe80::1%eth9\n", "fe80::1"), ("", "HAProxy warns")] {
            write(stage.path("resolv.conf"), resolv);
            let check = stage.inside("mount --bind \"$1/resolv.conf\" /etc/resolv.conf", &["check"]);
            assert_eq!(check.code, Some(0), "{}: {resolv:?}: {}", binary.version, check.stderr);
            assert!(check.stderr.contains(words), "{}: {resolv:?}: {}", binary.version, check.stderr);
        }
    }
}

#[test]
fn a_restart_with_a_file_that_haproxy_rejects_goes_on_with_the_last_good_revision() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::running(&binary, |text| text);
        let before = footprint(&stage);
        stage.agent().kill();
        stage.edit("backend = \"chat\"\n", "backend = \"chat\"\nraw = [\"http-request frobnicate all\"]\n");
        stage.begin_agent();
        stage.agent().wait_for_output("frobnicate");
        stage.wait_for_health();
        stage.break_mock("a", vec![hapilot::mock::Fault::status(500)]);
        wait_for("health to go on", PATIENCE, || (stage.weight("a") == 0).then_some(()));
        assert_eq!(stage.worker(), before.worker);
        let status = stage.cli(&["status"]);
        assert!(status.code == Some(1) && status.stdout.contains("frobnicate"), "{}", status.stdout);
    }
}

#[test]
fn a_taken_port_is_refused_with_its_holder_before_haproxy_is_touched_under_load() {
    for (at, binary) in binaries().iter().enumerate() {
        let stage = Stage::running(binary, |text| text);
        let before = footprint(&stage);
        let port = free_port();
        let held = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let load = stage.load(8).start();
        let address = stage.address.clone();
        stage.edit(&format!("bind    = [\"{address}\"]"), &format!("bind    = [\"{address}\", \"127.0.0.1:{port}\"]"));
        let refused = stage.cli(&["apply"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        let holder = format!("(pid {})", std::process::id());
        assert!(refused.stderr.contains(&port.to_string()) && refused.stderr.contains(&holder), "{}", refused.stderr);
        assert_eq!(stage.cli(&["check"]).code, Some(1));
        assert_eq!(footprint(&stage), before);
        let seen = load.begun();
        wait_for("traffic after the refusal", PATIENCE, || (load.begun() > seen + 500).then_some(()));
        let tally = load.stop();
        assert!(tally.failed == 0 && tally.ok > 500, "{tally:?}");

        // The agent tries again by itself, whatever the version.
        drop(held);
        if at > 0 {
            continue;
        }
        wait_for("the new port", PATIENCE, || {
            super::support::http::get(&format!("127.0.0.1:{port}"), "/health").ok().filter(|reply| reply.status == 200)
        });
        assert_ne!(stage.worker(), before.worker);
    }
}

#[test]
fn an_unreadable_secret_and_a_missing_template_are_told_with_their_lines() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        let before = footprint(&stage);
        let template = stage.path("nowhere.cfg");
        let text = swapped(
            &stage.text(),
            "user          = \"\"",
            &format!("user = \"\"\ntemplate = \"{}\"", template.display()),
        );
        let key = format!("keys = [\"file:{}\"] # a", stage.path("key").display());
        stage.write_file(&swapped(&text, &key, "keys = [\"file:/nowhere/key\"]"));
        let refused = stage.cli(&["check"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        let file = stage.file().display().to_string();
        for what in ["/nowhere/key", "nowhere.cfg"] {
            let line =
                refused.stderr.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{}", refused.stderr));
            assert!(line.contains(&file), "{line}");
        }
        assert_eq!(stage.cli(&["apply"]).code, Some(1));
        assert_eq!(footprint(&stage), before);
    }
}

#[test]
fn a_renewed_key_is_taken_over_without_a_reload_and_tried_at_once() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let before = footprint(&stage);
        let status = || super::support::http::get(&stage.address, "/v1/models").expect("an answer").status;
        let changed = renew(&stage, "sk-another-key");
        let took = stage.effect("the new key", changed, |_| status() == 401);
        println!("{} key file: effective after {} ms", binary.version, took.as_millis());
        wait_for("the key to be rejected", PATIENCE, || {
            (stage.server_status("a")["health"] == "unhealthy").then_some(())
        });
        // The file is broken meanwhile: the revision that serves in its place takes the key all the same.
        stage.edit("maxconn       = 1000", "maxconn = 0");
        wait_for("the mistake to be told", PATIENCE, || (stage.cli(&["check"]).code == Some(2)).then_some(()));
        let changed = renew(&stage, KEY);
        stage.effect("the good key", changed, |_| status() == 200);
        let took = stage.effect("probation", changed, |stage| stage.server_status("a")["health"] != "unhealthy");
        println!("{} mended key: works again after {} ms", binary.version, took.as_millis());
        assert!(took < Duration::from_secs(25), "{took:?}");
        assert_eq!(stage.worker(), before.worker);
    }
}

/// Replaces the providers' key.
fn renew(stage: &Stage, key: &str) -> std::time::Instant {
    write(stage.path("key.new"), key);
    let changed = std::time::Instant::now();
    fs_err::rename(stage.path("key.new"), stage.path("key")).expect("a rename");
    changed
}

#[test]
fn a_file_edited_by_hand_does_not_keep_a_failing_server_in() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        let edited = stage.read("haproxy.cfg").replace("maxconn 1000", "maxconn 999");
        write(stage.path("haproxy.cfg"), &edited);
        stage.break_mock("a", vec![hapilot::mock::Fault::status(500)]);
        wait_for("health to go on", PATIENCE, || (stage.weight("a") == 0).then_some(()));
        assert_eq!(stage.read("haproxy.cfg"), edited, "what was edited by hand stays");
        // The files follow behind the weight.
        let is_told = || stage.cli(&["status"]).stdout.contains("edited by hand").then_some(());
        wait_for("the files that wait in status", PATIENCE, is_told);
    }
}

#[test]
fn a_key_file_that_holds_no_key_is_told_in_words_and_the_key_before_serves_on() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::running(&binary, |text| text);
        let map = stage.read("maps/keys.map");
        for (text, code, words) in [
            ("Bearer sk-pasted", 1, "it begins with a word like `Bearer`"),
            ("OPENAI_API_KEY=sk-pasted", 1, "it looks like NAME=value"),
            ("\"sk-pasted\"", 1, "it stands in quotes"),
            ("  \n", 1, "the secret is empty or blank"),
            ("sk-pasted\nsk-pasted\n", 1, "a control character (a line break?)"),
        ] {
            write(stage.path("key"), text);
            let check = stage.cli(&["check"]);
            assert_eq!(check.code, Some(code), "{text:?}: {}{}", check.stdout, check.stderr);
            stage.agent().wait_for_output(words);
            let problems = || stage.json(&["status"])["problems"].to_string();
            wait_for("the problem in status", PATIENCE, || problems().contains(words).then_some(()));
            assert_eq!(stage.read("maps/keys.map"), map, "{text:?}");
            assert!(
                !format!("{}{}{}", check.stderr, problems(), stage.agent().stderr()).contains("pasted"),
                "{text:?}"
            );
        }
        write(stage.path("key"), " sk-pasted");
        stage.agent().wait_for_output("a blank stands before or behind it");
        let check = stage.cli(&["check"]);
        assert!(
            check.code == Some(0) && check.stderr.contains("a blank stands before or behind it"),
            "{}",
            check.stderr
        );
        assert!(!stage.agent().stderr().contains("pasted"));
    }
}
