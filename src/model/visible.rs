//! Texts that came from somebody else, for a terminal or a log.

/// The text with every control character but line breaks and tabs spelt out: `\u{1b}`. A terminal would obey it.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && !matches!(c, '\n' | '\t') {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn a_terminal_is_told_nothing_but_text() {
        assert_eq!(visible("a\u{1b}[31m\u{7}b\r\n\tü\u{9b}"), "a\\u{1b}[31m\\u{7}b\\r\n\tü\\u{9b}");
    }
}
