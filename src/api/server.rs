//! HTTP on a Unix socket: what the command line talks to.
//!
//! Whoever may open the socket (mode 0660) may do everything; there is no other authentication. Refuses to know the
//! agent's internals.

use super::client::{FILE_HEADER, NODE_HEADER};
use super::connections;
use super::metrics;
use super::wire::{
    Applied, ApplyRequest, CanaryRequest, ConfirmRequest, Problem, RollbackRequest, ServerRequest, Status, TagRequest,
    VipRequest,
};
use crate::agent::{CanaryWord, Failed, Handle, Intent, Refusal, Report, Request, SnapshotParts, VipVerb};
use crate::model::{AdminState, Name, ServerId, Weight};
use crate::rollout::Word;
use crate::sys;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use camino::{Utf8Path, Utf8PathBuf};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;

/// Longest trial: as in the file.
const MAX_CONFIRM: Duration = Duration::from_secs(7 * 86_400);
/// The loop is asked for news so long where there is something to tell beside.
const SOON: Duration = Duration::from_millis(300);
/// And so long where there is nothing.
const BUSY: Duration = Duration::from_secs(5);
/// About the bytes that `status` says of one server.
const SERVER_JSON: usize = 1024;
/// Longest override: 30 days.
const MAX_PERIOD: Duration = Duration::from_secs(30 * 86_400);

/// Between two tries to bind `api.listen`.
const BIND_RETRY: Duration = Duration::from_secs(5);

/// The bound socket; its file goes away with it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(Utf8PathBuf);

impl Listener {
    /// Binds the socket with mode 0660. A file that a dead agent left behind is replaced; the caller holds the lock,
    /// so that no living agent can lose its own.
    ///
    /// # Errors
    /// The directory cannot be made or the socket not be bound.
    pub fn bind(path: &Utf8Path) -> std::io::Result<Self> {
        let socket = UnixListener::from_std(sys::directory::bind_unix(path, 0o660)?)?;
        Ok(Self { socket, file: SocketFile(path.to_owned()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that stays behind is replaced by the next start. Closed by now, unless another agent listens there.
        let _ = sys::directory::remove_dead_socket(&self.0);
    }
}

/// Serves until the future is dropped.
pub async fn serve(listener: Listener, handle: Handle) {
    let Listener { socket, file: _file } = listener;
    let beside = readable().with_state(handle.clone());
    let router = Router::new()
        .merge(readable())
        .route("/v1/plan", get(plan))
        .route("/v1/apply", post(apply))
        .route("/v1/rollback", post(rollback))
        .route("/v1/confirm", post(confirm))
        .route("/v1/expire", post(expire))
        .route("/v1/tag", post(tag))
        .route("/v1/server", post(server))
        .route("/v1/vip", post(vip))
        .route("/v1/canary", post(canary))
        .route_layer(from_fn_with_state(handle.clone(), refuse_other))
        .with_state(handle);
    // Commands that wait for the end of a reload take all the room there is: who looks gets through all the same.
    connections::serve(socket, router, beside.fallback(full), "the command line's socket").await;
}

/// Refuses a command about another file, or for another node: what it asks would be answered of this one.
async fn refuse_other(State(handle): State<Handle>, request: axum::extract::Request, next: Next) -> Response {
    match other(&handle, request.headers()).await {
        Some(refusal) => refused(StatusCode::CONFLICT, &Failed::usage(refusal)),
        None => next.run(request).await,
    }
}

/// What the request is about, where that is not what this agent serves.
async fn other(handle: &Handle, headers: &HeaderMap) -> Option<Refusal> {
    let said = |name: &str| std::str::from_utf8(headers.get(name)?.as_bytes()).ok();
    let file = camino::absolute_utf8(&handle.file).unwrap_or_else(|_| handle.file.clone());
    if let Some(other) = said(FILE_HEADER).filter(|other| !sys::files::is_same(&file, (*other).into())) {
        let what = format!("the running agent serves {file}, and this command is about {other}");
        let help = format!(
            "`check`, `plan`, `render` and `diff` look at {other} itself; for what runs, name its file: `hapilot -c {file} …`"
        );
        return Some(Refusal::new(what).help(help).nothing_changed());
    }
    let other = said(NODE_HEADER)?;
    let seen = fresh(handle).await?;
    let node = Some(seen.node()).filter(|node| *node != other)?;
    let what = format!("the running agent is node {node}, and this command is for node {other}");
    let help = format!("`hapilot check --node {other}` and `render --node {other}` need no agent");
    Some(Refusal::new(what).help(help).nothing_changed())
}

/// What may be read without a token.
fn readable() -> Router<Handle> {
    Router::new().route("/v1/status", get(status)).route("/metrics", get(metrics))
}

/// Serves readers over TCP until the future is dropped: status and metrics, nothing that changes anything. While the
/// address cannot be bound it is tried again; steering does not wait for it.
pub async fn serve_readers(address: SocketAddr, handle: Handle) {
    let mut is_told = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                if !is_told {
                    let error = sys::ports::why_not(&[address], &error);
                    tracing::warn!(%error, "`api.listen` {address} cannot be bound; it is tried again");
                }
                is_told = true;
                tokio::time::sleep(BIND_RETRY).await;
            }
        }
    };
    tracing::info!(%address, "status and metrics are served");
    let router: Router = readable().with_state(handle);
    connections::serve(listener, router.clone(), router, "`api.listen`").await;
}

