//! What this node remembers: revisions, which one serves, operators' words.
//!
//! Puts the store's files together into the few questions that the agent asks. Only the holder of the lock writes.

use super::entry::Entry;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::Failed;
use crate::agent::sources::place::Sources;
use crate::fleet::Overrides;
use crate::model::Digest;
use crate::store::{
    self, Current, Manifest, NewFile, Provisional, RevisionOutcome, RevisionSource, Revisions, Standing,
};
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

/// The node's memory.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(in crate::agent) state: Utf8PathBuf,
    pub(in crate::agent) revisions: Revisions,
    pub(in crate::agent) current: Current,
    pub(in crate::agent) provisional: Option<Provisional>,
    /// What an operator confirmed in this life of the agent.
    pub(in crate::agent) said_good: Option<u32>,
    /// Which file was left could not be written down.
    pub(in crate::agent) is_unwritten: bool,
    /// Counts what was written of revisions and their names, for who follows it.
    pub(in crate::agent) changes: u64,
}

impl Ledger {
    /// Opens the memory; makes the directory where there is none. Only for the holder of the lock.
    ///
    /// # Errors
    /// The directory cannot be made or read, or `current.json` is damaged.
    pub fn open(state: &Utf8Path) -> Result<Self, Failed> {
        let revisions = Revisions::open(state).map_err(|e| told(&e))?;
        Self::of(state, revisions)
    }

    /// Opens the memory to read it, beside an agent that may be writing.
    ///
    /// # Errors
    /// `current.json` is damaged.
    pub fn read_only(state: &Utf8Path) -> Result<Self, Failed> {
        Self::of(state, Revisions::read_only(state))
    }

    fn of(state: &Utf8Path, revisions: Revisions) -> Result<Self, Failed> {
        let current = store::load_current(state).map_err(|e| told(&e))?;
        let provisional = store::load_provisional(state).unwrap_or_else(|e| {
            tracing::error!("the open deadline is lost: {}", sys::chain(&e));
            None
        });
        // One that was confirmed, or rolled back, an instant before a crash.
        let is_open = |trial: &Provisional| current.last_good.is_none_or(|good| good < trial.revision);
        Ok(Self {
            state: state.to_owned(),
            revisions,
            provisional: provisional.filter(is_open),
            current,
            said_good: None,
            is_unwritten: false,
            changes: 0,
        })
    }

    /// The revision that serves.
    pub fn current(&self) -> Option<u32> {
        self.current.serving
    }

