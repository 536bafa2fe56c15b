//! The words of a line.
//!
//! | Spelt | Outside of quotes | In `"` | In `'` |
//! |---|---|---|---|
//! | blank | ends the word | itself | itself |
//! | `#` | ends the line | itself | itself |
//! | `\ ` `\\` `\#` `\'` `\"` | the second one | the second one | both |
//! | `\t` `\n` `\r` `\x41` | tab, newline, return, `A` | the same | both |
//! | `\$` | both | `$` | both |
//! | another `\` | itself | itself | itself |
//! | `$A` `${A}` | itself | from the environment | itself |
//! | carriage return | behind a blank is one, else ends the line | an open quote | an open quote |

use std::borrow::Cow;

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// As the file spells it.
    pub spelt: &'a str,
    /// What it says. `None` where only HAProxy's environment can tell, or HAProxy refuses the line at this word.
    pub said: Option<Cow<'a, str>>,
}

impl Word<'_> {
    /// Whether it holds a text; where it cannot be told, whether it is spelt with it.
    pub fn has(&self, text: &str) -> bool {
        self.said.as_deref().unwrap_or(self.spelt).contains(text)
    }
}

/// The words of a line, or of the rest of one, one after the other.
///
/// A word from the environment may be several for HAProxy (`"${A[*]}"`), or none. An empty word is one here too,
/// though for HAProxy most lines end there. The limit of 64 words is not held.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    rest: &'a str,
}

/// The words of a line, or of a part of one that begins outside of quotes.
pub fn words(line: &str) -> Words<'_> {
    Words { rest: line }
}

/// All that the words say; `None` where one cannot be told.
pub fn words_of(line: &str) -> Option<Vec<String>> {
    words(line).map(|word| Some(word.said?.into_owned())).collect()
}

impl<'a> Words<'a> {
    /// What was not read yet.
    pub fn rest(&self) -> &'a str {
        self.rest
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    #[inline]
    fn next(&mut self) -> Option<Word<'a>> {
        let text = without_blanks(self.rest);
        let plain = text.bytes().position(|byte| ENDS_PLAIN[usize::from(byte)]).unwrap_or(text.len());
        let (end, said) = match text.as_bytes().get(plain) {
            Some(b'"' | b'\'' | b'\\' | 0) => Spelling::read(text),
            _ => (plain, Some(Cow::Borrowed(&text[..plain]))),
        };
        let (spelt, rest) = text.split_at(end);
        // Behind a comment's mark and a carriage return is nothing.
        self.rest = if rest.bytes().next().is_some_and(is_blank) { rest } else { "" };
        (!spelt.is_empty()).then_some(Word { spelt, said })
    }
}

/// A text from its first byte on that parts no words. Among blanks a carriage return is one.
fn without_blanks(text: &str) -> &str {
    let blanks = text.bytes().position(|byte| !is_blank(byte) && byte != b'\r').unwrap_or(text.len());
    &text[blanks..]
}

/// What parts words.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c)
}

/// What ends a word that is spelt as what it says, or makes it one that is not: by byte, as every byte is asked.
const ENDS_PLAIN: [bool; 256] = {
    let mut ends = [false; 256];
    let marks = b" \t\x0b\x0c#\r\n\"'\\\0";
    let mut at = 0;
    while at < marks.len() {
        ends[marks[at] as usize] = true;
        at += 1;
    }
    ends
};

/// A word with quotes or escapes as it is read.
struct Spelling<'a> {
    text: &'a [u8],
    at: usize,
    said: Vec<u8>,
    /// Nothing of it is from the environment.
    is_plain: bool,
}

/// HAProxy refuses the line.
struct Refused;

