//! Writes down what was told and what waits, before anything of it is sent. A disk that fails or hangs is told, and holds no
//! alert up.

use crate::alerts::{AlertTable, SinkBook};
use crate::model::Digest;
use crate::store;
use crate::sys;
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A disk is waited for so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is on disk.
#[derive(Debug)]
pub(super) struct Keeper {
    state: Utf8PathBuf,
    table: Option<Digest>,
    sinks: BTreeMap<String, Digest>,
    /// A write that took too long, and what it wrote.
    writing: Option<JoinHandle<Result<(), String>>>,
    problem: Option<String>,
}

impl Keeper {
    pub fn new(state: Utf8PathBuf) -> Self {
        Self { state, table: None, sinks: BTreeMap::new(), writing: None, problem: None }
    }

    /// Why what waits is not kept, while it is not.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether nothing was ever written.
    pub fn has_nothing(&self) -> bool {
        self.table.is_none() && self.sinks.is_empty() && self.writing.is_none()
    }

    /// Writes what is another than on disk.
    pub async fn keep<'a>(&mut self, table: &AlertTable, books: impl Iterator<Item = (&'a str, &'a SinkBook)>) {
        if self.writing.is_some() && !self.wait().await {
            return;
        }
        let table = serde_json::to_vec(table).unwrap_or_default();
        let digest = Digest::of(&table);
        let is_same_table = self.table == Some(digest);
        let mut all = Vec::new();
        let mut news = BTreeMap::new();
        for (name, book) in books {
            let bytes = serde_json::to_vec(book).unwrap_or_default();
            let digest = Digest::of(&bytes);
            all.push((name.to_owned(), digest));
            if self.sinks.get(name) != Some(&digest) {
                news.insert(name.to_owned(), bytes);
            }
        }
        let is_gone = |name: &&String| !all.iter().any(|(one, _)| one == *name);
        let gone: Vec<String> = self.sinks.keys().filter(is_gone).cloned().collect();
        if is_same_table && news.is_empty() && gone.is_empty() {
            return;
        }
        let state = self.state.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let table = (!is_same_table).then_some(table.as_slice());
            store::save_alerts(&state, &news, &gone, table).map_err(|e| sys::chain(&e))
        }));
        // Taken for written: what fails is written anew with the next look.
        (self.table, self.sinks) = (Some(digest), all.into_iter().collect());
        self.wait().await;
    }

    /// Waits for the disk; answers whether it is free again.
    async fn wait(&mut self) -> bool {
        let Some(writing) = &mut self.writing else { return true };
        let problem = match timeout(PATIENCE, writing).await {
            Err(_) => {
                self.problem = Some(format!(
                    "what is to be told is kept in memory alone: the disk of {} does not answer",
                    self.state
                ));
                return false;
            }
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(why))) => Some(why),
            Ok(Err(broken)) => Some(format!("a bug of hapilot: {broken}")),
        };
        self.writing = None;
        if problem.is_some() {
            (self.table, self.sinks) = (None, BTreeMap::new());
        }
        self.problem = problem.map(|why| format!("what is to be told is kept in memory alone: {why}"));
        true
    }
}
