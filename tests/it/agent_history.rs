//! Revisions: what served, how they differ, and the way back.

use super::support::haproxy::binaries;
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, pause, wait_for};
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn a_rollback_is_a_new_revision_that_only_an_edit_ends() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        let diff = stage.done(&["diff", "1", "2"]);
        assert!(diff.contains("-weight = 100 # a") && diff.contains("+weight = 40 # a"), "{diff}");
        // What was refused for a key in it is compared without it.
        let good = stage.text();
        let key = "sk-history-4711abcdef";
        stage.write_file(
            &(swapped(&good, "weight = 40 # a", &format!("key = \"{key}\" # a")) + &format!("\n[broken\n# {key}\n")),
        );
        let (diff, json) = (stage.done(&["diff", "1"]), stage.done(&["diff", "1", "--json"]));
        assert!(diff.contains("+key = \"**") && diff.contains("-weight = 100 # a"), "{diff}");
        assert!(!diff.contains(key) && !json.contains(key), "{diff} {json}");
        stage.write_file(&good);
        let worker = stage.worker();

        let said = stage.done(&["rollback", "--reason", "too light"]);
        assert!(said.contains("revision 3 serves"), "{said}");
        assert_eq!((stage.weight("a"), stage.revisions(), stage.worker()), (100, (3, 3), worker));
        let newest = stage.json(&["history"])[0].to_string();
        assert!(newest.contains("too light"), "{newest}");
        assert!(stage.text().contains("weight = 40 # a"), "the operator's file is never rewritten");
        let told = |stage: &Stage| {
            let status = stage.json(&["status"]);
            assert_eq!(status["config"]["is_serving"], false, "{status}");
            assert!(status["problems"].to_string().contains("rolled back (too light)"), "{status}");
        };
        told(&stage);

        // Neither SIGHUP nor a restart serves the rolled-back file again.
        stage.agent().signal(Signal::SIGHUP);
        assert_eq!(stage.done(&["diff", "1", "3"]).trim(), "no difference");
        stage.agent().kill();
        stage.start_agent();
        stage.wait_for_health();
        told(&stage);
        assert_eq!((stage.weight("a"), stage.revisions()), (100, (3, 3)));

        stage.edit("weight = 40 # a", "weight = 60 # a");
        wait_for("the edit", PATIENCE, || (stage.weight("a") == 60).then_some(()));
        wait_for("its revision", PATIENCE, || (stage.revisions() == (4, 4)).then_some(()));
        assert_eq!(stage.cli(&["status"]).code, Some(0));
        // Nobody says why: an older reason is none of this one.
        stage.done(&["rollback", "1"]);
        stage.agent().kill();
        stage.start_agent();
        stage.wait_for_health();
        let problems = stage.json(&["status"])["problems"].to_string();
        assert!(problems.contains("was rolled back and has not changed"), "{problems}");
    }
}

#[test]
fn an_apply_serves_a_rolled_back_file_after_all() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        stage.done(&["rollback", "1"]);
        assert_eq!(stage.weight("a"), 100);
        stage.done(&["apply"]);
        assert_eq!((stage.weight("a"), stage.revisions()), (40, (4, 4)));
        assert_eq!(stage.cli(&["rollback", "99"]).code, Some(1));
    }
}

#[test]
fn a_hangup_reads_the_file_again_and_unchanged_it_writes_nothing() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::running(&binary, |text| text);
        let writes = stage.json(&["status"])["agent"]["writes"].clone();
        stage.agent().signal(Signal::SIGHUP);
        stage.done(&["apply"]);
        assert_eq!(stage.json(&["status"])["agent"]["writes"], writes);
        assert_eq!(stage.revisions(), (1, 1));
    }
}

#[test]
fn a_rollback_over_a_reload_serves_the_old_structure() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let marker = stage.json(&["status"])["haproxy"]["structure"].clone();
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        // Waits for the gap between two reloads by itself.
        let said = stage.done(&["rollback"]);
        assert!(said.contains("reload"), "{said}");
        assert_eq!(stage.revisions(), (3, 3));
        assert_eq!(stage.json(&["status"])["haproxy"]["structure"], marker);
        assert_eq!(stage.done(&["diff", "--haproxy", "1", "3"]).trim(), "no difference");
    }
}

