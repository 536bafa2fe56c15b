//! The command line's side of the socket.

use super::wire::{
    Applied, ApplyRequest, CanaryRequest, ConfirmRequest, Problem, RollbackRequest, ServerRequest, Status, TagRequest,
    VipRequest,
};
use crate::agent::Refusal;
use crate::model::Name;
use crate::sys::rights::{self, Want};
use axum::http::StatusCode;
use camino::{Utf8Path, Utf8PathBuf};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// An apply waits up to 5 s for its turn, a reload takes up to 60 s.
const DEADLINE: Duration = Duration::from_secs(90);
/// After so long without an answer it is asked whether it is alive, and given as long again.
const ALIVE: Duration = Duration::from_secs(4);
/// Between the end of an agent's connections and that of its socket.
const DYING: Duration = Duration::from_millis(200);
/// Which file the command line was given.
pub(super) const FILE_HEADER: &str = "x-hapilot-file";
/// Which node it acts for, where it was given one.
pub(super) const NODE_HEADER: &str = "x-hapilot-node";

/// Talks to the running agent.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    socket: Utf8PathBuf,
    about: About,
}

/// What a command is about: the agent refuses one about another file or node than its own.
#[derive(Clone, Debug)]
pub struct About {
    /// The operator's file; `None` where only the agent's socket was named.
    pub file: Option<Utf8PathBuf>,
    /// `--node`.
    pub node: Option<Name>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The agent refuses.
    #[error("{}", .0.error)]
    Refused(Problem),
    /// It serves another file, or is another node.
    #[error("{}", .0.error)]
    Other(Problem),
    /// The socket is there but cannot be used.
    #[error("{0}")]
    Broken(Refusal),
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// Nobody listens there any more.
    Gone,
    /// It takes connections, and says nothing on them.
    Mute,
    /// It has as many connections as it takes: it lives.
    Full,
}

impl Silence {
    fn of(error: &reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Mute;
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            match error.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Self::Gone,
                _ => cause = error.source(),
            }
        }
        Self::Full
    }
}

