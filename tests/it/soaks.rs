//! Revisions that soak on a real node, with clients: what makes it worse goes back by itself, what does not is confirmed.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request};
use super::support::port::free_port;
use super::support::stage::{SERVERS, Stage, swapped};
use super::support::{PATIENCE, pause, wait_for, write};
use hapilot::mock::{Fault, FaultKind, Mock, MockConfig, MockTls};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATH: &str = "/v1/chat/completions";
/// An edit that makes it worse is back by then.
const BACK: Duration = Duration::from_secs(120);

/// Clients that ask 20 times a second.
struct Clients {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Clients {
    fn of(stage: &Stage, path: &'static str) -> Self {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, fails, address) = (stop.clone(), failed.clone(), stage.address.clone());
        let thread = std::thread::spawn(move || {
            let body =
                "{\"model\":\"mock-small\",\"max_tokens\":3,\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}";
            while !ends.load(Ordering::Relaxed) {
                let answer = Connection::open(&address).and_then(|mut client| client.send(&Request::post(path, body)));
                if !answer.is_ok_and(|answer| answer.status == 200) {
                    fails.fetch_add(1, Ordering::Relaxed);
                }
                pause(Duration::from_millis(50));
            }
        });
        Self { stop, failed, thread: Some(thread) }
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking(), "the clients' thread broke");
    }
}

fn binary(at: usize) -> Binary {
    let all = binaries();
    all[at % all.len()].clone()
}

fn soaking(binary: &Binary) -> Stage {
    Stage::running(binary, |text| swapped(&text, "[api]\n", "[apply]\nsoak = \"10m\"\n\n[api]\n"))
}

fn trial(stage: &Stage) -> Value {
    stage.json(&["status"])["trial"].clone()
}

/// Waits until the edit is back, and says how long it took and what the history has of it.
fn back(stage: &Stage, began: Instant) -> (Duration, String) {
    while stage.json(&["history"]).as_array().is_some_and(|all| all.len() < 3) {
        assert!(began.elapsed() < BACK, "{}\n{}", stage.cli(&["status"]).stdout, trial(stage));
        pause(Duration::from_millis(500));
    }
    let took = began.elapsed();
    let history = stage.json(&["history"]);
    let of = |number: u64| {
        let all = history.as_array().expect("a list").iter();
        all.clone().find(|one| one["revision"] == number).expect("a revision").clone()
    };
    let standing = of(2)["outcome"].as_str().unwrap_or_default().to_owned();
    assert!(standing.starts_with("rolled-back: "), "{history}");
    assert_eq!(
        (&of(1)["tags"], of(3)["outcome"].as_str()),
        (&serde_json::json!(["good"]), Some("confirmed")),
        "{history}"
    );
    (took, standing)
}

/// Clients, a tag, and an edit.
fn edited(stage: &Stage, edit: impl FnOnce(String) -> String) -> (Duration, String) {
    stage.done(&["tag", "1", "good"]);
    pause(Duration::from_secs(12));
    let text = stage.text();
    let began = stage.write_file(&edit(text));
    wait_for("the edit on trial", PATIENCE, || (trial(stage)["revision"] == 2).then_some(()));
    let (took, why) = back(stage, began);
    let events = stage.done(&["events"]);
    assert!(events.contains("is worse than before") && events.contains("rolling back to revision 1"), "{events}");
    assert!(trial(stage).is_null());
    println!("{took:?}: {why}");
    (took, why)
}

/// The older revision serves: nobody fails any more.
fn is_mended(clients: &Clients) {
    assert!(clients.failed() > 0, "the edit was bad");
    pause(Duration::from_secs(2));
    let before = clients.failed();
    pause(Duration::from_secs(3));
    assert_eq!(clients.failed(), before);
}

#[test]
fn a_time_limit_that_is_too_short_goes_back() {
    let stage = soaking(&binary(3));
    for server in SERVERS {
        let slow = Fault::new(FaultKind::FirstToken);
        stage.break_mock(server, vec![Fault { delay_ms: Some(300), path: Some(PATH.to_owned()), ..slow }]);
    }
    let clients = Clients::of(&stage, PATH);
    let (_, why) = edited(&stage, |text| swapped(&text, "first_byte = \"10s\"", "first_byte = \"100ms\""));
    assert!(why.contains("chat: "), "{why}");
    is_mended(&clients);
}

#[test]
fn a_model_that_the_servers_do_not_have_goes_back() {
    let stage = soaking(&binary(1));
    let clients = Clients::of(&stage, PATH);
    let (_, why) = edited(&stage, |text| {
        SERVERS.iter().fold(text, |text, server| {
            let state = format!("state = \"ready\" # {server}\n");
            swapped(&text, &state, &format!("{state}models = {{ \"mock-small\" = \"mock-smal\" }}\n"))
        })
    });
    assert!(why.contains("chat: "), "{why}");
    is_mended(&clients);
}

/// As the one before, where no probe asks for a list: clients alone see it.
#[test]
fn a_model_that_only_clients_ask_for_goes_back() {
    let stage = Stage::running(&binary(0), |text| {
        let text =
            swapped(&text, "models   = { expect = [\"mock-small\"] }", "models = false\nhttp = { path = \"/health\" }");
        swapped(&text, "[api]\n", "[apply]\nsoak = \"10m\"\n\n[api]\n")
    });
    let clients = Clients::of(&stage, PATH);
    let (_, why) = edited(&stage, |text| {
        SERVERS.iter().fold(text, |text, server| {
            let state = format!("state = \"ready\" # {server}\n");
            swapped(&text, &state, &format!("{state}models = {{ \"mock-small\" = \"mock-smal\" }}\n"))
        })
    });
    assert!(why.contains("chat: refused (4xx): ") && why.contains(" answers"), "{why}");
    is_mended(&clients);
}

