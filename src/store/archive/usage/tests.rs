//! What was spent counts once, wherever a backup goes.

use super::*;
use crate::store::usage::load_restored;
use crate::usage::{Amounts, Period, Row, Sum, UsageKey};
use camino::Utf8PathBuf;

fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
    let held = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(held.path()).unwrap().to_owned();
    (held, path)
}

fn hour(text: &str) -> Hour {
    Hour::parse(text).unwrap()
}

fn used(at: &str, nano_usd: u64) -> UsageHour {
    let key = UsageKey { client: "acme".to_owned(), ..UsageKey::default() };
    UsageHour {
        hour: hour(at),
        rows: vec![Row { key, amounts: Amounts { requests: 1, nano_usd, ..Amounts::default() } }],
    }
}

/// A backup of ledger 7, in which acme spent 40 this month, 30 of it today; and 5 at another node.
fn backup(dir: &Utf8Path) -> Utf8PathBuf {
    let staged = dir.join("staged");
    fs_err::create_dir(&staged).unwrap();
    let open = OpenUsage { ledger: 7, hour: used("2026-12-10T11", 20), ..OpenUsage::default() };
    save_usage(&staged, &[used("2026-11-30T05", 1000), used("2026-12-09T05", 10), used("2026-12-10T10", 10)], &open)
        .unwrap();
    let client = "acme".to_owned();
    let elsewhere = ToldSum { ledger: 9, client, sum: Sum(0, [(0, 0), (202_612, 5)]) };
    save_elsewhere(&staged, &[elsewhere]).unwrap();
    staged
}

/// What the agent knows when it starts.
fn resumed(state: &Utf8Path, now: Hour) -> (UsageLedger, u64) {
    let open = load_open_usage(state).unwrap();
    let own = open.ledger;
    let mut before = vec![];
    load_usage(state, load_restored(state).unwrap(), Hour(now.0 + 1), |hour| before.push(hour)).unwrap();
    let mut ledger = UsageLedger::resume(open, before, now);
    load_elsewhere(state).unwrap().into_iter().for_each(|sum| ledger.hear(sum, now));
    (ledger, own)
}

fn spent(ledger: &UsageLedger, period: Period, now: Hour) -> (u64, u64) {
    (ledger.spent("acme", period, now).0.nano_usd, ledger.spent_elsewhere("acme", period, now))
}

#[test]
fn an_empty_node_counts_under_a_new_number_and_knows_what_was_spent() {
    for now in ["2026-12-10T11", "2026-12-10T15"] {
        let (_held, dir) = directory();
        let (staged, now) = (backup(&dir), hour(now));
        assert_eq!(restore_usage(&staged, &dir.join("none"), None, 42, now).unwrap(), ["usage"]);
        let (mut ledger, own) = resumed(&staged, now);
        assert_eq!(own, 42);
        assert_eq!(spent(&ledger, Period::Day, now), (0, 30));
        assert_eq!(spent(&ledger, Period::Month, now), (0, 45));
        // Another node heard later of ledger 7: that holds, and nothing counts twice.
        let sum = |day, month| Sum(0, [(Period::Day.number(now), day), (202_612, month)]);
        ledger.hear(ToldSum { ledger: 7, client: "acme".to_owned(), sum: sum(55, 65) }, now);
        assert_eq!(spent(&ledger, Period::Month, now), (0, 70));
        // What is told of the past is all there.
        let mut requests = 0;
        load_usage(&staged, Hour(0), Hour(i64::MAX), |hour| {
            requests += hour.rows.iter().map(|row| row.amounts.requests).sum::<u64>()
        })
        .unwrap();
        assert_eq!(requests, 4);
    }
}

#[test]
fn a_backup_of_a_node_that_was_restored_counts_once() {
    let (_held, dir) = directory();
    let (staged, now) = (backup(&dir), hour("2026-12-10T15"));
    restore_usage(&staged, &dir.join("none"), None, 42, now).unwrap();
    let mut open = load_open_usage(&staged).unwrap();
    open.hour = used("2026-12-11T02", 3);
    save_usage(&staged, &[used("2026-12-10T16", 2)], &open).unwrap();
    let later = hour("2026-12-11T09");
    restore_usage(&staged, &dir.join("none"), None, 43, later).unwrap();
    let (ledger, own) = resumed(&staged, later);
    assert_eq!((own, spent(&ledger, Period::Month, later)), (43, (0, 50)));
}

#[test]
fn a_node_that_counts_already_goes_on_and_learns_what_was_spent() {
    let (_held, dir) = directory();
    let (staged, now) = (backup(&dir), hour("2026-12-10T15"));
    let state = dir.join("state");
    fs_err::create_dir(&state).unwrap();
    save_usage(&state, &[], &OpenUsage { ledger: 9, hour: used("2026-12-10T15", 6), ..OpenUsage::default() }).unwrap();
    assert_eq!(restore_usage(&staged, &state, None, 42, now).unwrap(), ["usage/elsewhere.json"]);
    fs_err::copy(staged.join("usage/elsewhere.json"), state.join("usage/elsewhere.json")).unwrap();
    let (ledger, own) = resumed(&state, now);
    // What the backup knew of ledger 9 is this very node's.
    assert_eq!((own, spent(&ledger, Period::Month, now)), (9, (6, 40)));
}

#[test]
fn where_haproxy_still_counts_for_the_ledger_it_goes_on() {
    let (_held, dir) = directory();
    let (staged, now) = (backup(&dir), hour("2026-12-10T15"));
    assert_eq!(restore_usage(&staged, &dir.join("none"), Some(7), 42, now).unwrap(), ["usage"]);
    let (ledger, own) = resumed(&staged, now);
    assert_eq!((own, spent(&ledger, Period::Month, now)), (7, (40, 5)));
}

#[test]
fn a_backup_without_usage_brings_none() {
    let (_held, dir) = directory();
    assert_eq!(restore_usage(&dir, &dir, None, 42, hour("2026-12-10T15")).unwrap(), Vec::<String>::new());
    assert!(!dir.join(USAGE).exists());
}
