//! The command line in a shell that has none of the agent's secrets: no environment, no credentials, no right to read
//! a key's file.

use super::support::haproxy::binaries;
use super::support::process::{self, Background, Finished};
use super::support::stage::{KEY, Stage, swapped};
use super::support::{PATIENCE, agent, is_root, wait_for, write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The variable of the first key.
const VARIABLE: &str = "TEST_PROVIDER_KEY";

/// What a command needs the values of secrets for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing.
    None,
    /// To compare: it says what it left out.
    Comparison,
    /// It hands them on itself, whether an agent runs or not.
    Own,
    /// It hands them to HAProxy, unless an agent does.
    HAProxy,
}

/// Each command, what it needs, and its exit code where it has that.
const COMMANDS: [(&[&str], Need, i32); 18] = [
    // Without an agent, that is what is wrong.
    (&["status"], Need::None, 1),
    (&["explain", "chat/a"], Need::None, 0),
    (&["key", "list"], Need::None, 0),
    (&["history"], Need::None, 0),
    (&["history", "show", "1"], Need::None, 0),
    (&["diff"], Need::None, 0),
    (&["diff", "1", "2"], Need::None, 0),
    (&["tag", "1", "good"], Need::None, 0),
    (&["render"], Need::None, 0),
    (&["confirm"], Need::None, 1),
    (&["probe", "--last"], Need::None, 0),
    (&["check"], Need::Comparison, 0),
    (&["plan"], Need::Comparison, 0),
    (&["probe", "chat/a", "--kind", "models"], Need::Own, 0),
    (&["key", "test", "chat"], Need::Own, 0),
    (&["apply"], Need::HAProxy, 0),
    (&["server", "weight", "chat/b", "100"], Need::HAProxy, 0),
    (&["rollback", "1"], Need::HAProxy, 0),
];

/// A key each by its variable, as a credential and in a file that only its owner's rights open.
fn stage(binary: &super::support::haproxy::Binary) -> Stage {
    let stage = Stage::new(binary);
    fs_err::create_dir(stage.path("credentials")).expect("a directory");
    write(stage.path("credentials/provider"), KEY);
    write(stage.path("closed"), KEY);
    fs_err::set_permissions(stage.path("closed"), PermissionsExt::from_mode(0o000)).expect("a mode");
    let key = |name: &str| {
        format!("keys = [\"file:{}/key\"] # {name}", stage.path("").display().to_string().trim_end_matches('/'))
    };
    let mut text = swapped(&stage.text(), &key("a"), &format!("keys = [\"env:{VARIABLE}\"] # a"));
    text = swapped(&text, &key("b"), "keys = [\"credential:provider\"] # b");
    // Without root's powers nobody can read it, and the rich shell neither.
    if is_root() {
        text = swapped(&text, &key("c"), &format!("keys = [\"file:{}\"] # c", stage.path("closed").display()));
    }
    stage.write_file(&text);
    stage
}

/// With all secrets, as the agent's unit gives them.
fn rich(stage: &Stage, arguments: &[&str]) -> Command {
    let file = stage.file();
    let mut command = agent::command(&[&["-c", file.to_str().expect("ASCII")], arguments].concat());
    command.env(VARIABLE, KEY).env("CREDENTIALS_DIRECTORY", stage.path("credentials"));
    command
}

/// With none of them: root is held to the modes of files.
fn poor(stage: &Stage, arguments: &[&str]) -> Command {
    let file = stage.file();
    let plain = agent::command(&[&["-c", file.to_str().expect("ASCII")], arguments].concat());
    let mut command = match is_root() {
        true => {
            let mut held = Command::new("setpriv");
            held.args(["--bounding-set", "-dac_override,-dac_read_search"]).arg(plain.get_program());
            held.args(plain.get_args()).envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
            held
        }
        false => plain,
    };
    command.env_remove(VARIABLE).env_remove("CREDENTIALS_DIRECTORY");
    command
}

fn run(command: Command) -> Finished {
    process::run(command, agent::LIMIT)
}

/// The places of the secrets, each with the word that a message has of it.
fn places() -> Vec<(&'static str, &'static str)> {
    let all = [("env:TEST_PROVIDER_KEY", "chat/a"), ("credential:provider", "chat/b"), ("/closed", "chat/c")];
    all.into_iter().take(if is_root() { 3 } else { 2 }).collect()
}

