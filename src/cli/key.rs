//! `key list` and `key test`: which of the providers' keys work. Shows where a key is kept, never any part of it.

use super::args::KeyCommand;
use super::output::{Failure, Output, REFUSED, Tone, ms, span};
use super::status::look;
use super::table::Table;
use super::target;
use crate::agent::{Errand, Failed, Place, SecretUse, SourcesError};
use crate::api::wire::{Key, Status};
use crate::desired::key_id;
use crate::health::{Count, Outcome};
use crate::probe::Prober;
use serde::Serialize;
use std::sync::Arc;

/// `hapilot key …`
pub(super) async fn key(place: &Place, command: &KeyCommand, out: Output) -> Result<(), Failure> {
    match command {
        KeyCommand::List => list(place, out).await,
        KeyCommand::Test { target } => test(place, target.as_deref(), out).await,
    }
}

/// `hapilot key list --json`, one element each.
#[derive(Serialize)]
struct Listed {
    server: String,
    id: String,
    reference: String,
    is_active: bool,
    state: String,
    why: Option<String>,
    since_s: Option<u64>,
    left_s: Option<f64>,
    last_outcome: Option<String>,
    last_age_s: Option<f64>,
    uses: u64,
}

impl Listed {
    fn of(server: String, key: &Key) -> Self {
        let Key { id, reference, is_active, state, why, since_s, left_s, last_outcome, last_age_s, uses } = key.clone();
        Self { server, id, reference, is_active, state, why, since_s, left_s, last_outcome, last_age_s, uses }
    }

    fn cells(&self) -> [(Tone, String); 8] {
        let Self { server, id, reference, is_active, state, since_s, last_outcome, last_age_s, uses, .. } = self;
        let tone = match state.as_str() {
            "in_service" => Tone::Good,
            "cooling" => Tone::Warn,
            "retired" => Tone::Bad,
            _ => Tone::Dim,
        };
        let none = || "-".to_owned();
        let last = match (last_outcome, last_age_s) {
            (Some(outcome), Some(age)) => format!("{outcome}, {} ago", span(*age as u64)),
            _ => none(),
        };
        [
            (Tone::Plain, server.clone()),
            (Tone::Strong, id.clone()),
            (Tone::Good, if *is_active { "*" } else { "" }.to_owned()),
            (tone, state.clone()),
            (Tone::Dim, since_s.map_or_else(none, span)),
            (Tone::Plain, last),
            (Tone::Plain, if *uses == 0 { none() } else { uses.to_string() }),
            (Tone::Dim, reference.clone()),
        ]
    }
}

impl Listed {
    /// Why it does not serve, and when it may again.
    fn note(&self) -> String {
        let left = self.left_s.map(|left| span(left.max(0.0).ceil() as u64));
        match (self.state.as_str(), &self.why, left) {
            ("cooling", _, Some(left)) => format!("it was limited and rests for {left} more"),
            (_, Some(why), Some(left)) => format!("rejected ({why}); it is asked again in {left}"),
            (_, Some(why), None) => format!("rejected ({why})"),
            _ => String::new(),
        }
    }
}

async fn list(place: &Place, out: Output) -> Result<(), Failure> {
    let Status { agent, backends, .. } = look(place).await?;
    let mut rows = Vec::new();
    for backend in &backends {
        for server in &backend.servers {
            let name = format!("{}/{}", backend.name, server.name);
            rows.extend(server.keys.iter().map(|key| Listed::of(name.clone(), key)));
        }
    }
    if out.json {
        out.print_json(&rows);
        return Ok(());
    }
    let mut table = Table::new(["SERVER", "KEY", "", "STATE", "FOR", "LAST", "USES", "PLACE"]);
    for row in &rows {
        table.row(row.cells());
        table.note(Tone::Warn, row.note());
    }
    out.print(&table.render(&out));
    if agent.is_none() {
        let told = "the agent does not run: nobody tests keys or chooses among them; start it:";
        out.text(0, out.paint(Tone::Warn, format_args!("{told} `{}`", super::agent::how_to_start(place))));
    }
    Ok(())
}

/// `hapilot key test --json`, one element each.
#[derive(Serialize)]
struct Tested {
    server: String,
    id: String,
    reference: String,
    /// `null`: it could not be read.
    outcome: Option<Outcome>,
    is_billing: bool,
    total_ms: f64,
    detail: String,
}

/// Exit code 1 where a key was rejected, or could not be asked for.
async fn test(place: &Place, wanted: Option<&str>, out: Output) -> Result<(), Failure> {
    // One key that cannot be read keeps no other from being tested.
    let sources = target::load(&place.using(SecretUse::Nothing))?;
    let servers = target::servers(&sources, wanted)?;
    let prober = Arc::new(Prober::new());
    let mut rows = Vec::new();
    for (backend, server) in servers {
        for (index, reference) in server.keys.iter().enumerate() {
            if let Some(unread) = sources.unread.iter().find(|one| one.reference == reference.value) {
                rows.push(Tested {
                    server: format!("{}/{}", backend.name, server.name),
                    id: key_id(index),
                    reference: reference.value.to_string(),
                    outcome: None,
                    is_billing: false,
                    total_ms: 0.0,
                    detail: unread.told.to_string(),
                });
                continue;
            }
            let told = Errand::of_key(&sources, backend, server, index).run(prober.clone()).await;
            rows.push(Tested {
                server: format!("{}/{}", backend.name, server.name),
                id: key_id(index),
                reference: reference.value.to_string(),
                outcome: Some(told.outcome),
                is_billing: told.is_billing,
                total_ms: told.total.as_secs_f64() * 1000.0,
                detail: told.detail,
            });
        }
    }
    if rows.is_empty() {
        return Err(Failure::usage("these servers have no keys; add `keys` to them"));
    }
    if out.json {
        out.print_json(&rows);
    } else {
        let mut table = Table::new(["SERVER", "KEY", "OUTCOME", "TOOK", "PLACE", "DETAIL"]);
        for row in &rows {
            table.row(row.cells());
        }
        out.print(&table.render(&out));
    }
    // Each with its place, and what to do.
    let asked = sources.unread.iter().filter(|one| rows.iter().any(|row| row.reference == one.reference.to_string()));
    let lacking: Vec<_> = asked.map(|one| one.told.clone()).collect();
    if !lacking.is_empty() {
        return Err(Failure::from(Failed::from_sources(&SourcesError::Secrets(lacking))));
    }
    // Who answers 429 has let the key in.
    let works =
        |row: &Tested| matches!(row.outcome.map(|outcome| outcome.count()), Some(Count::Success | Count::Limited));
    if rows.iter().all(works) { Ok(()) } else { Err(Failure::said(REFUSED)) }
}

impl Tested {
    fn cells(&self) -> [(Tone, String); 6] {
        let Self { server, id, reference, outcome, is_billing: _, total_ms, detail } = self;
        let tone = match outcome.map(|outcome| outcome.count()) {
            Some(Count::Success) => Tone::Good,
            Some(Count::Limited) => Tone::Warn,
            Some(Count::HardFailure | Count::Neutral) | None => Tone::Bad,
        };
        let took = if outcome.is_some() { ms(*total_ms) } else { "-".to_owned() };
        [
            (Tone::Plain, server.clone()),
            (Tone::Strong, id.clone()),
            (tone, outcome.as_ref().map_or_else(|| "not read".to_owned(), ToString::to_string)),
            (Tone::Plain, took),
            (Tone::Dim, reference.clone()),
            (Tone::Dim, if outcome.is_some() { detail.clone() } else { "see below".to_owned() }),
        ]
    }
}
