//! The operator's file: where it is, and why it is not what serves.

use super::at_start::AtStart;
use super::unserved::{Unserved, Waiting, rolled_back};
use crate::agent::history::ledger::Ledger;
use crate::agent::sources::place::Place;
use crate::agent::tell::bulletin::Bulletin;
use crate::agent::tell::refusal::Refusal;
use crate::config::Config;
use crate::event::{Event, EventKind, Severity};
use crate::model::Digest;
use crate::sys;
use crate::sys::files::Stamp;
use camino::{Utf8Path, Utf8PathBuf};

/// The operator's file.
#[derive(Debug)]
pub struct OperatorFile {
    /// Where it is.
    pub place: Place,
    /// The newest one is not served: why.
    pub problem: Option<Unserved>,
    /// A new one waits for its turn among the nodes: whom for.
    pub order_wait: Option<String>,
    /// What a good one would do that waits for the operator.
    waiting: Option<Waiting>,
    /// What it said at the start, and is not followed.
    at_start: AtStart,
    /// It, just before it was read at the start.
    read_at_start: Option<Digest>,
    /// What it names while it is not served, by its stamp: to read thousands of servers holds the loop up.
    named: Option<(Option<Stamp>, Vec<Utf8PathBuf>)>,
}

impl OperatorFile {
    /// A file that was read: `problem` keeps it from being `serving`.
    pub(in crate::agent) fn new(
        place: Place,
        read_at_start: Option<Digest>,
        problem: Option<Unserved>,
        serving: &Config,
    ) -> Self {
        let at_start = AtStart::of(serving);
        Self { place, problem, order_wait: None, waiting: None, at_start, read_at_start, named: None }
    }

    /// It is not served.
    pub(in crate::agent) fn refuse(&mut self, why: Refusal) {
        self.problem = Some(Unserved::Refused(why));
    }

    /// What the last refusal, or what it waits for, was told as.
    pub(in crate::agent) fn told(&self) -> Option<Refusal> {
        self.problem.as_ref().map(|problem| problem.why().clone())
    }

    /// Whether it stands as it was when it was rolled back: only an operator's `apply` serves it again.
    pub(in crate::agent) fn is_rejected(&self, ledger: &Ledger) -> bool {
        self.place.digest().is_some_and(|file| ledger.rejected() == Some(file))
    }

    /// Whether it has changed since it was read at the start, when nobody watched it yet.
    pub(in crate::agent) fn is_newer_than_start(&self) -> bool {
        self.place.digest() != self.read_at_start
    }

    /// One line for each key that only a start follows, and that `config` has changed.
    pub(in crate::agent) fn not_followed(&self, config: &Config) -> Vec<String> {
        self.at_start.differs_from(config)
    }

    /// Where the agent that began with it listens.
    pub(in crate::agent) fn socket_at_start(&self) -> &Utf8Path {
        &self.at_start.socket
    }

    /// Files that it names while it is not served: what is mended there lets it serve.
    pub(in crate::agent) fn named_files(&mut self) -> &[Utf8PathBuf] {
        let stamp = sys::files::stamp(&self.place.file);
        match &self.named {
            _ if self.problem.is_none() => self.named = None,
            Some((of, _)) if *of == stamp => {}
            _ => self.named = Some((stamp, self.place.named_files())),
        }
        self.named.as_ref().map_or(&[], |(_, files)| files)
    }

    /// The good file that waits: no problem, and no refusal.
    pub fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref().filter(|_| matches!(self.problem, Some(Unserved::Waits(_))))
    }

    /// It waits for the operator, and nobody knows yet what its apply would do.
    pub(in crate::agent) fn is_unplanned(&self) -> bool {
        matches!(self.problem, Some(Unserved::Waits(_))) && self.waiting.is_none()
    }

    /// It waits for the operator: what its apply would do, and why it waits. Tells what is new of it.
    pub(in crate::agent) fn wait(&mut self, waiting: Option<Waiting>, problem: Unserved, bulletin: &Bulletin) {
        if self.waiting != waiting || self.problem.as_ref() != Some(&problem) {
            let why = problem.why();
            match &waiting {
                Some(Waiting { changes, is_reload, .. }) => {
                    tracing::info!("{why}: {}", Waiting::in_words(*changes, *is_reload));
                }
                None if matches!(problem, Unserved::WaitsRefused(_)) => {
                    bulletin.tell(Event::once(EventKind::Refused, Severity::Warning, "file", why));
                }
                None => tracing::info!("{why}"),
            }
        }
        (self.waiting, self.problem) = (waiting, Some(problem));
    }

    /// It has the content that was left by a rollback: that is told, and not what it had in between. `waits`: as
    /// `on_save = "plan"` says.
    pub(in crate::agent) fn tell_rolled_back(&mut self, waits: bool, why: Option<&str>) {
        let why = rolled_back(&self.place, waits, why, self.place.load().err().as_ref());
        self.problem = Some(Unserved::RolledBack(why));
    }
}
