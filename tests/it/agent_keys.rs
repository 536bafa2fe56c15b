//! Several keys per server: one that is limited or rejected gives way to the next without a reload, comes back when it
//! works, and is never seen by anybody.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request, get};
use super::support::port::free_port;
use super::support::stage::{KEY, LENIENT, Stage, swapped};
use super::support::{PATIENCE, pause, wait_for, write};
use hapilot::mock::{Fault, FaultKind, Mock, MockConfig};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// No file but their own and the secret map may ever hold them.
const KEYS: [&str; 3] = ["sk-first-never-seen-1111", "sk-second-never-seen-2222", "sk-third-never-seen-3333"];

/// A stage whose traffic goes to `[backend.keyed]`: mocks that take any key, but for the faults of one.
struct Keyed {
    stage: Stage,
    mocks: Vec<Mock>,
    runtime: Runtime,
    reads: String,
}

impl Keyed {
    /// Two keys for one server; or two servers with lists of their own, so that each has a hop.
    fn start(binary: &Binary, has_hops: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime for the mocks");
        let start = |_| {
            let bind = ([127, 0, 0, 1], free_port()).into();
            let config = MockConfig { bind, control: ([127, 0, 0, 1], free_port()).into(), ..MockConfig::default() };
            runtime.block_on(Mock::start(config)).expect("a mock")
        };
        let mocks: Vec<Mock> = (0..2).map(start).collect();
        let reads = format!("127.0.0.1:{}", free_port());
        let mut stage = Stage::new(binary);
        for (number, key) in KEYS.iter().enumerate() {
            write(stage.path(&format!("key{number}")), key);
            private(&stage.path(&format!("key{number}")));
        }
        let dir = stage.path("");
        let place = |number: usize| format!("\"file:{}key{number}\"", dir.display());
        let raw = "raw = [\"http-response set-header X-Test-Key %[var(txn.key_id)]\"]";
        let text = swapped(&stage.text(), "backend = \"chat\"", &format!("backend = \"keyed\"\n{raw}"));
        let text = swapped(&text, "\n[frontend.api]", &format!("\nlisten = \"{reads}\"\n[frontend.api]"));
        let mut text = text
            + "\n[backend.keyed]\nbalance = \"roundrobin\"\nretries = 2\n[backend.keyed.check]\ninterval = \"500ms\"\n\
               ramp = \"1s\"\nfall = 2\nmodels = {}\n";
        text += &format!(
            "[backend.keyed.server.s]\nurl = \"{}\"\nkeys = [{}, {}]\n",
            mocks[0].base_url(),
            place(0),
            place(1)
        );
        if has_hops {
            text += &format!("[backend.keyed.server.t]\nurl = \"{}\"\nkeys = [{}]\n", mocks[1].base_url(), place(2));
        }
        stage.write_file(&text);
        stage.done(&["apply"]);
        stage.start_haproxy();
        stage.start_agent();
        let keyed = Self { stage, mocks, runtime, reads };
        wait_for("every key to be tested", PATIENCE, || {
            keyed.keys().iter().all(|key| key["last_outcome"] == "ok").then_some(())
        });
        keyed
    }

    fn keys(&self) -> Vec<Value> {
        let all = self.stage.json(&["key", "list"]);
        let all = all.as_array().expect("a list").iter();
        all.filter(|key| key["server"].as_str().is_some_and(|server| server.starts_with("keyed/"))).cloned().collect()
    }

    fn key(&self, id: &str) -> Value {
        self.keys().into_iter().find(|key| key["id"] == id).expect("the key")
    }

    /// Which key HAProxy puts in for this entry, as its map says.
    fn active(&self, entry: &str) -> String {
        let map = self.stage.private().admin("show map maps/keys.map");
        let line = map.lines().find_map(|line| line.split_once(&format!(" {entry} "))).expect("the entry").1;
        line.split(' ').next().expect("an id").to_owned()
    }

    fn befall(&self, faults: Vec<Fault>) {
        self.runtime.block_on(self.mocks[0].set_faults(faults));
    }

    /// What a client's answer says: the status and the key.
    fn ask(&self) -> (u16, Option<String>) {
        let reply = get(&self.stage.address, "/v1/models").expect("an answer");
        assert_eq!(reply.header("x-hapilot-key"), None);
        (reply.status, reply.header("x-test-key").map(str::to_owned))
    }

