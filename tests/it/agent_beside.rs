//! What goes on while an apply is under way and does not end: the master of HAProxy hangs, so that nobody knows which
//! workers there are and no reload comes back.

use super::support::haproxy::binaries;
use super::support::process::Stopped;
use super::support::stage::Stage;
use super::support::{PATIENCE, wait_for};
use hapilot::mock::{Fault, FaultKind};
use std::time::{Duration, Instant};

/// What the command line may take meanwhile, its own start included. An idle machine needs 20 ms.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn while_an_apply_hangs_health_and_operators_words_reach_haproxy_and_nothing_of_it_is_undone() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let worker = stage.worker();
        let stopped = Stopped::new(stage.private().master_pid());
        let since = stage.edit("idle = \"10s\"", "idle = \"12s\"");
        let timed = |words: &[&str]| {
            let began = Instant::now();
            stage.done(words);
            assert!(began.elapsed() < SOON, "{}: {words:?} took {:?}", binary.version, began.elapsed());
        };
        let mut slowest = Duration::ZERO;
        for turn in 0..2 {
            let (fault, base) = (Fault::new(FaultKind::Refuse), stage.weight("b"));
            assert_eq!(base, 100, "turn {turn}");
            let broken = Instant::now();
            stage.break_mock("b", vec![fault]);
            slowest = slowest.max(stage.effect("health to reach HAProxy", broken, |stage| stage.weight("b") == 0));
            timed(&["server", "drain", "chat/c"]);
            assert!(!stage.is_ready("c"), "turn {turn}");
            timed(&["server", "ready", "chat/c"]);
            assert!(stage.is_ready("c"), "turn {turn}");
            timed(&["server", "weight", "chat/c", &format!("{}", 40 + turn)]);
            assert_eq!(stage.weight("c"), 40 + turn);
            let began = Instant::now();
            // It has a problem to tell by now.
            assert_eq!(stage.json(&["status"])["node"], "test");
            assert!(began.elapsed() < SOON, "{}: {:?}", binary.version, began.elapsed());
            stage.mend_mock("b");
            stage.effect("health to come back", since, |stage| stage.weight("b") == 100);
        }
        println!("{}: out after {slowest:?} at the most", binary.version);
        timed(&["server", "drain", "chat/c"]);
        stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
        stage.effect("health to reach HAProxy", since, |stage| stage.weight("b") == 0);
        assert_eq!(stage.revisions().0, 1, "{}: nothing could be reloaded", binary.version);
        drop(stopped);
        // The worker that comes has all of it from the beginning, or as soon as it is proven.
        wait_for("the edit", PATIENCE, || (stage.revisions().0 == 2).then_some(()));
        assert_ne!(stage.worker(), worker);
        let has_all = |stage: &Stage| stage.weight("b") == 0 && !stage.is_ready("c") && stage.weight("c") == 41;
        stage.effect("what was said meanwhile", since, has_all);
        let quiet = |stage: &Stage| {
            let status = stage.json(&["status"]);
            (status["problems"] == serde_json::json!([])).then_some(status)
        };
        let status = wait_for("a status without problems", PATIENCE, || quiet(&stage));
        assert_eq!(status["corrections"], serde_json::json!([]), "nothing of ours is drift");
        assert!(has_all(&stage));
    }
}
