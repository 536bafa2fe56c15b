//! Foreign text on its way out: no secret, no character that anybody obeys, no more than there is room for.

use crate::model::visible;
use crate::sys::redact::redact;

/// A text of some lines.
pub(super) fn clean(text: &str, most: usize) -> String {
    cut(&visible(&redact(text.to_owned())), most)
}

/// The same in one line.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    clean(&words.join(" "), most)
}

/// At most so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::redact::learn;

    #[test]
    fn nothing_that_is_obeyed_and_no_secret_comes_out() {
        learn("alert-line-secret-4711");
        let text = "a\u{1b}[31m b\r\nkey alert-line-secret-4711";
        assert_eq!(one_line(text, 100), "a\\u{1b}[31m b key [secret]");
        assert_eq!(clean("äöü", 2), "äö…");
    }
}
