//! Why a reload is needed, in the words of the configuration.

use crate::cfg;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};
use std::borrow::Cow;
use std::fmt;

/// So many reasons are spelt out; the rest is counted.
pub(super) const MAX_REASONS: usize = 20;

/// One difference that the running worker cannot take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReloadReason {
    /// The section's first line (`backend chat`), empty for a reason of the whole.
    pub section: String,
    /// The line before; empty where it is new.
    pub before: String,
    /// The line after, or the reason itself where there is no section; empty where the line is gone.
    pub after: String,
}

impl ReloadReason {
    /// A reason that no single line stands for.
    pub fn whole(text: impl Into<String>) -> Self {
        Self { section: String::new(), before: String::new(), after: text.into() }
    }
}

impl ReloadReason {
    /// A section that is new, or gone.
    fn is_whole_section(&self) -> bool {
        let Self { section, before, after } = self;
        !section.is_empty() && ((before.is_empty() && section == after) || (after.is_empty() && section == before))
    }
}

impl fmt::Display for ReloadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { section, before, after } = self;
        match (section.is_empty(), before.is_empty(), after.is_empty()) {
            (true, _, _) => f.write_str(after),
            (false, true, _) if section == after => write!(f, "new `{after}`"),
            (false, _, true) if section == before => write!(f, "`{before}` is gone"),
            (false, true, _) => write!(f, "{section}: new line `{}`", shown(after)),
            (false, false, true) => write!(f, "{section}: line `{}` is gone", shown(before)),
            (false, false, false) if is_long(before) || is_long(after) => {
                write!(f, "{section}: `{} …` changes", before.split_whitespace().next().unwrap_or_default())
            }
            (false, false, false) => write!(f, "{section}: `{before}` becomes `{after}`"),
        }
    }
}

/// Longer lines of haproxy.cfg, in bytes, tell a reader nothing; `diff` shows them whole.
const MOST_SHOWN: usize = 160;

fn is_long(line: &str) -> bool {
    line.len() > MOST_SHOWN
}

/// The line, or its beginning.
fn shown(line: &str) -> Cow<'_, str> {
    if is_long(line) {
        Cow::Owned(format!("{}…", &line[..line.floor_char_boundary(MOST_SHOWN / 2)]))
    } else {
        Cow::Borrowed(line)
    }
}

/// Compares two masked texts line by line.
///
/// Comments and the revision marker are no reasons of their own, except where nothing else differs (a renewed
/// certificate shows only in its comment).
pub fn reload_reasons(loaded: &str, wanted: &str) -> Vec<ReloadReason> {
    let all = line_reasons(loaded, wanted);
    let lines = |keep_comments: bool| {
        all.iter().filter(move |reason| keep_comments || !(is_comment(&reason.before) && is_comment(&reason.after)))
    };
    let chosen: Vec<_> = if lines(false).next().is_some() { lines(false).cloned().collect() } else { all.clone() };
    let chosen = whole_sections_first(chosen);
    let more = chosen.len().saturating_sub(MAX_REASONS);
    let mut reasons: Vec<_> = chosen.into_iter().take(MAX_REASONS).collect();
    if more > 0 {
        reasons.push(ReloadReason::whole(format!("and {more} more lines")));
    }
    if reasons.is_empty() {
        reasons.push(ReloadReason::whole("the order of lines changed"));
    }
    reasons
}

/// A section that comes or goes is one reason, and says more than its lines and those that follow from it elsewhere.
fn whole_sections_first(reasons: Vec<ReloadReason>) -> Vec<ReloadReason> {
    let (mut whole, mut others): (Vec<_>, Vec<_>) = reasons.into_iter().partition(ReloadReason::is_whole_section);
    others.retain(|line| {
        let is_part = |section: &ReloadReason| {
            section.section == line.section && section.before.is_empty() == line.before.is_empty()
        };
        let is_one_sided = line.before.is_empty() != line.after.is_empty();
        !(is_one_sided && whole.iter().any(is_part))
    });
    whole.extend(others);
    whole
}

fn is_comment(line: &str) -> bool {
    line.is_empty() || line.starts_with('#') || line.starts_with("description ")
}

