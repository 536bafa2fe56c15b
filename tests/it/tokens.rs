//! Limits of tokens: what answers cost is counted as they pass, in every shape, framing and size of pieces, on every
//! version; and each limit bites.

mod shapes;
mod watched;

use self::shapes::{Framing, PLAIN, Shape, odd_provider, shapes};
use super::clients::{ask, client, key, message};
use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Reply, Request, get, post};
use super::support::port::free_port;
use super::support::stage::{LENIENT, SERVERS, Stage, swapped};
use super::support::{PATIENCE, pause, wait_for};
use hapilot::mock::{Fault, FaultKind};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
const COUNTED: &str = "[plan.counted]\ntokens = \"900000000/60m\"\n";

/// A counter of a client's entry in a table.
pub(super) fn counter(stage: &Stage, table: &str, of: &str) -> impl Fn(u32) -> u64 {
    let table = stage.private().admin(&format!("show table {table} key {of}"));
    move |number| {
        let name = format!(" gpc{number}=");
        let at = table.find(&name).unwrap_or_else(|| panic!("no counter {number}: {table}")) + name.len();
        table[at..].split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number")
    }
}

/// Tokens that HAProxy has counted for a client so far.
fn used(stage: &Stage, of: &str) -> u64 {
    let cell = counter(stage, "limit:client", of);
    cell(1) + 64 * cell(2) + 4096 * cell(3)
}

/// A stage whose frontend leads to the odd provider.
pub(super) fn odd_stage(binary: &Binary, plans: &str) -> Stage {
    let url = format!("http://{}", odd_provider(shapes()));
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

/// The header that has the odd provider answer with the shape of that name.
pub(super) fn shape_of(name: &str) -> (&'static str, String) {
    let number = shapes().iter().position(|shape| shape.name == name).expect("a shape");
    ("X-Shape", format!("{number} length 10000"))
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
                    if shape.body.len() / piece > 10_000 {
                        continue;
                    }
                    let case = format!("{} {} {framing:?} {piece}", binary.version, shape.name);
                    let began = Instant::now();
                    let reply = sent(&stage, shape, number, framing, piece);
                    assert!(began.elapsed() < Duration::from_secs(5), "{case}: {:?}", began.elapsed());
                    assert_eq!(reply.status, 200, "{case}: {}", reply.text());
                    if shape.name.starts_with("openai, asked") {
                        let seen = reply.text();
                        let is_hidden = !seen.contains("\"usage\":{") && seen.contains("\n\n:");
                        // One that is too long to be waited for passes.
                        assert!(is_hidden || shape.body.len() > 20_000, "{case}: {seen}");
                        let is_ended = seen.ends_with("\n\ndata: [DONE]\n\n") || shape.name.ends_with("not ended");
                        assert!(is_ended, "{case}: {seen}");
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

#[test]
fn a_client_within_its_limit_is_never_refused_whoever_looks_at_once() {
    for binary in binaries() {
        let stage = odd_stage(&binary, &(COUNTED.to_owned() + &client("acme", "counted")));
        let number = shapes().iter().position(|shape| shape.name == "openai").expect("a shape");
        let (threads, rounds) = (16, 600);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut connection = Connection::open(&stage.address).expect("a connection");
                    let request = Request::post(CHAT, PLAIN)
                        .header("x-api-key", &key("acme"))
                        .header("X-Shape", &format!("{number} length 10000"));
                    for _ in 0..rounds {
                        let reply = connection.send(&request).expect("an answer");
                        assert_eq!(reply.status, 200, "{}: {}", binary.version, reply.text());
                    }
                });
            }
        });
        let expected = 42 * threads * rounds;
        wait_for("every token", PATIENCE, || (used(&stage, "acme") >= expected).then_some(()));
        assert_eq!(used(&stage, "acme"), expected, "{}", binary.version);
    }
}

#[test]
fn a_debt_is_kept_however_large_and_a_clock_that_goes_back_makes_none() {
    for binary in binaries() {
        let text = format!(
            "[plan.hour]\ntokens = \"1/1h\"\ntoken_weights = {{ completion = 100 }}\n[plan.big]\ntokens = \"1000000/1m\"\n{}{}",
            client("acme", "hour"),
            client("rich", "big")
        );
        let stage = odd_stage(&binary, &text);
        let number = shapes().iter().position(|shape| shape.name == "openai").expect("a shape");
        let ask_as = |who: &str| {
            let request = Request::post(CHAT, PLAIN).header("x-api-key", &key(who));
            ask(&stage, &request.header("X-Shape", &format!("{number} length 10000")))
        };
        // 3,111 tokens at one an hour: 130 days.
        assert_eq!(ask_as("acme").status, 200);
        wait_for("its cost", PATIENCE, || (used(&stage, "acme") == 3111).then_some(()));
        let refused = ask_as("acme");
        assert_eq!(refused.status, 429, "{}: {}", binary.version, refused.text());
        assert_eq!(ask_as("acme").status, 429, "{}", binary.version);
        let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a wait");
        assert!((80_000..=86_402).contains(&wait), "{wait}");
        if !binary.version.at_least(3, 2) {
            continue;
        }
        // Cells 4 and 10 are moments in milliseconds: an hour and a day ahead.
        assert_eq!(ask_as("rich").status, 200);
        for ahead in [3_600_000, 86_400_000, 900_000_000] {
            let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).expect("a moment") + ahead;
            for cell in [4, 10] {
                let line = format!("set table limit:client key rich data.gpt[{cell}] {}", now % (1 << 32));
                assert_eq!(stage.private().admin(&line).trim(), "", "{line}");
            }
            let reply = ask_as("rich");
            assert_eq!(reply.status, 200, "{} {ahead}: {}", binary.version, reply.text());
        }
    }
}

