//! One canary of the configuration that serves.

use super::telling::{edited, event};
use crate::config::{Backend, Canary, CanaryGroup, Config};
use crate::event::{Event, Severity};
use crate::fleet::Fleet;
use crate::model::{AdminState, Digest, Moment, Name, ServerId, Weight};
use crate::rollout::{Heard, Percent, Phase, Rejected, Rollout, Rules, Servers, may_begin};
use std::time::SystemTime;

/// One of them.
#[derive(Debug)]
pub(super) struct Watched {
    pub backend: Name,
    /// Its servers; none where it has other models.
    pub servers: Vec<Name>,
    pub content: String,
    pub rules: Rules,
    pub standing: Standing,
    pub fresh: Heard,
    /// When it was promoted or rolled back; none: it was not, or nobody knows.
    pub ended_at: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) enum Standing {
    /// It may not begin yet: why.
    Waits(String),
    /// It has begun.
    Begun(Box<Rollout>),
}

impl Watched {
    pub fn new(backend: &Backend, canary: &Canary) -> Self {
        let servers = match &canary.group {
            CanaryGroup::Servers(servers) => servers.clone(),
            CanaryGroup::Models(_) => vec![],
        };
        Self {
            backend: backend.name.clone(),
            servers,
            content: content(backend, canary),
            rules: canary.rules.clone(),
            standing: Standing::Waits(String::new()),
            fresh: Heard::default(),
            ended_at: None,
        }
    }

    pub fn percent(&self) -> Percent {
        match &self.standing {
            Standing::Waits(_) => Percent::NONE,
            Standing::Begun(rollout) => rollout.percent(),
        }
    }

    pub fn is_rolled_back(&self) -> bool {
        matches!(&self.standing, Standing::Begun(rollout) if matches!(rollout.phase(), Phase::RolledBack { .. }))
    }

    pub fn is_promoted(&self) -> bool {
        matches!(&self.standing, Standing::Begun(rollout) if matches!(rollout.phase(), Phase::Done))
    }

    /// Begins, where it may.
    pub fn begin(&mut self, name: &Name, rejected: &[Rejected], now: Moment, today: SystemTime) -> Vec<Event> {
        match may_begin(&self.content, rejected, today) {
            Ok(()) => {
                let rollout = Rollout::new(self.rules.clone(), self.content.clone(), now);
                let text = format!("the canary {name} begins with {} of the clients", rollout.percent());
                (self.standing, self.ended_at) = (Standing::Begun(Box::new(rollout)), None);
                vec![event(name, Severity::Info, text)]
            }
            Err(why) => {
                let is_news = matches!(&self.standing, Standing::Waits(before) if before.is_empty());
                let text = format!("the canary {name} does not begin: {why}");
                self.standing = Standing::Waits(why);
                if is_news { vec![event(name, Severity::Warning, text)] } else { vec![] }
            }
        }
    }

    /// What it gets where these are its rules.
    pub fn percent_under(&self, rules: &Rules) -> Percent {
        match &self.standing {
            Standing::Begun(rollout) => rollout.percent_under(rules),
            Standing::Waits(_) => Percent::NONE,
        }
    }

    /// Goes on by other rules. What was rolled back begins anew, where it may.
    pub fn edit(
        &mut self,
        name: &Name,
        rules: &Rules,
        rejected: &[Rejected],
        now: Moment,
        today: SystemTime,
    ) -> Vec<Event> {
        self.rules = rules.clone();
        let is_back = self.is_rolled_back();
        match &mut self.standing {
            Standing::Begun(rollout) if rollout.rules() == rules => vec![],
            Standing::Begun(_) if is_back => {
                self.standing = Standing::Waits(String::new());
                self.begin(name, rejected, now, today)
            }
            Standing::Begun(rollout) => {
                let before = rollout.percent();
                rollout.edit(rules, now);
                vec![edited(name, rollout, before)]
            }
            Standing::Waits(_) => vec![],
        }
    }

    /// Its servers that have become ordinary ones of their backend under another file.
    pub fn freed<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = &'a Name> {
        let backend = config.backend(&self.backend);
        let is_freed = move |name: &&Name| {
            backend.is_some_and(|backend| {
                let is_canary = backend.canary.as_ref().is_some_and(|canary| canary.has_server(name));
                !is_canary && backend.servers.iter().any(|server| server.name == **name)
            })
        };
        self.servers.iter().filter(is_freed)
    }
}

/// Enough of the rules to tell them from others.
pub(super) fn short_rules(rules: &Rules) -> String {
    short(&Digest::of(format!("{rules:?}")).to_string())
}

/// Enough of a digest to tell one content from another.
pub(super) fn short(content: &str) -> String {
    content.chars().take(12).collect()
}

/// What is rolled out: the same content behaves alike.
pub(super) fn content(backend: &Backend, canary: &Canary) -> String {
    let servers: Vec<_> = backend.servers.iter().filter(|server| canary.has_server(&server.name)).collect();
    let mut urls: Vec<_> = servers
        .iter()
        .map(|server| {
            let models: Vec<_> = server.models.iter().map(|(name, here)| (name, &here.value)).collect();
            // Its name is no part of it: another name makes nothing better.
            (server.url.value.to_string(), server.host_header(), models)
        })
        .collect();
    urls.sort();
    let models: Vec<_> = canary.models().into_iter().flatten().map(|(name, here)| (name, &here.value)).collect();
    Digest::of(format!("{:?}", (&backend.name, urls, models))).to_string()
}

/// How many servers of each group can serve, as health and operators have it.
pub(super) fn servers(config: &Config, fleet: &Fleet, backend: &Name) -> Option<Servers> {
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
