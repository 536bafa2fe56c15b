//! The command line beside the running agent: an operator's word on a server, and everything that only looks.

use super::support::PATIENCE;
use super::support::agent;
use super::support::haproxy::binaries;
use super::support::stage::{KEY, Stage, swapped};
use hapilot::mock::Fault;

#[test]
fn a_command_about_another_file_or_node_is_refused_and_its_plan_is_its_own() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        let other = stage.path("copy.toml");
        fs_err::write(&other, swapped(&stage.text(), "weight = 100 # a", "weight = 40 # a")).expect("a copy");
        let link = stage.path("link.toml");
        fs_err::os::unix::fs::symlink(stage.file(), &link).expect("a link");
        let about = |file: &std::path::Path, arguments: &[&str]| {
            agent::run(&[&["-c", file.to_str().expect("ASCII")], arguments].concat())
        };
        let commands: [&[&str]; 10] = [
            &["apply"],
            &["rollback"],
            &["rollback", "--write"],
            &["confirm"],
            &["status"],
            &["explain", "chat/a"],
            &["key", "list"],
            &["server", "drain", "chat/a"],
            &["tag", "1", "good"],
            &["apply", "--force"],
        ];
        for arguments in commands {
            let refused = about(&other, arguments);
            assert_eq!(refused.code, Some(2), "{arguments:?}: {}{}", refused.stdout, refused.stderr);
            let file = stage.file();
            assert!(refused.stderr.contains(file.to_str().expect("ASCII")), "{arguments:?}: {}", refused.stderr);
        }
        assert_eq!(stage.cli(&["plan", "--node", "elsewhere"]).code, Some(2));
        let planned = about(&other, &["plan"]);
        assert_eq!(planned.code, Some(0), "{}", planned.stderr);
        assert!(planned.stdout.contains("40") && planned.stdout.contains("does not serve"), "{}", planned.stdout);
        fs_err::write(&other, swapped(&stage.text(), "weight = 100 # a", "weigth = 40 # a")).expect("a mistake");
        assert_eq!(about(&other, &["plan"]).code, Some(2));
        assert_eq!((stage.weight("a"), stage.revisions()), (100, (1, 1)), "nothing was changed");

        // The same file by another way is no other file.
        for arguments in [&["status"][..], &["plan"], &["apply"]] {
            let same = about(&link, arguments);
            assert_eq!(same.code, Some(0), "{arguments:?}: {}{}", same.stdout, same.stderr);
        }
    }
}

#[test]
fn what_only_looks_says_what_it_sees_and_no_key() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        let worker = stage.worker();
        let mut said = vec![];
        let plan = stage.done(&["plan"]);
        assert!(plan.contains("nothing to do"), "{plan}");
        // The agent must not serve the edit before the plan is made.
        stage.agent().signal(nix::sys::signal::Signal::SIGKILL);
        stage.agent().wait(PATIENCE);
        stage.edit("weight = 100 # a", "weight = 9 # a");
        let plan = stage.done(&["plan"]);
        assert!(plan.contains("no reload: 1 runtime command") && plan.contains("weight chat/a 100 → 9"), "{plan}");
        assert!(plan.lines().any(|line| line.starts_with('+') && line.contains("weight 9")), "{plan}");
        said.push(plan);
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        let plan = stage.done(&["plan"]);
        assert!(plan.contains("a reload, because") && plan.contains("backend chat"), "{plan}");
        said.push(plan);
        let json = stage.json(&["plan"]);
        assert_eq!(json["how"], "reload", "{json}");
        said.push(json.to_string());
        stage.start_agent();

        let rendered = stage.done(&["render"]);
        assert_eq!(rendered, stage.read("haproxy.cfg"));
        said.extend([rendered, stage.json(&["render"]).to_string()]);
        said.extend([stage.json(&["status"]).to_string(), stage.done(&["status"])]);
        said.extend([stage.json(&["history"]).to_string(), stage.done(&["history"])]);
        said.extend([stage.done(&["diff", "1", "2"]), stage.done(&["diff", "--haproxy", "1", "2"])]);
        said.push(stage.done(&["check"]));
        said.push(stage.agent().stderr());
        for text in &said {
            assert!(!text.contains(KEY), "a key in:\n{text}");
        }
        assert!(!stage.read("haproxy.cfg").contains(KEY));
        assert!(stage.read("maps/keys.map").contains(KEY), "the one place where it belongs");
        assert_ne!(stage.worker(), worker);
        assert_no_key_below(&stage, "state");
    }
}

fn assert_no_key_below(stage: &Stage, name: &str) {
    let mut pending = vec![stage.path(name)];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs_err::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else {
            let text = String::from_utf8_lossy(&fs_err::read(&path).expect("a file")).into_owned();
            assert!(!text.contains(KEY), "a key in {}", path.display());
        }
    }
}

#[test]
fn probes_on_demand_report_like_a_load_tool() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::new(&binary);
        let report = stage.json(&["probe", "chat", "-n", "5"]);
        let rows = report.as_array().expect("rows");
        assert_eq!(rows.len(), 3, "{report}");
        let text = rows[0].to_string();
        for field in ["\"probes\":5", "success_rate", "p50", "p95", "p99", "mean", "outcomes"] {
            assert!(text.contains(field), "{field} in {text}");
        }
        stage.break_mock("b", vec![Fault::status(500)]);
        let failed = stage.cli(&["probe", "chat/b", "-n", "2"]);
        assert_eq!(failed.code, Some(1), "{}", failed.stdout);
        assert!(failed.stdout.contains("2 × server_error: HTTP 500"), "{}", failed.stdout);
        assert_eq!(stage.cli(&["probe", "chat/nobody"]).code, Some(2));
    }
}

#[test]
fn schema_and_completions_need_no_file() {
    let schema = agent::run(&["-c", "/nowhere", "schema"]);
    assert_eq!(schema.code, Some(0), "{}", schema.stderr);
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).expect("JSON");
    assert!(schema["properties"]["backend"].is_object(), "{schema}");
    let script = agent::run(&["-c", "/nowhere", "completions", "bash"]);
    assert!(script.code == Some(0) && script.stdout.contains("complete -F"), "{}", script.stderr);
    assert_eq!(agent::run(&["-c", "/nowhere", "check"]).code, Some(2));
    let json = agent::run(&["-c", "/nowhere", "check", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON, whatever is wrong");
    assert_eq!((&said["ok"], json.code), (&false.into(), Some(2)), "{said}");
    assert!(said["refused"].as_str().is_some_and(|text| text.contains("/nowhere")), "{said}");
    assert_eq!(agent::run(&["no-such-command"]).code, Some(2));
}

#[test]
fn explain_names_every_factor_and_what_haproxy_says() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.done(&["server", "weight", "chat/b", "30", "--for", "10m"]);
        let said = stage.done(&["explain", "chat/b"]);
        for words in ["weight    30 of 100", "override", "weight 30", "healthy", "models ok", "HAProxy"] {
            assert!(said.contains(words), "{words} in {said}");
        }
        let json = stage.json(&["explain", "chat/a"]);
        assert_eq!((&json["server"]["name"], &json["backend"]), (&"a".into(), &"chat".into()));
        assert!(json["server"]["factors"].as_array().is_some_and(|factors| !factors.is_empty()), "{json}");
        let unknown = stage.cli(&["explain", "chat/z"]);
        assert!(unknown.code == Some(1) && unknown.stderr.contains("chat/a"), "{}", unknown.stderr);
    }
}