#[test]
fn a_file_that_never_served_leaves_nothing_to_roll_back() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        stage.edit("weight = 40 # a", "weigth = 60 # a");
        let told = || stage.json(&["status"])["problems"].to_string().contains("weigth").then_some(());
        wait_for("the mistake in status", PATIENCE, told);

        let refused = stage.cli(&["rollback"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        let said = refused.stderr;
        assert!(said.contains("nothing to roll back") && said.contains("weigth"), "{said}");
        assert_eq!((stage.weight("a"), stage.revisions()), (40, (2, 2)), "the good revision serves on");
        wait_for("the mistake in status, still", PATIENCE, told);

        // An older revision by its number is meant; the mistake stays told.
        stage.done(&["rollback", "1"]);
        assert_eq!((stage.weight("a"), stage.revisions()), (100, (3, 3)));
        wait_for("both in status", PATIENCE, || {
            let problems = stage.json(&["status"])["problems"].to_string();
            (problems.contains("weigth") && problems.contains("rolled back")).then_some(())
        });
    }
}

#[test]
fn a_mistake_that_is_gone_is_told_no_more_though_the_file_was_rolled_back() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        stage.done(&["rollback"]);
        let problems = || stage.json(&["status"])["problems"].to_string();
        stage.edit("weight = 40 # a", "weigth = 40 # a");
        wait_for("the mistake", PATIENCE, || problems().contains("weigth").then_some(()));
        stage.edit("weigth = 40 # a", "weight = 40 # a");
        wait_for("the rollback alone", PATIENCE, || {
            let problems = problems();
            (problems.contains("rolled back") && !problems.contains("weigth")).then_some(())
        });
        assert_eq!(stage.weight("a"), 100);
    }
}

#[test]
fn a_saved_file_waits_for_apply_where_the_file_that_serves_says_so() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::running(&binary, |text| format!("{text}\n[apply]\non_save = \"plan\"\n"));
        stage.edit("weight = 100 # a", "weight = 40 # a");
        let waits = |stage: &Stage| {
            let status = stage.json(&["status"]);
            assert_eq!(status["problems"], serde_json::json!([]), "a file that waits is no problem");
            (status["waits"]["changes"] == 1 && status["waits"]["is_reload"] == false).then_some(())
        };
        wait_for("the file that waits, in status", PATIENCE, || waits(&stage));
        let status = stage.done(&["status"]);
        let line = status.lines().find(|line| line.contains("waits")).expect("one line");
        assert!(
            line.contains("was saved at")
                && line.ends_with("1 change, no reload; see hapilot plan, then hapilot apply")
        );
        assert!(status.contains("revision 1") && !status.contains("problem"), "{status}");
        assert!(stage.done(&["plan"]).contains("100 → 40"));
        assert_eq!((stage.weight("a"), stage.revisions()), (100, (1, 1)));
        // Nor does a new agent serve it.
        stage.agent().kill();
        stage.start_agent();
        wait_for("the same after a restart", PATIENCE, || waits(&stage));
        assert_eq!((stage.weight("a"), stage.revisions()), (100, (1, 1)));
        stage.done(&["apply"]);
        assert_eq!((stage.weight("a"), stage.revisions()), (40, (2, 2)));
        wait_for("nothing that waits", PATIENCE, || waits(&stage).is_none().then_some(()));
        // A mistake is one, whether the file waits or not.
        stage.edit("weight = 40 # a", "weigth = 40 # a");
        wait_for("the mistake in status", PATIENCE, || {
            let status = stage.cli(&["status"]);
            (status.code == Some(1) && status.stdout.contains("weigth")).then_some(())
        });
        let back = swapped(&stage.text(), "weigth = 40 # a", "weight = 40 # a");
        stage.write_file(&swapped(&back, "idle = \"10s\"", "idle = \"12s\""));
        wait_for("a reload that waits", PATIENCE, || {
            let status = stage.cli(&["status"]);
            (status.code == Some(0) && status.stdout.contains("1 change, one reload")).then_some(())
        });
        assert_eq!(stage.revisions(), (2, 2));
        // Without an agent that is all that is wrong.
        stage.agent().kill();
        assert_eq!(stage.json(&["status"])["problems"].as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn a_revision_is_shown_and_a_rollback_writes_it_into_the_file() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        let first = stage.text();
        fs_err::rename(stage.file(), stage.path("real.toml")).expect("a rename");
        fs_err::os::unix::fs::symlink("real.toml", stage.file()).expect("a link");
        let second = swapped(&first, "weight = 100 # a", "weight = 40 # a");
        fs_err::write(stage.path("real.toml"), &second).expect("an edit behind the link");
        fs_err::set_permissions(stage.path("real.toml"), PermissionsExt::from_mode(0o604)).expect("a mode");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        assert_eq!(stage.done(&["history", "show", "1"]), first);
        assert_eq!(stage.done(&["history", "show", "2"]), second);
        assert_eq!(stage.cli(&["history", "show", "99"]).code, Some(1));

        stage.done(&["rollback", "--write"]);
        assert_eq!((stage.weight("a"), stage.text()), (100, first.clone()));
        assert!(fs_err::symlink_metadata(stage.file()).expect("the file").is_symlink(), "the link stays");
        let mode = |name: &str| fs_err::metadata(stage.path(name)).expect("a file").permissions().mode() & 0o7777;
        let kept: Vec<_> = stage.beside("hapilot.toml.before-rollback-");
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!((stage.read(&kept[0]), mode(&kept[0]), mode("real.toml")), (second, 0o604, 0o604));
        assert_eq!(stage.json(&["status"])["config"]["is_serving"], true, "a script may ask at once");
        assert_eq!(stage.revisions(), (3, 3), "the written file is no revision of its own");
    }
}

