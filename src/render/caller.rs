//! Regular expressions for what a caller must not bring along: who it says it is, and keys in its query.
//!
//! Refuses to know where they are used. Called by `context`, for the templates.

use crate::model::{KEY_HEADERS, PUT_IN_HEADERS, TELLING_HEADERS};
use std::fmt::Write as _;

/// Parameters of a query in which providers take keys. Google takes its own with a `$` before them as well.
const KEY_PARAMETERS: [&str; 7] =
    ["key", "api-key", "api_key", "apikey", "access_token", "oauth_token", "subscription-key"];

/// A header in which a gateway of Azure takes its key, besides those of the providers.
const OTHER_KEY: &str = "ocp-apim-subscription-key";

/// The names of headers that tell who a caller is.
pub(super) fn telling_headers() -> String {
    names(&TELLING_HEADERS)
}

/// Those, and the request id: HAProxy puts in its own.
pub(super) fn replaced_headers() -> String {
    names(&[&TELLING_HEADERS[..], &PUT_IN_HEADERS].concat())
}

/// The names of headers in which some server takes a key, `own` among them.
pub(super) fn key_headers(own: &str) -> String {
    let own = own.to_ascii_lowercase();
    let others = KEY_HEADERS.into_iter().chain([OTHER_KEY]).filter(|header| *header != own);
    names(&std::iter::once(own.as_str()).chain(others).collect::<Vec<_>>())
}

/// One of these headers. Servers that speak CGI or WSGI read `_` and `-` in a name as the same.
fn names(headers: &[&str]) -> String {
    format!("^({})$", headers.join("|").replace(['-', '_'], "[-_]"))
}

/// A key in a query that was decoded: a quick look whether there may be one.
pub(super) fn decoded_key() -> String {
    format!("(^|[&;?])[$]?({})=", KEY_PARAMETERS.join("|"))
}

/// A key in a query as it came, with the separator before it; each letter of its name may be percent-encoded.
///
/// Both are for a match without regard to case. Each alternative begins at a separator and ends at the next one, so that
/// the time is linear in the query. There is no quote, backslash or blank in them: nothing that HAProxy's own quoting
/// reads.
pub(super) fn spelt_key() -> String {
    let names: Vec<String> = KEY_PARAMETERS.iter().map(|name| spelt(name)).collect();
    format!("(^|[&;?])(?:[$]|%24)?(?:{})=[^&;]*", names.join("|"))
}

fn spelt(name: &str) -> String {
    let mut pattern = String::new();
    for byte in name.bytes() {
        let upper = byte.to_ascii_uppercase();
        let other = if upper == byte { String::new() } else { format!("|%{upper:02x}") };
        // A string takes whatever is written to it.
        write!(pattern, "(?:{}|%{byte:02x}{other})", char::from(byte)).expect("a string can be written to");
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::{decoded_key, key_headers, replaced_headers, spelt_key};
    use regex::Regex;

    #[test]
    fn keys_are_found_in_every_place_and_spelling_of_a_query_and_nothing_else() {
        let found = Regex::new(&format!("(?i){}", spelt_key())).unwrap();
        assert!(Regex::new(&decoded_key()).unwrap().is_match("a=1;api_key=S"));
        let rest = |query: &str| found.replace_all(query, "").into_owned();
        for (query, left) in [
            ("key=S", ""),
            ("a=1&key=S&b=2", "a=1&b=2"),
            ("key=S&a=1", "&a=1"),
            ("a=1;KEY=S;b=2", "a=1;b=2"),
            ("%6bey=S&k%65%79=S&%4Bey=S&a=1", "&a=1"),
            ("api-key=S&api%5Fkey=S&access_token=S&$key=S&%24key=S", ""),
            ("key=", ""),
            ("monkey=1&keys=2&key&a=key=3", "monkey=1&keys=2&key&a=key=3"),
        ] {
            assert_eq!(rest(query), left, "{query}");
        }
    }

    #[test]
    fn keys_are_found_in_every_header_and_both_spellings() {
        let keys = Regex::new(&key_headers("X-House-Key")).unwrap();
        for name in ["x-house-key", "x_house_key", "authorization", "x_api_key", "api-key", "ocp-apim-subscription-key"]
        {
            assert!(keys.is_match(name), "{name}");
        }
        for name in ["x-house-keys", "anthropic-version", "my-api-key", "content-type"] {
            assert!(!keys.is_match(name), "{name}");
        }
    }

    #[test]
    fn no_header_of_an_api_is_taken_for_one_that_tells_who_asks() {
        let told = Regex::new(&replaced_headers()).unwrap();
        for name in [
            "x-forwarded-for",
            "forwarded",
            "x_forwarded_for",
            "x_real_ip",
            "forwarded-for",
            "connection",
            "x-request-id",
        ] {
            assert!(told.is_match(name), "{name}");
        }
        for name in ["host", "authorization", "x-request-ids", "openai-organization", "user-agent", "x-forward"] {
            assert!(!told.is_match(name), "{name}");
        }
    }
}
