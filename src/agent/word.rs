//! An operator's word on one server, given by command.

use super::apply::{Applied, How};
use super::attempt::Attempt;
use super::node::Node;
use super::refusal::{At, Refusal};
use super::report::{Failed, Report};
use super::troubles::Matter;
use crate::config::{Config, Server};
use crate::desired::DesiredServer;
use crate::event::{Event, EventKind, Severity};
use crate::fleet::Override;
use crate::model::{AdminState, ServerId, Weight, format_duration};
use crate::plan::{RuntimeServers, Step};
use crate::render;
use jiff::Timestamp;
use std::time::{Duration, Instant};

impl Node {
    /// Sets an operator's word on one server.
    ///
    /// # Errors
    /// No such server, or HAProxy does not follow (the word stays and is tried again). A word that cannot be written down
    /// holds all the same, with a note.
    pub async fn set_server(
        &mut self,
        id: &ServerId,
        state: Option<AdminState>,
        weight: Option<Weight>,
        period: Option<Duration>,
        actor: &str,
    ) -> Result<Report, Attempt> {
        let said = self.say(id, state, weight, period, actor)?;
        self.bulletin.tell(said);
        self.keep_new_words();
        let began = Instant::now();
        let result = self.reconcile().await;
        self.keep_new_words();
        let mut report = self.word_followed(id, vec![], result, began)?;
        report.notes.extend(self.troubles.of(Matter::Words).map(ToString::to_string));
        Ok(report)
    }