async fn metrics(State(handle): State<Handle>) -> Response {
    let text = |handle: &Handle, seen: &SnapshotParts| {
        let (mut status, traffic) = Status::of(seen);
        note_silence(handle, &mut status);
        metrics::text(&status, traffic.as_ref())
    };
    match looked(&handle, text).await {
        Some(text) => ([(CONTENT_TYPE, super::exposition::CONTENT_TYPE)], text).into_response(),
        None => busy(),
    }
}

async fn status(State(handle): State<Handle>) -> Response {
    match looked(&handle, json).await {
        Some(Ok(json)) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Some(Err(_)) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        None => busy(),
    }
}

/// Whether HAProxy answers at this very moment.
fn note_silence<S>(handle: &Handle, status: &mut Status<S>) {
    if let (Some(haproxy), Some(silence)) = (&mut status.haproxy, handle.unanswered.lasts()) {
        haproxy.silent_s = Some(silence.as_secs_f64());
        let (pid, seconds) = (haproxy.pid, silence.as_secs());
        let what = format!(
            "HAProxy (pid {pid}) has owed an answer for {seconds} s: it hangs or is out of breath, and so may its clients"
        );
        let silent = Refusal::notice(what).help(format_args!(
            "`top -p {pid}` shows whether it works or stands still; `systemctl restart haproxy` ends both"
        ));
        status.problems.insert(0, silent.to_string());
    }
}

fn busy() -> Response {
    let what = format!("the agent is busy and has told nothing for {} s; try again", BUSY.as_secs());
    refused(StatusCode::SERVICE_UNAVAILABLE, &Failed::refused(what))
}

/// The answer to a command for which there is no room.
async fn full() -> Response {
    let what = "the agent is busy: as many commands as it takes wait for their end; nothing was done of this one";
    let help = "`hapilot status` says what goes on; try again when that has ended";
    refused(StatusCode::SERVICE_UNAVAILABLE, &Failed::refused(Refusal::new(what).help(help)))
}

/// Something made of what is known now, beside all that steers: with thousands of servers that takes its time. `None`:
/// nothing is told.
async fn looked<T: Send + 'static>(
    handle: &Handle,
    make: impl FnOnce(&Handle, &SnapshotParts) -> T + Send + 'static,
) -> Option<T> {
    let (handle, seen) = (handle.clone(), fresh(handle).await?);
    tokio::task::spawn_blocking(move || make(&handle, &seen)).await.ok()
}

/// What is known now. Of a loop that is busy, what it told somebody a moment before.
async fn fresh(handle: &Handle) -> Option<Arc<SnapshotParts>> {
    let (reply, mut fresh) = oneshot::channel();
    if handle.requests.try_send(Request::Refresh(reply)).is_ok() {
        let soon = tokio::time::timeout(SOON, &mut fresh).await;
        if soon.is_err() && handle.seen.borrow().is_none() {
            let _ = tokio::time::timeout(BUSY, fresh).await;
        }
    }
    handle.seen.borrow().clone()
}

fn json(handle: &Handle, seen: &SnapshotParts) -> serde_json::Result<Vec<u8>> {
    let snapshot = seen.picture();
    let mut status = Status::to_write(seen, &snapshot);
    note_silence(handle, &mut status);
    // A text that grows to some megabytes is else copied at every doubling.
    let mut json = Vec::with_capacity(seen.count() * SERVER_JSON + SERVER_JSON);
    serde_json::to_writer(&mut json, &status)?;
    Ok(json)
}

async fn plan(State(handle): State<Handle>) -> Response {
    ask(&handle, Request::Plan).await
}

