//! Limits of tokens: what answers cost is counted as they pass, in every shape, framing and size of pieces, on every
//! version; and each limit bites.

use super::clients::{ask, client, key, message};
use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Reply, Request, get};
use super::support::port::free_port;
use super::support::stage::{LENIENT, SERVERS, Stage, swapped};
use super::support::{PATIENCE, wait_for};
use hapilot::mock::{Fault, FaultKind};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

const CHAT: &str = "/v1/chat/completions";
const COUNTED: &str = "[plan.counted]\ntokens = \"900000000/60m\"\n";

/// Tokens that HAProxy has counted for a client so far.
fn used(stage: &Stage, of: &str) -> u64 {
    let table = stage.private().admin(&format!("show table limit:client key {of}"));
    let cell = |number: u32| -> u64 {
        let name = format!(" gpc{number}=");
        let at = table.find(&name).unwrap_or_else(|| panic!("no counter {number}: {table}")) + name.len();
        table[at..].split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number")
    };
    cell(1) + 64 * cell(2) + 4096 * cell(3)
}

/// What is asked, what a provider answers, and what that cost.
struct Shape {
    name: &'static str,
    path: &'static str,
    asked: &'static str,
    kind: &'static str,
    header: &'static str,
    body: Vec<u8>,
    cost: u64,
}

fn shape(
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
const EVENTS: &str = "text/event-stream; charset=utf-8";
const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
const ASKED_USAGE: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;

/// One of every kind that providers send. Prices of all of them are 1 for each token.
fn shapes() -> Vec<Shape> {
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
    vec![
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
        shape("free", "/v1/moderations", PLAIN, JSON, "{\"results\":[]}", 0),
    ]
}

/// How an answer is framed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Length,
    Chunks,
    Close,
}

/// Answers whatever it is asked by the number in a header `x-shape`, framed and cut as another header says. Ends with the
/// process of the test.
fn odd_provider() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let shapes = Arc::new(shapes());
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
        "chunks" => "Transfer-Encoding: chunked\r\n".to_owned(),
        _ => "Connection: close\r\n".to_owned(),
    };
    write!(to, "HTTP/1.1 200 OK\r\nContent-Type: {}\r\n{}{framed}\r\n", shape.kind, shape.header).ok()?;
    for piece in shape.body.chunks(piece) {
        if framing == "chunks" {
            to.write_all(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).ok()?;
        } else {
            to.write_all(piece).ok()?;
        }
    }
    if framing == "chunks" {
        to.write_all(b"0\r\n\r\n").ok()?;
    }
    if framing == "close" {
        let _ = connection.shutdown(std::net::Shutdown::Both);
        return None;
    }
    Some(())
}

/// A stage whose frontend leads to the odd provider.
fn odd_stage(binary: &Binary, plans: &str) -> Stage {
    let url = format!("http://{}", odd_provider());
    let text = format!(
        "{plans}[backend.odd]\nask_usage = true\n[backend.odd.check]\nmodels = false\n[backend.odd.server.o]\nurl = \"{url}\"\n"
    );
    Stage::running(binary, |file| {
        swapped(
            &file,
            "backend = \"chat\"\nroutes  = [{ path = [\"/v1/embeddings\"], backend = \"embeddings\" }]",
            "backend = \"odd\"",
        ) + "\n"
            + &text
    })
}

fn sent(stage: &Stage, shape: &Shape, number: usize, framing: Framing, piece: usize) -> Reply {
    let framing = format!("{framing:?}").to_ascii_lowercase();
    let request = Request::post(shape.path, shape.asked)
        .header("Authorization", &format!("Bearer {}", key("acme")))
        .header("X-Shape", &format!("{number} {framing} {piece}"));
    ask(stage, &request)
}

#[test]
fn every_shape_of_an_answer_is_counted_and_passes_as_it_came() {
    for binary in binaries() {
        let stage = odd_stage(&binary, &(COUNTED.to_owned() + &client("acme", "counted")));
        let mut before = 0;
        for (number, shape) in shapes().iter().enumerate() {
            for framing in [Framing::Length, Framing::Chunks, Framing::Close] {
                for piece in [1, 13, 1000, usize::MAX >> 1] {
                    let case = format!("{} {} {framing:?} {piece}", binary.version, shape.name);
                    let reply = sent(&stage, shape, number, framing, piece);
                    assert_eq!(reply.status, 200, "{case}: {}", reply.text());
                    if shape.name == "openai, asked by the gateway" {
                        let seen = reply.text();
                        assert!(!seen.contains("\"usage\":{"), "{case}: {seen}");
                        assert!(seen.contains("\n\n:") && seen.ends_with("\n\ndata: [DONE]\n\n"), "{case}: {seen}");
                        assert_eq!(reply.body.len(), shape.body.len(), "{case}");
                    } else {
                        assert!(reply.body == shape.body, "{case}: {}", reply.text());
                    }
                    // The end of an answer reaches the client before it is counted.
                    let expected = before + shape.cost;
                    let mut now = 0;
                    let deadline = Instant::now() + PATIENCE;
                    while now != expected && Instant::now() < deadline {
                        now = used(&stage, "acme");
                    }
                    assert_eq!(now - before, shape.cost, "{case}");
                    before = now;
                }
            }
        }
    }
}

