//! The product's own binary, as an operator starts it.

use super::process::{self, Background, Finished};
use std::process::Command;
use std::time::Duration;

/// Longest time that a command of the command line may take in a test.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The binary with arguments, on a terminal so wide that no line breaks, without colours and without what the machine's environment says about hapilot.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hapilot"));
    command
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("COLUMNS", "1000")
        .env_remove("NOTIFY_SOCKET")
        .env_remove("RUST_LOG");
    let own = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("HAPILOT_"));
    for name in own {
        command.env_remove(name);
    }
    command
}

/// Runs a command of the command line to its end, within [`LIMIT`].
pub fn run(arguments: &[&str]) -> Finished {
    process::run(command(arguments), LIMIT)
}

/// Starts a command that stays (`run`, `demo`, `mock`); dropping the value ends it with all its children.
pub fn start(arguments: &[&str]) -> Background {
    Background::start(command(arguments))
}

#[test]
fn the_binary_answers_within_its_limit() {
    let finished = run(&["--version"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

#[test]
fn the_binary_in_the_background_can_be_waited_for() {
    let mut agent = start(&["--version"]);
    assert!(agent.wait(LIMIT).is_some_and(|status| status.success()), "{}", agent.stderr());
}