#[test]
fn a_rollback_that_is_repeated_goes_further_back_and_never_forth() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        for (at, weight) in [80, 60, 40].into_iter().enumerate() {
            let before = if at == 0 { 100 } else { stage.weight("a") };
            stage.edit(&format!("weight = {before} # a"), &format!("weight = {weight} # a"));
            wait_for("the edit", PATIENCE, || (stage.weight("a") == weight).then_some(()));
            wait_for("its revision", PATIENCE, || (stage.revisions().0 == at + 2).then_some(()));
        }
        for weight in [60, 80, 100] {
            stage.done(&["rollback"]);
            assert_eq!(stage.weight("a"), weight);
        }
        let refused = stage.cli(&["rollback"]);
        assert!(refused.code == Some(1) && refused.stderr.contains("no earlier revision"), "{}", refused.stderr);
        assert_eq!(stage.weight("a"), 100);
        // Who writes by hand what serves, and then says `--write`, wants no other content.
        stage.edit("weight = 40 # a", "weight = 100 # a");
        wait_for("the file to be what serves", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
        let before = stage.revisions();
        let said = stage.cli(&["rollback", "--write"]);
        assert!(said.code == Some(0) && said.stderr.contains("has what serves already"), "{}", said.stderr);
        assert_eq!((stage.weight("a"), stage.revisions()), (100, before));
    }
}

#[test]
fn a_reason_reaches_the_revision_that_the_agent_was_faster_to_apply() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        let said = stage.done(&["apply", "--reason", "gpu1 is hot"]);
        assert!(said.contains("revision 2"), "{said}");
        let newest = stage.json(&["history"])[0].clone();
        assert_eq!((newest["revision"].as_u64(), newest["reason"].as_str()), (Some(2), Some("gpu1 is hot")));
        // What an operator wrote stays.
        stage.done(&["apply", "--reason", "another"]);
        assert_eq!(stage.json(&["history"])[0]["reason"], "gpu1 is hot");
    }
}

#[test]
fn a_refused_apply_of_a_file_that_waits_takes_no_later_content() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| format!("{text}\n[apply]\non_save = \"plan\"\n"));
        let good = stage.text();
        let keys = good.lines().find(|line| line.starts_with("keys")).expect("a line of keys").to_owned();
        let missing = good.replacen(&keys, &format!("keys = [\"file:{}\"]", stage.path("missing").display()), 1);
        stage.write_file(&missing);
        assert_eq!(stage.cli(&["apply"]).code, Some(1));
        // The mistake is mended, and something else comes with it that nobody has applied.
        stage.write_file(&swapped(&good, "weight = 100 # a", "weight = 7 # a"));
        let began = std::time::Instant::now();
        wait_for("longer than a try takes to come", PATIENCE, || {
            assert_eq!((stage.weight("a"), stage.revisions()), (100, (1, 1)));
            (began.elapsed() > Duration::from_secs(12)).then_some(())
        });
        // A rollback leaves what serves, and not what waits.
        stage.done(&["apply"]);
        assert_eq!(stage.weight("a"), 7);
        stage.write_file(&swapped(&good, "weight = 100 # a", "weight = 8 # a"));
        wait_for("the file that waits", PATIENCE, || (stage.json(&["status"])["waits"]["changes"] == 1).then_some(()));
        let said = stage.done(&["rollback"]);
        assert!(!said.contains("still has the content that was rolled back"), "{said}");
        assert_eq!(stage.weight("a"), 100);
        wait_for("the file that waits on", PATIENCE, || {
            (stage.json(&["status"])["waits"]["changes"] == 1).then_some(())
        });
        assert_eq!(stage.json(&["status"])["problems"], serde_json::json!([]));
    }
}

