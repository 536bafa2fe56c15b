//! A notification in words, for whoever reads text.

use super::line::{clean, one_line};
use crate::alerts::{Change, Line, Notification, Urgency};
use jiff::Timestamp;
use std::fmt::Write;

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
    let lines: String = told.lines.iter().map(|line| format!("- {}\n", of_alert(line, told))).collect();
    lines + &foot(told)
}

/// The same below its headline, which says what the first one is.
pub(super) fn body_below(told: &Notification) -> String {
    let Some((first, others)) = told.lines.split_first() else { return foot(told) };
    let words = clean(first.words().trim_end(), MAX_LINE);
    let (said, rest) = words.split_once('\n').unwrap_or((&words, ""));
    if said.chars().count() > MAX_HEADLINE {
        return body(told);
    }
    let rest: String = rest.lines().map(|line| format!("\n  {line}")).collect();
    let first = format!("{rest}{}\n", details(first, told));
    let others: String = others.iter().map(|line| format!("- {}\n", of_alert(line, told))).collect();
    first.trim_start_matches('\n').to_owned() + &others + &foot(told)
}

fn foot(told: &Notification) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if told.more > 0 {
        let _ = writeln!(text, "and {} more", told.more);
    }
    if !told.hint.is_empty() {
        let _ = writeln!(text, "{}", one_line(&told.hint, MAX_LINE));
    }
    let _ = write!(text, "told by {} at {}", one_line(&told.node, 64), told.at.strftime("%Y-%m-%d %H:%M:%S UTC"));
    text
}

fn of_alert(line: &Line, told: &Notification) -> String {
    let text = clean(line.words().trim_end(), MAX_LINE).replace('\n', "\n  ");
    format!("{text}{}{}", line.kept(), details(line, told))
}

/// What is said below it: why, since when, how often.
fn details(line: &Line, told: &Notification) -> String {
    let mut text = String::new();
    if line.is_so() && !line.cause.is_empty() {
        let _ = write!(text, "\n  because {}", clean(&line.cause, MAX_LINE).replace('\n', "\n  "));
    }
    let at = |at: Timestamp| at.strftime("%H:%M:%S UTC");
    let (began, times) = (line.began.unwrap_or(line.since), line.count);
    let _ = match line.ended {
        _ if told.change == Change::Expire => write!(text, "\n  it has not happened again"),
        _ if line.is_event => write!(text, "\n  at {}", at(began)),
        Some(ended) => {
            write!(text, "\n  ended at {}, after {}; it began at {}", at(ended), lasted(began, ended), at(began))
        }
        None => write!(text, "\n  since {}{}", at(began), ago(began, told.at)),
    };
    if times > 1 {
        let _ = write!(text, ", {times} times since {}", at(line.since));
    }
    text
}

/// ` (13m)`; nothing of less than a second.
fn ago(since: Timestamp, now: Timestamp) -> String {
    match now.duration_since(since).as_secs() {
        ..1 => String::new(),
        _ => format!(" ({})", lasted(since, now)),
    }
}

/// In the unit that matters: `45s`, `13m`, `2h 5m`, `3d 4h`.
fn lasted(from: Timestamp, to: Timestamp) -> String {
    match to.duration_since(from).unsigned_abs().as_secs() {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3_600 => format!("{}m", s / 60),
        s @ 3_600..86_400 => format!("{}h {}m", s / 3_600, s / 60 % 60),
        s => format!("{}d {}h", s / 86_400, s / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::webhook::tests::sample;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn a_time_is_told_in_the_unit_that_matters() {
        let told = [45, 779, 7_500, 273_600].map(|second| lasted(at(0), at(second)));
        assert_eq!(told, ["45s", "12m", "2h 5m", "3d 4h"]);
        assert_eq!((ago(at(0), at(0)), ago(at(0), at(60))), (String::new(), " (1m)".into()));
    }

    #[test]
    fn an_end_says_when_it_was_how_long_it_took_and_what_is_well() {
        let mut told = Notification { change: Change::Resolve, at: at(900), ..sample() };
        told.lines[0] = Line {
            is_over: true,
            ended: Some(at(780)),
            over_text: "backend chat serves again".into(),
            ..told.lines[0].clone()
        };
        assert_eq!(headline(&told), "OVER: backend chat serves again");
        let text = body(&told);
        assert!(
            text.starts_with(
                "- backend chat serves again\n  ended at 22:26:20 UTC, after 13m; it began at 22:13:20 UTC\n"
            ),
            "{text}"
        );
        told.lines[0].over_text.clear();
        assert_eq!(headline(&told), "OVER: not so any more: backend chat cannot serve");
    }

    #[test]
    fn below_its_headline_nothing_is_said_twice_and_nothing_is_lost() {
        let mut told = sample();
        told.lines[0].text = "the change is refused\nline 3 is wrong".into();
        told.lines.push(Line { text: "backend embed cannot serve".into(), ..told.lines[0].clone() });
        let wanted = "  line 3 is wrong\n  because refused\n  since 22:13:20 UTC (1m)\n- backend embed cannot serve\n  because refused\n";
        assert!(body_below(&told).starts_with(wanted), "{}", body_below(&told));
        told.lines[0].text = "x".repeat(300);
        assert!(body_below(&told).contains(&told.lines[0].text), "what the headline cuts");
    }

    #[test]
    fn what_is_kept_open_is_not_told_to_be_so() {
        let mut told = Notification { change: Change::Update, at: at(900), ..sample() };
        let (ended, kept_until) = (Some(at(600)), Some(at(2_400)));
        let over_text = "backend chat serves again".into();
        told.lines[0] = Line { ended, kept_until, over_text, count: 2, ..told.lines[0].clone() };
        let kept = "backend chat serves again since 22:23:20 UTC, kept open until 22:53:20 UTC because it flaps";
        assert_eq!(headline(&told), format!("PAGE (news): {kept}"));
        assert!(body(&told).starts_with(&format!("- {kept}\n  ended at")), "{}", body(&told));
    }
}
