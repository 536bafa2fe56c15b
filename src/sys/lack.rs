//! What this process itself lacks: descriptors, memory, buffers, a port to call from.
//!
//! Such an error says nothing of whoever was to be asked: it is no verdict on HAProxy, Keepalived or a backend. Called
//! wherever an error of a socket, a file or a process becomes a verdict.

use std::error::Error;
use std::io;

/// ENFILE, EMFILE, ENOMEM, ENOBUFS, EADDRNOTAVAIL. Not EAGAIN: a Unix socket whose queue is full says that as well, and
/// there it is the other side's doing.
///
/// **Source**: errno(3), Linux; the same numbers on every architecture that Rust builds for but MIPS and SPARC.
const OURS: [i32; 5] = [23, 24, 12, 105, 99];
/// EAGAIN, of fork and of a new thread: too many processes.
const NO_PROCESS: i32 = 11;

/// Whether an error of a socket or a file is this machine's own, and of nobody's making who was asked.
pub fn is_ours(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| OURS.contains(&number))
        || error.get_ref().and_then(|inner| inner.source()).is_some_and(is_ours_within)
}

/// The same of an error that has causes.
pub fn is_ours_within(error: &(dyn Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if error.downcast_ref::<io::Error>().is_some_and(is_ours) {
            return true;
        }
        at = error.source();
    }
    false
}

/// The same of an error of starting a process or a thread.
pub fn is_ours_at_start(error: &io::Error) -> bool {
    is_ours(error) || error.raw_os_error() == Some(NO_PROCESS)
}

#[cfg(test)]
mod tests {
    use super::{is_ours, is_ours_at_start, is_ours_within};
    use std::io;

    #[test]
    fn what_this_machine_lacks_is_told_from_what_others_do() {
        for number in [23, 24, 12, 105, 99] {
            assert!(is_ours(&io::Error::from_raw_os_error(number)), "{number}");
        }
        for number in [2, 11, 13, 32, 104, 110, 111, 113] {
            assert!(!is_ours(&io::Error::from_raw_os_error(number)), "{number}");
        }
        assert!(is_ours_at_start(&io::Error::from_raw_os_error(11)));
        assert!(!is_ours_at_start(&io::Error::from_raw_os_error(2)));
    }

    #[test]
    fn a_cause_is_found_below_other_words() {
        #[derive(Debug, thiserror::Error)]
        #[error("could not ask")]
        struct Asked(#[source] io::Error);
        assert!(is_ours_within(&Asked(io::Error::from_raw_os_error(24))));
        assert!(is_ours(&io::Error::other(Asked(io::Error::from_raw_os_error(24)))));
        assert!(!is_ours_within(&Asked(io::Error::from_raw_os_error(111))));
    }
}
