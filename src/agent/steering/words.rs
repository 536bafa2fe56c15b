//! An operator's word on one server.

use super::Steering;
use crate::agent::outcome::report::Failed;
use crate::config::Config;
use crate::event::{Event, EventKind, Severity};
use crate::model::{AdminState, ServerId, Weight, format_duration};
use jiff::Timestamp;
use std::time::Duration;

impl Steering {
    /// Takes an operator's word; answers what is to be told of it.
    ///
    /// # Errors
    /// No such server.
    pub(in crate::agent) fn say(
        &mut self,
        config: &Config,
        id: &ServerId,
        state: Option<AdminState>,
        weight: Option<Weight>,
        period: Option<Duration>,
        actor: &str,
    ) -> Result<Event, Failed> {
        let Some((_, server)) = config.server(id) else {
            return Err(Failed::refused(format!("there is no server {id}{}", nearest(config, id))));
        };
        let until = period.and_then(|period| Timestamp::now().checked_add(period).ok());
        self.overrides.set(id.clone(), state, weight, actor.to_owned(), until, server.state.value);
        self.said.insert(id.clone());
        self.word_count.add();
        let state_word = state.map(|state| format!(" {state}")).unwrap_or_default();
        let weight_word = weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
        let period_word = period.map(|period| format!(" for {}", format_duration(period))).unwrap_or_default();
        let text = format!("{actor} sets {id}{state_word}{weight_word}{period_word}");
        Ok(Event::once(EventKind::Override, Severity::Info, id, text))
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