#[test]
fn what_brings_no_answer_costs_its_question_and_no_way_around_is_free() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |file| file + "\n" + COUNTED + &client("acme", "counted"));
        let version = binary.version;
        for server in SERVERS {
            stage.break_mock(server, vec![Fault { path: Some(CHAT.to_owned()), ..Fault::new(FaultKind::Hang) }]);
        }
        {
            let mut stream = TcpStream::connect(&stage.address).expect("a connection");
            let head = format!(
                "POST {CHAT} HTTP/1.1\r\nHost: x\r\nx-api-key: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{HELLO_STREAMED}",
                key("acme"),
                HELLO_STREAMED.len()
            );
            stream.write_all(head.as_bytes()).expect("a request");
            pause(Duration::from_millis(500));
        }
        let asked = HELLO_STREAMED.len() as u64 / 4;
        wait_for("the cost of the question", PATIENCE, || (used(&stage, "acme") == asked).then_some(()));
        SERVERS.iter().for_each(|server| stage.mend_mock(server));
        // Errors cost nothing.
        assert_ne!(chat(&stage, "acme", &HELLO.replace("mock-small", "none")).status, 200);
        pause(Duration::from_millis(300));
        assert_eq!(used(&stage, "acme"), asked, "{version}");
        // The gateway asks also where the client said that it does not want to know.
        for options in ["null", "{}", "{ }", "{\"include_usage\":false}", "{\"include_obfuscation\":false}"] {
            let before = used(&stage, "acme");
            let body =
                HELLO_STREAMED.replace("\"stream\":true", &format!("\"stream_options\": {options},\"stream\":true"));
            let reply = chat(&stage, "acme", &body);
            assert_eq!(reply.status, 200, "{version} {options}: {}", reply.text());
            assert!(!reply.text().contains("\"usage\":{"), "{version} {options}: {}", reply.text());
            wait_for(&format!("the cost with {options}"), PATIENCE, || {
                (used(&stage, "acme") == before + COST).then_some(())
            });
        }
        // A question that is larger than a buffer, with its end where clients put it.
        for (length, end) in [(40_000, ""), (300_000, ""), (100, ""), (40_000, "\n"), (40_000, " \r\n"), (33_000, "\n")]
        {
            let before = used(&stage, "acme");
            let content = "hello [world] {} ".repeat(length / 17);
            let body = format!(
                "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{content}\"}}],\"model\":\"mock-small\",\"stream\":true}}"
            );
            // The last line break by itself, as some clients send it.
            let mut stream = TcpStream::connect(&stage.address).expect("a connection");
            let head = format!(
                "POST {CHAT} HTTP/1.1\r\nHost: x\r\nx-api-key: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                key("acme"),
                body.len() + end.len()
            );
            stream.write_all(head.as_bytes()).expect("a request");
            pause(Duration::from_millis(100));
            stream.write_all(end.as_bytes()).expect("its end");
            let mut reply = String::new();
            stream.read_to_string(&mut reply).expect("an answer");
            assert!(reply.starts_with("HTTP/1.1 200"), "{version} {length} {end:?}: {reply}");
            let prompt = format!("[{{\"content\":\"{content}\",\"role\":\"user\"}}]").len() as u64 / 4 + 1;
            wait_for(&format!("the cost of {length} {end:?}"), PATIENCE, || {
                (used(&stage, "acme") == before + prompt + 16).then_some(())
            });
            assert!(!reply.contains("\"usage\":{"), "{version} {length}");
        }
    }
}

#[test]
fn a_frontend_with_routes_by_model_counts_the_same_and_nobody_has_anothers_account() {
    for binary in binaries() {
        let text = format!(
            "{COUNTED}[plan.free]\nrequests = \"100000/1m\"\n{}{}",
            client("acme", "counted"),
            client("other", "free")
        );
        let stage = Stage::running(&binary, |file| {
            let routes = "raw = [\"http-request redirect location /elsewhere if { path /moved }\"]\nbackend = \"chat\"\nroutes  = [{ model = [\"none-*\"], backend = \"embeddings\" }, ";
            swapped(&file, "backend = \"chat\"\nroutes  = [", routes) + "\n" + &text
        });
        for (round, body) in [HELLO_STREAMED, HELLO, HELLO_STREAMED].into_iter().enumerate() {
            let reply = chat(&stage, "acme", body);
            assert_eq!(reply.status, 200, "{}: {}", binary.version, reply.text());
            let expected = COST * (round as u64 + 1);
            wait_for("its cost", PATIENCE, || (used(&stage, "acme") == expected).then_some(()));
        }
        // What goes to no backend leaves its account behind, for nobody.
        for _ in 0..20 {
            let moved = Request::post("/moved", HELLO).header("x-api-key", &key("acme"));
            assert_eq!(ask(&stage, &moved).status, 302);
            let reply = chat(&stage, "other", HELLO_STREAMED);
            assert!(reply.status == 200 && !reply.text().contains("usage"), "{}", reply.text());
        }
        assert_eq!((used(&stage, "acme"), used(&stage, "other")), (3 * COST, 0), "{}", binary.version);
    }
}

#[test]
fn where_every_frontend_is_open_nothing_is_counted() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |file| {
            swapped(&file, "backend = \"chat\"\nroutes", "open = true\nbackend = \"chat\"\nroutes")
                + "\n"
                + COUNTED
                + &client("acme", "counted")
        });
        for body in [HELLO, HELLO_STREAMED] {
            let reply = post(&stage.address, CHAT, body).expect("an answer");
            assert_eq!(reply.status, 200, "{}: {}", binary.version, reply.text());
        }
        assert!(!stage.read("haproxy.cfg").contains("hapilot-usage"), "{}", binary.version);
    }
}
