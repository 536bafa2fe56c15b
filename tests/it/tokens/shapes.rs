//! Answers as providers send them, and a server that sends each framed and cut as it is asked to.

use super::CHAT;
use crate::support::pause;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// What is asked, what a provider answers, and what that cost.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) asked: &'static str,
    pub(super) kind: &'static str,
    pub(super) header: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) cost: u64,
}

pub(super) fn shape(
    name: &'static str,
    path: &'static str,
    asked: &'static str,
    kind: &'static str,
    body: impl Into<Vec<u8>>,
    cost: u64,
) -> Shape {
    Shape { name, path, asked, kind, header: "", body: body.into(), cost }
}

const JSON: &str = "application/json";
pub(super) const EVENTS: &str = "text/event-stream; charset=utf-8";
pub(super) const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
const LISTS: &str =
    "{\"choices\":[1],\"usage\":{\"prompt_tokens\":[1],\"completion_tokens\":[2,\n{\"client\":\"victim\"}\n]}}  ";
pub(super) const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
pub(super) const ASKED_USAGE: &str =
    r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;

/// One of every kind that providers send. Prices of all of them are 1 for each token.
pub(super) fn shapes() -> Vec<Shape> {
    let long = "lorem ipsum ".repeat(1500);
    let deltas = |count: usize| {
        (0..count)
            .map(|n| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"w{n} \\\"usage\\\": {{\"}}}}]}}\n\n"))
            .collect::<String>()
    };
    let usage = r#""usage":{"prompt_tokens":11,"completion_tokens":31,"total_tokens":42,"prompt_tokens_details":{"cached_tokens":4}}"#;
    let openai_end = format!("data: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n");
    let claude = r#""usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":5,"cache_creation":{"ephemeral_5m_input_tokens":3},"output_tokens":7}"#;
    let claude_stream = format!(
        "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"usage\":{{\"input_tokens\":10,\"cache_creation_input_tokens\":3,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}}}}\n\n\
         event: ping\ndata: {{\"type\":\"ping\"}}\n\n{}event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{{\"output_tokens\":7}}}}\n\n\
         event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"a\"}}\n\n".repeat(3)
    );
    let gemini = |prompt: u32, out: u32, thoughts: u32| {
        format!(
            "{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"a\"}}]}}}}],\"usageMetadata\":{{\"promptTokenCount\":{prompt},\"cachedContentTokenCount\":2,\"candidatesTokenCount\":{out},\"thoughtsTokenCount\":{thoughts},\"totalTokenCount\":{}}},\"modelVersion\":\"g\"}}",
            prompt + out + thoughts
        )
    };
    let answer = r#"{"object":"response","output":[{"content":[{"type":"output_text","text":"x"}]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":5},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":12},"total_tokens":123}}"#;
    let responses = format!(
        "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"usage\":null}}}}\n\nevent: response.output_text.delta\ndata: {{\"delta\":\"x\"}}\n\nevent: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{answer}}}\n\n"
    );
    let frames = [&b"\x00\x00\x00\x9f\x00\x00\x00W\xdb\xfb\n\n\x0b:event-type\x07\x00\x08metadata"[..], br#"{"metrics":{"latencyMs":1},"usage":{"inputTokens":9,"cacheReadInputTokens":4,"outputTokens":6,"totalTokens":19}}"#, b"\x12\x34\x0a\x56"].concat();
    let ollama = "{\"message\":{\"content\":\"a\"},\"done\":false}\n".repeat(4)
        + "{\"message\":{\"content\":\"\"},\"done\":true,\"total_duration\":5,\"prompt_eval_count\":26,\"eval_duration\":9,\"eval_count\":13}\n";
    let very_long = "lorem \\n ipsum ".repeat(8000);
    vec![
        shape(
            "openai, larger than a buffer",
            CHAT,
            PLAIN,
            JSON,
            format!("{{\"choices\":[{{\"message\":{{\"content\":\"{very_long}\"}}}}],{usage}}}"),
            42,
        ),
        shape(
            "usage first, larger than a buffer",
            "/v1/completions",
            PLAIN,
            JSON,
            format!("{{{usage},\"choices\":[{{\"text\":\"{very_long}\"}}]}}"),
            42,
        ),
        shape(
            "responses, a long line",
            "/v1/responses",
            STREAM,
            EVENTS,
            format!(
                "event: response.completed\ndata: {{\"response\":{{\"instructions\":\"{very_long}\",{}}}\n\n",
                &answer[1..]
            ),
            123,
        ),
        shape(
            "openai, asked by the gateway, with a long last event",
            CHAT,
            STREAM,
            EVENTS,
            deltas(3)
                + &format!("data: {{\"choices\":[],\"note\":\"{}\",{usage}}}\n\ndata: [DONE]\n\n", "x".repeat(20_000)),
            42,
        ),
        shape(
            "openai, asked by the gateway, with line breaks without end",
            CHAT,
            STREAM,
            EVENTS,
            format!("data: {{\"choices\":[],{usage}}}{}x\n\ndata: [DONE]\n\n", "\r".repeat(30_000)),
            42,
        ),
        shape(
            "openai, asked by the gateway, and the last event is not ended",
            CHAT,
            STREAM,
            EVENTS,
            deltas(20) + &format!("data: {{\"choices\":[],{usage}}}"),
            42,
        ),
        shape("a stream that nobody asked for", CHAT, PLAIN, EVENTS, deltas(20) + &openai_end, 42),
        shape("with a byte order mark", CHAT, PLAIN, JSON, format!("\u{feff}{{\"choices\":[],{usage}}}"), 42),
        shape("as plain text", CHAT, PLAIN, "text/plain", format!("{{\"choices\":[],{usage}}}"), 42),
        shape("another API's shape", "/v1/messages", PLAIN, JSON, format!("{{\"choices\":[],{usage}}}"), 42),
        shape("a total alone", "/v1/rerank", PLAIN, JSON, r#"{"results":[],"usage":{"total_tokens":77}}"#, 77),
        shape(
            "gemini, with tools",
            "/v1beta/models/g:generateContent",
            PLAIN,
            JSON,
            r#"{"usageMetadata":{"promptTokenCount":8,"toolUsePromptTokenCount":5,"candidatesTokenCount":20}}"#,
            33,
        ),
        shape(
            "ollama, with numbers in a tool's arguments",
            "/api/chat",
            PLAIN,
            JSON,
            r#"{"message":{"tool_calls":[{"function":{"arguments":{"prompt_eval_count":0,"eval_count":0,"done":true}}}]},"done":true,"prompt_eval_count":26,"eval_count":13}"#,
            39,
        ),
        shape(
            "anthropic, with a usage in a tool's input",
            "/v1/messages",
            PLAIN,
            JSON,
            format!(
                "{{\"type\":\"message\",\"content\":[{{\"type\":\"tool_use\",\"input\":{{\"usage\":{{\"input_tokens\":0,\"output_tokens\":0}}}}}}],{claude}}}"
            ),
            25,
        ),
        shape(
            "a word without end",
            "/v1/responses",
            STREAM,
            JSON,
            r#""usage":{"#.repeat(20_000),
            45_000 + STREAM.len() as u64 / 4,
        ),
        shape(
            "openai",
            CHAT,
            PLAIN,
            JSON,
            format!(
                "{{\"choices\":[{{\"message\":{{\"content\":\"\\\"usage\\\":{{\\\"prompt_tokens\\\":999}}\"}}}}],{usage}}}"
            ),
            42,
        ),
        shape(
            "openai, long",
            CHAT,
            PLAIN,
            JSON,
            format!("{{\"choices\":[{{\"message\":{{\"content\":\"{long}\"}}}}],{usage}}}"),
            42,
        ),
        shape(
            "usage first",
            CHAT,
            PLAIN,
            JSON,
            format!("{{{usage},\"choices\":[{{\"message\":{{\"content\":\"{long}\"}}}}]}}"),
            42,
        ),
        shape("responses", "/v1/responses", PLAIN, JSON, answer, 123),
        shape(
            "embeddings",
            "/v1/embeddings",
            PLAIN,
            JSON,
            r#"{"data":[{"embedding":[0.1,0.2]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            8,
        ),
        shape(
            "anthropic",
            "/v1/messages",
            PLAIN,
            JSON,
            format!("{{\"type\":\"message\",\"content\":[],{claude}}}"),
            25,
        ),
        shape("gemini", "/v1beta/models/g:generateContent", PLAIN, JSON, gemini(8, 20, 30), 58),
        shape(
            "bedrock",
            "/model/m/converse",
            PLAIN,
            JSON,
            r#"{"output":{},"usage":{"inputTokens":9,"cacheReadInputTokens":4,"outputTokens":6,"totalTokens":19}}"#,
            19,
        ),
        Shape {
            header: "X-Amzn-Bedrock-Input-Token-Count: 12\r\nX-Amzn-Bedrock-Output-Token-Count: 30\r\n",
            ..shape("bedrock, invoke", "/model/m/invoke", PLAIN, JSON, r#"{"completion":"a"}"#, 42)
        },
        shape(
            "ollama",
            "/api/chat",
            PLAIN,
            JSON,
            r#"{"message":{"content":"a"},"done":true,"prompt_eval_count":26,"eval_count":13}"#,
            39,
        ),
        shape("openai, streamed", CHAT, ASKED_USAGE, EVENTS, deltas(20) + &openai_end, 42),
        shape("openai, CRLF", CHAT, ASKED_USAGE, EVENTS, (deltas(20) + &openai_end).replace('\n', "\r\n"), 42),
        shape("openai, asked by the gateway", CHAT, STREAM, EVENTS, deltas(20) + &openai_end, 42),
        shape("responses, streamed", "/v1/responses", STREAM, EVENTS, responses, 123),
        shape("anthropic, streamed", "/v1/messages", STREAM, EVENTS, claude_stream, 25),
        shape(
            "gemini, streamed",
            "/v1beta/models/g:streamGenerateContent?alt=sse",
            PLAIN,
            EVENTS,
            [(8, 5, 0), (8, 9, 2), (8, 20, 30)].map(|(p, o, t)| format!("data: {}\r\n\r\n", gemini(p, o, t))).concat(),
            58,
        ),
        shape(
            "gemini, a list",
            "/v1beta/models/g:streamGenerateContent",
            PLAIN,
            JSON,
            format!("[{},\n{}]", gemini(8, 9, 2), gemini(8, 20, 30)),
            58,
        ),
        shape("ollama, streamed", "/api/chat", PLAIN, "application/x-ndjson", ollama, 39),
        shape("bedrock, streamed", "/model/m/converse-stream", PLAIN, "application/vnd.amazon.eventstream", frames, 19),
        // Nobody tells: a piece is a token, and four bytes of the question.
        shape(
            "openai, untold",
            "/v1/other/completion",
            STREAM,
            EVENTS,
            deltas(20) + "data: [DONE]\n\n",
            20 + STREAM.len() as u64 / 4,
        ),
        shape(
            "untold JSON",
            CHAT,
            PLAIN,
            JSON,
            format!("{{\"text\":\"{}\"}}", "a".repeat(29)),
            10 + PLAIN.len() as u64 / 4,
        ),
        // What is no number is no usage, and never a line of the log.
        shape("a usage of lists", CHAT, PLAIN, JSON, LISTS, (PLAIN.len() + LISTS.len()) as u64 / 4),
        shape("free", "/v1/moderations", PLAIN, JSON, "{\"results\":[]}", 0),
    ]
}

/// How an answer is framed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Framing {
    Length,
    Chunks,
    Close,
    /// Chunks without the last one.
    Broken,
}

/// Answers whatever it is asked by the number in a header `x-shape`, framed and cut as another header says. Ends with the
/// process of the test.
pub(super) fn odd_provider(shapes: Vec<Shape>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let shapes = Arc::new(shapes);
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let shapes = Arc::clone(&shapes);
            std::thread::spawn(move || while answer(&connection, &shapes).is_some() {});
        }
    });
    address
}

