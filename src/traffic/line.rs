//! One line of a frontend, as the template writes it.
//!
//! ```text
//! …[hapilot@0 live="FRONTEND NUMBER BACKEND/SERVER STATUS STATE RETRIES Tw Tc Tr Ta BYTES KEY TOKEN MEANS HOP RETRY-AFTER"
//!   upload="TR BYTES/BUFFER" client="CLIENT PLAN REFUSED" tokens="PROMPT CACHED COMPLETION exact|estimated WRITTEN NANO-USD"
//!   usage="REQUEST MODEL" stream="END" group="GROUP" tries="ATTEMPT ATTEMPT …"]…
//! ```
//!
//! Everything but Retry-After is HAProxy's own word: names of the configuration, numbers, fixed letters. Retry-After
//! stands last, and a line that is cut off loses nothing else. `upload`, `client`, `tokens`, `usage`, `stream` and `tries` may be missing: an older worker's
//! line, a version that cannot tell, a template of the operator's. Knows the form, not what it means.

use super::attempt::{Attempt, MAX_NAME, Means, attempts};
use super::callers::{Caller, Tokens};
use super::termination::TerminationState;
use std::time::Duration;

/// Longest line that is looked at, in bytes: HAProxy's ring takes 1024, and nobody else writes here.
pub const MAX_LINE: usize = 4096;
/// What stands before the fields.
const MARK: &[u8] = b"[hapilot@0 live=\"";
/// What stands between them and what the client sent…
const UPLOAD: &str = "\" upload=\"";
/// …who it is…
const CLIENT: &str = "\" client=\"";
/// …what its answer cost…
const TOKENS: &str = "\" tokens=\"";
/// …which request it was, and for which model…
const USAGE: &str = "\" usage=\"";
/// …how its stream ended…
const STREAM: &str = "\" stream=\"";
/// …of which group of a canary it was…
const GROUP: &str = "\" group=\"";
/// …and before the attempts.
const TRIES: &str = "\" tries=\"";

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
    /// What the answer means beyond its status, where that is told without `tries`.
    pub means: Means,
    /// What the hop in between says of an attempt that it answered by itself.
    pub hop: Option<TerminationState>,
    /// The provider's Retry-After, verbatim, where that is told without `tries`.
    pub retry_after: Option<&'a str>,
    /// What the client sent.
    pub upload: Option<Upload>,
    /// Who asked; `None`: nobody was asked.
    pub caller: Option<Caller<'a>>,
    /// What the answer cost; `None`: not counted.
    pub tokens: Option<Tokens>,
    /// Which request it was; `None`: nobody tells.
    pub request: Option<RequestName<'a>>,
    /// How its stream ended badly; `None`: it did not, or nobody tells.
    pub stream_end: Option<StreamEnd>,
    /// `control`, or the name of the canary whose group it was of; `None`: its backend has no canary, or not for it.
    pub group: Option<&'a str>,
    /// Every attempt that was answered badly, the last one too; `None`: nobody tells.
    pub tries: Option<&'a str>,
}

/// How a stream ended badly behind its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamEnd {
    /// An event said that something went wrong.
    Error,
    /// An event said that there were too many requests.
    Limit,
    /// An event said that the server has too much to do.
    Overload,
    /// An event said that the request was wrong.
    Request,
    /// It ended without the event that ends it, or its connection broke.
    Cut,
}

impl StreamEnd {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Error, Self::Limit, Self::Overload, Self::Request, Self::Cut];

    /// As HAProxy and the metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Limit => "limit",
            Self::Overload => "overload",
            Self::Request => "request",
            Self::Cut => "cut",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.as_str() == text)
    }
}

/// What the client sent, and how long that took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Until the request was there, as far as the buffer holds it.
    pub took: Option<Duration>,
    /// The rest came while the server was waiting for it: its times are the client's.
    pub is_longer_than_the_buffer: bool,
}

