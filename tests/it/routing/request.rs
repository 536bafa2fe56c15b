//! Generated requests, each with what it truly asks for: known because it was made so, not because it was read.

use super::{readings, table};
use crate::support::chance::Chance;

/// Names that routes know, names that none knows, and names made to hurt.
pub const MODELS: [&str; 40] = [
    "mini-1",
    "llama-3-8b-instruct",
    "x-y-z-instruct-v2",
    "ab-coder",
    "q-vision-1",
    "claude-3-5-sonnet",
    "claude-3-opus",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "o1",
    "o3",
    "o4",
    "meta/llama-3",
    "meta/other",
    "modèle",
    "modele",
    "mod-le",
    "qwen-7b",
    "qwen-72b",
    "gemini-pro",
    "x:free",
    ":free",
    "a b",
    "a bc",
    "#1",
    "日本語",
    "日",
    "aXaXaXaXaXaXaXb",
    "aaaaaaab",
    "aaaaaab",
    "ft:gpt:acme:1",
    "ft:gpt:other:1",
    "mistral-7",
    "mistral-77",
    "mistral-777",
    "deepseek-r1",
    "deepseek-v3",
    "phi-4",
    "\u{1F600}\"\\/x",
];
const PATHS: [&str; 9] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/batches",
    "/internal/x/y",
    "/",
    "/v1/audio/transcriptions",
];
const JSON_TYPES: [&str; 7] = [
    "application/json",
    "application/json; charset=utf-8",
    "application/x+json",
    "text/plain",
    "",
    "APPLICATION/JSON",
    "application/x-www-form-urlencoded",
];

/// What is right.
#[derive(Debug)]
pub enum Truth {
    /// It is served there.
    Leads { to: String, may_be_refused: bool },
    /// It names no one model, or none that anybody could tell.
    Refused,
}

/// One request.
#[derive(Debug)]
pub struct Request {
    pub kind: &'static str,
    pub bytes: Vec<u8>,
    pub truth: Truth,
}

fn leads(path: &str, model: Option<&str>) -> Truth {
    Truth::Leads { to: table::leads_to(path, model).to_owned(), may_be_refused: false }
}

impl Request {
    pub fn generate(chance: &mut Chance) -> Self {
        let model = *chance.pick(&MODELS);
        let path = *chance.pick(&PATHS);
        match chance.below(24) {
            0..=8 => json(chance, path, model),
            9 => twice(chance, path, model),
            10 => multipart(chance, path, model),
            11 => query(chance, path, model),
            12 => form(chance, path, model),
            13 => in_path(chance, model),
            14 => no_model(chance, path),
            15 => spelt_path(chance, model),
            16 => unreadable(chance, path, model),
            17 => large(chance, path, model),
            18 => readings::behind_much(chance, path),
            19 | 20 => readings::two(chance, path),
            _ => hostile(chance, path),
        }
    }
}

pub fn post(chance: &mut Chance, path: &str, content_type: &str, extra: &str, body: &[u8]) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: lb.example\r\nConnection: close\r\n{extra}");
    if !content_type.is_empty() {
        head.push_str(&format!("Content-Type: {content_type}\r\n"));
    }
    if chance.one_in(4) {
        let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        let size = 1 + chance.index(body.len().max(1));
        for piece in body.chunks(size) {
            bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
            bytes.extend_from_slice(piece);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    } else {
        [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
    }
}

/// A text in JSON, each character escaped in one of the ways that JSON has.
fn quoted(chance: &mut Chance, text: &str, often: u64) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '/' if chance.one_in(2) => out.push_str("\\/"),
            c if chance.one_in(often) => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn blanks(chance: &mut Chance) -> &'static str {
    const BLANKS: [&str; 6] = ["", "", "", " ", "\n  ", "\t\r\n"];
    BLANKS[chance.index(BLANKS.len())]
}

