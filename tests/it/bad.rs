//! `tests/bad/NAME/`: a file with mistakes, and the whole of what the operator gets to read.
//!
//! `UPDATE=1 cargo test bad` writes what is missing or differs; look at the difference before it is committed. On CI
//! (`CI` is set) that is refused.

use hapilot::config::{Diagnostics, lint, parse};
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(root).expect("tests/bad").map(|entry| entry.expect("entry").path()).collect();
    cases.sort();
    cases
}

fn judge(case: &Path) -> Diagnostics {
    let input = std::fs::read_to_string(case.join("input.toml")).expect("input.toml");
    match parse("hapilot.toml", &input, "lb1") {
        Err(diagnostics) => diagnostics,
        Ok(config) => lint(&config, "hapilot.toml", &input),
    }
}

#[test]
fn every_mistake_is_shown_as_it_was_agreed() {
    let update = std::env::var_os("UPDATE").is_some();
    assert!(!(update && std::env::var_os("CI").is_some()), "UPDATE is for people, not for CI");
    let mut differing = Vec::new();
    for case in cases() {
        let stderr = judge(&case).render(false);
        assert!(!stderr.is_empty(), "{} is a good file", case.display());
        let path = case.join("stderr");
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if stderr == expected {
            continue;
        }
        if update {
            fs_err::write(&path, &stderr).expect("write stderr");
        } else {
            let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
            differing.push(format!("--- {name}: expected\n{expected}\n+++ {name}: found\n{stderr}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn ten_different_mistakes_are_ten_diagnostics() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad/ten-mistakes");
    let diagnostics = judge(&case);
    assert_eq!(diagnostics.len(), 10);
    let mut codes: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 10, "{codes:?}");
}

#[test]
fn no_case_shows_a_secret() {
    for case in cases() {
        let diagnostics = judge(&case);
        let shown = diagnostics.render(true) + &serde_json::to_string(&diagnostics).expect("JSON");
        assert!(!shown.contains("hunter2"), "{}: {shown}", case.display());
    }
}
