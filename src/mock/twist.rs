//! The sick half: each fault as a script. Knows no connection; faults that come before a request are in `server`.

use super::api::{self, Served, answer, signed};
use super::dialect::{ChatRequest, Dialect, Mistake};
use super::fault::{Fault, FaultKind};
use super::request::Request;
use super::script::{Act, Reply, Script, chunk};
use std::time::Duration;

/// How many tokens come before a fault in the middle.
const TOKENS_BEFORE: u32 = 5;

/// Answers a request that this fault befell.
pub(super) fn twisted(served: Served<'_>, request: &Request, fault: &Fault) -> Script {
    let mut script = of_kind(served, request, fault);
    if let Some(late) = fault.body_after_ms {
        script = script.body_after(Duration::from_millis(late));
    }
    if let Some(code) = fault.interim {
        script.acts.insert(0, Act::Send(format!("HTTP/1.1 {code} Interim\r\nlink: </a>\r\n\r\n").into_bytes()));
    }
    script
}

fn of_kind(served: Served<'_>, request: &Request, fault: &Fault) -> Script {
    let config = served.config;
    let dialect = Dialect::of(request);
    let chat = || ChatRequest::read(config, request).ok();
    let is_stream = || chat().is_some_and(|chat| chat.stream);
    let say = |reply: Reply| Script::whole(&signed(config, with_headers(reply, fault)));
    let wrong = |mistake: &Mistake| say(dialect.error(mistake));
    let events = |events: &[Vec<u8>]| events_of(served, dialect, fault, events);
    let answer = |request: &Request| answer(served, request);
    let stream_head = || api::stream_head(config, dialect).to_stream_head();
    let raw = |status: u16, acts: Vec<Act>| Script::new(status, acts);
    let middle = fault.tokens.unwrap_or(TOKENS_BEFORE) as usize;
    match fault.kind {
        FaultKind::Status => say(status(dialect, fault)),
        FaultKind::InsufficientQuota => wrong(&Mistake::Quota),
        FaultKind::InvalidApiKey => wrong(&Mistake::Key),
        FaultKind::CreditBalance => wrong(&Mistake::Credit),
        FaultKind::Overloaded => wrong(&Mistake::Overloaded),
        FaultKind::Html => {
            let page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><form></form></body></html>";
            say(Reply::text(200, "text/html; charset=utf-8", fault.body.as_deref().unwrap_or(page)))
        }
        FaultKind::InvalidJson => say(Reply::text(200, "application/json", r#"{"object":"list","data":[{"id":"#)),
        FaultKind::ErrorObject => {
            let mut reply = dialect.error(&Mistake::Status(500));
            reply.status = 200;
            say(reply)
        }
        FaultKind::ErrorEvent => match &fault.body {
            Some(body) => events(&body.split('|').map(|piece| piece.as_bytes().to_vec()).collect::<Vec<_>>()),
            None => events(&[dialect.error_event()]),
        },
        FaultKind::LateError => {
            let event = fault.body.as_ref().map_or_else(|| dialect.error_event(), |body| body.clone().into_bytes());
            let mut script = answer(request).cut_after(middle, Act::Send(chunk(&event)));
            script.acts.push(Act::Send(chunk(b"")));
            script
        }
        FaultKind::Empty => match chat() {
            Some(mut chat) if chat.stream => {
                (chat.tokens, chat.limited) = (0, false);
                events(&[chat.begin(config), chat.end(config)])
            }
            Some(chat) => say(Reply::json(200, &chat.whole(config, ""))),
            None => say(Reply::text(200, "application/json", "")),
        },
        FaultKind::WrongModel => match chat() {
            Some(mut chat) => {
                chat.model = fault.body.clone().unwrap_or_else(|| "another-model".into());
                api::completion(config, &chat, config.first_token, config.tokens_per_second)
            }
            None => answer(request),
        },
        FaultKind::MissingModel if dialect.is_models(&request.path) => {
            say(dialect.models(config, |id| fault.body.as_deref().is_some_and(|missing| missing != id)))
        }
        FaultKind::MissingModel => answer(request),
        FaultKind::NoBlankLine => {
            let data = r#"{"model":"m","choices":[{"index":0,"delta":{"content":"ok"},"finish_reason":null}]}"#;
            events(&[format!("data: {data}\ndata: {data}\ndata: [DONE]\n").into_bytes()])
        }
        FaultKind::NoDone => match chat() {
            Some(chat) => events(&[chat.token(config, "ok")]),
            None => answer(request),
        },
        FaultKind::CommentsOnly => events(&vec![b": ping\n\n".to_vec(); 100]),
        FaultKind::HugeEvent => {
            let size = fault.bytes.unwrap_or(4 << 20);
            let head = stream_head();
            let piece = chunk(&[b'x'; 16_384]);
            let acts = vec![
                Act::Send(head),
                Act::Send(chunk(b"data: {\"x\":\"")),
                Act::Repeat(piece, size / 16_384),
                Act::Send(chunk(b"\"}\n\n")),
                Act::Send(chunk(b"")),
            ];
            raw(200, acts)
        }
        FaultKind::DeepJson => {
            let deep = "[".repeat(10_000) + &"]".repeat(10_000);
            match is_stream() {
                true => events(&[dialect.event("deep", deep.as_bytes())]),
                false => say(Reply::text(200, "application/json", deep)),
            }
        }
        FaultKind::InvalidUtf8 => {
            let text = b"{\"object\":\"list\",\"data\":[{\"id\":\"\xff\xfe\xc0\"}],\"choices\":[]}".to_vec();
            match is_stream() {
                true => events(&[dialect.event("wrong", &text)]),
                false => say(Reply::text(200, "application/json", text)),
            }
        }
        FaultKind::EndlessBody => {
            raw(200, vec![Act::Send(stream_head()), Act::Repeat(chunk(&[b' '; 16_384]), u64::MAX)])
        }
        FaultKind::GzipBomb => {
            let size = usize::try_from(fault.bytes.unwrap_or(256 << 10)).unwrap_or(usize::MAX);
            say(Reply::text(200, "application/json", gzip_bomb(size)).header("content-encoding", "gzip"))
        }
        FaultKind::Redirect => {
            let location = fault.location.clone().unwrap_or_else(|| request.path.clone());
            say(Reply::text(302, "text/plain", "").header("location", location))
        }
        FaultKind::Hang => raw(0, vec![Act::Hang]),
        FaultKind::HangAfterHeaders => {
            let whole = || Reply::text(200, "application/json", "").to_stream_head();
            raw(200, vec![Act::Send(if is_stream() { stream_head() } else { whole() }), Act::Hang])
        }
        FaultKind::DripHeaders => {
            let healthy = answer(request);
            raw(healthy.status, vec![Act::Drip(bytes_of(&healthy), fault.pause())])
        }
        FaultKind::DripBody => {
            let healthy = answer(request);
            let bytes = bytes_of(&healthy);
            let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
            raw(
                healthy.status,
                vec![Act::Send(bytes[..body].to_vec()), Act::Drip(bytes[body..].to_vec(), fault.pause())],
            )
        }
        FaultKind::FirstToken => answer(request).after(fault.pause()),
        FaultKind::Stall => answer(request).cut_after(middle, Act::Hang),
        FaultKind::Rate => match chat() {
            Some(chat) => api::completion(config, &chat, config.first_token, fault.rate.unwrap_or(1.0)),
            None => answer(request),
        },
        FaultKind::Reset => raw(0, vec![Act::Reset]),
        FaultKind::ResetAfterHeaders => raw(200, vec![Act::Send(stream_head()), Act::Reset]),
        FaultKind::ResetMidStream => answer(request).cut_after(middle, Act::Reset),
        FaultKind::Cut => answer(request).cut_after(middle, Act::Close),
        FaultKind::EndlessContinue => raw(0, vec![Act::Repeat(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), u64::MAX)]),
        FaultKind::ManyHeaders => raw(
            200,
            vec![
                Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
                Act::Repeat(b"x-h: 1\r\n".to_vec(), fault.bytes.unwrap_or(100_000)),
                Act::Send(b"content-length: 0\r\n\r\n".to_vec()),
            ],
        ),
        FaultKind::TwoLengths => {
            let text = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\ncontent-length: 7\r\n\r\n{}     ";
            raw(200, vec![Act::Send(text.into()), Act::Close])
        }
        FaultKind::Garbage => {
            raw(0, vec![Act::Send(b"\x00\x01\x02SSH-2.0-OpenSSH_9.9\r\n\xff\xfe\r\n\r\n".to_vec()), Act::Close])
        }
        FaultKind::Refuse
        | FaultKind::ResetOnAccept
        | FaultKind::CloseOnAccept
        | FaultKind::HangOnAccept
        | FaultKind::TlsExpired
        | FaultKind::TlsWrongName
        | FaultKind::TlsUnknownAuthority
        | FaultKind::TlsHang
        | FaultKind::TlsPlain => answer(request),
    }
}

fn status(dialect: Dialect, fault: &Fault) -> Reply {
    let code = fault.code.unwrap_or(500);
    match &fault.body {
        Some(body) => {
            let content_type =
                if body.trim_start().starts_with(['{', '[']) { "application/json" } else { "text/plain" };
            Reply::text(code, content_type, body.as_str())
        }
        None => Reply { status: code, ..dialect.error(&Mistake::Status(code)) },
    }
}

fn with_headers(mut reply: Reply, fault: &Fault) -> Reply {
    if let Some(value) = &fault.retry_after {
        reply = reply.header("retry-after", value.as_str());
    }
    for (name, value) in &fault.headers {
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            reply = reply.header(name, value.as_str());
        }
    }
    reply
}