#[test]
fn what_only_a_restart_brings_into_force_is_told() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        let state = format!("{}", stage.path("state").display());
        stage.edit(&format!("state = \"{state}\""), &format!("state = \"{state}2\""));
        let told = format!("[node] state = \"{state}2\" is not in force: this agent goes on with {state} until");
        wait_for("the line in status", PATIENCE, || stage.done(&["status"]).contains(&told).then_some(()));
        assert!(stage.agent_said(&told));
        stage.edit(&format!("state = \"{state}2\""), &format!("state = \"{state}\""));
        wait_for("no line in status", PATIENCE, || (!stage.done(&["status"]).contains("not in force")).then_some(()));
    }
}

#[test]
fn a_tag_names_a_revision_for_ever() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.done(&["tag", "1", "before-the-sale"]);
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        let taken = stage.cli(&["tag", "2", "before-the-sale"]);
        assert!(taken.code == Some(1) && taken.stderr.contains("revision 1 is called"), "{}", taken.stderr);
        assert!(stage.done(&["history"]).contains("before-the-sale"));
        assert_eq!(stage.json(&["history"])[1]["tags"][0], "before-the-sale");
        let diff = stage.done(&["diff", "before-the-sale", "2"]);
        assert!(diff.contains("+weight = 40 # a"), "{diff}");
        stage.done(&["rollback", "before-the-sale"]);
        assert_eq!((stage.weight("a"), stage.revisions()), (100, (3, 3)));
        let outcome = stage.json(&["history"])[1]["outcome"].to_string();
        assert!(outcome.contains("rolled-back"), "{outcome}");
        let unknown = stage.cli(&["rollback", "never"]);
        assert!(
            unknown.code == Some(1) && unknown.stderr.contains("no revision is called never"),
            "{}",
            unknown.stderr
        );
    }
}

#[test]
fn a_refused_reload_is_kept_in_the_history_once() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::running(&binary, |text| text);
        // Passes `haproxy -c` and every check of ours, and cannot be bound: another user's socket in a place of its own.
        let taken = stage.path("taken");
        fs_err::create_dir(&taken).expect("a directory");
        let bind = format!("raw = [\"bind unix@{}/none/x.sock\"]\n", taken.display());
        stage.edit("backend = \"chat\"\nroutes", &format!("backend = \"chat\"\n{bind}routes"));
        wait_for("the failure in the history", PATIENCE, || {
            let newest = stage.json(&["history"])[0].clone();
            newest["outcome"].as_str().is_some_and(|outcome| outcome.starts_with("failed: ")).then_some(())
        });
        assert_eq!(stage.revisions(), (2, 1));
        let refused = stage.cli(&["apply"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        assert_eq!(stage.revisions(), (2, 1), "the same failure is no news");
        assert!(stage.agent().stop().is_some());
    }
}

#[test]
fn an_edit_that_is_saved_while_a_rollback_is_under_way_is_served() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let first = stage.text();
        for (weight, delay) in (50..).zip([0, 2, 5, 10, 20, 40]) {
            // Something to go back from.
            let edited = |weight: u16| swapped(&first, "weight = 100 # a", &format!("weight = {weight} # a"));
            stage.write_file(&edited(weight));
            wait_for("the edit", PATIENCE, || (stage.weight("a") == weight).then_some(()));
            std::thread::scope(|scope| {
                let back = scope.spawn(|| stage.cli(&["rollback"]));
                pause(Duration::from_millis(delay));
                stage.write_file(&edited(weight + 100));
                // It may say that the file is about to be served: then there is nothing to go back from.
                let back = back.join().expect("an answer");
                assert!(back.code == Some(0) || back.stderr.contains("about to be served"), "{}", back.stderr);
            });
            wait_for("what was saved last", PATIENCE, || {
                let serves = stage.weight("a") == weight + 100 && stage.cli(&["status"]).code == Some(0);
                // On a busy machine the command may come when the edit serves already, and take that back.
                let is_taken_back = || {
                    let content = |revision: u64| stage.cli(&["history", "show", &revision.to_string()]).stdout;
                    let (_, serving) = stage.revisions();
                    stage.weight("a") == weight
                        && content(serving - 1).contains(&format!("weight = {} # a", weight + 100))
                };
                (serves || is_taken_back()).then_some(())
            });
        }
    }
}
