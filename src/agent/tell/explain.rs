//! HAProxy's own words beside the operator's line that caused them.
//!
//! Pure. Called by `preflight` and `engine`.

use super::refusal::Objection;
use crate::haproxy::{CheckVerdict, HaproxyMessage, MessageLevel};
use std::fmt::Write;

/// So many messages are shown; HAProxy's later ones mostly follow from the first.
const MAX_SHOWN: usize = 20;

/// Everything that HAProxy said about a file that it refuses, at the lines of the operator's file.
pub(in crate::agent) fn explain(verdict: &CheckVerdict, file: &str, toml: &str) -> Vec<Objection> {
    let grave: Vec<_> = verdict.messages.iter().filter(|message| message.severity > MessageLevel::Notice).collect();
    if grave.is_empty() {
        let words: Vec<_> = verdict.messages.iter().map(|message| message.text.as_str()).take(MAX_SHOWN).collect();
        let quote = format!("  = HAProxy says: {}", words.join("; "));
        return vec![Objection::new("HAProxy refuses the configuration").quoting(quote)];
    }
    let head = |message: &HaproxyMessage| match message.severity {
        MessageLevel::Alert => Objection::new("HAProxy rejects what this line becomes"),
        MessageLevel::Warning | MessageLevel::Notice => {
            Objection::warning("HAProxy warns about what this line becomes")
        }
    };
    let shown = grave.iter().take(MAX_SHOWN);
    let mut objections: Vec<_> = shown.map(|message| head(message).quoting(place(message, file, toml))).collect();
    if grave.len() > MAX_SHOWN {
        objections.push(Objection::notice(format_args!("and {} more messages", grave.len() - MAX_SHOWN)));
    }
    objections
}

/// A warning about a file that HAProxy takes.
pub(in crate::agent) fn warning(message: &HaproxyMessage, file: &str, toml: &str) -> String {
    let about = match (message.toml.is_empty(), message.line.is_some()) {
        (true, false) => "HAProxy warns",
        _ => "HAProxy warns about what this line becomes",
    };
    format!("{about}\n{}", place(message, file, toml)).trim_end().to_owned()
}

/// Where it is, and HAProxy's words.
fn place(message: &HaproxyMessage, file: &str, toml: &str) -> String {
    let HaproxyMessage { severity: _, text: words, line, toml: origins, template, rendered_line } = message;
    let mut text = String::new();
    let mut gutter = String::new();
    // Writing to a String cannot fail.
    let _ = match (origins.first(), template) {
        (Some(origin), _) => {
            let source = toml.lines().nth(origin.line.saturating_sub(1) as usize).unwrap_or_default();
            gutter = " ".repeat(origin.line.to_string().len());
            let before: String = source
                .chars()
                .take(origin.column.saturating_sub(1) as usize)
                .map(|c| if c == '\t' { c } else { ' ' })
                .collect();
            writeln!(text, "{gutter}--> {file}:{origin}\n{gutter} |\n{} | {source}\n{gutter} | {before}^", origin.line)
        }
        (None, Some((name, line))) => writeln!(text, " --> template {name}:{line}"),
        (None, None) => Ok(()),
    };
    let _ = write!(text, "{gutter} = HAProxy says: {}", words.replace('\n', &format!("\n{gutter}   ")));
    if let (Some(line), Some(rendered)) = (line, rendered_line) {
        let _ = write!(text, "\n{gutter} = in haproxy.cfg line {line}: {rendered}");
    }
    if let (Some(_), Some((name, line))) = (origins.first(), template) {
        let _ = write!(text, "\n{gutter} = from template {name}:{line}");
    }
    text.push('\n');
    text
}
