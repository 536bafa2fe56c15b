//! One POST and its bounded answer, on a connection of its own: no proxy, no redirect.

use super::stream::Bounded;
use super::tls::handshake;
use crate::model::{Endpoint, Host, Scheme, retry_after_value};
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// A body is waited for so long.
const BODY: Duration = Duration::from_secs(2);
/// For each of them.
const CONNECT: Duration = Duration::from_secs(4);
/// All that a sink may send: an answer has some bytes.
const MAX_RECEIVED: usize = 256 << 10;
/// Of its body, what is read.
const MAX_BODY: usize = 4 << 10;
/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 32 << 10;

/// Where something is sent.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) is_tls: bool,
    pub(super) host: Host,
    pub(super) port: u16,
    authority: String,
    path: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// The begin of it.
    pub(super) body: String,
}

impl Address {
    /// A path below a base URL.
    pub(super) fn below(url: &Endpoint, path: &str) -> Self {
        Self {
            is_tls: url.scheme == Scheme::Https,
            host: url.host.clone(),
            port: url.port,
            authority: url.authority(),
            path: match format!("{}{path}", url.path) {
                path if path.is_empty() => "/".to_owned(),
                path => path,
            },
        }
    }

    /// A URL that is a secret: no error repeats any of it. In clear text only within the operator's own network.
    pub(super) fn secret(url: &str) -> Result<Self, &'static str> {
        let url = url::Url::parse(url.trim()).map_err(|_| "what stands there is no URL")?;
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("the URL there is neither https nor http"),
        };
        let host = match url.host() {
            Some(url::Host::Ipv4(ip)) => Host::Ip(ip.into()),
            Some(url::Host::Ipv6(ip)) => Host::Ip(ip.into()),
            Some(url::Host::Domain(name)) => Host::Dns(name.to_owned()),
            None => return Err("the URL there names no host"),
        };
        let is_near = host.is_private() || host == Host::Dns("localhost".to_owned());
        if !is_tls && !is_near {
            return Err("the URL there is http: it would go over the network in clear text");
        }
        let port = url.port_or_known_default().ok_or("the URL there has no port")?;
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        Ok(Self { is_tls, host, port, authority, path: format!("{}{query}", url.path()) })
    }
}

/// Sends a body of JSON. The error says in one line why there is no answer.
pub(super) async fn post(to: &Address, headers: &[(&'static str, String)], json: Vec<u8>) -> Result<Answer, String> {
    let tcp = dial(&to.host.to_string(), to.port).await?;
    match to.is_tls {
        true => {
            let name = match &to.host {
                Host::Ip(ip) => ip.to_string(),
                Host::Dns(name) => name.clone(),
            };
            exchange(handshake(&name, tcp).await?, to, headers, json).await
        }
        false => exchange(tcp, to, headers, json).await,
    }
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    to: &Address,
    headers: &[(&'static str, String)],
    json: Vec<u8>,
) -> Result<Answer, String> {
    let io = TokioIo::new(Bounded::new(io, MAX_RECEIVED));
    let broken = |e: hyper::Error| format!("no answer: {}", crate::sys::chain(&e));
    let (mut sender, connection) = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(io).await.map_err(broken)?;
    // Its error reaches us through the sender too.
    let _task = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&to.path)
        .header(HOST, &to.authority)
        .header(USER_AGENT, concat!("hapilot/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let length = json.len();
    let body = String::from_utf8(json).map_err(|_| format!("{length} bytes that are no text"))?;
    // No error of it repeats the path, which may be a secret.
    let request = request.body(body).map_err(|_| "its address makes no request".to_owned())?;
    let mut response = sender.send_request(request).await.map_err(broken)?;
    let retry_after = retry_after(response.headers());
    let mut begin = Vec::new();
    // What it answered is known by its status: a body that breaks off, or does not end, says no more.
    let read = async {
        while begin.len() < MAX_BODY {
            match poll_fn(|cx| Pin::new(&mut *response.body_mut()).poll_frame(cx)).await {
                Some(Ok(frame)) => begin.extend(frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => break,
            }
        }
    };
    let _ = timeout(BODY, read).await;
    begin.truncate(MAX_BODY);
    let body = String::from_utf8_lossy(&begin).into_owned();
    Ok(Answer { status: response.status().as_u16(), retry_after, body })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    retry_after_value(headers.get(RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

/// Resolves and connects.
pub(super) async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = lookup_host((host, port)).await.map_err(|e| format!("{host} does not resolve: {e}"))?;
    let addresses: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
    let mut why = format!("{host} has no address");
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Ok(Err(e)) => why = format!("{address}: {e}"),
            Err(_) => why = format!("{address} does not answer"),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_url_is_taken_whole_and_never_repeated() {
        let address = Address::secret("https://hooks.example/services/T0/B0/x?y=1\n").unwrap();
        assert_eq!((address.path.as_str(), address.port, address.is_tls), ("/services/T0/B0/x?y=1", 443, true));
        assert!(Address::secret("http://127.0.0.1:8080/x").is_ok() && Address::secret("http://10.0.0.7/x").is_ok());
        for bad in ["hunter2", "http://hooks.example/secret", "ftp://hunter2/", "https://"] {
            let why = Address::secret(bad).err().unwrap();
            assert!(!why.contains("hunter2") && !why.contains("/secret"), "{why}");
        }
    }

    #[tokio::test]
    async fn an_answer_whose_body_does_not_end_has_arrived() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = Address::secret(&format!("http://{}/hook", listener.local_addr().unwrap())).unwrap();
        let sink = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n").await.unwrap();
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let began = std::time::Instant::now();
        let answer = post(&to, &[], b"{}".to_vec()).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!((1..40).contains(&answer.body.len()), "{}", answer.body);
        assert!(began.elapsed() < 3 * BODY, "{:?}", began.elapsed());
        sink.abort();
    }
}
