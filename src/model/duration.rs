//! Durations as the operator writes them: a number and a unit.

use super::Refused;
use std::time::Duration;

/// Longest duration: 24 days, HAProxy's own limit for a timeout (2³¹ ms).
const MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// Units with their length in milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses `500ms`, `10s`, `5m`, `1h`, `7d` or a sum of them without blanks such as `1h30m`.
///
/// # Errors
/// No unit, an unknown unit, not a whole number, or longer than 24 days.
pub fn parse_duration(text: &str) -> Result<Duration, Refused> {
    let form =
        || Refused::new("a duration is a whole number with a unit, such as \"500ms\", \"10s\", \"5m\" or \"1h\"");
    let mut rest = text;
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return Err(form());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().map_err(|_| form())?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let unit = &rest[..letters];
        let (_, length_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(form)?;
        rest = &rest[letters..];
        total_ms = number.checked_mul(*length_ms).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(form)?;
    }
    let total = Duration::from_millis(total_ms);
    if total > MAX {
        return Err(Refused::new("a duration is at most 24d"));
    }
    Ok(total)
}

/// Writes a duration in the form that [`parse_duration`] and HAProxy both read: one number in the largest whole unit.
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match UNITS.iter().find(|(_, length)| ms >= *length && ms % length == 0) {
        Some((unit, length)) => format!("{}{unit}", ms / length),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit_and_written_back_in_the_largest_one() {
        for (text, ms, back) in [
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("90s", 90_000, "90s"),
            ("60s", 60_000, "1m"),
            ("1h30m", 5_400_000, "90m"),
            ("1m500ms", 60_500, "60500ms"),
            ("0s", 0, "0ms"),
            ("24d", 2_073_600_000, "24d"),
        ] {
            let parsed = parse_duration(text).unwrap();
            assert_eq!(parsed, Duration::from_millis(ms), "{text}");
            assert_eq!(format_duration(parsed), back, "{text}");
        }
    }

    #[test]
    fn durations_without_a_unit_or_beyond_the_limit_are_refused() {
        for text in
            ["", "10", "s", "10 s", "1.5s", "-1s", "10sec", "25d", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