fn line_reasons(loaded: &str, wanted: &str) -> Vec<ReloadReason> {
    let diff = TextDiff::from_lines(loaded, wanted);
    let mut reasons = Vec::new();
    let (mut old_section, mut new_section) = (String::new(), String::new());
    for op in diff.ops() {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for change in diff.iter_changes(op) {
            let line = change.value().trim_end();
            let section = cfg::is_header(line).then(|| line.trim_start().to_owned());
            if change.tag() != ChangeTag::Insert
                && let Some(section) = &section
            {
                old_section.clone_from(section);
            }
            if change.tag() != ChangeTag::Delete
                && let Some(section) = &section
            {
                new_section.clone_from(section);
            }
            match change.tag() {
                ChangeTag::Equal => {}
                ChangeTag::Delete if line.trim().is_empty() => {}
                ChangeTag::Insert if line.trim().is_empty() => {}
                ChangeTag::Delete => before.push((old_section.clone(), line.trim().to_owned())),
                ChangeTag::Insert => after.push((new_section.clone(), line.trim().to_owned())),
            }
        }
        reasons.extend(pair_up(before, after));
    }
    reasons
}

/// Lines of one replaced block belong together where they begin with the same two words, or at least with the same one.
fn pair_up(before: Vec<(String, String)>, mut after: Vec<(String, String)>) -> Vec<ReloadReason> {
    let mut reasons: Vec<_> =
        before.into_iter().map(|(section, before)| ReloadReason { section, before, after: String::new() }).collect();
    for words in [2, 1] {
        for reason in reasons.iter_mut().filter(|reason| reason.after.is_empty()) {
            let head = |line: &str| line.split_whitespace().take(words).map(str::to_owned).collect::<Vec<_>>();
            let twin =
                after.iter().position(|(section, new)| *section == reason.section && head(new) == head(&reason.before));
            reason.after = twin.map(|at| after.remove(at).1).unwrap_or_default();
        }
    }
    let fresh = after.into_iter().map(|(section, line)| ReloadReason { section, before: String::new(), after: line });
    reasons.extend(fresh);
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(loaded: &str, wanted: &str, expected: &[&str]) {
        let reasons: Vec<_> = reload_reasons(loaded, wanted).iter().map(ToString::to_string).collect();
        assert_eq!(reasons, expected);
    }

    #[test]
    fn a_changed_line_is_shown_before_and_after_with_its_section() {
        check(
            "backend chat\n  timeout server 60s\n  retries 2\nbackend other\n  retries 2\n",
            "backend chat\n  timeout server 30s\n  retries 2\nbackend other\n  retries 2\n",
            &["backend chat: `timeout server 60s` becomes `timeout server 30s`"],
        );
    }

    #[test]
    fn new_and_lost_lines_say_so() {
        check("backend a\n  x 1\n", "backend a\n  x 1\n  y 2\n", &["backend a: new line `y 2`"]);
        check("backend a\n  x 1\n  y 2\n", "backend a\n  x 1\n", &["backend a: line `y 2` is gone"]);
    }

    #[test]
    fn a_section_that_comes_or_goes_is_one_reason_and_the_first() {
        check(
            "frontend f\n  x 1\nbackend a\n  x 1\n",
            "frontend f\n  x 1\n  y 1\nbackend a\n  x 1\nbackend b\n  x 1\n  y 2\n",
            &["new `backend b`", "frontend f: new line `y 1`"],
        );
        check("backend a\n  x 1\nbackend b\n  z 1\n", "backend a\n  x 1\n", &["`backend b` is gone"]);
    }

    #[test]
    fn a_comment_counts_only_where_nothing_else_differs() {
        check("global\n  # cert a\n  x 1\n", "global\n  # cert b\n  x 2\n", &["global: `x 1` becomes `x 2`"]);
        check("frontend a\n  # cert a\n", "frontend a\n  # cert b\n", &["frontend a: `# cert a` becomes `# cert b`"]);
    }

    #[test]
    fn a_flood_of_reasons_is_counted() {
        let text = |n: u32| (0..50).map(|i| format!("  key{i} {n}\n")).collect::<String>();
        let reasons = reload_reasons(&format!("backend a\n{}", text(1)), &format!("backend a\n{}", text(2)));
        assert_eq!(reasons.len(), MAX_REASONS + 1);
        assert_eq!(reasons.last().unwrap().to_string(), "and 30 more lines");
    }
}
