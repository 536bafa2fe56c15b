//! `usage`: who used what and what it cost, from the hours on disk. Needs no agent.

use super::args::{self, By};
use super::output::{Failure, Output, counted};
use super::usage_sums::{Sum, Sums};
use super::{sheet, target, usage_table};
use crate::agent::Place;
use crate::model::Name;
use crate::store::{StoreError, load_open_usage, load_usage};
use crate::sys;
use crate::usage::{Amounts, Hour, MADE_UP, UsageKey, money};
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Files that are left out are named, up to so many.
const MAX_NAMED: usize = 3;

/// `hapilot usage --json`
#[derive(Serialize)]
struct Report {
    /// The begin of the first hour that counts.
    since: String,
    by: Vec<&'static str>,
    rows: Vec<Line>,
    total: Amounts,
    /// Files that are damaged or unreadable.
    left_out: Vec<Utf8PathBuf>,
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    of: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    amounts: Amounts,
}

/// `hapilot usage`
pub(super) fn usage(place: &Place, options: &args::Usage, out: Output) -> Result<(), Failure> {
    if options.csv && out.json {
        return Err(Failure::usage("`--csv` and `--json` are two forms of one output: take one of them"));
    }
    let (state, unread) = target::state(place);
    let from = options.since.hour(Timestamp::now());
    let mut clients = BTreeSet::new();
    let (mut plans, mut made_up) = (BTreeMap::<String, (u64, u64)>::new(), 0);
    let (sums, left_out) = read(&state, from, &options.by, |key, amounts| {
        if options.client.is_some() && !clients.contains(&key.client) {
            clients.insert(key.client.clone());
        }
        let is_meant = options.client.as_ref().is_none_or(|client| key.client == client.as_str());
        if is_meant && key.model == MADE_UP && amounts.requests == 0 {
            made_up += amounts.nano_usd;
        } else if is_meant {
            let of_plan = plans.entry(key.plan.clone()).or_default();
            *of_plan = (of_plan.0 + amounts.requests, of_plan.1 + amounts.counted);
        }
        is_meant
    })
    .map_err(|e| Failure::refused(sys::chain(&e)))?;
    // One that only asked for what has no tokens is told as well; that is no harm.
    let uncounted = plans.into_iter().filter(|(_, (requests, counted))| *requests > 0 && *counted == 0);
    let uncounted: BTreeSet<String> = uncounted.map(|(plan, _)| plan).collect();
    let (rows, total) = (sums.sorted(), sums.total());
    if let (true, Some(failure)) = (rows.is_empty(), unread) {
        return Err(failure);
    }
    let by = sums.columns();
    if out.json {
        out.print_json(&report(from, by, rows, total, left_out));
        return Ok(());
    }
    if options.csv {
        out.print(&spreadsheet(by, &rows));
    } else if !rows.is_empty() {
        out.print(&usage_table::table(by, &rows, &total, &out));
    }
    for note in doubts(&total, &uncounted, made_up) {
        if options.csv { out.note(note) } else { out.remark(note) }
    }
    if rows.is_empty() {
        out.note(nothing(&state, from, options.client.as_ref(), clients));
    }
    for path in left_out.iter().take(MAX_NAMED) {
        out.note(format_args!("{path} is damaged or unreadable, and is left out"));
    }
    if let Some(more @ 1..) = left_out.len().checked_sub(MAX_NAMED) {
        out.note(format_args!("so are {}", counted(more as u64, "other file")));
    }
    Ok(())
}

