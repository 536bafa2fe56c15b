//! `usage`: whose, since when, by what.

use super::{duration, parse_name};
use crate::model::Name;
use crate::usage::Hour;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::civil::Date;
use std::time::Duration;

/// `usage`
#[derive(Args, Clone, Debug)]
pub struct Usage {
    /// What each line is of; may be given more than once, or as a list: client,model
    #[arg(long, value_enum, value_delimiter = ',', default_value = "client", value_name = "WHAT")]
    pub by: Vec<By>,
    /// From so long ago, at most 24d (30m, 2h, 7d), or from midnight UTC of a day (2026-11-01). The hour in which that falls counts whole
    #[arg(long, default_value = "1d", value_name = "DURATION|DATE", value_parser = since)]
    pub since: Since,
    /// Of this client only
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub client: Option<Name>,
    /// Print a table for spreadsheets, with all digits of the money
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// What a line of usage is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The client.
    Client,
    /// The model that was asked for.
    Model,
    /// The server that answered.
    Server,
    /// The plan that the client had.
    Plan,
    /// The day, in UTC.
    Day,
    /// The hour, in UTC.
    Hour,
}

impl By {
    /// As it is written on the command line and in data.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Model => "model",
            Self::Server => "server",
            Self::Plan => "plan",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago, at most 24 days.
    Ago(Duration),
    /// From its midnight on, in UTC.
    Day(Date),
}

impl Since {
    /// The first hour that counts.
    pub fn hour(self, now: Timestamp) -> Hour {
        let at = match self {
            Self::Ago(length) => now.checked_sub(length).unwrap_or(Timestamp::MIN),
            Self::Day(date) => {
                date.to_zoned(jiff::tz::TimeZone::UTC).map_or(Timestamp::MAX, |midnight| midnight.timestamp())
            }
        };
        Hour::of(at)
    }
}

fn since(text: &str) -> Result<Since, String> {
    match date(text) {
        Some(date) => Ok(Since::Day(date)),
        None if text.len() == 10 && text.matches('-').count() == 2 => {
            Err(format!("there is no day {text}: it is one such as 2026-11-01"))
        }
        None => duration(text).map(Since::Ago).map_err(|why| format!("{why}; or it is a day, such as 2026-11-01")),
    }
}

/// `2026-11-01`, and no other form.
fn date(text: &str) -> Option<Date> {
    let date = text.parse::<Date>().ok()?;
    (date.to_string() == text).then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    fn parsed(words: &[&str]) -> Option<Usage> {
        match Cli::try_parse_from([&["hapilot", "usage"], words].concat()).ok()?.command {
            Command::Usage(options) => Some(options),
            _ => None,
        }
    }

    #[test]
    fn the_hour_in_which_a_time_falls_counts_whole() {
        let now = "2026-11-30T13:59:59Z".parse().unwrap();
        for (text, hour) in [
            ("0s", "2026-11-30T13"),
            ("1h", "2026-11-30T12"),
            ("1d", "2026-11-29T13"),
            ("24d", "2026-11-06T13"),
            ("2026-11-01", "2026-11-01T00"),
            ("2027-01-01", "2027-01-01T00"),
        ] {
            assert_eq!(since(text).unwrap().hour(now).to_string(), hour, "{text}");
        }
        for text in ["", "25d", "2026-11", "2026-11-31", "2026-11-01T10:00", "20261101", "yesterday"] {
            assert!(since(text).unwrap_err().contains("2026-11-01"), "{text}");
        }
    }

    #[test]
    fn columns_are_a_list_or_said_again_and_data_has_one_form() {
        assert_eq!(parsed(&[]).unwrap().by, [By::Client]);
        assert_eq!(parsed(&["--by", "client,model"]).unwrap().by, [By::Client, By::Model]);
        assert_eq!(parsed(&["--by", "day", "--by", "hour"]).unwrap().by, [By::Day, By::Hour]);
        for wrong in [&["--by", "month"][..], &["--csv", "--json"], &["--client", "a b"], &["--by", ""]] {
            assert!(parsed(wrong).is_none(), "{wrong:?}");
        }
    }
}
