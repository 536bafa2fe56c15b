//! How sums of usage look: lines that fit the terminal, whatever names clients have chosen; cells for spreadsheets.
//!
//! Pure. Called by `usage`.

use super::args::By;
use super::layout::columns;
use super::output::{Output, Tone};
use super::table::Table;
use super::usage_sums::Sum;
use crate::model::visible;
use crate::usage::{Amounts, money};

/// Columns of numbers.
const NUMBERS: [&str; 5] = ["REQUESTS", "PROMPT", "CACHED", "COMPLETION", "USD"];
/// Between two columns.
const GAP: usize = 2;
/// A heading that is cut keeps so much.
const MIN_HEADING: usize = 8;

/// A text of others in one line, its control characters spelt out.
pub(super) fn one_line(text: &str) -> String {
    visible(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// What a line is of, for programs: a time is one of RFC 3339.
pub(super) fn for_programs(column: By, of: &str) -> String {
    match column {
        By::Hour => format!("{of}:00:00Z"),
        _ => of.to_owned(),
    }
}

/// The same for people.
fn for_people(column: By, of: &str) -> String {
    match column {
        _ if of.is_empty() => "(none)".to_owned(),
        By::Hour => format!("{}:00", of.replace('T', " ")),
        _ => one_line(of),
    }
}

fn heading(column: By) -> String {
    let word = column.word().to_uppercase();
    match column {
        By::Day | By::Hour => format!("{word} (UTC)"),
        _ => word,
    }
}

/// The table, with all together in the last line where there is more than one.
pub(super) fn table(by: &[By], sums: &[Sum], total: &Amounts, out: &Output) -> String {
    let total = (sums.len() > 1).then_some(total);
    let amounts: Vec<_> = sums.iter().map(|sum| &sum.amounts).chain(total).map(numbers).collect();
    let mut widths = NUMBERS.map(str::len);
    for row in &amounts {
        widths.iter_mut().zip(row).for_each(|(width, number)| *width = number.len().max(*width));
    }
    let right =
        |cells: [&str; 5]| -> [String; 5] { std::array::from_fn(|at| format!("{:>1$}", cells[at], widths[at])) };
    let room = out.width.saturating_sub(widths.iter().map(|width| width + GAP).sum());
    let cells: Vec<Vec<String>> =
        sums.iter().map(|sum| by.iter().zip(&sum.of).map(|(column, of)| for_people(*column, of)).collect()).collect();
    let (heading, names) = names(by.iter().map(|column| heading(*column)).collect(), cells, room, out.width);
    let [requests, prompt, cached, completion, usd] = right(NUMBERS);
    let mut table = Table::new([&*heading, &*requests, &*prompt, &*cached, &*completion, &*usd]);
    let names = names.into_iter().map(|name| (Tone::Plain, name));
    for ((tone, name), amounts) in names.chain([(Tone::Strong, "TOTAL".to_owned())]).zip(&amounts) {
        let numbers = right(amounts.each_ref().map(String::as_str));
        let [requests, prompt, cached, completion, usd] = numbers.map(|number| (tone, number));
        table.row([(tone, name), requests, prompt, cached, completion, usd]);
    }
    table.render(out)
}

fn numbers(amounts: &Amounts) -> [String; 5] {
    let Amounts { requests, prompt, cached, completion, nano_usd, .. } = *amounts;
    let [requests, prompt, cached, completion] = [requests, prompt, cached, completion].map(|n| n.to_string());
    [requests, prompt, cached, completion, money::told(nano_usd)]
}

/// What the lines are of, in one text each, and the heading: below each other where there is room beside the numbers;
/// else each as short as it is, and the numbers stand below those that are longer.
fn names(heading: Vec<String>, rows: Vec<Vec<String>>, room: usize, width: usize) -> (String, Vec<String>) {
    let count = heading.len();
    let widest = |at: usize| rows.iter().chain([&heading]).map(|cells| columns(&cells[at])).max().unwrap_or(0);
    let widths: Vec<_> = (0..count).map(widest).collect();
    let gap = " ".repeat(GAP);
    if widths.iter().sum::<usize>() + GAP * count.saturating_sub(1) <= room {
        let padded = |cells: &Vec<String>| {
            let cells = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(columns(cell)))));
            cells.collect::<Vec<_>>().join(&gap).trim_end().to_owned()
        };
        return (padded(&heading), rows.iter().map(padded).collect());
    }
    let share = width.saturating_sub(GAP * count.saturating_sub(1)) / count.max(1);
    let joined = |cells: &Vec<String>| {
        let whole = cells.join(&gap);
        if columns(&whole) <= width {
            return whole;
        }
        cells.iter().map(|cell| cut(cell, share)).collect::<Vec<_>>().join(&gap)
    };
    (cut(&heading.join(&gap), room.max(MIN_HEADING)), rows.iter().map(joined).collect())
}

