//! Deep health checks: one probe of one server, from the connection to the last token, as an
//! [`Observation`](crate::health::Observation).
//!
//! Knows HTTP, TLS, the dialects of providers and how their errors are judged; what differs between two providers of one
//! dialect is in their profiles. Refuses to know when to probe, what an outcome does
//! to a server, and HAProxy. Survives any answer: every probe ends at its total deadline and holds at most 1 MiB of
//! body. Called by `agent` and `cli`.

mod asking;
mod breakage;
mod certificate;
mod chat;
mod classify;
#[cfg(test)]
mod classify_tests;
mod completion;
mod detail;
mod dialect;
mod embedding;
mod exchange;
mod figures;
mod frames;
mod lag;
mod list;
mod meter;
mod names;
mod page;
mod prober;
mod prometheus;
mod proxied;
mod report;
mod retry_after;
mod sse;
mod target;
mod trust;
mod verifier;

pub use classify::{MAX_DEPTH, ProbeVerdict, classify};
pub use detail::{MAX_DETAIL, detail_line};
pub use prober::{Limits, Prober};
pub use report::{Percentiles, ProbeReport};
pub use retry_after::retry_after;
pub use sse::{MAX_EVENT, SseError, SseEvent, SseParser};
pub use target::{ClientCertificate, Probe, Target, TargetTls};
