//! What the command line says where no agent runs, and what it does about a file that was never served: nothing is made
//! up, and what `apply` refuses is said before.

use super::support::haproxy::{Binary, binaries};
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, wait_for};
use hapilot::mock::{Fault, FaultKind};

fn binary() -> Binary {
    binaries().into_iter().next_back().expect("a HAProxy")
}

#[test]
fn without_an_agent_nothing_is_said_that_only_an_agent_could_know() {
    let mut stage = Stage::running(&binary(), |text| text);
    stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
    wait_for("b to be out", PATIENCE, || (stage.weight("b") == 0).then_some(()));
    stage.agent().stop();
    let start = format!("hapilot -c {} run", stage.file().display());

    let status = stage.cli(&["status"]);
    assert_eq!(status.code, Some(1), "{}", status.stdout);
    assert!(status.stdout.contains("health is not known") && status.stdout.contains(&start), "{}", status.stdout);
    assert!(!status.stdout.contains("no probe could judge"), "nobody probes: {}", status.stdout);
    let line = |name: &str| {
        let found = status.stdout.lines().skip_while(|line| *line != "chat  openai, roundrobin");
        let mut found = found.filter(|line| line.starts_with(&format!("  {name} ")));
        found.next().unwrap_or_else(|| panic!("no {name} in:\n{}", status.stdout)).to_owned()
    };
    let words = |name: &str| line(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words("a")[..4], ["a", "unknown", "-", "100/100"], "{}", status.stdout);
    assert_eq!(words("b")[..4], ["b", "unknown", "-", "0/100"], "as HAProxy has it: {}", status.stdout);

    let json = stage.server_status("b");
    assert_eq!((json["health"].as_str(), json["weight"].as_u64()), (Some("unknown"), Some(0)), "{json}");
    let none = serde_json::json!([]);
    assert_eq!((&json["factors"], &json["probes"]), (&none, &none), "{json}");
    assert_eq!((json["keys"][0]["state"].as_str(), &json["keys"][0]["is_active"]), (Some("unknown"), &false.into()));

    let explained = stage.cli(&["explain", "chat/b"]).stdout;
    assert!(explained.contains("0 in HAProxy, 100 in the file") && explained.contains("not known"), "{explained}");
    assert!(!explained.contains("in_service") && !explained.contains("base"), "{explained}");
    assert!(explained.contains(&start) && explained.contains("probe --last chat/b"), "{explained}");
    assert!(stage.cli(&["key", "list"]).stdout.contains(&start));

    stage.end_haproxy();
    let explained = stage.cli(&["explain", "chat/b"]).stdout;
    assert!(explained.contains("not known; 100 in the file"), "{explained}");
    let status = stage.cli(&["status"]).stdout;
    assert!(status.contains("  -/100  ") && status.contains("HAProxy does not run"), "{status}");
}

#[test]
fn check_says_what_apply_refuses_without_force() {
    let stage = Stage::with_haproxy(&binary(), |text| text);
    let check = stage.cli(&["check"]);
    assert!(check.code == Some(0) && !check.stderr.contains("--force"), "{}", check.stderr);
    let drained = ["b", "c"].iter().fold(stage.text(), |text, name| {
        swapped(&text, &format!("state = \"ready\" # {name}"), &format!("state = \"drain\" # {name}"))
    });
    stage.write_file(&drained);
    let refused = stage.cli(&["apply"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("apply --force"), "{}", refused.stderr);
    let check = stage.cli(&["check"]);
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    let told = "warning: `apply` will refuse this: it takes 2 of the 3 servers of backend chat out of service";
    assert!(check.stderr.contains(told) && check.stderr.contains("apply --force"), "{}", check.stderr);
    assert!(stage.json(&["check"])["warnings"].to_string().contains("apply --force"));
}

#[test]
fn rollback_write_puts_what_serves_into_a_file_with_mistakes_and_keeps_that_beside() {
    let mut stage = Stage::with_haproxy(&binary(), |text| text);
    let good = stage.text();
    for (turn, with_agent) in [false, true].into_iter().enumerate() {
        if with_agent {
            stage.start_agent();
        }
        let broken = swapped(&good, "maxconn       = 1000", "maxconn = = 1");
        stage.write_file(&broken);
        if with_agent {
            stage.agent().wait_for_output("the change is refused");
        }
        let plain = stage.cli(&["rollback"]);
        assert!(plain.code == Some(1) && plain.stderr.contains("rollback --write"), "{}", plain.stderr);
        assert_eq!(stage.text(), broken);
        let written = stage.cli(&["rollback", "--write"]);
        assert_eq!(written.code, Some(0), "agent {with_agent}: {}", written.stderr);
        assert!(
            written.stderr.contains("does not serve as it stands") && written.stderr.contains("is kept"),
            "{}",
            written.stderr
        );
        assert_eq!(stage.text(), good);
        let kept = stage.beside("hapilot.toml.before-rollback-");
        assert_eq!(kept.len(), turn + 1, "{kept:?}");
        assert!(kept.iter().all(|kept| stage.read(kept) == broken));
        assert_eq!(stage.revisions().0, 1, "nothing was rolled back");
    }
    wait_for("a status without problems", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
}

#[test]
fn rollback_write_goes_no_revision_too_far() {
    let stage = Stage::running(&binary(), |text| text);
    let good = stage.text();
    // What a guard refuses was never served.
    let without = swapped(&good, "[backend.chat.server.b]", "[backend.other.server.b]");
    let without = swapped(&without, "[backend.chat.server.c]", "[backend.other.server.c]");
    stage.write_file(&without);
    wait_for("the refusal", PATIENCE, || {
        stage.json(&["status"])["problems"].to_string().contains("removes 2 of the 3").then_some(())
    });
    stage.done(&["rollback", "--write"]);
    assert_eq!((stage.text(), stage.revisions()), (good.clone(), (1, 1)));
    // Where saved files wait, the first word goes back, and the second one is about the file.
    let plan = format!("{good}\n[apply]\non_save = \"plan\"\n");
    let weighs = |weight: u16| swapped(&plan, "weight = 100 # a", &format!("weight = {weight} # a"));
    stage.write_file(&plan);
    wait_for("the new rule", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
    for weight in [71, 72] {
        stage.write_file(&weighs(weight));
        stage.done(&["apply"]);
    }
    stage.write_file(&weighs(99));
    let said = stage.cli(&["rollback"]);
    assert!(said.code == Some(0) && said.stderr.contains("rollback --write"), "{}", said.stderr);
    assert_eq!((stage.weight("a"), stage.revisions()), (71, (5, 5)));
    stage.done(&["rollback", "--write"]);
    assert_eq!((stage.weight("a"), stage.revisions(), stage.text()), (71, (5, 5), weighs(71)));
}