/// A stream of these events, each a chunk of its own, ended properly.
fn events_of(served: Served<'_>, dialect: Dialect, fault: &Fault, events: &[Vec<u8>]) -> Script {
    let config = served.config;
    let head = Reply { status: fault.code.unwrap_or(200), ..api::stream_head(config, dialect) };
    let head = with_headers(head, fault);
    let mut acts = vec![Act::Wait(config.first_token), Act::Send(head.to_stream_head())];
    acts.extend(events.iter().filter(|data| !data.is_empty()).map(|data| Act::Send(chunk(data))));
    acts.push(Act::Send(chunk(b"")));
    Script::new(fault.code.unwrap_or(200), acts)
}

fn bytes_of(script: &Script) -> Vec<u8> {
    script.acts.iter().filter_map(|act| if let Act::Send(bytes) = act { Some(bytes.as_slice()) } else { None }).fold(
        Vec::new(),
        |mut all, bytes| {
            all.extend_from_slice(bytes);
            all
        },
    )
}

/// A gzip member of about `size` bytes that swells to 158 times as much: one zero, then "repeat the last byte 258
/// times" over and over, in deflate's fixed code (13 bits each).
///
/// **Source**: RFC 1951 3.2.5 and 3.2.6, RFC 1952 2.3.
fn gzip_bomb(size: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut held) = (0u32, 0u32);
    // Bits in the order in which they are read.
    let mut put = |text: &str, bytes: &mut Vec<u8>| {
        for bit in text.bytes() {
            bits |= u32::from(bit == b'1') << held;
            held += 1;
            if held == 8 {
                bytes.push(bits.to_le_bytes()[0]);
                (bits, held) = (0, 0);
            }
        }
    };
    // Last block, fixed code; literal 0.
    put("1", &mut bytes);
    put("10", &mut bytes);
    put("00110000", &mut bytes);
    while bytes.len() < size {
        // Length 258 is symbol 285 (11000101), distance 1 is symbol 0.
        put("1100010100000", &mut bytes);
    }
    // End of block, then up to a whole byte.
    put("0000000", &mut bytes);
    put("0000000", &mut bytes);
    // A checksum and a length that nobody will live to compare.
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn the_gzip_bomb_swells() {
        let Ok(mut gzip) =
            Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
        else {
            eprintln!("skipped: no gzip here");
            return;
        };
        let bomb = gzip_bomb(1000);
        gzip.stdin.take().unwrap().write_all(&bomb).unwrap();
        let out = gzip.wait_with_output().unwrap();
        assert!(out.stdout.len() > 100_000, "{}", out.stdout.len());
    }
}
