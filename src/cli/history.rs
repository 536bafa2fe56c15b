//! `history` and `diff`: what served before. Reads the store; needs no agent.

use super::output::{Failure, Output, Tone};
use super::table::Table;
use super::target;
use crate::agent::{Ledger, Place, live_config, unified_diff};
use crate::api::wire;
use crate::config;
use crate::store::{Manifest, RevisionOutcome, Standing};
use crate::sys;
use camino::Utf8Path;

/// Largest file that is compared.
const MAX_TEXT: u64 = 64 << 20;

/// `hapilot history`
pub(super) fn history(place: &Place, limit: u32, out: Output) -> Result<(), Failure> {
    let (state, unread) = target::state(place);
    let store = open(place)?;
    let (current, trial) = (store.current(), store.provisional().map(|trial| trial.revision));
    let mut revisions = store.list().map_err(Failure::from)?;
    revisions.sort_by_key(|manifest| std::cmp::Reverse(manifest.revision));
    let rows: Vec<_> =
        revisions.iter().take(limit as usize).map(|manifest| to_wire(manifest, current, trial)).collect();
    if let (true, Some(failure)) = (rows.is_empty(), unread) {
        return Err(failure);
    }
    if out.json {
        out.print_json(&rows);
        return Ok(());
    }
    if rows.is_empty() {
        out.line(format_args!("no revision yet in {state}"));
        return Ok(());
    }
    let mut table = Table::new(["REV", "", "WHEN", "WHO", "HOW", "OUTCOME", "WHY"]);
    for row in rows {
        // The word stands in the row, its reason below; the first line says enough here.
        let outcome = row.outcome.lines().next().unwrap_or_default();
        let (outcome, outcome_why) = outcome.split_once(": ").unwrap_or((outcome, ""));
        let outcome = outcome.replace('-', " ");
        let tone = match outcome.as_str() {
            "confirmed" => Tone::Good,
            "provisional" => Tone::Warn,
            _ => Tone::Bad,
        };
        let how = match row.how.as_str() {
            "files" => "no change".to_owned(),
            other => other.to_owned(),
        };
        table.row([
            (Tone::Strong, row.revision.to_string()),
            (Tone::Good, if row.is_current { "*" } else { "" }.to_owned()),
            (Tone::Dim, out.with_clocks(&row.created)),
            (Tone::Plain, row.actor),
            (Tone::Plain, how),
            (tone, outcome.clone()),
            (Tone::Plain, row.reason),
        ]);
        if outcome_why != outcome {
            table.note(tone, outcome_why.to_owned());
        }
        if !row.tags.is_empty() {
            table.note(Tone::Strong, format!("tagged {}", row.tags.join(", ")));
        }
        if let Some(line) = row.summary.first() {
            let more = row.summary.len() - 1;
            let more = if more == 0 { String::new() } else { format!(", and {more} more") };
            table.note(Tone::Dim, format!("{line}{more}"));
        }
    }
    out.print(&table.render(&out));
    Ok(())
}

fn to_wire(manifest: &Manifest, current: Option<u32>, trial: Option<u32>) -> wire::Revision {
    let (how, outcome) = match &manifest.outcome {
        Some(RevisionOutcome::Applied { how }) => {
            let standing = match &manifest.standing {
                Standing::Confirmed => "confirmed".to_owned(),
                Standing::Provisional if trial == Some(manifest.revision) => "provisional".to_owned(),
                // Another one came before somebody confirmed it.
                Standing::Provisional => "replaced".to_owned(),
                Standing::RolledBack { reason } => format!("rolled-back: {reason}"),
            };
            (how.to_string(), standing)
        }
        Some(RevisionOutcome::Failed { text }) => (String::new(), format!("failed: {text}")),
        None => (String::new(), "unfinished".to_owned()),
    };
    wire::Revision {
        revision: manifest.revision,
        created: manifest.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        actor: manifest.actor.clone(),
        reason: manifest.reason.clone(),
        how,
        outcome,
        is_current: current == Some(manifest.revision),
        summary: manifest.plan.clone(),
        tags: manifest.tags.clone(),
    }
}

/// `hapilot history show REV`: the operator's file of a revision, as its digest proves it. It has references, but a comment
/// may hold what looks like a key: that is not shown.
pub(super) fn show(place: &Place, revision: &str, haproxy: bool, out: Output) -> Result<(), Failure> {
    let store = open(place)?;
    let revision = store.resolve(revision).map_err(Failure::from)?;
    let text = if haproxy { store.haproxy_cfg_of(revision) } else { store.toml_of(revision) };
    let whole = text.map_err(Failure::from)?;
    let text = shown(&whole, haproxy);
    if text != whole {
        let told = "what looks like a key is not shown";
        out.note(format!("{told}: {} writes the file as it was", place.command("rollback REV --write")));
    }
    if out.json {
        out.print_json(&serde_json::json!({ "revision": revision, "text": text }));
    } else {
        out.print(&text);
    }
    Ok(())
}

/// `hapilot diff`
pub(super) fn diff(
    place: &Place,
    from: Option<&str>,
    to: Option<&str>,
    haproxy: bool,
    out: Output,
) -> Result<(), Failure> {
    let store = open(place)?;
    let number = |name: Option<&str>| name.map(|name| store.resolve(name)).transpose().map_err(Failure::from);
    let (from, to) = (number(from)?, number(to)?);
    let from = from.or_else(|| store.current()).ok_or_else(|| Failure::refused("there is no revision yet"))?;
    let text_of = |revision: u32| {
        let text = if haproxy { store.haproxy_cfg_of(revision) } else { store.toml_of(revision) };
        text.map_err(Failure::from)
    };
    let before = text_of(from)?;
    let (after, name) = match to {
        Some(to) => (text_of(to)?, format!("revision {to}")),
        None if haproxy => {
            let config = live_config(place);
            let text = text_at(&config)?;
            (text, config.to_string())
        }
        None => {
            let text = text_at(&place.file)?;
            (text, place.file.to_string())
        }
    };
    let is_alike = before == after;
    let (before, after) = (shown(&before, haproxy), shown(&after, haproxy));
    let diff = unified_diff(&before, &after, &format!("revision {from} → {name}"));
    if out.json {
        out.print_json(&serde_json::json!({ "from": from, "to": name, "diff": diff }));
    } else if diff.is_empty() {
        out.line(if is_alike {
            "no difference"
        } else {
            "no difference but in what looks like a key, which is not shown"
        });
    } else {
        out.diff(&diff);
    }
    Ok(())
}

/// A text of the operator's, or haproxy.cfg, without secrets: it may be one that was refused for them.
fn shown(text: &str, haproxy: bool) -> String {
    if haproxy { config::masked_words(text) } else { config::masked(text) }
}

fn open(place: &Place) -> Result<Ledger, Failure> {
    let named = || format!("`node.state` of {} names that directory", place.file);
    Ledger::read_only(&place.state_directory()).map_err(|failed| Failure::from(failed).help(named()))
}

/// A file as text.
fn text_at(path: &Utf8Path) -> Result<String, Failure> {
    let bytes = sys::files::read_limited(path, MAX_TEXT).map_err(Failure::refused)?;
    String::from_utf8(bytes).map_err(|_| Failure::refused(format!("{path} is not UTF-8")))
}
