//! What can go wrong, as the control API spells it, and which request it befalls.

use super::request::Request;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most faults that may be set at once.
pub(super) const MAX_FAULTS: usize = 64;

/// One kind of misbehaviour. Docs name what the client sees; parameters in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A status (`code`, `retry_after`, `headers`, `body`).
    Status,
    /// 429 that means the account (`insufficient_quota`).
    InsufficientQuota,
    /// 401 `invalid_api_key`.
    InvalidApiKey,
    /// 400 "credit balance is too low".
    CreditBalance,
    /// 529 `overloaded_error`.
    Overloaded,
    /// A login page with status 200.
    Html,
    /// JSON that ends in its middle.
    InvalidJson,
    /// An error object with status 200.
    ErrorObject,
    /// An error event inside a stream with status 200.
    ErrorEvent,
    /// A stream that goes well for `tokens` events (default 5), then an error event (`body`: which).
    LateError,
    /// A completion without a token.
    Empty,
    /// The answer names another model (`body`: which).
    WrongModel,
    /// The list lacks a model (`body`: which; all by default).
    MissingModel,
    /// Events without the empty line between them.
    NoBlankLine,
    /// A stream without `[DONE]` and without a finish reason.
    NoDone,
    /// A stream of comments only.
    CommentsOnly,
    /// One event of `bytes` (default 4 MiB).
    HugeEvent,
    /// JSON nested 10,000 deep.
    DeepJson,
    /// Bytes that are not UTF-8 in a JSON text.
    InvalidUtf8,
    /// A body that never ends.
    EndlessBody,
    /// A small gzip body that swells (`bytes` compressed, default 256 KiB, × 158).
    GzipBomb,
    /// A redirect (`location`; default: to the same path, a loop).
    Redirect,
    /// Reads the request, never answers.
    Hang,
    /// Sends the head, never a body.
    HangAfterHeaders,
    /// The head a byte at a time (`delay_ms` each, default 1000).
    DripHeaders,
    /// The body a byte at a time (`delay_ms` each, default 1000).
    DripBody,
    /// The first token comes `delay_ms` later.
    FirstToken,
    /// The stream halts after `tokens` (default 5).
    Stall,
    /// Tokens come at `rate` per second (default 1).
    Rate,
    /// Nobody listens on the port; the control port stays.
    Refuse,
    /// A reset right after the connection is accepted.
    ResetOnAccept,
    /// The connection is closed right after it is accepted.
    CloseOnAccept,
    /// The connection is accepted and nothing is ever said, nor TLS spoken.
    HangOnAccept,
    /// A reset after the request, before any byte.
    Reset,
    /// A reset after the head.
    ResetAfterHeaders,
    /// A reset after `tokens` (default 5).
    ResetMidStream,
    /// The connection is closed after `tokens` (default 5), without the last chunk.
    Cut,
    /// `100 Continue` for ever.
    EndlessContinue,
    /// So many headers (`bytes`, default 100,000).
    ManyHeaders,
    /// Two Content-Lengths that differ.
    TwoLengths,
    /// Bytes that are not HTTP.
    Garbage,
    /// An expired certificate.
    TlsExpired,
    /// A certificate for another name.
    TlsWrongName,
    /// A certificate of an authority that nobody knows.
    TlsUnknownAuthority,
    /// The handshake is never answered.
    TlsHang,
    /// Clear HTTP on the TLS port.
    TlsPlain,
}

impl FaultKind {
    /// Whether it befalls a connection before any request is read, so that `path` and `key` cannot choose.
    pub(super) fn is_of_connection(self) -> bool {
        matches!(
            self,
            Self::Refuse
                | Self::ResetOnAccept
                | Self::CloseOnAccept
                | Self::HangOnAccept
                | Self::TlsExpired
                | Self::TlsWrongName
                | Self::TlsUnknownAuthority
                | Self::TlsHang
                | Self::TlsPlain
        )
    }
}

/// A fault and whom it befalls. Everything but `kind` may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which.
    pub kind: FaultKind,
    /// Only requests whose path begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only requests that present this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// So many times, then it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// This share of the requests, 0 to 1: exactly every tenth at 0.1, no dice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Status code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The Retry-After header, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<String>,
    /// More headers, verbatim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Body, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Where a redirect leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// A pause in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// A number of tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// Tokens per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// A size or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// An interim answer with this status (100, 102 to 199) comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interim: Option<u16>,
    /// The body comes so many milliseconds behind its header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_after_ms: Option<u64>,
}

