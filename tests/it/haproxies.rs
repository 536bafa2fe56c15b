//! The HAProxy binaries that tests run against: `HAPILOT_TEST_HAPROXY`, a list with colons, else `haproxy` in `PATH`.

use camino::{Utf8Path, Utf8PathBuf};
use hapilot::render::{Rendered, Target};
use std::process::Command;
use tempfile::TempDir;

/// One binary and its branch.
#[derive(Clone, Debug)]
pub struct HaproxyBinary {
    pub path: String,
    pub target: Target,
}

/// All of them; prints why a test does nothing where there is none.
pub fn installed() -> Vec<HaproxyBinary> {
    let list = std::env::var("HAPILOT_TEST_HAPROXY").unwrap_or_else(|_| "haproxy".to_owned());
    let binaries: Vec<_> = list.split(':').filter(|path| !path.is_empty()).filter_map(binary).collect();
    if binaries.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "no HAProxy at {list:?}, and CI demands one");
        println!("skipped: no HAProxy at {list:?}");
    }
    binaries
}

fn binary(path: &str) -> Option<HaproxyBinary> {
    let output = Command::new(path).arg("-v").output().ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.split_whitespace().nth(2).unwrap();
    let mut numbers = version.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    let target = Target::new(numbers.next().unwrap(), numbers.next().unwrap());
    Some(HaproxyBinary { path: path.to_owned(), target })
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
    for (path, text) in maps.chain(lists) {
        let path = directory.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }
    let path = directory.join("haproxy.cfg");
    fs_err::write(&path, &rendered.haproxy_cfg).unwrap();
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
