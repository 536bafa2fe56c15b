//! One node over a long time: a real agent's node on a real directory, and the model of HAProxy below it.

use super::model::{Deeds, Haproxy};
use super::sockets::{Shared, Sockets, listen};
use super::wanted::Wanted;
use super::watch::{Files, Watch, files};
use crate::support::chance::Chance;
use camino::{Utf8Path, Utf8PathBuf};
use hapilot::agent::{Attempt, Intent, Node, Place, Report, SecretUse};
use hapilot::health::{Observation, Outcome, ProbeKind};
use hapilot::model::{AdminState, ServerId, Weight};
use hapilot::sys::fault;
use std::cell::RefCell;
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
    /// What did not hold while the agent worked.
    pub broken: Option<Broken>,
    /// The agent dies at this file operation of its next work.
    pub death_at_file: Option<u32>,
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
            broken: None,
            death_at_file: None,
            died: Rc::new(Notify::new()),
            sockets: None,
            port,
            _held: held,
        }
    }

    pub fn place(&self) -> Place {
        Place {
            file: self.directory.join("hapilot.toml"),
            node: None,
            socket: None,
            state: None,
            secrets: SecretUse::Handed,
        }
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
        let watch = self.watch();
        let ended = self.until_death(watch, node.alone().settle()).await;
        Ok(self.keep(node, ended))
    }

    /// Lets the agent do something; where it dies of it there is no agent after it.
    pub async fn ask(&mut self, ask: &Ask) -> End {
        let mut node = self.node.take().expect("an agent runs");
        let watch = self.watch();
        let ended = match ask {
            Ask::Apply { adopt, force } => {
                let intent = Intent { actor: "op".into(), adopt: *adopt, force: *force, ..Intent::default() };
                self.until_death(watch, node.alone().apply_file(&intent)).await
            }
            Ask::Reconcile => self.until_death(watch, node.alone().reconcile()).await,
            Ask::Server(id, state, weight) => {
                self.until_death(watch, node.alone().set_server(id, *state, *weight, None, "op")).await
            }
        };
        self.keep(node, ended)
    }

    fn watch(&mut self) -> Watch {
        Watch::new(&self.directory, self.death_at_file.take())
    }

    async fn until_death(
        &self,
        watch: Watch,
        done: impl Future<Output = Result<Report, Attempt>>,
    ) -> Result<Option<Result<Report, Attempt>>, Broken> {
        let done = Box::pin(watch.over(done));
        tokio::select! {
            biased;
            () = self.died.notified() => {
                fault::watch(None);
                Ok(None)
            }
            done = done => done,
        }
    }

    fn keep(&mut self, node: Node, ended: Result<Option<Result<Report, Attempt>>, Broken>) -> End {
        let end = match ended {
            Err(broken) => {
                self.broken.get_or_insert(broken);
                return End::Died;
            }
            Ok(None) => return End::Died,
            Ok(Some(Ok(report))) => End::Done(Box::new(report)),
            Ok(Some(Err(Attempt::TooSoon(_)))) => End::TooSoon,
            Ok(Some(Err(Attempt::Failed(failed)))) => End::Failed(failed.to_string()),
        };
        self.node = Some(node);
        end
    }

    /// A probe's result.
    pub fn probe(&mut self, id: &ServerId, outcome: Outcome) {
        let node = self.node.as_mut().expect("an agent runs");
        let observation = Observation::new(ProbeKind::Models, outcome, Duration::from_millis(5));
        let now = node.now();
        node.steering.fleet.observe(id, &observation, now);
    }

    /// Every file that HAProxy reads, as it is.
    pub fn files(&self) -> Files {
        files(&self.directory)
    }

    pub fn deeds(&self) -> Deeds {
        self.haproxy.borrow().deeds.clone()
    }
}