    /// Takes an operator's word; answers what is to be told of it.
    ///
    /// # Errors
    /// No such server.
    pub(super) fn say(
        &mut self,
        id: &ServerId,
        state: Option<AdminState>,
        weight: Option<Weight>,
        period: Option<Duration>,
        actor: &str,
    ) -> Result<Event, Failed> {
        let Some((_, server)) = self.serving.config.server(id) else {
            return Err(Failed::refused(format!("there is no server {id}{}", nearest(&self.serving.config, id))));
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

    /// Whether HAProxy, as it was seen last, has what is wanted of a server.
    pub(super) fn has_followed_word(&self, id: &ServerId) -> bool {
        self.runtime().is_some_and(|runtime| self.has_word(&runtime.servers, id))
    }

    /// Whether HAProxy was not yet seen to have all that operators said.
    pub(super) fn has_unproven_words(&self) -> bool {
        !self.said.is_empty()
    }

    /// Whether these servers have it.
    pub(super) fn has_word(&self, seen: &RuntimeServers, id: &ServerId) -> bool {
        let Some((backend, server)) = self.serving.config.server(id) else { return false };
        let word = self.overrides.get(id).map(Override::wish).unwrap_or_default();
        // What was decided for the push that has just been made, or found nothing to do.
        let wanted = DesiredServer::of(backend, server, self.fleet.weights().get(id).copied(), word);
        let name = render::names_of(backend, server).weight;
        seen.get(&name).is_some_and(|seen| (seen.admin, seen.weight) == (wanted.state, wanted.weight))
    }

    /// Those of the steps that are about a server.
    pub(super) fn steps_of(&self, id: &ServerId, steps: &[Step]) -> Vec<Step> {
        let Some((backend, server)) = self.serving.config.server(id) else { return vec![] };
        let name = render::names_of(backend, server).weight;
        let is_its = |step: &&Step| match step {
            Step::SetWeight { proxy, server, .. } | Step::SetState { proxy, server, .. } => {
                (proxy, server) == (&name.0, &name.1)
            }
            _ => false,
        };
        steps.iter().filter(is_its).cloned().collect()
    }

    /// The answer to who said something of a server: what HAProxy took for it, `ahead` of the rest or with it, and nothing
    /// of other servers.
    ///
    /// # Errors
    /// HAProxy does not follow (the word stays and is tried again).
    pub(super) fn word_followed(
        &mut self,
        id: &ServerId,
        ahead: Vec<Step>,
        result: Result<Report, Attempt>,
        began: Instant,
    ) -> Result<Report, Attempt> {
        let mut notes = vec![];
        let is_checking = self.engine.checks.is_checking();
        // HAProxy has taken it, whatever is wrong with the rest.
        let is_taken = !ahead.is_empty() && self.has_followed_word(id);
        let mut report = match result {
            // The command went to HAProxy; its files wait for a verdict that takes its time, or for room.
            Err(attempt)
                if is_taken || self.engine.files_wait || is_checking && matches!(attempt, Attempt::TooSoon(_)) =>
            {
                if let Attempt::Failed(failed) = attempt {
                    notes.push(format!("HAProxy has it; its files do not: {failed}"));
                }
                let applied = Applied { how: How::Runtime, ..Applied::nothing() };
                Report::new(applied, self.revision(), String::new(), began.elapsed())
            }
            Err(Attempt::Failed(failed)) => return Err(self.kept_all_the_same(id, &failed).into()),
            result => result?,
        };
        let mut steps = ahead;
        steps.extend(self.steps_of(id, &report.applied.steps));
        if !steps.is_empty() && matches!(report.applied.how, How::Unchanged | How::Files) {
            report.applied.how = How::Runtime;
        }
        report.applied.steps = steps;
        report.notes.append(&mut notes);
        report.notes.extend(self.overrules_the_file(id));
        report.notes.extend(self.nobody_is_left(id));
        Ok(report)
    }

    /// The answer where HAProxy has not taken it for long, while a change is under way.
    pub(super) fn word_waits(&self, id: &ServerId) -> Failed {
        let admin = &self.serving.config.haproxy.admin_socket.value;
        self.kept_all_the_same(id, &Failed::refused(format!("HAProxy does not answer in time on {admin}")))
    }

    /// HAProxy could not be told, or not wholly: the word is kept, and follows.
    fn kept_all_the_same(&self, id: &ServerId, failed: &Failed) -> Failed {
        let status = self.place.command("status");
        let way_back = self
            .overrides
            .get(id)
            .map(|_| format!("; `{}` takes it back", self.place.command(&format!("server ready {id}"))));
        let kept = format!(
            "what you said of {id} is kept all the same, and HAProxy follows as soon as it can: see `{status}`{}",
            way_back.unwrap_or_default()
        );
        Failed::refused(failed.refusal.clone().something_changed().done(kept))
    }

    /// A note where an operator's `ready` goes before a file that says otherwise: what holds, and how long.
    fn overrules_the_file(&self, id: &ServerId) -> Option<String> {
        let (_, server) = self.serving.config.server(id)?;
        let (word, of_file) = (self.overrides.get(id)?, server.state.value);
        if word.wish().state? != AdminState::Ready || of_file == AdminState::Ready {
            return None;
        }
        let at = At::origin(&self.place.file, server.state.origin);
        let back = self.place.command(&format!("server {of_file} {id}"));
        Some(format!(
            "{at}: the file says state = \"{of_file}\", and your word goes before it: {word}{}, over restarts and edits. To \
             have it for good, write state = \"ready\" there; `{back}` takes it back",
            if word.has_end() { "" } else { ", without an end" }
        ))
    }

    /// A note where operators and health have taken every server of this backend out of service.
    fn nobody_is_left(&self, id: &ServerId) -> Option<String> {
        let backend = self.serving.config.backend(&id.backend)?;
        let serves = |server: &Server| {
            let id = ServerId { backend: id.backend.clone(), server: server.name.clone() };
            let word = self.overrides.get(&id).map(Override::wish).unwrap_or_default();
            // As health and its guards decided it last.
            let wanted = DesiredServer::of(backend, server, self.fleet.weights().get(&id).copied(), word);
            wanted.state == AdminState::Ready && wanted.weight > Weight::ZERO
        };
        (!backend.servers.iter().any(serves)).then(|| {
            format!(
                "no server of backend {} takes new requests now: clients get 503 until one is healthy and ready (`{}`)",
                id.backend,
                self.place.command(&format!("server ready {id}"))
            )
        })
    }

    /// Writes down what was said since, in place.
    pub(super) fn keep_new_words(&mut self) {
        if self.word_count.is_behind() && !self.is_observer() {
            let kept = self.ledger.keep_overrides(&self.overrides);
            self.words_kept(self.word_count.until_now(), kept);
        }
    }

    /// A full disk keeps no server from being drained; it is told until it is mended.
    pub(super) fn words_kept(&mut self, until: u64, kept: Result<(), Failed>) {
        let problem = kept.err().map(|failed| {
            Refusal::notice(format_args!("what operators said last is not kept over a restart: {failed}"))
        });
        self.troubles.set(Matter::Words, problem);
        self.word_count.is_done(until);
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
