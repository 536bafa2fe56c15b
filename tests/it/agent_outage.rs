//! What an outage looks like: in `status`, by its exit code, in the log and in the metrics, once each way.

use super::support::haproxy::binaries;
use super::support::http::get;
use super::support::port::free_port;
use super::support::stage::{SERVERS, Stage, swapped};
use super::support::{PATIENCE, pause, wait_for};
use hapilot::mock::{Fault, FaultKind};
use nix::sys::signal::{self, Signal};
use std::time::{Duration, Instant};

/// Lines of the agent's log with all of these words.
fn said(stage: &mut Stage, words: &[&str]) -> Vec<String> {
    let log = stage.agent().stderr();
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
}

#[test]
fn a_backend_that_cannot_serve_is_an_alarm_everywhere_and_is_over_when_it_is() {
    let metrics = format!("127.0.0.1:{}", free_port());
    let listen = format!("\nlisten = \"{metrics}\"\n[frontend.api]");
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| swapped(&text, "\n[frontend.api]", &listen));
        let samples = || get(&metrics, "/metrics").expect("an answer").text();
        assert!(samples().contains("hapilot_backend_serving{backend=\"chat\"} 1"), "{}", samples());
        assert_eq!(stage.cli(&["status"]).code, Some(0));

        SERVERS.iter().for_each(|server| stage.break_mock(server, vec![Fault::new(FaultKind::Refuse)]));
        // HAProxy's own check may be first to say it; the probes' word comes a little later.
        wait_for("each to be out", PATIENCE, || {
            SERVERS.iter().all(|server| stage.server_status(server)["health"] == "unhealthy").then_some(())
        });
        let status = wait_for("the outage", PATIENCE, || {
            let status = stage.cli(&["status"]);
            (status.code == Some(1)).then_some(status.stdout).filter(|text| text.contains("CANNOT SERVE"))
        });
        assert!(status.contains("backend chat cannot serve"), "{status}");
        assert!(status.contains("refused"), "the reason is told: {status}");
        // No probe asks the other backend, whose server is one of these: HAProxy's own check says it.
        let text = wait_for("the other outage", PATIENCE, || {
            Some(samples()).filter(|text| text.contains("hapilot_backend_serving{backend=\"embeddings\"} 0"))
        });
        assert!(text.contains("hapilot_backend_serving{backend=\"chat\"} 0"), "{text}");
        assert!(!text.contains("hapilot_problems 0\n"), "{text}");
        let status = stage.json(&["status"]);
        let chat = status["backends"].as_array().expect("backends").iter().find(|one| one["name"] == "chat");
        assert!(chat.is_some_and(|chat| chat["outage"].is_string() && chat["outage_since"].is_string()), "{status}");

        SERVERS.iter().for_each(|server| stage.mend_mock(server));
        wait_for("the end of the outage", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
        assert!(samples().contains("hapilot_backend_serving{backend=\"chat\"} 1"));
        let begun = said(&mut stage, &["ERROR", "backend chat cannot serve", "refused"]);
        let over = said(&mut stage, &["backend chat serves again"]);
        assert_eq!((begun.len(), over.len()), (1, 1), "{}: {begun:#?} {over:#?}", binary.version);
        let out = said(&mut stage, &["WARN", "is out: health"]);
        assert_eq!(out.len(), SERVERS.len(), "{out:#?}");
    }
}