    /// The revision that an agent serves that begins and cannot serve the file. Where that of the file itself still stands as
    /// the current one, the way back from it could not be written down: then the last good one.
    pub fn to_serve(&self) -> Option<u32> {
        let is_left = self.rejected().is_some() && self.current_toml() == self.rejected();
        self.current.last_good.filter(|_| is_left).or(self.current.serving)
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

    /// Whether the revision that serves was made from something else.
    pub(in crate::agent) fn is_news(&self, sources: &Sources, intent: &Intent) -> bool {
        self.current_toml() != Some(sources.digest) || intent.adopt
    }

    /// Whether what serves was brought back by a rollback.
    pub fn serves_a_rollback(&self) -> bool {
        let manifest = self.current().and_then(|current| self.revisions.manifest(current).ok());
        manifest.is_some_and(|manifest| matches!(manifest.source, RevisionSource::Rollback { .. }))
    }

    /// The last confirmed revision before the current one with other content.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn previous_good(&self) -> Result<Option<u32>, Failed> {
        let Some(mut current) = self.current() else { return Ok(None) };
        let content = self.current_toml();
        let all = self.revisions.list().map_err(|e| told(&e))?;
        // What a rollback brought back stands where it first stood: to go back once more is to go further.
        let manifest_of = |number: u32| all.iter().find(|one| one.number == number)?.manifest.as_ref().ok();
        while let Some(RevisionSource::Rollback { of }) = manifest_of(current).map(|manifest| manifest.source) {
            if of >= current {
                break;
            }
            current = of;
        }
        let good = all.into_iter().rev().filter(|listed| listed.number < current).filter_map(|listed| {
            let manifest = listed.manifest.ok().filter(Manifest::is_good)?;
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

    /// Writes a revision that serves now, and forgets the oldest beyond `keep`. One that is confirmed at once ends the
    /// trial that was open.
    ///
    /// # Errors
    /// The disk is full or read-only; what serves is not concerned.
    pub fn record(&mut self, entry: &Entry<'_>, keep: u32, standing: Standing) -> Result<u32, Failed> {
        let is_good = standing == Standing::Confirmed;
        let revision = self.save(entry, RevisionOutcome::Applied { how: entry.how }, standing)?;
        self.current.serving = Some(revision);
        if is_good {
            self.current.last_good = Some(revision);
        }
        self.keep_current()?;
        if is_good {
            self.set_provisional(None)?;
        }
        self.retain(keep);
        Ok(revision)
    }

    /// Writes a revision that HAProxy refused, once for each content: a try that repeats has no news.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn record_failed(&mut self, entry: &Entry<'_>, text: &str, keep: u32) -> Result<(), Failed> {
        let newest = self.revisions.list().map_err(|e| told(&e))?.pop().and_then(|listed| listed.manifest.ok());
        let content = Digest::of(entry.toml);
        let is_told = newest.is_some_and(|newest| {
            matches!(newest.outcome, Some(RevisionOutcome::Failed { .. }))
                && newest.files.iter().any(|file| file.path == "hapilot.toml" && file.sha256 == content)
        });
        if !is_told {
            self.save(entry, RevisionOutcome::Failed { text: text.to_owned() }, Standing::Confirmed)?;
            self.retain(keep);
        }
        Ok(())
    }

    fn retain(&self, keep: u32) {
        let trial = self.provisional.iter().map(|trial| trial.back_to);
        let never: Vec<u32> = self.current.serving.into_iter().chain(self.current.last_good).chain(trial).collect();
        if let Err(error) = self.revisions.retain(keep as usize, &never) {
            tracing::warn!(error = sys::chain(&error), "old revisions could not be removed");
        }
    }

    fn save(&mut self, entry: &Entry<'_>, outcome: RevisionOutcome, standing: Standing) -> Result<u32, Failed> {
        let revision = self.next_number()?;
        let manifest = Manifest {
            revision,
            created: Timestamp::now(),
            actor: entry.actor.clone(),
            reason: entry.reason.clone(),
            source: entry.source,
            outcome: Some(outcome),
            plan: entry.summary.clone(),
            files: vec![],
            tags: vec![],
            standing,
        };
        let maps = entry.rendered.maps.iter().map(|(path, map)| (path, map.text(), map.is_secret));
        let lists = entry.rendered.lists.iter().map(|(path, list)| (path, list.text(), false));
        let scripts = entry.rendered.scripts.iter().map(|(path, text)| (path, (*text).to_owned(), false));
        let maps: Vec<_> = maps.chain(lists).chain(scripts).collect();
        let structure = entry.rendered.structure.text();
        let own = [
            ("hapilot.toml", entry.toml),
            ("haproxy.cfg", entry.rendered.haproxy_cfg.as_str()),
            ("structure", structure.as_str()),
        ];
        let own = own.map(|(path, content)| NewFile { path, content: content.as_bytes(), is_secret: false });
        let maps = maps.iter().map(|(path, content, is_secret)| NewFile {
            path: path.as_str(),
            content: content.as_bytes(),
            is_secret: *is_secret,
        });
        let files: Vec<_> = own.into_iter().chain(maps).collect();
        self.revisions.save(manifest, &files).map_err(|e| told(&e))?;
        self.changes += 1;
        Ok(revision)
    }

    /// The number that the next revision gets.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn next_number(&self) -> Result<u32, Failed> {
        self.revisions.next_number().map_err(|e| told(&e))
    }

    /// Remembers that the operator's file with this content was rolled back from; `None` forgets it.
    ///
    /// # Errors
    /// The disk is full or read-only.
    pub fn reject(&mut self, file: Option<Digest>) -> Result<(), Failed> {
        if self.current.rolled_back_from != file {
            self.current.rolled_back_from = file;
            self.keep_current()?;
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

    /// Writes down anew which revision serves and which file was left.
    ///
    /// # Errors
    /// The disk is full or read-only.
    pub fn keep_current(&mut self) -> Result<(), Failed> {
        let kept = store::save_current(&self.state, &self.current).map_err(|e| told(&e));
        self.is_unwritten = kept.is_err();
        kept
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

pub(in crate::agent) fn told(error: &store::StoreError) -> Failed {
    Failed::refused(sys::chain(error))
}
