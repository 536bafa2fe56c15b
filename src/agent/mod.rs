//! The agent: sources in, health and weights decided, HAProxy made to follow.
//!
//! Refuses to know wire formats. Called by `api` (through [`Handle`]) and by commands that work alone.

mod adopted;
mod apply;
mod asking;
mod attempt;
mod bulletin;
mod certificate_news;
mod certificates;
mod changes;
mod checks;
mod corrections;
mod costs;
mod engine;
mod explain;
mod fleet;
#[cfg(test)]
mod fleet_days;
#[cfg(test)]
mod fleet_moved;
mod fleet_params;
mod following;
mod going_back;
mod guardian;
mod guarding;
mod hearing;
mod intent;
mod intents;
mod key_texts;
mod keyring;
#[cfg(test)]
mod keyring_tests;
mod last_results;
mod ledger;
mod limits;
mod listening;
mod live_files;
mod locking;
mod look;
mod lost_state;
mod maxconn_look;
mod news;
mod node;
mod observer;
mod opening;
mod order;
mod outage;
mod overrides;
mod preflight;
mod probing;
mod push;
mod queue;
mod recovery;
mod reloading;
mod renderer;
mod report;
mod request;
mod run;
mod saved;
mod serving;
mod snapshot;
mod sources;
mod spending;
mod stand_in;
mod start;
mod trial;
mod troubles;
mod unanswered;
mod unread;
mod vips;
mod vrrp_file;
mod word;
mod work;

pub use apply::{Applied, ApplyError, How, Prepared, Wish};
pub use attempt::Attempt;
pub use certificate_news::CertificateStatus;
pub use certificates::{CertificateProblem, check_certificates};
pub use corrections::{Correction, Corrections};
pub use engine::Engine;
pub use fleet::Fleet;
pub use fleet_params::health_params;
pub use guardian::{Charge, PeerView, VipEvent, VipEventKind, VipReport, VipView};
pub use intent::Intent;
pub use keyring::{KeyEvent, KeyStatus, Keyring, Learnt};
pub use ledger::{Entry, Ledger};
pub use limits::{Finishing, ReloadLimits};
pub use listening::{Batch, Listening};
pub use node::Node;
pub use overrides::{Override, Overrides};
pub use preflight::{Refusal, replaced_file};
pub use probing::Errand;
pub use renderer::render_files;
pub use report::{Failed, Report, SourceOfChange, unified_diff};
pub use request::{Handle, Reply, Request, VipVerb};
pub use run::Agent;
pub use saved::Waiting;
pub use snapshot::{
    BackendSnapshot, HaproxySnapshot, OldWorker, ServerSnapshot, Snapshot, TrialSnapshot, VipsSnapshot,
};
pub use sources::{Place, Sources, SourcesError, live_config};
pub use start::start_doubts;
pub use trial::clocks;
pub use unanswered::Unanswered;
pub use unread::{SecretUse, Unread};
pub use vips::Vips;
pub use vrrp_file::{VrrpChange, vrrp_change};
