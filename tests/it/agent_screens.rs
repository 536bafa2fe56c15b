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

#[test]
fn help_in_a_pipe_is_wrapped_once() {
    let said = |columns: Option<&str>, arguments: &[&str]| {
        let mut command = agent::command(arguments);
        command.env_remove("COLUMNS").envs(columns.map(|columns| ("COLUMNS", columns)));
        let told = process::run(command, agent::LIMIT);
        told.stdout + &told.stderr
    };
    for arguments in
        [&[][..], &["--help"], &["-h"], &["server"], &["server", "-h"], &["server", "--help"], &["help", "vip"]]
    {
        let text = said(None, arguments);
        check(&arguments.join(" "), &text, 80);
        assert_eq!(text, said(Some("80"), arguments), "{arguments:?}");
        check(&arguments.join(" "), &said(Some("60"), arguments), 60);
    }
    assert_eq!(said(None, &["server"]), said(None, &["server", "-h"]));
    let unknown = said(None, &["frobnicate"]);
    assert!(unknown.contains("unrecognized subcommand") && !unknown.contains("exist: \n"), "{unknown}");
}

#[test]
fn errors_in_a_pipe_fit_eighty_columns_and_begin_with_their_place() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let stage = Stage::new(&binary);
    let file = stage.file();
    let key = format!("keys = [\"file:{}\"] # a", stage.path("key").display());
    stage.edit(&key, "keys = [\"env:TEST_SURELY_UNSET\"] # a");
    let said = |columns: Option<&str>| {
        let mut command = agent::command(&["-c", file.to_str().expect("a path of ASCII"), "apply"]);
        command.env_remove("COLUMNS");
        command.envs(columns.map(|columns| ("COLUMNS", columns)));
        process::run(command, agent::LIMIT).stderr
    };
    let (narrow, wide) = (said(None), said(Some("1000")));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&narrow), words(&wide));
    assert!(narrow.starts_with(&format!("error: {}:", file.display())), "{narrow}");
    let is_fit = |line: &str| line.chars().count() <= 80 || line.contains(file.to_str().expect("ASCII"));
    assert!(narrow.lines().all(is_fit) && narrow.lines().count() > wide.lines().count(), "{narrow}");
    assert!(narrow.contains("\n  ") && narrow.contains("`env NAME=VALUE hapilot …`"), "{narrow}");
}

#[test]
fn every_line_of_the_agents_log_says_its_time_in_utc() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let stage = Stage::new(&binary);
    for words in [&["run"][..], &["run", "--json"]] {
        let file = stage.file();
        let all = [&["-c", file.to_str().expect("a path of ASCII")], words].concat();
        let mut command = agent::command(&all);
        // The node's own clock does not matter.
        command.env("TZ", "Asia/Kolkata");
        let mut agent = process::Background::start(command);
        agent.wait_for_output("serving");
        let before = agent.stderr();
        let lines: Vec<&str> = before.lines().filter(|line| line.contains("INFO")).collect();
        assert!(lines.len() > 1, "{before}");
        for line in lines {
            let time = line.trim_start_matches("{\"timestamp\":\"").split(['"', ' ']).next().expect("a time");
            assert!(time.ends_with('Z'), "{line}");
            let time: jiff::Timestamp = time.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(time.duration_until(jiff::Timestamp::now()).abs().as_secs() < 600, "UTC, not local: {line}");
        }
        assert_eq!(agent.stop(), Some(0));
    }
    assert!(stage.path("state").exists());
}
