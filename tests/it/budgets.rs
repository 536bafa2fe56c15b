//! Budgets of money: what answers cost by the prices in the file is counted exactly, in HAProxy and in the ledger, over
//! deaths of the agent, reloads and restarts; and a budget bites.

use super::clients::{ask, client, key, message};
use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Reply, Request};
use super::support::stage::{SERVERS, Stage};
use super::support::{PATIENCE, pause, wait_for};
use super::tokens::{counter, odd_stage, shape_of};
use hapilot::mock::{Fault, FaultKind};
use hapilot::usage::{Amounts, MADE_UP, OpenUsage, UsageHour};
use std::collections::BTreeMap;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
/// Of the prompt and of the answer, by the mock's own count.
const PROMPT: u64 = 9;
const COMPLETION: u64 = 16;
const HELLO: &str = r#"{"model":"mock-small","messages":[{"role":"user","content":"hello"}]}"#;
const HELLO_STREAMED: &str = r#"{"model":"mock-small","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;

/// What HAProxy's counters say that a client has spent, in billionths of a dollar.
fn counted(stage: &Stage, of: &str) -> u64 {
    let entry = format!("test/{of}");
    let cell = counter(stage, "limit:money", &entry);
    (0..5).map(|digit| cell(digit) << (6 * digit)).sum()
}

fn chat(stage: &Stage, of: &str, body: &str) -> Reply {
    ask(stage, &Request::post(CHAT, body).header("Authorization", &format!("Bearer {}", key(of))))
}

/// Dollars a million for a prompt and an answer: 2.5 and 10.
const COST: u64 = PROMPT * 2_500 + COMPLETION * 10_000;
const PRICE: &str = "[[price]]\nmodel = \"mock-*\"\ninput = 2.5\noutput = 10\n";

fn stage(binary: &Binary, more: &str) -> Stage {
    Stage::running(binary, |file| file + "\n" + more)
}

/// Asks until it is refused; how many times it was not.
fn until_refused(stage: &Stage, of: &str, body: &str) -> (u64, Reply) {
    for passed in 0.. {
        let reply = chat(stage, of, body);
        if reply.status != 200 || passed > 20 {
            return (passed, reply);
        }
        wait_for("the count", PATIENCE, || (counted(stage, of) >= (passed + 1) * COST).then_some(()));
    }
    unreachable!("it returns")
}

#[test]
fn a_budget_bites_within_one_request_and_nobody_else_feels_it() {
    for binary in binaries() {
        let said = format!("{}", binary.version);
        let usd = 3.5 * COST as f64 / 1e9;
        let usd = format!("{usd:.6}");
        let text = format!(
            "{PRICE}[plan.small]\nbudget = {{ usd = {usd} }}\n[plan.daily]\nbudget = {{ usd = {usd}, per = \"day\" }}\n\
             [plan.cheap]\nbudget = {{ usd = {usd} }}\nonly = [\"cheap-*\", \"mock-tiny\"]\n\
             [plan.told]\nbudget = {{ usd = {usd}, when_spent = \"pass\" }}\n{}{}{}{}{}",
            client("acme", "small"),
            client("other", "small"),
            client("daily", "daily"),
            client("cheap", "cheap"),
            client("told", "told"),
        );
        let stage = stage(&binary, &text);
        for (of, body) in [("acme", HELLO), ("daily", HELLO_STREAMED)] {
            let (passed, refused) = until_refused(&stage, of, body);
            assert_eq!((passed, refused.status), (4, 429), "{said}: {}", refused.text());
            assert!(message(&refused).contains("budget is spent"), "{said}: {}", refused.text());
            assert_eq!(refused.header("x-should-retry"), Some("false"), "{said}");
            let wait: i64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
            let most = if of == "daily" { 86_400 } else { 31 * 86_400 };
            assert!((1..=most).contains(&wait), "{said}: {wait}");
            assert!(refused.text().contains("\"insufficient_quota\""), "{said}: {}", refused.text());
            assert_eq!(counted(&stage, of), 4 * COST, "{said}");
        }
        assert_eq!(chat(&stage, "other", HELLO).status, 200, "{said}");
        let (passed, refused) = until_refused(&stage, "cheap", HELLO);
        assert_eq!((passed, refused.status), (4, 429), "{said}: {}", refused.text());
        assert!(message(&refused).contains("this model is not among those"), "{said}: {}", refused.text());
        let cheap = chat(&stage, "cheap", &HELLO.replace("mock-small", "mock-tiny"));
        assert_ne!(cheap.status, 429, "{said}: {}", cheap.text());
        for _ in 0..6 {
            assert_eq!(chat(&stage, "told", HELLO).status, 200, "{said}");
        }
        // An edit is live at once, without a reload, and what was spent stays spent.
        let worker = stage.worker();
        let more = format!("{:.6}", 4.5 * COST as f64 / 1e9);
        let small = format!("[plan.small]\nbudget = {{ usd = {usd} }}");
        let edited = stage.edit(&small, &small.replace(&usd, &more));
        stage.effect("a larger budget", edited, |stage| chat(stage, "acme", HELLO).status == 200);
        wait_for("the count", PATIENCE, || (counted(&stage, "acme") == 5 * COST).then_some(()));
        assert_eq!(chat(&stage, "acme", HELLO).status, 429, "{said}");
        let edited = stage.edit("input = 2.5\noutput = 10", "input = 0\noutput = 0.001");
        stage.effect("another price", edited, |stage| {
            let before = counted(stage, "told");
            assert_eq!(chat(stage, "told", HELLO).status, 200, "{said}");
            wait_for("its cost", PATIENCE, || Some(counted(stage, "told")).filter(|now| *now > before)) - before
                == COMPLETION
        });
        assert_eq!(stage.worker(), worker, "{said}");
    }
}

