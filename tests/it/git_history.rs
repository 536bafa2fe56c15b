//! `[history] git`: each confirmed revision is a commit, whatever git does, and nothing waits for it.

use super::support::haproxy::binaries;
use super::support::stage::{KEY, Stage};
use super::support::{PATIENCE, wait_for};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

fn git(at: &Path, args: &[&str]) -> Option<String> {
    let done = Command::new("git").arg("-C").arg(at).args(args).output().expect("git");
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

fn commits(stage: &Stage) -> Vec<String> {
    let log = git(&stage.path("git"), &["log", "--reverse", "--format=%s", "test"]).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

fn with_git(text: &str, path: &Path) -> String {
    format!("{text}\n[history]\ngit = \"{}\"\n", path.display())
}

#[test]
fn each_confirmed_revision_is_a_commit_and_tags_come_later() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        let origin = stage.path("origin");
        fs_err::create_dir(&origin).expect("a directory");
        git(&origin, &["init", "-q", "--bare"]).expect("a repository");
        // What was there before is committed, too.
        stage.write_file(&with_git(&stage.text(), &stage.path("git")));
        wait_for("the first commits", PATIENCE, || (commits(&stage).len() == 2).then_some(()));
        git(&stage.path("git"), &["remote", "add", "origin", origin.to_str().expect("a path")]).expect("a remote");
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the third commit", PATIENCE, || (commits(&stage).len() == 3).then_some(()));
        stage.done(&["tag", "2", "good"]);
        stage.done(&["rollback", "2", "--reason", "too light"]);
        wait_for("the rollback", PATIENCE, || {
            (commits(&stage).last().is_some_and(|last| last == "too light")).then_some(())
        });
        let at = stage.path("git");
        wait_for("the tag", PATIENCE, || git(&at, &["tag"]).filter(|tags| tags == "good\n"));
        assert_eq!(git(&at, &["diff", "good", "test", "--", "hapilot.toml"]).as_deref(), Some(""));
        let served = git(&at, &["show", "test~1:hapilot.toml"]).expect("the file");
        assert_eq!(served, stage.text(), "as it was saved");
        assert!(git(&at, &["show", "test:haproxy.cfg"]).is_some_and(|text| text.contains("backend chat")));
        let all = git(&at, &["log", "-p", "--all"]).expect("all of it");
        assert!(
            !all.contains(KEY)
                && !git(&at, &["ls-tree", "-r", "--name-only", "test"]).expect("names").contains("keys.map")
        );
        wait_for("the push", PATIENCE, || {
            let there = git(&origin, &["for-each-ref", "--format=%(refname)"])?;
            (there == "refs/heads/test\nrefs/tags/test/good\n").then_some(())
        });
        // A restart commits nothing again; what was missed meanwhile comes in order.
        stage.agent().stop();
        stage.edit("weight = 40 # a", "weight = 50 # a");
        stage.done(&["apply", "--reason", "alone"]);
        assert_eq!(commits(&stage).len(), 4);
        stage.start_agent();
        wait_for("the missed commit", PATIENCE, || {
            (commits(&stage).last().is_some_and(|last| last == "alone")).then_some(())
        });
        assert_eq!(commits(&stage).len(), 5);
        assert_eq!(stage.cli(&["status"]).code, Some(0));
    }
}

#[test]
fn a_revision_on_trial_is_committed_when_it_is_confirmed() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let stage = Stage::running(&binary, |text| text);
    stage.write_file(&with_git(&stage.text(), &stage.path("git")));
    wait_for("the first commits", PATIENCE, || (commits(&stage).len() == 2).then_some(()));
    stage.write_file(&stage.text().replace("weight = 100 # a", "weight = 40 # a"));
    stage.done(&["apply", "--confirm", "1m"]);
    wait_for("the trial", PATIENCE, || (stage.revisions().0 == 3).then_some(()));
    stage.done(&["tag", "1", "first"]);
    wait_for("a round", PATIENCE, || git(&stage.path("git"), &["tag"]).filter(|tags| tags == "first\n"));
    let before = commits(&stage).len();
    if stage.json(&["history"])[0]["outcome"] == "provisional" {
        assert_eq!(before, 2, "nobody has confirmed it");
        stage.done(&["confirm"]);
    }
    wait_for("the commit", PATIENCE, || (commits(&stage).len() == 3).then_some(()));
}

#[test]
fn whatever_git_does_an_apply_goes_on_and_is_committed_later() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let stage = Stage::running(&binary, |text| text);
    let at = stage.path("git");
    stage.write_file(&with_git(&stage.text(), &at));
    wait_for("the first commits", PATIENCE, || (commits(&stage).len() == 2).then_some(()));
    // A remote that takes a connection and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("git://{}/x", listener.local_addr().expect("an address"));
    git(&at, &["remote", "add", "origin", &url]).expect("a remote");
    let began = Instant::now();
    for weight in [90, 80, 70] {
        let before = stage.weight("a");
        stage.edit(&format!("weight = {before} # a"), &format!("weight = {weight} # a"));
        wait_for("the edit", PATIENCE, || (stage.weight("a") == weight).then_some(()));
        wait_for("its revision", PATIENCE, || (stage.json(&["history"])[0]["outcome"] == "confirmed").then_some(()));
    }
    assert!(began.elapsed() < PATIENCE, "no apply waits for a push");
    git(&at, &["remote", "remove", "origin"]).expect("no remote");
    drop(listener);
    wait_for("the commits", 3 * PATIENCE, || (commits(&stage).len() >= 4).then_some(()));

    // A branch that somebody has locked: told, tried again, and done when it is free.
    let lock = at.join("refs/heads/test.lock");
    fs_err::write(&lock, "").expect("a lock");
    let before = stage.weight("a");
    stage.edit(&format!("weight = {before} # a"), "weight = 33 # a");
    wait_for("the edit", PATIENCE, || (stage.weight("a") == 33).then_some(()));
    let told = || {
        let status = stage.json(&["status"]);
        status["problems"].to_string().contains("is behind the history: git cannot commit").then_some(())
    };
    wait_for("the problem", 3 * PATIENCE, told);
    let events = stage.done(&["events", "--kind", "problem", "--json"]);
    assert!(events.contains("problem/agent/git") && events.contains("\"begins\""), "{events}");
    fs_err::remove_file(lock).expect("the lock");
    let last = || git(&at, &["show", "test:hapilot.toml"]).filter(|text| text.contains("weight = 33 # a"));
    wait_for("the commit", 3 * PATIENCE, last);
    wait_for("no problem", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
}

#[test]
fn check_says_that_git_is_missing() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let stage = Stage::with_haproxy(&binary, |text| text);
    stage.write_file(&with_git(&stage.text(), &stage.path("git")));
    assert_eq!(stage.cli(&["check"]).code, Some(0));
    let file = stage.file();
    let mut command = super::support::agent::command(&["-c", file.to_str().expect("a path"), "check"]);
    command.env("PATH", stage.path("nowhere"));
    let refused = super::support::process::run(command, super::support::agent::LIMIT);
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("`history.git`: the program git is missing"), "{}", refused.stderr);
}
