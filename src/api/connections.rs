//! Connections to one listener: so many, so long, and who waits gives way to who comes.
//!
//! An agent that serves readers must not run out of descriptors by them: it would be blind to everything that it is
//! there to watch. Knows HTTP and no route. Called by `server`.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Connections to one listener. Prometheus, a dashboard and some people need five.
const MAX_CONNECTIONS: usize = 64;
/// And of all descriptors that this process may have, so many parts of one for each listener.
const SHARE: usize = 8;
/// One part of so many of them is room beside for those that come when all are being answered.
const BESIDE: usize = 4;
/// So long a connection may bring no whole request, or not take its answer. Prometheus comes every 15 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest request body, in bytes: they are all small.
const MAX_BODY: usize = 64 << 10;
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Serves a listener until the future is dropped; its connections end with it.
///
/// Where it has as many as it may, a new one takes the place of the one that has waited longest for a request of its
/// peer or for its peer to take an answer. Where all are being answered, the new one is asked by `beside`, which answers
/// at once, and where those are too many as well it is closed.
pub(super) async fn serve<L: Listener>(mut listener: L, router: Router, beside: Router, of: &str)
where
    L::Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let most = MAX_CONNECTIONS.min(crate::sys::descriptors::limit() / SHARE).max(1);
    let mut open: VecDeque<Connection> = VecDeque::new();
    let mut is_told = false;
    loop {
        let (io, _) = listener.accept().await;
        open.retain(|connection| !connection.task.is_finished());
        is_told &= open.len() > most / 2;
        if open.len() >= most {
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(most, "{of} has as many connections as it may: the one that waits longest gives way");
            }
            let waits = open.iter().enumerate().filter_map(|(at, one)| Some((one.activity.waits_since()?, at)));
            match waits.min() {
                Some((_, longest)) => drop(open.remove(longest)),
                None if open.len() < most + most.div_ceil(BESIDE) => {}
                None => continue,
            }
        }
        let activity = Arc::new(Activity::default());
        let router = if open.len() < most { &router } else { &beside };
        let task = tokio::spawn(converse(io, router.clone(), activity.clone()));
        open.push_back(Connection { task: AbortOnDropHandle::new(task), activity });
    }
}

/// One connection; dropping it closes it.
struct Connection {
    task: AbortOnDropHandle<()>,
    activity: Arc<Activity>,
}

/// What a connection is at.
struct Activity(Mutex<Option<Instant>>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new(Some(Instant::now())))
    }
}

impl Activity {
    /// It waits for its peer since then; `None`: the peer waits for us.
    fn waits_since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, waits_since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = waits_since;
    }

    /// Returns when its peer has let it wait for too long.
    async fn outlasts_patience(&self) {
        loop {
            let until = self.waits_since().map_or_else(|| Instant::now() + PATIENCE, |since| since + PATIENCE);
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

async fn converse(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, activity: Arc<Activity>) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let (router, activity) = (router.clone(), activity.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = match to_bytes(Body::new(body), MAX_BODY).await {
                Ok(body) => Body::from(body),
                Err(_) => return Ok(axum::http::StatusCode::PAYLOAD_TOO_LARGE.into_response()),
            };
            activity.set(None);
            let answer: Result<Response, Infallible> = router.call(Request::from_parts(head, body)).await;
            activity.set(Some(Instant::now()));
            answer
        }
    });
    let connection = http1::Builder::new().max_buf_size(MAX_HEAD).serve_connection(TokioIo::new(io), service);
    tokio::select! {
        // Whoever asked badly or left has been told what there is to tell.
        _ = connection => {}
        () = activity.outlasts_patience() => {}
    }
}
