//! What an operator's file refers to and this node does not have: secrets, above all.
//!
//! Looks, reads no value out. Called by `restore`.

use crate::config::Config;
use crate::model::{SecretRef, Sourced};
use crate::sys::secrets::read_secret;
use camino::Utf8PathBuf;
use serde::Serialize;
use std::collections::BTreeMap;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Lacking {
    /// A path, or a reference as the operator wrote it.
    pub what: String,
    /// Whose it is.
    pub whose: String,
    /// What to do.
    pub help: String,
}

/// Everything that is missing, each once.
pub(super) fn lacking(config: &Config) -> Vec<Lacking> {
    let mut secrets: BTreeMap<&SecretRef, String> = BTreeMap::new();
    for (backend, server) in config.servers() {
        for key in &server.keys {
            secrets.entry(&key.value).or_insert_with(|| format!("a key of {}/{}", backend.name, server.name));
        }
    }
    let password = config.haproxy.stats.iter().filter_map(|stats| stats.login.as_ref());
    secrets.extend(password.map(|(_, password)| (&password.value, "the password of the statistics page".to_owned())));
    let heartbeat =
        config.node.heartbeat.iter().map(|heartbeat| (&heartbeat.key.value, "the heartbeat's key".to_owned()));
    secrets.extend(heartbeat);
    let alerts = config
        .alerts
        .sinks
        .iter()
        .filter_map(|sink| Some((&sink.secret()?.value, format!("the secret of alert {}", sink.name))));
    secrets.extend(alerts);
    let mut missing: Vec<Lacking> =
        secrets.into_iter().filter_map(|(reference, whose)| secret(reference, whose)).collect();
    let certificates = config.frontends.iter().flat_map(|frontend| {
        frontend
            .certificates
            .iter()
            .map(|path| (path, format!("a certificate of frontend {}, with its key", frontend.name.value)))
    });
    let ours = config.servers().filter_map(|(backend, server)| {
        Some((
            server.tls.certificate.as_ref()?,
            format!("our certificate towards {}/{}, with its key", backend.name, server.name),
        ))
    });
    let others = super::backup::named_files(config);
    let others = others.into_iter().map(|(kind, path)| (path, kind.words().to_owned()));
    let own = |(path, whose): (&Sourced<Utf8PathBuf>, String)| (path.value.clone(), whose);
    let files: BTreeMap<Utf8PathBuf, String> = certificates.chain(ours).map(own).chain(others).collect();
    let git = config.history.git.iter().filter(|path| !path.exists());
    missing.extend(git.map(|path| Lacking {
        what: path.to_string(),
        whose: "the git repository of the history".to_owned(),
        help: "clone it back; else the agent makes one anew, without a remote".to_owned(),
    }));
    let absent = files.into_iter().filter(|(path, _)| !path.exists());
    missing.extend(absent.map(|(path, whose)| Lacking {
        what: path.to_string(),
        whose,
        help: "put it there".to_owned(),
    }));
    missing
}

fn secret(reference: &SecretRef, whose: String) -> Option<Lacking> {
    let help = match reference {
        SecretRef::File(path) if path.exists() => return None,
        SecretRef::File(path) => format!("sudo install -m 600 /dev/stdin {path}"),
        // Whoever restores may have another environment than the agent's unit gives it.
        SecretRef::Env(_) | SecretRef::Credential(_) if read_secret(reference).is_ok() => return None,
        SecretRef::Env(name) => format!("a line {name}=… in {}", crate::sys::secrets::environment_file()),
        SecretRef::Credential(name) => format!("LoadCredential={name}:/path in hapilot's unit, if it is not there"),
    };
    Some(Lacking { what: reference.to_string(), whose, help })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::collections::BTreeSet;

    /// A file with every key that there is.
    const FULL: &str = include_str!("../config/read/full.toml");

    #[test]
    fn every_secret_that_a_file_refers_to_is_named() {
        let config = config::parse("a.toml", FULL, "lb1").unwrap_or_else(|found| panic!("{}", found.render(false)));
        let told: BTreeSet<String> = lacking(&config).into_iter().map(|one| one.what).collect();
        let kinds = ["\"file:", "\"env:", "\"credential:"];
        let references = FULL.match_indices('"').filter_map(|(at, _)| {
            let rest = &FULL[at..];
            kinds.iter().any(|kind| rest.starts_with(kind)).then(|| rest[1..].split('"').next().unwrap().to_owned())
        });
        let references: BTreeSet<String> = references.collect();
        assert!(references.len() > 5, "{references:?}");
        let unnamed: Vec<_> = references.difference(&told).collect();
        assert!(unnamed.is_empty(), "{unnamed:?} of {told:?}");
    }
}
