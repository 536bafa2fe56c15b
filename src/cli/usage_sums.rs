//! Rows of many hours, added up by what the operator asks for, in the order in which they are told.
//!
//! Pure. Called by `usage`.

use super::args::By;
use crate::usage::{Amounts, UsageHour, UsageKey};
use std::cmp::Reverse;
use std::collections::HashMap;

/// The sums.
#[derive(Debug)]
pub(super) struct Sums {
    by: Vec<By>,
    rows: HashMap<Vec<String>, Amounts>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    /// What it is of, in the order of the columns: names as they came, `2026-11-30`, `2026-11-30T13`.
    pub of: Vec<String>,
    /// How much.
    pub amounts: Amounts,
}

impl Sums {
    /// None yet. A column that was asked for twice is there once.
    pub(super) fn by(asked: &[By]) -> Self {
        let mut by = vec![];
        for column in asked {
            if !by.contains(column) {
                by.push(*column);
            }
        }
        Self { by, rows: HashMap::new() }
    }

    /// The columns.
    pub(super) fn columns(&self) -> &[By] {
        &self.by
    }

    /// Adds the rows of an hour that are meant.
    pub(super) fn add(&mut self, hour: &UsageHour, mut is_meant: impl FnMut(&UsageKey, &Amounts) -> bool) {
        let at = hour.hour.to_string();
        let day = at.split_once('T').map_or(at.as_str(), |(day, _)| day);
        for row in hour.rows.iter().filter(|row| is_meant(&row.key, &row.amounts)) {
            let UsageKey { client, plan, server, model } = &row.key;
            let of = self.by.iter().map(|column| match column {
                By::Client => client.as_str(),
                By::Model => model,
                By::Server => server,
                By::Plan => plan,
                By::Day => day,
                By::Hour => &at,
            });
            *self.rows.entry(of.map(str::to_owned).collect()).or_default() += row.amounts;
        }
    }

    /// All together.
    pub(super) fn total(&self) -> Amounts {
        let mut total = Amounts::default();
        self.rows.values().for_each(|amounts| total += *amounts);
        total
    }

    /// What cost most first, then what has most tokens, then by name; where days or hours are among the columns, in the
    /// order of time before all that.
    pub(super) fn sorted(&self) -> Vec<Sum> {
        let mut sums: Vec<_> =
            self.rows.iter().map(|(of, amounts)| Sum { of: of.clone(), amounts: *amounts }).collect();
        sums.sort_by_cached_key(|Sum { of, amounts }| {
            let times = self.by.iter().zip(of).filter(|(column, _)| matches!(column, By::Day | By::Hour));
            let times: Vec<String> = times.map(|(_, time)| time.clone()).collect();
            let tokens = amounts.prompt.saturating_add(amounts.completion);
            (times, Reverse(amounts.nano_usd), Reverse(tokens), of.clone())
        });
        sums
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::usage::{Hour, Row};

    pub(in crate::cli) fn row(client: &str, model: &str, nano_usd: u64, prompt: u64) -> Row {
        let key = UsageKey {
            client: client.to_owned(),
            plan: "free".to_owned(),
            server: "chat/a".to_owned(),
            model: model.to_owned(),
        };
        Row { key, amounts: Amounts { requests: 1, prompt, nano_usd, ..Amounts::default() } }
    }

    pub(in crate::cli) fn hour(text: &str, rows: impl Into<Vec<Row>>) -> UsageHour {
        UsageHour { hour: Hour::parse(text).unwrap(), rows: rows.into() }
    }

    fn told(by: &[By]) -> Vec<String> {
        let mut sums = Sums::by(by);
        let rows = [row("b", "m", 5, 1), row("a", "n", 5, 1), row("c", "m", 0, 9), row("a", "m", 1, 1)];
        sums.add(&hour("2026-11-30T23", rows), |_, _| true);
        sums.add(&hour("2026-11-30T22", [row("b", "m", 1, 0)]), |_, _| true);
        sums.add(&hour("2026-12-01T00", [row("d", "m", 0, 9), row("x", "m", 99, 9)]), |key, _| key.client != "x");
        assert_eq!(sums.total().requests, 6);
        let line = |sum: Sum| format!("{} {} {}", sum.of.join(" "), sum.amounts.requests, sum.amounts.nano_usd);
        sums.sorted().into_iter().map(line).collect()
    }

    #[test]
    fn rows_add_up_and_the_dearest_is_first() {
        // The same money, the same tokens: by name. The same money: more tokens first.
        assert_eq!(told(&[By::Client]), ["a 2 6", "b 2 6", "c 1 0", "d 1 0"]);
        assert_eq!(told(&[By::Model]), ["m 5 7", "n 1 5"]);
        assert_eq!(told(&[By::Model, By::Client, By::Model])[..3], ["m b 2 6", "n a 1 5", "m a 1 1"]);
        assert_eq!(told(&[By::Plan, By::Server]), ["free chat/a 6 12"]);
    }

    #[test]
    fn days_and_hours_are_in_the_order_of_time() {
        assert_eq!(told(&[By::Day]), ["2026-11-30 5 12", "2026-12-01 1 0"]);
        assert_eq!(told(&[By::Hour]), ["2026-11-30T22 1 1", "2026-11-30T23 4 11", "2026-12-01T00 1 0"]);
        let both = ["a 2026-11-30 2 6", "b 2026-11-30 2 6", "c 2026-11-30 1 0", "d 2026-12-01 1 0"];
        assert_eq!(told(&[By::Client, By::Day]), both);
    }
}
