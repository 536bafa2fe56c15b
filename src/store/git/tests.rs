//! Against the real git.

use super::*;
use crate::store::{How, Manifest, NewFile, RevisionOutcome, RevisionSource, Revisions, Standing};
use std::time::Instant;

fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
    let held = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(held.path()).unwrap().to_owned();
    (held, path)
}

fn now() -> Timestamp {
    "2026-12-01T00:00:00Z".parse().unwrap()
}

/// A revision on disk, as a commit.
fn commit(state: &Utf8Path, revision: u32, actor: &str, reason: &str) -> Commit {
    let manifest = Manifest {
        revision,
        created: Timestamp::from_second(1_790_000_000 + i64::from(revision)).unwrap(),
        actor: actor.to_owned(),
        reason: reason.to_owned(),
        source: RevisionSource::Rollback { of: 1 },
        outcome: Some(RevisionOutcome::Applied { how: How::Reload }),
        plan: vec!["weight 1 → 2".to_owned(), "Hapilot-Revision: 9999".to_owned()],
        files: vec![],
        tags: vec![],
        standing: Standing::Confirmed,
    };
    let text = format!("revision {revision}\n");
    let map = format!("maps/only-{revision}.map");
    let file = |path, is_secret| NewFile { path, content: text.as_bytes(), is_secret };
    let files = [file("hapilot.toml", false), file("structure", false), file(&map, false), file("maps/keys.map", true)];
    let revisions = Revisions::open(state).unwrap();
    revisions.save(manifest, &files).unwrap();
    Commit::of(revisions.load(revision).unwrap(), vec![("keepalived.conf".to_owned(), b"vrrp\n".to_vec())])
}