impl Spelling<'_> {
    /// Where the word in front of a text ends, and what it says.
    fn read(text: &str) -> (usize, Option<Cow<'_, str>>) {
        let mut word = Spelling { text: text.as_bytes(), at: 0, said: Vec::new(), is_plain: true };
        match word.outside() {
            Ok(()) => {
                let said = String::from_utf8(word.said).ok().filter(|said| word.is_plain && !said.contains('\0'));
                (word.at, said.map(Cow::Owned))
            }
            Err(Refused) => (text.len(), None),
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn outside(&mut self) -> Result<(), Refused> {
        while let Some(byte) = self.peek() {
            if is_blank(byte) || matches!(byte, b'#' | b'\r' | b'\n') {
                break;
            }
            self.at += 1;
            match byte {
                b'"' => self.in_double_quotes()?,
                b'\'' => self.in_single_quotes()?,
                b'\\' => self.escape(false)?,
                0 => return Err(Refused),
                other => self.said.push(other),
            }
        }
        Ok(())
    }

    fn in_single_quotes(&mut self) -> Result<(), Refused> {
        loop {
            match self.next() {
                Some(b'\'') => return Ok(()),
                None | Some(b'\r' | b'\n' | 0) => return Err(Refused),
                Some(other) => self.said.push(other),
            }
        }
    }

    fn in_double_quotes(&mut self) -> Result<(), Refused> {
        loop {
            match self.next() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape(true)?,
                Some(b'$') => self.variable()?,
                None | Some(b'\r' | b'\n' | 0) => return Err(Refused),
                Some(other) => self.said.push(other),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, is_quoted: bool) -> Result<(), Refused> {
        let said = match self.peek() {
            Some(same @ (b' ' | b'\\' | b'#' | b'\'' | b'"')) => same,
            Some(b'$') if is_quoted => b'$',
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b'x') => {
                let digit = |at: usize| (*self.text.get(at)? as char).to_digit(16);
                let (Some(high), Some(low)) = (digit(self.at + 1), digit(self.at + 2)) else { return Err(Refused) };
                self.at += 2;
                u8::try_from(high * 16 + low).map_err(|_| Refused)?
            }
            _ => {
                self.said.push(b'\\');
                return Ok(());
            }
        };
        self.at += 1;
        self.said.push(said);
        Ok(())
    }

    /// What follows a `$` in double quotes.
    fn variable(&mut self) -> Result<(), Refused> {
        self.is_plain = false;
        let is_braced = self.peek() == Some(b'{');
        self.at += usize::from(is_braced);
        if !self.peek().is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, b'_' | b'.')) {
            return Err(Refused);
        }
        if !is_braced {
            return Ok(());
        }
        loop {
            match self.next() {
                Some(b'}') => return Ok(()),
                None | Some(b'\r' | b'\n' | 0) => return Err(Refused),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{words, words_of};

    #[track_caller]
    fn check(line: &str, expected: Option<&[&str]>) {
        let expected = expected.map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(words_of(line), expected, "{line}");
    }

    #[test]
    fn words_are_read_as_haproxy_reads_them() {
        check("", Some(&[]));
        check("  # nothing", Some(&[]));
        check("127.0.0.1:1 weight  5 # end", Some(&["127.0.0.1:1", "weight", "5"]));
        check("a\tb\x0bc\x0cd\u{a0}e#f", Some(&["a", "b", "c", "d\u{a0}e"]));
        check(r#"sni 'str("a b")' x"\"y"'z'"#, Some(&["sni", r#"str("a b")"#, "x\"yz"]));
        check(r#"a"'"b a'"'b "a#b" 'a#b' a"" '' """#, Some(&["a'b", "a\"b", "a#b", "a#b", "a", "", ""]));
        check("\r a\rb c", Some(&["a"]));
        check("a \rb\t\r c\r d", Some(&["a", "b", "c"]));
        check("a\\\r", Some(&["a\\"]));
    }

    #[test]
    fn escapes_are_read_as_haproxy_reads_them() {
        check(r#"a\ b a\#b a\'b a\"b a\\b"#, Some(&["a b", "a#b", "a'b", "a\"b", r"a\b"]));
        check(r"a\tb a\nb a\rb a\x41b \xc3\xa4", Some(&["a\tb", "a\nb", "a\rb", "aAb", "ä"]));
        check(r#""a\tb\x41\ \q\'\"\#""#, Some(&["a\tbA \\q'\"#"]));
        check(r"'a\tb\x4' 'a\'b", Some(&[r"a\tb\x4", r"a\b"]));
        check(r"a\qb \é a\,b \", Some(&[r"a\qb", r"\é", r"a\,b", r"\"]));
        check(r"a\$b", Some(&[r"a\$b"]));
        check(r#""a\$b""#, Some(&["a$b"]));
    }

    #[test]
    fn what_only_the_environment_can_tell_is_not_told() {
        check(r#""${HOME}""#, None);
        check(r#"a"$HOME"b"#, None);
        check(r"${HOME} a$HOME '$HOME'", Some(&["${HOME}", "a$HOME", "$HOME"]));
        let found: Vec<_> = words(r#"bind "${A-b"c} d"e ssl"#).collect();
        assert_eq!(found.len(), 3);
        assert_eq!((found[1].spelt, &found[1].said), (r#""${A-b"c} d"e"#, &None));
        assert_eq!(found[2].said.as_deref(), Some("ssl"));
    }

    #[test]
    fn what_haproxy_refuses_is_not_told() {
        for line in [
            "'open",
            "\"open",
            "\"open\\\"",
            "a\"b\rc\"",
            r"a\x4",
            r"a\xZZ",
            r"\xé",
            "\"$\"",
            "\"$1\"",
            "\"${A\"",
            "a\0b",
            r"\x00",
            r"\xc3",
        ] {
            check(line, None);
        }
    }
}