/// What the ledger on disk has, all hours together, by client and model.
fn ledger(stage: &Stage) -> BTreeMap<(String, String), Amounts> {
    let mut sums: BTreeMap<_, Amounts> = BTreeMap::new();
    let directory = stage.path("state").join("usage");
    let Ok(entries) = fs_err::read_dir(directory) else { return sums };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if !path.to_string_lossy().ends_with(".json") {
            continue;
        }
        let text = fs_err::read_to_string(&path).expect("a file");
        let hour: UsageHour = match path.ends_with("open.json") {
            true => serde_json::from_str::<OpenUsage>(&text).expect("JSON").hour,
            false => serde_json::from_str(&text).expect("JSON"),
        };
        for row in hour.rows {
            *sums.entry((row.key.client, row.key.model)).or_default() += row.amounts;
        }
    }
    sums
}

#[test]
fn the_ledger_has_each_request_once_though_the_agent_is_killed_and_haproxy_reloaded() {
    for binary in binaries() {
        let said = format!("{}", binary.version);
        let text = format!(
            "[[price]]\nmodel = \"mock-small\"\ninput = 2.5\noutput = 10\n[[price]]\nmodel = \"mock-l*\"\ninput = 0.0375\noutput = 7.123456\n\
             [plan.rich]\nbudget = {{ usd = 1000 }}\n{}{}",
            client("acme", "rich"),
            client("other", "rich"),
        );
        let mut stage = stage(&binary, &text);
        let address = stage.address.clone();
        let (threads, rounds) = (4_u64, 120_u64);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..threads)
                .map(|thread| {
                    let (of, address) = (if thread % 2 == 0 { "acme" } else { "other" }, &address);
                    scope.spawn(move || {
                        for round in 0..rounds {
                            let model = if round % 3 == 0 { "mock-large" } else { "mock-small" };
                            let body = if (round + thread) % 2 == 0 { HELLO } else { HELLO_STREAMED };
                            let body = body.replace("mock-small", model);
                            let request = Request::post(CHAT, &body).header("x-api-key", &key(of));
                            let reply = Connection::open(address).and_then(|mut open| open.send(&request));
                            let reply = reply.expect("an answer");
                            assert_eq!(reply.status, 200, "{}", reply.text());
                            pause(Duration::from_millis(5));
                        }
                    })
                })
                .collect();
            // While they ask, the agent dies again and again; once HAProxy is reloaded.
            for death in 0..6 {
                pause(Duration::from_millis(150));
                stage.agent().kill();
                pause(Duration::from_millis(50 * death));
                stage.begin_agent();
                if death == 3 {
                    stage.agent().wait_for_output("serving");
                    stage.edit("[plan.rich]", "[plan.also]\nconcurrent = 100\n[plan.rich]");
                    stage.agent().wait_for_output("revision 2 serves");
                    // So long a line of the worker before may stand in its ring alone.
                    pause(Duration::from_secs(1));
                }
            }
            clients.into_iter().for_each(|client| client.join().expect("a client"));
        });
        // A third of the rounds, rounded up, is for the large one.
        let large = rounds.div_ceil(3);
        let requests = |model: &str| 2 * if model == "mock-large" { large } else { rounds - large };
        let cost = |model: &str| match model {
            // 9 × 37,500 + 16 × 7,123,456 trillionths.
            "mock-large" => (PROMPT * 37_500 + COMPLETION * 7_123_456 + 500) / 1000,
            _ => COST,
        };
        let total = || ledger(&stage).values().map(|amounts| amounts.requests).sum::<u64>();
        wait_for("the whole ledger", PATIENCE, || (total() >= threads * rounds).then_some(()));
        let found = ledger(&stage);
        assert_eq!(found.len(), 4, "{said}: {found:?}");
        for ((of, model), amounts) in &found {
            let requests = requests(model);
            let expected = (requests, requests, 0, requests * cost(model));
            let got = (amounts.requests, amounts.counted, amounts.estimated, amounts.nano_usd);
            assert_eq!(got, expected, "{said}: {of} {model} {amounts:?}");
        }
    }
}