/// What git says of a repository, as an operator would ask it.
fn git(at: &Utf8Path, args: &[&str]) -> String {
    let done = std::process::Command::new("git").arg("-C").arg(at).args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[tokio::test]
async fn revisions_become_commits_in_their_order_once() {
    let (_held, dir) = directory();
    let (state, at) = (dir.join("state"), dir.join("git"));
    let repository = Repository::open(&at, "lb1").await.unwrap();
    assert_eq!(repository.last().await.unwrap(), None);
    let first = [commit(&state, 1, "ops", "first"), commit(&state, 3, "a <b>\n@c", "third\nHapilot-Revision: 77\n")];
    repository.add(&first, now()).await.unwrap();
    assert_eq!(repository.last().await.unwrap().map(|last| last.revision), Some(3));
    let repository = Repository::open(&at, "lb1").await.unwrap();
    repository.add(&[commit(&state, 4, "", "")], now()).await.unwrap();
    let last = repository.last().await.unwrap().unwrap();
    assert_eq!((last.revision, last.created.as_second()), (4, 1_790_000_004));
    assert_eq!(
        git(&at, &["log", "--format=%s|%an|%ae|%cn"]),
        "revision 4|unknown|unknown@lb1|hapilot\nthird|a-bc|a-bc@lb1|hapilot\nfirst|ops|ops@lb1|hapilot\n"
    );
    let body = git(&at, &["log", "-1", "--format=%B", "lb1~1"]);
    assert!(
        body.contains("Revision 3 of node lb1: a rollback to revision 1 by a <b>") && body.contains("- weight 1 → 2"),
        "{body}"
    );
    // What a revision has no more is gone; what it never stores is not there.
    assert_eq!(git(&at, &["ls-tree", "-r", "--name-only", "lb1"]), "hapilot.toml\nkeepalived.conf\nmaps/only-4.map\n");
    assert_eq!(git(&at, &["show", "lb1~2:hapilot.toml"]), "revision 1\n");
    git(&at, &["fsck", "--strict"]);

    let tags = [("good".to_owned(), 3), ("a..b.lock".to_owned(), 4), ("never".to_owned(), 2)];
    assert!(repository.tag(&tags).await.unwrap());
    assert!(!repository.tag(&tags[..2]).await.unwrap());
    assert_eq!(git(&at, &["tag"]), "a.-b.lock-\ngood\n");
    assert_eq!(git(&at, &["show", "good:hapilot.toml"]), "revision 3\n");
}

#[tokio::test]
async fn hooks_locks_and_the_configuration_of_users_are_in_nobodys_way() {
    let (_held, dir) = directory();
    let (state, at) = (dir.join("state"), dir.join("git"));
    // With a work tree, as somebody may have cloned it.
    fs_err::create_dir(&at).unwrap();
    git(&at, &["init", "-q"]);
    for hook in ["pre-commit", "commit-msg", "post-commit", "reference-transaction", "pre-push"] {
        let path = at.join(".git/hooks").join(hook);
        fs_err::write(&path, "#!/bin/sh\ntouch \"$0.ran\"\nexit 1\n").unwrap();
        fs_err::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    for (key, value) in [("commit.gpgSign", "true"), ("gpg.program", "/bin/false"), ("user.useConfigOnly", "true")] {
        git(&at, &["config", key, value]);
    }
    fs_err::write(at.join(".git/index.lock"), "").unwrap();
    let repository = Repository::open(&at, "lb1").await.unwrap();
    repository.add(&[commit(&state, 1, "ops", "first")], now()).await.unwrap();
    repository.tag(&[("good".to_owned(), 1)]).await.unwrap();
    let other = dir.join("origin");
    fs_err::create_dir(&other).unwrap();
    git(&other, &["init", "-q", "--bare"]);
    git(&at, &["remote", "add", "origin", other.as_str()]);
    assert!(repository.push(&[("good".to_owned(), 1)]).await.unwrap());
    assert_eq!(git(&other, &["for-each-ref", "--format=%(refname)"]), "refs/heads/lb1\nrefs/tags/lb1/good\n");
    let hooks = directory::file_names(&at.join(".git/hooks"), ".ran").unwrap();
    assert_eq!(hooks, Vec::<String>::new());

    // A locked branch is told, and nothing has changed.
    let lock = at.join(".git/refs/heads/lb1.lock");
    fs_err::write(&lock, "").unwrap();
    let refused = repository.add(&[commit(&state, 2, "ops", "second")], now()).await.unwrap_err().to_string();
    assert!(refused.starts_with("git cannot commit: ") && refused.contains("lock"), "{refused}");
    assert_eq!(repository.last().await.unwrap().map(|last| last.revision), Some(1));
    fs_err::remove_file(lock).unwrap();
    repository.add(&[commit(&state, 3, "ops", "third")], now()).await.unwrap();
}

#[tokio::test]
async fn what_others_committed_stays_and_nothing_is_forced() {
    let (_held, dir) = directory();
    let (state, at, other, theirs) = (dir.join("state"), dir.join("git"), dir.join("origin"), dir.join("theirs"));
    fs_err::create_dir(&other).unwrap();
    git(&other, &["init", "-q", "--bare"]);
    let repository = Repository::open(&at, "lb1").await.unwrap();
    repository.add(&[commit(&state, 1, "ops", "first")], now()).await.unwrap();
    assert!(!repository.push(&[]).await.unwrap(), "no origin, no push");
    git(&at, &["remote", "add", "origin", other.as_str()]);
    repository.push(&[]).await.unwrap();
    git(&dir, &["clone", "-q", "-b", "lb1", other.as_str(), theirs.as_str()]);
    let write = |name: &str| {
        fs_err::write(theirs.join(name), "theirs\n").unwrap();
        git(&theirs, &["add", name]);
        git(&theirs, &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", name]);
    };
    // On top of ours, in our repository: we go on from there.
    write("README");
    git(&theirs, &["push", "-q", at.as_str(), "lb1"]);
    repository.add(&[commit(&state, 2, "ops", "second")], now()).await.unwrap();
    assert_eq!(git(&at, &["show", "lb1:README"]), "theirs\n");
    repository.push(&[]).await.unwrap();
    // At the other side, and we do not know of it.
    git(&theirs, &["fetch", "-q"]);
    git(&theirs, &["reset", "-q", "--hard", "origin/lb1"]);
    write("NOTES");
    git(&theirs, &["push", "-q", "origin", "lb1"]);
    let before = git(&other, &["rev-parse", "lb1"]);
    repository.add(&[commit(&state, 3, "ops", "third")], now()).await.unwrap();
    let refused = repository.push(&[]).await.unwrap_err().to_string();
    assert!(refused.contains("rejected"), "{refused}");
    assert_eq!(git(&other, &["rev-parse", "lb1"]), before);
    // Somebody went back: what is missing comes again.
    git(&at, &["update-ref", "refs/heads/lb1", "lb1~2"]);
    assert_eq!(repository.last().await.unwrap().map(|last| last.revision), Some(1));
}

#[tokio::test]
async fn a_remote_that_hangs_is_given_up_in_time() {
    let (_held, dir) = directory();
    let (state, at) = (dir.join("state"), dir.join("git"));
    let repository = Repository::open(&at, "lb1").await.unwrap();
    repository.add(&[commit(&state, 1, "ops", "first")], now()).await.unwrap();
    git(&at, &["remote", "add", "origin", "ssh://nobody@localhost/x"]);
    let script = dir.join("hang");
    fs_err::write(&script, format!("#!/bin/sh\necho \"$@\" > {dir}/asked\nexec sleep 1000\n")).unwrap();
    fs_err::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    git(&at, &["config", "core.sshCommand", script.as_str()]);
    let began = Instant::now();
    let args = ["push", "origin", "lb1"];
    let within = Duration::from_secs(2);
    let late = repository.git("push to origin", &args, None, within).await.unwrap_err();
    assert!(matches!(late, GitError::TooLate { .. }), "{late}");
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(late.to_string().contains("had 2 s to push to origin"), "{late}");
    let asked = fs_err::read_to_string(dir.join("asked")).unwrap();
    assert!(asked.contains("BatchMode=yes"), "{asked}");
    git(&at, &["remote", "set-url", "origin", "ext::sh -c touch% /dev/null"]);
    let refused = repository.push(&[]).await.unwrap_err().to_string();
    assert!(refused.contains("ext") && refused.contains("not allowed"), "{refused}");
}

#[tokio::test]
async fn what_is_no_repository_is_left_alone() {
    let (_held, dir) = directory();
    fs_err::write(dir.join("precious"), "x").unwrap();
    let refused = Repository::open(&dir, "lb1").await.unwrap_err().to_string();
    assert!(refused.contains("is no git repository, and not empty"), "{refused}");
    let refused = Repository::open(&dir.join("precious"), "lb1").await.unwrap_err();
    assert!(matches!(refused, GitError::Io { .. }), "{refused}");
    assert_eq!(fs_err::read_to_string(dir.join("precious")).unwrap(), "x");
}

#[tokio::test]
async fn a_thousand_revisions_that_were_missed_come_at_once_and_not_again() {
    let (_held, dir) = directory();
    let (state, at) = (dir.join("state"), dir.join("git"));
    let one = commit(&state, 1, "ops", "first");
    let commits: Vec<Commit> = (1..=1000).map(|number| one.numbered(number)).collect();
    let repository = Repository::open(&at, "lb1").await.unwrap();
    let began = Instant::now();
    for batch in commits.chunks(50) {
        repository.add(batch, now()).await.unwrap();
    }
    println!("1000 commits took {:?}", began.elapsed());
    assert_eq!(repository.last().await.unwrap().map(|last| last.revision), Some(1000));
    assert_eq!(git(&at, &["rev-list", "--count", "lb1"]).trim(), "1000");
}
