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

/// The same of a text with colours of our own, which stay.
pub fn visible_in_colors(text: &str) -> String {
    let mut pieces = text.split('\u{1b}');
    let mut shown = visible(pieces.next().unwrap_or_default());
    for piece in pieces {
        let is_style = |style: &str| style.chars().all(|c| c.is_ascii_digit() || c == ';');
        let style = piece.strip_prefix('[').and_then(|piece| piece.split_once('m'));
        match style.filter(|(style, _)| is_style(style)) {
            Some((style, rest)) => shown.extend(["\u{1b}[", style, "m", &visible(rest)]),
            None => shown.extend(["\\u{1b}", &visible(piece)]),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{visible, visible_in_colors};

    #[test]
    fn colours_stay_and_nothing_else() {
        let painted = "a\u{1b}[1m\u{1b}[91mb\u{1b}[0m\u{1b}[2Jc\u{1b}]0;t\u{7}\u{1b}";
        assert_eq!(visible_in_colors(painted), "a\u{1b}[1m\u{1b}[91mb\u{1b}[0m\\u{1b}[2Jc\\u{1b}]0;t\\u{7}\\u{1b}");
    }

    #[test]
    fn a_terminal_is_told_nothing_but_text() {
        assert_eq!(visible("a\u{1b}[31m\u{7}b\r\n\tü\u{9b}"), "a\\u{1b}[31m\\u{7}b\\r\n\tü\\u{9b}");
    }
}
