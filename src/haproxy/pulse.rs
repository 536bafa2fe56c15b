//! Asks the local HAProxy whether it serves, often and briefly.

use super::answers::{self, Answer};
use super::listeners::{Listener, Question, listeners};
use super::session::Session;
use crate::sys::lack;
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
    /// This process lacked what it takes to look (descriptors, memory): it tells nothing.
    Blind,
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
    match tokio::time::timeout(within, answers::ask(listener)).await {
        Ok(Ok(Answer::Worker(pid))) => Pulse::Beats(Some(pid)),
        Ok(Ok(Answer::Accepts(_))) => Pulse::Beats(None),
        Ok(Ok(Answer::Elsewhere)) => Pulse::Elsewhere,
        Err(_) => Pulse::Silent,
        Ok(Err(silent)) if silent.is_ours => Pulse::Blind,
        // The words are for people; what counts is whether anybody took the connection.
        Ok(Err(_)) => match tokio::time::timeout(within, TcpStream::connect(at)).await {
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => Pulse::Refused,
            Ok(Err(e)) if lack::is_ours(&e) => Pulse::Blind,
            _ => Pulse::Silent,
        },
    }
}

/// Worker and client connections, asked over the admin socket, which HAProxy answers also while it takes no more
/// clients.
///
/// # Errors
/// What the look found instead: [`Pulse::Silent`] or [`Pulse::Blind`].
pub async fn clients(admin_socket: &Utf8Path, within: Duration) -> Result<(u32, u64), Pulse> {
    match Session::with_serving_worker(admin_socket, Instant::now() + within).await {
        Ok((_, info)) => info.connections.map(|clients| (info.pid, clients)).ok_or(Pulse::Silent),
        Err(e) if lack::is_ours_within(&e) => Err(Pulse::Blind),
        Err(_) => Err(Pulse::Silent),
    }
}
