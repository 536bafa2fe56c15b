//! What is wrong or doubtful in the operator's file, and how it is shown.
//!
//! Knows no rule of the file. Made by `read` and `lint`; rendered by `cli`, serialized for `--json`.

use super::mask::without_secrets;
use super::source::{Excerpt, SourceText};
use crate::model::{Origin, visible};
use annotate_snippets::{AnnotationKind, Element, Group, Level, Renderer, Snippet};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use std::fmt::{self, Write as _};
use std::ops::Range;

/// Whether a file with it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiagnosticLevel {
    /// The file is refused.
    Error,
    /// The file is used; it may not do what was meant.
    Warning,
}

impl fmt::Display for DiagnosticLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One mistake or doubt with its place. Never holds a secret: the line that it shows and the words that
/// quote the operator's are masked when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Mistake or doubt.
    pub severity: DiagnosticLevel,
    /// A stable word for its kind, such as `unknown-key`.
    pub code: &'static str,
    /// What is wrong, with the limit that was broken; one line.
    pub message: String,
    /// Where; `None` when it is about the file as a whole.
    pub origin: Option<Origin>,
    /// What stands under the caret.
    pub label: Option<String>,
    /// What to do.
    pub help: Option<String>,
    pub(super) excerpt: Option<Excerpt>,
}

/// A diagnostic before its line is cut out of the source.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) severity: DiagnosticLevel,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) span: Option<Range<usize>>,
    pub(super) label: Option<String>,
    pub(super) help: Option<String>,
    /// Whether it is about something that is not there: doubtful when the file has syntax errors.
    pub(super) absence: bool,
}

impl Found {
    pub(super) fn error(code: &'static str, message: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            severity: DiagnosticLevel::Error,
            code,
            message: visible(&message.into()),
            span: Some(span),
            label: None,
            help: None,
            absence: false,
        }
    }

    pub(super) fn warning(code: &'static str, message: impl Into<String>, span: Range<usize>) -> Self {
        Self { severity: DiagnosticLevel::Warning, ..Self::error(code, message, span) }
    }

    pub(super) fn of_file(code: &'static str, message: impl Into<String>) -> Self {
        Self { span: None, ..Self::error(code, message, 0..0) }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(visible(&label.into()));
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(visible(&help.into()));
        self
    }

    pub(super) fn absence(mut self) -> Self {
        self.absence = true;
        self
    }
}

/// All diagnostics of one file, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    file: String,
    list: Vec<Diagnostic>,
    /// Errors and warnings beyond [`Self::MAX`].
    more: usize,
}

impl Diagnostics {
    /// So many are kept and printed; the rest is counted. Nobody mends more than that in one go.
    pub const MAX: usize = 100;

    /// Of a file that could not be looked at.
    pub fn none(file: &str) -> Self {
        Self { file: file.to_owned(), list: vec![], more: 0 }
    }

    pub(super) fn new(file: &str, source: &SourceText<'_>, mut found: Vec<Found>, secrets: &[Range<usize>]) -> Self {
        // Stable: at one place the first rule speaks first. What is about the whole file comes last.
        found.sort_by_key(|found| found.span.as_ref().map_or(usize::MAX, |span| span.start));
        found.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        let more = found.len().saturating_sub(Self::MAX);
        let list = found
            .into_iter()
            .take(Self::MAX)
            .map(|found| Diagnostic {
                severity: found.severity,
                code: found.code,
                message: without_secrets(&found.message),
                origin: found.span.as_ref().map(|span| source.origin(span.start)),
                label: found.label.as_deref().map(without_secrets),
                help: found.help.as_deref().map(without_secrets),
                excerpt: found.span.and_then(|span| source.excerpt(&span, secrets)),
            })
            .collect();
        Self { file: file.to_owned(), list, more }
    }

    /// The file's name as the caller gave it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The first [`Self::MAX`] of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many there are, those that are not kept included.
    pub fn len(&self) -> usize {
        self.list.len() + self.more
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the file must be refused.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == DiagnosticLevel::Error)
    }

    /// Text for a terminal in the style of rustc, ending in a line that counts; empty when there is nothing.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for diagnostic in &self.list {
            out.push_str(&renderer.render(&[diagnostic.group(&self.file)]));
            out.push_str("\n\n");
        }
        if let Some(summary) = self.summary() {
            let _ = writeln!(out, "{summary}");
        }
        out
    }

    fn summary(&self) -> Option<String> {
        let count = |severity| self.list.iter().filter(|diagnostic| diagnostic.severity == severity).count();
        let words = |number: usize, one: &str| match number {
            0 => None,
            1 => Some(format!("1 {one}")),
            many => Some(format!("{many} {one}s")),
        };
        let counted: Vec<String> =
            [words(count(DiagnosticLevel::Error), "error"), words(count(DiagnosticLevel::Warning), "warning")]
                .into_iter()
                .flatten()
                .collect();
        let more = if self.more > 0 { format!(" and {} more that are not shown", self.more) } else { String::new() };
        (!counted.is_empty()).then(|| format!("{}: {}{more}", self.file, counted.join(", ")))
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Diagnostics {}

impl Diagnostic {
    fn group<'a>(&'a self, file: &'a str) -> Group<'a> {
        let level = match self.severity {
            DiagnosticLevel::Error => Level::ERROR,
            DiagnosticLevel::Warning => Level::WARNING,
        };
        let mut elements: Vec<Element<'a>> = Vec::new();
        match (&self.excerpt, self.origin) {
            (Some(excerpt), Some(origin)) => {
                let mark = AnnotationKind::Primary.span(excerpt.span.clone()).label(self.label.as_deref());
                elements.push(
                    Snippet::source(excerpt.line.as_str())
                        .path(file)
                        .line_start(origin.line as usize)
                        .fold(false)
                        .annotation(mark)
                        .into(),
                );
            }
            (None, Some(origin)) => elements.push(
                annotate_snippets::Origin::path(file)
                    .line(origin.line as usize)
                    .char_column(origin.column as usize)
                    .into(),
            ),
            (_, None) => elements.push(annotate_snippets::Origin::path(file).into()),
        }
        if let Some(help) = &self.help {
            elements.push(Level::HELP.message(help.as_str()).into());
        }
        level.primary_title(self.message.as_str()).id(self.code).elements(elements)
    }
}

impl Serialize for Diagnostics {
    /// A list of objects, each with `file`, `line`, `column`, `severity`, `code`, `message` and `help`; `line` and
    /// `column` are null for the file as a whole, `help` where there is none.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.list.iter().map(|diagnostic| InFile { file: &self.file, diagnostic }))
    }
}

struct InFile<'a> {
    file: &'a str,
    diagnostic: &'a Diagnostic,
}

impl Serialize for InFile<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Diagnostic { severity, code, message, origin, label: _, help, excerpt: _ } = self.diagnostic;
        let mut out = serializer.serialize_struct("Diagnostic", 7)?;
        out.serialize_field("file", self.file)?;
        out.serialize_field("line", &origin.map(|origin| origin.line))?;
        out.serialize_field("column", &origin.map(|origin| origin.column))?;
        out.serialize_field("severity", severity)?;
        out.serialize_field("code", code)?;
        out.serialize_field("message", message)?;
        out.serialize_field("help", help)?;
        out.end()
    }
}
