//! Asks the local HAProxy whether it serves, often and briefly.

use super::answers::{self, Answer};
use super::listeners::Listener;
use crate::sys::ports;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

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