/// Adds up the hours from this one on, and answers what had to be left out.
fn read(
    state: &Utf8Path,
    from: Hour,
    by: &[By],
    mut is_meant: impl FnMut(&UsageKey, &Amounts) -> bool,
) -> Result<(Sums, Vec<Utf8PathBuf>), StoreError> {
    let mut sums = Sums::by(by);
    let mut left_out = vec![];
    // The open hour first: one that ends meanwhile is then among the others, where it does not count again.
    let open = match load_open_usage(state) {
        Ok(open) => Some(open.hour),
        Err(StoreError::Damaged { path, .. }) => {
            left_out.push(path);
            None
        }
        Err(other) => return Err(other),
    };
    let is_open = |hour: Hour| open.as_ref().is_some_and(|open| open.hour == hour);
    left_out.extend(load_usage(state, from, Hour(i64::MAX), |hour| {
        if !is_open(hour.hour) {
            sums.add(&hour, &mut is_meant);
        }
    })?);
    if let Some(open) = open.filter(|open| open.hour >= from) {
        sums.add(&open, is_meant);
    }
    Ok((sums, left_out))
}

fn report(from: Hour, by: &[By], rows: Vec<Sum>, total: Amounts, left_out: Vec<Utf8PathBuf>) -> Report {
    let line = |Sum { of, amounts }: Sum| {
        let of = by.iter().zip(&of).map(|(column, of)| (column.word(), usage_table::for_programs(*column, of)));
        Line { of: of.collect(), amounts }
    };
    Report {
        since: from.begin().to_string(),
        by: by.iter().map(|column| column.word()).collect(),
        rows: rows.into_iter().map(line).collect(),
        total,
        left_out,
    }
}

/// A heading, and a line for each row. None for all together: whoever adds up a column would count it twice.
fn spreadsheet(by: &[By], rows: &[Sum]) -> String {
    let numbers = ["requests", "prompt", "cached", "completion", "usd"];
    let mut text = sheet::line(by.iter().map(|column| column.word()).chain(numbers).map(str::to_owned));
    for Sum { of, amounts } in rows {
        let of = by.iter().zip(of).map(|(column, of)| usage_table::one_line(&usage_table::for_programs(*column, of)));
        let Amounts { requests, prompt, cached, completion, nano_usd, .. } = *amounts;
        let numbers = [requests, prompt, cached, completion].map(|number| number.to_string());
        text.push_str(&sheet::line(of.chain(numbers).chain([money::exact(nano_usd)])));
    }
    text
}

/// What is not known for sure, and what to do about it.
fn doubts(total: &Amounts, uncounted: &BTreeSet<String>, made_up: u64) -> Vec<String> {
    let mut told = vec![];
    if !uncounted.is_empty() {
        let plans: Vec<_> = uncounted.iter().map(|plan| usage_table::one_line(plan)).collect();
        told.push(format!(
            "tokens and money are not counted for who has a plan without `tokens` and `budget` ({}): a budget with \
             when_spent = \"pass\" counts and refuses nobody",
            plans.join(", ")
        ));
    }
    if total.estimated > 0 {
        told.push(format!(
            "{} of {} did not tell what they used (the client left, or the server never tells): their tokens are estimated",
            total.estimated,
            counted(total.counted, "answer")
        ));
    }
    if total.unpriced > 0 {
        told.push(format!(
            "for {} there is no price, so that USD leaves them out: give their server a `price`, or their model one in \
             `[[price]]`; that counts from then on",
            counted(total.unpriced, "token")
        ));
    }
    if made_up > 0 {
        told.push(format!(
            "${} are {MADE_UP}: HAProxy's counters have them, and no line told of the requests; for long no agent ran",
            money::told(made_up)
        ));
    }
    told
}

fn nothing(state: &Utf8Path, from: Hour, client: Option<&Name>, clients: BTreeSet<String>) -> String {
    let of = client.map(|client| format!(" by {client}")).unwrap_or_default();
    let since = from.begin().strftime("%Y-%m-%d %H:%M UTC");
    let slips = |name: String| (strsim::damerau_levenshtein(&name, client.map_or("", Name::as_str)), name);
    let meant = clients.into_iter().map(slips).filter(|(slips, _)| (1..=2).contains(slips)).min();
    let meant = meant.map(|(_, name)| format!("; did you mean {}?", usage_table::one_line(&name))).unwrap_or_default();
    format!("nothing was used{of} since {since}, or nobody kept it in {state}{meant}")
}

