//! What a client has spent in the day and in the month that it is.

use super::hour::Hour;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// For how long a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// Of UTC.
    Day,
    /// Of the calendar, in UTC.
    Month,
}

impl Period {
    /// As the operator writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The one that an hour lies in, as HAProxy's rules number it: days since 1970, or the month such as 202611.
    pub fn number(self, hour: Hour) -> i64 {
        match self {
            Self::Day => hour.0.div_euclid(24),
            Self::Month => {
                let date = hour.begin().to_zoned(jiff::tz::TimeZone::UTC).date();
                i64::from(date.year()) * 100 + i64::from(date.month())
            }
        }
    }
}

/// The sums of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Which, see [`Period::number`].
    pub number: i64,
    /// What was spent, in billionths of a US dollar.
    pub nano_usd: u64,
    /// Of that, what HAProxy's own counters do not know.
    pub late_nano_usd: u64,
}

/// Of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    day: Window,
    month: Window,
}

impl Spent {
    /// Adds what was spent in an hour. What lies before the window that is known counts no more.
    pub fn add(&mut self, hour: Hour, nano_usd: u64, late_nano_usd: u64) {
        for (window, period) in [(&mut self.day, Period::Day), (&mut self.month, Period::Month)] {
            let number = period.number(hour);
            if number > window.number {
                *window = Window { number, ..Window::default() };
            }
            if number == window.number {
                window.nano_usd = window.nano_usd.saturating_add(nano_usd);
                window.late_nano_usd = window.late_nano_usd.saturating_add(late_nano_usd);
            }
        }
    }

    /// In the window that an hour lies in.
    pub fn in_window(&self, period: Period, hour: Hour) -> Window {
        let window = match period {
            Period::Day => self.day,
            Period::Month => self.month,
        };
        let number = period.number(hour);
        if window.number == number {
            // What was found to lack in a month was not all spent today.
            Window { late_nano_usd: window.late_nano_usd.min(window.nano_usd), ..window }
        } else {
            Window { number, ..Window::default() }
        }
    }
}

/// What a client was forgiven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgiven {
    /// What the operator's file says: until when.
    pub since: Timestamp,
    /// How often so far.
    pub count: u32,
    /// What it had spent by then.
    pub spent: Spent,
}

impl Window {
    /// As HAProxy's rules number it, for who was forgiven so often.
    pub fn tag(self, forgiven: u32) -> i64 {
        self.number * 1000 + i64::from(forgiven % 1000)
    }

    /// What HAProxy's own counters should know.
    pub fn known_nano_usd(self) -> u64 {
        self.nano_usd.saturating_sub(self.late_nano_usd)
    }

    /// Without what was spent in the same window by then.
    #[must_use]
    pub fn without(self, forgiven: Self) -> Self {
        if forgiven.number != self.number {
            return self;
        }
        let nano_usd = self.nano_usd.saturating_sub(forgiven.nano_usd);
        Self { nano_usd, late_nano_usd: self.late_nano_usd.saturating_sub(forgiven.late_nano_usd), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(text: &str) -> Hour {
        Hour::of(text.parse().unwrap())
    }

    #[test]
    fn a_day_and_a_month_begin_anew() {
        let mut spent = Spent::default();
        spent.add(hour("2026-11-29T23:59:59Z"), 5, 1);
        spent.add(hour("2026-11-30T00:00:00Z"), 7, 0);
        let at = |period, text: &str, spent: &Spent| {
            let window = spent.in_window(period, hour(text));
            (window.number, window.nano_usd, window.late_nano_usd)
        };
        assert_eq!(at(Period::Month, "2026-11-30T12:00:00Z", &spent), (202_611, 12, 1));
        assert_eq!(at(Period::Day, "2026-11-30T12:00:00Z", &spent), (20_787, 7, 0));
        assert_eq!(at(Period::Day, "2026-12-01T00:00:00Z", &spent), (20_788, 0, 0));
        spent.add(hour("2026-12-01T00:00:00Z"), 2, 0);
        assert_eq!(at(Period::Month, "2026-12-01T00:00:00Z", &spent), (202_612, 2, 0));
        // A line that comes late is of a window that is over.
        spent.add(hour("2026-11-30T23:00:00Z"), 100, 0);
        assert_eq!(at(Period::Month, "2026-12-31T23:00:00Z", &spent), (202_612, 2, 0));
    }
}
