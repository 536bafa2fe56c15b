//! The canaries of the configuration that serves: what each of them gets, and why.
//!
//! Decides by `rollout` alone, from what requests came to. Knows no HAProxy: what a canary gets becomes a part of what is wanted.

use crate::agent::sources::place::Sources;
use crate::config::{Backend, Canary, Config};
use crate::event::{Event, EventKind, Severity};
use crate::fleet::Fleet;
use crate::heartbeat::{CanaryNews, MAX_CANARIES};
use crate::model::{AdminState, Digest, Moment, Name, ServerId, Weight};
use crate::rollout::{
    Change, Decided, Heard, Hold, Percent, Phase, Rejected, Rollout, Rules, Servers, View, Word, may_begin,
};
use crate::store::{SavedCanaries, SavedCanary};
use crate::traffic::GroupCounts;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
    /// When the rollouts are looked at next.
    next: Moment,
    /// What has not been told yet.
    news: Vec<Event>,
}

/// One of them.
#[derive(Debug)]
struct Watched {
    backend: Name,
    content: String,
    rules: Rules,
    standing: Standing,
    fresh: Heard,
}

#[derive(Debug)]
enum Standing {
    /// It may not begin yet: why.
    Waits(String),
    /// It has begun.
    Begun(Box<Rollout>),
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
    /// The rollout, once it has begun.
    pub rollout: Option<View>,
}

impl Canaries {
    /// With what the life before has left.
    pub fn of(saved: SavedCanaries) -> Self {
        let SavedCanaries { canaries, rejected } = saved;
        Self { saved: canaries, rejected, ..Self::default() }
    }

    /// What is to be kept over a restart.
    pub fn to_save(&self, today: SystemTime) -> SavedCanaries {
        let begun = self.all.iter().filter_map(|(name, watched)| match &watched.standing {
            Standing::Begun(rollout) => {
                // What has ended stays as it is.
                let at = if rollout.has_ended() { SystemTime::UNIX_EPOCH } else { today };
                Some((name.clone(), SavedCanary { rollout: (**rollout).clone(), at }))
            }
            Standing::Waits(_) => None,
        });
        SavedCanaries { canaries: begun.collect(), rejected: self.rejected.clone() }
    }