#[test]
fn what_was_spent_outlives_a_restart_of_haproxy_and_is_forgiven_by_command() {
    for binary in binaries() {
        let said = format!("{}", binary.version);
        let usd = format!("{:.6}", 3.5 * COST as f64 / 1e9);
        let mut stage = stage(&binary, &format!("{PRICE}[plan.small]\nbudget = {{ usd = {usd} }}\n"));
        let clients = stage.path("clients.toml");
        fs_err::write(&clients, client("acme", "small")).expect("a file of clients");
        let named = format!("clients = {:?}\n{}", clients.display(), stage.text());
        stage.write_file(&named);
        wait_for("the client", PATIENCE, || (chat(&stage, "acme", HELLO).status == 200).then_some(()));
        assert_eq!(chat(&stage, "acme", HELLO).status, 200, "{said}");
        let told = |cost: u64| {
            let row = format!(" {cost} 0");
            wait_for("what was spent", PATIENCE, || {
                stage.read("maps/spent.map").lines().any(|line| line.ends_with(&row)).then_some(())
            });
        };
        told(2 * COST);
        stage.end_haproxy();
        stage.start_haproxy();
        // Its own counters begin anew.
        for _ in 0..2 {
            assert_eq!(chat(&stage, "acme", HELLO).status, 200, "{said}");
        }
        wait_for("the count", PATIENCE, || (counted(&stage, "acme") == 2 * COST).then_some(()));
        assert_eq!(chat(&stage, "acme", HELLO).status, 429, "{said}");
        let listed = stage.json(&["client", "list"]);
        wait_for("the list", PATIENCE, || {
            let listed = stage.json(&["client", "list"]);
            (listed[0]["budget"]["spent_nano_usd"] == 4 * COST).then_some(())
        });
        assert_eq!(listed[0]["budget"]["per"], "month", "{said}: {listed}");
        let events = || -> Vec<serde_json::Value> {
            let events = stage.done(&["--json", "events", "--subject", "client/acme"]);
            let all = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
            all.filter(|event| event["kind"] == "budget").collect()
        };
        let told = wait_for("an event", PATIENCE, || Some(events()).filter(|told| !told.is_empty()));
        assert!(told[0]["text"].as_str().is_some_and(|text| text.contains("has spent its budget")), "{said}: {told:?}");
        stage.done(&["client", "forgive", "acme"]);
        assert_eq!(chat(&stage, "acme", HELLO).status, 200, "{said}");
        wait_for("the list", PATIENCE, || {
            let listed = stage.json(&["client", "list"]);
            (listed[0]["budget"]["spent_nano_usd"] == COST).then_some(())
        });
        // Also for an agent that begins anew.
        stage.agent().kill();
        stage.start_agent();
        for _ in 0..3 {
            assert_eq!(chat(&stage, "acme", HELLO).status, 200, "{said}");
        }
        wait_for("the count", PATIENCE, || (counted(&stage, "acme") == 6 * COST).then_some(()));
        assert_eq!(chat(&stage, "acme", HELLO).status, 429, "{said}");
    }
}