    /// Everything that anybody can read, without any key.
    fn assert_nobody_sees_a_key(&self) {
        let mut said = Vec::new();
        for command in [&["status"][..], &["key", "list"], &["key", "test"], &["explain", "keyed/s"], &["history"]] {
            said.push(self.stage.cli(command).stdout);
            said.push(self.stage.json(command).to_string());
        }
        said.push(self.stage.cli(&["probe", "--last"]).stdout);
        said.push(self.stage.json(&["probe", "--last", "keyed"]).to_string());
        said.push(get(&self.reads, "/metrics").expect("the metrics").text());
        said.push(get(&self.reads, "/v1/status").expect("the status").text());
        for text in &said {
            assert!(!KEYS.iter().any(|key| text.contains(key)), "a key in:\n{text}");
        }
        assert!(!KEYS.iter().any(|key| self.stage.agent_said(key)), "a key in the log");
        let mut pending = vec![self.stage.path("")];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                let entries = fs_err::read_dir(&path).expect("a directory");
                pending.extend(entries.map(|entry| entry.expect("an entry").path()));
            } else if fs_err::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
                let text = String::from_utf8_lossy(&fs_err::read(&path).expect("a file")).into_owned();
                let is_secret = mode(&path) & 0o007 == 0;
                let may_hold = path.ends_with("maps/keys.map")
                    || path.file_name().is_some_and(|name| name.to_str().is_some_and(|name| name.starts_with("key")));
                let holds = KEYS.iter().any(|key| text.contains(key));
                assert!(!holds || (may_hold && is_secret), "a key in {}", path.display());
            }
        }
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs_err::metadata(path).expect("a file").permissions().mode()
}

fn of_first_key(fault: Fault) -> Fault {
    Fault { key: Some(KEYS[0].to_owned()), ..fault }
}

/// A request every 20 ms on a connection of its own; ends with the number of answers and the failures in words.
struct Clients {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u32, Vec<String>)>,
}

impl Clients {
    fn start(address: &str) -> Self {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), address.to_owned());
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut sent, mut failures) = (0, vec![]);
            while !asked.load(Ordering::Relaxed) {
                let request = Request::get("/v1/models");
                match Connection::open(&address).and_then(|mut connection| connection.send(&request)) {
                    Ok(reply) if reply.status == 200 => {}
                    Ok(reply) => failures.push(format!("{}: {}", reply.status, reply.text())),
                    Err(error) => failures.push(error.to_string()),
                }
                sent += 1;
                pause(Duration::from_millis(20));
            }
            (sent, failures)
        });
        Self { stop, thread }
    }

    fn end(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the clients do not panic")
    }
}

/// Breaks the first key of the one server: the second serves soon, by one and the same worker, in one and the same
/// revision.
fn rotates(binary: &Binary, name: &str, fault: Fault, state: &str) -> Keyed {
    let keyed = Keyed::start(binary, false);
    let (worker, revisions) = (keyed.stage.worker(), keyed.stage.revisions());
    assert_eq!((keyed.active("keyed").as_str(), keyed.ask()), ("k1", (200, Some("k1".to_owned()))));
    let clients = Clients::start(&keyed.stage.address);
    let broken = Instant::now();
    keyed.befall(vec![of_first_key(fault)]);
    let took = keyed.stage.effect("the second key", broken, |_| keyed.active("keyed") == "k2");
    let (sent, failures) = clients.end();
    println!(
        "{} {name}: the second key after {} ms, {} of {sent} requests failed",
        binary.version,
        took.as_millis(),
        failures.len()
    );
    assert!(took < Duration::from_secs(1) + LENIENT, "{took:?}");
    for _ in 0..20 {
        assert_eq!(keyed.ask(), (200, Some("k2".to_owned())));
    }
    let line = format!("→ {state}");
    wait_for("the log to name it", PATIENCE, || keyed.stage.agent_said(&line).then_some(()));
    // `status` follows when the round is over; a short rest may have ended by then.
    wait_for("the first key to be out", PATIENCE, || {
        let (first, second) = (keyed.key("k1"), keyed.key("k2"));
        (first["is_active"] == false && second["is_active"] == true).then_some(())
    });
    // The server itself has nothing to answer for.
    wait_for("the server to be healthy", PATIENCE, || {
        let status = keyed.stage.json(&["explain", "keyed/s"]);
        (status["server"]["health"] == "healthy" && status["server"]["weight"] == 100).then_some(())
    });
    wait_for("the file to follow", PATIENCE, || keyed.stage.read("maps/keys.map").contains("keyed k2 ").then_some(()));
    let status = keyed.stage.json(&["status"]);
    assert_eq!(status["agent"]["reloads"], 0);
    assert!(status["corrections"].as_array().is_some_and(Vec::is_empty), "{status}");
    assert_eq!((keyed.stage.worker(), keyed.stage.revisions()), (worker, revisions));
    keyed
}

