//! One change that the running worker takes over the admin socket.

use super::CertificateStep;
use crate::model::{AdminState, Weight};
use std::fmt;
use std::net::IpAddr;

/// One runtime change. `proxy` and `server` are the names that HAProxy knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `set server … state …`
    SetState {
        /// HAProxy's backend.
        proxy: String,
        /// HAProxy's server.
        server: String,
        /// Before.
        from: AdminState,
        /// After.
        to: AdminState,
    },
    /// `set server … weight …`
    SetWeight {
        /// HAProxy's backend.
        proxy: String,
        /// HAProxy's server.
        server: String,
        /// Before.
        from: Weight,
        /// After.
        to: Weight,
    },
    /// `set maxconn server …`
    SetMaxconn {
        /// HAProxy's backend.
        proxy: String,
        /// HAProxy's server.
        server: String,
        /// Before; 0 is no limit.
        from: u32,
        /// After.
        to: u32,
    },
    /// `set maxconn global …`
    SetProcessMaxconn {
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// `set server … addr … port …`
    SetAddress {
        /// HAProxy's backend.
        proxy: String,
        /// HAProxy's server.
        server: String,
        /// Before, as HAProxy prints it.
        from: String,
        /// After.
        to: IpAddr,
        /// Port after.
        port: u16,
    },
    /// `add server …`, `enable health …`, and its state. It comes with the weight of its line.
    AddServer {
        /// HAProxy's backend.
        proxy: String,
        /// HAProxy's server.
        server: String,
        /// Its line behind the name, word by word.
        words: Vec<String>,
        /// Its state; HAProxy begins with maint.
        state: AdminState,
    },
    /// Maint, and `del server …` when its last request has ended; till then it stays in maint.
    RemoveServer {
        /// HAProxy's backend.
        proxy: String,
        /// HAProxy's server.
        server: String,
        /// It is in maint already.
        is_out: bool,
    },
    /// `prepare map`, `add map @version`, `commit map`
    ReplaceMap {
        /// The map's identifier: its path as the configuration names it.
        map: String,
        /// Entries before.
        from_entries: usize,
        /// All entries after, in order.
        entries: Vec<(String, String)>,
        /// Its content must not be printed.
        is_secret: bool,
    },
    /// A change of the certificates.
    Certificate(CertificateStep),
}

impl fmt::Display for Step {
    /// One line for people, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(step) => step.fmt(f),
            Self::SetState { proxy, server, from, to } => write!(f, "state {proxy}/{server} {from} → {to}"),
            Self::SetWeight { proxy, server, from, to } => write!(f, "weight {proxy}/{server} {from} → {to}"),
            Self::SetMaxconn { proxy, server, from, to } => {
                write!(f, "maxconn {proxy}/{server} {} → {}", limit(*from), limit(*to))
            }
            Self::SetProcessMaxconn { from, to } => write!(f, "maxconn of the process {from} → {to}"),
            Self::SetAddress { proxy, server, from, to, port } => {
                let to = std::net::SocketAddr::new(*to, *port);
                write!(f, "address {proxy}/{server} {from} → {to}")
            }
            Self::AddServer { proxy, server, words, state } => {
                let address = words.first().map(String::as_str).unwrap_or_default();
                write!(f, "add {proxy}/{server} {address} {state}")
            }
            Self::RemoveServer { proxy, server, is_out: false } => write!(f, "remove {proxy}/{server}"),
            Self::RemoveServer { proxy, server, is_out: true } => {
                write!(f, "remove {proxy}/{server}, which is out and finishes its requests")
            }
            Self::ReplaceMap { map, from_entries, entries, is_secret } => {
                let secret = if *is_secret { ", secret" } else { "" };
                let count =
                    |entries: usize| if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
                let size = match entries.len() {
                    same if same == *from_entries => count(same),
                    other => format!("{from_entries} → {}", count(other)),
                };
                write!(f, "{} changed ({map}, {size}{secret})", map_words(map))
            }
        }
    }
}

/// What a map holds, for people.
fn map_words(map: &str) -> &str {
    let file = map.rsplit('/').next().unwrap_or(map);
    match file.split('.').next().unwrap_or(file) {
        "keys" => "provider keys",
        "stats" => "the login of the statistics page",
        other => other,
    }
}

/// A server's maxconn for people.
pub(super) fn limit(maxconn: u32) -> String {
    if maxconn == 0 { "none".to_owned() } else { maxconn.to_string() }
}
