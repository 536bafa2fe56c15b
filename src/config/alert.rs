//! Who is told what happens, and the operator's own thresholds, as typed values.

use crate::alerts::{Metric, Selection, SinkRules, Threshold};
use crate::model::{Endpoint, Name, Origin, SecretRef, Sourced};
use std::time::Duration;

/// `[alert.…]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerts {
    /// `[alert.NAME]`, sorted by name.
    pub sinks: Vec<AlertSink>,
    /// `[alert.rule.NAME]`, sorted by name.
    pub rules: Vec<AlertRule>,
}

/// `[alert.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct AlertSink {
    /// The table's name; never `rule`.
    pub name: Name,
    /// The table's place.
    pub origin: Origin,
    /// Who is told.
    pub kind: SinkKind,
    /// `on`; default: every page and every warning.
    pub selection: Selection,
    /// `group`, 0 to 10 min; default 30 s.
    pub group: Duration,
    /// `update`, 10 s to 24 h; default 5 min.
    pub update: Duration,
    /// `repeat`, 1 min to 7 d; default 4 h.
    pub repeat: Duration,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// `slack`
    Slack {
        /// `webhook`: place of its URL.
        webhook: Sourced<SecretRef>,
    },
    /// `pagerduty`
    Pagerduty {
        /// `routing_key`: place of the integration key.
        routing_key: Sourced<SecretRef>,
        /// `url`; default `https://events.pagerduty.com`.
        url: Endpoint,
        /// `changes`: revisions are sent as change events; default true.
        changes: bool,
    },
    /// `email`
    Email(EmailSink),
    /// `webhook`
    Webhook {
        /// `url`
        url: Endpoint,
        /// `secret`: place of what signs; none: requests are not signed.
        secret: Option<Sourced<SecretRef>>,
    },
    /// `alertmanager`
    Alertmanager {
        /// `url`
        url: Endpoint,
    },
}

/// `email` of a sink.
#[derive(Clone, Debug, PartialEq)]
pub struct EmailSink {
    /// `smtp`
    pub server: SmtpServer,
    /// `from`
    pub from: String,
    /// `to`, 1 to 50.
    pub to: Vec<String>,
    /// `user`; default `from`.
    pub user: String,
    /// `password`; none: no login.
    pub password: Option<Sourced<SecretRef>>,
}

/// `smtp` of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpServer {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// When TLS begins.
    pub tls: SmtpTls,
}

/// When TLS begins towards a mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// With the first byte.
    AtOnce,
    /// After `STARTTLS`, or the mail is not sent.
    Starttls,
    /// Never.
    Never,
}

/// `[alert.rule.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// The table's name.
    pub name: Name,
    /// The table's place.
    pub origin: Origin,
    /// `metric`
    pub metric: Metric,
    /// `backend`: a glob; none: all.
    pub backend: Option<String>,
    /// `server`: a glob; none: all.
    pub server: Option<String>,
    /// `client`: a glob; none: all.
    pub client: Option<String>,
    /// `above`, `below` (one of them at least) and `for`, 0 to 24 h, default 1 min.
    pub threshold: Threshold,
    /// `severity`; default warning.
    pub is_page: bool,
}

impl AlertSink {
    /// What kind of sink it is, as in the file.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            SinkKind::Slack { .. } => "slack",
            SinkKind::Pagerduty { .. } => "pagerduty",
            SinkKind::Email(_) => "email",
            SinkKind::Webhook { .. } => "webhook",
            SinkKind::Alertmanager { .. } => "alertmanager",
        }
    }

    /// The secret that it needs.
    pub fn secret(&self) -> Option<&Sourced<SecretRef>> {
        match &self.kind {
            SinkKind::Slack { webhook } => Some(webhook),
            SinkKind::Pagerduty { routing_key, .. } => Some(routing_key),
            SinkKind::Email(email) => email.password.as_ref(),
            SinkKind::Webhook { secret, .. } => secret.as_ref(),
            SinkKind::Alertmanager { .. } => None,
        }
    }

    /// How it wants to be told.
    pub fn rules(&self) -> SinkRules {
        SinkRules {
            name: self.name.to_string(),
            selection: self.selection.clone(),
            group: self.group,
            update: self.update,
            repeat: self.repeat,
            refresh: matches!(self.kind, SinkKind::Alertmanager { .. }).then_some(Self::REFRESH),
            wants_changes: matches!(self.kind, SinkKind::Pagerduty { changes: true, .. }),
        }
    }

    /// An Alertmanager is told so often what lasts…
    pub const REFRESH: Duration = Duration::from_secs(60);
    /// …and takes it for over after this without.
    pub const FORGOTTEN: Duration = Duration::from_secs(300);
}