async fn apply(State(handle): State<Handle>, Json(body): Json<ApplyRequest>) -> Response {
    let ApplyRequest { adopt, force, confirm_ms, actor, reason } = body;
    let confirm = confirm_ms.map(|ms| Duration::from_millis(ms).min(MAX_CONFIRM));
    ask(&handle, |reply| Request::Apply(Intent { actor, reason, adopt, force, confirm }, reply)).await
}

async fn rollback(State(handle): State<Handle>, Json(body): Json<RollbackRequest>) -> Response {
    let RollbackRequest { revision, actor, reason } = body;
    ask(&handle, |reply| Request::Rollback(revision, Intent { actor, reason, ..Intent::default() }, reply)).await
}

async fn confirm(State(handle): State<Handle>, Json(body): Json<ConfirmRequest>) -> Response {
    let ConfirmRequest { actor } = body;
    ask(&handle, |reply| Request::Confirm(actor, reply)).await
}

async fn expire(State(handle): State<Handle>) -> Response {
    ask(&handle, Request::Expire).await
}

async fn tag(State(handle): State<Handle>, Json(body): Json<TagRequest>) -> Response {
    let TagRequest { revision, name, actor } = body;
    ask(&handle, |reply| Request::Tag(revision, name, actor, reply)).await
}

async fn server(State(handle): State<Handle>, Json(body): Json<ServerRequest>) -> Response {
    let ServerRequest { server, state, weight, for_s, actor } = body;
    let understood = || -> Result<_, crate::model::Refused> {
        let id: ServerId = server.parse()?;
        let state = state.map(|state| state.parse::<AdminState>()).transpose()?;
        let weight = weight.map(Weight::new).transpose()?;
        Ok((id, state, weight))
    };
    let (id, state, weight) = match understood() {
        Ok(understood) => understood,
        Err(e) => return problem(&Failed::usage(Refusal::new(e))),
    };
    let period = match for_s.map(Duration::try_from_secs_f64).transpose() {
        Ok(period) => period.map(|period| period.min(MAX_PERIOD)),
        Err(e) => return problem(&Failed::usage(format!("for_s: {e}"))),
    };
    ask(&handle, |reply| Request::Server { id, state, weight, period, actor, reply }).await
}

async fn vip(State(handle): State<Handle>, Json(body): Json<VipRequest>) -> Response {
    let VipRequest { names, verb, force, actor } = body;
    let names: Result<Vec<Name>, _> = names.iter().map(Name::new).collect();
    let verb = match verb.as_str() {
        "release" => Ok(VipVerb::Release { force }),
        "reclaim" => Ok(VipVerb::Reclaim),
        other => Err(format!("a virtual address is released or reclaimed, not {other:?}")),
    };
    match (names, verb) {
        (Ok(names), Ok(verb)) => ask(&handle, |reply| Request::Vip { names, verb, actor, reply }).await,
        (Err(e), _) => problem(&Failed::usage(Refusal::new(e))),
        (_, Err(what)) => problem(&Failed::usage(what)),
    }
}

async fn canary(State(handle): State<Handle>, Json(body): Json<CanaryRequest>) -> Response {
    let CanaryRequest { name, word, force, actor } = body;
    let word = match word.as_str() {
        "promote" => CanaryWord::Rollout(Word::Promote),
        "hold" => CanaryWord::Rollout(Word::Hold),
        "resume" => CanaryWord::Rollout(Word::Resume),
        "abort" => CanaryWord::Rollout(Word::Abort),
        "restart" => CanaryWord::Restart { force },
        other => return problem(&Failed::usage(format!("a canary is promoted, held and so on, not {other:?}"))),
    };
    match Name::new(&name) {
        Ok(name) => ask(&handle, |reply| Request::Canary { name, word, actor, reply }).await,
        Err(e) => problem(&Failed::usage(Refusal::new(e))),
    }
}

async fn ask(handle: &Handle, request: impl FnOnce(oneshot::Sender<Result<Report, Failed>>) -> Request) -> Response {
    let (reply, answer) = oneshot::channel();
    if handle.requests.try_send(request(reply)).is_err() {
        return problem(&Failed::refused("the agent is busy or stopping; try again"));
    }
    match answer.await {
        Ok(Ok(report)) => Json(Applied::from(&report)).into_response(),
        Ok(Err(failed)) => problem(&failed),
        Err(_) => problem(&Failed::refused("the agent stopped before it answered")),
    }
}

fn problem(failed: &Failed) -> Response {
    refused(StatusCode::UNPROCESSABLE_ENTITY, failed)
}

fn refused(status: StatusCode, failed: &Failed) -> Response {
    let Failed { refusal, exit_code } = failed;
    (status, Json(Problem { error: refusal.to_string(), exit_code: *exit_code })).into_response()
}
