//! One connection, one request, one bounded answer. Knows HTTP, not what it is for.
//!
//! HTTP/1.1 on a connection of its own, never pooled, so that a probe notices a listener that has died; no proxy, no
//! redirect, no decompression. hyper rather than reqwest, because the name in TLS, the `Host` header and the address
//! are three different things here, and because connecting has a deadline of its own.

use super::breakage::{of_http, of_io};
use super::classify::ProbeVerdict;
use super::meter::{Allowance, Metered};
use super::proxied::header;
use super::target::Target;
use super::trust::Trust;
use crate::health::{Outcome, Phase};
use crate::model::{Host, Profile, Scheme};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Most headers of an answer.
const MAX_HEADERS: usize = 128;
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// A connection that is ready for one request; dropping it closes it.
pub(super) struct Connection {
    sender: http1::SendRequest<String>,
    allowance: Allowance,
    /// Ends with the probe, whatever becomes of it.
    _task: AbortOnDropHandle<()>,
}

impl Connection {
    /// Resolves, connects and speaks TLS, all before `until`.
    pub(super) async fn open(target: &Target, trust: &Trust, until: Instant) -> Result<Self, ProbeVerdict> {
        let tcp = dial(target, until).await?;
        match target.endpoint.scheme {
            Scheme::Http => Self::ready(tcp).await,
            Scheme::Https => Self::ready(handshake(target, trust, tcp, until).await?).await,
        }
    }

    async fn ready(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Self, ProbeVerdict> {
        let allowance = Allowance::before_head();
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(Metered::new(io, allowance.clone())))
            .await
            .map_err(|e| of_http(&e))?;
        // Its error reaches us through the sender too.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, allowance, _task: AbortOnDropHandle::new(task) })
    }

    /// Sends the request and waits for the answer's head.
    pub(super) async fn send(&mut self, request: Request<String>) -> Result<Response<Incoming>, ProbeVerdict> {
        let response = self.sender.send_request(request).await.map_err(|e| of_http(&e))?;
        self.allowance.raise();
        Ok(response)
    }

    /// Lets the server send so many bytes in all.
    pub(super) fn allow(&self, bytes: usize) {
        self.allowance.raise_to(bytes);
    }
}

/// Resolves and connects before `until`; the server knows then who calls, where it wants to.
pub(super) async fn dial(target: &Target, until: Instant) -> Result<TcpStream, ProbeVerdict> {
    let addresses = match target.connect_to {
        Some(addr) => vec![addr],
        None => resolve(target, until).await?,
    };
    let mut tcp = connect(&addresses, until).await?;
    if let Some(version) = target.proxy_protocol {
        let (from, to) = (tcp.local_addr(), tcp.peer_addr());
        let header = header(version, from.map_err(|e| of_io(&e))?, to.map_err(|e| of_io(&e))?);
        // It fits into the socket's buffer, which is empty.
        tcp.write_all(&header).await.map_err(|e| of_io(&e))?;
    }
    Ok(tcp)
}

/// Speaks TLS as the server's settings want it, before `until`.
pub(super) async fn handshake(
    target: &Target,
    trust: &Trust,
    tcp: TcpStream,
    until: Instant,
) -> Result<TlsStream<TcpStream>, ProbeVerdict> {
    let config = trust.config(&target.tls).map_err(|why| ProbeVerdict::new(Outcome::SelfCaused, why))?;
    let name = target.tls.server_name.clone().unwrap_or_else(|| match &target.endpoint.host {
        Host::Ip(ip) => ip.to_string(),
        Host::Dns(name) => name.clone(),
    });
    let name = ServerName::try_from(name)
        .map_err(|_| ProbeVerdict::new(Outcome::ProbeConfig, "tls.server_name is not a name"))?;
    timeout_at(until, TlsConnector::from(config).connect(name, tcp))
        .await
        .map_err(|_| ProbeVerdict::new(Outcome::Timeout(Phase::Connect), "no end of the TLS handshake"))?
        .map_err(|e| of_io(&e))
}

async fn resolve(target: &Target, until: Instant) -> Result<Vec<SocketAddr>, ProbeVerdict> {
    let port = target.endpoint.port;
    let name = match &target.endpoint.host {
        Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, port)]),
        Host::Dns(name) => name.as_str(),
    };
    let dns = |why: String| ProbeVerdict::new(Outcome::Dns, format!("{name}: {why}"));
    let found = timeout_at(until, lookup_host((name, port)))
        .await
        .map_err(|_| dns("the resolver does not answer".into()))?
        .map_err(|e| dns(e.to_string()))?;
    let addresses: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
    if addresses.is_empty() { Err(dns("no address".into())) } else { Ok(addresses) }
}

/// Tries one address after the other; each gets a fair part of the time that is left.
async fn connect(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, ProbeVerdict> {
    let mut last = ProbeVerdict::new(Outcome::Dns, "no address");
    for (i, addr) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - i).unwrap_or(1);
        last = match timeout_at(Instant::now() + share, TcpStream::connect(addr)).await {
            Ok(Ok(tcp)) => {
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Ok(Err(e)) => of_io(&e),
            Err(_) => ProbeVerdict::new(Outcome::Timeout(Phase::Connect), "no answer to the connection"),
        };
        last.detail = format!("{addr}: {}", last.detail);
    }
    Err(last)
}

/// Puts a request together; with a body it is a POST of JSON.
pub(super) fn request(
    target: &Target,
    path: &str,
    accept: &str,
    body: Option<String>,
) -> Result<Request<String>, ProbeVerdict> {
    let mut builder = Request::builder()
        .method(if body.is_some() { Method::POST } else { Method::GET })
        .uri(path)
        .header(HOST, target.host.clone().unwrap_or_else(|| target.endpoint.authority()))
        .header(USER_AGENT, concat!("hapilot/", env!("CARGO_PKG_VERSION"), " (health probe)"))
        .header("accept", accept)
        .header(ACCEPT_ENCODING, "identity");
    if body.is_some() {
        builder = builder.header(CONTENT_TYPE, "application/json");
    }
    let Profile { key_header, key_prefix, headers, default_headers, .. } = &*target.provider;
    for (name, value) in default_headers.iter().chain(headers) {
        builder = builder.header(name, value);
    }
    if let Some(key) = &target.key {
        let mut value = HeaderValue::from_str(&format!("{key_prefix}{}", key.expose()))
            .map_err(|_| ProbeVerdict::new(Outcome::Credential, "the key has characters that no header can carry"))?;
        value.set_sensitive(true);
        builder = builder.header(key_header, value);
    }
    builder
        .body(body.unwrap_or_default())
        .map_err(|e| ProbeVerdict::new(Outcome::ProbeConfig, format!("{path} makes no request: {e}")))
}

/// The next piece of a body; `None` at its end.
pub(super) async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, ProbeVerdict> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(e)) => return Err(of_http(&e)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A body up to a limit; the flag says whether it ended there.
pub(super) async fn read_up_to(body: &mut Incoming, limit: usize, into: &mut Vec<u8>) -> Result<bool, ProbeVerdict> {
    while let Some(piece) = next_piece(body).await? {
        let room = limit - into.len();
        into.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Ok(false);
        }
    }
    Ok(true)
}
