//! Columns of words that fit the terminal: what does not stand beside goes below.
//!
//! Called by every command that prints a list; knows nothing of what it prints.

use super::layout::{columns, wrap};
use super::output::{Output, Tone};

/// A first column of less is not worth having.
const MIN_FIRST: usize = 20;
/// What stands below a row begins here.
const INDENT: usize = 6;

/// Columns of words, aligned.
#[derive(Debug, Default)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Default)]
struct Row {
    cells: Vec<(Tone, String)>,
    notes: Vec<(Tone, String)>,
}

impl Table {
    /// A table with a heading.
    pub fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { heading: heading.iter().map(|word| (*word).to_owned()).collect(), rows: vec![] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [(Tone, String); N]) {
        self.rows.push(Row { cells: cells.into(), notes: vec![] });
    }

    /// Adds a line below the last row.
    pub fn note(&mut self, tone: Tone, text: String) {
        if let Some(row) = self.rows.last_mut().filter(|_| !text.is_empty()) {
            row.notes.push((tone, text));
        }
    }

    /// The text, two blanks between columns, none at the end of a line. The last column is as wide as it likes: where
    /// it does not fit beside the others of its row, it stands below them, and so do columns for which no room is left.
    pub fn render(&self, out: &Output) -> String {
        let fixed = self.heading.len().saturating_sub(1).max(1);
        let widest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(column)).map(|(_, text)| columns(text));
            cells.chain(self.heading.get(column).map(|word| columns(word))).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..fixed).map(widest).collect();
        let beside = |widths: &[usize]| widths[1..].iter().map(|width| width + 2).sum::<usize>();
        while widths.len() > 1 && beside(&widths) + widths[0].min(MIN_FIRST) > out.width {
            widths.pop();
        }
        // A longer name has a line of its own.
        let room = out.width.saturating_sub(beside(&widths));
        if widths[0] > room {
            let names = self.rows.iter().filter_map(|row| row.cells.first()).map(|(_, text)| columns(text));
            widths[0] = names
                .filter(|wide| *wide <= room)
                .chain(self.heading.first().map(|word| columns(word)))
                .max()
                .unwrap_or(0);
        }
        let heading: Vec<_> = self.heading.iter().map(|word| (Tone::Dim, word.clone())).collect();
        let has_room = widths.len() + 1 == self.heading.len();
        let shown = if has_room { heading.len() } else { widths.len() };
        let mut text = beside_each_other(&heading[..shown], &widths, out) + "\n";
        if text.lines().any(|line| columns(line) > out.width) {
            text = beside_each_other(&heading[..widths.len()], &widths, out) + "\n";
        }
        for row in &self.rows {
            let Row { cells, notes } = row;
            let all = beside_each_other(cells, &widths, out);
            let fits = has_room && all.lines().all(|line| columns(line) <= out.width);
            if fits || cells.len() <= widths.len() {
                text += &all;
            } else {
                text += &beside_each_other(&cells[..widths.len()], &widths, out);
                for ((tone, word), heading) in cells.iter().zip(&self.heading).skip(widths.len()) {
                    text += &below(*tone, &labelled(heading, word), out);
                }
            }
            text.push('\n');
            for (tone, note) in notes {
                let line = below(*tone, note, out);
                text += line.trim_start_matches('\n');
                text.push('\n');
            }
        }
        text
    }
}

/// `uses 12`; a sentence needs no heading.
fn labelled(heading: &str, word: &str) -> String {
    match heading {
        _ if word.is_empty() || word == "-" => String::new(),
        "" | "WHY" | "DETAIL" | "TOLD" | "PLACE" => word.to_owned(),
        heading => format!("{} {}", heading.trim().to_lowercase(), word.trim()),
    }
}

/// A line below a row, with the end of the line before it; nothing where there is nothing to say.
fn below(tone: Tone, text: &str, out: &Output) -> String {
    if text.is_empty() {
        return String::new();
    }
    let wrapped = wrap(&format!("{}{text}", " ".repeat(INDENT)), out.width, INDENT);
    wrapped.lines().map(|line| format!("\n{}", out.paint(tone, line))).collect()
}

fn beside_each_other(cells: &[(Tone, String)], widths: &[usize], out: &Output) -> String {
    let mut line = String::new();
    for (at, (tone, word)) in cells.iter().enumerate() {
        let wide = columns(word);
        line.push_str(&out.paint(*tone, word));
        let Some(width) = widths.get(at).filter(|_| at + 1 < cells.len()) else { continue };
        match width.checked_sub(wide) {
            Some(left) => line.push_str(&" ".repeat(left + 2)),
            None => {
                line.push('\n');
                line.push_str(&" ".repeat(width + 2));
            }
        }
    }
    line.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn out(width: usize) -> Output {
        Output { json: false, color: false, color_err: false, width, width_err: width }
    }

    fn plain(text: &str) -> (Tone, String) {
        (Tone::Plain, text.to_owned())
    }

    #[test]
    fn columns_align_and_lines_end_without_blanks() {
        let mut table = Table::new(["NAME", "STATE", ""]);
        table.row([plain("a"), plain("healthy"), plain("")]);
        assert_eq!(table.render(&out(80)), "NAME  STATE\na     healthy\n");
    }

    #[test]
    fn what_does_not_fit_beside_stands_below() {
        let mut table = Table::new(["NAME", "STATE", "USES", "WHY"]);
        table.row([plain("a"), plain("healthy"), plain("12"), plain("")]);
        table.row([plain("a-name-of-thirty-characters-and"), plain("out"), plain("7"), plain("it refused us")]);
        table.note(Tone::Plain, "mend it".to_owned());
        let wide = "NAME                             STATE    USES  WHY\n\
                    a                                healthy  12\n\
                    a-name-of-thirty-characters-and  out      7     it refused us\n      mend it\n";
        assert_eq!(table.render(&out(80)), wide);
        let narrow = "NAME  STATE    USES  WHY\n\
                      a     healthy  12\n\
                      a-name-of-thirty-characters-and\n      out      7     it refused us\n      mend it\n";
        assert_eq!(table.render(&out(40)), narrow);
    }

    proptest! {
        #[test]
        fn every_table_fits_whatever_its_words(
            rows in prop::collection::vec(("[a-z-]{1,34}", "[a-z]{1,12}", "[0-9]{1,9}", "[a-z日]{0,12}( [a-zé]{1,11}){0,20}"), 1..12),
            width in 44_usize..160,
        ) {
            let mut table = Table::new(["NAME", "STATE", "NUMBER", "WHY"]);
            for (name, state, number, why) in &rows {
                table.row([plain(name), plain(state), plain(number), plain(why)]);
                table.note(Tone::Plain, why.clone());
            }
            let text = table.render(&out(width));
            prop_assert!(text.lines().all(|line| columns(line) <= width), "{text}");
            for (name, state, number, why) in &rows {
                for word in [name, state, number].into_iter().map(String::as_str).chain(why.split_whitespace()) {
                    prop_assert!(text.contains(word), "{word} is lost: {text}");
                }
            }
        }
    }
}
