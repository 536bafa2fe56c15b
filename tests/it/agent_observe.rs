//! An agent that only observes changes nothing, and tells what it would.

use super::support::haproxy::binaries;
use super::support::stage::Stage;
use super::support::{PATIENCE, wait_for};
use std::collections::BTreeMap;

/// Every file below the stage's directory but the operator's, with its content.
fn everything(stage: &Stage) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut pending = vec![stage.path("")];
    let mut found = BTreeMap::new();
    while let Some(path) = pending.pop() {
        let kind = fs_err::symlink_metadata(&path).expect("a file of the node").file_type();
        if kind.is_dir() {
            pending.extend(fs_err::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else if kind.is_file() && path.file_name().is_some_and(|name| name != "hapilot.toml") {
            found.insert(path.clone(), fs_err::read(&path).expect("its content"));
        }
    }
    found
}

#[test]
fn an_observer_changes_nothing_and_tells_what_it_would() {
    for binary in binaries() {
        let mut stage = Stage::with_haproxy(&binary, |text| text);
        let (before, worker) = (everything(&stage), stage.worker());
        stage.start_observer();
        let observed = |stage: &Stage| stage.json(&["status"])["would"].clone();
        wait_for("nothing to do", PATIENCE, || (observed(&stage) == serde_json::json!([])).then_some(()));
        stage.wait_for_health();
        stage.edit("weight = 100 # a", "weight = 40 # a");
        let would = wait_for("what it would do", PATIENCE, || {
            Some(observed(&stage).to_string()).filter(|would| would.contains("weight chat/a"))
        });
        assert!(would.contains("100 → 40") && would.contains("haproxy.cfg"), "{would}");
        assert!(stage.agent_said("observe only, would change"));
        assert!(stage.cli(&["status"]).stdout.contains("observes only"));
        assert!(stage.done(&["plan"]).contains("weight chat/a 100 → 40"));
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        wait_for("the reload", PATIENCE, || observed(&stage).to_string().contains("reload: ").then_some(()));
        for change in [&["apply"][..], &["rollback", "1"], &["server", "drain", "chat/a"], &["tag", "1", "x"]] {
            let refused = stage.cli(change);
            assert!(
                refused.code == Some(1) && refused.stderr.contains("only observes"),
                "{change:?} {}",
                refused.stderr
            );
        }
        assert_eq!((stage.weight("a"), stage.is_ready("a"), stage.worker()), (100, true, worker));
        assert_eq!(stage.agent().stop(), Some(0));
        assert!(everything(&stage) == before, "a file changed");
    }
}
