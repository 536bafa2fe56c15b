//! Server-sent events from bytes, however they are cut into pieces.
//!
//! Pure and bounded: knows the event-stream grammar, not what the events mean. Called by `chat`.
//!
//! **Source**: WHATWG HTML, 9.2.5 and 9.2.6.

/// One event: its type (empty for the default, `message`) and its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field.
    pub name: String,
    /// The `data` lines, joined by line feeds.
    pub data: String,
}

/// Why a stream is no event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// One event is longer than the limit.
    #[error("one event is longer than {MAX_EVENT} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("an event is not UTF-8")]
    NotUtf8,
}

/// Longest event, in bytes with its field names.
pub const MAX_EVENT: usize = 1 << 20;

/// An incremental parser: feed it pieces as they come, and tell it when the stream has ended.
#[derive(Debug, Default)]
pub struct SseParser {
    /// The line that is not yet ended.
    line: Vec<u8>,
    /// The event that is not yet ended, and its size so far.
    event: SseEvent,
    has_data: bool,
    size: usize,
    /// The last byte was a carriage return: a line feed right after it belongs to it.
    after_cr: bool,
    /// A byte order mark may still come.
    begun: bool,
}

impl SseParser {
    /// Takes the next piece and returns the events that it completes.
    ///
    /// # Errors
    /// See [`SseError`]; the stream is of no further use then.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<SseEvent>, SseError> {
        let mut events = Vec::new();
        let mut rest = piece;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let taken = &rest[..end.unwrap_or(rest.len())];
            self.size += taken.len();
            if self.size > MAX_EVENT {
                return Err(SseError::TooLong);
            }
            self.line.extend_from_slice(taken);
            let Some(end) = end else { break };
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            events.extend(self.end_line()?);
        }
        Ok(events)
    }

    /// Ends the stream: an event without its empty line counts too, for some servers forget the last one.
    ///
    /// # Errors
    /// See [`SseError`].
    pub fn finish(&mut self) -> Result<Option<SseEvent>, SseError> {
        let last = if self.line.is_empty() { None } else { self.end_line()? };
        Ok(last.or_else(|| self.end_event()))
    }

    fn end_line(&mut self) -> Result<Option<SseEvent>, SseError> {
        let line = std::mem::take(&mut self.line);
        let mut line = std::str::from_utf8(&line).map_err(|_| SseError::NotUtf8)?;
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(self.end_event());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.name),
            // A comment does not add to the event.
            "" => self.size = self.size.saturating_sub(line.len()),
            _ => {}
        }
        Ok(None)
    }

    fn end_event(&mut self) -> Option<SseEvent> {
        self.size = 0;
        let event = std::mem::take(&mut self.event);
        std::mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};

    fn parse(pieces: &[&[u8]]) -> Result<Vec<SseEvent>, SseError> {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(parser.feed(piece)?);
        }
        events.extend(parser.finish()?);
        Ok(events)
    }

    fn data(texts: &[&str]) -> Vec<SseEvent> {
        texts.iter().map(|text| SseEvent { name: String::new(), data: (*text).to_owned() }).collect()
    }

    #[test]
    fn every_line_end_mark_and_comment_of_the_grammar_is_read() {
        for (text, expected) in [
            ("data: a\n\ndata: b\n\n", &["a", "b"][..]),
            ("data:a\r\n\r\ndata: b\r\r", &["a", "b"]),
            ("\u{feff}data: a\n\n", &["a"]),
            (": ping\n\n: ping\n\n", &[]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            ("data\n\n", &[""]),
            ("id: 7\nretry: 3\n\n", &[]),
            ("data: no last empty line", &["no last empty line"]),
            ("data: a\n: comment inside\n\n", &["a"]),
            ("", &[]),
        ] {
            assert_eq!(parse(&[text.as_bytes()]).unwrap(), data(expected), "{text:?}");
        }
        let named = parse(&[b"event: error\ndata: x\n\n"]).unwrap();
        assert_eq!(named, [SseEvent { name: "error".into(), data: "x".into() }]);
    }

    #[test]
    fn an_event_of_megabytes_is_refused_however_it_comes() {
        let long = vec![b'x'; MAX_EVENT + 1];
        assert_eq!(parse(&[b"data: ", &long]), Err(SseError::TooLong));
        let line = [b"data: ".as_slice(), &[b'x'; 1000], b"\n"].concat();
        assert_eq!(parse(&vec![line.as_slice(); 2000]), Err(SseError::TooLong));
        // Comments alone never add up: a keep-alive may go on for hours.
        let comment = [b":".as_slice(), &[b'x'; 1000], b"\n"].concat();
        assert_eq!(parse(&vec![comment.as_slice(); 2000]), Ok(vec![]));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        assert_eq!(parse(&[b"data: \xff\n\n"]), Err(SseError::NotUtf8));
    }

    fn grammar() -> impl Strategy<Value = Vec<u8>> {
        let part = prop::sample::select(vec![
            "data: ", "data:", "event: e", ": c", "\n", "\r", "\r\n", "x", "é", " ", "\u{feff}", "[DONE]", "id", ":",
        ]);
        prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events(text in grammar(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
            let whole = parse(&[&text]);
            let mut at: Vec<usize> = cuts.iter().map(|i| i.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            prop_assert_eq!(parse(&pieces), whole.clone());
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            prop_assert_eq!(parse(&bytes), whole);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = parse(&[&bytes]);
        }
    }
}
