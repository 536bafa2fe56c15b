//! How long a server asks to be left alone, from its headers and its words. Pure: the time of day is handed in.

use crate::model::{LimitSigns, MAX_RETRY_AFTER, retry_after_value};
use hyper::header::{HeaderMap, HeaderValue};
use std::time::{Duration, SystemTime};

/// Reads the pause that a provider's headers ask for: `Retry-After` (seconds or HTTP date) and its kin, else the reset of
/// an exhausted rate limit. What makes no sense (negative, a word, a date gone by) is as if it were absent; what is too
/// long is capped.
///
/// **Source**: RFC 9110 10.2.3; OpenAI's, Anthropic's and Azure's headers.
pub fn retry_after(signs: &LimitSigns, headers: &HeaderMap<HeaderValue>, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let waits = signs.wait.iter().filter_map(|name| Some((name, text(name)?)));
    let wait = |(name, text): (&String, &str)| match name.ends_with("-ms") {
        true => seconds(text, 1e-3),
        false => retry_after_value(text, now),
    };
    { waits }.find_map(wait).or_else(|| rate_limit_reset(signs, headers, now))
}

/// Reads a pause out of an error's message: "Please retry after 6 seconds", "Please try again in 1m2.5s."
pub(super) fn pause_in_words(signs: &LimitSigns, message: &str) -> Option<Duration> {
    let message = message.to_lowercase();
    signs.phrases.iter().find_map(|phrase| {
        let (_, rest) = message.split_once(phrase.as_str())?;
        let mut words = rest.split_ascii_whitespace();
        let first = words.next()?.trim_end_matches(['.', ',', ';', ')']);
        let Some(number) = number(first) else { return lasting(first) };
        let unit = match words.next()?.trim_end_matches(['.', ',', ';', ')']) {
            "milliseconds" | "millisecond" | "ms" => 1e-3,
            "seconds" | "second" | "secs" | "sec" | "s" => 1.0,
            "minutes" | "minute" | "mins" | "min" | "m" => 60.0,
            "hours" | "hour" | "h" => 3600.0,
            "days" | "day" | "d" => 86_400.0,
            _ => return None,
        };
        Some(capped(number * unit))
    })
}

/// Reads `46s`, `46.5s` or `1m2s`, without a sign.
pub(super) fn lasting(text: &str) -> Option<Duration> {
    if text.is_empty() || number(text).is_some() { None } else { spelt(text) }
}

/// The latest reset among the limits of which nothing remains; where none says so, the earliest of all.
fn rate_limit_reset(signs: &LimitSigns, headers: &HeaderMap<HeaderValue>, now: SystemTime) -> Option<Duration> {
    let (mut exhausted, mut any): (Option<Duration>, Option<Duration>) = (None, None);
    for (name, value) in headers {
        let name = name.as_str();
        if !signs.reset.iter().any(|pattern| is_like(pattern, name)) {
            continue;
        }
        let Some(reset) = value.to_str().ok().and_then(|text| moment(text.trim(), now)) else { continue };
        any = Some(any.map_or(reset, |other| other.min(reset)));
        let twin = name.replace("reset", "remaining");
        if headers.get(&twin).is_some_and(|left| left.as_bytes() == b"0") {
            exhausted = exhausted.max(Some(reset));
        }
    }
    exhausted.or(any)
}

/// Whether a name is like a pattern with `*` for any letters.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// `6ms`, `1m2s`, `1.5`, a Unix time in seconds or milliseconds, or RFC 3339.
fn moment(text: &str, now: SystemTime) -> Option<Duration> {
    if let Some(number) = number(text) {
        return match number {
            1e12.. => until(SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(number / 1e3).ok()?)?, now),
            1e9.. => until(SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(number).ok()?)?, now),
            _ => seconds(text, 1.0),
        };
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return until(at.into(), now);
    }
    spelt(text)
}

