//! The agent: sources in, health and weights decided, HAProxy made to follow.
//!
//! Refuses to know wire formats. Called by `api` (through [`Handle`]) and by commands that work alone.

mod alert;
mod apply;
mod file;
mod files;
mod history;
mod judge;
mod node;
mod orders;
mod outcome;
mod picture;
mod probes;
mod run;
mod sources;
mod steering;
mod tell;
mod vip;

pub use alert::desk::AlertDesk;
pub use alert::report::{AlertReport, SinkReport};
pub use apply::engine::Engine;
pub use apply::renderer::render_files;
pub use file::unserved::{Unserved, Waiting};
pub use history::entry::Entry;
pub use history::ledger::Ledger;
pub use history::remark::Remark;
pub use history::trial::clocks;
pub use history::usage_book::{load as usage_ledger, number_in_map as ledger_in_map};
pub use judge::preflight::replaced_file;
pub use judge::start::start_doubts;
pub use node::Node;
pub use node::planning::Planned;
pub use outcome::applied::{Applied, ApplyError, How, Prepared, Wish};
pub use outcome::attempt::Attempt;
pub use outcome::corrections::{Correction, Corrections};
pub use outcome::intent::Intent;
pub use outcome::limits::{Finishing, ReloadLimits};
pub use outcome::report::{Failed, Report, SourceOfChange, unified_diff};
pub use picture::snapshot::{
    BackendSnapshot, HaproxySnapshot, OldWorker, ServerSnapshot, Snapshot, SoakSnapshot, TrialSnapshot, VipsSnapshot,
};
pub use picture::snapshot_parts::SnapshotParts;
pub use probes::probe_errand::Errand;
pub use probes::traffic_listener::{Batch, TrafficListener};
pub use run::body::Agent;
pub use run::request::{Handle, Reply, Request, VipVerb};
pub use sources::certificate_checks::check_certificates;
pub use sources::certificate_news::CertificateStatus;
pub use sources::certificates::CertificateProblem;
pub use sources::place::{Place, Sources, SourcesError, live_config};
pub use sources::unread::{SecretUse, Unread};
pub use steering::{CanaryView, CanaryWord};
pub use tell::refusal::{At, Objection, Refusal};
pub use tell::unanswered::Unanswered;
pub use vip::guardian::{Charge, PeerView, VipEvent, VipEventKind, VipReport, VipView};
pub use vip::vips::Vips;
pub use vip::vrrp_file::{VrrpChange, VrrpPlan, vrrp_change};
