//! One line of a frontend, as the template writes it.
//!
//! ```text
//! …[hapilot@0 live="FRONTEND NUMBER BACKEND/SERVER STATUS STATE RETRIES Tw Tc Tr Ta BYTES KEY TOKEN ERROR HOP RETRY-AFTER"]…
//! ```
//!
//! Everything but Retry-After is HAProxy's own word: names of the configuration, numbers, fixed letters. Retry-After
//! stands last, and a line that is cut off loses nothing else. Knows the form, not what it means.

use std::fmt;
use std::time::Duration;

/// Longest line that is looked at, in bytes: HAProxy's ring takes 1024, and nobody else writes here.
pub const MAX_LINE: usize = 4096;
/// What stands before the fields.
const MARK: &[u8] = b"[hapilot@0 live=\"";
/// Longest name of a proxy or server that is believed.
const MAX_NAME: usize = 64;

/// How a request ended, as HAProxy tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The frontend, whose lines are numbered.
    pub frontend: &'a str,
    /// The number of this line among those of its frontend and worker, from 0; with several threads a number may come
    /// twice, and another never.
    pub number: u64,
    /// `BACKEND/SERVER`; the server is `<NOSRV>` where none was chosen.
    pub place: &'a str,
    /// What the client got; `None` where that was nothing.
    pub status: Option<u16>,
    /// Why and when the session ended.
    pub state: TerminationState,
    /// Attempts before the last one.
    pub retries: Retries,
    /// In the queue, in the connection, until the response's header; each `None` where it did not come to that.
    pub queue: Option<Duration>,
    /// See `queue`.
    pub connect: Option<Duration>,
    /// See `queue`.
    pub header: Option<Duration>,
    /// The whole request, from its first byte.
    pub total: Option<Duration>,
    /// Bytes sent to the client.
    pub bytes_out: u64,
    /// Which key of the provider was used.
    pub key_id: Option<&'a str>,
    /// Until the first token, where a filter of the template measures it.
    pub first_token: Option<Duration>,
    /// An error came along with the header of the stream.
    pub has_stream_error: bool,
    /// What the hop in between says of an attempt that it answered by itself.
    pub hop: Option<TerminationState>,
    /// The provider's Retry-After, verbatim.
    pub retry_after: Option<&'a str>,
}

/// The two letters of `%ts`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TerminationState(pub [u8; 2]);

impl fmt::Debug for TerminationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", char::from(self.0[0]), char::from(self.0[1]))
    }
}

/// What `%rc` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    /// How many.
    pub count: u32,
    /// The last one went to another server.
    pub is_redispatched: bool,
}

/// A line of ours that has another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Line<'a> {
    /// Reads one line, without its line break. `None`: it is none of ours (HAProxy tells other things there, too).
    ///
    /// # Errors
    /// It is ours and cannot be read, or is longer than [`MAX_LINE`].
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Self>, Malformed> {
        if bytes.len() > MAX_LINE {
            return Err(Malformed);
        }
        let Some(at) = find(bytes, MARK) else { return Ok(None) };
        let fields = &bytes[at + MARK.len()..];
        // Only HAProxy's own words: ASCII.
        let end = fields.iter().position(|byte| *byte == b'"');
        let is_whole = end.is_some();
        let fields = std::str::from_utf8(&fields[..end.unwrap_or(fields.len())]).map_err(|_| Malformed)?;
        Self::read(fields, is_whole).ok_or(Malformed).map(Some)
    }

    fn read(fields: &'a str, is_whole: bool) -> Option<Self> {
        let mut rest = fields;
        let mut next = || {
            let (field, after) = rest.split_once(' ')?;
            rest = after;
            (!field.is_empty()).then_some(field)
        };
        let line = Self {
            frontend: next().filter(|name| name.len() <= MAX_NAME)?,
            number: next()?.parse().ok()?,
            place: next().filter(|place| place.len() <= 2 * MAX_NAME + 1 && place.contains('/'))?,
            status: match next()? {
                "-1" | "0" | "-" => None,
                status => Some(status.parse().ok().filter(|status| (100..1000).contains(status))?),
            },
            state: state(next()?)?,
            retries: retries(next()?)?,
            queue: time(next()?)?,
            connect: time(next()?)?,
            header: time(next()?)?,
            total: time(next()?)?,
            bytes_out: next()?.trim_start_matches('+').parse().ok()?,
            key_id: text(next()?),
            first_token: time(next()?)?,
            has_stream_error: next()? == "1",
            hop: match next()? {
                "-" => None,
                letters => Some(state(letters)?),
            },
            retry_after: None,
        };
        // What is cut off may be half a number.
        Some(Self { retry_after: text(rest).filter(|_| is_whole), ..line })
    }
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    // Only one '[' stands before ours where nobody added data of his own.
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|byte| *byte == b'[')?;
        if bytes[at..].starts_with(mark) {
            return Some(at);
        }
        from = at + 1;
    }
}

