//! A git repository with each confirmed revision as a commit: opened or made, asked how far it goes, added to, pushed.
//!
//! By the program `git`, in an environment of its own: no hook, no configuration of a user's or the system's, no question at
//! a terminal, no signature. Commits come from `git fast-import`, which needs no work tree and no index, and moves the
//! branch once, at its end, and only forward. Nothing is ever forced. Knows no configuration and no clock of its own;
//! called by `agent`, beside its loop.

mod commit;

pub use commit::Commit;

use crate::sys::{directory, process};
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// A command that only looks, or moves a name.
const SHORT: Duration = Duration::from_secs(20);
/// A batch of commits; and to tidy up now and then.
const LONG: Duration = Duration::from_secs(120);
/// A push, with all that a network may do to it.
const PUSH: Duration = Duration::from_secs(60);
/// Bytes of what git says that are read.
const MAX_OUTPUT: usize = 4 << 20;
/// Bytes of one of its complaints that are told.
const MAX_TOLD: usize = 300;
/// Tags that are looked at.
const MAX_TAGS: usize = 1_000;
/// The name of the other repository.
const REMOTE: &str = "origin";
/// Variables that are handed on: where programs are, and the ways out of this network.
const HANDED_ON: [&str; 10] = [
    "PATH",
    "HOME",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

/// Why the repository does not have what it should.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no such program.
    #[error("the program git is missing: install it, or take `git` out of [history]")]
    Missing,
    /// The directory is nothing that a repository can be in.
    #[error("{0}")]
    Unfit(String),
    /// git has refused something.
    #[error("git cannot {doing}: {said}")]
    Failed {
        /// What we were doing.
        doing: &'static str,
        /// What it said.
        said: String,
    },
    /// It has not answered in time.
    #[error("git had {} s to {doing}, and was ended", .within.as_secs())]
    TooLate {
        /// What we were doing.
        doing: &'static str,
        /// The time that it had.
        within: Duration,
    },
    /// A file cannot be written or read.
    #[error("could not {doing}: {source}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How far the branch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// The number of the revision.
    pub revision: u32,
    /// When it was made: numbers come again after a restore.
    pub created: Timestamp,
}

/// A repository that can be used.
#[derive(Clone, Debug)]
pub struct Repository {
    git_dir: Utf8PathBuf,
    branch: String,
    node: String,
}

/// Whether there is the program git.
///
/// # Errors
/// [`GitError::Missing`], or it does not answer.
pub async fn git_is_there() -> Result<(), GitError> {
    run("say its version", None, &["--version"], None, SHORT).await.map(drop)
}

