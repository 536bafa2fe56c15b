//! Whether a directory can take what is about to be written into it.
//!
//! Called by the preflight in `agent` and `cli`, before anything is replaced.

use super::fault;
use super::folders::ANY;
use super::rights::{self, Want};
use camino::Utf8Path;
use nix::unistd::{AccessFlags, access};
use std::io;

/// Checks that a directory exists, may be written by this process, and has `needed_bytes` of free space.
///
/// The error's words do not change while the directory stays as full as it is, so that it is told once.
///
/// # Errors
/// Says which of the three is missing; the caller refuses to begin.
pub fn writable(directory: &Utf8Path, needed_bytes: u64) -> io::Result<()> {
    fault::pass("space.look", directory)
        .map_err(|e| io::Error::new(e.kind(), format!("could not look at {directory}: {e}")))?;
    let metadata = std::fs::metadata(directory).map_err(|e| {
        let why = match e.kind() {
            io::ErrorKind::NotFound => format!("the directory {directory} is missing"),
            _ => format!(
                "could not look at {directory}: {}",
                rights::told(io::Error::from(e.kind()), directory, Want::Replace)
            ),
        };
        io::Error::new(e.kind(), why)
    })?;
    if !metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{directory} is not a directory")));
    }
    access(directory.as_std_path(), AccessFlags::W_OK | AccessFlags::X_OK).map_err(|e| {
        let e = rights::told(e.into(), &directory.join(ANY), Want::Replace);
        io::Error::new(e.kind(), format!("{directory} cannot be written: {e}"))
    })?;
    let free = nix::sys::statvfs::statvfs(directory.as_std_path())
        .map_err(|e| io::Error::other(format!("could not ask for the free space of {directory}: {}", e.desc())))?;
    // The fields' width depends on the platform.
    #[expect(clippy::useless_conversion, reason = "32-bit platforms have narrower counters")]
    let free_bytes = u64::from(free.blocks_available()).saturating_mul(u64::from(free.fragment_size()));
    if free_bytes < needed_bytes {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("{directory} has no room: less than {} KiB are free", needed_bytes.div_ceil(1024)),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::writable;
    use camino::Utf8Path;

    #[test]
    fn a_missing_a_full_and_a_good_directory_are_told_apart() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        writable(dir, 1).unwrap();
        assert!(writable(dir, u64::MAX).unwrap_err().to_string().contains("has no room"));
        assert!(writable(&dir.join("missing"), 1).unwrap_err().to_string().contains("missing"));
        assert!(writable("/proc/version".into(), 1).unwrap_err().to_string().contains("not a directory"));
    }
}
