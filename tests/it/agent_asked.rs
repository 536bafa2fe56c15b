//! How the command line finds the agent that is meant, and what it says where that is busy, ends, or serves another file.

use super::support::agent;
use super::support::haproxy::{Binary, binaries};
use super::support::process::{Background, Stopped};
use super::support::stage::Stage;
use super::support::{PATIENCE, pause, wait_for};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What a command may take that needs no patience, its own start included.
const SOON: Duration = Duration::from_secs(3);
/// As `api` has it: so many clients wait at the most.
const CLIENTS: usize = 64;

fn binary() -> Binary {
    binaries().into_iter().next_back().expect("a HAProxy")
}

#[test]
fn a_socket_alone_leads_to_the_file_and_the_history_of_its_agent() {
    let stage = Stage::running(&binary(), |text| text);
    stage.edit("weight = 100 # a", "weight = 40 # a");
    wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
    let socket = stage.path("hapilot.sock");
    let asked = |words: &[&str]| agent::run(&[&["--socket", socket.to_str().expect("ASCII")], words].concat());
    let file = stage.file().display().to_string();
    for (words, needle) in [
        (&["status"][..], file.as_str()),
        (&["history"], "weight chat/a 100 → 40"),
        (&["history", "show", "2"], "weight = 40 # a"),
        (&["diff", "1", "2"], "+weight = 40 # a"),
        (&["diff", "1"], "+weight = 40 # a"),
        (&["events"], "revision 2 serves"),
        (&["rollback", "--write"], "revision 3"),
    ] {
        let said = asked(words);
        let text = said.stdout + &said.stderr;
        assert!(said.code == Some(0) && text.contains(needle), "{words:?}: {text}");
    }
    assert!(stage.text().contains("weight = 100 # a"), "its own file was written:\n{}", stage.text());

    // Where nobody answers, nobody's history is told in its place.
    let nobody = stage.path("nobody.sock");
    let all = [&["history"][..], &["events"], &["usage"], &["diff"], &["status"], &["apply"], &["rollback", "--write"]];
    for words in all {
        let said = agent::run(&[&["--socket", nobody.to_str().expect("ASCII")], words].concat());
        assert!(said.code == Some(1) && said.stderr.contains("-c FILE"), "{words:?}: {}{}", said.stdout, said.stderr);
    }
}

#[test]
fn who_asks_about_another_file_is_told_the_one_that_runs_and_no_option_that_was_not_given() {
    let stage = Stage::running(&binary(), |text| text);
    let other = stage.path("other.toml");
    super::support::write(&other, stage.text());
    let mut command = agent::command(&["status"]);
    command.env("HAPILOT_CONFIG", &other);
    let said = super::support::process::run(command, agent::LIMIT);
    let named = format!("hapilot -c {}", stage.file().display());
    assert!(said.code == Some(2) && said.stderr.contains(&named), "{}", said.stderr);
    assert!(!said.stderr.contains("leave out"), "{}", said.stderr);
}

#[test]
fn an_agent_on_another_socket_than_the_file_names_now_is_found_at_once() {
    let mut stage = Stage::running(&binary(), |text| text);
    let own = format!("socket = \"{}\"", stage.path("hapilot.sock").display());
    stage.edit(&own, &format!("socket = \"{}\"", stage.path("new.sock").display()));
    let begun = Instant::now();
    assert!(stage.cli(&["status"]).stdout.contains("running"));
    stage.done(&["server", "weight", "chat/a", "30"]);
    stage.done(&["server", "ready", "chat/a"]);
    let second = stage.cli(&["run"]);
    let answers = format!("--socket {}", stage.path("hapilot.sock").display());
    assert!(second.code == Some(1) && second.stderr.contains(&answers), "{}", second.stderr);
    assert!(begun.elapsed() < 2 * SOON, "{:?}", begun.elapsed());
    // What a dead one has left says nothing.
    stage.agent().kill();
    let status = stage.cli(&["status"]);
    assert!(status.stdout.contains("the agent does not run"), "{}{}", status.stdout, status.stderr);
    let (new, old) = (stage.path("new.sock"), stage.path("hapilot.sock"));
    stage.edit(new.to_str().expect("ASCII"), old.to_str().expect("ASCII"));
    stage.start_agent();
    assert!(stage.cli(&["status"]).stdout.contains("running"));
}

/// A client that waits for the end of an `apply`.
fn waiting_apply(stage: &Stage) -> UnixStream {
    let mut client = UnixStream::connect(stage.path("hapilot.sock")).expect("the agent's socket");
    let body = r#"{"adopt":false,"actor":"test","reason":null}"#;
    let head = "POST /v1/apply HTTP/1.1\r\nhost: agent\r\ncontent-type: application/json";
    write!(client, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).expect("a request");
    client
}

#[test]
fn more_clients_than_there_is_room_for_are_told_so_and_status_gets_through() {
    let mut stage = Stage::running(&binary(), |text| text);
    // An apply that needs a reload goes on for as long as the master hangs.
    let master = stage.private().master_pid();
    let stopped = Stopped::new(master);
    stage.edit("idle = \"10s\"", "idle = \"12s\"");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| waiting_apply(&stage)).collect();
    let busy = wait_for("no more room", 3 * PATIENCE, || {
        // On a busy machine the first of them may have had their answers.
        clients.extend((0..CLIENTS / 4).map(|_| waiting_apply(&stage)));
        let file = stage.file();
        let mut apply = Background::start(agent::command(&["-c", file.to_str().expect("ASCII"), "confirm"]));
        let ended = apply.wait(SOON)?;
        (ended.code() == Some(1) && apply.stderr().contains("busy")).then(|| apply.stderr())
    });
    assert!(busy.contains("nothing was done of this one") && !busy.contains("stopped"), "{busy}");
    for _ in 0..3 {
        let begun = Instant::now();
        let status = stage.cli(&["status"]);
        assert!(status.stdout.contains("running") && status.stdout.contains("chat"), "{}", status.stderr);
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
    drop((clients, stopped));
    wait_for("the edit", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
    assert!(!stage.agent().stderr().contains("panicked"));
}

#[test]
fn who_waits_for_an_agent_that_ends_is_told_at_once() {
    let mut stage = Stage::running(&binary(), |text| text);
    let stopped = Stopped::new(stage.private().master_pid());
    stage.edit("idle = \"10s\"", "idle = \"12s\"");
    let file = stage.file();
    let mut apply = Background::start(agent::command(&["-c", file.to_str().expect("ASCII"), "apply"]));
    pause(Duration::from_secs(1));
    assert!(apply.status().is_none(), "it waits: {}", apply.stderr());
    let begun = Instant::now();
    stage.agent().kill();
    let ended = apply.wait(PATIENCE).expect("an end");
    assert!(ended.code() == Some(1) && apply.stderr().contains("has ended"), "{}", apply.stderr());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    drop(stopped);
}
