//! What a mock has seen: counters by method, path and status, and the last request of each path.

use super::request::Request;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Most different paths that are counted; others fall under `*`.
const MAX_PATHS: usize = 256;

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Journal {
    connections: u64,
    counts: BTreeMap<(String, String, u16), u64>,
    last: BTreeMap<String, Value>,
}

impl Journal {
    pub(super) fn connection(&mut self) {
        self.connections += 1;
    }

    pub(super) fn record(&mut self, request: &Request, status: u16) {
        let known = self.last.contains_key(&request.path) || self.last.len() < MAX_PATHS;
        let path = if known { request.path.as_str() } else { "*" };
        let headers: Map<String, Value> =
            request.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        // Bodies are shown where they are small: the mock's memory is bounded too.
        let body = if request.body.len() <= 4096 { body } else { Value::Null };
        let last = json!({"method": request.method, "status": status, "headers": headers, "body": body});
        *self.counts.entry((request.method.clone(), path.to_owned(), status)).or_default() += 1;
        self.last.insert(path.to_owned(), last);
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn show(&self) -> Value {
        let requests: Vec<Value> = self
            .counts
            .iter()
            .map(|((method, path, status), count)| {
                json!({"method": method, "path": path, "status": status, "count": count})
            })
            .collect();
        json!({"connections": self.connections, "total": self.total(), "requests": requests, "last": self.last})
    }
}