/// Members that look like what is sought and are not.
fn decoy(chance: &mut Chance) -> String {
    (*chance.pick(&[
        r#""messages":[{"role":"user","content":"{\"model\":\"claude-3-opus\"}"}]"#,
        r#""tools":[{"parameters":{"properties":{"model":{"type":"string"}},"model":"gpt-4o"}}]"#,
        r#""x-model":"gpt-4o""#,
        r#""models":["gpt-4o","claude-3-opus"]"#,
        r#""metadata":{"model":"qwen-7b","a":[[[{"model":1}]]]}"#,
        r#""stream":true"#,
        r#""n":-1.5e3"#,
        r#""stop":["\\","\"","]}"]"#,
        r#""user":"model""#,
        r#""a\u0000b":null"#,
    ]))
    .to_owned()
}

fn object(chance: &mut Chance, members: &[String]) -> String {
    let mut out = String::from("{");
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(blanks(chance));
        out.push_str(member);
        out.push_str(blanks(chance));
    }
    out.push('}');
    out.push_str(blanks(chance));
    out
}

fn member(chance: &mut Chance, model: &str) -> String {
    let key = quoted(chance, "model", 12);
    format!("{key}{}:{}{}", blanks(chance), blanks(chance), quoted(chance, model, 3))
}

fn json(chance: &mut Chance, path: &str, model: &str) -> Request {
    let mut members: Vec<String> = (0..chance.below(5)).map(|_| decoy(chance)).collect();
    members.insert(chance.index(members.len() + 1), member(chance, model));
    let mut body = object(chance, &members).into_bytes();
    if chance.one_in(10) {
        body.splice(0..0, *b"\xef\xbb\xbf");
    }
    let content_type = *chance.pick(&JSON_TYPES);
    let bytes = post(chance, path, content_type, "", &body);
    Request { kind: "json", bytes, truth: leads(path, Some(model)) }
}

fn twice(chance: &mut Chance, path: &str, model: &str) -> Request {
    let other = *chance.pick(&MODELS);
    let members = [member(chance, model), decoy(chance), member(chance, other)];
    let body = object(chance, &members);
    let bytes = post(chance, path, "application/json", "", body.as_bytes());
    let truth = if other == model { leads(path, Some(model)) } else { Truth::Refused };
    Request { kind: "twice", bytes, truth }
}