/// A chat with the mocks, whose answers cost [`COST`] tokens.
fn chat(stage: &Stage, of: &str, body: &str) -> Reply {
    ask(stage, &Request::post(CHAT, body).header("Authorization", &format!("Bearer {}", key(of))))
}

/// Asks until it is refused; how many times it was not.
fn until_refused(stage: &Stage, of: &str) -> (usize, Reply) {
    for passed in 0.. {
        let reply = chat(stage, of, HELLO);
        if reply.status != 200 || passed > 20 {
            return (passed, reply);
        }
        // What an answer cost is counted a moment after its end has reached the client.
        wait_for("the count", PATIENCE, || (used(stage, of) >= (passed as u64 + 1) * COST).then_some(()));
    }
    unreachable!("it returns")
}

const HELLO: &str = r#"{"model":"mock-small","messages":[{"role":"user","content":"hello"}]}"#;
const HELLO_STREAMED: &str = r#"{"model":"mock-small","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
/// Of the prompt, by the mock's own count, and of the answer.
const PROMPT: u64 = 9;
const COST: u64 = PROMPT + 16;

#[test]
fn each_limit_of_tokens_bites_and_nobody_else_feels_it() {
    for binary in binaries() {
        let (small, window) = (2 * COST, 3 * COST - 1);
        let text = format!(
            "[plan.small]\ntokens = \"{small}/60m\"\n[plan.day]\ntokens = [\"1000000/1m\", \"{window}/24h\"]\n\
             [plan.answers]\ntokens = \"1000000/1m\"\ntoken_weights = {{ prompt = 0, cached = 0, completion = 1.5 }}\n\
             [plan.careful]\ntokens = \"1000/60m\"\nreserve = true\n{}{}{}{}{}",
            client("acme", "small"),
            client("late", "small"),
            client("daily", "day"),
            client("writer", "answers"),
            client("careful", "careful"),
        );
        let stage = Stage::running(&binary, |file| file + "\n" + &text);
        let said = format!("{}", binary.version);
        let (passed, refused) = until_refused(&stage, "acme");
        assert_eq!((passed, refused.status), (2, 429), "{said}: {}", refused.text());
        assert!(message(&refused).contains(&format!("the plan small allows {small}/1h tokens")), "{}", refused.text());
        assert_eq!(refused.json()["error"]["type"], "tokens");
        assert_eq!(refused.header("x-ratelimit-limit-tokens"), Some(small.to_string().as_str()));
        assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("0"));
        let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a wait");
        // One token comes back in 3600 / 50 s.
        assert!((66..=73).contains(&wait), "{said}: {wait}");
        assert_eq!(used(&stage, "acme"), 2 * COST, "a refused request costs nothing");
        // Each client by itself, all at once.
        let first = chat(&stage, "late", HELLO);
        assert_eq!(
            (first.status, first.header("x-ratelimit-remaining-tokens")),
            (200, Some(small.to_string().as_str()))
        );
        let (passed, refused) = until_refused(&stage, "daily");
        assert_eq!((passed, refused.status), (3, 429), "{said}: {}", refused.text());
        assert!(message(&refused).contains(&format!("{window}/1d tokens")), "{}", refused.text());
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        assert_eq!(chat(&stage, "writer", HELLO).status, 200);
        wait_for("one and a half for each token", PATIENCE, || (used(&stage, "writer") == 24).then_some(()));
        // Nothing is asked of a server that would cost too much.
        for field in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
            let asked = HELLO.replace("{\"model\"", &format!("{{\"{field}\":1001,\"model\""));
            let refused = chat(&stage, "careful", &asked);
            assert_eq!(refused.status, 429, "{said} {field}: {}", refused.text());
            assert!(message(&refused).contains("may cost 1001 tokens"), "{}", refused.text());
        }
        assert_eq!(chat(&stage, "careful", &HELLO.replace("{\"model\"", "{\"max_tokens\":1000,\"model\"")).status, 200);
        wait_for("its cost", PATIENCE, || (used(&stage, "careful") == COST).then_some(()));
        assert_eq!(chat(&stage, "careful", &HELLO.replace("{\"model\"", "{\"max_tokens\":1000,\"model\"")).status, 429);
        assert_eq!(chat(&stage, "careful", &HELLO.replace("{\"model\"", "{\"max_tokens\":974,\"model\"")).status, 200);
        // Another number is live without a reload; what was used stays used.
        let worker = stage.worker();
        let edited = stage.edit(&format!("{small}/60m"), "1000000/60m");
        wait_for("the larger plan", LENIENT, || (chat(&stage, "acme", HELLO).status == 200).then_some(()));
        assert!(edited.elapsed() < LENIENT);
        stage.edit("1000000/60m", &format!("{}/60m", 3 * COST));
        wait_for("the smaller plan", LENIENT, || (chat(&stage, "acme", HELLO).status == 429).then_some(()));
        assert_eq!(stage.worker(), worker, "{said}: a reload");
        // A reload hands over what was counted.
        let before = used(&stage, "acme");
        stage.edit("retries = 2\n\n[backend.embeddings.check]", "retries = 1\n\n[backend.embeddings.check]");
        wait_for("the reload", LENIENT, || (stage.worker() != worker).then_some(()));
        wait_for("the old counters", LENIENT, || (chat(&stage, "acme", HELLO).status == 429).then_some(()));
        // What came before it was taught is counted as well. On 2.6 a worker that is replaced in its first seconds hands
        // nothing over.
        let now = used(&stage, "acme");
        assert!(binary.version.major < 3 || now >= before, "{said}: {now} after {before}");
    }
}