#[test]
fn a_key_that_is_rejected_gives_way() {
    for binary in binaries() {
        let mut keyed = rotates(&binary, "401", Fault::new(FaultKind::InvalidApiKey), "retired");
        assert_eq!(keyed.key("k1")["why"], "credential");
        let tested = keyed.stage.cli(&["key", "test", "keyed/s"]);
        assert_eq!(tested.code, Some(1), "{}", tested.stdout);
        assert!(tested.stdout.contains("credential") && tested.stdout.contains("key0"), "{}", tested.stdout);
        keyed.assert_nobody_sees_a_key();

        // A new agent goes on with the key that serves.
        let worker = keyed.stage.worker();
        keyed.stage.agent().kill();
        keyed.stage.start_agent();
        wait_for("the first key to be found rejected", PATIENCE, || {
            (keyed.key("k1")["state"] == "retired").then_some(())
        });
        let status = keyed.stage.json(&["status"]);
        assert_eq!((&status["agent"]["writes"], &status["agent"]["reloads"]), (&0.into(), &0.into()), "{status}");
        assert_eq!((keyed.active("keyed").as_str(), keyed.stage.worker()), ("k2", worker));

        // What is in its file is another key by now: it is asked at once.
        write(keyed.stage.path("key0.new"), KEYS[2]);
        private(&keyed.stage.path("key0.new"));
        fs_err::rename(keyed.stage.path("key0.new"), keyed.stage.path("key0")).expect("a rename");
        wait_for("the renewed key", PATIENCE, || (keyed.key("k1")["state"] == "in_service").then_some(()));
        wait_for("its test", PATIENCE, || (keyed.key("k1")["last_outcome"] == "ok").then_some(()));
        assert_eq!((keyed.ask(), keyed.stage.worker()), ((200, Some("k2".to_owned())), worker));
        assert_eq!(keyed.stage.cli(&["key", "test", "keyed/s"]).code, Some(0));
    }
}

#[test]
fn a_key_that_is_limited_rests_as_long_as_it_was_told() {
    for binary in binaries() {
        let limit = Fault { code: Some(429), retry_after: Some("3".to_owned()), ..Fault::new(FaultKind::Status) };
        let keyed = rotates(&binary, "429", limit, "cooling");
        keyed.befall(vec![]);
        let mended = Instant::now();
        let took = keyed.stage.effect("the first key", mended, |_| keyed.key("k1")["state"] == "in_service");
        println!("{} 429: in service again after {} ms", binary.version, took.as_millis());
        assert!(took < Duration::from_secs(4) + LENIENT, "{took:?}");
        // It waits for its turn: the second one has the prompts by now.
        assert_eq!(keyed.ask(), (200, Some("k2".to_owned())));
        let samples = get(&keyed.reads, "/metrics").expect("the metrics").text();
        for line in [
            r#"hapilot_key_active{backend="keyed",server="s",key="k2"} 1"#,
            r#"hapilot_key_state{backend="keyed",server="s",key="k1",state="in_service"} 1"#,
            r#"hapilot_key_rotations_total{backend="keyed",server="s"} 1"#,
        ] {
            assert!(samples.contains(line), "{line} in\n{samples}");
        }
        // Both at once: the one whose pause ends first serves on, and nobody reloads anything.
        let both = |seconds: &str, key: &str| Fault {
            key: Some(key.to_owned()),
            code: Some(429),
            retry_after: Some(seconds.to_owned()),
            ..Fault::new(FaultKind::Status)
        };
        keyed.befall(vec![both("60", KEYS[1]), both("20", KEYS[0])]);
        wait_for("both to rest", PATIENCE, || keyed.keys().iter().all(|key| key["state"] == "cooling").then_some(()));
        wait_for("the first key", PATIENCE, || (keyed.active("keyed") == "k1").then_some(()));
        assert_eq!(keyed.stage.json(&["status"])["agent"]["reloads"], 0);
    }
}

