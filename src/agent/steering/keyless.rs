//! Servers that have no key left.

use super::Steering;
use crate::config::Config;
use crate::health::Keyless;
use crate::model::{Moment, ServerId};

impl Steering {
    /// Tells the fleet which servers have no key left.
    pub(in crate::agent) fn tell_keyless(&mut self, config: &Config, now: Moment) {
        for (backend, server) in config.servers().filter(|(_, server)| !server.keys.is_empty()) {
            let id = ServerId::new(backend.name.clone(), server.name.clone());
            let exhausted = self.keyring.exhausted(&id, now);
            // A single key that rests is the server's own pause, which its health knows.
            let exhausted = exhausted.filter(|exhausted| exhausted.is_rejected || server.keys.len() > 1);
            let keyless = exhausted.map(|exhausted| {
                let why = match (exhausted.is_rejected, server.keys.len()) {
                    (true, 1) if exhausted.is_spent => "the account of its only key is spent, or a quota".to_owned(),
                    (true, keys) if exhausted.is_spent => {
                        format!("the accounts of all its {keys} keys are spent, or a quota")
                    }
                    (true, 1) => "its only key is rejected".to_owned(),
                    (true, keys) => format!("all of its {keys} keys are rejected"),
                    (false, keys) => format!("none of its {keys} keys may be used now"),
                };
                Keyless { until: Some(exhausted.until), why }
            });
            self.fleet.set_keyless(&id, keyless);
        }
    }
}
