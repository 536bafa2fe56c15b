//! `probe --last`: what the agent's last probes told, from the file in which it keeps that over restarts.

use super::output::{Failure, Output, Tone, whole_ms};
use super::table::Table;
use super::{args, target};
use crate::agent::Sources;
use crate::store::{self, ProbeRecord};
use crate::sys;
use serde::Serialize;

/// `hapilot probe --last --json`, one element each, the newest first.
#[derive(Serialize)]
struct Row {
    server: String,
    kind: String,
    at: String,
    outcome: String,
    total_ms: u64,
    first_token_ms: Option<u64>,
    tokens: u64,
    key: Option<String>,
    detail: String,
}

/// Asks nobody. At most some seconds older than what the agent knows.
pub(super) fn show(sources: &Sources, options: &args::Probe, out: Output) -> Result<(), Failure> {
    // A name that is not in the file is a mistake also here.
    target::servers(sources, options.target.as_deref())?;
    let results = store::load_results(&sources.config.node.state).map_err(|e| Failure::refused(sys::chain(&e)))?;
    let kinds = target::kinds(options);
    let is_meant = |server: &str, kind: &str| {
        let is_there = server
            .split_once('/')
            .is_some_and(|(backend, server)| target::fits(options.target.as_deref(), backend, server));
        is_there && kinds.iter().any(|known| known.as_str() == kind)
    };
    let lines = results.lines().filter(|(server, kind, _)| is_meant(server, kind));
    let rows: Vec<Row> =
        lines.flat_map(|(server, kind, line)| line.iter().rev().map(move |record| row(server, kind, record))).collect();
    if out.json {
        out.print_json(&rows);
        return Ok(());
    }
    if rows.is_empty() {
        out.line("no probe has been kept yet");
        return Ok(());
    }
    let mut table =
        Table::new(["SERVER", "PROBE", "WHEN", "KEY", "OUTCOME", "TOOK", "FIRST TOKEN", "TOKENS", "DETAIL"]);
    for row in rows {
        table.row(cells(row, &out));
    }
    out.print(&table.render(&out));
    Ok(())
}

fn row(server: &str, kind: &str, record: &ProbeRecord) -> Row {
    let ProbeRecord { at, outcome, total_ms, first_token_ms, tokens, key, detail } = record.clone();
    Row {
        server: server.to_owned(),
        kind: kind.to_owned(),
        at: at.to_string(),
        outcome: outcome.into_owned(),
        total_ms,
        first_token_ms,
        tokens,
        key,
        detail: detail.into(),
    }
}

fn cells(row: Row, out: &Output) -> [(Tone, String); 9] {
    let Row { server, kind, at, outcome, total_ms, first_token_ms, tokens, key, detail } = row;
    let tone = match outcome.as_str() {
        "ok" => Tone::Good,
        "slow" | "rate_limited" | "overloaded" => Tone::Warn,
        _ => Tone::Bad,
    };
    let none = || "-".to_owned();
    // Whole seconds are enough here.
    let at = at.split_once('.').map_or(at.clone(), |(seconds, _)| format!("{seconds}Z"));
    [
        (Tone::Plain, server),
        (Tone::Plain, kind),
        (Tone::Dim, out.with_clocks(&at)),
        (Tone::Plain, key.unwrap_or_else(none)),
        (tone, outcome),
        (Tone::Plain, whole_ms(total_ms as f64)),
        (Tone::Plain, first_token_ms.map_or_else(none, |first| whole_ms(first as f64))),
        (Tone::Plain, tokens.to_string()),
        (Tone::Dim, detail),
    ]
}
