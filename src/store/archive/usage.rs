//! What clients have used, on the node that a backup is put on.
//!
//! A ledger has a number for life, by which the nodes know whose sums they are; two that count under one number would take
//! each other's sums for their own. So a node that is put back counts under a new number, and what the ledger of the
//! backup had spent counts as what was spent elsewhere: under the old number, of which the largest sum holds that anybody
//! knows. Nothing is lost by it, nothing counts twice, and other nodes tell what was spent since the backup. Only where
//! the HAProxy that runs here still counts for that very ledger it goes on as it was.
//!
//! The hours of the backup stay to be told of (`hapilot usage`); they count in no budget.

use crate::store::usage::{
    load_elsewhere, load_open_usage, load_restored, load_usage, save_elsewhere, save_restored, save_usage,
};
use crate::store::{StoreError, USAGE};
use crate::sys::directory;
use crate::usage::{Forgiven, Hour, OpenUsage, ToldSum, UsageHour, UsageLedger};
use camino::Utf8Path;
use std::io;

/// Makes of the usage in `staged`, as a backup had it, what is put into the state directory. `live` is the number of the
/// ledger that the HAProxy of this node counts for. Answers the files that go there; an empty list: the node's own stay.
///
/// # Errors
/// What the backup has is damaged, or what is staged cannot be written.
pub fn restore_usage(
    staged: &Utf8Path,
    state: &Utf8Path,
    live: Option<u64>,
    new_number: u64,
    now: Hour,
) -> Result<Vec<String>, StoreError> {
    let open = load_open_usage(staged)?;
    if open == OpenUsage::default() && !staged.join(USAGE).exists() {
        return Ok(vec![]);
    }
    let own = load_open_usage(state).unwrap_or_default().ledger;
    if own == 0 && open.ledger != 0 && live == Some(open.ledger) {
        return Ok(vec![USAGE.to_owned()]);
    }
    let mut sums = load_elsewhere(staged)?;
    if open.ledger != 0 {
        // Its months are those of its own time.
        let then = open.hour.hour;
        let from = load_restored(staged)?.max(Hour(then.0 - 31 * 24));
        let mut before = vec![];
        load_usage(staged, from, then, |hour| before.push(hour))?;
        sums.extend(UsageLedger::resume(open.clone(), before, then).sums(then));
    }
    if own != 0 {
        // What clients have spent here stays, and goes on.
        let known = load_elsewhere(state).unwrap_or_default();
        let all: Vec<ToldSum> = known.into_iter().chain(sums).filter(|sum| sum.ledger != own).collect();
        remove(staged)?;
        save_elsewhere(staged, &all)?;
        return Ok(vec![format!("{USAGE}/elsewhere.json")]);
    }
    save_elsewhere(staged, &sums)?;
    let forgiven = open.forgiven.into_iter();
    let forgiven = forgiven.map(|(client, forgiven)| (client, Forgiven { spent: Default::default(), ..forgiven }));
    let begun = OpenUsage {
        ledger: new_number,
        hour: UsageHour { hour: now, rows: vec![] },
        positions: vec![],
        forgiven: forgiven.collect(),
    };
    // The hour of now will be one of the new ledger.
    let mut ended = UsageHour { hour: open.hour.hour.min(Hour(now.0 - 1)), rows: open.hour.rows };
    let end = Hour(ended.hour.0 + 1);
    load_usage(staged, ended.hour, end, |hour| ended.rows.extend(hour.rows))?;
    let ended = if ended.rows.is_empty() { vec![] } else { vec![ended] };
    save_usage(staged, &ended, &begun)?;
    save_restored(staged, now)?;
    Ok(vec![USAGE.to_owned()])
}

fn remove(staged: &Utf8Path) -> Result<(), StoreError> {
    let directory = staged.join(USAGE);
    let removed = directory::file_names_among(&directory, "", usize::MAX)
        .and_then(|names| names.iter().try_for_each(|name| directory::remove_file(&directory.join(name))));
    removed.map_err(|source: io::Error| StoreError::Io { doing: "write the usage", source })
}

#[cfg(test)]
mod tests;
