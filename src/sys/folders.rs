//! What is wrong with the folder of a file that is about to be written, or of a socket, and the command that mends it.
//!
//! Looks and changes nothing. Called by the preflight in `agent`, and by `cli`.

use super::rights::{self, Want};
use camino::Utf8Path;
use nix::unistd::{AccessFlags, eaccess};
use std::io;

/// A file in a folder, whichever: a path that ends in a dot has the folder above for its parent.
pub(super) const ANY: &str = "file";

/// What is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// In words that name the folder.
    pub what: String,
    /// The command, where one mends it.
    pub help: String,
}

/// Why a file cannot come to be at this path; `None` where nothing is known against it.
pub fn lack_of(file: &Utf8Path) -> Option<Lack> {
    let folder = super::files::directory_of(file);
    barrier(&folder).or_else(|| missing(&folder)).or_else(|| closed(&folder))
}

/// The same where the folder may be missing, since it is made.
pub fn barrier(folder: &Utf8Path) -> Option<Lack> {
    let file = folder.ancestors().find(|above| above.exists()).filter(|above| !above.is_dir())?;
    Some(Lack { what: format!("{file} is no folder"), help: "give the path of a file in a folder".to_owned() })
}

/// The folder is not there.
pub fn missing(folder: &Utf8Path) -> Option<Lack> {
    let is_missing = std::fs::metadata(folder).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    is_missing.then(|| {
        let above = folder.ancestors().find(|above| above.exists());
        let is_ours = above.is_some_and(|above| eaccess(above.as_std_path(), AccessFlags::W_OK).is_ok());
        let command = match is_ours {
            true => format!("mkdir -p {folder}"),
            false => format!("sudo install -d -o {} {folder}", rights::own_name()),
        };
        Lack { what: format!("the folder {folder} is missing"), help: format!("make it: {command}") }
    })
}

/// The folder is there, and this process may not write into it.
fn closed(folder: &Utf8Path) -> Option<Lack> {
    let what = rights::explained(&io::ErrorKind::PermissionDenied.into(), &folder.join(ANY), Want::Replace)?;
    let (what, mend) = what.split_once("; ").unwrap_or((&what, ""));
    Some(Lack { what: what.to_owned(), help: mend.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_a_file_in_its_place_and_a_good_one_are_told_apart() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        assert_eq!(lack_of(&dir.join("haproxy.cfg")), None);
        let lack = lack_of(&dir.join("a/b/haproxy.cfg")).unwrap();
        assert_eq!(lack.what, format!("the folder {dir}/a/b is missing"));
        assert_eq!(lack.help, format!("make it: mkdir -p {dir}/a/b"));
        fs_err::write(dir.join("a"), "").unwrap();
        let lack = lack_of(&dir.join("a/b/haproxy.cfg")).unwrap();
        assert_eq!(lack.what, format!("{dir}/a is no folder"));
        assert_eq!(barrier(&dir.join("none/none")), None);
    }
}
