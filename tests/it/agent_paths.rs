//! Paths that are missing, closed or taken: each is told with the key and the line that name it and with the command
//! that mends it; and what lets a refused edit serve is seen as soon as it is there.

use super::support::haproxy::{Binary, binaries};
use super::support::process::{self, Finished};
use super::support::stage::{KEY, Stage, swapped};
use super::support::{PATIENCE, agent, is_root, skip_or_demand, wait_for, write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

fn binary() -> Binary {
    binaries().into_iter().next_back().expect("a HAProxy")
}

/// The line of the file that sets a key, from 1.
fn line_of(stage: &Stage, key: &str) -> usize {
    let text = stage.text();
    let at = text.lines().position(|line| line.split('=').next().is_some_and(|name| name.trim() == key));
    at.unwrap_or_else(|| panic!("no {key} in\n{text}")) + 1
}

/// The text with another value for a key.
fn with(stage: &Stage, key: &str, value: &str) -> String {
    let line = line_of(stage, key);
    let edited = |(at, text): (usize, &str)| match at + 1 == line {
        true => format!("{key} = \"{value}\"\n"),
        false => format!("{text}\n"),
    };
    stage.text().lines().enumerate().map(edited).collect()
}

#[test]
fn a_path_that_cannot_be_used_is_told_with_its_key_its_line_and_what_to_do() {
    let stage = Stage::new(&binary());
    let good = stage.text();
    let (dir, file) = (stage.path(""), stage.file());
    let (dir, file) = (dir.to_str().expect("ASCII").trim_end_matches('/'), file.display().to_string());
    write(stage.path("letters"), "no folder");
    // The key, its value, the commands that refuse, and what they say.
    let missing = format!("the folder {dir}/none is missing");
    let mkdir = format!("mkdir -p {dir}/none");
    let in_the_way = format!("{dir}/letters is no ");
    let cases: [(&str, &str, &[&str], [&str; 2]); 6] = [
        ("config", "none/haproxy.cfg", &["check", "apply", "plan"], [&missing, &mkdir]),
        ("config", "letters/haproxy.cfg", &["check", "apply"], [&in_the_way, "path of a file"]),
        ("config", "", &["check", "apply"], ["not a regular file", "path of a file"]),
        ("state", "letters/state", &["check", "apply", "run"], [&in_the_way, "`node.state`"]),
        ("socket", "letters/a.sock", &["check", "run"], [&in_the_way, "`api.socket`"]),
        ("binary", "none/haproxy", &["check", "apply"], ["`haproxy.binary` (line", "install HAProxy"]),
    ];
    for (key, value, commands, needles) in cases {
        let line = line_of(&stage, key);
        stage.write_file(&with(&stage, key, &format!("{dir}/{value}")));
        for command in commands {
            let said = stage.cli(&[command]);
            assert_eq!(said.code, Some(1), "{key} {command}: {}", said.stderr);
            let is_told = needles.iter().all(|needle| said.stderr.contains(needle));
            let has_place =
                said.stderr.contains(&format!("{file}:{line}:")) || said.stderr.contains(&format!("(line {line})"));
            assert!(is_told && has_place, "{key} {command}, {needles:?} at {line}:\n{}", said.stderr);
        }
        stage.write_file(&good);
    }
    // HAProxy does not start without these; who makes them may be its unit.
    for key in ["admin_socket", "master_socket"] {
        stage.write_file(&with(&stage, key, &format!("{dir}/none/x.sock")));
        let check = stage.cli(&["check"]);
        let place = format!("warning: `haproxy.{key}` (line {})", line_of(&stage, key));
        assert!(check.code == Some(0) && check.stderr.contains(&place), "{}", check.stderr);
        assert!(check.stderr.contains(&missing) && check.stderr.contains(&mkdir), "{}", check.stderr);
        let apply = stage.cli(&["apply"]);
        assert!(apply.code == Some(0) && apply.stdout.contains(&mkdir), "{}", apply.stdout);
        stage.write_file(&good);
    }
    stage.write_file(&swapped(&good, "group         = \"\"", &format!("group = \"\"\ntemplate = \"{dir}/none.cfg\"")));
    let said = stage.cli(&["check"]);
    let place = format!("{file}:{}:", line_of(&stage, "template"));
    assert!(said.stderr.contains(&place) && said.stderr.contains("leave `template` out"), "{}", said.stderr);
    let vip = "[vip.public]\naddresses = [\"192.0.2.100/24\"]\ninterface = \"lo\"\nrouter_id = 51\npriority = { test = 150 }\n";
    stage.write_file(&format!("{good}\n[keepalived]\nconfig = \"{dir}/none/keepalived.conf\"\n\n{vip}"));
    for command in ["check", "apply"] {
        let said = stage.cli(&[command]);
        let place = "`keepalived.config` (line ";
        let is_told = [place, &missing, &mkdir].iter().all(|needle| said.stderr.contains(needle));
        assert!(said.code == Some(1) && is_told, "{command}: {}", said.stderr);
    }
    // What the message says to do is enough.
    stage.write_file(&swapped(&good, &format!("{dir}/haproxy.cfg"), &format!("{dir}/none/haproxy.cfg")));
    let done = Command::new("sh").args(["-c", &mkdir]).status().expect("mkdir");
    assert!(done.success() && stage.cli(&["apply"]).code == Some(0));
}

#[test]
fn a_missing_right_is_told_with_the_user_the_file_and_the_command_that_mends_it() {
    if !is_root() {
        return skip_or_demand("needs root, to act as another user");
    }
    let mut stage = Stage::running(&binary(), |text| text);
    let dir = stage.path("");
    fs_err::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    // Whoever built the binary may keep it to himself.
    let program = stage.path("hapilot");
    fs_err::copy(env!("CARGO_BIN_EXE_hapilot"), &program).expect("a copy");
    fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let as_nobody = |words: &[&str]| -> Finished {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        command.arg("-c").arg(stage.file()).args(words).env("COLUMNS", "1000").env("NO_COLOR", "1");
        process::run(command, agent::LIMIT)
    };
    let path = |name: &str| stage.path(name).display().to_string();
    let told = |said: &Finished, name: &str, verb: &str| {
        let text = format!("{}{}", said.stdout, said.stderr);
        let who = format!("user {} may not {verb}", user_65534());
        assert!(said.code == Some(1) && text.contains(&who) && text.contains(&path(name)), "{name}: {text}");
        assert!(!text.contains(KEY), "{text}");
    };
    for words in [&["status"][..], &["apply"], &["explain", "chat/a"], &["server", "drain", "chat/a"]] {
        told(&as_nobody(words), "hapilot.sock", "use it");
    }
    for words in [&["history"][..], &["events"], &["usage"], &["diff"]] {
        let said = as_nobody(words);
        told(&said, "state", "enter");
        assert!(said.stderr.contains("use sudo") && said.stderr.contains("chmod g+x"), "{}", said.stderr);
    }
    told(&as_nobody(&["check"]), "admin.sock", "use it");
    // What counts is the folder itself, and not the one above it.
    let own = stage.path("own");
    fs_err::create_dir(&own).expect("a folder");
    std::os::unix::fs::chown(&own, Some(65534), Some(65534)).expect("a folder of nobody's");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
    write(
        own.join("t.toml"),
        format!(
            "[node]\nstate = \"{0}/state\"\n[haproxy]\nconfig = \"{0}/haproxy.cfg\"\nadmin_socket = \"{0}/admin.sock\"\nmaster_socket = \"{0}/master.sock\"\nmaxconn = 100\nuser = \"\"\ngroup = \"\"\n[api]\nsocket = \"{0}/hapilot.sock\"\n[frontend.api]\nbind = [\"127.0.0.1:1\"]\nbackend = \"chat\"\n[backend.chat.server.a]\nurl = \"http://127.0.0.1:9\"\n",
            own.display()
        ),
    );
    command.arg("-c").arg(own.join("t.toml")).arg("check").env("NO_COLOR", "1");
    let said = process::run(command, agent::LIMIT);
    assert!(!said.stderr.contains("may not"), "{}", said.stderr);
    stage.agent().stop();
    let as_nobody = |words: &[&str]| -> Finished {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        command.arg("-c").arg(stage.file()).args(words).env("COLUMNS", "1000").env("NO_COLOR", "1");
        process::run(command, agent::LIMIT)
    };
    for words in [&["apply"][..], &["run"]] {
        let said = as_nobody(words);
        let text = format!("user {} may not read it", user_65534());
        let mend = format!("chmod g+r {}", stage.path("key").display());
        assert!(said.code == Some(1) && said.stderr.contains(&text) && said.stderr.contains(&mend), "{}", said.stderr);
    }
    let said = as_nobody(&["status"]);
    assert!(said.stderr.contains("may not enter") && !said.stderr.contains("--socket"), "{}", said.stderr);
}

fn user_65534() -> String {
    let uid = nix::unistd::Uid::from_raw(65534);
    nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| "65534".to_owned(), |user| user.name)
}

