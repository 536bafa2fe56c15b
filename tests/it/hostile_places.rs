//! Paths that lead to something else than they should, and places that vanish: bounded, named, nothing of others deleted.

use super::support::agent;
use super::support::haproxy::{Binary, binaries};
use super::support::process::Background;
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, is_root, pause, skip_or_demand, wait_for, write};
use hapilot::mock::Fault;
use nix::sys::stat::Mode;
use std::path::Path;
use std::time::Duration;

fn binary() -> Binary {
    binaries().into_iter().next_back().expect("a HAProxy")
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o600)).expect("a FIFO");
}

#[test]
fn what_is_no_file_is_refused_by_name_and_never_read() {
    let stage = Stage::new(&binary());
    let pipe = stage.path("pipe");
    fifo(&pipe);
    let pipe = pipe.to_str().expect("ASCII");
    for place in [pipe, "/dev/zero"] {
        for words in [&["check"][..], &["render"]] {
            let said = agent::run(&[&["-c", place], words].concat());
            assert!(said.code == Some(2) && said.stderr.contains(place), "{place} {words:?}: {}", said.stderr);
            assert!(said.stderr.contains("not a regular file"), "{}", said.stderr);
        }
        // What only looks for the agent's socket in it asks at the usual place, and ends.
        agent::run(&["-c", place, "status"]);
    }
    let text = stage.text();
    let key = format!("file:{}\"] # a", stage.path("key").display());
    let bind = format!("bind    = [\"{}\"]\n", stage.address);
    for place in [pipe, "/dev/zero"] {
        for edited in [
            swapped(&text, &key, &format!("file:{place}\"] # a")),
            swapped(&text, "threads       = 2\n", &format!("threads = 2\ntemplate = \"{place}\"\n")),
            swapped(&text, &bind, &format!("{bind}certificates = [\"{place}\"]\n")),
        ] {
            stage.write_file(&edited);
            let said = stage.cli(&["check"]);
            assert!(said.code != Some(0) && said.stderr.contains(place), "{place}: {}{}", said.stdout, said.stderr);
        }
    }
}

#[test]
fn what_would_write_or_stay_is_refused_as_well_where_the_file_is_none() {
    if !is_root() {
        return skip_or_demand("needs root, to give a process another /var/lib");
    }
    let stage = Stage::new(&binary());
    fs_err::remove_file(stage.file()).expect("the file");
    fifo(&stage.file());
    for words in [&["run"][..], &["apply"], &["plan"], &["probe"], &["rollback"], &["diff"], &["history"]] {
        let said = stage.inside("mount -t tmpfs tmpfs /var/lib", words);
        assert!(said.code != Some(0) || words == ["history"], "{words:?}: {}", said.stdout);
    }
}

/// A small disk of its own over a directory of the node.
struct Disk(std::path::PathBuf);