/// Whether somebody listens. Does not wait for the queue of one that takes no connection: a stopped one never does.
fn knock(socket: &Utf8Path) -> io::Result<()> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let descriptor = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match socket::connect(descriptor.as_raw_fd(), &UnixAddr::new(socket.as_std_path())?) {
        // Its queue is full: it is there.
        Ok(()) | Err(Errno::EAGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn unusable(socket: &Utf8Path, why: String) -> Refusal {
    Refusal::new(format_args!("the agent's socket {socket} cannot be used: {why}"))
}

impl Client {
    /// A client, or `None` where no agent listens on the socket.
    ///
    /// # Errors
    /// The socket is there but may not be opened.
    pub fn connect(socket: &Utf8Path, about: About) -> Result<Option<Self>, ClientError> {
        let broken = |why: String| ClientError::Broken(unusable(socket, why));
        match knock(socket) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(e) => return Err(broken(rights::told(e, socket, Want::Connect).to_string())),
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .unix_socket(socket.as_std_path())
            .timeout(DEADLINE)
            .build()
            .map_err(|e| broken(e.to_string()))?;
        Ok(Some(Self { http, socket: socket.to_owned(), about }))
    }

    /// `GET /v1/status`
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.finish(self.http.get("http://agent/v1/status")).await
    }

    /// `GET /v1/plan`
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn plan(&self) -> Result<Applied, ClientError> {
        self.finish(self.http.get("http://agent/v1/plan")).await
    }

    /// `POST /v1/apply`
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn apply(&self, request: &ApplyRequest) -> Result<Applied, ClientError> {
        self.post("apply", request).await
    }

    /// `POST /v1/rollback`
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rollback(&self, request: &RollbackRequest) -> Result<Applied, ClientError> {
        self.post("rollback", request).await
    }

    /// `POST /v1/confirm`
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn confirm(&self, request: &ConfirmRequest) -> Result<Applied, ClientError> {
        self.post("confirm", request).await
    }

    /// `POST /v1/expire`: go back where the deadline of the trial has passed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn expire(&self) -> Result<Applied, ClientError> {
        self.post("expire", &()).await
    }

    /// `POST /v1/tag`
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tag(&self, request: &TagRequest) -> Result<Applied, ClientError> {
        self.post("tag", request).await
    }

    /// `POST /v1/server`
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn server(&self, request: &ServerRequest) -> Result<Applied, ClientError> {
        self.post("server", request).await
    }

    /// Moves addresses away or takes them back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn vip(&self, request: &VipRequest) -> Result<Applied, ClientError> {
        self.post("vip", request).await
    }

    /// Says something of a canary.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn canary(&self, request: &CanaryRequest) -> Result<Applied, ClientError> {
        self.post("canary", request).await
    }

    async fn post(&self, what: &str, body: &impl Serialize) -> Result<Applied, ClientError> {
        self.finish(self.http.post(format!("http://agent/v1/{what}")).json(body)).await
    }

    /// Waits as long as it takes while the agent is alive: one that is stopped or out of breath keeps nobody waiting.
    async fn patiently<T>(&self, answer: impl Future<Output = T>) -> Result<T, ClientError> {
        tokio::pin!(answer);
        loop {
            if let Ok(answer) = tokio::time::timeout(ALIVE, &mut answer).await {
                return Ok(answer);
            }
            // The agent answers this one at once, whatever its loop waits for.
            let look = self.http.get("http://agent/v1/status").timeout(ALIVE).send();
            tokio::select! {
                answer = &mut answer => return Ok(answer),
                alive = look => match alive.as_ref().map_err(Silence::of) {
                    // It has no room for a question, which tells that it lives as well.
                    Ok(_) | Err(Silence::Full) => {}
                    Err(silence) => return Err(ClientError::Broken(self.silent(silence))),
                },
            }
        }
    }

    /// What a silence means, in words.
    fn silent(&self, silence: Silence) -> Refusal {
        let help = "see `systemctl status hapilot`, or restart it";
        match silence {
            Silence::Gone => Refusal::new(format_args!(
                "the agent has ended while it was asked: nobody listens on {} any more; whether it did what it was told \
                 stands in `hapilot history` and `events`",
                self.socket
            ))
            .help("start it again, then `hapilot status`"),
            Silence::Mute => {
                let why = format!(
                    "the agent takes connections and does not answer for {} s: it is stopped or out of breath, and may \
                     still do what it was told when it goes on; traffic does not need it",
                    2 * ALIVE.as_secs()
                );
                unusable(&self.socket, why).help(help)
            }
            Silence::Full => {
                let socket = &self.socket;
                Refusal::new(format_args!("the agent is busy: as many clients as it takes wait on {socket}; try again"))
            }
        }
    }

    /// Why a request broke off.
    async fn broken(&self, error: &reqwest::Error) -> Refusal {
        match Silence::of(error) {
            Silence::Mute => unusable(&self.socket, format!("no answer within {} s", DEADLINE.as_secs())),
            Silence::Gone => self.silent(Silence::Gone),
            Silence::Full => {
                // Whoever dies closes what he has one after the other.
                tokio::time::sleep(DYING).await;
                let silence = if knock(&self.socket).is_err() { Silence::Gone } else { Silence::Full };
                self.silent(silence)
            }
        }
    }

    async fn finish<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ClientError> {
        let mut request = request;
        if let Some(file) = &self.about.file {
            let file = camino::absolute_utf8(file).unwrap_or_else(|_| file.clone());
            request = request.header(FILE_HEADER, file.as_str().as_bytes());
        }
        if let Some(node) = &self.about.node {
            request = request.header(NODE_HEADER, node.as_str());
        }
        let response = match self.patiently(request.send()).await? {
            Ok(response) => response,
            Err(error) => return Err(ClientError::Broken(self.broken(&error).await)),
        };
        if response.status().is_success() {
            let unread = |e: reqwest::Error| unusable(&self.socket, format!("its answer cannot be read: {e}"));
            return response.json().await.map_err(|e| ClientError::Broken(unread(e)));
        }
        let status = response.status();
        match response.json::<Problem>().await {
            Ok(problem) if status == StatusCode::CONFLICT => Err(ClientError::Other(problem)),
            Ok(problem) => Err(ClientError::Refused(problem)),
            Err(_) => Err(ClientError::Broken(unusable(&self.socket, format!("it answered {status}")))),
        }
    }
}