#[test]
fn a_new_backend_that_serves_nobody_goes_back_with_its_frontend() {
    let stage = soaking(&binary(1));
    let clients = Clients::of(&stage, PATH);
    let port = free_port();
    let (_, why) = edited(&stage, |text| {
        let frontend =
            text.split("[frontend.api]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("its section");
        let moved = frontend.replace("\"chat\"", "\"green\"");
        assert_ne!(frontend, moved, "{text}");
        text.replace(frontend, &moved) + &format!("\n[backend.green.server.one]\nurl = \"http://127.0.0.1:{port}\"\n")
    });
    assert!(why.contains("green: ") || why.contains("all changed backends: "), "{why}");
    is_mended(&clients);
}

#[test]
fn what_haproxy_itself_refuses_since_an_edit_goes_back() {
    let stage = soaking(&binary(2));
    let clients = Clients::of(&stage, PATH);
    // The clients send some 90 bytes.
    let (_, why) = edited(&stage, |text| text.replace("[frontend.api]\n", "[frontend.api]\nmax_body = \"64B\"\n"));
    assert!(why.contains("refused (4xx)"), "{why}");
    is_mended(&clients);
}

#[test]
fn a_tls_name_that_is_wrong_for_most_servers_goes_back() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let tls = || MockConfig {
        bind: ([127, 0, 0, 1], free_port()).into(),
        control: ([127, 0, 0, 1], free_port()).into(),
        tls: Some(MockTls { names: vec!["gpu.example".into(), "localhost".into()], ..MockTls::default() }),
        ..MockConfig::default()
    };
    let mocks: Vec<Mock> = (0..2).map(|_| runtime.block_on(Mock::start(tls())).expect("a mock")).collect();
    let stage = Stage::running(&binary(2), |text| {
        let text = swapped(&text, "[api]\n", "[apply]\nsoak = \"10m\"\n\n[api]\n");
        let dir = text.split_once("state = \"").and_then(|(_, rest)| rest.split_once("/state\"")).expect("a place").0;
        mocks.iter().zip(["b", "c"]).fold(text.clone(), |text, (mock, server)| {
            let ca = format!("{dir}/{server}.pem");
            write(&ca, mock.ca_pem().expect("an authority"));
            let (head, rest) = text.split_once(&format!("[backend.chat.server.{server}]\n")).expect("the server");
            let (_, rest) = rest.split_once('\n').expect("its URL");
            format!(
                "{head}[backend.chat.server.{server}]\nurl = \"https://{}\"\n\
                 tls = {{ ca = \"{ca}\", server_name = \"gpu.example\" }}\n{rest}",
                mock.addr()
            )
        })
    });
    let _clients = Clients::of(&stage, PATH);
    let (_, why) = edited(&stage, |text| text.replace("gpu.example", "gpu.exmaple"));
    assert!(why.contains("chat: "), "{why}");
    wait_for("all servers", PATIENCE, || SERVERS.iter().all(|server| stage.is_ready(server)).then_some(()));
}

#[test]
fn what_is_no_worse_is_confirmed_over_a_restart_of_the_agent_and_nothing_seen_is_no_reason() {
    let binary = binary(0);
    let mut stage = Stage::running(&binary, |text| swapped(&text, "[api]\n", "[apply]\nsoak = \"1m\"\n\n[api]\n"));
    // Nobody asks: it is confirmed all the same, and says so.
    stage.edit("weight = 100 # a", "weight = 90 # a");
    wait_for("the soak", PATIENCE, || (trial(&stage)["soak"]["keeps"] == true).then_some(()));
    let said = stage.done(&["status"]);
    assert!(said.contains("soak") && said.contains("revision 1 comes back"), "{said}");
    let clients = Clients::of(&stage, PATH);
    // An edit that comes meanwhile soaks with it, for its whole time.
    pause(Duration::from_secs(5));
    stage.edit("weight = 100 # b", "weight = 90 # b");
    wait_for("the other edit", PATIENCE, || (trial(&stage)["revision"] == 3).then_some(()));
    assert_eq!(trial(&stage)["back_to"], 1);
    pause(Duration::from_secs(10));
    let seen = |stage: &Stage| trial(stage)["soak"]["backends"][0]["requests"].as_u64().unwrap_or_default();
    let before = seen(&stage);
    assert!(before > 50, "{}", trial(&stage));
    stage.agent().stop();
    stage.start_agent();
    wait_for("what was seen before", PATIENCE, || (seen(&stage) >= before).then_some(()));
    let began = Instant::now();
    while !trial(&stage).is_null() {
        assert!(began.elapsed() < Duration::from_secs(80), "{}", trial(&stage));
        pause(Duration::from_millis(500));
    }
    let events = stage.done(&["events", "--kind", "trial"]);
    assert!(events.contains("revision 3 is confirmed after its soak: nothing is worse: "), "{events}");
    assert_eq!(stage.revisions(), (3, 3));
    assert_eq!(clients.failed(), 0);
    // What no request meets has nothing to compare.
    stage.edit("[apply]\n", "[history]\nkeep = 50\n\n[apply]\n");
    wait_for("its confirmation", PATIENCE, || {
        let events = stage.done(&["events", "--kind", "trial"]);
        events.contains("revision 4 is confirmed after its soak: no backend is served otherwise").then_some(())
    });
}