#[test]
fn a_backend_that_falls_back_to_tier_2_says_so_and_is_no_outage() {
    let metrics = format!("127.0.0.1:{}", free_port());
    let listen = format!("\nlisten = \"{metrics}\"\n[frontend.api]");
    let binary = binaries().pop().expect("a HAProxy");
    let stage = Stage::running(&binary, |text| {
        let text = swapped(&text, "[backend.chat.server.c]", "[backend.chat.server.c]\ntier = 2");
        swapped(&text, "\n[frontend.api]", &listen)
    });
    let tier = |stage: &Stage| {
        let status = stage.json(&["status"]);
        let chat = status["backends"].as_array().expect("backends").iter().find(|one| one["name"] == "chat");
        chat.expect("the backend")["tier"].as_u64()
    };
    assert_eq!(tier(&stage), Some(1));
    ["a", "b"].iter().for_each(|server| stage.break_mock(server, vec![Fault::new(FaultKind::Refuse)]));
    wait_for("tier 2", PATIENCE, || (tier(&stage) == Some(2)).then_some(()));
    let status = stage.cli(&["status"]);
    assert!(status.stdout.contains("no server of tier 1 can take requests: tier 2 serves"), "{}", status.stdout);
    let samples = get(&metrics, "/metrics").expect("an answer").text();
    assert!(samples.contains("hapilot_backend_tier{backend=\"chat\"} 2"), "{samples}");
    ["a", "b"].iter().for_each(|server| stage.mend_mock(server));
    wait_for("tier 1", PATIENCE, || (tier(&stage) == Some(1)).then_some(()));
    assert!(!stage.cli(&["status"]).stdout.contains("fallback:"));
}

#[test]
fn a_haproxy_that_is_gone_is_one_error_and_one_line_when_it_is_back() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        stage.end_haproxy();
        let uptime = |stage: &Stage| stage.json(&["status"])["agent"]["uptime_s"].as_u64().expect("a number");
        let since = wait_for("the alarm", PATIENCE, || {
            let is_told = stage.agent_said("HAProxy is gone");
            is_told.then(|| uptime(&stage))
        });
        let so_far = stage.agent().stderr().lines().count();
        // Longer than two looks at HAProxy, which repeat by a timer.
        wait_for("two more looks", PATIENCE, || (uptime(&stage) > since + 11).then_some(()));
        let news: Vec<_> = stage.agent().stderr().lines().skip(so_far).map(str::to_owned).collect();
        assert!(news.iter().all(|line| !line.contains("HAProxy")), "{}: {news:#?}", binary.version);
        let status = stage.cli(&["status"]);
        assert_eq!(status.code, Some(1), "{}", status.stdout);
        assert!(!status.stdout.contains("serves"), "nothing serves: {}", status.stdout);
        stage.start_haproxy();
        wait_for("it to be back", PATIENCE, || stage.agent_said("follows again").then_some(()));
        let gone = said(&mut stage, &["ERROR", "HAProxy is gone"]);
        let back = said(&mut stage, &["follows again"]);
        assert_eq!((gone.len(), back.len()), (1, 1), "{gone:#?} {back:#?}");
    }
}

#[test]
fn a_haproxy_that_hangs_is_told_everywhere_in_seconds_and_over_when_it_answers() {
    let metrics = format!("127.0.0.1:{}", free_port());
    let listen = format!("\nlisten = \"{metrics}\"\n[frontend.api]");
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| swapped(&text, "\n[frontend.api]", &listen));
        let samples = || get(&metrics, "/metrics").expect("an answer").text();
        let says = |up: u8| {
            let text = samples();
            [format!("hapilot_haproxy_up {up}\n"), format!("hapilot_backend_serving{{backend=\"chat\"}} {up}\n")]
                .iter()
                .all(|line| text.contains(line))
        };
        assert!(says(1), "{}", samples());
        let worker = stage.worker();
        signal::kill(worker, Signal::SIGSTOP).expect("a signal");
        let hung = Instant::now();
        wait_for("the metrics to say it", PATIENCE, || says(0).then_some(()));
        // The age is that of a question, which comes every half second, and is told from two seconds on.
        let told = hung.elapsed();
        let status = stage.cli(&["status"]);
        assert_eq!(status.code, Some(1), "{}", status.stdout);
        assert!(status.stdout.contains("DOES NOT ANSWER"), "{}", status.stdout);
        assert!(status.stdout.contains("has owed an answer for"), "{}", status.stdout);
        // Longer than each question waits: the next ones wait in vain as well.
        for _ in 0..14 {
            pause(Duration::from_millis(500));
            assert!(says(0), "{}: {}", binary.version, samples());
        }
        signal::kill(worker, Signal::SIGCONT).expect("a signal");
        wait_for("the end", PATIENCE, || says(1).then_some(()));
        wait_for("a status without problems", PATIENCE, || (stage.cli(&["status"]).code == Some(0)).then_some(()));
        assert!(told < Duration::from_secs(10), "{told:?}");
    }
}

