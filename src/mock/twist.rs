//! The sick half: each fault as a script. Knows no connection; faults that come before a request are in `server`.

use super::config::MockConfig;
use super::fault::{Fault, FaultKind};
use super::openai::{self, ChatRequest, answer, delta, error, event, signed};
use super::request::Request;
use super::script::{Act, Reply, Script, chunk};
use serde_json::json;

/// How many tokens come before a fault in the middle.
const TOKENS_BEFORE: u32 = 5;

/// Answers a request that this fault befell.
pub(super) fn twisted(config: &MockConfig, request: &Request, fault: &Fault) -> Script {
    let chat = || ChatRequest::read(config, &request.body).ok();
    let say = |reply: Reply| Script::whole(&signed(config, with_headers(reply, fault)));
    let raw = |status: u16, acts: Vec<Act>| Script::new(status, acts);
    let middle = fault.tokens.unwrap_or(TOKENS_BEFORE) as usize;
    match fault.kind {
        FaultKind::Status => say(status(fault)),
        FaultKind::InsufficientQuota => {
            let message = "You exceeded your current quota, please check your plan and billing details.";
            say(error(429, message, "insufficient_quota", "insufficient_quota"))
        }
        FaultKind::InvalidApiKey => say(openai::invalid_api_key()),
        FaultKind::CreditBalance => say(Reply::json(
            400,
            &json!({"type": "error", "error": {"type": "invalid_request_error",
                    "message": "Your credit balance is too low to access the API."}}),
        )),
        FaultKind::Overloaded => say(Reply::json(
            529,
            &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        )),
        FaultKind::Html => {
            let page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><form></form></body></html>";
            say(Reply::text(200, "text/html; charset=utf-8", fault.body.as_deref().unwrap_or(page)))
        }
        FaultKind::InvalidJson => say(Reply::text(200, "application/json", r#"{"object":"list","data":[{"id":"#)),
        FaultKind::ErrorObject => {
            let mut reply = error(500, "The engine is not ready.", "server_error", "engine_not_ready");
            reply.status = 200;
            say(reply)
        }
        FaultKind::ErrorEvent => {
            let data = json!({"error": {"message": "EngineCore died", "type": "server_error", "code": 500}});
            events(config, fault, &[event(&data.to_string()), event("[DONE]")])
        }
        FaultKind::Empty => match chat() {
            Some(chat) if chat.stream => {
                let finish = delta(config, &chat.model, &json!({}), Some("stop"));
                events(config, fault, &[event(&finish.to_string()), event("[DONE]")])
            }
            Some(chat) => say(Reply::json(200, &openai::whole(config, &chat, &chat.model, ""))),
            None => say(Reply::text(200, "application/json", "")),
        },
        FaultKind::WrongModel => match chat() {
            Some(mut chat) => {
                chat.model = fault.body.clone().unwrap_or_else(|| "another-model".into());
                openai::completion(config, &chat, config.first_token, config.tokens_per_second)
            }
            None => answer(config, request),
        },
        FaultKind::MissingModel if request.path == "/v1/models" => {
            say(openai::models(config, |id| fault.body.as_deref().is_some_and(|missing| missing != id)))
        }
        FaultKind::MissingModel => answer(config, request),
        FaultKind::NoBlankLine => {
            let data = delta(config, "m", &json!({"content": "ok"}), None).to_string();
            events(config, fault, &[format!("data: {data}\ndata: {data}\ndata: [DONE]\n").into_bytes()])
        }
        FaultKind::NoDone => match chat() {
            Some(chat) => {
                let data = delta(config, &chat.model, &json!({"content": "ok"}), None);
                events(config, fault, &[event(&data.to_string())])
            }
            None => answer(config, request),
        },
        FaultKind::CommentsOnly => events(config, fault, &vec![b": ping\n\n".to_vec(); 100]),
        FaultKind::HugeEvent => {
            let size = fault.bytes.unwrap_or(4 << 20);
            let head = openai::stream_head(config).to_stream_head();
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
            if chat().is_some_and(|chat| chat.stream) {
                events(config, fault, &[event(&deep)])
            } else {
                say(Reply::text(200, "application/json", deep))
            }
        }
        FaultKind::InvalidUtf8 => {
            let text = b"{\"object\":\"list\",\"data\":[{\"id\":\"\xff\xfe\xc0\"}],\"choices\":[]}".to_vec();
            if chat().is_some_and(|chat| chat.stream) {
                events(config, fault, &[[b"data: ".as_slice(), &text, b"\n\n"].concat()])
            } else {
                say(Reply::text(200, "application/json", text))
            }
        }
        FaultKind::EndlessBody => {
            let head = openai::stream_head(config).to_stream_head();
            raw(200, vec![Act::Send(head), Act::Repeat(chunk(&[b' '; 16_384]), u64::MAX)])
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
            raw(200, vec![Act::Send(openai::stream_head(config).to_stream_head()), Act::Hang])
        }
        FaultKind::DripHeaders => {
            let healthy = answer(config, request);
            raw(healthy.status, vec![Act::Drip(bytes_of(&healthy), fault.pause())])
        }
        FaultKind::DripBody => {
            let healthy = answer(config, request);
            let bytes = bytes_of(&healthy);
            let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
            raw(
                healthy.status,
                vec![Act::Send(bytes[..body].to_vec()), Act::Drip(bytes[body..].to_vec(), fault.pause())],
            )
        }
        FaultKind::FirstToken => answer(config, request).after(fault.pause()),
        FaultKind::Stall => answer(config, request).cut_after(middle, Act::Hang),
        FaultKind::Rate => match chat() {
            Some(chat) => openai::completion(config, &chat, config.first_token, fault.rate.unwrap_or(1.0)),
            None => answer(config, request),
        },
        FaultKind::Reset => raw(0, vec![Act::Reset]),
        FaultKind::ResetAfterHeaders => {
            raw(200, vec![Act::Send(openai::stream_head(config).to_stream_head()), Act::Reset])
        }
        FaultKind::ResetMidStream => answer(config, request).cut_after(middle, Act::Reset),
        FaultKind::Cut => answer(config, request).cut_after(middle, Act::Close),
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
        | FaultKind::TlsPlain => answer(config, request),
    }
}

fn status(fault: &Fault) -> Reply {
    let code = fault.code.unwrap_or(500);
    match &fault.body {
        Some(body) => {
            let content_type =
                if body.trim_start().starts_with(['{', '[']) { "application/json" } else { "text/plain" };
            Reply::text(code, content_type, body.as_str())
        }
        None => {
            let (kind, name) = match code {
                401 => ("invalid_request_error", "invalid_api_key"),
                429 => ("requests", "rate_limit_exceeded"),
                400..=499 => ("invalid_request_error", "mock_fault"),
                _ => ("server_error", "mock_fault"),
            };
            error(code, &format!("status {code}, as told"), kind, name)
        }
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
fn events(config: &MockConfig, fault: &Fault, events: &[Vec<u8>]) -> Script {
    let mut acts = vec![
        Act::Wait(config.first_token),
        Act::Send(with_headers(openai::stream_head(config), fault).to_stream_head()),
    ];
    acts.extend(events.iter().map(|data| Act::Send(chunk(data))));
    acts.push(Act::Send(chunk(b"")));
    Script::new(200, acts)
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
