//! The listeners and the connections of a mock.

use super::api::{self, Served};
use super::control;
use super::fault::FaultKind;
use super::link::Link;
use super::request::{Request, read_request};
use super::script::{End, Reply, Script, play};
use super::shared::Shared;
use super::twist::twisted;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Most connections at a time; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 8192;
/// How long a connection may be silent between two requests.
const IDLE: Duration = Duration::from_secs(120);
/// Connections that the kernel holds for us.
const BACKLOG: u32 = 1024;

/// Opens a listener that can come back on the same port at once.
pub(super) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    let bound = socket.bind(addr).and_then(|()| socket.listen(BACKLOG));
    bound.map_err(|e| io::Error::new(e.kind(), format!("{addr}: {e}")))
}

/// Accepts the mock's own connections until it is stopped; lets go of the port while a fault refuses.
pub(super) async fn accept_loop(shared: Arc<Shared>, listener: TcpListener, addr: SocketAddr) {
    let mut refuse = shared.refuse.subscribe();
    let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open = Some(listener);
    loop {
        if *refuse.borrow_and_update() {
            open = None;
        } else if open.is_none() {
            open = listen(addr).ok();
        }
        shared.listening.send_replace(open.is_some());
        let Some(listener) = &open else {
            // A port that was taken meanwhile may come free again.
            let _ = timeout(Duration::from_millis(50), refuse.changed()).await;
            if shared.stop.is_cancelled() {
                return;
            }
            continue;
        };
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = refuse.changed() => {}
            accepted = accept(listener, &limit) => {
                let Some((tcp, permit)) = accepted else { continue };
                let task = Arc::clone(&shared);
                shared.tasks.spawn(async move {
                    let stop = task.stop.clone();
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = connection(&task, tcp) => {}
                    }
                    drop(permit);
                });
            }
        }
    }
}

/// Accepts connections of the control port until the mock is stopped.
pub(super) async fn control_loop(shared: Arc<Shared>, listener: TcpListener) {
    let limit = Arc::new(Semaphore::new(64));
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = accept(&listener, &limit) => {
                let Some((tcp, permit)) = accepted else { continue };
                let task = Arc::clone(&shared);
                shared.tasks.spawn(async move {
                    let stop = task.stop.clone();
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = requests(&task, Link::Plain(tcp), true) => {}
                    }
                    drop(permit);
                });
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    limit: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(limit).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((tcp, _)) => {
            let _ = tcp.set_nodelay(true);
            Some((tcp, permit))
        }
        Err(_) => {
            // No file descriptors: give the open connections a moment to end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            None
        }
    }
}

/// One connection: its own faults first, then TLS, then requests.
async fn connection(shared: &Shared, mut tcp: TcpStream) -> io::Result<()> {
    shared.journal().connection();
    let fault = shared.faults().for_connection().map(|fault| fault.kind);
    match fault {
        Some(FaultKind::ResetOnAccept) => return tcp.set_zero_linger(),
        Some(FaultKind::CloseOnAccept) => return tcp.shutdown().await,
        Some(FaultKind::HangOnAccept | FaultKind::TlsHang) => {
            let mut sink = [0; 1024];
            while tcp.read(&mut sink).await? > 0 {}
            return Ok(());
        }
        Some(FaultKind::TlsPlain) => return requests(shared, Link::Plain(tcp), false).await,
        _ => {}
    }
    match &shared.certificates {
        None => requests(shared, Link::Plain(tcp), false).await,
        Some(certificates) => {
            let handshake = certificates.acceptor(fault).accept(tcp);
            let tls = timeout(Duration::from_secs(30), handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
            requests(shared, Link::Tls(Box::new(tls)), false).await
        }
    }
}

/// The requests of one connection, one after the other.
async fn requests(shared: &Shared, link: Link, control_only: bool) -> io::Result<()> {
    let mut stream = BufReader::new(link);
    loop {
        let request = match timeout(IDLE, read_request(&mut stream)).await.map_err(|_| io::ErrorKind::TimedOut)? {
            Ok(Some(request)) => request,
            Ok(None) => return stream.shutdown().await,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                let reply = Reply::text(400, "text/plain", format!("{e}\n")).header("connection", "close");
                stream.write_all(&reply.to_bytes()).await?;
                return stream.shutdown().await;
            }
            Err(e) => return Err(e),
        };
        let script = if request.path.starts_with(control::ROOT) || control_only {
            let reply = control::answer(shared, &request);
            shared.settled().await;
            Script::whole(&reply)
        } else {
            answer(shared, &request)
        };
        match play(script, &mut stream).await? {
            End::KeepAlive if request.keep_alive => {}
            End::KeepAlive => return stream.shutdown().await,
            End::Close => return Ok(()),
        }
    }
}

fn answer(shared: &Shared, request: &Request) -> Script {
    let fault = shared.faults().for_request(request);
    let served = Served { config: &shared.config, load: *shared.load(), prefixes: &shared.prefixes };
    let script = match &fault {
        Some(fault) => twisted(served, request, fault),
        None => api::answer(served, request),
    };
    shared.journal().record(request, script.status);
    script
}