#[test]
fn what_no_line_told_is_made_up_from_haproxys_counters() {
    for binary in binaries() {
        let said = format!("{}", binary.version);
        let text = format!("{PRICE}[plan.rich]\nbudget = {{ usd = 1 }}\n{}", client("acme", "rich"));
        let mut stage = stage(&binary, &text);
        // A worker of 2.6 hands nothing over in its first seconds.
        pause(Duration::from_secs(if binary.version.major < 3 { 6 } else { 0 }));
        assert_eq!(chat(&stage, "acme", HELLO).status, 200, "{said}");
        let spent = |stage: &Stage| -> u64 { ledger(stage).values().map(|amounts| amounts.nano_usd).sum() };
        wait_for("the first one", PATIENCE, || (spent(&stage) == COST).then_some(()));
        // The worker whose ring has the next ones is gone before an agent comes back.
        stage.agent().kill();
        for _ in 0..3 {
            assert_eq!(chat(&stage, "acme", HELLO).status, 200, "{said}");
        }
        wait_for("the count", PATIENCE, || (counted(&stage, "acme") == 4 * COST).then_some(()));
        let before = stage.worker();
        stage.private().reload();
        wait_for("another worker", PATIENCE, || (stage.worker() != before).then_some(()));
        wait_for("what it was told", PATIENCE, || {
            let table = stage.private().admin("show table limit:money");
            table.contains("key=test/acme").then_some(())
        });
        assert_eq!(counted(&stage, "acme"), 4 * COST, "{said}");
        stage.start_agent();
        wait_for("what is made up", PATIENCE, || (spent(&stage) == 4 * COST).then_some(()));
        assert_eq!(ledger(&stage)[&("acme".to_owned(), MADE_UP.to_owned())].nano_usd, 3 * COST, "{said}");
    }
}

#[test]
fn a_stream_that_outlives_a_reload_is_paid_and_its_client_refused() {
    for binary in binaries() {
        let said = format!("{}", binary.version);
        let usd = format!("{:.6}", COST as f64 / 1e9);
        let text = format!("{PRICE}[plan.small]\nbudget = {{ usd = {usd} }}\n{}", client("acme", "small"));
        let mut stage = stage(&binary, &text);
        for server in SERVERS {
            stage.break_mock(server, vec![Fault { rate: Some(10.0), ..Fault::new(FaultKind::Rate) }]);
        }
        let mut connection = Connection::open(&stage.address).expect("a connection");
        let request = Request::post(CHAT, HELLO_STREAMED).header("x-api-key", &key("acme"));
        let mut stream = connection.stream(&request).expect("a stream");
        stream.next_piece().expect("a piece");
        stage.edit("[plan.small]", "[plan.also]\nconcurrent = 100\n[plan.small]");
        stage.agent().wait_for_output("revision 2 serves");
        while stream.next_piece().is_ok_and(|piece| piece.is_some()) {}
        drop(connection);
        wait_for("the ledger", PATIENCE, || {
            let paid: u64 = ledger(&stage).values().map(|amounts| amounts.nano_usd).sum();
            (paid == COST).then_some(())
        });
        // A worker of 2.6 hands nothing over in its first seconds: the next one begins with what the ledger says.
        let row_end = if binary.version.major < 3 { format!(" {COST} 0") } else { format!(" 0 {COST}") };
        for server in SERVERS {
            stage.mend_mock(server);
        }
        wait_for("a refusal", PATIENCE, || {
            let row = stage.private().admin("show map maps/spent.map");
            row.trim().lines().any(|line| line.ends_with(&row_end)).then_some(())
        });
        let refused = chat(&stage, "acme", HELLO);
        assert_eq!(refused.status, 429, "{said}: {}", refused.text());
    }
}