fn answer(connection: &TcpStream, shapes: &[Shape]) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(connection);
    let (mut length, mut wanted) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(("x-shape", value)) => value.clone_into(&mut wanted),
            _ if line.is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice::<serde_json::Value>(&body).expect("what HAProxy sends on is JSON");
    let mut words = wanted.split(' ');
    let shape = &shapes[words.next()?.parse::<usize>().ok()?];
    let (framing, piece) = (words.next()?, words.next()?.parse::<usize>().ok()?);
    let mut to = connection;
    let framed = match framing {
        "length" => format!("Content-Length: {}\r\n", shape.body.len()),
        "chunks" | "broken" => "Transfer-Encoding: chunked\r\n".to_owned(),
        _ => "Connection: close\r\n".to_owned(),
    };
    write!(to, "HTTP/1.1 200 OK\r\nContent-Type: {}\r\n{}{framed}\r\n", shape.kind, shape.header).ok()?;
    for piece in shape.body.chunks(piece) {
        if matches!(framing, "chunks" | "broken") {
            to.write_all(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).ok()?;
        } else {
            to.write_all(piece).ok()?;
        }
    }
    if framing == "chunks" {
        to.write_all(b"0\r\n\r\n").ok()?;
    }
    if framing == "broken" {
        // What was sent shall not be lost with the connection.
        pause(Duration::from_millis(20));
    }
    if matches!(framing, "close" | "broken") {
        let _ = connection.shutdown(std::net::Shutdown::Both);
        return None;
    }
    Some(())
}