#[test]
fn streams_cost_what_they_say_whether_or_not_the_client_asked() {
    for binary in binaries() {
        let address = format!("127.0.0.1:{}", free_port());
        let stage = Stage::running(&binary, |file| {
            let listening = swapped(&file, "[api]\n", &format!("[api]\nlisten = \"{address}\"\n"));
            listening + "\n" + COUNTED + &client("acme", "counted")
        });
        let version = binary.version;
        let plain = chat(&stage, "acme", HELLO_STREAMED);
        assert_eq!(plain.status, 200);
        wait_for("its cost", PATIENCE, || (used(&stage, "acme") == COST).then_some(()));
        assert!(!plain.text().contains("\"usage\":{"), "{version}: {}", plain.text());
        let bodies = || SERVERS.map(|server| stage.last_body(server, CHAT)["stream_options"]["include_usage"].clone());
        assert!(bodies().contains(&true.into()), "{version}: {:?}", bodies());
        let asked =
            HELLO_STREAMED.replace("\"stream\":true", "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
        let told = chat(&stage, "acme", &asked);
        wait_for("its cost", PATIENCE, || (used(&stage, "acme") == 2 * COST).then_some(()));
        assert!(told.text().contains("\"total_tokens\":25"), "{version}: {}", told.text());
        // A client that hangs up pays for what was sent.
        for server in SERVERS {
            stage.break_mock(server, vec![Fault { rate: Some(20.0), ..Fault::new(FaultKind::Rate) }]);
        }
        {
            let mut connection = Connection::open(&stage.address).expect("a connection");
            let request = Request::post(CHAT, HELLO_STREAMED).header("x-api-key", &key("acme"));
            let mut stream = connection.stream(&request).expect("a stream");
            for _ in 0..5 {
                stream.next_piece().expect("a piece");
            }
        }
        let hung_up = wait_for("the cost of a stream that was left", PATIENCE, || {
            Some(used(&stage, "acme") - 2 * COST).filter(|cost| *cost > 0)
        });
        assert!((4..COST + 8).contains(&hung_up), "{version}: {hung_up}");
        let kinds = |name: &str| -> Vec<u64> {
            let metrics = get(&address, "/metrics").expect("an answer").text();
            let of = format!("hapilot_client_{name}_total{{client=\"acme\",plan=\"counted\",kind=");
            let found = metrics.lines().filter(|line| line.starts_with(&of));
            found.filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect()
        };
        let counted = wait_for("three answers in the metrics", PATIENCE, || {
            Some(kinds("answers_counted")).filter(|counts| counts.iter().sum::<u64>() == 3)
        });
        assert_eq!(counted.iter().max(), Some(&2), "{version}: two told, and one did not");
        assert_eq!(kinds("tokens").iter().sum::<u64>(), used(&stage, "acme"), "{version}");
    }
}

#[test]
fn many_answers_at_once_are_each_counted_once() {
    for binary in binaries() {
        let stage = odd_stage(&binary, &(COUNTED.to_owned() + &client("acme", "counted")));
        let shapes = shapes();
        let expected: u64 = std::thread::scope(|scope| {
            let (shapes, stage) = (&shapes, &stage);
            let threads: Vec<_> = (0..16_usize)
                .map(|thread| {
                    scope.spawn(move || {
                        let mut connection = Connection::open(&stage.address).expect("a connection");
                        let mut cost = 0;
                        for round in 0..30 {
                            let number = (thread * 7 + round * 5) % shapes.len();
                            let shape = &shapes[number];
                            let framing = if (thread + round) % 3 == 0 { "chunks" } else { "length" };
                            let request = Request::post(shape.path, shape.asked)
                                .header("x-api-key", &key("acme"))
                                .header("X-Shape", &format!("{number} {framing} {}", 50 + thread * 40));
                            let reply = connection.send(&request).expect("an answer");
                            assert_eq!(reply.status, 200, "{}", shape.name);
                            cost += shape.cost;
                        }
                        cost
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a client")).sum()
        });
        wait_for("every token", PATIENCE, || (used(&stage, "acme") >= expected).then_some(()));
        assert_eq!(used(&stage, "acme"), expected, "{}", binary.version);
    }
}
