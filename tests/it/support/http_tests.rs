//! The client against a server that says byte for byte what a test wrote down.

use super::*;
use std::net::TcpListener;
use std::thread::JoinHandle;

/// What a scripted server does after the head of a request has come.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Sends these bytes.
    Send(&'static str),
    /// Lets time pass.
    Wait(Duration),
    /// Closes the connection.
    Close,
}

/// Serves connections one after the other, each request on them with the next script; ends after the last.
pub fn scripted(scripts: Vec<Vec<Act>>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = std::thread::spawn(move || {
        let mut heads = Vec::new();
        let mut scripts = scripts.into_iter();
        let mut script = scripts.next();
        while script.is_some() {
            let (stream, _) = listener.accept().expect("a connection");
            let mut stream = BufReader::new(stream);
            while let Some(acts) = script.take() {
                let Some(head) = read_head(&mut stream) else {
                    script = Some(acts);
                    break;
                };
                heads.push(head);
                script = scripts.next();
                if !play(&acts, stream.get_mut()) {
                    break;
                }
            }
        }
        heads
    });
    (address, server)
}

fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    stream.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}

fn play(acts: &[Act], stream: &mut TcpStream) -> bool {
    for act in acts {
        match act {
            Act::Send(text) => stream.write_all(text.as_bytes()).expect("the client listens"),
            Act::Wait(time) => crate::support::pause(*time),
            Act::Close => return false,
        }
    }
    true
}

const OK: Act = Act::Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Served-By: one\r\n\r\nhi");

#[test]
fn a_connection_is_kept_for_several_requests() {
    let (address, server) = scripted(vec![
        vec![OK],
        vec![Act::Send("HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 7\r\n\r\n{\"a\":1}")],
        vec![Act::Send("HTTP/1.1 204 No Content\r\n\r\n")],
        vec![OK],
    ]);
    let mut connection = Connection::open(&address).expect("a connection");
    let first = connection.send(&Request::get("/x").header("Authorization", "Bearer k")).expect("an answer");
    assert_eq!((first.status, first.text().as_str(), first.header("x-served-by")), (200, "hi", Some("one")));
    let second = connection.send(&Request::post("/y", "{}")).expect("an answer");
    assert_eq!((second.status, second.header("retry-after"), second.json()["a"].as_u64()), (429, Some("7"), Some(1)));
    assert_eq!(connection.send(&Request::get("/z")).expect("an answer").body, b"");
    drop(connection);
    assert_eq!(get(&address, "/last").expect("an answer").status, 200);
    let heads = server.join().expect("the server ends");
    assert!(heads[0].starts_with("GET /x HTTP/1.1\r\nHost: 127.0.0.1:"), "{}", heads[0]);
    assert!(heads[0].contains("\r\nAuthorization: Bearer k\r\n"), "{}", heads[0]);
    assert!(heads[1].contains("Content-Type: application/json") && heads[1].ends_with("\r\n\r\n{}"), "{}", heads[1]);
}

#[test]
fn a_post_of_its_own_sends_its_host_when_told() {
    let (address, server) = scripted(vec![vec![OK], vec![OK]]);
    assert_eq!(post(&address, "/", "{}").expect("an answer").status, 200);
    let request = Request::get("/").header("Host", "api.example.com");
    Connection::open(&address).expect("a connection").send(&request).expect("an answer");
    assert!(server.join().expect("the server ends")[1].contains("\r\nHost: api.example.com\r\n"));
}

#[test]
fn each_chunk_of_a_stream_has_its_time() {
    let gap = Duration::from_millis(120);
    let (address, server) = scripted(vec![vec![
        Act::Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"),
        Act::Wait(gap),
        Act::Send("3;x=y\r\ntwo\r\n0\r\n\r\n"),
    ]]);
    let mut connection = Connection::open(&address).expect("a connection");
    let mut stream = connection.stream(&Request::get("/")).expect("a head");
    assert_eq!((stream.status, stream.headers.len()), (200, 1));
    let first = stream.next_piece().expect("a chunk").expect("not the end");
    let second = stream.next_piece().expect("a chunk").expect("not the end");
    assert!(stream.next_piece().expect("an end").is_none());
    assert_eq!((first.bytes.as_slice(), second.bytes.as_slice()), (&b"one"[..], &b"two"[..]));
    assert!(second.after >= gap && second.after - first.after > gap / 2, "{:?} {:?}", first.after, second.after);
    drop(connection);
    server.join().expect("the server ends");
}

#[test]
fn a_body_without_length_ends_with_the_connection() {
    let text = Act::Send("HTTP/1.1 200 OK\r\n\r\nall of it");
    let (address, server) = scripted(vec![vec![text, Act::Close]]);
    assert_eq!(get(&address, "/").expect("an answer").text(), "all of it");
    server.join().expect("the server ends");
}

#[test]
fn what_is_cut_off_is_an_error() {
    let cut = [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfou",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
        "nonsense\r\n\r\n",
    ];
    for text in cut {
        let (address, server) = scripted(vec![vec![Act::Send(text), Act::Close]]);
        assert!(get(&address, "/").is_err(), "{text:?}");
        server.join().expect("the server ends");
    }
}
