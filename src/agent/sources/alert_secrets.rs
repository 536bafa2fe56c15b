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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn each_secret_that_cannot_be_read_is_told() {
        let file = "[frontend.api]\nbind = [\"*:8080\"]\n[backend.chat.server.one]\nurl = \"http://192.0.2.1\"\n\
                    [alert.ops]\nslack = { webhook = \"env:HAPILOT_IS_SURELY_UNSET\" }\n\
                    [alert.team]\nslack = { webhook = \"file:/nowhere/at/all\" }\n";
        let config = parse("f", file, "lb1").unwrap();
        let told = unread(Utf8Path::new("f"), &config, SecretUse::Compared);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("env:HAPILOT_IS_SURELY_UNSET of [alert.ops]"), "{told:?}");
        assert!(told[1].contains("/nowhere/at/all of [alert.team]"), "{told:?}");
    }
}
