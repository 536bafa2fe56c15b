//! Invisible marks in the rendered text, and how they are read back: the provenance of each line.
//!
//! A mark is one character of Unicode's private-use areas. Quoting leaves it alone and HAProxy never sees it. A value
//! that the operator wrote begins with a mark from the supplementary planes, a line of a template ends with a mark
//! from the basic one. So provenance survives whatever an operator's own template does with a value, short of cutting
//! it up. Refuses to know HAProxy. Called by the context, by the templates, and at the end.

use super::{LineOrigin, RenderError};
use crate::model::{Origin, Sourced};
use std::fmt::Display;
use std::sync::Arc;
use tera::Value;

/// First mark of a line of a template; 6,400 of them.
const LINE_FIRST: u32 = 0xE000;
const LINE_LAST: u32 = 0xF8FF;
/// First mark of a value. Where they run out (131,000 places), values stay unmarked, and their lines inherit.
const VALUE_FIRST: u32 = 0xF_0000;
const VALUE_LAST: u32 = 0x10_FFFF;

/// Whether the character is one of those that marks are made of.
pub(super) fn is_mark(c: char) -> bool {
    is_line_mark(c) || is_value_mark(c)
}

fn is_line_mark(c: char) -> bool {
    (LINE_FIRST..=LINE_LAST).contains(&u32::from(c))
}

fn is_value_mark(c: char) -> bool {
    u32::from(c) >= VALUE_FIRST
}

/// What no word of a HAProxy file can carry, in words; `None` where the text is fine.
pub(super) fn defect(text: &str) -> Option<&'static str> {
    text.chars().find_map(|c| match c {
        '\n' | '\r' => Some("a line break cannot be written into a HAProxy file"),
        '\0' => Some("a NUL character cannot be written into a HAProxy file"),
        c if is_mark(c) => Some("a private-use character has no place in a HAProxy file"),
        _ => None,
    })
}

/// The places that value marks stand for. Made anew for each rendering.
#[derive(Debug, Default)]
pub(super) struct Marks {
    origins: Vec<Origin>,
    refused: Option<RenderError>,
    is_silent: bool,
}

impl Marks {
    /// Values stay unmarked.
    pub fn silent() -> Self {
        Self { is_silent: true, ..Self::default() }
    }

    /// A text with the mark of its place. A text that no HAProxy file can carry is remembered as refused.
    pub fn text(&mut self, text: impl Display, origin: Option<Origin>) -> Value {
        let text = text.to_string();
        if let Some(message) = defect(&text) {
            self.refused.get_or_insert(RenderError::Value { origin, message: message.to_owned() });
        }
        match origin.and_then(|origin| self.mark(origin)) {
            Some(mark) => {
                let mut marked = String::with_capacity(text.len() + 4);
                marked.push(mark);
                marked.push_str(&text);
                Value::from(marked)
            }
            None => Value::from(text),
        }
    }

    /// The same for a value that knows its place.
    pub fn sourced<T: Display>(&mut self, value: &Sourced<T>) -> Value {
        self.text(&value.value, value.origin)
    }

    /// The same for lines; blanks around them have no meaning.
    pub fn lines(&mut self, lines: &[Sourced<String>]) -> Value {
        Value::from(lines.iter().map(|line| self.text(line.value.trim(), line.origin)).collect::<Vec<_>>())
    }

    /// The first refusal, if there was one.
    pub fn verdict(&mut self) -> Result<(), RenderError> {
        self.refused.take().map_or(Ok(()), Err)
    }

    /// The place that the first mark in the text stands for.
    pub fn origin_in(&self, text: &str) -> Option<Origin> {
        text.chars().filter(|c| is_value_mark(*c)).find_map(|c| self.origin(c))
    }

    fn mark(&mut self, origin: Origin) -> Option<char> {
        if self.is_silent {
            return None;
        }
        // Values of one place tend to follow each other.
        if self.origins.last() != Some(&origin) {
            self.origins.push(origin);
        }
        let offset = u32::try_from(self.origins.len() - 1).ok()?;
        char::from_u32(VALUE_FIRST.checked_add(offset)?).filter(|c| u32::from(*c) <= VALUE_LAST)
    }

    fn origin(&self, mark: char) -> Option<Origin> {
        let index = usize::try_from(u32::from(mark).checked_sub(VALUE_FIRST)?).ok()?;
        self.origins.get(index).copied()
    }
}

/// The places that line marks stand for: file and line of the templates. Made once.
#[derive(Clone, Debug, Default)]
pub(super) struct LineMarks {
    places: Vec<(Arc<str>, u32)>,
}