fn multipart(chance: &mut Chance, path: &str, model: &str) -> Request {
    let field = |name: &str, value: &str| {
        format!("--bound\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let file = format!(
        "--bound\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\nContent-Type: audio/wav\r\n\r\n{}\r\n",
        "model".repeat(1 + chance.index(900))
    );
    let mut parts = vec![file, field("language", "en"), field("x", "name=\"model\"")];
    parts.insert(chance.index(4), field("model", model));
    let body = format!("{}--bound--\r\n", parts.concat());
    let content_type =
        *chance.pick(&["multipart/form-data; boundary=bound", "Multipart/Form-Data; boundary=\"bound\""]);
    let bytes = post(chance, path, content_type, "", body.as_bytes());
    Request { kind: "multipart", bytes, truth: leads(path, Some(model)) }
}

fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

fn query(chance: &mut Chance, path: &str, model: &str) -> Request {
    let name = *chance.pick(&["model", "mod%65l", "%6Dodel"]);
    let mut bytes = format!("GET {path}?a=1&{name}={}&b", percent(model)).into_bytes();
    bytes.extend(b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    Request { kind: "query", bytes, truth: leads(path, Some(model)) }
}

fn form(chance: &mut Chance, path: &str, model: &str) -> Request {
    let body = format!("a=1&model={}&b=2", percent(model));
    let bytes = post(chance, path, "application/x-www-form-urlencoded", "", body.as_bytes());
    Request { kind: "form", bytes, truth: leads(path, Some(model)) }
}

fn in_path(chance: &mut Chance, model: &str) -> Request {
    let name = percent(model);
    let (path, decoded) = match chance.below(4) {
        0 => (format!("/v1beta/models/{name}:generateContent"), format!("/v1beta/models/{model}:generateContent")),
        1 => (
            format!("/openai/deployments/{name}/chat/completions"),
            format!("/openai/deployments/{model}/chat/completions"),
        ),
        2 => (format!("/model/{name}/converse"), format!("/model/{model}/converse")),
        _ => (format!("/v1/models/{name}"), format!("/v1/models/{model}")),
    };
    let bytes = post(chance, &path, "application/json", "", b"{}");
    // A colon or a slash in the name makes another path of it.
    let is_plain = !model.contains([':', '/']);
    let to = table::leads_to(&decoded, Some(model)).to_owned();
    let truth =
        if is_plain { Truth::Leads { to, may_be_refused: false } } else { return no_model(chance, "/v1/chat") };
    Request { kind: "path", bytes, truth }
}

fn no_model(chance: &mut Chance, path: &str) -> Request {
    let members: Vec<String> = (0..chance.below(4)).map(|_| decoy(chance)).collect();
    let body = object(chance, &members);
    let bytes = match chance.below(4) {
        0 => format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes(),
        1 => post(chance, path, "audio/webm", "", b"\x1a\x45\xdf\xa3 model \"model\":\"gpt-4o\""),
        2 => post(chance, path, "application/json", "", b""),
        _ => post(chance, path, "application/json", "", body.as_bytes()),
    };
    Request { kind: "no model", bytes, truth: leads(path, None) }
}

/// Other spellings of a path that servers take for the same one.
fn spelt_path(chance: &mut Chance, model: &str) -> Request {
    let (spelt, truth) = match chance.below(5) {
        0 => ("/v1/%65mbeddings", "/v1/embeddings"),
        1 => ("//v1///embeddings", "/v1/embeddings"),
        2 => ("/v1%2Fembeddings", "/v1/embeddings"),
        3 => ("/internal/%78", "/internal/x"),
        _ => (
            *chance.pick(&["/v1/../v1/embeddings", "/v1/%2e/embeddings", "/v1/x%", "/v1/%zz", "/v1/%0aembeddings"]),
            "",
        ),
    };
    let named = format!("\"model\":{}", quoted(chance, model, 9));
    let body = object(chance, &[named]);
    let bytes = post(chance, spelt, "application/json", "", body.as_bytes());
    Request {
        kind: "spelt path",
        bytes,
        truth: if truth.is_empty() { Truth::Refused } else { leads(truth, Some(model)) },
    }
}

/// Models that nobody can tell, or that are none.
fn unreadable(chance: &mut Chance, path: &str, model: &str) -> Request {
    let good = quoted(chance, model, 9);
    let (content_type, extra, body): (_, _, Vec<u8>) = match chance.below(14) {
        11..=13 => ("application/json", "", nearly_json(chance)),
        9 => (
            "application/json",
            "Content-Encoding: gzip\r\nContent-Encoding: identity\r\n",
            b"\x1f\x8b\x08\0\0".to_vec(),
        ),
        10 => ("multipart/form-data; boundary=X", "", odd_form(chance, model)),
        0 => ("application/json", "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\0\0".to_vec()),
        1 => ("application/json", "", br#"{"model":7}"#.to_vec()),
        2 => ("application/json", "", br#"{"model":"a\u0000b"}"#.to_vec()),
        3 => ("application/json", "", format!("{{\"Model\":{good}}}").into_bytes()),
        4 => ("application/json", "", format!("{{\"model\":\"{}\"}}", "-".repeat(257)).into_bytes()),
        5 => ("application/json", "", format!("{{model:{good}}}").into_bytes()),
        6 => ("application/json", "", format!("{{\"model\":{good}}} {{\"model\":\"gpt-4o\"}}").into_bytes()),
        7 => wide(chance, &good),
        _ => ("multipart/form-data", "", b"--x\r\n".to_vec()),
    };
    let bytes = post(chance, path, content_type, extra, &body);
    Request { kind: "unreadable", bytes, truth: Truth::Refused }
}

/// What lenient readers take for JSON, and others take for another one, or for none.
fn nearly_json(chance: &mut Chance) -> Vec<u8> {
    let (good, evil) = ("claude-cheap", "gpt-4o");
    let bodies: [Vec<u8>; 15] = [
        format!("{{\"model\":\"{evil}\\n\"}}").into(),
        format!("{{\"model\":\"{evil}\n\"}}").into(),
        format!("{{\"model\":\"{good}\",\"mo\"+\"del\":\"{evil}\"}}").into(),
        format!("{{\"model\":\"{good}\",\"mo\" 'del':\"{evil}\"}}").into(),
        format!("{{\"model\":\"{}\" + \"{}\"}}", &evil[..2], &evil[2..]).into(),
        format!("{{\"model\":\"{evil}\"}}{{\"x\":1}}").into(),
        format!("{{\"model\":\"{evil}\"]}}").into(),
        format!("{{\"model\":\"{evil}\",!!}}").into(),
        format!("{{\"model\":\"{evil}\",\"x\":\"}}").into(),
        format!("{{\"model\":\"{evil}\",\"x\":{{}}").into(),
        format!("{{\"model\":\"{good}\",\"\\x6dodel\":\"{evil}\"}}").into(),
        format!("{{\"model\":\"{good}\",\"mo\\\ndel\":\"{evil}\"}}").into(),
        [format!("{{\"model\":\"{good}\",\"mo").as_bytes(), b"\xff", format!("del\":\"{evil}\"}}").as_bytes()].concat(),
        [format!("{{\"model\":\"{good}\",\"").as_bytes(), b"\xc3", format!("model\":\"{evil}\"}}").as_bytes()].concat(),
        format!("{{\"model\":\"{good}\",\"m\\odel\":\"{evil}\"}}").into(),
    ];
    chance.pick(&bodies).clone()
}

/// JSON that no reader of UTF-8 sees, and some servers do, whatever it is called.
fn wide(chance: &mut Chance, model: &str) -> (&'static str, &'static str, Vec<u8>) {
    let lead = *chance.pick(&["", " ", "\u{feff}", "\u{feff}\n"]);
    let text = format!("{lead}{{\"model\":{model}}}");
    let body = match chance.below(4) {
        0 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        1 => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        2 => text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(),
        _ => text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(),
    };
    let types = ["application/json", "text/plain", "image/png", "*/*", "application/octet-stream"];
    let content_type = *chance.pick(&[&types[..], &["application/x-www-form-urlencoded"]].concat());
    (content_type, "", body)
}

/// Forms about which readers differ.
fn odd_form(chance: &mut Chance, model: &str) -> Vec<u8> {
    let header = *chance.pick(&[
        "Content-Disposition: form-data; name = \"model\"",
        "Content-Disposition: form-data; name =\"model\"",
        "Content-Disposition: form-data;\r\n name=\"model\"",
        "Content-Disposition : form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"mod\\el\"",
        "Content-Disposition: form-data; name*=UTF-8''model",
        "Content-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"model\"",
        "X: y\nContent-Disposition: form-data; name=\"model\"",
    ]);
    let preamble = *chance.pick(&["", "zz--X-- \r\n"]);
    format!("{preamble}--X\r\n{header}\r\n\r\n{model}\r\n--X--\r\n").into_bytes()
}

/// The model behind a large prompt, within the buffer and beyond it.
fn large(chance: &mut Chance, path: &str, model: &str) -> Request {
    let size = *chance.pick(&[20_000, 70_000, 120_000, 200_000, 300_000, 600_000]);
    let unit = *chance.pick(&["x", "word ", "\\n", "\\u00e9", "\\\"", "日"]);
    let prompt = unit.repeat(size / unit.len());
    let model_first = chance.one_in(3);
    let model_member = format!("\"model\":{}", quoted(chance, model, 9));
    let prompt = format!("\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]");
    let body =
        if model_first { format!("{{{model_member},{prompt}}}") } else { format!("{{{prompt},{model_member}}}") };
    let bytes = post(chance, path, "application/json", "", body.as_bytes());
    let to = table::leads_to(path, Some(model)).to_owned();
    // From 3.4 on all of it is seen; a text of nothing but quotes costs more than a request may.
    let may_be_refused = size > 200_000 && !model_first || size > 150_000 && unit == "\\\"";
    let truth = Truth::Leads { to, may_be_refused };
    Request { kind: "large", bytes, truth }
}

/// Made to be dear: for the reader, for expressions, for maps. Where nothing is refused, the truth is simple.
fn hostile(chance: &mut Chance, path: &str) -> Request {
    if chance.one_in(6) {
        return dear_for_the_reader(chance);
    }
    let name = match chance.below(5) {
        0 => "-".repeat(256),
        1 => "a".repeat(256),
        2 => format!("{}instruc", "-i".repeat(124)),
        3 => "gpt-".repeat(64),
        _ => "coder-visio".repeat(23),
    };
    let long = *chance.pick(&[5_000, 62_000, 200_000]);
    let padding = match chance.below(9) {
        0 => format!("\"x\":{}{}", "[".repeat(long / 2), "]".repeat(long / 2)),
        1 => format!("\"x\":[{}1]", "{\"model\":\"a\"},".repeat(long / 14)),
        2 => format!("\"x\":\"{}\"", "\\\\".repeat(long / 2)),
        3 => format!("\"x\":\"{}\"", "\\\"".repeat(long / 2)),
        4 => format!("\"x\":[{}1]", "1,".repeat(long / 2)),
        5 => format!("\"x\":[{}\"\"]", "\"\",".repeat(long / 3)),
        6 => (0..long / 12).map(|at| format!("\"k{at}\":1")).collect::<Vec<_>>().join(","),
        7 => format!("\"x\":1{}", " ".repeat(long)),
        _ => format!("\"x\":\"{}\"", "-".repeat(long)),
    };
    let body = format!("{{\"y\":0,{padding},\"model\":\"{name}\"}}");
    let path = if chance.one_in(8) { format!("/{}", "%2d/".repeat(long.min(60_000) / 4)) } else { path.to_owned() };
    let decoded = path.replace("%2d", "-");
    let bytes = post(chance, &path, "application/json", "X-Request-Id: aaaaaaaaaaaaaaaa!\r\n", body.as_bytes());
    // Too many parts are refused, and so are long paths and names.
    let truth = Truth::Leads { to: table::leads_to(&decoded, Some(&name)).to_owned(), may_be_refused: true };
    Request { kind: "hostile", bytes, truth }
}

/// Forms and paths in which a careless search begins anew at each part.
fn dear_for_the_reader(chance: &mut Chance) -> Request {
    if chance.one_in(2) {
        let path = (*chance.pick(&["/models", "/models/a:b", "/:a", "/openai/deployments"])).repeat(900);
        let bytes = post(chance, &path[..path.len().min(8000)], "application/json", "", b"{}");
        let truth = Truth::Leads { to: table::DEFAULT.to_owned(), may_be_refused: true };
        return Request { kind: "dear path", bytes, truth };
    }
    let tail = *chance.pick(&["\r", "\r\n", "--", "-", "\r\n--"]);
    let body = format!("--X{}{}", "\r\n--X".repeat(195), tail.repeat(*chance.pick(&[100_000, 400_000])));
    let head = format!(
        "POST /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=X\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Request { kind: "dear form", bytes: [head.as_bytes(), body.as_bytes()].concat(), truth: Truth::Refused }
}