#[test]
fn no_name_makes_a_model_cheaper() {
    for binary in binaries() {
        let said = format!("{}", binary.version);
        let text = format!(
            "[[price]]\nmodel = \"mini\"\ninput = 1\noutput = 1\n[[price]]\nmodel = \"big-*\"\ninput = 20\noutput = 20\n\
             [[price]]\nmodel = \"*\"\ninput = 50\noutput = 50\n[[price]]\nmodel = \"own\"\nserver = \"odd/o\"\ninput = 3\noutput = 3\n\
             [plan.paying]\nbudget = {{ usd = 1000 }}\n{}",
            client("acme", "paying")
        );
        let stage = odd_stage(&binary, &text);
        let (name, shape) = shape_of("openai");
        // 42 tokens.
        let mut sum = 0;
        for (model, nano) in [
            ("mini", 1_000),
            ("mini|x", 50_000),
            ("mini-x", 50_000),
            ("big-1", 20_000),
            ("own", 3_000),
            ("own|", 50_000),
        ] {
            let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
            let request = Request::post(CHAT, &body).header("x-api-key", &key("acme")).header(name, &shape);
            let reply = ask(&stage, &request);
            if reply.status == 400 {
                // Such a name is none that can be read.
                continue;
            }
            assert_eq!(reply.status, 200, "{said} {model}: {}", reply.text());
            sum += 42 * nano;
            wait_for("the cost", PATIENCE, || (counted(&stage, "acme") >= sum).then_some(()));
            assert_eq!(counted(&stage, "acme"), sum, "{said} {model}");
        }
    }
}

#[test]
fn another_plan_for_a_client_that_asks_all_the_time_is_no_new_budget() {
    for binary in binaries() {
        let said = format!("{}", binary.version);
        let usd = format!("{:.6}", 30.5 * COST as f64 / 1e9);
        let text = format!(
            "{PRICE}[plan.daily]\nbudget = {{ usd = {usd}, per = \"day\" }}\n[plan.monthly]\nbudget = {{ usd = {usd} }}\n{}",
            client("acme", "daily")
        );
        let stage = stage(&binary, &text);
        for _ in 0..10 {
            assert_eq!(chat(&stage, "acme", HELLO).status, 200, "{said}");
        }
        wait_for("what was spent", PATIENCE, || {
            stage.private().admin("show map maps/spent.map").contains(&format!(" {} 0 ", 10 * COST)).then_some(())
        });
        // It asks while its plan becomes another one, and back.
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let passed = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut passed = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    passed += u64::from(chat(&stage, "acme", HELLO).status == 200);
                    pause(Duration::from_millis(20));
                }
                passed
            });
            for (from, to) in [("daily", "monthly"), ("monthly", "daily"), ("daily", "monthly")] {
                stage.edit(&format!("plan = \"{from}\""), &format!("plan = \"{to}\""));
                wait_for("the other plan", PATIENCE, || {
                    stage.private().admin("show map maps/clients.map").contains(&format!(" {to}")).then_some(())
                });
                pause(Duration::from_millis(300));
            }
            pause(Duration::from_secs(1));
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            asking.join().expect("the client")
        });
        // What it had spent in the moments before each change is not in the map yet.
        assert!((20..60).contains(&passed), "{said}: {passed}");
        wait_for("what is made up", PATIENCE, || (chat(&stage, "acme", HELLO).status == 429).then_some(()));
    }
}

#[test]
fn what_cannot_be_written_down_is_told_and_kept_until_it_can() {
    let binary = &binaries()[0];
    let text = format!("{PRICE}[plan.rich]\nbudget = {{ usd = 1 }}\n{}", client("acme", "rich"));
    let stage = stage(binary, &text);
    // A file where the directory should be.
    let directory = stage.path("state").join("usage");
    wait_for("the first look", PATIENCE, || {
        assert_eq!(chat(&stage, "acme", HELLO).status, 200);
        directory.join("open.json").exists().then_some(())
    });
    fs_err::remove_dir_all(&directory).expect("the directory goes");
    fs_err::write(&directory, "").expect("a file");
    assert_eq!(chat(&stage, "acme", HELLO).status, 200);
    let told = |stage: &Stage| stage.cli(&["status"]).stdout.contains("what clients use is not written down");
    wait_for("the trouble", PATIENCE, || told(&stage).then_some(()));
    fs_err::remove_file(&directory).expect("the file goes");
    wait_for("the end of the trouble", PATIENCE, || (!told(&stage)).then_some(()));
    let spent = || ledger(&stage).values().map(|amounts| amounts.nano_usd).sum::<u64>();
    wait_for("all of it", PATIENCE, || (spent() == counted(&stage, "acme")).then_some(()));
    assert!(spent() >= 2 * COST);
}
