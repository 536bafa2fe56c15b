//! The operator's file: raw TOML with positions → [`Config`], and every problem of it in one run.
//!
//! Refuses to know files and HAProxy's version. Called by `agent` and `cli` with the text of the file: [`parse`] gives
//! a [`Config`] or all mistakes, [`lint()`] what is doubtful in a valid one, [`json_schema`] the schema for editors.

mod alert;
mod caller;
mod canary;
mod diagnostic;
mod lint;
mod lint_alerts;
mod mask;
mod money;
mod read;
mod route;
mod schema;
mod source;
mod tls;
mod types;
mod vip;
mod waiting;

pub use crate::weights::Weighting;
pub use alert::{AlertRule, AlertSink, Alerts, EmailSink, SinkKind, SmtpServer, SmtpTls};
pub use caller::{Client, Clients, LONGEST_BUCKET, Plan, TokenWeights, long, sustained};
pub use canary::{Canary, CanaryGroup, GroupChoice, Sticky};
pub use diagnostic::{Diagnostic, DiagnosticLevel, Diagnostics};
pub use lint::lint;
pub use money::{Budget, ModelPrice, PICO_PER_USD_A_MILLION, Price, WhenSpent};
pub use read::{masked, masked_words, parse, parse_clients, parse_for_node, peek, profile};
pub use route::{Route, is_match};
pub use schema::json_schema;
pub use tls::{ClientTrust, Tls, TlsProfile};
pub use types::{
    AddressLimit, Api, Apply, Backend, ChatProbe, Check, Config, DEFAULT_SOCKET, DEFAULT_STATE, EmbeddingsProbe,
    Frontend, FrontendTimeout, Haproxy, History, HttpProbe, MetricsProbe, ModelsProbe, Node, ProxyProtocol, Server,
    ServerTls, Stats, own_vips,
};
pub use vip::{Heartbeat, Keepalived, Vip};
pub use waiting::{BackendTimeout, RetryStreams};
