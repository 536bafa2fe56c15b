//! Rates as the operator writes them: `60/1m`.

use super::{Refused, format_duration, parse_duration};
use std::fmt;
use std::time::Duration;

/// So many events in a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events allowed in the window, 1 to 1,000,000,000.
    pub count: u32,
    /// Length of the window, 1 s to 24 h.
    pub window: Duration,
}

impl std::str::FromStr for Rate {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        let form = || Refused::new("a rate is a count and a window, such as \"100/10s\" or \"60/1m\"");
        let (count, window) = text.split_once('/').ok_or_else(form)?;
        let count: u32 = count.parse().map_err(|_| form())?;
        let window = parse_duration(window).map_err(|_| form())?;
        if !(1..=1_000_000_000).contains(&count) {
            return Err(Refused::new("the count of a rate lies between 1 and 1000000000"));
        }
        if window < Duration::from_secs(1) || window > Duration::from_secs(86_400) {
            return Err(Refused::new("the window of a rate lies between 1s and 24h"));
        }
        Ok(Self { count, window })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, format_duration(self.window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_count_and_a_window() {
        assert_eq!("100/10s".parse(), Ok(Rate { count: 100, window: Duration::from_secs(10) }));
        for text in ["100", "100/", "/10s", "0/1s", "1/0s", "1/500ms", "1/2d", "x/1s", "1/1s/1s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
