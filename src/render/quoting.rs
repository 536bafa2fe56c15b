//! How a text is written so that HAProxy reads it back as it is.
//!
//! Measured against HAProxy 2.6 to 3.4; `tests/it/quoting.rs` holds it against the installed ones. Marks pass through.
//! Refuses to know what the text means. Called by Tera, for each value that a template prints.

use super::marks::is_mark;
use std::borrow::Cow;
use std::io::{self, Write};
use tera::{Kwargs, State, StringInput, Tera, TeraResult, Value};

/// Characters that need no quotes anywhere in a HAProxy file.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.:/@*+=-,[]".contains(c) || is_mark(c)
}

fn is_plain_word(text: &str) -> bool {
    text.chars().any(|c| !is_mark(c)) && text.chars().all(is_plain)
}

/// Always in single quotes: nothing in them has a meaning.
fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r#"'"'"'"#))
}

/// In double quotes, for a template that puts it beside others.
fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '\\' | '"' | '$') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// One word: bare where that is safe, else in single quotes.
pub(super) fn word(text: &str) -> Cow<'_, str> {
    if is_plain_word(text) { Cow::Borrowed(text) } else { Cow::Owned(single_quoted(text)) }
}

/// One word that HAProxy reads as a log-format: `%` stays a `%`.
pub(super) fn log_format(text: &str) -> String {
    word(&text.replace('%', "%%")).into_owned()
}

/// One word that HAProxy reads as a sample expression: the constant `str(…)`.
pub(super) fn sample(text: &str) -> String {
    if is_plain_word(text) && !text.contains([',', '[', ']']) {
        return format!("str({text})");
    }
    single_quoted(&format!("str(\"{}\")", text.replace('\\', r"\\").replace('"', "\\\"")))
}

/// What Tera calls for each value that a template prints without a filter of its own.
pub(super) fn escape(text: &str, out: &mut dyn Write) -> io::Result<()> {
    carried(text).map_err(io::Error::other)?;
    out.write_all(word(text).as_bytes())
}

/// Values of the context were judged when they got their marks; this one may have been put together by a template.
fn carried(text: &str) -> Result<(), String> {
    if !text.contains(['\n', '\r', '\0']) {
        return Ok(());
    }
    // The mark leads whoever reports this to the value's place.
    let mark = text.chars().find(|c| is_mark(*c)).map(String::from).unwrap_or_default();
    Err(format!("{mark}a line break or a NUL character cannot be written into a HAProxy file"))
}

/// Registers the filters `sq`, `dq`, `lf` and `sample`. Their results are not quoted again.
pub(super) fn register(tera: &mut Tera) {
    fn filter(quote: fn(&str) -> String) -> impl Fn(StringInput<'_>, Kwargs, &State<'_>) -> TeraResult<Value> {
        move |input, _, _| {
            carried(input.as_str()).map_err(tera::Error::message)?;
            Ok(Value::safe_string(&quote(input.as_str())))
        }
    }
    tera.register_filter("sq", filter(single_quoted));
    tera.register_filter("dq", filter(double_quoted));
    tera.register_filter("lf", filter(log_format));
    tera.register_filter("sample", filter(sample));
    tera.set_escape_fn(escape);
    // Every name ends with nothing: an operator's template is guarded whatever its file is called.
    tera.autoescape_on([""]);
}

#[cfg(test)]
mod tests {
    use super::{double_quoted, log_format, sample, single_quoted, word};

    #[test]
    fn plain_words_stay_bare_and_everything_else_is_quoted() {
        for plain in ["10.0.0.1:80", "/etc/haproxy/x.pem", "[2001:db8::1]:80", "@system-ca", "TLS_A:TLS_B"] {
            assert_eq!(word(plain), plain);
        }
        assert_eq!(word("two words"), "'two words'");
        assert_eq!(word("a#b"), "'a#b'");
        assert_eq!(word(""), "''");
        assert_eq!(word("it's"), r#"'it'"'"'s'"#);
        assert_eq!(word("ü"), "'ü'");
        assert_eq!(single_quoted("a"), "'a'");
        assert_eq!(double_quoted(r#"a"$\b"#), r#""a\"\$\\b""#);
    }

    #[test]
    fn log_formats_and_samples_keep_their_own_special_characters() {
        assert_eq!(log_format("100% $x"), "'100%% $x'");
        assert_eq!(log_format("api.example"), "api.example");
        assert_eq!(sample("api.example"), "str(api.example)");
        assert_eq!(sample(r#"a,"b\"#), r#"'str("a,\"b\\")'"#);
    }

    #[test]
    fn a_mark_alone_is_not_a_word() {
        assert_eq!(word("\u{F0000}"), "'\u{F0000}'");
        assert_eq!(word("\u{F0000}x"), "\u{F0000}x");
    }
}
