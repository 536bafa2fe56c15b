//! `--socket` without `-c`: the agent there says whose file and whose history are meant.
//!
//! Called once, before a command that asks an agent or reads what one has written; the file of the default path would
//! be somebody else's.

use super::output::Failure;
use crate::agent::Place;
use crate::api::{About, Client};
use crate::sys;
use camino::Utf8PathBuf;

/// The place of the agent that `--socket` names, where no file is named that could be read; else the place as it is.
///
/// # Errors
/// Nobody answers there, and the file of the default path names another socket; or the agent does not answer.
pub(super) async fn of_socket(place: Place, is_file_named: bool) -> Result<Place, Failure> {
    let Some(socket) = place.socket.clone() else { return Ok(place) };
    if is_file_named && place.file.exists() {
        return Ok(place);
    }
    let about = About { file: None, node: place.node.clone() };
    let Some(agent) = Client::connect(&socket, about).map_err(Failure::from)? else {
        let of_file = Place { socket: None, ..place.clone() }.agent_socket();
        // A file that cannot be read is told by whoever needs it.
        if is_file_named || sys::files::is_same(&socket, &of_file) {
            return Ok(place);
        }
        let what = format!("nobody answers on {socket}, so that nobody tells whose file and history are meant");
        let help = "name the file: -c FILE; or start its agent: hapilot -c FILE run";
        return Err(Failure::refused(what).help(help));
    };
    let config = agent.status().await.map_err(Failure::from)?.config;
    Ok(Place { file: config.path.into(), state: config.state.map(Utf8PathBuf::from), ..place })
}
