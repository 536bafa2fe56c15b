//! A notification in words, for whoever reads text.

use super::line::{clean, one_line};
use crate::alerts::{Change, Line, Notification, Urgency};
use crate::model::format_duration;
use std::fmt::Write;
use std::time::Duration;

/// Of a headline, in characters.
pub(super) const MAX_HEADLINE: usize = 200;
/// Of what is said of one alert.
const MAX_LINE: usize = 400;

/// One line: what has happened to what.
pub(super) fn headline(told: &Notification) -> String {
    let begin = match (told.change, told.urgency) {
        (Change::Resolve | Change::Expire, _) => "OVER",
        (Change::Applied, _) => "CHANGE",
        (_, Urgency::Page) => "PAGE",
        (_, Urgency::Warning) => "WARNING",
        (_, Urgency::Info) => "INFO",
    };
    let again = match told.change {
        Change::Repeat => " (still)",
        Change::Update => " (news)",
        _ => "",
    };
    format!("{begin}{again}: {}", one_line(&told.headline(), MAX_HEADLINE))
}

/// The alerts, a few lines each.
pub(super) fn body(told: &Notification) -> String {
    let mut text = String::new();
    for line in &told.lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {}", of_alert(line, told));
    }
    if told.more > 0 {
        let _ = writeln!(text, "and {} more", told.more);
    }
    let _ = write!(text, "told by {} at {}", one_line(&told.node, 64), told.at.strftime("%Y-%m-%d %H:%M:%S UTC"));
    text
}

fn of_alert(line: &Line, told: &Notification) -> String {
    let mut text = clean(line.text.trim_end(), MAX_LINE).replace('\n', "\n  ");
    if !line.cause.is_empty() {
        let _ = write!(text, "\n  because {}", clean(&line.cause, MAX_LINE).replace('\n', "\n  "));
    }
    let lasted = told.at.duration_since(line.since).unsigned_abs();
    let lasted = format_duration(Duration::from_secs(lasted.as_secs()));
    let since = line.since.strftime("%H:%M:%S UTC");
    let _ = match (line.is_over, told.change) {
        (true, Change::Expire) => write!(text, "\n  it has not happened again"),
        (true, _) => write!(text, "\n  over; it began at {since}"),
        (false, _) => write!(text, "\n  since {since} ({lasted})"),
    };
    if line.count > 1 {
        let _ = write!(text, ", {} times", line.count);
    }
    text
}