/// The text within `width` columns: begin and end stay, since versions stand at the end.
fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let fitting = |chars: &mut dyn Iterator<Item = char>, room: usize| {
        let mut part = String::new();
        for c in chars {
            part.push(c);
            if columns(&part) > room {
                part.pop();
                break;
            }
        }
        part
    };
    let end: String = fitting(&mut text.chars().rev(), room / 2).chars().rev().collect();
    let begin = fitting(&mut text.chars(), room.saturating_sub(columns(&end)));
    format!("{begin}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Color;
    use proptest::prelude::*;

    fn out(width: usize) -> Output {
        Output { width, ..Output::new(false, Color::Never) }
    }

    fn sum(of: &[&str], tokens: u64, nano_usd: u64) -> Sum {
        let amounts = Amounts { requests: 12, prompt: tokens, completion: tokens / 10, nano_usd, ..Amounts::default() };
        Sum { of: of.iter().map(|text| (*text).to_owned()).collect(), amounts }
    }

    fn shown(by: &[By], sums: &[Sum], width: usize) -> String {
        let mut total = Amounts::default();
        sums.iter().for_each(|sum| total += sum.amounts);
        table(by, sums, &total, &out(width))
    }

    #[test]
    fn numbers_stand_at_the_right_and_all_together_last() {
        let sums = [sum(&["acme", "gpt-4o"], 123_456_789, 12_345_000_000), sum(&["beta-corp", ""], 7, 4_200_000)];
        let expected = "\
CLIENT     MODEL   REQUESTS     PROMPT  CACHED  COMPLETION     USD
acme       gpt-4o        12  123456789       0    12345678   12.35
beta-corp  (none)        12          7       0           0  0.0042
TOTAL                    24  123456796       0    12345678   12.35
";
        assert_eq!(shown(&[By::Client, By::Model], &sums, 80), expected);
        let alone = shown(&[By::Hour], &[sum(&["2026-11-30T13"], 7, 0)], 80);
        let expected = "HOUR (UTC)        REQUESTS  PROMPT  CACHED  COMPLETION   USD\n\
                        2026-11-30 13:00        12       7       0           0  0.00\n";
        assert_eq!(alone, expected);
    }

    #[test]
    fn long_names_have_a_line_of_their_own_and_the_longest_are_cut() {
        let long = format!("claude-{}-20250929", "x".repeat(90));
        let sums = [sum(&["acme", &long], 123_456_789, 1), sum(&["acme", "a\u{1b}[31m\nb\tc"], 7, 0)];
        let text = shown(&[By::Client, By::Model], &sums, 80);
        assert!(text.lines().all(|line| columns(line) <= 80), "{text}");
        assert!(text.contains("acme  claude-") && text.contains("…") && text.contains("-20250929\n"), "{text}");
        assert!(text.contains("acme  a\\u{1b}[31m\\nb\\tc"), "{text}");
        assert_eq!(cut("日本語日本語", 6), "日…語");
    }

    proptest! {
        #[test]
        fn every_line_fits(
            rows in prop::collection::vec((prop::collection::vec("\\PC{0,90}", 6), any::<u64>(), any::<u64>()), 1..6),
            count in 1_usize..7, shift in 0_u32..50, width in 80_usize..160,
        ) {
            let by = &[By::Client, By::Model, By::Server, By::Plan, By::Day, By::Hour][..count];
            let sums: Vec<Sum> = rows.iter().map(|(of, tokens, nano_usd)| {
                let of: Vec<&str> = of.iter().map(String::as_str).take(count).collect();
                sum(&of, tokens >> shift, nano_usd >> shift)
            }).collect();
            let text = shown(by, &sums, width);
            prop_assert!(text.lines().all(|line| columns(line) <= width), "{}", text);
        }
    }
}
