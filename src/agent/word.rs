//! An operator's word on one server, given by command.

use super::apply::{Applied, How};
use super::attempt::Attempt;
use super::node::Node;
use super::report::{Failed, Report};
use crate::config::Config;
use crate::model::{AdminState, ServerId, Weight};
use jiff::Timestamp;
use std::time::{Duration, Instant};

impl Node {
    /// Sets an operator's word on one server.
    ///
    /// # Errors
    /// No such server, or HAProxy does not follow (the word stays and is tried again).
    pub async fn set_server(
        &mut self,
        id: &ServerId,
        state: Option<AdminState>,
        weight: Option<Weight>,
        period: Option<Duration>,
        actor: &str,
    ) -> Result<Report, Attempt> {
        let Some((_, server)) = self.serving.config.server(id) else {
            return Err(Failed::refused(format!("there is no server {id}{}", nearest(&self.serving.config, id))).into());
        };
        let until = period.and_then(|period| Timestamp::now().checked_add(period).ok());
        self.overrides.set(id.clone(), state, weight, actor.to_owned(), until, server.state.value);
        self.ledger.keep_overrides(&self.overrides)?;
        let state_word = state.map(|state| format!(" {state}")).unwrap_or_default();
        let weight_word = weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
        tracing::info!(server = %id, actor, "{actor} sets {id}{state_word}{weight_word}");
        let began = Instant::now();
        match self.reconcile().await {
            // The command went to HAProxy; its files wait for a verdict that takes its time.
            Err(Attempt::TooSoon(_)) if self.engine.checks.is_checking() => {
                let applied = Applied { how: How::Runtime, ..Applied::nothing() };
                Ok(Report::new(applied, self.revision(), String::new(), began.elapsed()))
            }
            result => result,
        }
    }
}

fn nearest(config: &Config, id: &ServerId) -> String {
    // A few slips within a name, and not another name of the same length.
    let slips = |known: &str, wanted: &str| {
        let distance = strsim::damerau_levenshtein(known, wanted);
        (distance <= known.len().min(wanted.len()).div_ceil(3).min(3)).then_some(distance)
    };
    let all = config.servers().filter_map(|(backend, server)| {
        let (of_backend, of_server) =
            (slips(backend.name.as_str(), id.backend.as_str())?, slips(server.name.as_str(), id.server.as_str())?);
        Some((of_backend + of_server, format!("{}/{}", backend.name, server.name)))
    });
    all.min().map(|(_, name)| format!("; did you mean {name}?")).unwrap_or_default()
}
