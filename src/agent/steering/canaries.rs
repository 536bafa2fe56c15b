//! The canaries of the configuration that serves: what each of them gets, and why.
//!
//! Decides by `rollout` alone, from what requests came to. Knows no HAProxy: what a canary gets becomes a part of what is wanted.

mod leaving;
mod telling;
mod watched;

use crate::agent::sources::place::Sources;
use crate::config::{Backend, Canary, Config};
use crate::event::Event;
use crate::fleet::Fleet;
use crate::heartbeat::{CanaryNews, MAX_CANARIES};
use crate::model::{Moment, Name, ServerId};
use crate::rollout::{Change, Decided, Heard, Percent, Phase, Rejected, Rollout, View, Word, blocked_until, may_begin};
use crate::store::{SavedCanaries, SavedCanary};
use crate::traffic::GroupCounts;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use telling::told;
use watched::{Standing, Watched, content, servers, short, short_rules};

/// What was heard is handed to a rollout this often.
const EVERY: Duration = Duration::from_secs(1);
/// So many contents that were rolled back are remembered.
const MAX_REJECTED: usize = 100;

/// All canaries.
#[derive(Debug, Default)]
pub(in crate::agent) struct Canaries {
    all: BTreeMap<Name, Watched>,
    /// What HAProxy is to send them.
    parts: Arc<BTreeMap<Name, Percent>>,
    rejected: Vec<Rejected>,
    /// Of the life before, until the first look.
    saved: BTreeMap<Name, SavedCanary>,
    /// Why that is lost.
    lost: Option<String>,
    /// When the rollouts are looked at next.
    next: Moment,
    /// What has not been told yet.
    news: Vec<Event>,
}

/// One canary at one moment, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CanaryView {
    /// Its name.
    pub name: String,
    /// The backend whose clients it splits.
    pub backend: String,
    /// What HAProxy is to send it, in percent.
    pub percent: f64,
    /// Why it has not begun; none: it has.
    pub waits: Option<String>,
    /// When it was promoted or rolled back, where that is known.
    pub ended_at: Option<SystemTime>,
    /// Until when the same content does not begin by itself, since it was rolled back.
    pub blocked_until: Option<SystemTime>,
    /// The rollout, once it has begun.
    pub rollout: Option<View>,
}

impl Canaries {
    /// With what the life before has left.
    pub fn of(saved: SavedCanaries) -> Self {
        let SavedCanaries { canaries, rejected, lost } = saved;
        Self { saved: canaries, rejected, lost, ..Self::default() }
    }

    /// What is to be kept over a restart.
    pub fn to_save(&self, today: SystemTime) -> SavedCanaries {
        let begun = self.all.iter().filter_map(|(name, watched)| match &watched.standing {
            Standing::Begun(rollout) => {
                // What has ended stays as it is.
                let ended_at = || watched.ended_at.unwrap_or(SystemTime::UNIX_EPOCH);
                let at = if rollout.has_ended() { ended_at() } else { today };
                Some((name.clone(), SavedCanary { rollout: (**rollout).clone(), at }))
            }
            Standing::Waits(_) => None,
        });
        SavedCanaries { canaries: begun.collect(), rejected: self.rejected.clone(), lost: None }
    }

    /// The same under other sources: who is new there, or another one, has nothing yet.
    pub fn parts_under(&self, sources: &Sources) -> Arc<BTreeMap<Name, Percent>> {
        let part = |(backend, canary): (&Backend, &Canary)| {
            let known = self.all.get(&canary.name.value)?;
            let is_same = known.content == content(backend, canary);
            Some((canary.name.value.clone(), known.percent_under(&canary.rules))).filter(|_| is_same)
        };
        let parts: BTreeMap<_, _> = canaries(&sources.config).filter_map(part).collect();
        if *self.parts == parts { self.parts.clone() } else { Arc::new(parts) }
    }

