//! What outlives the agent: revisions, which of them serves, and what operators set by command.
//!
//! Knows the layout of the state directory and keeps it whole: each file is replaced by rename (invariant I2), a
//! revision's files carry length and SHA-256 and are verified when read (I3), history is append-only (I15), no secret
//! is stored (I16). Refuses to know HAProxy, and reads no clock. Called by `agent` and `cli`, of which only the holder
//! of the lock writes.
//!
//! ```text
//! STATE/revisions/000042/manifest.json   what, who, when, why, and the files with length and SHA-256
//!                        hapilot.toml    the operator's file
//!                        haproxy.cfg     what was rendered; maps below maps/
//!                        structure       see `render::Rendered::structure`
//! STATE/current.json                     which revision serves
//! STATE/overrides.json                   what operators set by command
//! STATE/confirm.json                     the revision on trial and its deadline
//! STATE/events.jsonl                     what happened, and events.jsonl.1 before it
//! STATE/probes.json                      what the last probes told
//! STATE/canaries.json                    where canaries are, and what was rolled back lately
//! STATE/soak.json                        what was seen of the revision that soaks, and before it
//! STATE/spent.json                       what the deep probes of the day have cost
//! STATE/released.json                    virtual addresses that operators moved away
//! STATE/usage/2026-11-30T13.json         what clients used in that hour of UTC, which is over
//!             open.json                  the hour that is not over, and how far HAProxy's lines were counted
//!             elsewhere.json             what clients spent at other nodes, as those told it
//!             restored.json              which hours a backup brought
//! STATE/restore/                         a backup that is being put here: see `archive`
//! STATE/alerts/table.json                what lasts and happened lately, for whoever is told
//!              sink-NAME.json            what a sink was told, and what waits for it
//! STATE/journal.json                     the apply that is under way, with what was there before it
//! ```

mod alerts;
pub mod archive;
mod current;
mod error;
mod events;
pub mod git;
mod journal;
mod manifest;
mod overrides;
mod provisional;
mod released;
mod results;
mod revisions;
mod spent;
mod usage;

pub use alerts::{KeptAlerts, load_alerts, save_alerts};
pub use current::{Current, load_current, save_current};
pub use error::StoreError;
pub use events::{EventReader, EventWriter};
pub use journal::{FormerFile, IntendedFile, Journal, Undertaking, UndertakingKind};
pub use manifest::{FileRecord, How, Manifest, RevisionOutcome, RevisionSource, Standing};
pub use overrides::{load_overrides, save_overrides};
pub use provisional::{Clocks, Provisional, load_provisional, save_provisional};
pub use released::{load_released, save_released};
pub use results::{ProbeRecord, Results, load_results, save_results};
pub use revisions::{Listed, NewFile, Revision, Revisions};
pub use spent::{
    SavedCanaries, SavedCanary, SavedSoak, load_canaries, load_models, load_soak, load_spent, save_canaries,
    save_models, save_soak, save_spent,
};
pub use usage::{
    USAGE, forget_usage, load_elsewhere, load_open_usage, load_restored, load_usage, save_elsewhere, save_usage,
};