#[cfg(test)]
mod tests {
    use super::super::usage_sums::tests::{hour, row};
    use super::*;
    use crate::store::save_usage;
    use crate::usage::OpenUsage;

    fn open(hour: crate::usage::UsageHour) -> OpenUsage {
        OpenUsage { hour, ..OpenUsage::default() }
    }

    fn total(state: &Utf8Path, from: &str) -> (u64, Vec<Utf8PathBuf>) {
        let (sums, left_out) = read(state, Hour::parse(from).unwrap(), &[By::Client], |_, _| true).unwrap();
        (sums.total().nano_usd, left_out)
    }

    #[test]
    fn the_open_hour_counts_once_also_where_its_file_is_written_already() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        assert_eq!(total(state, "2026-11-30T00"), (0, vec![]));
        let closed = [hour("2026-11-30T12", [row("a", "m", 1, 0)]), hour("2026-11-30T13", [row("a", "m", 100, 0)])];
        save_usage(state, &closed, &open(hour("2026-11-30T13", [row("a", "m", 10, 0)]))).unwrap();
        assert_eq!(total(state, "2026-11-30T00"), (11, vec![]));
        assert_eq!(total(state, "2026-11-30T13"), (10, vec![]));
        assert_eq!(total(state, "2026-11-30T14"), (0, vec![]));
        let path = state.join("usage/open.json");
        fs_err::write(&path, "{").unwrap();
        assert_eq!(total(state, "2026-11-30T00"), (101, vec![path]));
    }

    #[test]
    fn data_has_all_digits_and_names_as_they_are() {
        let mut sums = Sums::by(&[By::Hour, By::Model]);
        let rows = [row("a", "=1,\"\n\u{1b}", 1_234_567_890, 5), row("a", "", 1, 0)];
        sums.add(&hour("2026-11-30T13", rows), |_, _| true);
        let sheet = spreadsheet(sums.columns(), &sums.sorted());
        let expected = "hour,model,requests,prompt,cached,completion,usd\n\
                        2026-11-30T13:00:00Z,\"'=1,\"\"\\n\\u{1b}\",1,5,0,0,1.234567890\n\
                        2026-11-30T13:00:00Z,,1,0,0,0,0.000000001\n";
        assert_eq!(sheet, expected);
        let from = Hour::parse("2026-11-29T13").unwrap();
        let report = report(from, sums.columns(), sums.sorted(), sums.total(), vec![]);
        let data = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&data["since"], &data["by"]),
            (&"2026-11-29T13:00:00Z".into(), &serde_json::json!(["hour", "model"]))
        );
        assert_eq!(data["rows"][0]["model"], "=1,\"\n\u{1b}");
        assert_eq!(data["rows"][0]["hour"], "2026-11-30T13:00:00Z");
        assert_eq!(
            (&data["rows"][0]["nano_usd"], &data["total"]["nano_usd"]),
            (&1_234_567_890.into(), &1_234_567_891_u64.into())
        );
        assert_eq!(data["rows"][1]["unpriced"], 0);
    }

    #[test]
    fn what_is_estimated_or_without_a_price_is_told() {
        let nobody = BTreeSet::new();
        assert_eq!(doubts(&Amounts { counted: 9, ..Amounts::default() }, &nobody, 0), Vec::<String>::new());
        let told = doubts(&Amounts { counted: 9, estimated: 2, unpriced: 1, ..Amounts::default() }, &nobody, 0);
        assert!(told[0].starts_with("2 of 9 answers") && told[1].starts_with("for 1 token there"), "{told:?}");
    }

    #[test]
    fn who_used_nothing_may_be_spelt_otherwise() {
        let from = Hour::parse("2026-11-29T13").unwrap();
        let told = nothing("s".into(), from, Some(&Name::new("acne").unwrap()), ["beta".into(), "acme".into()].into());
        let expected =
            "nothing was used by acne since 2026-11-29 13:00 UTC, or nobody kept it in s; did you mean acme?";
        assert_eq!(told, expected);
        assert!(nothing("s".into(), from, None, BTreeSet::new()).ends_with("in s"));
    }
}
