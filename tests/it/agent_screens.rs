//! What an operator reads on a terminal of 80 columns, or in a pipe: nothing is wider, no word is broken, and a
//! healthy server takes one line.

use super::support::agent;
use super::support::haproxy::binaries;
use super::support::process;
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, wait_for};
use hapilot::mock::{Fault, FaultKind};

/// A server whose name is as long as names get in practice, and that refuses.
const LONG: &str = "gateway-eu-central-1-on-demand-blue";

/// What a command prints into a pipe, with `COLUMNS` as it is given.
fn shown(stage: &Stage, columns: Option<&str>, arguments: &[&str]) -> String {
    let file = stage.file();
    let mut all = vec!["-c", file.to_str().expect("a path of ASCII")];
    all.extend(arguments);
    let mut command = agent::command(&all);
    command.env_remove("COLUMNS");
    if let Some(columns) = columns {
        command.env("COLUMNS", columns);
    }
    process::run(command, agent::LIMIT).stdout
}

/// Every line fits, but for one that is a single word.
fn check(name: &str, text: &str, width: usize) {
    assert!(!text.is_empty(), "{name} prints nothing");
    for line in text.lines() {
        let is_one_word = line.split_whitespace().count() <= 1;
        assert!(line.chars().count() <= width || is_one_word, "{name}, wider than {width}: {line}\n{text}");
    }
}

#[test]
fn every_screen_fits_and_a_healthy_server_takes_one_line() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let extra = format!("\n[backend.chat.server.{LONG}]\nurl = \"http://127.0.0.1:9\"\n[backend.chat.server.a]");
    let stage = Stage::with_haproxy(&binary, |text| swapped(&text, "\n[backend.chat.server.a]", &extra));
    let mut stage = stage;
    stage.start_agent();
    stage.wait_for_health();
    stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
    stage.done(&["server", "weight", "chat/c", "30", "--for", "10m"]);
    wait_for("both to be out", PATIENCE, || {
        ["b", LONG].iter().all(|name| stage.server_status(name)["health"] == "unhealthy").then_some(())
    });
    let status = shown(&stage, None, &["status"]);
    let of_a = status.lines().skip_while(|line| !line.starts_with("  a ")).take(2).collect::<Vec<_>>();
    assert!(of_a[0].contains("healthy") && of_a[0].contains(" up "), "{status}");
    assert!(of_a[1].starts_with("  b "), "a healthy server takes one line:\n{status}");
    assert!(
        status.contains("\n      failed") || status.contains("\n      HAProxy"),
        "a reason has its line:\n{status}"
    );
    assert!(!status.contains("0.00 ms"), "{status}");
    let until = stage.server_status("c")["override"].to_string();
    assert!(until.contains('Z'), "programs get UTC: {until}");
    assert!(status.contains("in 9 min"), "{status}");
    let long = format!("chat/{LONG}");
    let screens: [&[&str]; 6] =
        [&["status"], &["history"], &["key", "list"], &["explain", &long], &["explain", "chat/c"], &["probe", "chat"]];
    for arguments in screens {
        check(&arguments.join(" "), &shown(&stage, None, arguments), 80);
        check(&arguments.join(" "), &shown(&stage, Some("60"), arguments), 60);
        check(&arguments.join(" "), &shown(&stage, Some("132"), arguments), 132);
    }
    println!("{status}\n{}\n{}", shown(&stage, None, &["history"]), shown(&stage, None, &["key", "list"]));
    println!("{}", shown(&stage, None, &["explain", &long]));
}

#[test]
fn a_command_that_is_missing_or_misspelt_is_told_without_what_only_programs_run() {
    for arguments in [&[][..], &["-c", "/nowhere"], &["--json"]] {
        let told = agent::run(arguments);
        assert_eq!(told.code, Some(2));
        let text = told.stdout + &told.stderr;
        assert!(text.contains("status") && !text.contains("__"), "{text}");
    }
}
