//! How many files and sockets this process may have open.
//!
//! Called at the start of the agent, and by whoever bounds what it opens.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Nobody needs more, and a child that closes every number up to the limit would take seconds.
const MOST: u64 = 1 << 20;

/// Raises the soft limit to the hard one, and answers what it is now. Children inherit it.
///
/// # Errors
/// The kernel refuses, which it never does below the hard limit.
pub fn raise_limit() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(MOST).min(MOST);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(current.unwrap_or(MOST));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    Ok(wanted)
}

/// The soft limit.
pub fn limit() -> usize {
    let current = getrlimit(Resource::Nofile).current.unwrap_or(MOST).min(MOST);
    usize::try_from(current).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{limit, raise_limit};

    #[test]
    fn the_limit_is_raised_once_and_stays() {
        let raised = raise_limit().unwrap();
        assert_eq!(limit() as u64, raised);
        assert_eq!(raise_limit().unwrap(), raised);
    }
}
