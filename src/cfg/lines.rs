//! The lines of a configuration, each with the section that it stands in.

use super::section::{Kind, Section};
use super::words::{Words, words};
use std::borrow::Cow;
use std::str::SplitInclusive;

/// One line; also one without words.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// The section that it stands in; a section's first line stands in its own.
    pub section: Section<'a>,
    /// It opens its section.
    pub is_header: bool,
    /// It stands between `.if` and `.endif`: only HAProxy knows whether it counts.
    pub is_conditional: bool,
    /// Its first word; empty where it has none, or only HAProxy can tell it.
    pub keyword: Cow<'a, str>,
    /// What stands behind the first word.
    pub rest: &'a str,
    /// Which line of the text it is, from 0.
    pub index: usize,
    /// Where it begins in the text, in bytes.
    pub start: usize,
    /// All of it, without its end.
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// The words behind the first one.
    pub fn arguments(&self) -> Words<'a> {
        words(self.rest)
    }

    /// All its words.
    pub fn words(&self) -> Words<'a> {
        words(self.text)
    }
}

/// All lines of a configuration, in their order.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    texts: SplitInclusive<'a, char>,
    section: Section<'a>,
    /// How many `.if` are open.
    conditions: usize,
    index: usize,
    start: usize,
}

/// Reads a configuration.
pub fn lines(text: &str) -> Lines<'_> {
    Lines { texts: text.split_inclusive('\n'), section: Section::default(), conditions: 0, index: 0, start: 0 }
}

/// Whether a line, read by itself, opens a section.
pub fn is_header(line: &str) -> bool {
    Kind::opened_by(&first_word(line).0).is_some()
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let text = self.texts.next()?;
        let length = text.len();
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let (keyword, rest) = first_word(text);
        let kind = Kind::opened_by(&keyword);
        match (&*keyword, kind) {
            (_, Some(kind)) => self.section = Section::opened(kind, rest),
            (".if", None) => self.conditions += 1,
            (".endif", None) => self.conditions = self.conditions.saturating_sub(1),
            _ => {}
        }
        let (index, start) = (self.index, self.start);
        self.index += 1;
        self.start += length;
        Some(Line {
            section: self.section.clone(),
            is_header: kind.is_some(),
            is_conditional: self.conditions > 0,
            keyword,
            rest,
            index,
            start,
            text,
        })
    }
}

/// A line's keyword, and what stands behind it.
fn first_word(line: &str) -> (Cow<'_, str>, &str) {
    let mut words = words(line);
    match words.next() {
        // A mark of HAProxy's own tests, no line of the configuration.
        Some(word) if word.spelt.starts_with('[') => (Cow::Borrowed(""), ""),
        Some(word) => (word.said.unwrap_or_default(), words.rest()),
        None => (Cow::Borrowed(""), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_header, lines};
    use crate::cfg::Kind;

    /// Each line as `kind name: keyword`.
    fn read(text: &str) -> Vec<String> {
        let line = |line: super::Line<'_>| format!("{:?} {}: {}", line.section.kind, line.section.name, line.keyword);
        lines(text).map(line).collect()
    }

    #[test]
    fn a_section_is_known_by_its_first_word_whatever_the_indent() {
        let text = "# above\nglobal\nmaxconn 5\n\t\"defaults\" base # x\n[scope]\n  \\x62ackend\ta#b\nserver s x\n\n peers p\n server s\n";
        assert_eq!(
            read(text),
            [
                "Outside : ",
                "Global : global",
                "Global : maxconn",
                "Defaults base: defaults",
                "Defaults base: ",
                "Backend a: backend",
                "Backend a: server",
                "Backend a: ",
                "Other(\"peers\") p: peers",
                "Other(\"peers\") p: server",
            ]
        );
    }

    #[test]
    fn no_line_goes_on_in_the_next_one() {
        assert_eq!(
            read("backend a\r\n server s\\\r\n backend b\\\n mode http\r mode tcp"),
            ["Backend a: backend", "Backend a: server", "Backend b\\: backend", "Backend b\\: mode"]
        );
    }

    #[test]
    fn each_line_says_where_it_is() {
        let text = "global\r\n\n   maxconn 5 # five\nbackend a";
        for line in lines(text) {
            assert!(text[line.start..].starts_with(line.text), "{line:?}");
            assert_eq!(text[..line.start].matches('\n').count(), line.index);
            assert_eq!(line.is_header, is_header(line.text));
        }
        let places: Vec<_> = lines(text).map(|line| (line.index, line.start, line.text)).collect();
        assert_eq!(places, [(0, 0, "global"), (1, 8, ""), (2, 9, "   maxconn 5 # five"), (3, 29, "backend a")]);
        let third = lines(text).nth(2).unwrap();
        assert_eq!((third.rest, third.arguments().count(), third.words().count()), (" 5 # five", 1, 2));
    }

    #[test]
    fn what_a_condition_decides_is_marked() {
        let text = "backend a\n.if A\n  .if B\n server s x\n  .endif\n.else\n server s y\n\".endif\"\n server t x\n.endif\n.if A\nlisten b\n";
        let marked: Vec<_> = lines(text).filter(|line| line.is_conditional).map(|line| line.index).collect();
        assert_eq!(marked, [1, 2, 3, 4, 5, 6, 10, 11]);
        assert_eq!(lines(text).last().unwrap().section.kind, Kind::Listen);
    }
}
