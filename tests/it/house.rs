//! House rules that neither the compiler nor clippy knows.

use super::floors::source::{Token, sources, tokens};
use std::path::{Path, PathBuf};

/// A file above it needs to be split.
const LONGEST_FILE: usize = 600;
/// Beyond any text of this project: fixtures and pictures are not searched.
const LARGEST_TEXT: u64 = 1 << 20;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "src/{name} has {lines} lines, above {LONGEST_FILE}: split it");
        assert!(text.starts_with("//!"), "src/{name} does not begin with what it knows (`//!`)");
    }
}

#[test]
fn nothing_is_allowed_away_or_left_to_do() {
    for (name, text) in sources() {
        if let Some(mark) = forbidden(&tokens(&text)) {
            panic!("src/{name} has {mark}");
        }
    }
}

/// The first thing that stays out of the sources.
fn forbidden(tokens: &[Token]) -> Option<&'static str> {
    tokens.iter().enumerate().find_map(|(at, token)| {
        let next = tokens.get(at + 1);
        match token {
            Token::Word(word) if word == "allow" && at > 0 && tokens[at - 1] == Token::Sign('[') => {
                Some("`#[allow(…)]`: use `#[expect(…, reason = …)]`")
            }
            Token::Word(word) if next == Some(&Token::Sign('!')) => match word.as_str() {
                "todo" => Some("`todo!`"),
                "unimplemented" => Some("`unimplemented!`"),
                "dbg" => Some("`dbg!`"),
                _ => None,
            },
            _ => None,
        }
    })
}

#[test]
fn a_mark_is_found_in_code_and_not_in_words() {
    for bad in ["#[allow(dead_code)] fn a() {}", "#![allow(x)]", "fn a() { todo!() }", "fn a() { dbg!(1); }"] {
        assert!(forbidden(&tokens(bad)).is_some(), "{bad}");
    }
    for good in ["fn allow() { a[allow_me]; }", "// todo!()", "let a = \"todo!()\";", "fn todo() {}"] {
        assert_eq!(forbidden(&tokens(good)), None, "{good}");
    }
}

/// Where words for people are made or laid out; and where the words of another library are shortened.
const WORDING: [&str; 4] = ["agent/tell/refusal.rs", "cli/error_text.rs", "cli/pieces.rs", "model/pattern.rs"];

#[test]
fn what_only_a_debug_build_has_is_asked_for_by_debug_builds_alone() {
    let mut users = 0;
    for (name, text) in sources().into_iter().filter(|(name, _)| name != "sys/fault.rs") {
        // The measurements of `scripts/measure` are tests of a release build.
        for test in text.split("#[test]").filter(|test| test.contains("sys::fault::{Fault, watch}")) {
            users += 1;
            assert!(test.trim_start().starts_with("#[cfg(debug_assertions)]"), "src/{name}: {test:.80}");
        }
    }
    assert!(users > 0);
}

#[test]
fn a_refusal_is_data_and_put_into_words_in_one_place() {
    for (name, text) in sources().iter().filter(|(name, _)| !WORDING.contains(&name.as_str())) {
        if let Some(words) = ready_made(&tokens(text)) {
            panic!("src/{name} has {words:?}: make a `Refusal`, and let nobody look at its words");
        }
    }
}

/// The first string that is a refusal already, or a part of one.
fn ready_made(tokens: &[Token]) -> Option<&str> {
    tokens.iter().find_map(|token| match token {
        Token::Text(text) if text.starts_with("error:") || text.starts_with("help:") || text.contains("  help: ") => {
            Some(text.as_str())
        }
        _ => None,
    })
}

#[test]
fn a_ready_made_refusal_is_found() {
    for bad in [r#"let a = "error: no";"#, r#"a.starts_with("error:")"#, r#"let a = "no\n  help: yes";"#] {
        assert!(ready_made(&tokens(bad)).is_some(), "{bad}");
    }
    for good in [r#"let a = "no error: none";"#, "// error: no", r#"Refusal::new("no").help("yes")"#] {
        assert_eq!(ready_made(&tokens(good)), None, "{good}");
    }
}

#[test]
fn no_text_names_a_place_of_the_machine_it_was_written_on() {
    // In pieces, so that this file does not name them itself.
    let places = [["/wo", "rk/"], ["/var/", "tmp/wt"], [".lib", "rary"], ["/fa", "rm/"]].map(|parts| parts.concat());
    let mut files = Vec::new();
    collect(root(), &mut files);
    assert!(files.len() > 20, "the project has files");
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for place in &places {
            assert!(!text.contains(place.as_str()), "{} names {place}", file.display());
        }
    }
}

/// Every file below a directory, without what git or cargo keep there.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory of the project").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("an entry has a type"));
        let name = entry.file_name();
        if kind.is_dir() && name != "target" && name != ".git" && name != "node_modules" {
            collect(&path, files);
        } else if kind.is_file() && name != ".git" && entry.metadata().is_ok_and(|about| about.len() < LARGEST_TEXT) {
            files.push(path);
        }
    }
}
