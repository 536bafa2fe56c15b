//! How a stream begins that is none: what HAProxy looks for in the first bytes behind the header.

use crate::render::value::ContextMap;
use tera::Value;

/// An event that is an error, behind a byte order mark, empty lines and comments: a name says so, or `error` is an object
/// or a text that is not empty (`"error":null` is none). One way to read each byte, so that no input makes it slow.
const ERROR: &str = r#"^[^ -~]*((:|id:|retry:)[ -~]*[^ -~]+|event: ?message[^ -~]+)*(event: ?error|data:[ \t]*\{[ \t]*("error"[ \t]*:[ \t]*(\{|"[^"])|"type"[ \t]*:[ \t]*"error"))"#;
/// A line that is not ended, and no comment.
const HALF: &str = "^[!-9;-~][ -~]{0,30}$";
/// The first line of the first event, behind all that [`ERROR`] skips: ended, or longer than what tells.
const EVENT: &str = r"^[^ -~]*((:|id:|retry:)[ -~]*[^ -~]+|event: ?message[^ -~]+)*(?!id:|retry:|event: ?message([^ -~]|$))[!-9;-~]([ -~]{31}|[ -~]{0,30}[^ -~])";
/// Of a line that is not ended, so much tells.
const ENOUGH: u32 = 32;

/// What the templates see of it.
pub(super) fn stream_begin() -> Value {
    ContextMap::default().with("error", ERROR).with("half", HALF).with("event", EVENT).with("enough", ENOUGH).into()
}

#[cfg(test)]
mod tests {
    use super::{ENOUGH, ERROR, HALF};
    use regex::Regex;

    #[test]
    fn only_an_error_is_one() {
        let error = Regex::new(ERROR).unwrap();
        for bad in [
            "data: {\"error\":{}",
            "data:{\"type\": \"error\"",
            "event:error",
            "\r\n: a\r\n\r\nevent: error",
            "data: {\"error\":\"x\"",
            "id: 1\nretry: 100\ndata: {\"error\":{",
            "event: message\ndata:\t{\"error\":{",
        ] {
            assert!(error.is_match(bad), "{bad:?}");
        }
        for good in [
            "data: {\"error\":null",
            "data: {\"error\":\"\"",
            ": event: error\n\ndata: {\"id\"",
            "data: \"error\"",
            "id: event: error\ndata: {}",
            "event: message_start\ndata: {\"error\":{",
            "",
        ] {
            assert!(!error.is_match(good), "{good:?}");
        }
    }

    #[test]
    fn half_a_line_is_shorter_than_what_tells() {
        let half = Regex::new(HALF).unwrap();
        assert!(half.is_match("da") && half.is_match(&"x".repeat(ENOUGH as usize - 1)));
        for whole in [": ping", "\n", "data: 1\n\n", "", &"x".repeat(ENOUGH as usize)] {
            assert!(!half.is_match(whole), "{whole:?}");
        }
    }
}
