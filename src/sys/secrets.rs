//! Reads the values that secret references stand for.
//!
//! Refuses to know what they are for, and never puts a value into an error. Called by `agent` and `cli`.

use super::{files, redact};
use crate::model::{Refused, Secret, SecretRef};
use camino::{Utf8Path, Utf8PathBuf};
use std::io;
use std::os::unix::fs::PermissionsExt;

/// Longest file, in bytes: a value of 8 KiB and its line break.
const MAX_BYTES: u64 = 8192 + 2;

/// What the unit in `packaging` reads as `EnvironmentFile=`. A root shell has none of the agent's environment, and its
/// commands need the same keys.
const ENVIRONMENT_FILE: &str = "/etc/default/hapilot";
/// Longest such file, in bytes.
const MAX_ENVIRONMENT: u64 = 1 << 20;

/// A value, and what is wrong with the place that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadSecret {
    /// The value.
    pub secret: Secret,
    /// For the operator: everybody on this machine can read the file.
    pub warning: Option<String>,
}

/// Why a variable of the environment gives no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariableProblem {
    /// There is none, neither here nor where the unit has it from.
    NotSet,
    /// It is no text.
    NotUtf8,
}

impl std::fmt::Display for VariableProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSet => write!(f, "not set, and {ENVIRONMENT_FILE}, from which the unit takes it, gives none"),
            Self::NotUtf8 => f.write_str("not valid UTF-8"),
        }
    }
}

/// Why a secret was not read. No variant carries the value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// `env:NAME`, and there is none, or it is not UTF-8.
    #[error("the environment variable {name} of this process is {problem}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong with it.
        problem: VariableProblem,
    },
    /// `credential:NAME` outside a unit with `LoadCredential=`.
    #[error("credential:{name} needs systemd: CREDENTIALS_DIRECTORY is not set")]
    NoCredentials {
        /// The credential.
        name: String,
    },
    /// The file is missing, unreadable or too long.
    #[error(transparent)]
    File(io::Error),
    /// The file holds something that no header could carry.
    #[error("the secret in {place} cannot be used")]
    Value {
        /// The reference, as the operator wrote it.
        place: String,
        /// Which rule it breaks.
        source: Refused,
    },
}

impl SecretError {
    /// Another process may well read it: this one has not the agent's environment, credentials or rights.
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Environment { problem, .. } => *problem == VariableProblem::NotSet,
            Self::NoCredentials { .. } => true,
            Self::File(error) => error.kind() == io::ErrorKind::PermissionDenied,
            Self::Value { .. } => false,
        }
    }
}

/// Reads the value behind a reference; of a file without its one last line break.
///
/// # Errors
/// Nothing there, unreadable, longer than 8 KiB, not UTF-8, empty, or with a control character.
pub fn read_secret(reference: &SecretRef) -> Result<ReadSecret, SecretError> {
    let credentials = std::env::var("CREDENTIALS_DIRECTORY").ok().map(Utf8PathBuf::from);
    read_secret_in(reference, credentials.as_deref(), ENVIRONMENT_FILE.into())
}

fn read_secret_in(
    reference: &SecretRef,
    credentials: Option<&Utf8Path>,
    environment_file: &Utf8Path,
) -> Result<ReadSecret, SecretError> {
    let (text, warning) = match reference {
        SecretRef::Env(name) => {
            let problem = |problem| SecretError::Environment { name: name.clone(), problem };
            match std::env::var(name) {
                Ok(text) => (text, None),
                Err(std::env::VarError::NotUnicode(_)) => return Err(problem(VariableProblem::NotUtf8)),
                Err(std::env::VarError::NotPresent) => {
                    let kept = variable_in(environment_file, name).ok_or_else(|| problem(VariableProblem::NotSet))?;
                    (kept, readable_by_all(environment_file))
                }
            }
        }
        SecretRef::File(path) => (read_text(path)?, readable_by_all(path)),
        SecretRef::Credential(name) => {
            let directory = credentials.ok_or_else(|| SecretError::NoCredentials { name: name.clone() })?;
            (read_text(&directory.join(name))?, None)
        }
    };
    redact::learn(&text);
    if let SecretRef::Env(name) = reference {
        redact::learn_variable(name);
    }
    let secret = Secret::new(text).map_err(|source| SecretError::Value { place: reference.to_string(), source })?;
    Ok(ReadSecret { secret, warning })
}

/// The file that a variable comes from where a process does not have it, for who watches.
pub fn environment_file() -> &'static Utf8Path {
    ENVIRONMENT_FILE.into()
}

/// The variable whose line in that file is another by now than what this process was started with.
pub fn outdated_variable(reference: &SecretRef) -> Option<&str> {
    outdated_in(reference, ENVIRONMENT_FILE.into())
}

