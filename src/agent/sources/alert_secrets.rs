//! Secrets of sinks that cannot be read: no reason to refuse a file, since traffic does not need them; told by `check`.

use super::unread::SecretUse;
use crate::agent::tell::refusal::At;
use crate::config::Config;
use crate::sys;
use camino::Utf8Path;

/// One line each. Of what this process may not read and the agent may, that is said.
pub(super) fn unread(file: &Utf8Path, config: &Config, secrets: SecretUse) -> Vec<String> {
    if secrets == SecretUse::Nothing {
        return vec![];
    }
    let line = |sink: &crate::config::AlertSink| {
        let reference = sink.secret()?;
        let error = sys::secrets::read_secret(&reference.value).err()?;
        let is_ours = error.is_out_of_reach() && !secrets.hands_on();
        let at = At::origin(file, reference.origin);
        let (place, why) = (&reference.value, sys::chain(&error));
        let told = match is_ours {
            true => "only the agent may be able to read it",
            false => "nobody is told by it until it can be read",
        };
        Some(format!("{at}: {place} of [alert.{}]: {why}: {told}", sink.name))
    };
    config.alerts.sinks.iter().filter_map(line).collect()
}
