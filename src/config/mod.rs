//! The operator's file: raw TOML with positions → [`Config`], and every problem of it in one run.
//!
//! Refuses to know files and HAProxy's version. Called by `agent` and `cli` with the text of the file.

mod types;

pub use types::{
    AddressLimit, Api, Backend, BackendTimeout, ChatProbe, Check, Config, Frontend, FrontendTimeout, Haproxy, History,
    HttpProbe, ModelsProbe, Node, Route, Server, ServerTls, Stats, Tls, TlsProfile, Weighting,
};
