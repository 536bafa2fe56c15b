//! The HAProxies that judge rendered files, and the files where they read them.

use crate::support::haproxy::{Binary, binaries};
use camino::{Utf8Path, Utf8PathBuf};
use hapilot::render::{Rendered, Target, moved};
use std::process::Command;
use tempfile::TempDir;

/// One binary and its branch.
#[derive(Clone, Debug)]
pub struct HaproxyBinary {
    pub path: String,
    pub target: Target,
}

/// All of them; empty only after a skip has been said.
pub fn installed() -> Vec<HaproxyBinary> {
    let told = |binary: Binary| {
        let target = Target::new(binary.version.major, binary.version.minor);
        HaproxyBinary { path: binary.utf8_path().to_string(), target }
    };
    binaries().into_iter().map(told).collect()
}

/// A temporary directory whose path is text.
pub fn directory() -> (TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
    (directory, path)
}

/// Puts the files of a revision where HAProxy reads them.
pub fn write_files(directory: &Utf8Path, rendered: &Rendered) -> Utf8PathBuf {
    let maps = rendered.maps.iter().map(|(path, map)| (path, map.text()));
    let lists = rendered.lists.iter().map(|(path, list)| (path, list.text()));
    let scripts = rendered.scripts.iter().map(|(path, text)| (path, (*text).to_owned()));
    let nodes = rendered.nodes.iter().map(|(path, pem)| (path, pem.expose().to_owned()));
    for (path, text) in maps.chain(lists).chain(scripts).chain(nodes) {
        let path = directory.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }
    let path = directory.join("haproxy.cfg");
    let text = moved(&rendered.haproxy_cfg, Utf8Path::new("/etc/haproxy/haproxy.cfg"), directory);
    fs_err::write(&path, text).unwrap();
    path
}

impl HaproxyBinary {
    /// What `haproxy -c` says: whether it takes the file, and everything that it printed.
    pub fn check(&self, config: &Utf8Path) -> (bool, String) {
        let output = Command::new(&self.path).args(["-c", "-f", config.as_str()]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Takes the file without a word.
    pub fn accepts(&self, config: &Utf8Path) {
        let (is_valid, text) = self.check(config);
        let complains = text.contains("[WARNING]") || text.contains("[ALERT]");
        assert!(is_valid && !complains, "{} on {config}:\n{text}", self.path);
    }
}

/// A certificate for `localhost` with its key in one PEM file.
pub fn write_certificate(path: &Utf8Path) {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, certified.cert.pem() + &certified.signing_key.serialize_pem()).unwrap();
}
