//! Text that fits: how wide a word is on a terminal, lines that break between words, times as people read them.
//!
//! Pure: width, time and time zone are handed in. Called by `output`.

use super::pieces::pieces;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr;

/// The length of `2026-11-28T14:02:31Z`.
const RFC3339: usize = 20;

/// Columns that a text takes on a terminal; colours take none.
pub(super) fn columns(text: &str) -> usize {
    let mut pieces = text.split('\u{1b}');
    let first = pieces.next().unwrap_or_default().width();
    first + pieces.map(|piece| piece.split_once('m').map_or(0, |(_, visible)| visible.width())).sum::<usize>()
}

/// The text with every line within `width`, broken between words and never within one, nor within a command. What goes on stands `hang`
/// columns to the right; 0: two more than the line that it goes on from.
pub(super) fn wrap(text: &str, width: usize, hang: usize) -> String {
    text.split('\n').map(|line| wrap_line(line, width, hang)).collect::<Vec<_>>().join("\n")
}

fn wrap_line(line: &str, width: usize, hang: usize) -> String {
    if columns(line) <= width {
        return line.trim_end().to_owned();
    }
    let lead = line.len() - line.trim_start_matches(' ').len();
    // What stands further in, a help below a problem, goes on further in as well.
    let hang = if lead > hang || hang == 0 { lead + 2 } else { hang };
    let (mut done, mut current) = (String::new(), " ".repeat(lead));
    let (mut used, mut is_begun) = (lead, false);
    for word in pieces(&line[lead..], &['`']) {
        let wide = columns(&word);
        if is_begun && used + 1 + wide > width && !word.is_empty() {
            done.push_str(current.trim_end());
            done.push('\n');
            (current, used, is_begun) = (" ".repeat(hang), hang, false);
        }
        if is_begun {
            current.push(' ');
            used += 1;
        }
        current.push_str(&word);
        used += wide;
        is_begun = true;
    }
    done + current.trim_end()
}

/// `14:02:31, 3 min ago`, by the operator's clock; with the day where it is another one than today.
pub(super) fn clock(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    format!("{}, {}", local(at, now, zone), distance(at, now))
}

/// `14:02:31`, or `2026-11-27 14:02:31` where that is not today.
fn local(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let form = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(form).to_string()
}

/// `3 min ago`, `in 20 s`, `now`.
fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs();
    let words = match seconds.unsigned_abs() {
        0 => return "now".to_owned(),
        short @ 1..60 => format!("{short} s"),
        minutes @ 60..3600 => format!("{} min", minutes / 60),
        hours @ 3600..86_400 => format!("{} h", hours / 3600),
        days => format!("{} d", days / 86_400),
    };
    if seconds > 0 { format!("{words} ago") } else { format!("in {words}") }
}

/// The text with each time of RFC 3339 in UTC as [`clock`] says it.
pub(super) fn with_clocks(text: &str, now: Timestamp, zone: &TimeZone) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        told.push_str(before);
        // The digits that begin here, where they begin no time.
        let mut next = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        match from.get(..RFC3339).filter(|word| word.ends_with('Z') && word.as_bytes()[10] == b'T') {
            Some(word) if let Ok(time) = word.parse::<Timestamp>() => {
                told.push_str(&clock(time, now, zone));
                next = RFC3339;
            }
            _ => told.push_str(&from[..next]),
        }
        rest = &from[next..];
    }
    told + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn berlin() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(1))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn times_are_local_and_relative() {
        let now = at("2026-11-28T13:05:40Z");
        let cases = [
            ("2026-11-28T13:02:31Z", "14:02:31, 3 min ago"),
            ("2026-11-28T13:05:38Z", "14:05:38, 2 s ago"),
            ("2026-11-28T13:05:40Z", "14:05:40, now"),
            ("2026-11-28T13:15:41Z", "14:15:41, in 10 min"),
            ("2026-11-27T23:30:00Z", "00:30:00, 13 h ago"),
            ("2026-11-27T22:30:00Z", "2026-11-27 23:30:00, 14 h ago"),
            ("2026-10-01T00:00:00Z", "2026-10-01 01:00:00, 58 d ago"),
        ];
        for (time, expected) in cases {
            assert_eq!(clock(at(time), now, &berlin()), expected);
        }
        let text = with_clocks("k1 drain by ops until 2026-11-28T13:15:41Z; 12 left of 2026", now, &berlin());
        assert_eq!(text, "k1 drain by ops until 14:15:41, in 10 min; 12 left of 2026");
        for plain in ["", "2026-11-28", "é 2026-11-28T13:15:4é", "99999999-99-99T99:99:99Z", "12345678901234567890Z"]
        {
            assert_eq!(with_clocks(plain, now, &berlin()), plain);
        }
    }

    #[test]
    fn lines_break_between_words_and_hang() {
        assert_eq!(wrap("problem  one two three", 16, 9), "problem  one two\n         three");
        assert_eq!(wrap("  a reason that is long", 14, 0), "  a reason\n    that is\n    long");
        assert_eq!(wrap("short", 80, 9), "short");
        assert_eq!(
            wrap("note: see `hapilot -c a.toml plan`, then sudo hapilot -c a.toml apply", 24, 2),
            "note: see\n  `hapilot -c a.toml plan`,\n  then\n  sudo hapilot -c a.toml apply"
        );
        assert_eq!(wrap("日本語 日本語", 10, 2), "日本語\n  日本語");
        assert_eq!(columns("\u{1b}[1;31mred\u{1b}[0m"), 3);
    }

    proptest! {
        #[test]
        fn no_line_is_longer_than_its_width_and_no_word_is_lost(
            words in prop::collection::vec("[a-zé日]{1,14}", 1..40), width in 34_usize..120, hang in 0_usize..6,
        ) {
            let text = words.join(" ");
            let wrapped = wrap(&text, width, hang);
            prop_assert!(wrapped.lines().all(|line| columns(line) <= width), "{wrapped}");
            prop_assert_eq!(wrapped.split_whitespace().collect::<Vec<_>>(), words);
        }
    }
}
