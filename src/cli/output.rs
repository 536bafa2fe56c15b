//! What people see: colours, JSON, lines that fit, and the end of a command that was refused.
//!
//! Called by every command; knows nothing of what it prints.

use super::args::Color;
use super::{error_text, layout};
use crate::agent::Refusal;
use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// Exit code: done.
pub const DONE: u8 = 0;
/// Exit code: refused or unhealthy.
pub const REFUSED: u8 = 1;
/// Exit code: usage or configuration mistake.
pub const USAGE: u8 = 2;
/// Exit code: our own bug.
pub const BUG: u8 = 70;

/// How a command ends when it does not end well.
#[derive(Debug)]
pub struct Failure {
    why: Why,
    /// The process's exit code.
    pub exit_code: u8,
}

/// What is wrong, what was done about it, what to do.
#[derive(Debug)]
enum Why {
    /// It stands in the output.
    Said,
    /// Here.
    Refusal(Refusal),
    /// In the agent, which has put it into words.
    Printed(String),
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.why {
            Why::Said => Ok(()),
            Why::Refusal(refusal) => write!(f, "{refusal}"),
            Why::Printed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// The product refuses, or something is unhealthy.
    pub fn refused(why: impl Into<Refusal>) -> Self {
        Self { why: Why::Refusal(why.into()), exit_code: REFUSED }
    }

    /// The operator's file or command line has a mistake.
    pub fn usage(why: impl Into<Refusal>) -> Self {
        Self { why: Why::Refusal(why.into()), exit_code: USAGE }
    }

    /// What there is to say stands in the output.
    pub fn said(exit_code: u8) -> Self {
        Self { why: Why::Said, exit_code }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn help(self, help: impl Display) -> Self {
        let why = match self.why {
            Why::Refusal(refusal) => Why::Refusal(refusal.help(help)),
            other => other,
        };
        Self { why, ..self }
    }
}

impl From<crate::agent::Failed> for Failure {
    fn from(failed: crate::agent::Failed) -> Self {
        let crate::agent::Failed { refusal, exit_code } = failed;
        Self { why: Why::Refusal(refusal), exit_code }
    }
}

impl From<crate::api::ClientError> for Failure {
    fn from(error: crate::api::ClientError) -> Self {
        match error {
            crate::api::ClientError::Refused(problem) | crate::api::ClientError::Other(problem) => {
                Self { why: Why::Printed(problem.error), exit_code: problem.exit_code }
            }
            crate::api::ClientError::Broken(refusal) => Self::refused(refusal),
        }
    }
}

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Data as JSON.
    pub json: bool,
    /// Colours on standard output.
    pub color: bool,
    /// Colours on standard error.
    pub color_err: bool,
    /// Columns that a line on standard output may take.
    pub width: usize,
    /// The same on standard error.
    pub width_err: usize,
}

/// The meaning of a coloured word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Look at it.
    Warn,
    /// Broken.
    Bad,
    /// Less important.
    Dim,
    /// A heading.
    Strong,
    /// Nothing special.
    Plain,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Dim => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
            Self::Plain => Style::new(),
        }
    }
}

/// `1 server`, `2 servers`.
pub(super) fn counted(count: impl Display + PartialEq + From<u8>, what: &str) -> String {
    let many = if count == 1.into() { "" } else { "s" };
    format!("{count} {what}{many}")
}

impl Output {
    /// Decides on colours.
    pub fn new(json: bool, color: Color) -> Self {
        let wanted = |is_terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Self {
            json,
            color: wanted(std::io::stdout().is_terminal()),
            color_err: wanted(std::io::stderr().is_terminal()),
            width: crate::sys::terminal::columns(std::io::stdout()),
            width_err: crate::sys::terminal::columns(std::io::stderr()),
        }
    }

    /// A word in its tone.
    pub fn paint(&self, tone: Tone, text: impl Display) -> String {
        if !self.color || tone == Tone::Plain {
            return text.to_string();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }

    /// Prints data as one JSON document.
    pub fn print_json(&self, data: &impl Serialize) {
        let text = serde_json::to_string_pretty(data).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"));
        self.print(&format!("{text}\n"));
    }

    /// Prints text as it is; a closed pipe is no error.
    pub fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            // The reader went away (`| head`): nobody is left to tell.
        }
    }

    /// Prints what the operator should know besides, in lines that fit.
    pub fn remark(&self, text: impl Display) {
        let text = layout::wrap(&self.with_clocks(&format!("note: {text}")), self.width, 2);
        self.line(self.paint(Tone::Warn, text));
    }

    /// Prints text as it is; whether somebody still reads.
    pub fn print_on(&self, text: &str) -> bool {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    }

    /// Prints one line.
    pub fn line(&self, text: impl Display) {
        self.print(&format!("{text}\n"));
    }

    /// Prints text in lines that fit, broken between words; lines that go on begin at column `hang`. Times are told by
    /// the operator's clock.
    pub fn text(&self, hang: usize, text: impl Display) {
        self.line(layout::wrap(&self.with_clocks(&text.to_string()), self.width, hang));
    }

    /// The text with times as the operator's clock says them.
    pub fn with_clocks(&self, text: &str) -> String {
        layout::with_clocks(text, Timestamp::now(), &TimeZone::system())
    }

    /// Prints a note for people on standard error, so that data stays clean; in lines that fit.
    pub fn note(&self, text: impl Display) {
        let mut err = std::io::stderr().lock();
        if writeln!(err, "{}", error_text::wrap(&text.to_string(), self.width_err)).is_err() {
            // As above.
        }
    }

    /// Prints why a command ended; with colours, its labels have the tone of an error.
    pub fn failure(&self, failure: &Failure) {
        let text = match &failure.why {
            Why::Said => return,
            Why::Refusal(refusal) => refusal.render(self.color_err),
            Why::Printed(text) => text.clone(),
        };
        let style = Tone::Bad.style();
        self.note(if self.color_err { error_text::paint(text.trim_end(), style) } else { text });
    }

    /// Prints a diff with added and removed lines coloured.
    pub fn diff(&self, text: &str) {
        let painted = text.lines().map(|line| {
            let tone = match line.as_bytes() {
                [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => Tone::Strong,
                [b'+', ..] => Tone::Good,
                [b'-', ..] => Tone::Bad,
                [b'@', ..] => Tone::Dim,
                _ => Tone::Plain,
            };
            self.paint(tone, line) + "\n"
        });
        self.print(&painted.collect::<String>());
    }
}

/// A time span for people: `3s`, `4m12s`, `2h03m`, `5d04h`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Whole milliseconds for people: `<1 ms`, `12 ms`, `1.20 s`.
pub fn whole_ms(value: f64) -> String {
    match value {
        v if v < 1.0 => "<1 ms".to_owned(),
        v if v < 1000.0 => format!("{v:.0} ms"),
        v => ms(v),
    }
}

/// Milliseconds for people: `0.42 ms`, `12 ms`, `1.20 s`.
pub fn ms(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2} ms"),
        v if v < 1000.0 => format!("{v:.0} ms"),
        v => format!("{:.2} s", v / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        assert_eq!([0.0, 0.4, 1.0, 999.4, 1200.0].map(whole_ms), ["<1 ms", "<1 ms", "1 ms", "999 ms", "1.20 s"]);
        assert_eq!([5, 65, 3_725, 90_000].map(span), ["5s", "1m05s", "1h02m", "1d01h"]);
    }
}