fn outdated_in<'a>(reference: &'a SecretRef, environment_file: &Utf8Path) -> Option<&'a str> {
    let SecretRef::Env(name) = reference else { return None };
    let (ours, theirs) = (std::env::var(name).ok()?, variable_in(environment_file, name)?);
    (ours != theirs).then_some(name.as_str())
}

/// The value that systemd's `EnvironmentFile=` gives a variable: the last line that names it, without its quotes.
fn variable_in(file: &Utf8Path, name: &str) -> Option<String> {
    let bytes = files::read_limited(file, MAX_ENVIRONMENT).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let value = lines.filter_map(|line| line.split_once('=')).rfind(|(key, _)| key.trim_end() == name)?.1.trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    Some(quoted.unwrap_or(value).to_owned())
}

fn read_text(path: &Utf8Path) -> Result<String, SecretError> {
    let bytes = files::read_limited(path, MAX_BYTES).map_err(SecretError::File)?;
    let mut text = String::from_utf8(bytes)
        // The error of the conversion would carry the bytes.
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{path} is not valid UTF-8")))
        .map_err(SecretError::File)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn readable_by_all(path: &Utf8Path) -> Option<String> {
    let mode = fs_err::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0)
        .then(|| format!("{path} can be read by everybody on this machine (mode {:04o}); use chmod 600", mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::{SecretError, VariableProblem, outdated_in, read_secret, read_secret_in};
    use crate::model::SecretRef;
    use crate::sys::files::replace_file;
    use camino::Utf8Path;

    #[test]
    fn a_line_that_is_another_than_our_own_variable_is_told() {
        let held = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(held.path()).unwrap().join("hapilot");
        let path = SecretRef::Env("PATH".into());
        assert_eq!(outdated_in(&path, &file), None);
        replace_file(&file, format!("OTHER=1\nPATH=\"{}\"\n", std::env::var("PATH").unwrap()).as_bytes(), 0o600)
            .unwrap();
        assert_eq!(outdated_in(&path, &file), None);
        replace_file(&file, b"PATH=sk-other\n", 0o600).unwrap();
        assert_eq!(outdated_in(&path, &file), Some("PATH"));
        assert_eq!(outdated_in(&SecretRef::Env("NOT_SET_ANYWHERE".into()), &file), None);
    }

    #[test]
    fn a_file_loses_one_line_break_and_a_readable_one_is_warned_about() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        let path = dir.join("key");
        replace_file(&path, b"sk-1\n", 0o600).unwrap();
        let read = read_secret(&SecretRef::File(path.clone())).unwrap();
        assert_eq!(read.secret.expose(), "sk-1");
        assert_eq!(read.warning, None);
        replace_file(&path, b"sk-2", 0o644).unwrap();
        let read = read_secret(&SecretRef::File(path)).unwrap();
        assert_eq!(read.secret.expose(), "sk-2");
        assert!(read.warning.unwrap().contains("0644"));
        let read = read_secret_in(&SecretRef::Credential("key".into()), Some(dir), "/nowhere".into()).unwrap();
        assert_eq!(read.secret.expose(), "sk-2");
    }

    #[test]
    fn a_variable_that_is_unset_here_is_taken_from_where_the_unit_has_it() {
        let held = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(held.path()).unwrap().join("hapilot");
        let text = "# KEY_A=sk-0\nHAPILOT_T_A=sk-1\nHAPILOT_T_A = \"sk-2\"\n; x\nHAPILOT_T_B='sk-=3'\n\nHAPILOT_T_C=\n";
        replace_file(&path, text.as_bytes(), 0o600).unwrap();
        let read = |name: &str| read_secret_in(&SecretRef::Env(name.into()), None, &path).map(|read| read.secret);
        assert_eq!(read("HAPILOT_T_A").unwrap().expose(), "sk-2");
        assert_eq!(read("HAPILOT_T_B").unwrap().expose(), "sk-=3");
        assert!(matches!(read("HAPILOT_T_C"), Err(SecretError::Value { .. })), "an empty one is no secret");
        let error = read("HAPILOT_T_D").unwrap_err();
        assert!(error.to_string().contains("/etc/default/hapilot"), "{error}");
    }

    #[test]
    fn no_error_repeats_the_value() {
        let held = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(held.path()).unwrap().join("key");
        for content in [&b"sk-1\nsk-2\n"[..], b"sk-\xff", b"", &[b's'; 9000]] {
            replace_file(&path, content, 0o600).unwrap();
            let error = read_secret(&SecretRef::File(path.clone())).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sk-"), "{error:?}");
        }
        assert!(matches!(
            read_secret(&SecretRef::Env("HAPILOT_SURELY_UNSET".into())),
            Err(SecretError::Environment { problem: VariableProblem::NotSet, .. })
        ));
        assert!(read_secret_in(&SecretRef::Credential("x".into()), None, "/nowhere".into()).is_err());
    }
}