impl Disk {
    fn over(directory: std::path::PathBuf) -> Self {
        fs_err::create_dir_all(&directory).expect("a directory");
        let disk = Self(directory);
        assert!(disk.run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs"]), "a mount");
        disk
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        std::process::Command::new(program).args(arguments).arg(&self.0).status().is_ok_and(|status| status.success())
    }

    /// Leaves no room for one byte; what is there stays.
    fn fill(&self) {
        let mut file = fs_err::File::create(self.0.join("filler")).expect("a file");
        while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs_err::remove_file(self.0.join("filler")).expect("our own file");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.run("umount", &["--lazy"]);
    }
}

#[test]
fn a_disk_that_is_full_at_a_restart_keeps_no_server_out() {
    if !is_root() {
        return skip_or_demand("needs root, to mount a small disk");
    }
    // The one of the history; and one that has everything, haproxy.cfg as well.
    let all = binaries();
    let ends = [all.first().expect("a HAProxy"), all.last().expect("a HAProxy")];
    for (binary, place) in ends.into_iter().zip(["state", ""]) {
        let mut stage = Stage::new(binary);
        let (text, key) = (stage.text(), stage.read("key"));
        let disk = Disk::over(stage.path(place));
        stage.write_file(&text);
        write(stage.path("key"), &key);
        stage.done(&["apply"]);
        stage.start_haproxy();
        stage.start_agent();
        stage.wait_for_health();
        stage.break_mock("a", vec![Fault::status(500)]);
        wait_for("a to be out", PATIENCE, || (stage.weight("a") == 0).then_some(()));
        stage.agent().kill();
        disk.fill();
        stage.mend_mock("a");
        stage.break_mock("b", vec![Fault::status(500)]);
        stage.begin_agent();
        wait_for("a to come back and b to go", PATIENCE, || {
            (stage.weight("a") > 0 && stage.weight("b") == 0).then_some(())
        });
        let problem = wait_for("the problem to be told", PATIENCE, || {
            let status = stage.cli(&["status"]);
            (status.code == Some(1)).then_some(status.stdout)
        });
        assert!(problem.contains("has no room") || problem.contains("No space left"), "{problem}");
        if place.is_empty() {
            assert!(problem.contains("weights and states reach HAProxy"), "{problem}");
        }
        assert!(!problem.contains("nothing was changed"), "{problem}");
        pause(Duration::from_secs(11));
        let log = stage.agent().stderr();
        assert!(log.matches("has no room").count() <= 2 && log.matches("No space left").count() <= 3, "{log}");
        assert!(!log.contains("does not follow"), "{log}");
        disk.make_room();
        wait_for("a status without problems", PATIENCE, || {
            let status = stage.json(&["status"]);
            status["problems"].as_array().is_some_and(Vec::is_empty).then_some(())
        });
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("an edit", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
    }
}

#[test]
fn a_way_back_that_could_not_be_written_down_is_gone_again_by_the_next_agent() {
    if !is_root() {
        return skip_or_demand("needs root, to mount a small disk");
    }
    let mut stage = Stage::new(&binary());
    let disk = Disk::over(stage.path("state"));
    stage.done(&["apply"]);
    stage.start_haproxy();
    stage.start_agent();
    stage.wait_for_health();
    stage.edit("weight = 100 # a", "weight = 40 # a");
    wait_for("an edit", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
    stage.edit("weight = 40 # a", "weight = 7 # a");
    stage.done(&["apply", "--confirm", "8s"]);
    wait_for("the trial to serve", PATIENCE, || (stage.weight("a") == 7).then_some(()));
    disk.fill();
    wait_for("the way back", PATIENCE, || (stage.weight("a") == 40).then_some(()));
    let status = stage.cli(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains("no room"), "{}", status.stdout);
    // The next one may have room, or not.
    stage.agent().kill();
    stage.begin_agent();
    wait_for("the next agent", PATIENCE, || (stage.cli(&["status"]).code.is_some()).then_some(()));
    pause(Duration::from_secs(3));
    assert_eq!(stage.weight("a"), 40, "{}", stage.agent().stderr());
    stage.agent().kill();
    disk.make_room();
    stage.begin_agent();
    wait_for("what serves to be in the history", PATIENCE, || {
        let revision = stage.json(&["status"])["config"]["revision"].as_u64();
        (revision == Some(4)).then_some(())
    });
    assert_eq!(stage.weight("a"), 40);
    assert!(stage.cli(&["history"]).stdout.contains("confirmed"));
}

#[test]
fn a_state_directory_that_has_become_read_only_keeps_no_agent_from_steering() {
    if !is_root() {
        return skip_or_demand("needs root, to mount a small disk");
    }
    let mut stage = Stage::new(&binary());
    let disk = Disk::over(stage.path("state"));
    stage.done(&["apply"]);
    stage.start_haproxy();
    stage.start_agent();
    stage.wait_for_health();
    stage.agent().kill();
    assert!(disk.run("mount", &["-o", "remount,ro"]), "a remount");
    stage.break_mock("a", vec![Fault::status(500)]);
    stage.begin_agent();
    wait_for("a to be out", PATIENCE, || (stage.weight("a") == 0).then_some(()));
    wait_for("the problem to be told", PATIENCE, || {
        let status = stage.cli(&["status"]);
        (status.code == Some(1) && status.stdout.contains("ead-only file system")).then_some(())
    });
    assert!(disk.run("mount", &["-o", "remount,rw"]), "a remount");
    stage.mend_mock("a");
    wait_for("a status without problems", PATIENCE * 2, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
}

#[test]
fn an_agent_that_is_stopped_keeps_no_command_waiting() {
    let mut stage = Stage::running(&binary(), |text| text);
    let agent = stage.agent().pid();
    nix::sys::signal::kill(agent, nix::sys::signal::Signal::SIGSTOP).expect("a signal");
    for words in [&["status"][..], &["server", "drain", "chat/a"]] {
        let begun = std::time::Instant::now();
        let said = stage.cli(words);
        assert!(said.code == Some(1) && said.stderr.contains("does not answer"), "{words:?}: {}", said.stderr);
        assert!(begun.elapsed() < Duration::from_secs(30), "{words:?}");
    }
    nix::sys::signal::kill(agent, nix::sys::signal::Signal::SIGCONT).expect("a signal");
    wait_for("a status", PATIENCE, || stage.cli(&["status"]).stdout.contains("chat").then_some(()));
    // The socket alone names an agent, whichever file it serves.
    let socket = stage.path("hapilot.sock");
    let words = ["-c", "/nowhere/hapilot.toml", "--socket", socket.to_str().expect("ASCII"), "status"];
    let said = agent::run(&words);
    assert!(said.stdout.contains("chat"), "{}", said.stderr);
}

#[test]
fn a_socket_path_that_names_somebody_elses_file_is_refused() {
    let mut stage = Stage::with_haproxy(&binary(), |text| text);
    let file = stage.file();
    let own = format!("socket = \"{}\"", stage.path("hapilot.sock").display());
    let text = stage.text();
    write(stage.path("letters"), "somebody's");
    for (name, words) in [("letters", "is no socket"), ("admin.sock", "somebody listens")] {
        stage.write_file(&swapped(&text, &own, &format!("socket = \"{}\"", stage.path(name).display())));
        let said = agent::run(&["-c", file.to_str().expect("ASCII"), "run"]);
        assert!(said.code == Some(1) && said.stderr.contains(name), "{name} {words}: {}", said.stderr);
    }
    assert_eq!(stage.read("letters"), "somebody's");
    assert!(stage.private().admin("show info").contains("Pid"));
    // What a dead agent left is replaced.
    stage.write_file(&text);
    stage.start_agent();
    stage.agent().kill();
    assert!(stage.path("hapilot.sock").exists());
    stage.start_agent();
}

#[test]
fn a_state_directory_that_is_deleted_is_made_again_and_no_second_agent_starts() {
    let stage = Stage::running(&binary(), |text| text);
    stage.edit("weight = 100 # a", "weight = 40 # a");
    wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
    let file = stage.file();
    // At once, as the agent may write into it meanwhile.
    fs_err::rename(stage.path("state"), stage.path("gone")).expect("the state directory");
    fs_err::remove_dir_all(stage.path("gone")).expect("the state directory");
    let second = agent::run(&["-c", file.to_str().expect("ASCII"), "run"]);
    assert!(second.code == Some(1) && second.stderr.contains("another hapilot"), "{}", second.stderr);
    wait_for("the state directory", PATIENCE, || {
        let status = stage.json(&["status"]);
        let is_told = status["recovered"].to_string().contains("was deleted while the agent ran");
        (is_told && stage.revisions() == (1, 1)).then_some(())
    });
    assert!(stage.agent_said("was deleted while the agent ran"));
    // The lock and the journal are there again.
    let second = agent::run(&["-c", file.to_str().expect("ASCII"), "run"]);
    assert!(second.code == Some(1) && second.stderr.contains("another hapilot"), "{}", second.stderr);
    stage.edit("idle = \"10s\"", "idle = \"12s\"");
    wait_for("the next revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
    stage.done(&["rollback"]);
    wait_for("the revision of before", PATIENCE, || (stage.revisions() == (3, 3)).then_some(()));
    assert_eq!(stage.weight("a"), 40);
}

type Make = fn(&Path);

/// What may stand where the operator's file was, and how it is made.
const NO_FILES: [(&str, Make); 4] = [
    ("a FIFO", |path| nix::unistd::mkfifo(path, Mode::S_IRWXU).expect("a FIFO")),
    ("a directory", |path| fs_err::create_dir(path).expect("a directory")),
    ("a loop of links", |path| fs_err::os::unix::fs::symlink(path, path).expect("a link")),
    ("nothing", |_| {}),
];

#[test]
fn the_agent_tells_its_state_whatever_stands_in_the_files_place() {
    let mut stage = Stage::running(&binary(), |text| text);
    let text = stage.text();
    for (what, make) in NO_FILES {
        fs_err::remove_file(stage.file()).expect("the file");
        make(&stage.file());
        let socket = stage.path("hapilot.sock");
        let named = ["--socket", socket.to_str().expect("ASCII")];
        for words in [&["status"][..], &[&named[..], &["status"]].concat()] {
            wait_for(&format!("{what} as a problem"), PATIENCE, || {
                let said = stage.cli(words);
                assert!(said.stdout.contains("running"), "{what}: {}{}", said.stdout, said.stderr);
                (said.code == Some(1) && said.stdout.contains("problem")).then_some(())
            });
        }
        for words in [&["explain", "chat/a"][..], &["key", "list"], &["vip", "status"]] {
            let said = stage.cli(words);
            let text = format!("{}{}", said.stdout, said.stderr);
            assert!(text.contains("chat/a") || text.contains("[vip.NAME]"), "{what}, {words:?}: {text}");
        }
        match stage.file().symlink_metadata() {
            Ok(found) if found.is_dir() => fs_err::remove_dir(stage.file()).expect("the directory"),
            Ok(_) => fs_err::remove_file(stage.file()).expect("what stands there"),
            Err(_) => {}
        }
        stage.write_file(&text);
        wait_for("the file to be well again", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
    }
    // Without an agent the file's own fault is told, and what to do.
    stage.agent().stop();
    fs_err::remove_file(stage.file()).expect("the file");
    fs_err::create_dir(stage.file()).expect("a directory");
    let nowhere = stage.path("nowhere.sock");
    let said = stage.cli(&["status", "--socket", nowhere.to_str().expect("ASCII")]);
    assert!(said.code == Some(2) && said.stderr.contains("not a regular file"), "{}", said.stderr);
    assert!(said.stderr.contains("--socket PATH") && said.stderr.contains("nowhere.sock"), "{}", said.stderr);
}

#[test]
fn a_log_beside_the_watched_file_does_not_feed_itself() {
    let stage = Stage::with_haproxy(&binary(), |text| text);
    let log = stage.path("agent.log");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>> \"$0\""]).arg(&log).arg(env!("CARGO_BIN_EXE_hapilot"));
    command.arg("-c").arg(stage.file()).arg("run").env("RUST_LOG", "trace").env_remove("NOTIFY_SOCKET");
    let mut agent = Background::start(command);
    wait_for("the agent", PATIENCE, || {
        fs_err::read_to_string(&log).is_ok_and(|text| text.contains("serving")).then_some(())
    });
    let size = || fs_err::metadata(&log).expect("the log").len();
    let before = size();
    pause(Duration::from_secs(3));
    let grown = size() - before;
    // Its own probes and looks at trace level are some hundred KB; the loop made 25 MB a second.
    assert!(grown < 3_000_000, "{grown} bytes in 3 s");
    let said = stage.read("agent.log");
    assert!(!said.contains("inotify event"), "events are logged");
    // An edit is seen all the same.
    stage.edit("weight = 100 # a", "weight = 40 # a");
    wait_for("the edit", PATIENCE, || (stage.weight("a") == 40).then_some(()));
    assert_eq!(agent.stop(), Some(0));
}
