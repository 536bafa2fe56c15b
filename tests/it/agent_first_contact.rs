//! The first apply on a node: nothing there, a haproxy.cfg of somebody else, one that was edited by hand.

use super::support::haproxy::binaries;
use super::support::http::get;
use super::support::stage::Stage;
use super::support::{PATIENCE, pause, wait_for, write};
use std::time::Duration;

const FOREIGN: &str = "global\n  maxconn 10\n";

#[test]
fn a_node_without_haproxy_gets_its_files_and_the_command_to_start() {
    for binary in binaries() {
        let mut stage = Stage::new(&binary);
        let said = stage.done(&["apply"]);
        assert!(said.contains("HAProxy does not run yet"), "{said}");
        let command = format!("-S {}", stage.path("master.sock").display());
        assert!(said.contains(&command) && said.contains("start it"), "{said}");
        let check = stage.check_live(&binary);
        assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""), "{}", binary.version);
        assert_eq!(stage.revisions(), (1, 1));

        stage.start_haproxy();
        let reply = get(&stage.address, "/v1/models").expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.header("x-served-by").is_some_and(|server| server.starts_with("chat/")), "{reply:?}");
        let said = stage.done(&["apply"]);
        assert!(said.contains("nothing to do"), "{said}");
        assert_eq!(stage.revisions(), (1, 1));
    }
}

#[test]
fn an_agent_that_is_there_before_haproxy_says_what_is_so() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::new(&binary);
        stage.start_agent();
        let log = stage.agent().stderr();
        assert!(log.contains("revision 1 is prepared: no HAProxy runs yet") && log.contains("start it:"), "{log}");
        stage.start_haproxy();
        wait_for("HAProxy to follow", PATIENCE, || stage.agent_said("follows").then_some(()));
        assert_eq!(stage.agent().stop(), Some(0));
        let log = stage.agent().stderr();
        assert!(!log.contains("again") && !log.contains("had it already"), "nothing was so before:\n{log}");
        assert!(log.contains("stopping; HAProxy serves on"), "{log}");
        stage.end_haproxy();
        stage.start_agent();
        assert_eq!(stage.agent().stop(), Some(0));
        let log = stage.agent().stderr();
        assert!(log.contains("stopping; no HAProxy runs"), "{log}");
    }
}

#[test]
fn a_foreign_file_is_refused_and_only_adopted_on_demand() {
    for binary in binaries() {
        let stage = Stage::new(&binary);
        write(stage.path("haproxy.cfg"), FOREIGN);
        let refused = stage.cli(&["apply"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains("not written by hapilot") && refused.stderr.contains("--adopt"));
        assert_eq!(stage.read("haproxy.cfg"), FOREIGN);
        assert!(!stage.path("maps").exists(), "a refused apply writes nothing");
        assert_eq!(stage.revisions(), (0, 0));
        let checked = stage.cli(&["check"]);
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
        assert!(checked.stderr.contains("not written by hapilot"), "{}", checked.stderr);

        let said = stage.done(&["apply", "--adopt"]);
        assert!(said.contains("is kept as"), "{said}");
        let kept = kept_beside(&stage);
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(stage.read(&kept[0]), FOREIGN);
        assert_eq!(stage.check_live(&binary).code, Some(0));
        assert_eq!(stage.revisions(), (1, 1));
    }
}

#[test]
fn a_running_foreign_haproxy_is_refused_untouched_and_adopted_by_one_reload() {
    for binary in binaries() {
        let mut stage = Stage::new(&binary);
        let place = stage.path("admin.sock");
        let foreign = format!(
            "global\n  stats socket {} mode 600 level admin expose-fd listeners\ndefaults\n  mode http\n  timeout \
             connect 1s\n  timeout client 5s\n  timeout server 5s\nfrontend f\n  bind {}\n  http-request return status 200\n",
            place.display(),
            stage.address
        );
        write(stage.path("haproxy.cfg"), &foreign);
        stage.start_haproxy();
        let worker = stage.worker();
        assert_eq!(stage.cli(&["apply"]).code, Some(1));
        assert_eq!((stage.worker(), stage.read("haproxy.cfg")), (worker, foreign.clone()));

        stage.done(&["apply", "--adopt"]);
        assert_ne!(stage.worker(), worker);
        assert_eq!(stage.read(&kept_beside(&stage)[0]), foreign);
        let reply = get(&stage.address, "/v1/models").expect("an answer");
        assert_eq!((reply.status, reply.header("x-served-by").is_some()), (200, true));
    }
}

#[test]
fn an_edit_by_hand_is_refused_reported_and_discarded_on_demand() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        let worker = stage.worker();
        // HAProxy tells its age in whole seconds.
        pause(Duration::from_secs(2));
        let edited = stage.read("haproxy.cfg").replace("maxconn 1000", "maxconn 999");
        write(stage.path("haproxy.cfg"), &edited);
        let refused = stage.cli(&["apply"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains("edited by hand"), "{}", refused.stderr);
        let status = stage.cli(&["status"]);
        assert!(status.code == Some(1) && status.stdout.contains("edited by hand"), "{}", status.stdout);
        assert_eq!((stage.worker(), stage.read("haproxy.cfg")), (worker, edited.clone()));

        stage.done(&["apply", "--adopt"]);
        assert_eq!(stage.read(&kept_beside(&stage)[0]), edited);
        assert_eq!(stage.worker(), worker, "what runs never had the edit: no reload");
        let status = stage.cli(&["status"]);
        assert_eq!(status.code, Some(0), "{}", status.stdout);
        assert_eq!(stage.agent().stop(), Some(0));
    }
}

#[test]
fn an_edit_by_hand_that_haproxy_loaded_is_discarded_there_too() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let edited = stage.read("haproxy.cfg").replace(
            "    monitor-uri /health",
            "    http-request return status 418 if { path /tea }\n    monitor-uri /health",
        );
        write(stage.path("haproxy.cfg"), &edited);
        assert!(stage.private().reload().succeeded);
        let tea = || get(&stage.address, "/tea").map(|reply| reply.status);
        wait_for("the edit", PATIENCE, || (tea().ok() == Some(418)).then_some(()));
        stage.done(&["apply", "--adopt"]);
        wait_for("its end", PATIENCE, || (tea().ok() != Some(418)).then_some(()));
    }
}

/// Names of the files that were kept beside haproxy.cfg.
fn kept_beside(stage: &Stage) -> Vec<String> {
    let all = fs_err::read_dir(stage.path("")).expect("the node's directory");
    let names = all.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name of ASCII"));
    names.filter(|name| name.contains("before-hapilot")).collect()
}
