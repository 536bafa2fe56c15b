//! What the requests of real clients tell: HAProxy's own lines, read, judged and added up for each server.
//!
//! Knows the compact line that the frontends log (see `templates/parts/frontend.cfg`), HAProxy's termination states and
//! counters, and how they become a [`LiveSample`](crate::health::LiveSample). Pure: bytes and moments are handed in.
//! Refuses to know sockets, and what health makes of a sample. Called by `agent`.

mod attempt;
mod callers;
mod classify;
mod counters;
mod groups;
mod histogram;
mod key_words;
mod line;
mod picture;
mod repeats;
mod sequence;
mod tally;
mod termination;
mod used;
mod window;

pub use attempt::{Attempt, Means};
pub use callers::{Caller, CallerPicture, Tokens, TokensTotal};
pub use classify::{Blame, classify};
pub use counters::ServerCount;
pub use groups::GroupCounts;
pub use histogram::Histogram;
pub use key_words::KeyWords;
pub use line::{Line, MAX_LINE, Malformed, Retries, Split, StreamEnd, Upload};
pub use picture::{Picture, Quantiles, ServerPicture, TrafficStats};
pub use tally::{OwnAnswers, Tally, WorkerKey, told};
pub use termination::TerminationState;
