//! The operator's file as text: places in it, and lines that are fit to be shown.
//!
//! Refuses to know TOML beyond where a token ends. Called by `read` and `lint` when they make a diagnostic.

use super::mask::{is_header, mask_broken_line, mask_line};
use crate::model::Origin;
use std::ops::Range;

/// Longest line that is shown, in bytes; of a longer one only the place is told. (The renderer cuts to the width of a
/// terminal, but a hundred copies of a line of megabytes are kept until then.)
const SHOWN_BYTES: usize = 4096;

/// The text with an index of its lines.
pub(super) struct SourceText<'a> {
    text: &'a str,
    /// Whether quotes and brackets cannot be trusted, because the file has syntax errors.
    broken: bool,
    /// Byte offset of each line's first character.
    starts: Vec<usize>,
}

/// One masked line with the place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// The line without its end, secrets replaced by `*`.
    pub(super) line: String,
    /// Bytes of `line` that the caret stands under, never empty unless the line is.
    pub(super) span: Range<usize>,
}

impl<'a> SourceText<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, broken: false, starts }
    }

    /// The same text, whose quotes and brackets cannot be trusted.
    pub(super) fn broken(self, broken: bool) -> Self {
        Self { broken, ..self }
    }

    /// Whether the file has syntax errors.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Index of the line that holds this byte, from 0.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// A line without its end.
    pub(super) fn line(&self, index: usize) -> &'a str {
        let start = self.starts.get(index).copied().unwrap_or(self.text.len());
        let end = self.starts.get(index + 1).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }

    /// The bytes of a line without its end.
    pub(super) fn bytes_of_line(&self, index: usize) -> Range<usize> {
        let start = self.starts.get(index).copied().unwrap_or(self.text.len());
        start..start + self.line(index).len()
    }

    /// Line and column of a byte; a byte inside a character counts as that character.
    pub(super) fn origin(&self, at: usize) -> Origin {
        let index = self.line_of(at);
        let start = self.starts[index];
        let before = self.text[start..].char_indices().take_while(|(offset, _)| start + offset < at).count();
        let inside = !self.text.is_char_boundary(at.min(self.text.len()));
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Origin { line: number(index + 1), column: number(before + 1 - usize::from(inside && before > 0)) }
    }

    /// The bytes of the token that begins at an origin of this text.
    pub(super) fn token(&self, origin: Origin) -> Range<usize> {
        let index = (origin.line as usize).saturating_sub(1);
        let line = self.line(index);
        let start = self.starts.get(index).copied().unwrap_or(self.text.len());
        let column = (origin.column as usize).saturating_sub(1);
        let offset = line.char_indices().nth(column).map_or(line.len(), |(offset, _)| offset);
        let rest = &line[offset..];
        let length = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
            Some(_) => rest.find([' ', '\t', ',', ']', '}', '=', '.']).unwrap_or(rest.len()).max(1),
            None => 0,
        };
        start + offset..start + offset + length
    }

    /// The whole text with every line masked, as [`Self::excerpt`] does.
    pub(super) fn masked(&self, secrets: &[Range<usize>]) -> String {
        let mut shown = String::with_capacity(self.text.len());
        for (index, start) in self.starts.iter().enumerate() {
            let end = self.starts.get(index + 1).copied().unwrap_or(self.text.len());
            if *start < end {
                let line = self.excerpt(&(*start..*start), secrets);
                shown += line.as_ref().map_or("… (too long to be shown)", |line| &line.line);
                shown += &self.text[start + self.line(index).len()..end];
            }
        }
        shown
    }

    /// The line of a place, unless it is too long; masked: what lies in one of `secrets`, and whatever else looks like a secret.
    pub(super) fn excerpt(&self, span: &Range<usize>, secrets: &[Range<usize>]) -> Option<Excerpt> {
        let index = self.line_of(span.start.min(self.text.len()));
        let start = self.starts[index];
        let line = self.line(index);
        if line.len() > SHOWN_BYTES {
            return None;
        }
        let hidden: Vec<Range<usize>> = secrets
            .iter()
            .filter(|secret| secret.start < start + line.len() && secret.end > start)
            .map(|secret| secret.start.saturating_sub(start)..(secret.end - start).min(line.len()))
            .collect();
        let masked = match self.broken {
            false => mask_line(line, self.key_above(index), &hidden),
            true => mask_broken_line(line, self.word_above(index), &hidden),
        };
        // Masking keeps the number of characters, not of bytes: count characters over.
        let place = |at: usize| {
            let characters = line.char_indices().take_while(|(offset, _)| start + offset < at).count();
            masked.char_indices().nth(characters).map_or(masked.len(), |(offset, _)| offset)
        };
        let from = place(span.start);
        let to = place(span.end).max(masked[from..].chars().next().map_or(from, |c| from + c.len_utf8()));
        Some(Excerpt { line: masked, span: from..to })
    }

    /// The word that a line of a broken file may continue, if it does not begin with one itself.
    fn word_above(&self, index: usize) -> Option<&'a str> {
        let begins = |line: &str| line.trim_start().starts_with(|c: char| c.is_ascii_alphabetic());
        if begins(self.line(index)) || is_header(self.line(index)) {
            return None;
        }
        let above = (0..index).rev().map(|above| self.line(above)).find(|line| begins(line) || is_header(line))?;
        above.trim_start().split(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))).next()
    }

    /// The key whose list or text a line without a key continues: the last `key =` above it, unless all its brackets
    /// are closed again.
    fn key_above(&self, index: usize) -> Option<&'a str> {
        // A list of more lines than this has no key worth guessing.
        const LOOK_BACK: usize = 200;
        let mut open: isize = 0;
        for above in (index.saturating_sub(LOOK_BACK)..index).rev() {
            let line = self.line(above);
            let count = |brackets: [char; 2]| line.matches(brackets).count().cast_signed();
            open += count(['[', '{']) - count([']', '}']);
            if let Some((key, value)) = line.split_once('=') {
                let key = key.trim();
                let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.\"'".contains(c));
                if is_key {
                    let text_is_open = value.matches(['"', '\'']).count() % 2 == 1;
                    return (open > 0 || text_is_open).then_some(key);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let source = SourceText::new("a = 1\nß = \"é\" x\n");
        assert_eq!(source.origin(0), Origin { line: 1, column: 1 });
        assert_eq!(source.origin(6), Origin { line: 2, column: 1 });
        assert_eq!(source.origin(source.text.find('x').unwrap()), Origin { line: 2, column: 9 });
        assert_eq!(source.origin(source.text.len()), Origin { line: 3, column: 1 });
    }

    #[test]
    fn a_token_is_found_again_by_its_origin() {
        let source = SourceText::new("[backend.chat]\nurl = \"http://x\" # c\n");
        assert_eq!(&source.text[source.token(Origin { line: 1, column: 10 })], "chat");
        assert_eq!(&source.text[source.token(Origin { line: 2, column: 7 })], "\"http://x\"");
        assert_eq!(source.token(Origin { line: 99, column: 1 }), source.text.len()..source.text.len());
    }

    #[test]
    fn a_line_of_megabytes_is_not_kept() {
        let text = format!("a = \"{}\"", "é".repeat(5000));
        assert_eq!(SourceText::new(&text).excerpt(&(0..1), &[]), None);
    }
}