fn text(field: &str) -> Option<&str> {
    (field != "-" && !field.is_empty()).then_some(field)
}

fn state(field: &str) -> Option<TerminationState> {
    let letters: [u8; 2] = field.as_bytes().try_into().ok()?;
    letters.iter().all(|letter| letter.is_ascii_alphabetic() || *letter == b'-').then_some(TerminationState(letters))
}

fn retries(field: &str) -> Option<Retries> {
    let (is_redispatched, digits) = field.strip_prefix('+').map_or((false, field), |digits| (true, digits));
    Some(Retries { count: digits.parse().ok()?, is_redispatched })
}

/// Milliseconds; the outer `None` is no number, the inner one `-1` or `-`.
fn time(field: &str) -> Option<Option<Duration>> {
    match field {
        "-1" | "-" => Some(None),
        digits => Some(Some(Duration::from_millis(digits.trim_start_matches('+').parse().ok()?))),
    }
}

/// Cuts a stream of bytes into lines, whatever the pieces that it comes in.
#[derive(Debug, Default)]
pub struct Split {
    pending: Vec<u8>,
}

impl Split {
    /// Hands each whole line to `take`, without its line break; keeps the rest. A line longer than [`MAX_LINE`] is
    /// handed over cut to one byte more than that, which no reader takes.
    pub fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&bytes[..at], &bytes[at + 1..]);
            if self.pending.is_empty() {
                take(&line[..line.len().min(MAX_LINE + 1)]);
            } else {
                self.keep(line);
                take(&self.pending);
                self.pending.clear();
            }
            bytes = after;
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = (MAX_LINE + 1).saturating_sub(self.pending.len());
        self.pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, MAX_LINE, Malformed, Retries, Split, TerminationState};
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use std::time::Duration;

    const WHOLE: &str = "<134>1 2026-11-21T17:15:44.046909+00:00 - haproxy 543 - [hapilot@0 live=\"api 7 chat/a 429 -- +1 0 2 30 \
                         41 512 k1 25 - - Sun, 06 Nov 1994 08:49:37 GMT\"] {\"path\":\"/v1/x\"}";

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn every_field_is_read() {
        let expected = Line {
            frontend: "api",
            number: 7,
            place: "chat/a",
            status: Some(429),
            state: TerminationState(*b"--"),
            retries: Retries { count: 1, is_redispatched: true },
            queue: ms(0),
            connect: ms(2),
            header: ms(30),
            total: ms(41),
            bytes_out: 512,
            key_id: Some("k1"),
            first_token: ms(25),
            has_stream_error: false,
            hop: None,
            retry_after: Some("Sun, 06 Nov 1994 08:49:37 GMT"),
        };
        assert_eq!(Line::parse(WHOLE.as_bytes()), Ok(Some(expected)));
    }

    #[test]
    fn what_never_came_is_absent() {
        let line = b"[hapilot@0 live=\"api 0 api/<NOSRV> -1 CR 0 -1 -1 -1 3 0 - - 1 SC -\"] -";
        let line = Line::parse(line).unwrap().unwrap();
        assert_eq!((line.status, line.queue, line.connect, line.header), (None, None, None, None));
        assert_eq!((line.key_id, line.first_token, line.retry_after), (None, None, None));
        assert_eq!((line.has_stream_error, line.hop), (true, Some(TerminationState(*b"SC"))));
        assert_eq!(line.place, "api/<NOSRV>");
    }

    #[test]
    fn a_line_that_is_cut_off_loses_its_end_only() {
        let text = "[hapilot@0 live=\"api 7 chat/a 503 -- 0 0 2 30 41 512 - - - - 120";
        assert_eq!(Line::parse(text.as_bytes()).unwrap().unwrap().retry_after, None);
        assert_eq!(Line::parse(&text.as_bytes()[..40]), Err(Malformed));
    }

    #[test]
    fn what_is_not_ours_is_neither_read_nor_blamed() {
        for other in
            ["", "Proxy api stopped (cumulated conns: FE: 2, BE: 0).", "[x@1 a=\"b\"] [hapilot@0 dead=\"\"]", "["]
        {
            assert_eq!(Line::parse(other.as_bytes()), Ok(None), "{other}");
        }
        let line = format!("[x@1 a=\"b\"]{}", &WHOLE[WHOLE.find('[').unwrap()..]);
        assert!(Line::parse(line.as_bytes()).unwrap().is_some());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for fields in [
            "",
            "api",
            "api 7 chat 200 -- 0 0 2 30 41 512 - - - - -",
            "api x chat/a 200 -- 0 0 2 30 41 512 - - - - -",
            "api 7 chat/a 2000 -- 0 0 2 30 41 512 - - - - -",
            "api 7 chat/a 200 --- 0 0 2 30 41 512 - - - - -",
            "api 7 chat/a 200 -- 0 0 2 -30 41 512 - - - - -",
            "api  7 chat/a 200 -- 0 0 2 30 41 512 - - - - -",
            "api 7 chat/a 200 -- 0 0 2 30 41 512 a key - - - -",
        ] {
            let line = format!("[hapilot@0 live=\"{fields}\"]");
            assert_eq!(Line::parse(line.as_bytes()), Err(Malformed), "{fields}");
        }
        let long = "x".repeat(MAX_LINE + 1);
        assert_eq!(Line::parse(long.as_bytes()), Err(Malformed));
    }

    /// Bytes of any kind, and lines of ours with something amiss.
    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let damaged = (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| {
            let mut line = WHOLE.as_bytes().to_vec();
            let at = at.index(line.len());
            line[at] = byte;
            line
        });
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            damaged,
            "\\[hapilot@0 live=\"[-a-z0-9/+< .\"]{0,80}".prop_map(String::into_bytes),
            Just(vec![b'['; 5000]),
        ]
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in noise()) {
            if let Ok(Some(line)) = Line::parse(&bytes) {
                prop_assert!(line.place.contains('/') && bytes.len() <= MAX_LINE);
                prop_assert!(line.retry_after.is_none_or(|text| !text.contains('"')));
            }
        }

        #[test]
        fn lines_come_out_as_they_went_in_whatever_the_pieces(
            lines in prop::collection::vec("[a-z ]{0,60}", 0..20),
            cuts in prop::collection::vec(1usize..40, 1..50),
        ) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let (mut split, mut found, mut rest) = (Split::default(), vec![], text.as_bytes());
            for cut in cuts.into_iter().cycle() {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                split.feed(piece, |line| found.push(String::from_utf8_lossy(line).into_owned()));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, lines);
        }
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_and_is_refused_once() {
        let mut split = Split::default();
        let mut found = vec![];
        for _ in 0..100 {
            split.feed(&[b'x'; 1000], |line| found.push(Line::parse(line).map(|_| ())));
            assert!(split.pending.len() <= MAX_LINE + 1);
        }
        split.feed(b"\nshort\n", |line| found.push(Line::parse(line).map(|_| ())));
        assert_eq!(found, [Err(Malformed), Ok(())]);
    }
}
