//! Keys that an agent takes from the file at its start alone.

use crate::config::Config;
use camino::Utf8PathBuf;

/// What the file said then.
#[derive(Clone, Debug)]
pub(in crate::agent) struct AtStart {
    state: Utf8PathBuf,
    pub(super) socket: Utf8PathBuf,
    listen: Option<String>,
}

impl AtStart {
    pub fn of(config: &Config) -> Self {
        let listen = config.api.listen.as_ref().map(ToString::to_string);
        Self { state: config.node.state.value.clone(), socket: config.api.socket.value.clone(), listen }
    }

    /// One line for each key that says something else now.
    pub fn differs_from(&self, config: &Config) -> Vec<String> {
        let now = Self::of(config);
        let line = |key: &str, then: &str, now: &str| {
            format!("{key} = \"{now}\" is not in force: this agent goes on with {then} until it is restarted")
        };
        let mut lines = vec![];
        if now.state != self.state {
            let line = line("[node] state", self.state.as_str(), now.state.as_str());
            lines.push(format!("{line}; history, events and operators' words stay behind there"));
        }
        if now.socket != self.socket {
            lines.push(format!(
                "{}, and commands ask it there until then",
                line("[api] socket", self.socket.as_str(), now.socket.as_str())
            ));
        }
        if now.listen != self.listen {
            let or_none = |listen: &Option<String>| listen.clone().unwrap_or_else(|| "none".to_owned());
            lines.push(line("[api] listen", &or_none(&self.listen), &or_none(&now.listen)));
        }
        lines
    }
}
