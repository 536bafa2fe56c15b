//! `usage` as an operator asks: from the files alone, with no agent and no HAProxy.

use crate::support::process::{Finished, run};
use crate::support::{agent, write};
use camino::Utf8Path;
use hapilot::store::save_usage;
use hapilot::usage::{Amounts, Hour, OpenUsage, Row, UsageHour, UsageKey};

fn hour(ago: i64, client: &str, model: &str, nano_usd: u64) -> UsageHour {
    let key = UsageKey {
        client: client.to_owned(),
        plan: "free".to_owned(),
        server: "chat/a".to_owned(),
        model: model.to_owned(),
    };
    let amounts =
        Amounts { requests: 1, counted: 1, estimated: 1, prompt: 10, nano_usd, unpriced: 2, ..Amounts::default() };
    UsageHour { hour: Hour(Hour::of(jiff::Timestamp::now()).0 - ago), rows: vec![Row { key, amounts }] }
}

#[test]
fn who_used_what_is_told_from_the_files_in_every_form() {
    let held = tempfile::tempdir().expect("a directory");
    let dir = Utf8Path::from_path(held.path()).expect("UTF-8");
    let file = dir.join("hapilot.toml");
    write(&file, format!("[node]\nstate = \"{dir}/state\"\n"));
    let asked = |words: &[&str]| -> Finished {
        let mut command = agent::command(&[&["-c", file.as_str(), "usage"], words].concat());
        command.env("COLUMNS", "80");
        run(command, agent::LIMIT)
    };
    let told = |words: &[&str]| {
        let said = asked(words);
        assert!(said.code == Some(0), "{words:?}: {}{}", said.stdout, said.stderr);
        (said.stdout, said.stderr.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let (none, note) = told(&[]);
    assert!(none.is_empty() && note.contains("nothing was used since"), "{none}{note}");

    let open = OpenUsage { hour: hour(1, "beta", "m\u{1b}[2J", 20_000_000), ..OpenUsage::default() };
    let closed = [hour(600, "old", "m", 1), hour(2, "acme", "=1", 1_500_000_000), hour(1, "beta", "m", 1)];
    save_usage(&dir.join("state"), &closed, &open).expect("usage is kept");
    let (table, note) = told(&[]);
    let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines[..4],
        [
            "CLIENT REQUESTS PROMPT CACHED COMPLETION USD",
            "acme 1 10 0 0 1.50",
            "beta 1 10 0 0 0.02",
            "TOTAL 2 20 0 0 1.52"
        ]
    );
    assert!(table.contains("2 of 2 answers") && table.contains("for 4 tokens") && note.is_empty(), "{table}{note}");
    assert!(table.lines().all(|line| line.len() <= 80), "{table}");
    assert!(told(&["--since", "2020-01-01"]).0.contains("\nold "));
    assert!(told(&["--by", "model"]).0.contains("m\\u{1b}[2J"));

    let (csv, note) = told(&["--csv", "--by", "model", "--client", "acme"]);
    assert_eq!(csv, "model,requests,prompt,cached,completion,usd\n'=1,1,10,0,0,1.500000000\n");
    assert!(note.contains("1 of 1 answer ") && note.contains("for 2 tokens"), "{note}");
    let (json, note) = told(&["--json", "--by", "client,model"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["rows"][1]["model"], &json["total"]["nano_usd"]), (&"m\u{1b}[2J".into(), &1_520_000_000.into()));
    assert!(note.is_empty(), "{note}");

    let (nothing, note) = told(&["--client", "acne"]);
    assert!(nothing.is_empty() && note.contains("did you mean acme?"), "{nothing}{note}");
    fs_err::write(dir.join("state/usage").join(format!("{}.json", closed[1].hour)), "{").expect("damage");
    let (table, note) = told(&[]);
    assert!(!table.contains("acme") && note.contains("is damaged or unreadable, and is left out"), "{table}{note}");

    for wrong in [&["--csv", "--json"][..], &["--since", "25d"], &["--by", "month"]] {
        assert_eq!(asked(wrong).code, Some(2), "{wrong:?}");
    }
    let said = agent::run(&["-c", file.as_str(), "--json", "usage", "--csv"]);
    assert!(said.code == Some(2) && said.stderr.contains("take one of them"), "{}", said.stderr);
}
