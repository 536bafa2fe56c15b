//! A small blocking HTTP/1.1 client that hides nothing: each chunk's arrival can be timed, and a connection that the
//! other side closed is an error, not a silent second try.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longest silence before an answer counts as failed.
const SILENCE: Duration = Duration::from_secs(15);
/// Longest body that a test may receive.
const LARGEST_BODY: usize = 64 << 20;

/// What to send.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A GET of a path.
    pub fn get(path: &str) -> Self {
        Self { method: "GET".to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// A HEAD of a path.
    pub fn head(path: &str) -> Self {
        Self { method: "HEAD".to_owned(), ..Self::get(path) }
    }

    /// A POST of JSON.
    pub fn post(path: &str, json: &str) -> Self {
        let request = Self { method: "POST".to_owned(), body: json.as_bytes().to_vec(), ..Self::get(path) };
        request.header("Content-Type", "application/json")
    }

    /// The same with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn write(&self, host: &str, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text += &format!("Host: {host}\r\n");
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if self.method == "POST" {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        to.write_all(&bytes)
    }
}

/// What came back, complete.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 200 and so on.
    pub status: u16,
    /// Every header in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

/// One GET on a connection of its own.
pub fn get(address: &str, path: &str) -> io::Result<Reply> {
    Connection::open(address)?.send(&Request::get(path))
}

/// One HEAD on a connection of its own.
pub fn head(address: &str, path: &str) -> io::Result<Reply> {
    Connection::open(address)?.send(&Request::head(path))
}

/// One POST of JSON on a connection of its own.
pub fn post(address: &str, path: &str, json: &str) -> io::Result<Reply> {
    Connection::open(address)?.send(&Request::post(path, json))
}

/// A kept-alive connection.
#[derive(Debug)]
pub struct Connection {
    host: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self { host: address.to_owned(), stream: BufReader::new(stream) })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`], `BrokenPipe` or `ConnectionReset` only when the other side closed before its
    /// first byte; an answer that was begun and not ended is [`io::ErrorKind::Other`].
    pub fn send(&mut self, request: &Request) -> io::Result<Reply> {
        let mut stream = self.stream(request)?;
        let mut body = Vec::new();
        while let Some(piece) = stream.next_piece()? {
            body.extend_from_slice(&piece.bytes);
            if body.len() > LARGEST_BODY {
                return Err(io::Error::other("the body is larger than a test may receive"));
            }
        }
        let Stream { status, headers, .. } = stream;
        Ok(Reply { status, headers, body })
    }

    /// Sends a request and reads the answer's head; the body is read piece by piece.
    pub fn stream(&mut self, request: &Request) -> io::Result<Stream<'_>> {
        let sent = Instant::now();
        request.write(&self.host, self.stream.get_mut())?;
        let (status, headers) = loop {
            let first = self.line()?;
            let status = first.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
            let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {first:?}")))?;
            let headers = self.headers().map_err(cut_off)?;
            // Behind an interim answer comes the real one.
            if status >= 200 {
                break (status, headers);
            }
        };
        let left = if request.method == "HEAD" {
            Left::Bytes(0)
        } else if find(&headers, "transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            Left::Chunks
        } else if let Some(length) = find(&headers, "content-length") {
            Left::Bytes(length.parse().map_err(|_| io::Error::other("a content-length that is no number"))?)
        } else if status == 204 || status == 304 {
            Left::Bytes(0)
        } else {
            Left::UntilClose
        };
        Ok(Stream { status, headers, sent, left, connection: self })
    }

    fn headers(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None if line.is_empty() => return Ok(headers),
                None => return Err(io::Error::other(format!("not a header: {line:?}"))),
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// How the rest of a body is delimited.
#[derive(Clone, Copy, Debug)]
enum Left {
    Chunks,
    Bytes(usize),
    UntilClose,
}

/// A body that is arriving.
#[derive(Debug)]
pub struct Stream<'a> {
    /// 200 and so on.
    pub status: u16,
    /// Every header in order.
    pub headers: Vec<(String, String)>,
    sent: Instant,
    left: Left,
    connection: &'a mut Connection,
}

/// A part of a body, as it came: one chunk where the answer is chunked.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Time since the request was sent.
    pub after: Duration,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Stream<'_> {
    /// The next part, or `None` at the body's proper end.
    ///
    /// # Errors
    /// A body that is cut off is an error.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        let bytes = self.next_bytes().map_err(cut_off)?;
        Ok(bytes.map(|bytes| Piece { after: self.sent.elapsed(), bytes }))
    }

    fn next_bytes(&mut self) -> io::Result<Option<Vec<u8>>> {
        let bytes = match self.left {
            Left::Bytes(0) => return Ok(None),
            Left::Bytes(length) => {
                let bytes = self.some(length)?;
                if bytes.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.left = Left::Bytes(length - bytes.len());
                bytes
            }
            Left::UntilClose => {
                let bytes = self.some(16 << 10)?;
                if bytes.is_empty() {
                    return Ok(None);
                }
                bytes
            }
            Left::Chunks => {
                let line = self.connection.line()?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16).map_err(|_| io::Error::other(format!("chunk {line:?}")))?;
                if size > LARGEST_BODY {
                    return Err(io::Error::other("a chunk larger than a test may receive"));
                }
                let mut bytes = vec![0; size];
                self.connection.stream.read_exact(&mut bytes)?;
                self.connection.line()?;
                if size == 0 {
                    self.left = Left::Bytes(0);
                    return Ok(None);
                }
                bytes
            }
        };
        Ok(Some(bytes))
    }

    fn some(&mut self, at_most: usize) -> io::Result<Vec<u8>> {
        let ready = self.connection.stream.fill_buf()?;
        let bytes = ready[..ready.len().min(at_most)].to_vec();
        self.connection.stream.consume(bytes.len());
        Ok(bytes)
    }
}

fn cut_off(error: io::Error) -> io::Error {
    io::Error::other(format!("the answer was cut off: {error}"))
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

#[cfg(test)]
#[path = "http_tests.rs"]
pub mod tests;
