//! Why nothing was rendered.

use crate::model::{Origin, SecretRef};
use tera::ErrorKind;

/// Rendering failed; nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A template is wrong, or a value does not fit where it stands. The operator mends the template.
    #[error("{}: {message}", TemplatePlace(.file, .position))]
    Template {
        /// The template's name: the operator's path, or the name of a built-in part.
        file: String,
        /// Line and column, from 1, where they are known.
        position: Option<(u32, u32)>,
        /// What Tera says.
        message: String,
        /// Where the value came from that was refused while it was printed.
        origin: Option<Origin>,
    },
    /// A value cannot be written into a HAProxy file at all. The operator mends the value.
    #[error("{message}")]
    Value {
        /// Its place in the operator's file; `None` for a default.
        origin: Option<Origin>,
        /// What is wrong with it.
        message: String,
    },
    /// A secret that the files need was not handed in: our own bug.
    #[error("the secret {reference} was not read")]
    SecretMissing {
        /// Which one.
        reference: SecretRef,
        /// Where the file names it.
        origin: Option<Origin>,
    },
}

struct TemplatePlace<'a>(&'a str, &'a Option<(u32, u32)>);

impl std::fmt::Display for TemplatePlace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.0),
            None => f.write_str(self.0),
        }
    }
}

/// Turns what Tera says into our own words; the causes that it hides in `source()` belong to the message.
///
/// `origin_of` finds the place of a value in a text that still carries its mark.
pub(super) fn from_tera(
    error: &tera::Error,
    root: &str,
    origin_of: impl Fn(&str) -> Option<Origin>,
    without_marks: impl Fn(&str) -> String,
) -> RenderError {
    let (file, position, mut message) = match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            let span = report.span();
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let position = (number(span.start_line), number(span.start_col).saturating_add(1));
            (report.filename().to_owned(), Some(position), report.message().to_owned())
        }
        // Its cause says everything.
        ErrorKind::Io(_) if std::error::Error::source(error).is_some() => (root.to_owned(), None, String::new()),
        other => (root.to_owned(), None, other.to_string()),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    RenderError::Template { file, position, origin: origin_of(&message), message: without_marks(&message) }
}
