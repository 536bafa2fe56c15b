//! `events`: of which time, of whom, of what kind.

use super::duration;
use crate::event::{EventKind, Severity};
use clap::Args;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::time::Duration;

/// `events`
#[derive(Args, Clone, Debug)]
pub struct Events {
    /// From so long ago (30m, 2h, 7d), or from a time of this node's clock: 14:02, 2026-11-30, 2026-11-30T14:02
    #[arg(long, default_value = "24h", value_name = "DURATION|TIME", value_parser = when)]
    pub since: When,
    /// Up to then, said in the same ways; of a time without seconds the whole minute counts, of a day the whole day
    #[arg(long, value_name = "DURATION|TIME", value_parser = when, conflicts_with = "follow")]
    pub until: Option<When>,
    /// Of this only: BACKEND/SERVER, BACKEND and its servers, a virtual address, haproxy
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// Of these kinds only: health, weight, outage, revision and so on; may be a list
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    pub kind: Vec<EventKind>,
    /// At least this bad: info, warning or error
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    pub severity: Option<Severity>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub follow: bool,
}

/// A moment, as people say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So long ago.
    Ago(Duration),
    /// A time of a clock: the last one that was, today or yesterday.
    Clock(Time, Length),
    /// A day, or a time of a day.
    Day(DateTime, Length),
    /// A moment with its zone.
    At(Timestamp),
}

/// How long what was said lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// The clock told the seconds.
    Second,
    /// It did not.
    Minute,
    /// Only the day was told.
    Day,
}

impl Length {
    fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Day => 86_400,
        })
    }
}

impl When {
    /// Its first moment.
    pub fn begin(self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        let at = |time: DateTime| time.to_zoned(zone.clone()).map_or(Timestamp::MIN, |zoned| zoned.timestamp());
        match self {
            Self::Ago(length) => now.checked_sub(length).unwrap_or(Timestamp::MIN),
            Self::At(moment) => moment,
            Self::Day(time, _) => at(time),
            Self::Clock(time, _) => {
                let today = now.to_zoned(zone.clone()).date();
                match at(today.to_datetime(time)) {
                    later if later > now => at(today.saturating_sub(1.day()).to_datetime(time)),
                    moment => moment,
                }
            }
        }
    }

    /// The first moment that is no longer of it.
    pub fn end(self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        let begin = self.begin(now, zone);
        let length = match self {
            Self::Ago(_) => Duration::ZERO,
            Self::At(_) => Duration::from_secs(1),
            Self::Day(_, length) | Self::Clock(_, length) => length.duration(),
        };
        begin.checked_add(length).unwrap_or(Timestamp::MAX)
    }
}

fn when(text: &str) -> Result<When, String> {
    let length = |time: &str| if time.matches(':').count() > 1 { Length::Second } else { Length::Minute };
    if text.ends_with('Z') || text.rfind(['+', '-']).is_some_and(|at| at > 10) {
        return text.parse().map(When::At).map_err(|_| unclear(text));
    }
    match text.split_once(['T', ' ']) {
        Some((day, time)) if day.len() == 10 && time.contains(':') => {
            let (date, clock) = (day.parse::<Date>(), time.parse::<Time>());
            let both = date.ok().zip(clock.ok()).map(|(date, clock)| When::Day(date.to_datetime(clock), length(time)));
            both.ok_or_else(|| unclear(text))
        }
        Some(_) => Err(unclear(text)),
        None if text.contains(':') => {
            text.parse().map(|time| When::Clock(time, length(text))).map_err(|_| unclear(text))
        }
        None if text.len() == 10 && text.matches('-').count() == 2 => {
            let day = text.parse::<Date>().map_err(|_| unclear(text))?;
            Ok(When::Day(day.to_datetime(Time::midnight()), Length::Day))
        }
        None => duration(text).map(When::Ago).map_err(|why| format!("{why}; or it is a time, such as 14:02")),
    }
}

fn unclear(text: &str) -> String {
    format!("there is no time {text}: it is one such as 14:02, 2026-11-30, 2026-11-30T14:02 or 2026-11-30T14:02:00Z")
}

fn kind(text: &str) -> Result<EventKind, String> {
    EventKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
        let all = EventKind::ALL.map(EventKind::as_str);
        format!("it is one of {}", all.join(", "))
    })
}

fn severity(text: &str) -> Result<Severity, String> {
    match text {
        "info" => Ok(Severity::Info),
        "warning" => Ok(Severity::Warning),
        "error" => Ok(Severity::Error),
        _ => Err("it is info, warning or error".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_many_ways() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let now = "2026-12-01T13:30:00Z".parse().unwrap();
        for (text, begin, end) in [
            ("2h", "2026-12-01T11:30:00Z", "2026-12-01T11:30:00Z"),
            ("14:02", "2026-12-01T13:02:00Z", "2026-12-01T13:03:00Z"),
            ("14:02:07", "2026-12-01T13:02:07Z", "2026-12-01T13:02:08Z"),
            // Not yet today.
            ("14:31", "2026-11-30T13:31:00Z", "2026-11-30T13:32:00Z"),
            ("2026-11-30", "2026-11-29T23:00:00Z", "2026-11-30T23:00:00Z"),
            ("2026-11-30T14:02", "2026-11-30T13:02:00Z", "2026-11-30T13:03:00Z"),
            ("2026-11-30 14:02:07", "2026-11-30T13:02:07Z", "2026-11-30T13:02:08Z"),
            ("2026-11-30T14:02:07Z", "2026-11-30T14:02:07Z", "2026-11-30T14:02:08Z"),
            ("2026-11-30T14:02:07+02:00", "2026-11-30T12:02:07Z", "2026-11-30T12:02:08Z"),
        ] {
            let when = when(text).unwrap();
            assert_eq!((when.begin(now, &zone), when.end(now, &zone)), (begin.parse().unwrap(), end.parse().unwrap()));
        }
        for text in
            ["", "25:00", "14:61", "14", "2026-11-31", "2026-11-30T", "2026-11-30T25:00", "now", "-1h", "14:02Z"]
        {
            assert!(when(text).unwrap_err().contains("14:02"), "{text}");
        }
    }

    #[test]
    fn a_kind_that_is_none_is_answered_with_all_of_them() {
        assert_eq!(kind("weight"), Ok(EventKind::Weight));
        let said = kind("wieght").unwrap_err();
        assert!(said.contains("weight") && said.contains("problem") && said.contains("agent"), "{said}");
    }
}