#[test]
fn a_key_whose_account_is_spent_gives_way_although_it_says_429() {
    for binary in binaries() {
        let keyed = rotates(&binary, "insufficient_quota", Fault::new(FaultKind::InsufficientQuota), "retired");
        let first = keyed.key("k1");
        assert_eq!(first["why"], "billing");
        // A probe's word counts for an hour, that of clients' requests for a minute at first; either may come before.
        let left = first["left_s"].as_f64().expect("a time");
        assert!((3000.0..=3600.0).contains(&left) || (50.0..=60.0).contains(&left), "{first}");
    }
}

#[test]
fn a_rejected_key_that_works_again_is_found_by_itself() {
    for binary in binaries().into_iter().take(1) {
        let keyed = rotates(&binary, "401", Fault::new(FaultKind::InvalidApiKey), "retired");
        keyed.befall(vec![]);
        let mended = Instant::now();
        let limit = Duration::from_secs(90);
        wait_for("the first key", limit, || (keyed.key("k1")["state"] == "in_service").then_some(()));
        println!("{} 401: in service again after {} ms", binary.version, mended.elapsed().as_millis());
    }
}

#[test]
fn servers_with_lists_of_their_own_rotate_each_for_itself_and_clients_see_nothing() {
    for binary in binaries() {
        let keyed = Keyed::start(&binary, true);
        assert!(keyed.stage.read("haproxy.cfg").contains("listen keyed:s"));
        let worker = keyed.stage.worker();
        let clients = Clients::start(&keyed.stage.address);
        keyed.befall(vec![of_first_key(Fault::new(FaultKind::InvalidApiKey))]);
        let broken = Instant::now();
        let took = keyed.stage.effect("the second key", broken, |_| keyed.active("keyed/s") == "k2");
        wait_for("both servers to answer", PATIENCE, || (keyed.ask() == (200, Some("k2".to_owned()))).then_some(()));
        wait_for("both servers to answer", PATIENCE, || (keyed.ask() == (200, Some("k1".to_owned()))).then_some(()));
        let (sent, failures) = clients.end();
        println!("{} hops: {} ms, {} of {sent} requests failed", binary.version, took.as_millis(), failures.len());
        // A rejection is tried again at the other server before anybody sees it.
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!((keyed.active("keyed/t").as_str(), keyed.stage.worker()), ("k1", worker));
        keyed.assert_nobody_sees_a_key();
    }
}

#[test]
fn what_the_last_probes_told_outlives_the_agent_and_damage() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let mut keyed = Keyed::start(&binary, false);
    let told = |keyed: &Keyed| keyed.stage.json(&["probe", "--last", "keyed/s"]).as_array().expect("a list").clone();
    let before = wait_for("the file", PATIENCE, || Some(told(&keyed)).filter(|told| !told.is_empty()));
    let first = before[0].clone();
    assert_eq!((first["kind"].as_str(), first["outcome"].as_str()), (Some("models"), Some("ok")), "{first}");
    assert!(before.iter().any(|told| told["key"] == "k2"), "the test of the key in reserve: {before:?}");
    keyed.stage.agent().kill();
    assert_eq!(told(&keyed)[0]["kind"], "models", "without an agent");
    keyed.stage.start_agent();
    wait_for("results of two lives", PATIENCE, || {
        let now = told(&keyed);
        let has_old = now.contains(&first);
        (has_old && now[0]["at"].as_str() > first["at"].as_str()).then_some(())
    });
    assert!(keyed.stage.done(&["probe", "--last", "keyed/s"]).contains("models"));
    assert_eq!(keyed.stage.cli(&["probe", "--last", "nobody"]).code, Some(2));

    keyed.stage.agent().kill();
    write(keyed.stage.path("state/probes.json"), "{\"form\":1,");
    assert_eq!(keyed.stage.cli(&["probe", "--last"]).code, Some(1));
    keyed.stage.start_agent();
    assert!(keyed.stage.agent_said("begun anew"));
    wait_for("a whole file", PATIENCE, || (keyed.stage.cli(&["probe", "--last"]).code == Some(0)).then_some(()));
    let status = keyed.stage.json(&["status"]);
    assert_eq!(status["agent"]["writes"], 0, "{status}");
}

