//! Asks a listener which worker serves it: the only sound proof that a bind reached the new one.
//!
//! For a while after a reload both workers accept from the same socket, so a TCP connection proves nothing. Each
//! frontend of hapilot answers `/.hapilot/worker`, to this node alone, with `%pid` in a header.

use super::listeners::{Listener, Question, WORKER_PATH};
use super::own_tls;
use crate::sys::{fault, lack, ports};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time for one question to one bind, so that a single one that hangs leaves time for another round.
const ANSWER: Duration = Duration::from_secs(2);
/// The whole answer: a status line and some headers.
const MAX_ANSWER_BYTES: u64 = 16 << 10;
/// The header with the process id.
const HEADER: &str = "x-hapilot-worker:";

/// What a listener says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This worker serves it.
    Worker(u32),
    /// Somebody accepts connections; who that is cannot be asked, for this reason.
    Accepts(&'static str),
    /// The address is not one of this node: a virtual address that another node has now.
    Elsewhere,
}

/// Why a listener gave no answer.
#[derive(Debug)]
pub(super) struct Silent {
    words: String,
    /// This process lacked what it takes to ask: no word about who listens.
    pub is_ours: bool,
}

impl Silent {
    fn new(words: String) -> Self {
        Self { words, is_ours: false }
    }

    /// An error of the system while `doing`.
    fn by(doing: &str, error: &io::Error) -> Self {
        Self { words: format!("{doing}: {error}"), is_ours: lack::is_ours(error) }
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Asks once, over a connection of its own.
pub(super) async fn ask(listener: &Listener) -> Result<Answer, Silent> {
    let at = listener.address.to_connect();
    if !ports::is_of_this_node(at.ip()).map_err(|e| Silent::by("cannot be asked", &e))? {
        return Ok(Answer::Elsewhere);
    }
    match timeout(ANSWER, converse(listener, at)).await {
        Ok(answer) => answer,
        Err(_) => Err(Silent::new(format!("did not answer within {ANSWER:?}"))),
    }
}

async fn converse(listener: &Listener, at: SocketAddr) -> Result<Answer, Silent> {
    let connecting = |e: io::Error| Silent::by("takes no connection", &e);
    fault::pass("bind.connect", at).map_err(connecting)?;
    let stream = TcpStream::connect(at).await.map_err(connecting)?;
    let said = match listener.question {
        Question::Accepts(why) => return Ok(Answer::Accepts(why)),
        Question::Clear => question(stream).await,
        Question::Tls => match own_tls::shake_hands(stream).await {
            Ok(stream) => question(stream).await,
            Err(e) if lack::is_ours(&e) => Err(e),
            Err(e) => Err(io::Error::new(e.kind(), format!("the TLS handshake failed: {e}"))),
        },
    };
    match said {
        Ok(said) if !said.is_empty() => worker_in(&said).map(Answer::Worker).map_err(Silent::new),
        Err(e) if lack::is_ours(&e) => Err(Silent::by("gave no answer", &e)),
        // Hung up on without a word.
        Ok(_) | Err(_) if listener.may_hang_up => {
            Ok(Answer::Accepts("a tcp-request rule refuses connections from here"))
        }
        Ok(_) => Err(Silent::new("hung up without an answer".to_owned())),
        Err(e) => Err(Silent::by("gave no answer", &e)),
    }
}

async fn question(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    let question = format!("HEAD {WORKER_PATH} HTTP/1.1\r\nHost: hapilot\r\nConnection: close\r\n\r\n");
    fault::pass("bind.send", WORKER_PATH)?;
    stream.write_all(question.as_bytes()).await?;
    stream.flush().await?;
    let mut bytes = Vec::new();
    match stream.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes).await {
        // TLS peers may close without saying so; what came is what counts.
        Err(_) if !bytes.is_empty() => {}
        read => {
            read?;
        }
    }
    if fault::pass_reply("bind.reply", WORKER_PATH)? {
        bytes.truncate(bytes.len() / 2);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The process id in the head of an answer; else the first line, in words.
fn worker_in(answer: &str) -> Result<u32, String> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_at_checked(HEADER.len())?;
        name.eq_ignore_ascii_case(HEADER).then(|| value.trim())
    });
    match value.map(str::parse) {
        Some(Ok(pid)) => Ok(pid),
        Some(Err(_)) => Err("answered with a worker that is no process id".to_owned()),
        None => {
            let first: String = head.lines().next().unwrap_or_default().chars().take(60).collect();
            Err(format!("answered {first:?} and not as this configuration does"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::worker_in;

    #[test]
    fn the_worker_stands_in_a_header_and_nowhere_else() {
        assert_eq!(worker_in("HTTP/1.1 200 OK\r\nX-Hapilot-Worker: 812\r\n\r\n"), Ok(812));
        assert_eq!(worker_in("HTTP/1.1 200 OK\r\nx-hapilot-worker:7\r\ncontent-length: 0\r\n\r\n"), Ok(7));
        for other in
            ["", "HTTP/1.1 404 x\r\n\r\nx-hapilot-worker: 7", "HTTP/1.1 200 OK\r\nx-hapilot-worker: 7 8\r\n\r\n"]
        {
            assert!(worker_in(other).is_err(), "{other:?}");
        }
    }
}