#[test]
fn a_port_in_use_is_told_in_one_way_with_who_has_it() {
    let stage = Stage::new(&binary());
    let held = TcpListener::bind(&stage.address).expect("the port is free");
    let port = held.local_addr().expect("an address").port();
    let told = format!("port {port} is in use: ");
    let us = format!("(pid {})", std::process::id());
    let listen = format!("127.0.0.1:{port}");
    let place = format!("{}:{}:", stage.file().display(), line_of(&stage, "bind"));
    for (words, place) in [
        (&["check"][..], place.as_str()),
        (&["apply"], &place),
        (&["mock", "--listen", &listen], "--listen"),
        (&["demo"], "--mock-port"),
    ] {
        let said = match words[0] {
            "demo" => agent::run(&["demo", "--mock-port", &port.to_string(), "--listen", "127.0.0.1:1"]),
            _ => stage.cli(words),
        };
        assert_eq!(said.code, Some(1), "{words:?}: {}", said.stderr);
        let is_told = [&told, &us, place].iter().all(|needle| said.stderr.contains(needle));
        assert!(is_told, "{words:?}, {told} {us} {place}:\n{}", said.stderr);
    }
}

#[test]
fn a_bad_key_file_of_many_servers_is_told_once_and_taken_as_soon_as_it_is_good() {
    let mut stage = Stage::running(&binary(), |text| text);
    let key = stage.path("other").display().to_string();
    let old = stage.path("key").display().to_string();
    let text = stage.text().replace(&format!("file:{old}\"] #"), &format!("file:{key}\"] #"));
    write(&key, "\u{7}broken");
    stage.write_file(&text);
    stage.agent().wait_for_output("the change is refused");
    for command in ["check", "apply"] {
        let said = stage.cli(&[command]);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert_eq!(said.stderr.matches(&format!("file:{key} of ")).count(), 1, "{command}: {}", said.stderr);
        assert!(said.stderr.contains("chat/a, chat/b, chat/c"), "{command}: {}", said.stderr);
    }
    let before = stage.revisions();
    for (turn, mended) in [true, false].into_iter().enumerate() {
        let begun = Instant::now();
        if mended {
            write(&key, KEY);
            fs_err::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        } else {
            // One that is missing is waited for as well.
            let gone = stage.path("gone").display().to_string();
            stage.write_file(&stage.text().replace(&key, &gone));
            wait_for("the refusal", PATIENCE, || (stage.cli(&["status"]).code == Some(1)).then_some(()));
            fs_err::copy(&key, &gone).expect("a copy");
        }
        wait_for("the edit", PATIENCE, || (stage.json(&["status"])["config"]["is_serving"] == true).then_some(()));
        println!("turn {turn}: served {:?} after it was mended", begun.elapsed());
        assert!(!mended || begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
    assert!(stage.revisions().0 > before.0);
}