/// Whether a repository is in a directory, or could be made there; one that only others may read is for them to say.
///
/// # Errors
/// Something else is there.
pub fn fits(path: &Utf8Path) -> Result<(), GitError> {
    match directory_of(path) {
        Err(GitError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map(drop),
    }
}

impl Repository {
    /// Opens the repository in a directory, and makes both where there is none. The branch has the node's name.
    ///
    /// # Errors
    /// There is something else, or it belongs to another user, or there is no git.
    pub async fn open(path: &Utf8Path, node: &str) -> Result<Self, GitError> {
        let io = |doing| move |source| GitError::Io { doing, source };
        let git_dir = match directory_of(path)? {
            Some(git_dir) => git_dir,
            None => {
                git_is_there().await?;
                directory::create_directory(path, 0o750).map_err(io("make the directory of the git repository"))?;
                run("make a repository", None, &["init", "--quiet", "--bare", "--", path.as_str()], None, SHORT)
                    .await?;
                path.to_owned()
            }
        };
        let owner = fs_err::metadata(&git_dir).map_err(io("look at the git repository"))?.uid();
        if owner != nix::unistd::geteuid().as_raw() {
            // Its configuration may name programs, which would run as this user.
            let us = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
            let us = us.map_or_else(|| nix::unistd::geteuid().to_string(), |user| user.name);
            return Err(GitError::Unfit(format!("{path} belongs to another user: chown -R {us} {path}")));
        }
        let branch = as_reference(node);
        let repository = Self { git_dir, branch, node: node.to_owned() };
        let head = format!("refs/heads/{}", repository.branch);
        if repository.git("find its branch", &["rev-parse", "--quiet", "--verify", "HEAD"], None, SHORT).await.is_err()
        {
            // An empty one shows what will be there.
            repository.git("name its branch", &["symbolic-ref", "HEAD", &head], None, SHORT).await?;
        }
        Ok(repository)
    }

    /// The newest revision on the branch; others may have committed on top of it.
    ///
    /// # Errors
    /// git fails.
    pub async fn last(&self) -> Result<Option<Last>, GitError> {
        if !self.has_branch().await? {
            return Ok(None);
        }
        let format = format!(
            "--format=%(trailers:key={},valueonly,separator=)%x20%(trailers:key={},valueonly,separator=)",
            commit::REVISION,
            commit::MADE
        );
        let grep = format!("--grep=^{}: [0-9]", commit::REVISION);
        let args = ["log", "-1", "--no-show-signature", &grep, &format, &self.head()];
        let said = self.git("read its history", &args, None, SHORT).await?;
        let last = said.trim().split_once(' ').and_then(|(revision, created)| {
            Some(Last { revision: revision.parse().ok()?, created: created.parse().ok()? })
        });
        Ok(last)
    }

    /// Adds these, in this order: all of them or none.
    ///
    /// # Errors
    /// git fails, or somebody else has moved the branch meanwhile; nothing has changed.
    pub async fn add(&self, commits: &[Commit], now: Timestamp) -> Result<(), GitError> {
        let io = |doing| move |source| GitError::Io { doing, source };
        let mut from = self.has_branch().await?.then(|| format!("{}^0", self.head()));
        let mut stream = tempfile::tempfile().map_err(io("write down commits"))?;
        let mut write = || {
            stream.write_all(b"feature done\n")?;
            for commit in commits {
                commit.write(&mut stream, &self.head(), &self.node, now, from.take().as_deref())?;
            }
            stream.write_all(b"done\n")?;
            stream.rewind()
        };
        write().map_err(io("write down commits"))?;
        self.git("commit", &["fast-import", "--quiet", "--done"], Some(stream), LONG).await?;
        // What is loose is packed when there is much of it.
        drop(self.git("tidy up", &["gc", "--auto", "--quiet"], None, LONG).await);
        Ok(())
    }

    /// Gives commits the names of their revisions, where the repository does not have those names yet.
    ///
    /// # Errors
    /// git fails.
    pub async fn tag(&self, tags: &[(String, u32)]) -> Result<bool, GitError> {
        if tags.is_empty() {
            return Ok(false);
        }
        let known =
            self.git("list its tags", &["for-each-ref", "--format=%(refname)", "refs/tags"], None, SHORT).await?;
        let mut is_news = false;
        for (name, revision) in tags.iter().take(MAX_TAGS) {
            let reference = format!("refs/tags/{}", as_reference(name));
            if known.lines().any(|line| line == reference) {
                continue;
            }
            let grep = format!("--grep=^{}: {revision}$", commit::REVISION);
            let args = ["log", "-1", "--no-show-signature", &grep, "--format=%H", &self.head()];
            let commit = self.git("find a revision", &args, None, SHORT).await?;
            // One that never served has no commit.
            if !commit.trim().is_empty() {
                let args = ["update-ref", &reference, commit.trim(), "0000000000000000000000000000000000000000"];
                self.git("make a tag", &args, None, SHORT).await?;
                is_news = true;
            }
        }
        Ok(is_news)
    }

    /// Pushes branch and tags to `origin`, where there is one. There all of a node stands below its name, so that nodes may
    /// share it: the branch, and `NODE/TAG`.
    ///
    /// # Errors
    /// The other side does not answer in time, or refuses; that somebody else has changed what is there is one of the
    /// reasons, and nothing is forced then.
    pub async fn push(&self, tags: &[(String, u32)]) -> Result<bool, GitError> {
        let Ok(_) = self.git("find origin", &["remote", "get-url", REMOTE], None, SHORT).await else {
            return Ok(false);
        };
        if !self.has_branch().await? {
            return Ok(false);
        }
        let known =
            self.git("list its tags", &["for-each-ref", "--format=%(refname)", "refs/tags"], None, SHORT).await?;
        let mut wanted = vec![format!("{}:{}", self.head(), self.head())];
        for name in tags.iter().take(MAX_TAGS).map(|(name, _)| as_reference(name)) {
            let reference = format!("refs/tags/{name}");
            if known.lines().any(|line| line == reference) {
                wanted.push(format!("{reference}:refs/tags/{}/{name}", self.branch));
            }
        }
        let mut args = vec!["push", "--porcelain", "--no-verify", "--no-signed", "--recurse-submodules=no", REMOTE];
        args.extend(wanted.iter().map(String::as_str));
        self.git("push to origin", &args, None, PUSH).await?;
        Ok(true)
    }

    fn head(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    async fn has_branch(&self) -> Result<bool, GitError> {
        let args = ["for-each-ref", "--format=%(refname)", &self.head()];
        let said = self.git("find its branch", &args, None, SHORT).await?;
        Ok(said.lines().any(|line| line == self.head()))
    }

    async fn git(
        &self,
        doing: &'static str,
        args: &[&str],
        input: Option<File>,
        within: Duration,
    ) -> Result<String, GitError> {
        run(doing, Some(&self.git_dir), args, input, within).await
    }
}

/// The repository at a path: bare, or beside a work tree. `None`: there is nothing yet.
fn directory_of(path: &Utf8Path) -> Result<Option<Utf8PathBuf>, GitError> {
    let beside = path.join(".git");
    if beside.is_dir() {
        return Ok(Some(beside));
    }
    if path.join("HEAD").exists() && path.join("objects").is_dir() {
        return Ok(Some(path.to_owned()));
    }
    match std::fs::read_dir(path) {
        Ok(entries) => match entries.count() {
            0 => Ok(None),
            _ => Err(GitError::Unfit(format!("{path} is no git repository, and not empty: name another directory"))),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(GitError::Io { doing: "look at the directory of the git repository", source }),
    }
}

/// A name as git takes it.
///
/// **Source**: git-check-ref-format(1).
fn as_reference(name: &str) -> String {
    let mut plain = name.replace("..", ".-").trim_start_matches(['.', '-']).to_owned();
    if plain.ends_with(".lock") || plain.ends_with('.') {
        plain.push('-');
    }
    if plain.is_empty() { "node".to_owned() } else { plain }
}

async fn run(
    doing: &'static str,
    git_dir: Option<&Utf8Path>,
    args: &[&str],
    input: Option<File>,
    within: Duration,
) -> Result<String, GitError> {
    let mut environment: Vec<(&str, String)> =
        HANDED_ON.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect();
    let own = [
        ("LC_ALL", "C"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "/bin/false"),
        ("SSH_ASKPASS", "/bin/false"),
        ("SSH_ASKPASS_REQUIRE", "never"),
        ("GIT_OPTIONAL_LOCKS", "0"),
    ];
    environment.extend(own.map(|(name, value)| (name, value.to_owned())));
    let mut all: Vec<String> = vec![];
    for set in [
        "core.hooksPath=/dev/null",
        "commit.gpgSign=false",
        "tag.gpgSign=false",
        "push.gpgSign=false",
        "gc.autoDetach=false",
    ] {
        all.extend(["-c".to_owned(), set.to_owned()]);
    }
    if let Some(git_dir) = git_dir {
        if args.first() == Some(&"push") {
            environment.push(("GIT_SSH_COMMAND", ssh(git_dir).await));
        }
        all.push(format!("--git-dir={git_dir}"));
    }
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    call(doing, &all, &environment, input, within).await
}

/// How a repository is reached by ssh: as its own configuration says, and never with a question.
async fn ssh(git_dir: &Utf8Path) -> String {
    let args = [format!("--git-dir={git_dir}"), "config".to_owned(), "--get".to_owned(), "core.sshCommand".to_owned()];
    let environment: Vec<_> = std::env::var("PATH").ok().map(|path| ("PATH", path)).into_iter().collect();
    let named = call("read its configuration", &args, &environment, None, SHORT).await.unwrap_or_default();
    let named = if named.trim().is_empty() { "ssh" } else { named.trim() };
    format!("{named} -oBatchMode=yes -oConnectTimeout=15 -oServerAliveInterval=10")
}

async fn call(
    doing: &'static str,
    args: &[String],
    environment: &[(&str, String)],
    input: Option<File>,
    within: Duration,
) -> Result<String, GitError> {
    let ended = process::run_clean("git".into(), args, environment, input, within, MAX_OUTPUT).await;
    let ended = ended.map_err(|e| match e.source.kind() {
        std::io::ErrorKind::NotFound => GitError::Missing,
        _ => GitError::Io { doing, source: e.source },
    })?;
    if ended.timed_out {
        return Err(GitError::TooLate { doing, within });
    }
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    match ended.status.success() {
        true => Ok(said),
        false => {
            // What `--porcelain` prints tells why a push was refused.
            let refused = said.lines().filter(|line| line.starts_with('!'));
            let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
            let words: Vec<&str> = refused.chain(errors.lines()).flat_map(str::split_whitespace).collect();
            let told: String = words.join(" ").chars().filter(|c| !c.is_control()).take(MAX_TOLD).collect();
            let said = if told.is_empty() { ended.status.to_string() } else { told };
            Err(GitError::Failed { doing, said })
        }
    }
}

#[cfg(test)]
mod tests;