/// `6ms`, `1m2s`: numbers with units.
fn spelt(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let letters = rest[digits..].find(|c: char| !c.is_alphabetic()).map_or(rest.len(), |n| digits + n);
        let unit = match &rest[digits..letters] {
            "ms" => 1e-3,
            "us" | "µs" | "ns" => 0.0,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total += number(&rest[..digits])? * unit;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then(|| capped(total))
}

/// A plain number that is not negative: `f64` would also read `inf` and `nan`.
fn number(text: &str) -> Option<f64> {
    text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn seconds(text: &str, unit: f64) -> Option<Duration> {
    number(text).map(|number| capped(number * unit))
}

fn capped(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(MAX_RETRY_AFTER).min(MAX_RETRY_AFTER)
}

fn until(then: SystemTime, now: SystemTime) -> Option<Duration> {
    then.duration_since(now).ok().map(|wait| wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::profile;
    use crate::model::Provider;
    use hyper::header::HeaderName;
    use proptest::prelude::{prop_assert, proptest};

    fn read(headers: &[(&str, &str)]) -> Option<Duration> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_700);
        let map = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        retry_after(&profile(Provider::OpenAi).limits, &map, now)
    }

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn retry_after_is_read_in_every_spelling_and_capped() {
        for (value, expected) in [
            ("10", ms(10_000)),
            ("0", ms(0)),
            ("0.5", ms(500)),
            ("1000000000000", ms(300_000)),
            ("1e12", ms(300_000)),
            ("99999999999999999999999999999999999999999999", ms(300_000)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", ms(77_000)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", ms(300_000)),
            ("Sat, 06 Nov 1993 08:49:37 GMT", None),
            ("-1", None),
            ("tomorrow", None),
            ("inf", None),
            ("NaN", None),
            ("", None),
        ] {
            assert_eq!(read(&[("retry-after", value)]), expected, "{value}");
        }
    }

    #[test]
    fn other_headers_stand_in_for_a_missing_one() {
        assert_eq!(read(&[("retry-after-ms", "1500")]), ms(1500));
        assert_eq!(read(&[("retry-after", "soon"), ("retry-after-ms", "1500")]), ms(1500));
        assert_eq!(read(&[("retry-after", "2"), ("retry-after-ms", "1500")]), ms(2000));
        for (value, expected) in [
            ("6ms", ms(6)),
            ("1m2s", ms(62_000)),
            ("7.66s", ms(7660)),
            ("24h", ms(300_000)),
            ("20", ms(20_000)),
            ("784111730", ms(784_111_730_000).map(|_| Duration::from_secs(300))),
            ("1994-11-06T08:48:50Z", ms(30_000)),
            ("soon", None),
            ("5x", None),
            ("-1", None),
        ] {
            assert_eq!(read(&[("x-ratelimit-reset-requests", value)]), expected, "{value}");
        }
    }

    #[test]
    fn the_exhausted_limit_decides() {
        let both = [
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "30s"),
        ];
        assert_eq!(read(&both), ms(30_000));
        assert_eq!(read(&[("x-ratelimit-reset-requests", "9s"), ("x-ratelimit-reset-tokens", "3s")]), ms(3000));
    }

    #[test]
    fn anthropics_and_azures_limits_are_read_by_the_same_signs() {
        let anthropic = [
            ("anthropic-ratelimit-requests-remaining", "999"),
            ("anthropic-ratelimit-requests-reset", "1994-11-06T08:48:22Z"),
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
            ("anthropic-ratelimit-output-tokens-reset", "1994-11-06T08:48:50Z"),
        ];
        assert_eq!(read(&anthropic), ms(30_000));
        // Azure says -1 where it does not know.
        assert_eq!(read(&[("x-ratelimit-remaining-tokens", "-1"), ("x-ratelimit-reset-tokens", "7")]), ms(7000));
        assert_eq!(read(&[("ratelimit-reset", "12")]), ms(12_000));
        assert_eq!(read(&[("x-reset-ratelimit", "12"), ("x-limit-reset", "12")]), None);
    }

    #[test]
    fn a_pattern_is_like_a_name_with_anything_for_its_stars() {
        for (pattern, name, like) in [
            ("a-*", "a-b", true),
            ("a-*", "a-", true),
            ("a-*", "b-a-", false),
            ("*b*", "abc", true),
            ("a*a", "a", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
        ] {
            assert_eq!(is_like(pattern, name), like, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pause_in_words_is_read_behind_its_phrase() {
        let limits = &profile(Provider::Azure).limits;
        for (message, expected) in [
            ("Rate limit is exceeded. Please retry after 6 seconds.", ms(6000)),
            ("Please Retry After 1 minute, thank you", ms(60_000)),
            ("Limit 10. Please try again in 20s. Visit", ms(20_000)),
            ("Please try again in 6m0s.", ms(300_000)),
            ("Please retry in 46.5s.", ms(46_500)),
            ("try again in 1.2s", ms(1200)),
            ("please retry after 86400 seconds", ms(300_000)),
            ("please retry after some time", None),
            ("please retry after -5 seconds", None),
            ("please retry after 5", None),
            ("retry after ", None),
            ("", None),
        ] {
            assert_eq!(pause_in_words(limits, message), expected, "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_words_make_it_fall_over(text in "(retry after |try again in |[0-9.]{0,30}|ms|s|m|h| |\\PC){0,30}") {
            let limits = &profile(Provider::Azure).limits;
            prop_assert!(pause_in_words(limits, &text).is_none_or(|wait| wait <= MAX_RETRY_AFTER));
            prop_assert!(lasting(&text).is_none_or(|wait| wait <= MAX_RETRY_AFTER));
        }

        #[test]
        fn nothing_exceeds_the_cap_or_panics(a in "[ -~]{0,40}", b in "[0-9.a-zµ:TZ+-]{0,40}") {
            for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"] {
                for value in [&a, &b] {
                    let Ok(value) = HeaderValue::from_str(value) else { continue };
                    let map = [(name.parse::<HeaderName>().unwrap(), value)].into_iter().collect();
                    prop_assert!(retry_after(&profile(Provider::OpenAi).limits, &map, SystemTime::UNIX_EPOCH).is_none_or(|wait| wait <= MAX_RETRY_AFTER));
                }
            }
        }

        #[test]
        fn whole_seconds_below_the_cap_are_taken_as_they_are(n in 0u64..=300) {
            prop_assert!(read(&[("retry-after", &n.to_string())]) == Some(Duration::from_secs(n)));
        }
    }
}
