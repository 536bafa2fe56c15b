//! Puts a mark at the end of each line of a template, so that the rendered lines know where they were written.
//!
//! Knows just enough of Tera's syntax to stay out of its tags. Called by `templates`.

use super::marks::LineMarks;

/// What the scanner stands in.
#[derive(Clone, Copy, PartialEq)]
enum ScanState {
    Text,
    /// `{{ … }}`, `{% … %}`, `{# … #}`: the characters that end it, and whether quotes count in it.
    Inside {
        end: &'static str,
        has_strings: bool,
    },
    /// In a string within a tag.
    Quoted {
        quote: char,
        end: &'static str,
    },
}

/// The same template with marks.
///
/// A line gets one where it ends in text and has something on it, unless its end trims the blanks that follow
/// (`-%}`): the mark would keep them. A template that extends another one has text in its blocks only.
pub(super) fn with_line_marks(file: &str, source: &str, marks: &mut LineMarks) -> String {
    let mut marked = String::with_capacity(source.len() + source.len() / 8);
    let mut place = ScanState::Text;
    let mut rest = source;
    let mut line = 1;
    let mut line_start = 0;
    let mut is_child = false;
    let mut blocks = 0_usize;
    while let Some(c) = rest.chars().next() {
        if c == '\n' {
            let so_far = &marked[line_start..];
            let trims = ["-%}", "-}}", "-#}"].iter().any(|end| so_far.ends_with(end));
            let is_printed = !is_child || blocks > 0;
            if place == ScanState::Text && is_printed && !so_far.trim().is_empty() && !trims {
                marked.extend(marks.mark(file, line));
            }
            line += 1;
            marked.push('\n');
            line_start = marked.len();
            rest = &rest[1..];
            continue;
        }
        let mut taken = c.len_utf8();
        place = match place {
            ScanState::Text => match rest.get(..2) {
                Some("{{") => {
                    taken = 2;
                    ScanState::Inside { end: "}}", has_strings: true }
                }
                Some("{#") => {
                    taken = 2;
                    ScanState::Inside { end: "#}", has_strings: false }
                }
                Some("{%") => match raw_block(rest) {
                    // Its content is text, whatever it looks like.
                    Some(length) => {
                        for (i, part) in rest[..length].split('\n').enumerate() {
                            if i > 0 {
                                line += 1;
                                marked.push('\n');
                                line_start = marked.len();
                            }
                            marked.push_str(part);
                        }
                        rest = &rest[length..];
                        continue;
                    }
                    None => {
                        taken = 2;
                        match tag_name(rest) {
                            "extends" => is_child = true,
                            "block" | "component" => blocks += 1,
                            "endblock" | "endcomponent" => blocks = blocks.saturating_sub(1),
                            _ => {}
                        }
                        ScanState::Inside { end: "%}", has_strings: true }
                    }
                },
                _ => ScanState::Text,
            },
            ScanState::Inside { end, .. } if rest.starts_with(end) => {
                taken = end.len();
                ScanState::Text
            }
            ScanState::Inside { end, has_strings: true } if matches!(c, '"' | '\'' | '`') => {
                ScanState::Quoted { quote: c, end }
            }
            ScanState::Quoted { .. } if c == '\\' => {
                taken += rest[1..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
                place
            }
            ScanState::Quoted { quote, end } if c == quote => ScanState::Inside { end, has_strings: true },
            inside => inside,
        };
        marked.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    marked
}

/// The first word of a tag that begins here.
fn tag_name(rest: &str) -> &str {
    let inner = rest.trim_start_matches("{%").trim_start_matches('-').trim_start();
    inner.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default()
}

/// Length of a `{% raw %}…{% endraw %}` block that begins here.
fn raw_block(rest: &str) -> Option<usize> {
    let tag = |text: &str, name: &str| -> Option<usize> {
        let inner = text.strip_prefix("{%")?;
        let inner = inner.strip_prefix('-').unwrap_or(inner).trim_start().strip_prefix(name)?.trim_start();
        let inner = inner.strip_prefix('-').unwrap_or(inner).strip_prefix("%}")?;
        Some(text.len() - inner.len())
    };
    let opening = tag(rest, "raw")?;
    let mut from = opening;
    while let Some(at) = rest[from..].find("{%") {
        if let Some(length) = tag(&rest[from + at..], "endraw") {
            return Some(from + at + length);
        }
        from += at + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::with_line_marks;
    use crate::render::marks::{LineMarks, is_mark};

    /// Shows marks as `¶`.
    fn marked(source: &str) -> String {
        let mut marks = LineMarks::default();
        with_line_marks("t", source, &mut marks).replace(is_mark, "¶")
    }

    #[test]
    fn lines_of_text_are_marked_and_tags_are_left_alone() {
        for (source, expected) in [
            ("a\n\n  \nb {{ x }}\n", "a¶\n\n  \nb {{ x }}¶\n"),
            ("{% if x -%}\n  y\n{%- endif %}\n", "{% if x -%}\n  y¶\n{%- endif %}¶\n"),
            ("a {{ x\n | f }} b\n", "a {{ x\n | f }} b¶\n"),
            ("{# one\ntwo #}\nz\n", "{# one\ntwo #}¶\nz¶\n"),
            ("{{ \"}}\" }}\n", "{{ \"}}\" }}¶\n"),
            ("{{ '\\'}}\n' }}\n", "{{ '\\'}}\n' }}¶\n"),
            ("{% raw %}\n{{ \n{% endraw %}\nx\n", "{% raw %}\n{{ \n{% endraw %}¶\nx¶\n"),
            ("{# it's #}\nx\n", "{# it's #}¶\nx¶\n"),
            (
                "{% extends \"a\" %}\n{% block b %}\nx\n{% endblock %}\n",
                "{% extends \"a\" %}\n{% block b %}¶\nx¶\n{% endblock %}\n",
            ),
            ("no newline", "no newline"),
            ("ü { % }\n", "ü { % }¶\n"),
            ("{{", "{{"),
        ] {
            assert_eq!(marked(source), expected, "{source:?}");
        }
    }
}
