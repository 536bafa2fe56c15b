//! A whole HAProxy: files on disk, a master, the serving worker and the old ones, and the troubles of the hour.

use super::loaded::{Key, Loaded, Server, words};
use super::worker::{Effect, Worker};
use crate::support::chance::Chance;
use camino::Utf8PathBuf;
use std::collections::BTreeMap;

/// What goes wrong, and at which command of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Changes are refused: one, or all from then on.
    Refuse { at: u32, for_ever: bool },
    /// The connection ends without an answer.
    HangUp { at: u32 },
    /// The agent dies before the command is executed, or before it hears the answer.
    Death { at: u32, is_executed: bool },
    /// The agent dies just before it changes a file.
    DeathAtFile { at: u32 },
    /// Somebody else changes something by hand just before.
    Meddling { at: u32 },
    /// Somebody else reloads HAProxy just before, between a look and what follows from it.
    StrangeReload { at: u32 },
    /// The agent dies in the next reload, before HAProxy makes it or before the agent hears of it.
    DeathInReload { is_executed: bool },
    /// HAProxy fails the next reload: the old worker serves on.
    FailedReload,
}

/// What happens to a command.
pub enum Answer {
    Reply(String),
    HangUp,
    /// Nobody will ever hear it.
    Silence,
}

/// What the agent did to the running HAProxy.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    /// Commands that change something, as they came.
    pub changes: Vec<String>,
    /// Those that HAProxy refused.
    pub refused: Vec<String>,
    pub reloads: u32,
    /// Commands to a worker that is not the one that the agent has looked at.
    pub misdirected: Vec<String>,
    /// Backends that the agent's own command left without a server that takes traffic, and that command.
    pub emptied: Vec<(String, String)>,
    /// Servers that it let traffic in, as they were at that moment.
    pub let_in: Vec<(Key, Server)>,
}

pub struct Haproxy {
    pub directory: Utf8PathBuf,
    pub version: &'static str,
    pub workers: BTreeMap<u32, Worker>,
    /// `None` while it is stopped.
    pub serving: Option<u32>,
    pub troubles: Vec<Trouble>,
    pub deeds: Deeds,
    /// Every line that was heard, in order.
    pub heard: Vec<String>,
    /// The worker that the agent has looked at last.
    seen: Option<u32>,
    /// What was changed by others, for the report.
    pub meddled: Vec<String>,
    /// The agent is dead: whatever comes from it is too late.
    pub is_agent_dead: bool,
    pub chance: Chance,
    asked: u32,
    next_pid: u32,
    reloads: u32,
    failed: u32,
}

impl Haproxy {
    pub fn new(directory: Utf8PathBuf, version: &'static str, chance: Chance) -> Self {
        Self {
            directory,
            version,
            workers: BTreeMap::new(),
            serving: None,
            troubles: vec![],
            deeds: Deeds::default(),
            heard: vec![],
            seen: None,
            meddled: vec![],
            is_agent_dead: false,
            chance,
            asked: 0,
            next_pid: 100,
            reloads: 0,
            failed: 0,
        }
    }

    /// The worker that serves.
    pub fn worker(&mut self) -> &mut Worker {
        let pid = self.serving.expect("HAProxy runs");
        self.workers.get_mut(&pid).expect("the serving worker lives")
    }

    /// A new event begins, with these troubles.
    pub fn begin(&mut self, troubles: Vec<Trouble>) {
        self.troubles = troubles;
        self.deeds = Deeds::default();
        self.meddled.clear();
        self.asked = 0;
        self.is_agent_dead = false;
    }

    /// A new worker reads the files; the old one finishes its streams, or is gone.
    ///
    /// # Errors
    /// The files are not ones that HAProxy starts from.
    pub fn load(&mut self) -> Result<(), String> {
        let loaded = Loaded::read(&self.directory)?;
        if let Some(old) = self.serving.take() {
            self.workers.retain(|pid, _| *pid == old);
            match self.chance.one_in(2) {
                true => drop(self.workers.remove(&old)),
                false => self.worker_of(old).is_stopping = true,
            }
        }
        self.next_pid += 1;
        self.workers.insert(self.next_pid, Worker::new(loaded));
        self.serving = Some(self.next_pid);
        Ok(())
    }

    fn worker_of(&mut self, pid: u32) -> &mut Worker {
        self.workers.get_mut(&pid).expect("a worker that lives")
    }

    /// One line on the admin socket, for the worker that the connection belongs to.
    pub fn admin(&mut self, pid: u32, line: &str, payload: Option<&str>) -> Answer {
        self.heard.push(format!("{pid} {line}"));
        let words = words(line).unwrap_or_else(|problem| panic!("{line:?}: {problem}"));
        let changes = matches!(Worker::effect(&words), Effect::Changes);
        match self.trouble(changes, changes) {
            Some(Trouble::HangUp { .. }) => return Answer::HangUp,
            Some(Trouble::Death { is_executed: false, .. }) => return self.die(),
            Some(Trouble::Refuse { .. }) => {
                self.deeds.refused.push(line.to_owned());
                return Answer::Reply("Permission denied\n".to_owned());
            }
            Some(Trouble::Death { .. }) => {
                self.execute(pid, line, &words, payload);
                return self.die();
            }
            _ => {}
        }
        match self.workers.contains_key(&pid) {
            true => Answer::Reply(self.execute(pid, line, &words, payload)),
            false => Answer::HangUp,
        }
    }

