//! Why this process may not read or write a path, as far as owners and modes say: which user, which file or folder on
//! the way, and the command that mends it.
//!
//! Asks the kernel and changes nothing. Called by `files`, `directory` and `lock`, and by whoever opens a socket.

use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::{AccessFlags, Gid, Group, Uid, User, eaccess, getegid, geteuid};
use std::io;
use std::os::unix::fs::MetadataExt;

/// What was to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Read the file, or list the folder.
    Read,
    /// Make, replace or remove it: its folder must let us.
    Replace,
    /// Connect to the socket.
    Connect,
}

/// What stands in the way.
#[derive(Debug, PartialEq, Eq)]
struct Obstacle {
    path: Utf8PathBuf,
    verb: &'static str,
    bits: &'static str,
}

/// The same error with who may not and what mends it, where the system refused for a lack of rights and it can be seen
/// which; else the error as it is.
pub fn told(error: io::Error, path: &Utf8Path, want: Want) -> io::Error {
    match explained(&error, path, want) {
        Some(why) => io::Error::new(error.kind(), why),
        None => error,
    }
}

/// Why, in words; `None` for any other error, and where nothing of it can be seen.
pub fn explained(error: &io::Error, path: &Utf8Path, want: Want) -> Option<String> {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return None;
    }
    let Obstacle { path: barrier, verb, bits } = obstacle(path, want)?;
    let metadata = std::fs::metadata(&barrier).ok()?;
    let (owner, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    let (user, mode) = (user_name(geteuid()), metadata.mode() & 0o7777);
    let what = if barrier == path { "it".to_owned() } else { barrier.to_string() };
    let (owned_by, in_group) = (user_name(owner), group_name(group));
    let is_socket = want == Want::Connect && barrier == path;
    let mend = match () {
        () if owner == geteuid() => format!("mend it with `chmod u+{bits} {barrier}`"),
        // To be in root's group is more than a socket is worth, and its owner makes it anew at each start.
        () if is_socket && group.as_raw() == 0 => "use sudo".to_owned(),
        () if is_socket => format!("use sudo, or let this user in: `sudo usermod -aG {in_group} {user}`"),
        () if group == getegid() => format!("use sudo, or let this user in: `sudo chmod g+{bits} {barrier}`"),
        () => format!(
            "use sudo, or let this user in: `sudo chgrp {0} {barrier} && sudo chmod g+{bits} {barrier}`",
            group_name(getegid())
        ),
    };
    Some(format!(
        "Permission denied: user {user} may not {verb} {what} (owner {owned_by}, group {in_group}, mode {mode:o}); {mend}"
    ))
}

/// The name of the user that this process acts as.
pub fn own_name() -> String {
    user_name(geteuid())
}

/// The first folder on the way that may not be entered, or else the end of it.
fn obstacle(path: &Utf8Path, want: Want) -> Option<Obstacle> {
    let may = |path: &Utf8Path, flags: AccessFlags| eaccess(path.as_std_path(), flags).is_ok();
    let folders: Vec<&Utf8Path> = path.ancestors().skip(1).filter(|folder| !folder.as_str().is_empty()).collect();
    let closed = folders.iter().rev().find(|folder| folder.is_dir() && !may(folder, AccessFlags::X_OK));
    if let Some(closed) = closed {
        return Some(Obstacle { path: (*closed).to_owned(), verb: "enter", bits: "x" });
    }
    match want {
        Want::Read => {
            let bits = if path.is_dir() { "rx" } else { "r" };
            let is_open = may(path, AccessFlags::R_OK);
            (!is_open).then(|| Obstacle { path: path.to_owned(), verb: "read", bits })
        }
        Want::Connect => {
            let is_open = may(path, AccessFlags::W_OK);
            (!is_open).then(|| Obstacle { path: path.to_owned(), verb: "use", bits: "rw" })
        }
        Want::Replace => {
            if path.is_file() && !may(path, AccessFlags::W_OK) {
                return Some(Obstacle { path: path.to_owned(), verb: "write", bits: "rw" });
            }
            let folder = folders.into_iter().find(|folder| folder.is_dir())?;
            let is_open = may(folder, AccessFlags::W_OK | AccessFlags::X_OK);
            (!is_open).then(|| Obstacle { path: folder.to_owned(), verb: "write into", bits: "rwx" })
        }
    }
}

fn user_name(uid: Uid) -> String {
    let named = User::from_uid(uid).ok().flatten();
    named.map_or_else(|| uid.to_string(), |user| user.name)
}

fn group_name(gid: Gid) -> String {
    let named = Group::from_gid(gid).ok().flatten();
    named.map_or_else(|| gid.to_string(), |group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_error_and_a_path_that_is_open_are_left_as_they_are() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        for want in [Want::Read, Want::Replace, Want::Connect] {
            assert_eq!(explained(&io::ErrorKind::NotFound.into(), dir, want), None);
            assert_eq!(explained(&denied(), dir, want), None, "{want:?}");
        }
        assert_eq!(told(denied(), dir, Want::Read).to_string(), denied().to_string());
    }
}
