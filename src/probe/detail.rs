//! The one line for people: short, printable, and never with a key in it.

use crate::model::Secret;
use crate::sys;

/// Longest line, in characters.
pub const MAX_DETAIL: usize = 300;

/// Makes any text one clean line: control characters become blanks, the key becomes `[key]`, the rest is cut.
pub fn detail_line(text: &str, key: Option<&Secret>) -> String {
    // More than enough to fill the line, so that a body of a megabyte is not copied three times.
    let mut line: String = text.chars().take(16_384).map(|c| if unprintable(c) { ' ' } else { c }).collect();
    // Before and after blanks are joined: either may bring the key to light.
    let redact = |line: String| key.map_or(line.clone(), |key| line.replace(key.expose(), "[key]"));
    line = redact(line).split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    // Of others: a gateway may repeat any key that ever reached it.
    line = sys::redact::redact(redact(line));
    match line.char_indices().nth(MAX_DETAIL) {
        None => line,
        Some(_) => line.chars().take(MAX_DETAIL - 1).chain(['…']).collect(),
    }
}

/// Control characters, and those that turn the direction of a terminal's text or hide in it.
fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, proptest};

    #[test]
    fn a_body_that_repeats_the_key_does_not_show_it() {
        let key = Secret::new("sk-secret-1".into()).unwrap();
        let line = detail_line("HTTP 401:\n\tIncorrect key sk-secret-1\u{1b}[31m given", Some(&key));
        assert_eq!(line, "HTTP 401: Incorrect key [key] [31m given");
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_short_line_without_the_key(text in "\\PC{0,400}|(sk-1234|\n| |x){0,200}") {
            let key = Secret::new("sk-1234".into()).unwrap();
            let line = detail_line(&text, Some(&key));
            prop_assert!(line.chars().count() <= MAX_DETAIL);
            prop_assert!(!line.contains("sk-1234") && !line.chars().any(char::is_control), "{line}");
        }
    }
}
