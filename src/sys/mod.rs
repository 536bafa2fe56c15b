//! The only door to the operating system: atomic files, child processes with deadlines, locks, secrets, ports, file
//! watches, signals.
//!
//! Refuses to know the product: no HAProxy, no revision, no backend; of the model only the words that name a place or
//! a value. Called by the adapters (floor 8) and by `agent` and `cli`.

pub mod audience;
pub mod boot;
pub mod descriptors;
pub mod detached;
pub mod directory;
pub mod epoch;
pub mod fault;
pub mod files;
pub mod folders;
pub mod lack;
pub mod lines;
pub mod lock;
pub mod pidfd;
pub mod ports;
pub mod process;
pub mod raw;
pub mod redact;
pub mod rights;
pub mod secrets;
pub mod signals;
pub mod space;
pub mod terminal;
pub mod watch;
pub mod writes;

mod holder;
mod trail;

pub use holder::Holder;

/// An error with all that caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The node's name as the kernel has it, which is also what HAProxy takes for its local peer.
///
/// # Errors
/// The name is not valid UTF-8.
pub fn host_name() -> std::io::Result<String> {
    nix::unistd::gethostname()?.into_string().map_err(|name| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("the host name {name:?} is not valid UTF-8"))
    })
}