#[test]
fn spread_keys_serve_all_at_once_and_one_that_rests_gets_no_request() {
    spreads(false);
}

#[test]
fn spread_keys_behind_hops_do_the_same_where_failures_are_repeated_elsewhere() {
    spreads(true);
}

fn spreads(has_hops: bool) {
    for binary in binaries() {
        let keyed = Keyed::start(&binary, has_hops);
        let keys = format!("key0\", \"file:{}key1\"]", keyed.stage.path("").display());
        keyed.stage.edit(&keys, &format!("{keys}\nspread = true"));
        // Another structure: one reload.
        let entry = if has_hops { "keyed/s:0" } else { "keyed:0" };
        let has_slots = || keyed.stage.private().admin("show map maps/keys.map").contains(&format!(" {entry} "));
        wait_for("the reload", PATIENCE, || has_slots().then_some(()));
        let worker = keyed.stage.worker();
        let asked = |key: &str| {
            let answers = (0..60).map(|_| keyed.ask());
            let answers: Vec<_> = answers.filter(|(_, id)| !has_hops || id.is_some()).collect();
            assert!(answers.iter().all(|(status, _)| *status == 200), "{}: {answers:?}", binary.version);
            answers.into_iter().filter(|(_, id)| id.as_deref() == Some(key)).count()
        };
        // With hops half of the requests go to the other server, whose one key is its first.
        let second = asked("k2");
        let fair = if has_hops { 4..=28 } else { 12..=48 };
        assert!(fair.contains(&second), "{}: {second} of 60", binary.version);

        let limit = Fault { code: Some(429), retry_after: Some("4".to_owned()), ..Fault::new(FaultKind::Status) };
        keyed.befall(vec![Fault { key: Some(KEYS[1].to_owned()), ..limit }]);
        let serves_second = || {
            let map = keyed.stage.private().admin("show map maps/keys.map");
            map.lines().any(|line| line.contains(" keyed") && line.contains(" k2 "))
        };
        // Clients find out, or a test does.
        let broken = Instant::now();
        wait_for("the second key to get nothing", PATIENCE, || {
            keyed.ask();
            (!serves_second()).then_some(())
        });
        println!("{}: out after {} ms", binary.version, broken.elapsed().as_millis());
        assert_eq!(asked("k2"), 0);
        assert_eq!((keyed.key("k2")["state"].as_str(), keyed.stage.worker()), (Some("cooling"), worker));
        keyed.befall(vec![]);
        wait_for("the second key again", PATIENCE, || serves_second().then_some(()));
        assert!(asked("k2") > 0 && keyed.stage.worker() == worker);
        assert!(keyed.keys().iter().all(|key| key["is_active"] == true), "{:?}", keyed.keys());
        keyed.assert_nobody_sees_a_key();
    }
}

#[test]
fn an_agent_starts_though_a_key_file_is_missing_and_the_key_that_serves_goes_on() {
    for binary in binaries() {
        let said = binary.version.to_string();
        let mut stage = Stage::running(&binary, |file| file);
        let worker = stage.worker();
        stage.agent().kill();
        fs_err::rename(stage.path("key"), stage.path("key.away")).expect("a rename");
        stage.start_agent();
        stage.wait_for_health();
        let problems = stage.json(&["status"])["problems"].to_string();
        assert!(problems.contains(&stage.path("key").display().to_string()), "{said}: {problems}");
        assert!(!problems.contains(KEY) && !stage.agent_said(KEY), "{said}");
        assert_eq!(get(&stage.address, "/v1/models").expect("an answer").status, 200, "{said}");
        // A server that breaks now goes out, and an edit waits for the file.
        stage.break_mock("b", vec![Fault::status(500)]);
        wait_for("b to go out", LENIENT, || (stage.server_status("b")["health"] == "unhealthy").then_some(()));
        stage.mend_mock("b");
        stage.edit("weight = 100 # c", "weight = 50 # c");
        pause(Duration::from_secs(2));
        assert_eq!(stage.weight("c"), stage.weight("a"), "{said}");
        fs_err::rename(stage.path("key.away"), stage.path("key")).expect("a rename");
        wait_for("the file to serve", LENIENT, || {
            let problems = stage.json(&["status"])["problems"].to_string();
            (!problems.contains("key") && stage.weight("c") < stage.weight("a")).then_some(())
        });
        assert_eq!(stage.worker(), worker, "{said}");
    }
}