impl Fault {
    /// A fault of this kind for every request, with its default parameters.
    pub fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            path: None,
            key: None,
            count: None,
            share: None,
            code: None,
            retry_after: None,
            headers: BTreeMap::new(),
            body: None,
            location: None,
            delay_ms: None,
            tokens: None,
            rate: None,
            bytes: None,
            interim: None,
            body_after_ms: None,
        }
    }

    /// A bare status.
    pub fn status(code: u16) -> Self {
        Self { code: Some(code), ..Self::new(FaultKind::Status) }
    }

    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(self.delay_ms.unwrap_or(1000))
    }

    /// Says what is wrong with the parameters.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.share.is_some_and(|s| !(0.0..=1.0).contains(&s)) {
            return Err("share lies between 0 and 1".into());
        }
        if self.rate.is_some_and(|r| !r.is_finite() || r <= 0.0) {
            return Err("rate is a number above 0".into());
        }
        if self.code.is_some_and(|c| !(200..=999).contains(&c)) {
            return Err("code lies between 200 and 999".into());
        }
        if self.interim.is_some_and(|c| c == 101 || !(100..=199).contains(&c)) {
            return Err("interim is 100 or lies between 102 and 199".into());
        }
        if self.bytes.is_some_and(|b| b > 1 << 30) {
            return Err("bytes is at most 1073741824".into());
        }
        if self.tokens.is_some_and(|t| t > 100_000) {
            return Err("tokens is at most 100000".into());
        }
        if self.count == Some(0) {
            return Err("count is at least 1; DELETE takes faults away".into());
        }
        if self.kind.is_of_connection() && (self.path.is_some() || self.key.is_some()) {
            return Err("a fault of the connection comes before the request: it takes no path and no key".into());
        }
        Ok(())
    }
}

/// The faults that are set, in order; the first that fits a request befalls it.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(Fault, f64)>);

impl Faults {
    pub(super) fn replace(&mut self, faults: Vec<Fault>) {
        self.0 = faults.into_iter().map(|fault| (fault, 0.0)).collect();
    }

    pub(super) fn list(&self) -> Vec<&Fault> {
        self.0.iter().map(|(fault, _)| fault).collect()
    }

    pub(super) fn refuses(&self) -> bool {
        self.0.iter().any(|(fault, _)| fault.kind == FaultKind::Refuse)
    }

    /// The fault of a new connection.
    pub(super) fn for_connection(&mut self) -> Option<Fault> {
        self.take(|fault| fault.kind.is_of_connection())
    }

    /// The fault of a request.
    pub(super) fn for_request(&mut self, request: &Request) -> Option<Fault> {
        self.take(|fault| {
            !fault.kind.is_of_connection()
                && fault.path.as_deref().is_none_or(|path| request.path.starts_with(path))
                && fault.key.as_deref().is_none_or(|key| request.key() == Some(key))
        })
    }

    fn take(&mut self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let at = self.0.iter_mut().position(|(fault, saved)| {
            if !fits(fault) {
                return false;
            }
            *saved += fault.share.unwrap_or(1.0);
            // A sum of tenths may fall a hair short of one.
            let due = *saved >= 1.0 - 1e-9;
            if due {
                *saved -= 1.0;
            }
            due
        })?;
        let fault = self.0[at].0.clone();
        if let Some(count) = self.0[at].0.count.as_mut() {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(at);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_tenth_is_every_tenth_and_a_count_ends() {
        let mut faults = Faults::default();
        let mut fault = Fault::new(FaultKind::TlsHang);
        fault.share = Some(0.1);
        fault.count = Some(3);
        faults.replace(vec![fault]);
        let hit: Vec<usize> = (1..=100).filter(|_| faults.for_connection().is_some()).collect();
        assert_eq!(hit, [10, 20, 30]);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        for text in [
            r#"{"kind":"status","share":1.5}"#,
            r#"{"kind":"rate","rate":0}"#,
            r#"{"kind":"status","code":7}"#,
            r#"{"kind":"refuse","path":"/v1"}"#,
        ] {
            let fault: Fault = serde_json::from_str(text).unwrap();
            assert!(fault.check().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"status","cod":429}"#).is_err());
    }
}
