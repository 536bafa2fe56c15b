//! One node over a long time: a real agent's node on a real directory, and the model of HAProxy below it.

use super::chance::Chance;
use super::loaded::Loaded;
use super::model::{Deeds, Haproxy};
use super::sockets::{Shared, Sockets, listen};
use super::wanted::Wanted;
use camino::{Utf8Path, Utf8PathBuf};
use hapilot::agent::{Attempt, Intent, Node, Place, Report};
use hapilot::health::{Observation, Outcome, ProbeKind};
use hapilot::model::{AdminState, ServerId, Weight};
use hapilot::store::Journal;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// Why a history is not one that should have been.
pub type Broken = String;

/// What the agent is asked to do.
#[derive(Clone, Debug)]
pub enum Ask {
    /// `hapilot apply`.
    Apply { adopt: bool, force: bool },
    /// A look at HAProxy, as after a probe or a while.
    Reconcile,
    /// An operator's word.
    Server(ServerId, Option<AdminState>, Option<Weight>),
}

/// How it ended.
#[derive(Debug)]
pub enum End {
    Done(Box<Report>),
    Failed(String),
    TooSoon,
    Died,
}

pub struct World {
    pub chance: Chance,
    pub wanted: Wanted,
    pub haproxy: Shared,
    pub node: Option<Node>,
    pub directory: Utf8PathBuf,
    /// What happened so far.
    pub told: Vec<String>,
    died: Rc<Notify>,
    sockets: Option<Sockets>,
    port: u16,
    _held: tempfile::TempDir,
}

impl World {
    pub fn new(seed: u64, version: &'static str, port: u16) -> Self {
        // Where there is memory for files: a thousand syncs take their time.
        let memory = Utf8Path::new("/dev/shm");
        let held = if memory.exists() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let held = held.expect("a directory");
        let directory = Utf8Path::from_path(held.path()).expect("UTF-8").to_owned();
        // `-c` says yes unless it is told otherwise: real files are judged by real HAProxies in other tests.
        let binary = directory.join("haproxy");
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = -v ] && echo 'HAProxy version {version} 2026/01/01'\n\
             [ -e {directory}/refuse ] && {{ echo '[ALERT] (1) : config : made up' >&2; exit 1; }}\nexit 0\n"
        );
        crate::support::write(&binary, script);
        fs_err::set_permissions(&binary, PermissionsExt::from_mode(0o755)).expect("its mode");
        let mut chance = Chance::new(seed);
        let wanted = Wanted::new(&mut chance);
        let model = Haproxy::new(directory.clone(), version, Chance::new(seed ^ 0xfeed));
        Self {
            chance,
            wanted,
            haproxy: Rc::new(RefCell::new(model)),
            node: None,
            directory,
            told: vec![],
            died: Rc::new(Notify::new()),
            sockets: None,
            port,
            _held: held,
        }
    }

    pub fn place(&self) -> Place {
        Place { file: self.directory.join("hapilot.toml"), node: None }
    }

    /// Saves the operator's file.
    pub fn save(&self) {
        let text = self.wanted.write(&self.directory, self.port);
        crate::support::write(self.directory.join("hapilot.toml"), text);
    }

    /// Starts HAProxy from the files.
    pub async fn start_haproxy(&mut self) -> Result<(), Broken> {
        self.haproxy.borrow_mut().load()?;
        self.sockets = Some(listen(&self.haproxy, self.port, &self.died).await);
        Ok(())
    }

    pub async fn stop_haproxy(&mut self) {
        if let Some(sockets) = self.sockets.take() {
            sockets.close().await;
        }
        let mut haproxy = self.haproxy.borrow_mut();
        haproxy.serving = None;
        haproxy.workers.clear();
    }

    /// A new life of the agent, which settles as at each start.
    pub async fn restart(&mut self) -> Result<End, Broken> {
        self.node = None;
        let node = Node::open(self.place()).await.map_err(|e| format!("the agent does not start: {e}"))?;
        self.node = Some(node);
        let mut node = self.node.take().expect("it was opened");
        let ended = self.until_death(node.settle()).await;
        Ok(self.keep(node, ended))
    }

    /// Lets the agent do something; where it dies of it there is no agent after it.
    pub async fn ask(&mut self, ask: &Ask) -> End {
        let mut node = self.node.take().expect("an agent runs");
        let ended = match ask {
            Ask::Apply { adopt, force } => {
                let intent = Intent { actor: "op".into(), adopt: *adopt, force: *force, ..Intent::default() };
                self.until_death(node.apply_file(&intent)).await
            }
            Ask::Reconcile => self.until_death(node.reconcile()).await,
            Ask::Server(id, state, weight) => self.until_death(node.set_server(id, *state, *weight, None, "op")).await,
        };
        self.keep(node, ended)
    }

    async fn until_death(
        &self,
        done: impl Future<Output = Result<Report, Attempt>>,
    ) -> Option<Result<Report, Attempt>> {
        tokio::select! {
            biased;
            () = self.died.notified() => None,
            done = done => Some(done),
        }
    }

    fn keep(&mut self, node: Node, ended: Option<Result<Report, Attempt>>) -> End {
        let end = match ended {
            None => return End::Died,
            Some(Ok(report)) => End::Done(Box::new(report)),
            Some(Err(Attempt::TooSoon(_))) => End::TooSoon,
            Some(Err(Attempt::Failed(failed))) => End::Failed(failed.message),
        };
        self.node = Some(node);
        end
    }

    /// A death between two files: those that were written last were not written yet. Each step of it leaves files that
    /// HAProxy starts from.
    pub fn cut_writes(&mut self) -> Result<(), Broken> {
        let journal = Journal::of(&self.directory.join("state"));
        let Ok(Some(undertaking)) = journal.unfinished() else { return Ok(()) };
        let files = &undertaking.files;
        let kept = self.chance.index(files.len() + 1);
        for file in files[kept..].iter().rev() {
            match &file.before {
                Some(before) => crate::support::write(&file.path, before.content().expect("it was verified")),
                None => drop(fs_err::remove_file(&file.path)),
            }
            if self.directory.join("haproxy.cfg").exists() {
                Loaded::read(&self.directory).map_err(|e| format!("a death between two files: no start: {e}"))?;
            }
        }
        self.told.push(format!("  it had written {kept} of {} files ({})", files.len(), undertaking.kind));
        Ok(())
    }

    /// A probe's result.
    pub fn probe(&mut self, id: &ServerId, outcome: Outcome) {
        let node = self.node.as_mut().expect("an agent runs");
        let observation = Observation {
            kind: ProbeKind::Models,
            outcome,
            retry_after: None,
            first_token: None,
            total: Duration::from_millis(5),
            tokens: 0,
            detail: String::new(),
        };
        let now = node.now();
        node.fleet.observe(id, &observation, now);
    }

    /// Every file that HAProxy reads, as it is.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for below in ["", "maps", "crt-lists"] {
            let Ok(entries) = fs_err::read_dir(self.directory.join(below)) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().into_string().expect("UTF-8");
                if [".cfg", ".map", ".list"].iter().any(|suffix| name.ends_with(suffix)) {
                    files.insert(format!("{below}/{name}"), fs_err::read(entry.path()).expect("a file"));
                }
            }
        }
        files
    }

    pub fn deeds(&self) -> Deeds {
        self.haproxy.borrow().deeds.clone()
    }
}
