//! `docs/configuration.md` and `docs/commands.md` are written from the code, so that they cannot lie.
//!
//! `UPDATE=1` writes them anew.

use clap::{CommandFactory, Parser};
use hapilot::cli::args::{Cli, Command};
use hapilot::config::json_schema;
use serde_json::Value;
use std::fmt::Write;

fn check(file: &str, text: &str) {
    let path = format!("{}/docs/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        assert!(std::env::var_os("CI").is_none(), "UPDATE is for people");
        fs_err::write(&path, text).unwrap();
    }
    let expected = fs_err::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{path} is not what the code says; UPDATE=1 writes it anew");
}

#[test]
fn the_page_on_the_file_says_what_the_schema_says() {
    let mut page = String::from(
        "# The operator's file\n\nEvery section and key, from the schema that the parser reads with \
         (`hapilot schema` prints it for editors). Durations carry a unit (`\"500ms\"`, `\"10s\"`, `\"5m\"`, `\"1h\"`, \
         `\"7d\"`), rates read `\"100/10s\"`, sizes `\"64KiB\"`; a secret is a reference: `env:NAME`, `file:/path` or \
         `credential:NAME`. Unknown keys are mistakes, and `hapilot check` reports all mistakes of a file in one run.\n",
    );
    section(&mut page, "", &json_schema());
    check("configuration.md", &page);
}

/// One table for the plain keys of a section, then its sections.
fn section(page: &mut String, path: &str, schema: &Value) {
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let (tables, keys): (Vec<_>, Vec<_>) = properties.iter().partition(|(_, value)| below(value).is_some());
    if !path.is_empty() {
        let description = schema["description"].as_str().unwrap_or_default();
        write!(page, "\n## `[{path}]`\n\n{description}.\n").unwrap();
    }
    if !keys.is_empty() {
        page.push_str("\n| Key | Values | Meaning |\n| --- | --- | --- |\n");
        for (name, value) in keys {
            let meaning = value["description"].as_str().unwrap_or_default().replace('|', "\\|");
            writeln!(page, "| `{name}` | {} | {meaning} |", values(value)).unwrap();
        }
    }
    for (name, value) in tables {
        let (inner, is_named) = below(value).unwrap();
        let dot = if path.is_empty() { "" } else { "." };
        let title = if is_named { format!("{name}.NAME") } else { name.clone() };
        section(page, &format!("{path}{dot}{title}"), inner);
        // What stands beside the names of the operator's.
        for (beside, value) in value["properties"].as_object().into_iter().flatten().filter(|_| is_named) {
            let (inner, _) = below(value).unwrap();
            section(page, &format!("{path}{dot}{name}.{beside}.NAME"), inner);
        }
    }
}

/// The table below a key, and whether its tables have names of the operator's.
fn below(value: &Value) -> Option<(&Value, bool)> {
    let of_choices = value["anyOf"].as_array().into_iter().flatten().find(|choice| choice["properties"].is_object());
    if let Some(table) = of_choices {
        return Some((table, false));
    }
    if value["additionalProperties"]["properties"].is_object() {
        return Some((&value["additionalProperties"], true));
    }
    value["properties"].is_object().then_some((value, false))
}

fn values(value: &Value) -> String {
    if let Some(words) = value["enum"].as_array() {
        return words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(words) = value["anyOf"][0]["enum"].as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return format!("{}, or a name of your own", words.join(", "));
    }
    let kind = match value["type"].as_str() {
        Some("integer") => match (value["minimum"].as_i64(), value["maximum"].as_i64()) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => "whole number".to_owned(),
        },
        Some("number") => "number".to_owned(),
        Some("boolean") => "true, false".to_owned(),
        Some("array") => "list".to_owned(),
        Some("object") => "table".to_owned(),
        _ => "text".to_owned(),
    };
    match value["examples"][0] {
        Value::Null => kind,
        Value::String(ref example) => format!("{kind}, such as `\"{example}\"`"),
        ref example => format!("{kind}, such as `{example}`"),
    }
}

#[test]
fn the_page_on_the_commands_says_what_help_says() {
    let mut page = String::from(
        "# The command line\n\nExit codes: 0 done, 1 refused or unhealthy, 2 usage or configuration mistake, 70 a bug \
         of hapilot. `--json` has a stable shape: fields are only ever added.\n",
    );
    let mut command = Cli::command().term_width(100).color(clap::ColorChoice::Never);
    command.build();
    help(&mut page, &mut command, "");
    check("commands.md", &page);
}

fn help(page: &mut String, command: &mut clap::Command, above: &str) {
    let name = format!("{above}{}", command.get_name());
    let text = command.render_help().to_string();
    let text: String = text.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    write!(page, "\n## `{name}`\n\n```text\n{text}```\n").unwrap();
    for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set()) {
        help(page, inner, &format!("{name} "));
    }
}

#[test]
fn what_the_makefile_and_the_mocks_page_print_works() {
    let makefile = include_str!("../../Makefile");
    let (_, example) = makefile.split_once("for example ARGS=\"").expect("an example");
    let (example, _) = example.split_once('"').expect("its end");
    let words = ["hapilot", "demo"].into_iter().chain(example.split(' '));
    let parsed = Cli::try_parse_from(words);
    assert!(parsed.is_ok(), "{example}: {parsed:?}");
    let Command::Mock(mock) = Cli::parse_from(["hapilot", "mock"]).command else { panic!("it is the mock") };
    let control = format!("http://127.0.0.1:{}/_mock", mock.listen.port() + 1);
    assert!(include_str!("../../docs/mock.md").contains(&control), "{control}");
}
