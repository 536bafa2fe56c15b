//! Reads one HTTP/1.1 request off a connection, within limits. Knows no path and no fault.

use super::link::Link;
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// Longest request head, in bytes: more than HAProxy's usual buffer lets through.
const MAX_HEAD: usize = 64 << 10;
/// Longest request body, in bytes.
const MAX_BODY: usize = 10 << 20;

/// One request, read to its end.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// Without the question mark; empty: none.
    pub(super) query: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// The client lets the connection live.
    pub(super) keep_alive: bool,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The key that the client presented as Bearer token.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.header("authorization").and_then(|v| v.split_once(' ')).map(|(_, key)| key.trim())
    }

    /// The key that the client presented, wherever.
    pub(super) fn key(&self) -> Option<&str> {
        self.bearer()
            .or_else(|| ["x-api-key", "api-key", "x-goog-api-key"].into_iter().find_map(|name| self.header(name)))
    }
}

/// Reads the next request; `None` when the client closed between two of them.
///
/// # Errors
/// `InvalidData` when it is not HTTP/1 or beyond a limit; otherwise what the connection said.
pub(super) async fn read_request(stream: &mut BufReader<Link>) -> io::Result<Option<Request>> {
    let mut left = MAX_HEAD;
    let mut first = read_line(stream, &mut left).await?;
    // RFC 9112 2.2: skip an empty line before the request line.
    if first.as_deref() == Some("") {
        first = read_line(stream, &mut left).await?;
    }
    let Some(first) = first else { return Ok(None) };
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid("not a request line"));
    };
    if !version.starts_with("HTTP/1.") {
        return Err(invalid("not HTTP/1"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        keep_alive: version != "HTTP/1.0",
    };
    loop {
        let line = read_line(stream, &mut left).await?.ok_or_else(|| invalid("the head is cut"))?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header without a colon"))?;
        request.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    match request.header("connection").map(str::to_ascii_lowercase).as_deref() {
        Some("close") => request.keep_alive = false,
        Some("keep-alive") => request.keep_alive = true,
        _ => {}
    }
    if request.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    request.body = read_body(stream, &request).await?;
    Ok(Some(request))
}

async fn read_body(stream: &mut BufReader<Link>, request: &Request) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if request.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked")) {
        loop {
            let line = read_line(stream, &mut 1024).await?.ok_or_else(|| invalid("the body is cut"))?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| invalid("a chunk without a size"))?;
            if size > MAX_BODY - body.len() {
                return Err(invalid("the body is too long"));
            }
            let from = body.len();
            body.resize(from + size, 0);
            stream.read_exact(&mut body[from..]).await?;
            // The line's end after a chunk; the trailer's end after the last one.
            while read_line(stream, &mut 8192).await?.is_some_and(|l| !l.is_empty()) {}
            if size == 0 {
                return Ok(body);
            }
        }
    }
    if let Some(length) = request.header("content-length") {
        let length: usize = length.parse().map_err(|_| invalid("not a Content-Length"))?;
        if length > MAX_BODY {
            return Err(invalid("the body is too long"));
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
    }
    Ok(body)
}

/// One line without its end; `None` at the end of the connection.
async fn read_line(stream: &mut BufReader<Link>, left: &mut usize) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = (&mut *stream).take(*left as u64).read_until(b'\n', &mut line).await?;
    if read == 0 && *left > 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(invalid("a line is too long or cut"));
    }
    *left -= read;
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| invalid("the head is not UTF-8"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
