//! Names in a list of models that is too long to be kept: JSON read piece by piece, of which only strings are looked at.
//!
//! Pure. Refuses to know where the pieces come from. Called by `list`.

/// Longest name that can be one of a model; a longer string is no name.
const MAX_NAME: usize = 1024;

/// Looks for names under one key, and for those that are missing yet.
#[derive(Debug)]
pub(super) struct Names<'a> {
    key: &'a str,
    missing: Vec<&'a str>,
    /// How many names were seen.
    pub(super) seen: usize,
    /// The string at hand, without its quotes; `None` between strings.
    text: Option<Vec<u8>>,
    is_escaped: bool,
    /// The last token was the key.
    after_key: bool,
    /// The last tokens were the key and a colon.
    is_value: bool,
}

impl<'a> Names<'a> {
    /// Looks for names under `key`; `expected` are those that must be among them.
    pub(super) fn new(key: &'a str, expected: &'a [String]) -> Self {
        let missing = expected.iter().map(String::as_str).collect();
        Self { key, missing, seen: 0, text: None, is_escaped: false, after_key: false, is_value: false }
    }

    /// The first expected name that was not seen yet.
    pub(super) fn missing(&self) -> Option<&'a str> {
        self.missing.first().copied()
    }

    /// Takes the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        for &byte in piece {
            match &mut self.text {
                Some(_) if byte == b'"' && !self.is_escaped => self.string_ended(),
                Some(text) => {
                    self.is_escaped = byte == b'\\' && !self.is_escaped;
                    // One more byte than a name has tells that it is none.
                    if text.len() <= MAX_NAME {
                        text.push(byte);
                    }
                }
                None if byte == b'"' => self.text = Some(Vec::new()),
                None if byte.is_ascii_whitespace() => {}
                None => {
                    self.is_value = byte == b':' && self.after_key;
                    self.after_key = false;
                }
            }
        }
    }

    fn string_ended(&mut self) {
        let text = self.text.take().unwrap_or_default();
        let is_value = std::mem::take(&mut self.is_value);
        let whole = (text.len() <= MAX_NAME).then(|| [b"\"", text.as_slice(), b"\""].concat());
        let name = whole.and_then(|json| serde_json::from_slice::<String>(&json).ok());
        self.after_key = !is_value && name.as_deref() == Some(self.key);
        if let (true, Some(name)) = (is_value, name) {
            self.seen += 1;
            self.missing.retain(|model| !is_called(&name, model));
        }
    }
}

/// Whether a listed name is the expected one: Ollama adds a tag, Gemini says `models/…`.
pub(super) fn is_called(name: &str, model: &str) -> bool {
    let bare = name.strip_prefix("models/").unwrap_or(name);
    name == model || bare == model || bare.strip_suffix(":latest") == Some(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_or_a_prefix_of_the_providers_is_no_other_model() {
        for (name, model, same) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o-mini", "gpt-4o", false),
            ("llama3:latest", "llama3", true),
            ("llama3:70b", "llama3", false),
            ("models/gemini-2.0-flash", "gemini-2.0-flash", true),
            ("models/gemini-2.0-flash", "models/gemini-2.0-flash", true),
            ("org/model", "model", false),
        ] {
            assert_eq!(is_called(name, model), same, "{name} {model}");
        }
    }

    #[test]
    fn names_are_found_wherever_the_pieces_are_cut() {
        let expected = ["a/b", "é\"x", "last"].map(str::to_owned);
        let text = r#"{"object":"list","id" : 7,"data":[{"id":"a\/b","owned_by":"id"},{"x":"last","id":"\u00e9\"x"},
            {"name":"id","id" :
            "other"}]}"#;
        for size in [1, 2, 7, text.len()] {
            let mut names = Names::new("id", &expected);
            text.as_bytes().chunks(size).for_each(|piece| names.feed(piece));
            assert_eq!((names.seen, names.missing()), (3, Some("last")), "{size}");
            names.feed(br#",{"id":"last"}"#);
            assert_eq!((names.seen, names.missing()), (4, None), "{size}");
        }
    }

    #[test]
    fn what_is_longer_than_a_name_costs_no_more_than_one() {
        let mut names = Names::new("id", &[]);
        names.feed(b"{\"id\":\"");
        names.feed(&vec![b'x'; 1 << 20]);
        assert!(names.text.as_ref().is_some_and(|text| text.len() == MAX_NAME + 1));
        names.feed(b"\"}");
        assert_eq!(names.seen, 0);
    }
}