    /// The same under other sources: who is new there, or another one, has nothing yet.
    pub fn parts_under(&self, sources: &Sources) -> Arc<BTreeMap<Name, Percent>> {
        let part = |(backend, canary): (&Backend, &Canary)| {
            let known = self.all.get(&canary.name.value)?;
            let is_same = known.content == content(backend, canary) && known.rules == canary.rules;
            Some((canary.name.value.clone(), known.percent())).filter(|_| is_same)
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
            let (name, content) = (canary.name.value.clone(), content(backend, canary));
            let is_same = |known: &Watched| known.content == content && known.rules == canary.rules;
            if let Some(known) = before.remove(&name).filter(is_same) {
                self.all.insert(name, known);
                continue;
            }
            let mut watched = Watched {
                backend: backend.name.clone(),
                content,
                rules: canary.rules.clone(),
                standing: Standing::Waits(String::new()),
                fresh: Heard::default(),
            };
            match self.saved.remove(&name).filter(|saved| saved.rollout.is_of(&watched.content, &watched.rules)) {
                Some(SavedCanary { mut rollout, at }) => {
                    rollout.after_gap(today.duration_since(at).unwrap_or_default());
                    watched.standing = Standing::Begun(Box::new(rollout));
                }
                None => self.news.extend(watched.begin(&name, &self.rejected, now, today)),
            }
            self.all.insert(name, watched);
        }
        for (name, gone) in before {
            if matches!(&gone.standing, Standing::Begun(rollout) if !rollout.has_ended()) {
                let text = format!("the canary {name} is gone from the file: all clients are the control group's");
                self.news.push(Event::once(EventKind::Canary, Severity::Info, &name, text));
            }
        }
        self.saved.clear();
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
                    note_rejected(&mut self.rejected, rollout, &changes, today);
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
            Some((name.to_string(), CanaryNews { content: short(&watched.content), stage, rolled_back }))
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
            let is_back = matches!(&watched.standing, Standing::Begun(rollout) if matches!(rollout.phase(), Phase::RolledBack { .. }));
            if matches!(watched.standing, Standing::Waits(_)) || is_back && news.rolled_back.is_none() {
                self.news.extend(watched.begin(name, &[], now, today));
            }
            if let Standing::Begun(rollout) = &mut watched.standing {
                rollout.observe(&Heard::default(), now);
                let changes = rollout.follow(&other, now);
                note_rejected(&mut self.rejected, rollout, &changes, today);
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
                watched.begin(name, &[], now, today)
            }
            (CanaryWord::Rollout(_), Standing::Waits(why)) => return Err(format!("it has not begun: {why}")),
            (CanaryWord::Rollout(word), Standing::Begun(rollout)) => {
                let changes = rollout.told(word, now).map_err(|deaf| deaf.to_string())?;
                note_rejected(&mut self.rejected, rollout, &changes, today);
                changes.iter().map(|change| told(name, change)).collect()
            }
        };
        self.news.extend(events.into_iter().map(|event| event.because(format!("{actor} said so"))));
        self.settle();
        Ok(())
    }

    /// What each of them does now.
    pub fn view(&self, now: Moment) -> Vec<CanaryView> {
        let view = |(name, watched): (&Name, &Watched)| {
            let (waits, rollout) = match &watched.standing {
                Standing::Waits(why) => (Some(why.clone()), None),
                Standing::Begun(rollout) => (None, Some(rollout.view(now))),
            };
            let percent = f64::from(watched.percent().hundredths()) / 100.0;
            CanaryView { name: name.to_string(), backend: watched.backend.to_string(), percent, waits, rollout }
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

impl Watched {
    fn percent(&self) -> Percent {
        match &self.standing {
            Standing::Waits(_) => Percent::NONE,
            Standing::Begun(rollout) => rollout.percent(),
        }
    }

    /// Begins, where it may.
    fn begin(&mut self, name: &Name, rejected: &[Rejected], now: Moment, today: SystemTime) -> Vec<Event> {
        match may_begin(&self.content, rejected, today) {
            Ok(()) => {
                let rollout = Rollout::new(self.rules.clone(), self.content.clone(), now);
                let text = format!("the canary {name} begins with {} of the clients", rollout.percent());
                self.standing = Standing::Begun(Box::new(rollout));
                vec![Event::once(EventKind::Canary, Severity::Info, name, text)]
            }
            Err(why) => {
                let is_news = matches!(&self.standing, Standing::Waits(before) if before.is_empty());
                let text = format!("the canary {name} does not begin: {why}");
                self.standing = Standing::Waits(why);
                if is_news { vec![Event::once(EventKind::Canary, Severity::Warning, name, text)] } else { vec![] }
            }
        }
    }
}

/// Enough of a digest to tell one content from another.
fn short(content: &str) -> String {
    content.chars().take(12).collect()
}

fn canaries(config: &Config) -> impl Iterator<Item = (&Backend, &Canary)> {
    config.backends.iter().filter_map(|backend| Some((backend, backend.canary.as_ref()?)))
}

/// What is rolled out: the same content behaves alike.
fn content(backend: &Backend, canary: &Canary) -> String {
    let servers: Vec<_> = backend.servers.iter().filter(|server| canary.has_server(&server.name)).collect();
    let urls: Vec<_> = servers
        .iter()
        .map(|server| {
            let models: Vec<_> = server.models.iter().map(|(name, here)| (name, &here.value)).collect();
            (&server.name, &server.url.value, server.host_header(), models)
        })
        .collect();
    let models: Vec<_> = canary.models().into_iter().flatten().map(|(name, here)| (name, &here.value)).collect();
    Digest::of(format!("{:?}", (&backend.name, urls, models))).to_string()
}

/// How many servers of each group can serve, as health and operators have it.
fn servers(config: &Config, fleet: &Fleet, backend: &Name) -> Option<Servers> {
    let backend = config.backend(backend)?;
    let canary = backend.canary.as_ref().filter(|canary| canary.models().is_none())?;
    let mut servers = Servers::default();
    for server in &backend.servers {
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        let is_up = fleet.weights().get(&id).is_none_or(|weight| *weight > Weight::ZERO)
            && server.state.value == AdminState::Ready;
        let (up, all) = match canary.has_server(&server.name) {
            true => (&mut servers.canary_up, &mut servers.canary),
            false if server.tier == 1 => (&mut servers.control_up, &mut servers.control),
            false => continue,
        };
        *up += usize::from(is_up);
        *all += 1;
    }
    Some(servers)
}

fn note_rejected(rejected: &mut Vec<Rejected>, rollout: &Rollout, changes: &[Change], today: SystemTime) {
    for change in changes {
        if let Change::RolledBack { reason } = change {
            rejected.push(Rejected { content: rollout.content().to_owned(), at: today, reason: reason.clone() });
        }
    }
}

fn told(name: &Name, change: &Change) -> Event {
    let once = |severity, text: String| Event::once(EventKind::Canary, severity, name, text);
    match change {
        Change::Stage { stage, percent } => {
            once(Severity::Info, format!("the canary {name} has {percent} of the clients (stage {})", stage + 1))
        }
        Change::Gate { stage } => {
            let text = format!("the canary {name} waits for `hapilot canary promote {name}` (stage {})", stage + 1);
            once(Severity::Warning, text)
        }
        Change::Held(hold) => {
            let severity = match hold {
                Hold::Operator | Hold::TooLittleData { .. } | Hold::Unproven { .. } => Severity::Info,
                Hold::MetricsLost { .. } | Hold::SharedCause { .. } => Severity::Warning,
            };
            once(severity, format!("the canary {name} is held: {}", hold.in_words()))
        }
        Change::WentOn => once(Severity::Info, format!("the canary {name} goes on")),
        Change::Baking => once(Severity::Info, format!("the canary {name} has all clients, and is watched")),
        Change::Done => once(Severity::Info, format!("the canary {name} is promoted: it has all clients")),
        Change::RolledBack { reason } => {
            once(Severity::Error, format!("the canary {name} was rolled back: {reason}")).about("rollback")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const FILE: &str = "[frontend.api]\nbind = [\"127.0.0.1:1\"]\n[backend.chat.server.a]\nurl = \"http://192.0.2.1\"\n\
                        [backend.chat.server.b]\nurl = \"http://192.0.2.2\"\n[canary.turbo]\nbackend = \"chat\"\nservers = [\"b\"]\n\
                        stages = [{ percent = 5, hold = \"1h\" }, { percent = 50, hold = \"1h\" }]\n";

    fn config(file: &str) -> Config {
        config::parse("a.toml", file, "node").expect("a good file")
    }

    fn percent(canaries: &Canaries) -> f64 {
        canaries.view(Moment::default())[0].percent
    }

    fn told(content: &str, stage: Option<usize>, why: Option<&str>) -> BTreeMap<String, CanaryNews> {
        let news = CanaryNews { content: content.to_owned(), stage, rolled_back: why.map(str::to_owned) };
        BTreeMap::from([("turbo".to_owned(), news)])
    }

    #[test]
    fn a_node_does_as_the_owner_does_and_a_later_life_goes_on_there() {
        let (first, today) = (config(FILE), SystemTime::now());
        let now = |seconds| Moment(Duration::from_secs(seconds));
        let mut canaries = Canaries::default();
        canaries.look(&first, now(0), today);
        assert_eq!(percent(&canaries), 5.0);
        let content = canaries.news_of_stages()["turbo"].content.clone();
        assert!(!canaries.follow(&told("another", Some(1), None), now(1), today), "of another content");
        assert!(canaries.follow(&told(&content, Some(1), None), now(2), today));
        assert_eq!((percent(&canaries), canaries.news_of_stages()), (50.0, told(&content, Some(1), None)));

        let mut later = Canaries::of(canaries.to_save(today));
        later.look(&first, now(0), today);
        assert_eq!((percent(&later), later.news_of_stages()), (50.0, told(&content, Some(1), None)));

        assert!(later.follow(&told(&content, None, Some("it failed")), now(3), today));
        assert_eq!(percent(&later), 0.0);
        assert!(!later.follow(&told(&content, None, Some("it failed")), now(4), today), "nothing is new");
        // What was rolled back waits in a later file as well; the owner's operator began it again.
        later.look(&config(&FILE.replace("[canary.turbo]", "[canary.other]")), now(5), today);
        assert_eq!(percent(&later), 0.0);
        later.look(&first, now(6), today);
        assert_eq!(percent(&later), 0.0);
        assert!(later.follow(&told(&content, Some(0), None), now(7), today));
        assert_eq!(percent(&later), 5.0);
        let news: Vec<String> = later.take_news().into_iter().map(|event| event.text).collect();
        assert!(news.iter().any(|text| text.contains("at another node: it failed")), "{news:?}");
    }

    #[test]
    fn another_server_in_the_group_is_another_canary_and_another_weight_is_none() {
        let (first, today) = (config(FILE), SystemTime::now());
        let mut canaries = Canaries::default();
        canaries.look(&first, Moment::default(), today);
        let name = Name::new("turbo").expect("a name");
        canaries.say(&name, CanaryWord::Rollout(Word::Promote), "me", Moment::default(), today).expect("a stage");
        let weighed = FILE.replace("url = \"http://192.0.2.1\"", "url = \"http://192.0.2.1\"\nweight = 7");
        canaries.look(&config(&weighed), Moment::default(), today);
        assert_eq!(percent(&canaries), 50.0);
        canaries.look(&config(&FILE.replace("192.0.2.2", "192.0.2.3")), Moment::default(), today);
        assert_eq!(percent(&canaries), 5.0);
    }
}
