//! TOML's own mistakes, made readable, and which other findings they make doubtful.
//!
//! Refuses to know keys. Called by `read` before and after the sections are read.

use super::hint;
use crate::config::diagnostic::Found;
use crate::config::source::SourceText;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, Error};

const ODD_QUOTES: &str = "not TOML: a quote is missing on this line, or one is too many";
const NOT_CLOSED: &str = "not TOML: the text is not closed on its line";
const OPEN_HERE: &str = " is open here: close it; the rest of the file was not judged";

/// Most lines that are blanked, one parse each.
const MAX_BLANKED: usize = 20;

/// What became of a text.
pub(super) struct Judged<'a> {
    /// Without the lines that the parser does not get over.
    text: Cow<'a, str>,
    /// The document, where no line had to go.
    whole: Option<Spanned<DeTable<'a>>>,
    /// TOML's mistakes, all of them.
    pub errors: Vec<Error>,
}

impl Judged<'_> {
    /// As much of the document as there is.
    pub fn document(&mut self) -> Spanned<DeTable<'_>> {
        // The errors of what is left are known.
        self.whole.take().unwrap_or_else(|| DeTable::parse_recoverable(&self.text).0)
    }
}

/// All of TOML's mistakes, and what is left of the text.
///
/// toml 1.2 forgets the rest of the document behind a key without a value: such a line is blanked, so that every place
/// stays what it is, and the text is parsed again. To be deleted when the crate recovers by itself.
pub(super) fn judge<'a>(text: &'a str, source: &SourceText<'_>) -> Judged<'a> {
    let (document, mut errors) = DeTable::parse_recoverable(text);
    if stop(&errors).is_none() {
        return Judged { text: Cow::Borrowed(text), whole: Some(document), errors };
    }
    let mut text = text.to_owned();
    let mut kept = Vec::new();
    for _ in 0..MAX_BLANKED {
        let Some((stop, span)) = stop(&errors) else { break };
        let line = source.bytes_of_line(source.line_of(span.start));
        kept.push(stop.clone());
        text.replace_range(line.clone(), &" ".repeat(line.len()));
        (_, errors) = DeTable::parse_recoverable(&text);
    }
    kept.extend(errors);
    Judged { text: Cow::Owned(text), whole: None, errors: kept }
}

/// What the parser does not get over, and where.
fn stop(errors: &[Error]) -> Option<(&Error, Range<usize>)> {
    let stop = errors.iter().find(|error| error.message().starts_with("key with no value"))?;
    Some((stop, stop.span()?))
}

/// At most one mistake for each line: the second is nearly always an echo of the first.
pub(super) fn mistakes(text: &str, source: &SourceText<'_>, errors: &[Error]) -> Vec<Found> {
    let mut found: Vec<Found> = errors.iter().map(|error| mistake(text, source, error)).collect();
    found.sort_by_key(|found| found.span.as_ref().map_or(0, |span| span.start));
    let mut lines = BTreeSet::new();
    found.retain(|found| found.span.as_ref().is_none_or(|span| lines.insert(source.line_of(span.start))));
    if errors.iter().any(|error| error.message().starts_with("unclosed")) {
        // What is not closed swallows the rest of the file: only what comes first is a mistake for certain.
        found.truncate(1);
        if let Some(first) = found.first_mut() {
            let lacks_quote = [ODD_QUOTES, NOT_CLOSED].contains(&first.message.as_str());
            if !lacks_quote {
                first.message = "not TOML: a list or table before this place is not closed".to_owned();
            }
            let what = if lacks_quote { "a quote" } else { "a bracket" };
            first.help = Some(format!("{what}{OPEN_HERE}"));
        }
    }
    found
}

