//! A connection to a mail server that is ready for a mail: with TLS as the operator wants it.

use super::exchange::dial;
use super::stream::Bounded;
use super::tls::handshake;
use crate::config::{SmtpServer, SmtpTls};
use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// All that a mail server may send for one mail.
const MAX_RECEIVED: usize = 256 << 10;
/// Of one reply before TLS, in bytes.
const MAX_REPLY: usize = 8 << 10;
/// What stands for the greeting of before, since TLS began after it.
const GREETING: &[u8] = b"220 TLS\r\n";

/// Connects; the server's greeting is still to be read.
pub(super) async fn open(server: &SmtpServer, hello: &str) -> Result<Box<dyn AsyncTokioStream>, String> {
    let SmtpServer { host, port, tls } = server;
    let mut tcp = dial(host, *port).await?;
    Ok(match tls {
        SmtpTls::Never => Box::new(Bounded::new(tcp, MAX_RECEIVED)),
        SmtpTls::AtOnce => Box::new(Bounded::new(handshake(host, tcp).await?, MAX_RECEIVED)),
        SmtpTls::Starttls => {
            starttls(&mut tcp, hello).await?;
            Box::new(Bounded::new(handshake(host, tcp).await?, MAX_RECEIVED).after(GREETING))
        }
    })
}

/// Asks for TLS, and goes on without it never. Nothing that was sent before it is read after it.
async fn starttls(tcp: &mut TcpStream, hello: &str) -> Result<(), String> {
    let expect = |reply: &str, code: &str, what: &str| match reply.starts_with(code) {
        true => Ok(()),
        false => Err(format!("it answered {what} with {}", reply.lines().next().unwrap_or_default())),
    };
    expect(&reply(tcp).await?, "220", "the connection")?;
    say(tcp, &format!("EHLO {hello}\r\n")).await?;
    let told = reply(tcp).await?;
    expect(&told, "250", "EHLO")?;
    if !told.lines().any(|line| line.get(4..).is_some_and(|word| word.trim().eq_ignore_ascii_case("STARTTLS"))) {
        return Err(
            "it offers no STARTTLS, and nothing is sent in clear text (smtps:// is TLS from the first byte)".to_owned()
        );
    }
    say(tcp, "STARTTLS\r\n").await?;
    expect(&reply(tcp).await?, "220", "STARTTLS")
}

async fn say(tcp: &mut TcpStream, line: &str) -> Result<(), String> {
    tcp.write_all(line.as_bytes()).await.map_err(|e| e.to_string())
}

/// All lines of one reply, byte by byte: what follows belongs to TLS.
async fn reply(tcp: &mut TcpStream) -> Result<String, String> {
    let mut text = Vec::new();
    let mut begin = 0;
    while text.len() < MAX_REPLY {
        text.push(tcp.read_u8().await.map_err(|e| e.to_string())?);
        if text.ends_with(b"\n") {
            // `250-` goes on, `250 ` is the last one.
            if text.get(begin + 3) != Some(&b'-') {
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            begin = text.len();
        }
    }
    Err("it sends without end".to_owned())
}