#[test]
fn a_haproxy_that_is_restarted_in_an_instant_is_told_and_nothing_else_is_made_of_it() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        for times in 1..=3 {
            stage.end_haproxy();
            stage.start_haproxy();
            wait_for("the new worker to be known", PATIENCE, || {
                let pid = stage.json(&["status"])["haproxy"]["pid"].as_u64();
                (pid == Some(stage.worker().as_raw() as u64)).then_some(())
            });
            let told = said(&mut stage, &["another HAProxy worker serves"]).len();
            let back = said(&mut stage, &["follows again"]).len();
            assert_eq!(told + back, times, "{}", stage.agent().stderr());
        }
        assert!(!stage.agent_said("was removed"), "{}", stage.agent().stderr());
    }
}

#[test]
fn the_log_says_what_changed_in_words_for_people() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let mut stage = Stage::running(&binary, |text| text);
    stage.edit("weight = 100 # a", "weight = 40 # a");
    wait_for("the revision", PATIENCE, || (stage.weight("a") == 40).then_some(()));
    wait_for("its line", PATIENCE, || stage.agent_said("revision 2 serves: weight chat/a 100 → 40").then_some(()));
    stage.break_mock("b", vec![Fault { retry_after: Some("30".to_owned()), ..Fault::status(429) }]);
    wait_for("the lower weight", PATIENCE, || stage.agent_said("chat/b weight 100 → 30 (rate_limited)").then_some(()));
    let log = stage.agent().stderr();
    assert!(!log.contains("Some("), "{log}");
    // The rule of limits is a map; the operator changed a limit.
    stage.edit("burst    = 1000", "burst    = 2000");
    wait_for("the limit", PATIENCE, || stage.agent_said("limits changed").then_some(()));
}

#[test]
fn an_admin_socket_that_was_removed_is_told_as_such_and_not_as_a_dead_haproxy() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        fs_err::remove_file(stage.path("admin.sock")).expect("the socket's file");
        wait_for("the problem in status", PATIENCE, || {
            let problems = stage.json(&["status"])["problems"].to_string();
            (problems.contains("was removed") && problems.contains("restart it")).then_some(())
        });
        assert_eq!(get(&stage.address, "/v1/models").expect("an answer").status, 200, "it serves on");
        // Its ports are our own HAProxy's: nobody is told to stop that.
        stage.edit("idle = \"10s\"", "idle = \"11s\"");
        let said = stage.cli(&["apply"]);
        let words = format!("{}{}", said.stdout, said.stderr);
        assert!(!words.contains("is in use") && words.contains("restart it"), "{}: {words}", binary.version);
    }
}

#[test]
fn a_name_that_does_not_resolve_is_named_as_what_haproxy_lacks() {
    // Asked by HAProxy itself, and by the hop that its key needs.
    let plain = "\n[backend.plain]\nretries = 0\n[backend.plain.server.lost]\nurl = \"http://lost.invalid:9\"\n[backend.hop.server.lost]\n\
        url = \"https://lost.invalid:9\"\n[frontend.api]";
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| swapped(&text, "\n[frontend.api]", plain));
        let backends = |status: &serde_json::Value| status["backends"].as_array().cloned().expect("backends");
        wait_for("both outages, and why", PATIENCE, || {
            let status = stage.json(&["status"]);
            let lost: Vec<_> = backends(&status)
                .into_iter()
                .filter(|backend| backend["name"] == "plain" || backend["name"] == "hop")
                .filter(|backend| backend["servers"][0]["oper"] == "unresolved")
                .filter(|backend| {
                    backend["outage"].as_str().is_some_and(|why| why.contains("its name does not resolve"))
                })
                .collect();
            (lost.len() == 2).then_some(())
        });
        let explained = stage.cli(&["explain", "plain/lost"]).stdout;
        assert!(explained.contains("no address: its name does not resolve"), "{explained}");
    }
}