    /// What has happened since this was asked last.
    pub fn take_news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.news)
    }

    /// Another configuration serves. Answers whether HAProxy is to send another part than before.
    pub fn look(&mut self, config: &Config, now: Moment, today: SystemTime) -> bool {
        let mut before = std::mem::take(&mut self.all);
        for (backend, canary) in canaries(config) {
            let name = canary.name.value.clone();
            let mut watched = Watched::new(backend, canary);
            match before.remove(&name) {
                Some(mut known) if known.content == watched.content => {
                    self.news.extend(known.edit(&name, &canary.rules, &self.rejected, now, today));
                    self.all.insert(name, known);
                    continue;
                }
                Some(known) => {
                    self.news.extend(leaving::freed(&name, &known, config));
                    self.news.extend(leaving::another(&name, &known));
                }
                None => {}
            }
            match self.saved.remove(&name).filter(|saved| saved.rollout.content() == watched.content) {
                Some(SavedCanary { mut rollout, at }) => {
                    rollout.after_gap(today.duration_since(at).unwrap_or_default());
                    watched.ended_at = Some(at).filter(|at| rollout.has_ended() && *at > SystemTime::UNIX_EPOCH);
                    watched.standing = Standing::Begun(Box::new(rollout));
                    self.news.extend(watched.edit(&name, &canary.rules, &self.rejected, now, today));
                }
                None => {
                    // It may have been rolled back.
                    let content = || watched.content.clone();
                    let lost = self.lost.clone().map(|reason| Rejected { content: content(), at: today, reason });
                    self.rejected.extend(lost);
                    self.news.extend(watched.begin(&name, &self.rejected, now, today));
                }
            }
            self.all.insert(name, watched);
        }
        self.news.extend(before.iter().map(|(name, gone)| leaving::gone(name, gone, config)));
        self.saved.clear();
        self.lost = None;
        self.settle()
    }

    /// Takes in what became of requests.
    pub fn hear(&mut self, config: &Config, groups: &[(ServerId, GroupCounts)]) {
        if self.all.is_empty() {
            return;
        }
        for (id, counts) in groups {
            let Some(canary) = config.backend(&id.backend).and_then(|backend| backend.canary.as_ref()) else {
                continue;
            };
            let Some(watched) = self.all.get_mut(&canary.name.value) else { continue };
            match canary.models() {
                Some(_) => {
                    watched.fresh.canary.merge(&counts.canary);
                    watched.fresh.control.merge(&counts.control);
                }
                // A request of the canary group that the control group served tells of that.
                None if canary.has_server(&id.server) => watched.fresh.canary.merge(&counts.sum()),
                None => watched.fresh.control.merge(&counts.sum()),
            }
        }
    }

    /// What an apply of this file would do to servers of canaries, where clients are kept from them now.
    pub fn notes_on(&self, config: &Config, today: SystemTime) -> Vec<String> {
        self.all.iter().filter_map(|(name, watched)| leaving::note(name, watched, config, today)).collect()
    }

    /// When [`Self::decide`] is due; `None`: there is nothing to decide.
    pub fn next(&self) -> Option<Moment> {
        (!self.all.is_empty()).then_some(self.next)
    }

    /// Decides by what was heard. `hears`: HAProxy's lines are read, so that silence means that nobody asked. Answers whether
    /// HAProxy is to send another part.
    pub fn decide(&mut self, config: &Config, fleet: &Fleet, hears: bool, now: Moment, today: SystemTime) -> bool {
        if self.all.is_empty() || now < self.next {
            return false;
        }
        self.next = now + EVERY;
        for (name, watched) in &mut self.all {
            match &mut watched.standing {
                Standing::Waits(_) => self.news.extend(watched.begin(name, &self.rejected, now, today)),
                Standing::Begun(rollout) => {
                    let mut heard = std::mem::take(&mut watched.fresh);
                    if hears {
                        heard.servers = servers(config, fleet, &watched.backend);
                        rollout.observe(&heard, now);
                    }
                    let changes = rollout.decide(now);
                    note_end(&mut self.rejected, rollout, &mut watched.ended_at, &changes, today);
                    self.news.extend(changes.iter().map(|change| told(name, change)));
                }
            }
        }
        self.settle()
    }

    /// Where each of them is, for other nodes.
    pub fn news_of_stages(&self) -> BTreeMap<String, CanaryNews> {
        let news = |(name, watched): (&Name, &Watched)| {
            let Standing::Begun(rollout) = &watched.standing else { return None };
            let (stage, rolled_back) = match rollout.phase() {
                Phase::Stage(at) | Phase::Gate(at) => (Some(*at), None),
                Phase::Baking | Phase::Done => (None, None),
                Phase::RolledBack { reason } => (None, Some(reason.clone())),
            };
            let (content, rules) = (short(&watched.content), short_rules(&watched.rules));
            Some((name.to_string(), CanaryNews { content, rules, stage, rolled_back }))
        };
        self.all.iter().filter_map(news).take(MAX_CANARIES).collect()
    }

    /// Does as the node does that has the clients. Answers whether HAProxy is to send another part.
    pub fn follow(&mut self, told: &BTreeMap<String, CanaryNews>, now: Moment, today: SystemTime) -> bool {
        self.next = now + EVERY;
        for (name, watched) in &mut self.all {
            watched.fresh = Heard::default();
            let Some(news) = told.get(name.as_str()).filter(|news| news.content == short(&watched.content)) else {
                continue;
            };
            let other = match (&news.rolled_back, news.stage) {
                (Some(reason), _) => Decided::RolledBack(reason.clone()),
                (None, Some(stage)) => Decided::Stage(stage),
                (None, None) => Decided::Behind,
            };
            let is_back = watched.is_rolled_back();
            if matches!(watched.standing, Standing::Waits(_)) || is_back && news.rolled_back.is_none() {
                // Whoever has the clients began it: what was rolled back before counts no more.
                self.rejected.retain(|rejected| rejected.content != watched.content || news.rolled_back.is_some());
                self.news.extend(watched.begin(name, &[], now, today));
            }
            // While only one of the nodes has an edit of the stages, their numbers mean two things.
            let is_numbered_alike = news.rules.is_empty() || news.rules == short_rules(&watched.rules);
            if let Standing::Begun(rollout) = &mut watched.standing {
                rollout.observe(&Heard::default(), now);
                let follows = is_numbered_alike || news.rolled_back.is_some();
                let changes = if follows { rollout.follow(&other, now) } else { vec![] };
                note_end(&mut self.rejected, rollout, &mut watched.ended_at, &changes, today);
                self.news.extend(changes.iter().map(|change| self::told(name, change)));
            }
        }
        self.settle()
    }

    /// Does what an operator says of one.
    ///
    /// # Errors
    /// There is no such canary, or the word means nothing now: why.
    pub fn say(
        &mut self,
        name: &Name,
        word: CanaryWord,
        actor: &str,
        now: Moment,
        today: SystemTime,
    ) -> Result<(), String> {
        let Some(watched) = self.all.get_mut(name) else {
            let names: Vec<&str> = self.all.keys().map(Name::as_str).collect();
            let known =
                if names.is_empty() { "the file has none".into() } else { format!("there is {}", names.join(", ")) };
            return Err(format!("there is no canary {name}: {known}"));
        };
        let events: Vec<Event> = match (word, &mut watched.standing) {
            (CanaryWord::Restart { force }, _) => {
                if !force {
                    may_begin(&watched.content, &self.rejected, today)
                        .map_err(|why| format!("{why}; `--force` begins all the same"))?;
                }
                // What an operator overrules does not come back with the next edit.
                self.rejected.retain(|rejected| rejected.content != watched.content);
                watched.begin(name, &[], now, today)
            }
            (CanaryWord::Rollout(_), Standing::Waits(why)) => {
                return Err(format!(
                    "it has not begun: {why}; `hapilot canary restart {name} --force` begins all the same"
                ));
            }
            (CanaryWord::Rollout(word), Standing::Begun(rollout)) => {
                let changes = rollout.told(word, now).map_err(|deaf| deaf.to_string())?;
                note_end(&mut self.rejected, rollout, &mut watched.ended_at, &changes, today);
                changes.iter().map(|change| told(name, change)).collect()
            }
        };
        self.news.extend(events.into_iter().map(|event| event.because(format!("{actor} said so"))));
        self.settle();
        Ok(())
    }

    /// What each of them does now.
    pub fn view(&self, now: Moment, today: SystemTime) -> Vec<CanaryView> {
        let view = |(name, watched): (&Name, &Watched)| {
            let (waits, rollout) = match &watched.standing {
                Standing::Waits(why) => (Some(why.clone()), None),
                Standing::Begun(rollout) => (None, Some(rollout.view(now))),
            };
            let percent = f64::from(watched.percent().hundredths()) / 100.0;
            let (name, backend) = (name.to_string(), watched.backend.to_string());
            let blocked_until = blocked_until(&watched.content, &self.rejected, today);
            CanaryView { name, backend, percent, waits, rollout, ended_at: watched.ended_at, blocked_until }
        };
        self.all.iter().map(view).collect()
    }

    /// Answers whether a part has moved.
    fn settle(&mut self) -> bool {
        let parts: BTreeMap<_, _> = self.all.iter().map(|(name, watched)| (name.clone(), watched.percent())).collect();
        let is_moved = *self.parts != parts;
        if is_moved {
            self.parts = Arc::new(parts);
        }
        let beyond = self.rejected.len().saturating_sub(MAX_REJECTED);
        self.rejected.drain(..beyond);
        is_moved
    }
}

/// What an operator says of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryWord {
    /// Promote, hold, resume, abort.
    Rollout(Word),
    /// From its first stage on.
    Restart {
        /// Also where the same content was rolled back just now.
        force: bool,
    },
}

fn canaries(config: &Config) -> impl Iterator<Item = (&Backend, &Canary)> {
    config.backends.iter().filter_map(|backend| Some((backend, backend.canary.as_ref()?)))
}

/// Notes when it ended, and what is not to begin again.
fn note_end(
    rejected: &mut Vec<Rejected>,
    rollout: &Rollout,
    ended_at: &mut Option<SystemTime>,
    changes: &[Change],
    today: SystemTime,
) {
    for change in changes {
        if let Change::RolledBack { reason } = change {
            rejected.push(Rejected { content: rollout.content().to_owned(), at: today, reason: reason.clone() });
        }
        if matches!(change, Change::Done | Change::RolledBack { .. }) {
            *ended_at = Some(today);
        }
    }
}

#[cfg(test)]
mod tests;
