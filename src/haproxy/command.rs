//! One command as it travels, so that it arrives as it was meant.
//!
//! HAProxy's command line knows no quotes: a blank ends a word, `;` ends a command, a line break ends the line, and a
//! backslash takes the meaning off the next character. Words that come from outside go through [`word`].

use std::fmt::Write as _;

/// Longest command with its payload, in bytes: HAProxy's default `tune.bufsize` is 16384 and must also hold the
/// terminator. Longer: 2.6 silently drops it, 3.2 refuses it.
pub(super) const MAX_BYTES: usize = 16_000;

/// A command that would not have arrived as it was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CommandRefused(pub(super) String);

/// Checked commands, one after the other as they travel. Has no `Debug`: it may carry secrets.
#[derive(Default)]
pub(super) struct Pipeline {
    wire: String,
    has_payload: Vec<bool>,
}

impl Pipeline {
    /// A single command without parts from outside.
    pub(super) fn of(line: &str) -> Result<Self, CommandRefused> {
        let mut pipeline = Self::default();
        pipeline.push(line)?;
        Ok(pipeline)
    }

    /// Adds a command of one line; its words from outside have gone through [`word`].
    pub(super) fn push(&mut self, line: &str) -> Result<(), CommandRefused> {
        check_line(line)?;
        self.wire.push_str(line);
        self.wire.push('\n');
        self.has_payload.push(false);
        Ok(())
    }

    /// Adds a command with a payload: lines that HAProxy takes as they are, up to an empty one.
    pub(super) fn push_payload(&mut self, line: &str, payload: &str) -> Result<(), CommandRefused> {
        self.push_payload_within(line, payload, MAX_BYTES)
    }

    /// The same within a limit of the caller's, who knows how large this worker's buffer is.
    pub(super) fn push_payload_within(
        &mut self,
        line: &str,
        payload: &str,
        max_bytes: usize,
    ) -> Result<(), CommandRefused> {
        check_line(line)?;
        if payload.lines().any(str::is_empty) || payload.contains(['\0', '\r']) || !payload.ends_with('\n') {
            return Err(CommandRefused("a payload has an empty line or a control character in it".to_owned()));
        }
        if line.len() + payload.len() > max_bytes {
            return Err(CommandRefused(format!("a payload is longer than {max_bytes} bytes")));
        }
        // Writing to a String cannot fail.
        let _ = write!(self.wire, "{line} <<\n{payload}\n");
        self.has_payload.push(true);
        Ok(())
    }

    pub(super) fn wire(&self) -> &[u8] {
        self.wire.as_bytes()
    }

    pub(super) fn has_payload(&self) -> &[bool] {
        &self.has_payload
    }

    pub(super) fn len(&self) -> usize {
        self.has_payload.len()
    }
}

fn check_line(line: &str) -> Result<(), CommandRefused> {
    if line.is_empty() || line.len() > MAX_BYTES {
        return Err(CommandRefused(format!("a command has 1 to {MAX_BYTES} bytes, this one {}", line.len())));
    }
    let mut is_escaped = false;
    for byte in line.bytes() {
        match byte {
            b'\n' | b'\r' | 0 => return Err(CommandRefused("a command has a line break or NUL in it".to_owned())),
            b';' if !is_escaped => return Err(CommandRefused("a command has a ';' in it".to_owned())),
            _ => {}
        }
        is_escaped = byte == b'\\' && !is_escaped;
    }
    Ok(())
}

/// Escapes a word from outside: what HAProxy reads is exactly `text`.
///
/// # Errors
/// Empty, or with a control character, which no name, path, key or value may have.
pub(super) fn word(text: &str) -> Result<String, CommandRefused> {
    if text.is_empty() {
        return Err(CommandRefused("a word of a command is empty".to_owned()));
    }
    if text.chars().any(char::is_control) {
        return Err(CommandRefused("a word of a command has a control character in it".to_owned()));
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"_./:-@#%+=,~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    Ok(escaped)
}

#[cfg(test)]
mod tests {
    use super::{Pipeline, word};

    #[test]
    fn a_second_command_cannot_be_smuggled_in() {
        for line in ["set weight 50; disable frontend fe", "a\nb", "a\rb", "a\0b", "", r"a \\; b", &"x".repeat(16_001)]
        {
            assert!(Pipeline::of(line).is_err(), "{line:?}");
        }
        Pipeline::of(r"add map m a\;b c").unwrap();
        for payload in ["", "a 1", "a 1\n\nb 2\n", "a\r\n", "a\0\n"] {
            assert!(Pipeline::default().push_payload("add map m", payload).is_err(), "{payload:?}");
        }
    }

    #[test]
    fn words_are_escaped_by_backslash() {
        assert_eq!(word("be/s1:8080").unwrap(), "be/s1:8080");
        assert_eq!(word(r"a b;c\d<<é").unwrap(), r"a\ b\;c\\d\<\<é");
        for text in ["", "a\nb", "a\tb", "\u{85}"] {
            assert!(word(text).is_err(), "{text:?}");
        }
    }
}