fn mistake(text: &str, source: &SourceText<'_>, error: &Error) -> Found {
    let span = error.span().unwrap_or(0..0);
    let span = at_text(text, span);
    if error.message() == "duplicate key" {
        return duplicate(source, span);
    }
    let (message, help) = match error.message() {
        // The parser takes `no` for the beginning of `nan`, and `True` for that of `true`.
        m if m.contains("string values must be quoted")
            || m.starts_with("invalid float")
            || m.starts_with("invalid boolean") =>
        {
            let line = source.bytes_of_line(source.line_of(span.start));
            let before = &text[line.start..span.start];
            let key =
                before.rsplit_once('=').map_or("", |(key, _)| key.rsplit(['{', ',']).next().unwrap_or(key).trim());
            let word = text[span.start..line.end].split([',', '}', ']', '#', ' ', '\t']).next().unwrap_or_default();
            if !word.starts_with(|c: char| c.is_ascii_alphabetic()) && !m.contains("must be quoted") {
                (m.to_owned(), None)
            } else {
                let help = hint::bare_word(key, word);
                return Found::error("syntax", "not TOML: a text stands in quotes", span).help(help);
            }
        }
        m if m.starts_with("invalid basic string") || m.starts_with("invalid literal string") => {
            return Found::error("syntax", NOT_CLOSED.to_owned(), span).help("add the closing quote");
        }
        m if m.starts_with("key with no value") => ("a key without a value".to_owned(), Some("write key = value")),
        m if m.contains("cannot extend value of type string")
            && source.line(source.line_of(span.start)).contains("[clients.") =>
        {
            ("`clients` is a path already".to_owned(), Some("a client is written as `[client.NAME]`"))
        }
        m if m.starts_with("unclosed") => (m.split(',').next().unwrap_or(m).to_owned(), None),
        m => (m.to_owned(), None),
    };
    if help.is_none() && has_odd_quotes(source.line(source.line_of(span.start))) {
        return Found::error("syntax", ODD_QUOTES.to_owned(), span).help("each text stands between two quotes: \"…\"");
    }
    let found = Found::error("syntax", format!("not TOML: {message}"), span);
    match help {
        Some(help) => found.help(help),
        None => found,
    }
}

/// Whether one quote of a line has no other.
fn has_odd_quotes(line: &str) -> bool {
    let is_odd = |text: &str| text.matches('"').count() % 2 == 1;
    // A remark may have any.
    let code = line.match_indices('#').map(|(at, _)| &line[..at]).find(|code| !is_odd(code)).unwrap_or(line);
    !code.contains("\\\"") && is_odd(code)
}

/// A place at the end of a line or of the file moves to the last thing before it, which is what can be seen.
fn at_text(text: &str, span: Range<usize>) -> Range<usize> {
    let start = span.start.min(text.len());
    let blank = text[start..].chars().next().is_none_or(|c| c == '\n' || c == '\r');
    if span.is_empty() && blank {
        let before = text[..start].trim_end().char_indices().next_back();
        return before.map_or(start..start, |(at, c)| at..at + c.len_utf8());
    }
    start..span.end.clamp(start, text.len())
}

fn duplicate(source: &SourceText<'_>, span: Range<usize>) -> Found {
    let index = source.line_of(span.start);
    let line = source.line(index).trim();
    let first = if line.starts_with('[') {
        (0..index).find(|above| source.line(*above).trim() == line)
    } else {
        let key = line.split('=').next().unwrap_or(line).trim();
        (0..index)
            .rev()
            .take_while(|above| !source.line(*above).trim_start().starts_with('['))
            .filter(|above| source.line(*above).split('=').next().is_some_and(|name| name.trim() == key))
            .last()
    };
    let found = Found::error(
        "duplicate-key",
        if line.starts_with('[') {
            "the section stands in the file twice"
        } else {
            "the key stands in its section twice"
        },
        span,
    )
    .help("join the two, or remove one");
    match first {
        Some(first) => found.label(format!("the first is on line {}", first + 1)),
        None => found,
    }
}

/// Drops what follows from a syntax error rather than from the operator: findings on the same line, findings about
/// something that is not there, and everything behind an open bracket.
pub(super) fn drop_consequences(syntax: &[Found], found: &mut Vec<Found>, source: &SourceText<'_>) {
    let line = |found: &Found| found.span.as_ref().map(|span| source.line_of(span.start));
    let broken: BTreeSet<usize> = syntax.iter().filter(|found| found.code == "syntax").filter_map(line).collect();
    let open = syntax.iter().find(|found| found.help.as_deref().is_some_and(|help| help.ends_with(OPEN_HERE)));
    let open = open.and_then(line);
    // A list that lost its key reads like a section, and its name would be the secret that it holds.
    let after_broken = |line: usize| {
        let above = (0..line).rev().find(|above| !source.line(*above).trim().is_empty());
        above.is_some_and(|above| broken.contains(&above))
    };
    found.retain(|found| {
        if found.code == "unknown-key" && line(found).is_some_and(after_broken) {
            return false;
        }
        (!found.absence || broken.is_empty())
            && line(found).is_none_or(|line| !broken.contains(&line) && open.is_none_or(|open| line < open))
    });
}
