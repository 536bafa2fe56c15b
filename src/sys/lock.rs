//! An exclusive lock between processes, which the kernel releases when its holder dies.
//!
//! Called by `agent` and `cli`: one writer at a time (invariant I6).

use super::fault;
use super::rights::{self, Want};
use camino::{Utf8Path, Utf8PathBuf};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// A number, and the path of a socket: 107 bytes at the most.
const MAX_RECORD: u64 = 256;

/// Follows no link to a file of somebody else's, and waits for nobody at the other end of a pipe.
const NO_OTHERS: i32 = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;

/// A held lock; dropping it releases it. The file stays, since removing it would race with the next holder.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: Utf8PathBuf,
}

/// Who holds a lock, as far as it told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Its number.
    pub pid: Option<u32>,
    /// Where it is asked.
    pub socket: Option<Utf8PathBuf>,
}

impl Holding {
    /// Who holds this lock now; `None` where nobody does, or nobody can be seen from here.
    pub fn of(path: &Utf8Path) -> Option<Self> {
        let file = File::options().read(true).custom_flags(NO_OTHERS).open(path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(Self::read(file)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    fn read(file: File) -> Self {
        let mut text = String::new();
        if file.take(MAX_RECORD).read_to_string(&mut text).is_err() {
            return Self::default();
        }
        let mut lines = text.lines();
        let pid = lines.next().and_then(|line| line.trim().parse().ok());
        Self { pid, socket: lines.next().filter(|line| line.starts_with('/')).map(Utf8PathBuf::from) }
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it. The caller talks to the holder instead, or gives up.
    #[error("{path} is locked by {}", holder(*.pid))]
    Held {
        /// The lock file.
        path: Utf8PathBuf,
        /// Who wrote its number into the file; `None` where it could not be read.
        pid: Option<u32>,
        /// Where it is asked, as it told; `None`: it is no agent, or not yet one that listens.
        socket: Option<Utf8PathBuf>,
    },
    /// The file could not be opened, locked or written.
    #[error("could not lock {path}")]
    Io {
        /// The lock file.
        path: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock at once or not at all, and leaves this process's number in the file.
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder.
    pub fn acquire(path: &Utf8Path) -> Result<Self, LockError> {
        let told = |source| LockError::Io { path: path.to_owned(), source: rights::told(source, path, Want::Replace) };
        fault::pass("lock.open", path).map_err(told)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).custom_flags(NO_OTHERS);
        let opened = options.open(path);
        let (mut file, is_writable) = match opened {
            // A lock needs no room: on a disk that has become read-only, the file that is there will do.
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => (File::open(path).map_err(told)?, false),
            opened => (opened.map_err(told)?, true),
        };
        if !file.metadata().map_err(told)?.is_file() {
            return Err(told(io::Error::other(format!("{path} is no file: remove it"))));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let Holding { pid, socket } = Holding::read(file);
                return Err(LockError::Held { path: path.to_owned(), pid, socket });
            }
            Err(TryLockError::Error(source)) => return Err(told(source)),
        }
        fault::pass("lock.write", path).map_err(told)?;
        let record = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        if is_writable {
            // A full disk keeps nobody from locking.
            record(&mut file).or_else(|e| match e.kind() {
                io::ErrorKind::StorageFull => Ok(()),
                _ => Err(told(e)),
            })?;
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// Leaves in the file where its holder is asked. Best effort: a full disk keeps nobody from listening.
    pub fn tell(&self, socket: &Utf8Path) {
        let mut file = &self.file;
        let told = file.seek(io::SeekFrom::End(0)).and_then(|_| writeln!(file, "{socket}"));
        if told.is_err() {
            // Who asks for it finds the socket by the file's word, or not at all.
        }
    }

    /// Whether the file that is locked still stands at its path: else another process may hold a lock of the same name.
    /// In doubt it does.
    pub fn is_in_place(&self) -> bool {
        let number = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(held), Ok(there)) => number(held) == number(there),
            (_, Err(e)) => e.kind() != io::ErrorKind::NotFound,
            (Err(_), Ok(_)) => true,
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => match super::holder::process_name(pid) {
            Some(name) => format!("{name} (pid {pid})"),
            None => format!("process {pid}"),
        },
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Holding, Lock, LockError};
    use camino::Utf8Path;

    #[test]
    fn a_link_to_somebody_s_file_and_a_pipe_are_refused_and_left_as_they_are() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        fs_err::write(dir.join("theirs"), "precious").unwrap();
        std::os::unix::fs::symlink(dir.join("theirs"), dir.join("lock")).unwrap();
        assert!(matches!(Lock::acquire(&dir.join("lock")), Err(LockError::Io { .. })));
        assert_eq!(fs_err::read_to_string(dir.join("theirs")).unwrap(), "precious");
        nix::unistd::mkfifo(dir.join("pipe").as_std_path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = Lock::acquire(&dir.join("pipe")).unwrap_err();
        assert!(crate::sys::chain(&refused).contains("is no file"), "{refused:?}");
        assert_eq!(Holding::of(&dir.join("pipe")), None);
    }

    #[test]
    fn the_second_taker_learns_who_holds_the_lock_until_it_is_dropped() {
        let held = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(held.path()).unwrap().join("lock");
        let first = Lock::acquire(&path).unwrap();
        let refused = Lock::acquire(&path).unwrap_err();
        assert!(refused.to_string().contains(&format!("pid {}", std::process::id())), "{refused}");
        assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid == std::process::id()));
        first.tell("/run/a.sock".into());
        let refused = Lock::acquire(&path).unwrap_err();
        assert!(matches!(refused, LockError::Held { socket: Some(socket), .. } if socket == "/run/a.sock"));
        let holding = Holding { pid: Some(std::process::id()), socket: Some("/run/a.sock".into()) };
        assert_eq!(Holding::of(&path), Some(holding));
        drop(first);
        assert_eq!(Holding::of(&path), None);
        let second = Lock::acquire(&path).unwrap();
        assert!(second.is_in_place());
        std::fs::remove_file(&path).unwrap();
        assert!(!second.is_in_place());
        let third = Lock::acquire(&path).unwrap();
        assert!(third.is_in_place() && !second.is_in_place());
    }
}
