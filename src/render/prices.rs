//! What tokens cost, and what clients have spent, as data for HAProxy.

use crate::config::{Config, Price};
use jiff::civil::date;
use jiff::tz::TimeZone;

/// The years whose months HAProxy knows the end of.
const YEARS: std::ops::Range<i16> = 2026..2076;

/// What a price is in the map: of a token of the prompt, out of the cache, into it, of the answer.
fn text(price: &Price) -> String {
    let Price { input, cached, cache_write, output } = price;
    format!("{input}:{cached}:{cache_write}:{output}")
}

/// The prices, for a lookup by the longest begin: `/MODEL|` wherever nothing is said for the server, `BACKEND/SERVER/MODEL|`
/// there, where a `|` ends a whole name; and what a server's tokens cost else, `=BACKEND/SERVER|`.
pub(super) fn entries(config: &Config) -> Vec<(String, String)> {
    let by_model = config.prices.iter().map(|entry| {
        let place = entry.server.as_ref().map(|server| server.value.to_string()).unwrap_or_default();
        let model = &entry.model.value;
        let model = model.strip_suffix('*').map_or_else(|| format!("{model}|"), str::to_owned);
        (format!("{place}/{model}"), text(&entry.price))
    });
    let of_servers = config.servers().filter_map(|(backend, server)| {
        Some((format!("={}/{}|", backend.name, server.name), text(server.price.as_ref()?)))
    });
    by_model.chain(of_servers).collect()
}

/// When each month is over, in seconds since 1970, by its number such as `202611`.
pub(super) fn months() -> Vec<(String, String)> {
    let months = YEARS.flat_map(|year| (1..=12_i8).map(move |month| (year, month)));
    let end = |(year, month): (i16, i8)| {
        let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        let at = date(next_year, next, 1).to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
        Some((format!("{year}{month:02}"), at.to_string()))
    };
    months.filter_map(end).collect()
}

#[cfg(test)]
mod tests {
    use super::months;

    #[test]
    fn months_end_where_the_next_one_begins() {
        let months = months();
        assert_eq!(months.len(), 600);
        assert_eq!(months[10], ("202611".to_owned(), "1796083200".to_owned()));
        assert_eq!(months[11], ("202612".to_owned(), "1798761600".to_owned()));
    }
}
