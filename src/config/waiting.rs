//! How long a backend's servers are waited for, and what is repeated.

use crate::model::Sourced;
use std::time::Duration;

/// `timeout` of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendTimeout {
    /// `connect`, 10 ms to 10 min; default 5 s.
    pub connect: Sourced<Duration>,
    /// `first_byte`: from the request to the response's first byte, 100 ms to 24 h; default 60 s.
    pub first_byte: Sourced<Duration>,
    /// `first_byte_per_ktoken`: so much more for each 1,000 tokens of the request and of an answer that is no stream, 1 ms to
    /// 60 s, up to [`Self::longest_first_byte`]; none by default.
    pub first_byte_per_ktoken: Option<Sourced<Duration>>,
    /// `first_token`: from the request to the first event of a stream, 100 ms to 24 h, less than `first_byte`; none by default.
    pub first_token: Option<Sourced<Duration>>,
    /// `idle`: between two pieces of a stream, 1 s to 24 h; default 60 s.
    pub idle: Sourced<Duration>,
}

/// `retry_streams` of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryStreams {
    /// Those that begin with an error.
    Errors,
    /// Also those that say nothing within `timeout.first_token`: the server may bill what it goes on to do.
    ErrorsAndSilence,
}

impl BackendTimeout {
    /// How long a first byte is waited for at the most: ten times `first_byte` where that grows, 24 h at most.
    pub fn longest_first_byte(&self) -> Duration {
        self.longest(self.first_byte.value)
    }

    /// How long the first event of a stream is waited for at the most, where that differs: ten times `first_token` where it
    /// grows, 24 h at most.
    pub fn longest_first_token(&self) -> Option<Duration> {
        self.first_token.as_ref().map(|first| self.longest(first.value))
    }

    fn longest(&self, first: Duration) -> Duration {
        if self.first_byte_per_ktoken.is_some() { (first * 10).min(Duration::from_secs(86_400)) } else { first }
    }
}
