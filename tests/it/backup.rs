//! `backup` and `restore`: an empty node serves what another one served; whatever is wrong changes nothing.

use super::support::haproxy::binaries;
use super::support::stage::{KEY, Stage, private, swapped};
use super::support::{PATIENCE, agent, wait_for};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Everything below a directory but what belongs to a running HAProxy.
fn files(at: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![];
    let mut left = vec![at.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs_err::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => left.push(path),
                false => all.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default())),
            }
        }
    }
    all.sort();
    all
}

fn with_clients(text: String, stage: &str) -> String {
    format!("clients = \"{stage}/clients.toml\"\n{text}\n[plan.free]\nrequests = \"60/1m\"\n")
}

#[test]
fn an_empty_node_serves_what_the_backup_served() {
    for binary in binaries() {
        let mut stage = Stage::new(&binary);
        let dir = stage.path("").display().to_string();
        let dir = dir.trim_end_matches('/').to_owned();
        fs_err::write(stage.path("clients.toml"), "").expect("the clients' file");
        stage.write_file(&with_clients(stage.text(), &dir));
        stage.done(&["apply"]);
        stage.start_haproxy();
        stage.start_agent();
        stage.wait_for_health();
        stage.done(&["client", "add", "acme", "--plan", "free"]);
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        stage.done(&["tag", "1", "before-the-sale"]);
        stage.done(&["rollback", "1", "--reason", "too light"]);
        stage.done(&["server", "drain", "chat/b"]);
        let history = stage.json(&["history"]);
        let clients = stage.read("clients.toml");
        let text = stage.text();

        // Beside the running agent.
        let target = stage.path("a.tar.zst").display().to_string();
        let made = stage.json(&["backup", &target]);
        assert_eq!((made["serving"].as_u64(), made["revisions"].as_u64()), (Some(3), Some(3)), "{made}");
        assert_eq!(made["left_out"], serde_json::json!([]), "{made}");
        assert_eq!(made["files"].as_array().map(Vec::len), Some(2), "{made}");
        let tar = zstd::decode_all(fs_err::File::open(&target).expect("the backup")).expect("zstd");
        assert!(!String::from_utf8_lossy(&tar).contains(KEY), "a key is in the backup");

        let refused = stage.cli(&["restore", &target, "--force"]);
        assert!(refused.code == Some(1) && refused.stderr.contains("an agent runs on this node"), "{}", refused.stderr);
        stage.agent().stop();
        let refused = stage.cli(&["restore", &target]);
        assert!(refused.code == Some(1) && refused.stderr.contains("--force"), "{}", refused.stderr);
        assert_eq!(stage.text(), text);

        // The node is gone, with all that it had.
        stage.end_haproxy();
        for gone in ["state", "maps", "crt-lists"] {
            let _ = fs_err::remove_dir_all(stage.path(gone));
        }
        for gone in ["hapilot.toml", "clients.toml", "haproxy.cfg", "key"] {
            fs_err::remove_file(stage.path(gone)).expect("a file of the node");
        }
        let restored = stage.json(&["restore", &target]);
        assert_eq!((restored["serving"].as_u64(), &restored["kept"]), (Some(3), &serde_json::json!([])), "{restored}");
        let lacking = restored["lacking"].as_array().expect("a list");
        assert_eq!(lacking.len(), 1, "{restored}");
        assert!(lacking[0]["what"].as_str().is_some_and(|what| what == format!("file:{dir}/key")), "{restored}");
        assert_eq!((stage.text(), stage.read("clients.toml")), (text, clients));
        fs_err::write(stage.path("key"), KEY).expect("the key");
        private(&stage.path("key"));

        stage.start_agent();
        wait_for("haproxy.cfg", PATIENCE, || stage.path("haproxy.cfg").exists().then_some(()));
        stage.start_haproxy();
        stage.wait_for_health();
        assert_eq!(stage.weight("a"), 100, "the rollback serves, not the file");
        wait_for("the operator's word", PATIENCE, || (!stage.is_ready("b")).then_some(()));
        let after = stage.json(&["history"]);
        let without_current = |history: &Value| {
            let all = history.as_array().expect("a list").iter();
            all.map(|one| (one["revision"].clone(), one["reason"].clone(), one["tags"].clone(), one["actor"].clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(without_current(&after), without_current(&history));
        let listed = stage.done(&["client", "list"]);
        assert!(listed.contains("acme"), "{listed}");
    }
}

#[test]
fn what_is_there_is_kept_beside_and_a_damaged_archive_changes_nothing() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let mut stage = Stage::with_haproxy(&binary, |text| text);
    let target = stage.path("a.tar.zst").display().to_string();
    stage.done(&["backup", &target]);
    stage.write_file(&swapped(&stage.text(), "weight = 100 # a", "weight = 40 # a"));
    stage.done(&["apply"]);
    assert_eq!(stage.revisions(), (2, 2));
    // The file of the night before is replaced; the operator's own, said by mistake, is not.
    for _ in 0..2 {
        stage.done(&["backup", stage.path("b.tar.zst").to_str().expect("a path")]);
    }
    let text = stage.text();
    let refused = stage.cli(&["backup", stage.file().to_str().expect("a path")]);
    assert!(refused.code == Some(1) && refused.stderr.contains("is no backup"), "{}", refused.stderr);
    assert_eq!(stage.text(), text);
    let good = fs_err::read(&target).expect("the backup");
    let unpacked = zstd::decode_all(&good[..]).expect("what is in it");
    let bad = stage.path("bad.tar.zst");
    let mut harmless = 0;
    for at in (0..good.len()).step_by(good.len() / 40 + 1) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        for bytes in [&bytes[..], &good[..at]] {
            // One and the same text can be packed in many ways: nothing is lost where a flipped bit comes to the same.
            if zstd::decode_all(bytes).is_ok_and(|found| found == unpacked) {
                harmless += 1;
                continue;
            }
            fs_err::write(&bad, bytes).expect("a damaged backup");
            let before = files(&stage.path("state"));
            let refused = stage.cli(&["restore", "--force", bad.to_str().expect("a path")]);
            assert_eq!(refused.code, Some(1), "{at}: {}", refused.stdout);
            assert!(refused.stderr.contains("cannot be restored"), "{at}: {}", refused.stderr);
            assert!(before == files(&stage.path("state")), "{at}");
        }
    }
    assert!(harmless < 4, "{harmless} of 41 flipped bytes come to the same");
    let text = stage.text();
    let restored = stage.json(&["restore", "--force", &target]);
    let kept: Vec<&str> = restored["kept"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(kept.len(), 2, "{restored}");
    assert_eq!(fs_err::read_to_string(kept[0]).expect("the file before"), text);
    assert!(Path::new(kept[1]).join("revisions/000002/manifest.json").exists(), "{restored}");
    assert!(stage.text().contains("weight = 100 # a"));
    assert_eq!(stage.revisions(), (1, 1));
    // The same once more has nothing to do but to say so.
    let refused = stage.cli(&["restore", &target]);
    assert!(refused.code == Some(1) && refused.stderr.contains("not empty"), "{}", refused.stderr);
    // HAProxy has run all the time, and follows.
    stage.start_agent();
    wait_for("the weight of the backup", PATIENCE, || (stage.weight("a") == 100).then_some(()));
    assert_eq!(stage.revisions(), (1, 1));
}

#[test]
fn a_restore_that_is_killed_anywhere_leaves_nothing_or_the_whole() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let stage = Stage::with_haproxy(&binary, |text| text);
    let target = stage.path("a.tar.zst").display().to_string();
    stage.done(&["backup", &target]);
    stage.write_file(&swapped(&stage.text(), "weight = 100 # a", "weight = 40 # a"));
    stage.done(&["apply"]);
    let (old, saved) = (stage.text(), stage.path("saved"));
    let copy = |from: &Path, to: &Path| {
        let _ = fs_err::remove_dir_all(to);
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
        assert!(done.success());
    };
    copy(&stage.path("state"), &saved);
    let log = stage.path("points");
    let file = stage.file();
    let file = file.to_str().expect("a path");
    let run = |faults: String| {
        let mut command = agent::command(&["-c", file, "restore", "--force", &target]);
        command.env("HAPILOT_FAULTS", faults);
        super::support::process::run(command, agent::LIMIT)
    };
    assert_eq!(run(format!("log={}", log.display())).code, Some(0));
    let points = fs_err::read_to_string(&log).expect("the points").lines().count();
    let (mut nothing, mut whole) = (0, 0);
    // The last points are the ones at which something happens.
    let sample: Vec<usize> = (1..=points).filter(|at| at % 9 == 0 || points - at < 25).collect();
    for at in sample {
        copy(&saved, &stage.path("state"));
        stage.write_file(&old);
        assert_ne!(run(format!("#{at}=abort")).code, Some(0), "point {at}");
        // Whoever comes next finds it whole: here a command that works alone.
        stage.done(&["apply", "--force"]);
        match stage.text() == old {
            true => {
                nothing += 1;
                assert_eq!(stage.revisions(), (2, 2), "point {at}");
            }
            false => {
                whole += 1;
                assert_eq!(stage.revisions(), (1, 1), "point {at}");
                assert!(stage.text().contains("weight = 100 # a"), "point {at}");
            }
        }
    }
    println!("{points} points: nothing {nothing} times, the whole {whole} times");
    assert!(nothing > 5 && whole > 5, "{nothing} {whole}");
}

#[test]
fn a_backup_goes_through_a_pipe_and_names_what_it_leaves_out() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let stage = Stage::with_haproxy(&binary, |text| text);
    let target = stage.path("piped.tar.zst");
    let file = stage.file();
    let mut command = agent::command(&["-c", file.to_str().expect("a path"), "backup", "-"]);
    command.stdout(fs_err::File::create(&target).expect("a file").into_parts().0);
    let status = command.status().expect("the backup");
    assert!(status.success());
    // Put on another node: what its own is stays its own.
    let elsewhere = stage.path("elsewhere");
    let text = stage.text();
    stage.write_file(&swapped(&text, "name  = \"test\"\n", ""));
    let refused = stage.cli(&["backup", "-", "--json"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let restore = || {
        let file = elsewhere.join("hapilot.toml");
        let (file, target) = (file.to_str().expect("a path"), target.to_str().expect("a path"));
        agent::run(&["-c", file, "--node", "lb9", "--json", "restore", target])
    };
    let restored = restore();
    // The state directory of the backup is the one that is there.
    assert!(restored.code == Some(1) && restored.stderr.contains("a history in"), "{}", restored.stderr);
    fs_err::remove_dir_all(stage.path("state")).expect("the state");
    let restored = restore();
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
    let restored: Value = serde_json::from_str(&restored.stdout).expect("JSON");
    assert!(restored["notes"].to_string().contains("--node test"), "{restored}");
    assert_eq!(fs_err::read_to_string(elsewhere.join("hapilot.toml")).expect("the file"), text);
    for (archive, told) in
        [("hapilot.toml", "no backup of hapilot"), ("none", "cannot be read"), ("state", "is no file")]
    {
        let refused = stage.cli(&["restore", "--force", stage.path(archive).to_str().expect("a path")]);
        assert!(refused.code == Some(1) && refused.stderr.contains(told), "{}", refused.stderr);
    }
}

#[test]
fn what_nobody_had_confirmed_is_not_what_comes_back() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let mut stage = Stage::running(&binary, |text| format!("{text}\n[apply]\non_save = \"plan\"\n"));
    stage.edit("weight = 100 # a", "weight = 40 # a");
    stage.done(&["apply", "--confirm", "1s", "--reason", "a trial"]);
    let target = stage.path("a.tar.zst").display().to_string();
    let made = stage.json(&["backup", &target]);
    stage.agent().stop();
    stage.end_haproxy();
    fs_err::remove_dir_all(stage.path("state")).expect("the state");
    fs_err::remove_file(stage.path("haproxy.cfg")).expect("haproxy.cfg");
    let restored = stage.json(&["restore", &target]);
    if made["serving"] == 2 {
        assert!(restored["notes"].to_string().contains("revision 1 comes back"), "{restored}");
    }
    stage.start_agent();
    wait_for("haproxy.cfg", PATIENCE, || stage.path("haproxy.cfg").exists().then_some(()));
    stage.start_haproxy();
    stage.wait_for_health();
    wait_for("the last confirmed one", PATIENCE, || (stage.weight("a") == 100).then_some(()));
    assert!(stage.text().contains("weight = 40 # a"), "the file is as it was");
}
