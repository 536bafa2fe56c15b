//! How long somebody asks to be left alone: the value of a Retry-After header.

use std::time::{Duration, SystemTime};

/// Longest pause that a server can ask for: beyond it a mistake (or malice) would blind us.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Reads seconds or an HTTP date. What makes no sense (negative, a word, a date gone by) is as if it were absent; what
/// is too long is capped.
///
/// **Source**: RFC 9110 10.2.3.
pub fn retry_after_value(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    // `f64` would also read `inf` and `nan`.
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let seconds: f64 = text.parse().ok()?;
        return Some(Duration::try_from_secs_f64(seconds).unwrap_or(MAX_RETRY_AFTER).min(MAX_RETRY_AFTER));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    then.duration_since(now).ok().map(|wait| wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::retry_after_value;
    use std::time::{Duration, SystemTime};

    #[test]
    fn seconds_and_dates_are_read_and_capped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_700);
        for (text, expected_s) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("1000000000000", Some(300)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(77)),
            ("Sat, 06 Nov 1993 08:49:37 GMT", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after_value(text, now), expected_s.map(Duration::from_secs), "{text:?}");
        }
    }
}
