//! Asks the local HAProxy whether it serves, often and briefly.

use super::answers::{self, Answer};
use super::listeners::{Listener, Question, listeners};
use super::session::Session;
use crate::sys::ports;
use camino::Utf8Path;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What one look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// It answers: this worker, where it can say so.
    Beats(Option<u32>),
    /// Nobody listens.
    Refused,
    /// Somebody listens, but does not answer in time or not as HAProxy does.
    Silent,
    /// The address is not one of this node: it tells nothing.
    Elsewhere,
}

/// The listener of a haproxy.cfg that costs HAProxy least to answer on: in clear text before TLS, and one that says which
/// worker answers before one that only accepts.
pub fn pulse_listener(haproxy_cfg: &str) -> Option<Listener> {
    let rank = |listener: &Listener| match listener.question {
        Question::Clear if !listener.may_hang_up => 0,
        Question::Tls if !listener.may_hang_up => 1,
        Question::Clear | Question::Tls => 2,
        Question::Accepts(_) => 3,
    };
    listeners(haproxy_cfg).into_iter().min_by_key(rank)
}

/// Asks one listener, over a connection of its own.
pub async fn pulse(listener: &Listener, within: Duration) -> Pulse {
    let at = listener.address.to_connect();
    if !ports::is_of_this_node(at.ip()) {
        return Pulse::Elsewhere;
    }
    match tokio::time::timeout(within, answers::ask(listener)).await {
        Ok(Ok(Answer::Worker(pid))) => Pulse::Beats(Some(pid)),
        Ok(Ok(Answer::Accepts(_))) => Pulse::Beats(None),
        Ok(Ok(Answer::Elsewhere)) => Pulse::Elsewhere,
        Err(_) => Pulse::Silent,
        // The words are for people; what counts is whether anybody took the connection.
        Ok(Err(_)) => match tokio::time::timeout(within, TcpStream::connect(at)).await {
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => Pulse::Refused,
            _ => Pulse::Silent,
        },
    }
}

/// Worker and client connections, asked over the admin socket, which HAProxy answers also while it takes no more
/// clients; `None`: no answer in time.
pub async fn clients(admin_socket: &Utf8Path, within: Duration) -> Option<(u32, u64)> {
    let asked = Session::with_serving_worker(admin_socket, Instant::now() + within).await;
    asked.ok().and_then(|(_, info)| Some((info.pid, info.connections?)))
}