/// Which request a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestName<'a> {
    /// When HAProxy wrote the line, as it spells it.
    pub at: &'a str,
    /// HAProxy's number of the request, which no other of its worker has.
    pub number: u64,
    /// The model that was asked for, with what is not plain as `%XX`; empty where none was told.
    pub model: &'a str,
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
        let (fields, more) = fields.split_at(end.unwrap_or(fields.len()));
        let fields = std::str::from_utf8(fields).map_err(|_| Malformed)?;
        let line = Self::read(fields, end.is_some()).ok_or(Malformed)?;
        // What is cut off there is as if it were absent.
        let more = more.iter().position(|byte| *byte == b']').map_or(more, |end| &more[..end]);
        let more = std::str::from_utf8(more).unwrap_or_default();
        let (upload, tries) = more.split_once(TRIES).map_or((more, None), |(upload, tries)| (upload, Some(tries)));
        let (upload, group) = upload.split_once(GROUP).map_or((upload, None), |(upload, group)| (upload, Some(group)));
        let group = group.map(|group| group.trim_end_matches('"')).and_then(text);
        let (upload, stream) =
            upload.split_once(STREAM).map_or((upload, None), |(upload, stream)| (upload, Some(stream)));
        let stream_end = stream.and_then(|end| StreamEnd::parse(end.trim_end_matches('"')));
        let (upload, usage) = upload.split_once(USAGE).map_or((upload, None), |(upload, usage)| (upload, Some(usage)));
        let request = usage.and_then(|usage| RequestName::parse(&bytes[..at], usage.trim_end_matches('"')));
        let (upload, tokens) =
            upload.split_once(TOKENS).map_or((upload, None), |(upload, tokens)| (upload, Some(tokens)));
        let tokens = tokens.and_then(|tokens| Tokens::parse(tokens.trim_end_matches('"')));
        let (upload, client) =
            upload.split_once(CLIENT).map_or((upload, None), |(upload, client)| (upload, Some(client)));
        let caller = client.and_then(|client| Caller::parse(client.trim_end_matches('"')));
        let upload = upload.strip_prefix(UPLOAD).and_then(|upload| Upload::parse(upload.trim_end_matches('"')));
        Ok(Some(Self {
            upload,
            caller,
            tokens,
            request,
            stream_end,
            group,
            tries: tries.map(|tries| tries.trim_end_matches('"')),
            ..line
        }))
    }

    /// Whether a line is one of ours, also one that cannot be read.
    pub fn is_ours(bytes: &[u8]) -> bool {
        find(bytes, MARK).is_some()
    }

    /// Every attempt that was answered badly, in their order, the last one too.
    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = Attempt<'a>> {
        attempts(self.tries.unwrap_or_default())
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
            means: Means::read(next()?),
            hop: match next()? {
                "-" => None,
                letters => Some(state(letters)?),
            },
            retry_after: None,
            upload: None,
            caller: None,
            tokens: None,
            request: None,
            stream_end: None,
            group: None,
            tries: None,
        };
        // What is cut off may be half a number.
        Some(Self { retry_after: text(rest).filter(|_| is_whole), ..line })
    }
}

impl<'a> RequestName<'a> {
    /// `head` is what stands before our data: `<134>1 TIME HOST haproxy PID - `.
    fn parse(head: &'a [u8], text: &'a str) -> Option<Self> {
        let at = std::str::from_utf8(head).ok()?.split(' ').nth(1)?;
        let (number, model) = text.split_once(' ')?;
        let model = if model == "-" { "" } else { model };
        Some(Self { at, number: number.parse().ok()?, model })
    }
}

impl Upload {
    fn parse(text: &str) -> Option<Self> {
        /// Of the buffer so many bytes are not for a request: HAProxy keeps them for rewriting.
        const KEPT: u64 = 2 << 10;
        let (took, sizes) = text.split_once(' ')?;
        let (bytes, buffer) = sizes.split_once('/')?;
        let (bytes, buffer): (u64, u64) = (bytes.trim_start_matches('+').parse().ok()?, buffer.parse().ok()?);
        Some(Self { took: time(took)?, is_longer_than_the_buffer: bytes > buffer.saturating_sub(KEPT) })
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
    use super::{Line, MAX_LINE, Malformed, Means, Retries, Split, StreamEnd, TerminationState, Upload};
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
            means: Means::default(),
            hop: None,
            retry_after: Some("Sun, 06 Nov 1994 08:49:37 GMT"),
            upload: None,
            caller: None,
            tokens: None,
            request: None,
            group: None,
            stream_end: None,
            tries: None,
        };
        assert_eq!(Line::parse(WHOLE.as_bytes()), Ok(Some(expected)));
    }

    #[test]
    fn what_the_client_sent_and_every_attempt_is_read_where_it_is_told() {
        let more = |more: &str| WHOLE.replace("GMT\"]", &format!("GMT\"{more}]"));
        let text = more(" upload=\"120 70000/65536\" tries=\"a:429:7::: b:::::i \"");
        let line = Line::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(line.upload, Some(Upload { took: ms(120), is_longer_than_the_buffer: true }));
        assert_eq!(line.attempts().map(|attempt| attempt.status).collect::<Vec<_>>(), [Some(429), None]);
        let text = more(" upload=\"0 600/65536\"");
        let line = Line::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(line.upload, Some(Upload { took: ms(0), is_longer_than_the_buffer: false }));
        assert_eq!((line.tries, line.attempts().count()), (None, 0));
        let text = more(" upload=\"0 600/65536\" usage=\"7 m\" stream=\"overload\" tries=\"-\"");
        let line = Line::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!((line.stream_end, line.request.map(|request| request.number)), (Some(StreamEnd::Overload), Some(7)));
        let text = more(" upload=\"0 600/65536\" stream=\"-\"");
        assert_eq!(Line::parse(text.as_bytes()).unwrap().unwrap().stream_end, None);
        // Nothing was tried in vain, and that is told; and a line that is cut.
        let text = more(" upload=\"0 600/65536\" tries=\"-\"");
        assert!(Line::parse(text.as_bytes()).unwrap().unwrap().tries.is_some());
        let text = more(" upload=\"0 600/65536\" tries=\"a:429:7::: b:50");
        let text = &text[..text.find("b:50").unwrap() + 4];
        assert_eq!(Line::parse(text.as_bytes()).unwrap().unwrap().attempts().count(), 1);
    }

    #[test]
    fn what_never_came_is_absent() {
        let line = b"[hapilot@0 live=\"api 0 api/<NOSRV> -1 CR 0 -1 -1 -1 3 0 - - 1 SC -\"] -";
        let line = Line::parse(line).unwrap().unwrap();
        assert_eq!((line.status, line.queue, line.connect, line.header), (None, None, None, None));
        assert_eq!((line.key_id, line.first_token, line.retry_after), (None, None, None));
        assert_eq!((line.means.stream_error, line.hop), (true, Some(TerminationState(*b"SC"))));
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
