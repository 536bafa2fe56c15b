//! What this node remembers: revisions, which one serves, operators' words.
//!
//! Puts the store's files together into the few questions that the agent asks. Only the holder of the lock writes.

use super::overrides::Overrides;
use super::report::Failed;
use crate::model::Digest;
use crate::render::Rendered;
use crate::store::{self, Current, Manifest, NewFile, Outcome, Revisions, Source};
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

/// The node's memory.
#[derive(Debug)]
pub struct Ledger {
    state: Utf8PathBuf,
    revisions: Revisions,
    current: Current,
}

/// What a new revision consists of.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// What began it.
    pub source: Source,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// By which means it serves.
    pub how: store::How,
    /// What it changed, one line each, without secrets.
    pub summary: Vec<String>,
    /// The operator's file.
    pub toml: &'a str,
    /// What was rendered from it.
    pub rendered: &'a Rendered,
}

impl Ledger {
    /// Opens the memory; makes the directory where there is none. Only for the holder of the lock.
    ///
    /// # Errors
    /// The directory cannot be made or read, or `current.json` is damaged.
    pub fn open(state: &Utf8Path) -> Result<Self, Failed> {
        let revisions = Revisions::open(state).map_err(|e| told(&e))?;
        Ok(Self { state: state.to_owned(), revisions, current: store::load_current(state).map_err(|e| told(&e))? })
    }

    /// Opens the memory to read it, beside an agent that may be writing.
    ///
    /// # Errors
    /// `current.json` is damaged.
    pub fn read_only(state: &Utf8Path) -> Result<Self, Failed> {
        let revisions = Revisions::read_only(state);
        Ok(Self { state: state.to_owned(), revisions, current: store::load_current(state).map_err(|e| told(&e))? })
    }

    /// The revision that serves.
    pub fn current(&self) -> Option<u32> {
        self.current.serving
    }

    /// Digest of the operator's file that was rolled back from.
    pub fn rejected(&self) -> Option<Digest> {
        self.current.rolled_back_from
    }

    /// The operator's file of a revision.
    ///
    /// # Errors
    /// There is no such revision, or it is damaged.
    pub fn toml_of(&self, revision: u32) -> Result<String, Failed> {
        self.text_of(revision, "hapilot.toml")
    }

    /// The haproxy.cfg of a revision.
    ///
    /// # Errors
    /// As [`Self::toml_of`].
    pub fn haproxy_cfg_of(&self, revision: u32) -> Result<String, Failed> {
        self.text_of(revision, "haproxy.cfg")
    }

    /// The masked text of the revision that serves, which names the reasons of a reload.
    pub fn current_structure(&self) -> Option<String> {
        self.text_of(self.current()?, "structure").ok()
    }

    /// Digest of the operator's file of the revision that serves.
    pub fn current_toml(&self) -> Option<Digest> {
        let manifest = self.revisions.manifest(self.current()?).ok()?;
        manifest.files.iter().find(|file| file.path == "hapilot.toml").map(|file| file.sha256)
    }

    /// The last revision before the current one that was applied with other content.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn previous_good(&self) -> Result<Option<u32>, Failed> {
        let Some(current) = self.current() else { return Ok(None) };
        let content = self.current_toml();
        let all = self.revisions.list().map_err(|e| told(&e))?;
        let good = all.into_iter().rev().filter(|listed| listed.number < current).filter_map(|listed| {
            let manifest = listed.manifest.ok().filter(Manifest::is_applied)?;
            let toml = manifest.files.iter().find(|file| file.path == "hapilot.toml")?.sha256;
            (Some(toml) != content).then_some(listed.number)
        });
        Ok(good.take(1).next())
    }

    /// All revisions in order; a damaged one is left out.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn list(&self) -> Result<Vec<Manifest>, Failed> {
        let all = self.revisions.list().map_err(|e| told(&e))?;
        Ok(all.into_iter().filter_map(|listed| listed.manifest.ok()).collect())
    }

    /// Writes a revision that serves now, and forgets the oldest beyond `keep`.
    ///
    /// # Errors
    /// The disk is full or read-only; what serves is not concerned.
    pub fn record(&mut self, entry: &Entry<'_>, keep: u32) -> Result<u32, Failed> {
        let revision = self.revisions.next_number().map_err(|e| told(&e))?;
        let manifest = Manifest {
            revision,
            created: Timestamp::now(),
            actor: entry.actor.clone(),
            reason: entry.reason.clone(),
            source: entry.source,
            outcome: Some(Outcome::Applied { how: entry.how }),
            plan: entry.summary.clone(),
            files: vec![],
            tags: vec![],
        };
        let maps = entry.rendered.maps.iter().map(|(path, map)| (path, map.text(), map.is_secret));
        let lists = entry.rendered.lists.iter().map(|(path, list)| (path, list.text(), false));
        let maps: Vec<_> = maps.chain(lists).collect();
        let own = [
            ("hapilot.toml", entry.toml),
            ("haproxy.cfg", entry.rendered.haproxy_cfg.as_str()),
            ("structure", entry.rendered.structure.as_str()),
        ];
        let own = own.map(|(path, content)| NewFile { path, content: content.as_bytes(), is_secret: false });
        let maps = maps.iter().map(|(path, content, is_secret)| NewFile {
            path: path.as_str(),
            content: content.as_bytes(),
            is_secret: *is_secret,
        });
        let files: Vec<_> = own.into_iter().chain(maps).collect();
        self.revisions.save(manifest, &files).map_err(|e| told(&e))?;
        self.current.serving = Some(revision);
        self.current.last_good = Some(revision);
        store::save_current(&self.state, &self.current).map_err(|e| told(&e))?;
        if let Err(error) = self.revisions.retain(keep as usize, &[revision]) {
            tracing::warn!(error = sys::chain(&error), "old revisions could not be removed");
        }
        Ok(revision)
    }

    /// Remembers that the operator's file with this content was rolled back from; `None` forgets it.
    ///
    /// # Errors
    /// The disk is full or read-only.
    pub fn reject(&mut self, file: Option<Digest>) -> Result<(), Failed> {
        if self.current.rolled_back_from != file {
            self.current.rolled_back_from = file;
            store::save_current(&self.state, &self.current).map_err(|e| told(&e))?;
        }
        Ok(())
    }

    /// What operators set by command.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn overrides(&self) -> Result<Overrides, Failed> {
        store::load_overrides(&self.state).map_err(|e| told(&e))
    }

    /// Keeps what operators set by command.
    ///
    /// # Errors
    /// The disk is full or read-only.
    pub fn keep_overrides(&self, overrides: &Overrides) -> Result<(), Failed> {
        store::save_overrides(&self.state, overrides).map_err(|e| told(&e))
    }

    fn text_of(&self, revision: u32, name: &str) -> Result<String, Failed> {
        let mut revision = self.revisions.load(revision).map_err(|e| told(&e))?;
        let bytes = revision.files.remove(name).unwrap_or_default();
        String::from_utf8(bytes).map_err(|_| Failed::refused(format!("{name} of the revision is not UTF-8")))
    }
}

fn told(error: &store::StoreError) -> Failed {
    Failed::refused(sys::chain(error))
}
