//! Whom a command asks: the running agent, where there is one; and who asks.
//!
//! Called by every command that asks the agent.

use super::output::Failure;
use crate::agent::{Attempt, Place};
use crate::api::{About, Client};
use crate::sys;

/// The running agent, where there is one. The socket's path stands in the file; a file with mistakes still tells it.
pub(super) fn agent(place: &Place) -> Result<Option<Client>, Failure> {
    // Who names the agent's socket alone means that agent, whichever file it serves.
    let is_named = place.socket.is_none() || place.file.exists();
    let about = About { file: is_named.then(|| place.file.clone()), node: place.node.clone() };
    let socket = place.agent_socket();
    if let Some(client) = Client::connect(&socket, about.clone()).map_err(Failure::from)? {
        return Ok(Some(client));
    }
    // One that was started with another socket than the file names now has told its own beside its lock.
    let holding = || sys::lock::Holding::of(&place.state_directory().join("lock"));
    let holding = if place.socket.is_none() { holding() } else { None };
    match holding.and_then(|holding| holding.socket).filter(|told| *told != socket) {
        Some(told) => Client::connect(&told, about).map_err(Failure::from),
        None => Ok(None),
    }
}

/// What starts the agent of this file.
pub(super) fn how_to_start(place: &Place) -> String {
    // The unit's own file.
    let is_of_unit = place.command("run") == "hapilot run";
    if is_of_unit { "systemctl start hapilot".to_owned() } else { place.command("run") }
}

/// Who gives the command: the one behind sudo, else the user.
pub(super) fn actor() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    named.filter(|name| !name.is_empty()).or_else(user).unwrap_or_else(|| format!("uid {}", nix::unistd::getuid()))
}

/// What an attempt without an agent ends with, where it does not wait for the gap between two reloads.
pub(super) fn failure(attempt: Attempt) -> Failure {
    match attempt {
        Attempt::Failed(failed) => Failure::from(failed),
        Attempt::TooSoon(_) => Failure::refused("the last reload was just now; try again in a few seconds"),
    }
}