fn judge(arguments: &[&str], need: Need, code: i32, finished: &Finished, has_agent: bool, has_secrets: bool) {
    let Finished { code: ended, stdout, stderr } = finished;
    let told = format!("{arguments:?} (agent {has_agent}, secrets {has_secrets}): {ended:?}\n{stdout}\n{stderr}");
    assert!(!stdout.contains(KEY) && !stderr.contains(KEY), "no value is printed: {told}");
    // `status` finds nothing wrong where an agent runs.
    let code = if has_agent && arguments == ["status"] { 0 } else { code };
    let is_refused = !has_secrets && (need == Need::Own || (need == Need::HAProxy && !has_agent));
    if is_refused {
        assert_eq!(*ended, Some(1), "{told}");
        let wanted =
            if arguments == ["probe", "chat/a", "--kind", "models"] { places()[..1].to_vec() } else { places() };
        for (place, owner) in wanted {
            let line = stderr.lines().find(|line| line.contains(place) && line.contains(owner));
            let line = line.unwrap_or_else(|| panic!("{place} of {owner} is named: {told}"));
            assert!(line.contains("hapilot.toml:"), "where it is in the file: {told}");
        }
        let named = stderr.matches(places()[0].0).count();
        assert_eq!(named, 1, "once is enough: {told}");
        assert!(stderr.contains("help:") && stderr.contains("sudo -u") && stderr.contains("agent"), "{told}");
        return;
    }
    assert_eq!(*ended, Some(code), "{told}");
    let lines: Vec<&str> = stderr.lines().filter(|line| line.contains("cannot be read here")).collect();
    // The agent plans with its own secrets; `check` judges the file from where it is typed.
    let is_told = need == Need::Comparison && !has_secrets && !(has_agent && arguments == ["plan"]);
    match is_told {
        true => {
            assert_eq!(lines.len(), 1, "{told}");
            let is_named = |(place, owner): &(&str, &str)| lines[0].contains(place) && lines[0].contains(owner);
            assert!(places().iter().all(is_named), "{told}");
            assert!(lines[0].starts_with(&format!("{} keys cannot be read here", places().len())), "{told}");
        }
        false => assert!(lines.is_empty() && !stderr.contains(VARIABLE), "{told}"),
    }
    if arguments == ["plan"] {
        assert!(stdout.contains("nothing to do"), "no key is a change: {told}");
    }
    if arguments == ["status"] || arguments == ["key", "list"] {
        assert!(stdout.contains("chat"), "{told}");
        assert!(!stdout.contains("unread"), "what stands for a key is not shown: {told}");
    }
}

#[test]
fn every_command_works_without_the_agents_secrets_that_has_not_to_hand_one_on() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = stage(&binary);
        let first = stage.text();
        let finished = run(rich(&stage, &["apply"]));
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        stage.start_haproxy();
        stage.write_file(&swapped(&first, "weight = 100 # c", "weight = 90 # c"));
        let finished = run(rich(&stage, &["apply"]));
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        for (has_agent, has_secrets) in [(false, false), (false, true), (true, false), (true, true)] {
            let agent = has_agent.then(|| {
                let mut agent = Background::start(rich(&stage, &["run"]));
                agent.wait_for_output("serving");
                wait_for("every server to be healthy", PATIENCE, || {
                    let status = run(poor(&stage, &["status", "--json"]));
                    (status.code == Some(0) && status.stdout.matches("\"healthy\"").count() >= 3).then_some(())
                });
                agent
            });
            for (arguments, need, code) in COMMANDS {
                let command = if has_secrets { rich(&stage, arguments) } else { poor(&stage, arguments) };
                judge(arguments, need, code, &run(command), has_agent, has_secrets);
            }
            // The rollback is undone for the next row.
            drop(agent);
            let finished = run(rich(&stage, &["apply"]));
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        }
    }
}

#[test]
fn a_plan_without_secrets_shows_what_else_changes() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = stage(&binary);
        // Before HAProxy runs, the files are what is compared with.
        assert_eq!(run(rich(&stage, &["apply"])).code, Some(0));
        let plan = run(poor(&stage, &["plan", "--json"]));
        assert_eq!(plan.code, Some(0), "{}", plan.stderr);
        let plan: serde_json::Value = serde_json::from_str(&plan.stdout).expect("JSON");
        assert_eq!((plan["how"].as_str(), &plan["files"]), (Some("start"), &serde_json::json!([])), "{plan}");
        assert!(plan["notes"].to_string().contains("cannot be read here"), "{plan}");
        stage.start_haproxy();
        stage.edit("weight = 100 # a", "weight = 40 # a");
        let plan = run(poor(&stage, &["plan"]));
        assert_eq!(plan.code, Some(0), "{}", plan.stderr);
        assert!(plan.stdout.contains("no reload: 1 runtime command"), "{}", plan.stdout);
        assert!(plan.stdout.contains("weight chat/a 100 → 40") && !plan.stdout.contains("keys.map"), "{}", plan.stdout);
        // What is wrong for everybody is a mistake here too.
        stage.edit("\"credential:provider\"", "\"file:/nowhere/at/all\"");
        let checked = run(poor(&stage, &["check"]));
        assert!(checked.code == Some(1) && checked.stderr.contains("/nowhere/at/all"), "{}", checked.stderr);
        let status = run(poor(&stage, &["status"]));
        assert!(status.stdout.contains("/nowhere/at/all") && status.stdout.contains("chat"), "{}", status.stdout);
    }
}