    fn execute(&mut self, pid: u32, line: &str, words: &[String], payload: Option<&str>) -> String {
        if words == ["show", "info"] {
            return self.info(pid);
        }
        let Some(worker) = self.workers.get_mut(&pid) else { return String::new() };
        if matches!(Worker::effect(words), Effect::Asks) {
            if words == ["show", "servers", "state"] {
                self.seen = Some(pid);
            }
            return worker.execute(words, payload);
        }
        if self.seen != Some(pid) {
            self.deeds.misdirected.push(line.to_owned());
        }
        let (usable, before) = (worker.usable(), worker.loaded.servers.clone());
        let reply = worker.execute(words, payload);
        let after = worker.usable();
        let emptied = usable.into_iter().filter(|backend| !after.contains(backend));
        self.deeds.emptied.extend(emptied.map(|backend| (backend, line.to_owned())));
        let took_nothing = |key: &Key| before.get(key).is_none_or(|server| server.share() == 0);
        for (key, server) in &worker.loaded.servers {
            if server.share() > 0 && took_nothing(key) {
                self.deeds.let_in.push((key.clone(), server.clone()));
            }
        }
        self.deeds.changes.push(line.to_owned());
        reply
    }

    /// One line on the master socket.
    pub fn master(&mut self, line: &str) -> Answer {
        self.heard.push(format!("master {line}"));
        let is_reload = line == "reload";
        let in_reload = |trouble: &Trouble| match trouble {
            Trouble::DeathInReload { is_executed } => Some(*is_executed),
            _ => None,
        };
        if is_reload && let Some(is_executed) = self.troubles.iter().find_map(in_reload) {
            if is_executed {
                self.reload();
            }
            return self.die();
        }
        // After the question to the master each look ends: what is sent next follows from it.
        match self.trouble(is_reload, true) {
            Some(Trouble::Death { is_executed: false, .. }) => return self.die(),
            Some(Trouble::Death { .. }) => {
                if is_reload {
                    self.reload();
                }
                return self.die();
            }
            _ => {}
        }
        match line {
            "show proc" => Answer::Reply(self.processes()),
            "reload" => {
                let verdict = self.reload();
                // Before 2.7 the master hangs up without a word.
                if self.version.starts_with("2.") { Answer::HangUp } else { Answer::Reply(verdict) }
            }
            other => panic!("the model's master knows no {other:?}"),
        }
    }

    fn reload(&mut self) -> String {
        self.deeds.reloads += 1;
        self.reloads += 1;
        let is_planned = self.troubles.iter().position(|trouble| *trouble == Trouble::FailedReload);
        let loaded = match is_planned {
            Some(at) => {
                self.troubles.remove(at);
                Err("[ALERT] (1) : Starting frontend api: cannot bind socket".to_owned())
            }
            None => self.load(),
        };
        match loaded {
            Ok(()) => {
                self.failed = 0;
                "Success=1\n--\n[NOTICE] (1) : Loading success.\n".to_owned()
            }
            Err(why) => {
                self.failed += 1;
                format!("Success=0\n--\n{why}\n")
            }
        }
    }

    /// Counts a command, and says what goes wrong with it; `is_turn`: at the end of a look, or at a change.
    fn trouble(&mut self, changes: bool, is_turn: bool) -> Option<Trouble> {
        if self.is_agent_dead {
            return Some(Trouble::Death { at: 0, is_executed: false });
        }
        self.asked += 1;
        let now = self.asked;
        let holds = |trouble: &Trouble| match trouble {
            Trouble::Refuse { at, for_ever: _ } => changes && now >= *at,
            Trouble::HangUp { at } | Trouble::Death { at, .. } | Trouble::Meddling { at } => now >= *at,
            Trouble::StrangeReload { at } => is_turn && now >= *at,
            Trouble::FailedReload | Trouble::DeathInReload { .. } | Trouble::DeathAtFile { .. } => false,
        };
        let at = self.troubles.iter().position(holds)?;
        let trouble = match &self.troubles[at] {
            lasting @ Trouble::Refuse { for_ever: true, .. } => lasting.clone(),
            _ => self.troubles.remove(at),
        };
        match trouble {
            Trouble::Meddling { .. } => {
                let what = self.meddle();
                self.meddled.extend(what);
            }
            // Where the files are half written it fails, as the real one would.
            Trouble::StrangeReload { .. } => {
                let told = self
                    .load()
                    .map_or_else(|e| format!("a strange reload failed: {e}"), |()| "a strange reload".to_owned());
                self.meddled.push(told);
            }
            _ => {}
        }
        Some(trouble)
    }

    fn die(&mut self) -> Answer {
        self.is_agent_dead = true;
        Answer::Silence
    }

    fn info(&self, pid: u32) -> String {
        let (worker, version) = (&self.workers[&pid], self.version);
        format!(
            "Name: HAProxy\nVersion: {version}\nPid: {pid}\nUptime_sec: 60\nMaxconn: {}\nHard_maxconn: {}\n\
             description: {}\nStopping: {}\n",
            worker.loaded.maxconn,
            worker.most_maxconn,
            worker.loaded.description,
            u8::from(worker.is_stopping)
        )
    }

    fn processes(&self) -> String {
        let line = |pid: &u32| format!("{pid} worker 0 0d00h00m01s {}\n", self.version);
        let old: String = self.workers.keys().filter(|pid| Some(**pid) != self.serving).map(line).collect();
        let now: String = self.serving.iter().map(line).collect();
        let (reloads, failed, version) = (self.reloads, self.failed, self.version);
        // The master's is this very process: it holds the port of the bind.
        let master = std::process::id();
        format!(
            "#<PID> <type>\n{master} master {reloads} [failed: {failed}] 0d00h00m01s {version}\n# workers\n{now}# old workers\n{old}"
        )
    }
}
