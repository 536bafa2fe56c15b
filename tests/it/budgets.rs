//! Budgets of money: what answers cost by the prices in the file is counted exactly, in HAProxy and in the ledger, over
//! deaths of the agent, reloads and restarts; and a budget bites.

use super::clients::{ask, client, key, message};
use super::support::haproxy::{Binary, binaries};
use super::support::http::{Reply, Request};
use super::support::stage::Stage;
use super::support::{PATIENCE, wait_for};

const CHAT: &str = "/v1/chat/completions";
/// Of the prompt and of the answer, by the mock's own count.
const PROMPT: u64 = 9;
const COMPLETION: u64 = 16;
const HELLO: &str = r#"{"model":"mock-small","messages":[{"role":"user","content":"hello"}]}"#;
const HELLO_STREAMED: &str = r#"{"model":"mock-small","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;

/// What HAProxy's counters say that a client has spent, in billionths of a dollar.
fn counted(stage: &Stage, of: &str) -> u64 {
    let table = stage.private().admin(&format!("show table limit:client key {of}"));
    let cell = |number: u32| -> u64 {
        let name = format!(" gpc{number}=");
        let at = table.find(&name).unwrap_or_else(|| panic!("no counter {number}: {table}")) + name.len();
        table[at..].split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number")
    };
    (0..5).map(|digit| cell(4 + digit) << (6 * digit)).sum()
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
            assert_eq!(refused.header("x-should-retry").as_deref(), Some("false"), "{said}");
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
    }
}
