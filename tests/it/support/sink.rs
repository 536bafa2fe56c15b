//! A sink that keeps what it was sent, and answers as a test wants it: well, slowly, badly or without end.

use super::port::free_port;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What one request was.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl Heard {
    /// One header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// How it answers.
#[derive(Clone, Debug)]
pub enum Manner {
    /// These bytes, and the end of the connection.
    Says(String),
    /// A head, and then bytes without end.
    Endless,
    /// Interim answers without end.
    Interim,
    /// Nothing, for ever.
    Silent,
}

impl Manner {
    /// A whole answer.
    pub fn status(status: u16, headers: &str, body: &str) -> Self {
        Self::Says(format!(
            "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    /// 200.
    pub fn well() -> Self {
        Self::status(200, "", "ok")
    }
}

/// A sink on the loopback; its thread ends with the test's process.
#[derive(Clone, Debug)]
pub struct Sink {
    /// `127.0.0.1:PORT`
    pub address: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    manner: Arc<Mutex<Manner>>,
}

impl Sink {
    /// One that listens.
    pub fn start(manner: Manner) -> Self {
        let sink = Self::absent(manner);
        sink.listen();
        sink
    }

    /// One that does not listen yet.
    pub fn absent(manner: Manner) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        Self { address, heard: Arc::default(), manner: Arc::new(Mutex::new(manner)) }
    }

    /// It listens from now on.
    pub fn listen(&self) {
        let listener = TcpListener::bind(&self.address).expect("a free port");
        let sink = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sink = sink.clone();
                std::thread::spawn(move || sink.serve(stream));
            }
        });
    }

    /// It answers so from now on.
    pub fn answers(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// What it was sent.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
        let mut reader = BufReader::new(stream);
        let Some(heard) = read(&mut reader) else { return };
        self.heard.lock().unwrap().push(heard);
        let manner = self.manner.lock().unwrap().clone();
        let mut stream = reader.into_inner();
        match manner {
            Manner::Says(text) => drop(stream.write_all(text.as_bytes())),
            Manner::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while stream.write_all(&[b'x'; 1024]).is_ok() {}
            }
            Manner::Interim => while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_ok() {},
            Manner::Silent => drop(stream.read(&mut [0; 1])),
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Heard> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        if name == "content-length" {
            length = value.parse().ok()?;
        }
        headers.push((name, value));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Heard { path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}
