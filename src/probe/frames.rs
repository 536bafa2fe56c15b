//! Amazon's event stream from bytes, however they are cut into pieces.
//!
//! Pure and bounded: knows the frames, not what the events mean. Checksums are not compared: TLS and TCP have theirs, and
//! what a wrong length does is bounded. Called by `chat`.
//!
//! **Source**: Smithy, "Amazon Event Stream Specification".

use super::sse::{MAX_EVENT, SseEvent};

/// Total length, length of the headers, checksum of both.
const PRELUDE: usize = 12;
/// The checksum at the end.
const TRAILER: usize = 4;

/// An incremental parser.
#[derive(Debug, Default)]
pub(super) struct FrameParser {
    pending: Vec<u8>,
}

impl FrameParser {
    /// Takes the next piece and returns the events that it completes; an exception's name is `error`, as in SSE.
    ///
    /// # Errors
    /// What is wrong, for people; the stream is of no further use then.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Vec<SseEvent>, String> {
        self.pending.extend_from_slice(piece);
        let mut events = Vec::new();
        let mut at = 0;
        while let Some(frame) = whole_frame(&self.pending[at..])? {
            at += frame.len();
            events.push(event(frame)?);
        }
        self.pending.drain(..at);
        Ok(events)
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// It ended within a frame.
    pub(super) fn finish(&self) -> Result<(), String> {
        if self.pending.is_empty() { Ok(()) } else { Err("the stream ends within a frame".to_owned()) }
    }
}

/// The first frame, where all of it is there.
fn whole_frame(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some(total) = number(bytes, 0) else { return Ok(None) };
    if !(PRELUDE + TRAILER..=MAX_EVENT).contains(&total) {
        return Err(format!("a frame of {total} bytes"));
    }
    Ok(bytes.get(..total))
}

/// A big-endian number of four bytes.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(four)).ok()
}

fn event(frame: &[u8]) -> Result<SseEvent, String> {
    let wrong = || "a frame whose headers do not fit into it".to_owned();
    let headers_end = PRELUDE + number(frame, 4).ok_or_else(wrong)?;
    let payload_end = frame.len() - TRAILER;
    let mut headers = frame[..payload_end].get(PRELUDE..headers_end).ok_or_else(wrong)?;
    let (mut name, mut is_error) = (String::new(), false);
    while !headers.is_empty() {
        let (header, value, rest) = header(headers).ok_or_else(wrong)?;
        headers = rest;
        match header {
            b":event-type" => name = String::from_utf8_lossy(value).into_owned(),
            b":message-type" => is_error = value != b"event",
            _ => {}
        }
    }
    if is_error {
        "error".clone_into(&mut name);
    }
    let data = std::str::from_utf8(&frame[headers_end..payload_end]).map_err(|_| "a frame that is not UTF-8")?;
    Ok(SseEvent { name, data: data.to_owned() })
}

/// Name, value and what follows of the first header.
fn header(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (kind, rest) = rest.split_first()?;
    let (length, rest) = match kind {
        0 | 1 => (0, rest),
        2 => (1, rest),
        3 => (2, rest),
        4 => (4, rest),
        5 | 8 => (8, rest),
        // Bytes and text have their length before them.
        6 | 7 => {
            let (length, rest) = rest.split_at_checked(2)?;
            (usize::from(u16::from_be_bytes(length.try_into().ok()?)), rest)
        }
        9 => (16, rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((name, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in headers {
            block.push(u8::try_from(name.len()).unwrap());
            block.extend_from_slice(name.as_bytes());
            block.push(7);
            block.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
            block.extend_from_slice(value.as_bytes());
        }
        let total = PRELUDE + block.len() + payload.len() + TRAILER;
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&u32::try_from(total).unwrap().to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&block);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    #[test]
    fn frames_become_events_and_exceptions_errors() {
        let stream = [
            frame(&[(":event-type", "messageStop"), (":message-type", "event")], b"{\"a\":1}"),
            frame(&[(":exception-type", "throttlingException"), (":message-type", "exception")], b"{}"),
        ]
        .concat();
        let mut parser = FrameParser::default();
        let events: Vec<SseEvent> = stream.chunks(1).flat_map(|byte| parser.feed(byte).unwrap()).collect();
        let named = |name: &str, data: &str| SseEvent { name: name.to_owned(), data: data.to_owned() };
        assert_eq!(events, [named("messageStop", "{\"a\":1}"), named("error", "{}")]);
        assert_eq!(parser.finish(), Ok(()));
        parser.feed(&stream[..20]).unwrap();
        assert!(parser.finish().is_err());
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let good = frame(&[(":event-type", "x")], b"{}");
        for (at, byte) in [(0, 0xff), (3, 1), (5, 0xff), (7, 0xff), (12, 0xff), (24, 99), (25, 0xff)] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert!(FrameParser::default().feed(&bytes).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 16u8..200) {
            let mut parser = FrameParser::default();
            let _ = parser.feed(&bytes);
            let framed = [&[0, 0, 0, length, 0, 0, 0], bytes.as_slice()].concat();
            let _ = FrameParser::default().feed(&framed);
            prop_assert!(parser.pending.len() <= 300);
        }

        #[test]
        fn any_cut_gives_the_same_events(payload in "\\PC{0,50}", cut in any::<prop::sample::Index>()) {
            let bytes = frame(&[(":event-type", "e"), (":message-type", "event")], payload.as_bytes());
            let (a, b) = bytes.split_at(cut.index(bytes.len()));
            let mut parser = FrameParser::default();
            let mut events = parser.feed(a).unwrap();
            events.extend(parser.feed(b).unwrap());
            prop_assert_eq!(events, vec![SseEvent { name: "e".into(), data: payload }]);
        }
    }
}