impl LineMarks {
    /// The mark of a template's line; `None` where they run out.
    pub fn mark(&mut self, file: &str, line: u32) -> Option<char> {
        let offset = u32::try_from(self.places.len()).ok()?;
        let mark = char::from_u32(LINE_FIRST + offset).filter(|c| u32::from(*c) <= LINE_LAST)?;
        let file = match self.places.last() {
            Some((last, _)) if **last == *file => last.clone(),
            _ => file.into(),
        };
        self.places.push((file, line));
        Some(mark)
    }

    fn place(&self, mark: char) -> Option<(Arc<str>, u32)> {
        let index = usize::try_from(u32::from(mark).checked_sub(LINE_FIRST)?).ok()?;
        self.places.get(index).cloned()
    }
}

/// Takes the marks out of a rendered text, tidies it, and says where each remaining line comes from.
///
/// Tidying: blanks at a line's end go; a line on which only tags of the template stood goes; of several empty lines
/// one stays, none at the beginning.
pub(super) fn read_back(marked: &str, values: &Marks, lines: &LineMarks) -> (String, Vec<LineOrigin>) {
    let mut text = String::with_capacity(marked.len());
    let mut origins: Vec<LineOrigin> = Vec::new();
    // The nearest value above within the section.
    let mut above: Option<Origin> = None;
    let mut has_gap = true;
    for marked_line in marked.split('\n') {
        let start = text.len();
        let mut origin = LineOrigin::default();
        let mut was_tagged = false;
        for c in marked_line.chars() {
            if is_line_mark(c) {
                was_tagged = true;
                if origin.template.is_none() {
                    origin.template = lines.place(c);
                }
            } else if is_value_mark(c) {
                if let Some(place) = values.origin(c).filter(|place| !origin.toml.contains(place)) {
                    origin.toml.push(place);
                }
            } else {
                text.push(c);
            }
        }
        text.truncate(start + text[start..].trim_end().len());
        if text.len() == start {
            if was_tagged || has_gap {
                continue;
            }
            has_gap = true;
            above = None;
        } else {
            has_gap = false;
            if !text[start..].starts_with([' ', '\t']) {
                above = None;
            }
            match origin.toml.last() {
                Some(last) => above = Some(*last),
                None => origin.toml.extend(above),
            }
        }
        text.push('\n');
        origins.push(origin);
    }
    while text.ends_with("\n\n") {
        text.pop();
        origins.pop();
    }
    (text, origins)
}

/// The text without any mark.
pub(super) fn without_marks(text: &str) -> String {
    text.chars().filter(|c| !is_mark(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::{LineMarks, Marks, defect, read_back};
    use crate::model::Origin;

    const A: Origin = Origin { line: 3, column: 1 };
    const B: Origin = Origin { line: 7, column: 5 };

    fn text(marks: &mut Marks, text: &str, origin: Origin) -> String {
        marks.text(text, Some(origin)).as_str().unwrap().to_owned()
    }

    #[test]
    fn lines_know_their_values_and_inherit_within_their_section_only() {
        let mut marks = Marks::default();
        let mut lines = LineMarks::default();
        let (a, b) = (text(&mut marks, "alpha", A), text(&mut marks, "beta", B));
        let m = lines.mark("haproxy.cfg", 12).unwrap();
        let marked = format!("backend x{m}\n  one {a} {b} {a}{m}\n  two  {m}\n\n\n   {m}\nbackend y\n  three\n\n");
        let (plain, origins) = read_back(&marked, &marks, &lines);
        assert_eq!(plain, "backend x\n  one alpha beta alpha\n  two\n\nbackend y\n  three\n");
        let toml: Vec<_> = origins.iter().map(|origin| origin.toml.clone()).collect();
        assert_eq!(toml, [vec![], vec![A, B], vec![B], vec![], vec![], vec![]]);
        assert_eq!(origins[1].template, Some(("haproxy.cfg".into(), 12)));
        assert_eq!(origins[5].template, None);
        assert_eq!(plain.lines().count(), origins.len());
    }

    #[test]
    fn a_value_that_no_file_can_carry_is_refused_at_its_place() {
        for bad in ["a\nb", "a\rb", "a\0b", "\u{E000}", "\u{F0001}"] {
            let mut marks = Marks::default();
            marks.text(bad, Some(A));
            let super::RenderError::Value { origin, .. } = marks.verdict().unwrap_err() else { panic!("{bad:?}") };
            assert_eq!(origin, Some(A));
        }
        assert_eq!(defect("tab\tand ü"), None);
    }
}
