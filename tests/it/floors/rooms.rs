//! The rooms of the agent: directories that stand on floors of their own.

use crate::floors::paths::{expand, is_path};
use crate::floors::source::{Token, sources, test_files, tokens, without_tests};
use std::collections::{BTreeMap, BTreeSet};

/// From the ground up; rooms of one floor do not know each other.
const ROOMS: [&[&str]; 9] = [
    &["tell"],
    &["sources"],
    &["outcome", "files", "probes"],
    &["history", "vip", "judge"],
    &["file", "apply", "alert"],
    &["orders", "steering"],
    &["node"],
    &["picture"],
    &["run"],
];
/// A type with more methods than this does more than one thing.
const MAX_METHODS: usize = 60;

/// The agent's files, without what only tests compile: the path from `agent/` on, and its tokens.
fn files() -> Vec<(String, Vec<Token>)> {
    let all = sources();
    let tests = test_files(&all);
    let is_test = |name: &str| tests.iter().any(|test| name == test || name.starts_with(&format!("{test}/")));
    let agents = all.iter().filter(|(name, _)| !is_test(name));
    let files: Vec<_> = agents
        .filter_map(|(name, text)| Some((name.strip_prefix("agent/")?.to_owned(), without_tests(&tokens(text)))))
        .filter(|(name, _)| name != "mod.rs")
        .collect();
    assert!(files.len() > 50, "src/agent is read");
    files
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or(file)
}

/// The paths below the agent that a file names, each as words: `["history", "ledger", "Ledger"]`.
fn named(file: &str, tokens: &[Token]) -> Vec<Vec<String>> {
    let mut above: Vec<String> = file.trim_end_matches(".rs").split('/').map(ToOwned::to_owned).collect();
    above.pop();
    if file.ends_with("/mod.rs") {
        above.pop();
    }
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let path = match &tokens[at] {
            Token::Word(word) if word == "crate" && begins(tokens, at, "agent") => {
                expand(tokens, at + 6).into_iter().collect::<Vec<_>>()
            }
            Token::Word(word) if word == "super" && is_path(tokens, at + 1) && !climbs(tokens, at) => {
                let below = expand(tokens, at + 3).into_iter();
                below.map(|path| above.iter().cloned().chain(path).collect()).collect()
            }
            _ => continue,
        };
        found.extend(path);
    }
    found
}

/// `crate::agent::`
fn begins(tokens: &[Token], at: usize, module: &str) -> bool {
    is_path(tokens, at + 1) && tokens.get(at + 3).is_some_and(|token| token.is(module)) && is_path(tokens, at + 4)
}

/// It is not the beginning of the path, as in `pub(super)`, or in `self::super::a`.
fn climbs(tokens: &[Token], at: usize) -> bool {
    at > 0 && tokens[at - 1] == Token::Sign(':')
}

#[test]
fn a_room_of_the_agent_names_only_rooms_on_a_lower_floor() {
    let floor = |room: &str| ROOMS.iter().position(|rooms| rooms.contains(&room));
    let mut wrong = Vec::new();
    for (file, tokens) in files() {
        let own = room(&file);
        let Some(height) = floor(own) else {
            wrong.push(format!("src/agent/{file}: `{own}` is no room"));
            continue;
        };
        for path in named(&file, &tokens) {
            let other = path[0].as_str();
            match floor(other) {
                None => wrong.push(format!("src/agent/{file}: `{other}` is no room: name where it is")),
                Some(theirs) if other != own && theirs >= height => {
                    wrong.push(format!("src/agent/{file}: is on floor {height} and names `{other}` on floor {theirs}"));
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_of_the_agent_name_each_other_in_a_circle() {
    let files = files();
    let module = |file: &str| file.trim_end_matches(".rs").trim_end_matches("/mod").to_owned();
    let known: BTreeSet<String> = files.iter().map(|(file, _)| module(file)).collect();
    let mut names: BTreeMap<String, BTreeSet<String>> =
        known.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
    for (file, tokens) in &files {
        for path in named(file, tokens) {
            // The longest beginning of the path that is a file.
            let lengths = (1..=path.len()).rev();
            let found = lengths.map(|length| path[..length].join("/")).find(|name| known.contains(name));
            let own = module(file);
            // A room's face hands on what its files have.
            let is_face = |name: &str| own.starts_with(&format!("{name}/")) || name.starts_with(&format!("{own}/"));
            names.entry(own.clone()).or_default().extend(found.filter(|name| *name != own && !is_face(name)));
        }
    }
    // Whoever names nobody that is left, goes; who stays is in a circle, or above one.
    while let Some(leaf) = names.iter().find(|(_, named)| named.is_empty()).map(|(name, _)| name.clone()) {
        names.remove(&leaf);
        names.values_mut().for_each(|named| {
            named.remove(&leaf);
        });
    }
    assert!(names.is_empty(), "in a circle, or above one: {names:#?}");
}

/// The types of a file, and those that it gives methods, with how many.
fn types(tokens: &[Token]) -> (Vec<String>, Vec<(String, usize)>) {
    let (mut defined, mut methods) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 && (word == "struct" || word == "enum") => {
                if let Some(Token::Word(name)) = tokens.get(at + 1) {
                    defined.push(name.clone());
                }
            }
            // And not the type of an argument.
            Token::Word(word) if depth == 0 && word == "impl" && is_item(tokens, at) => {
                let end = at + tokens[at..].iter().position(|token| *token == Token::Sign('{')).unwrap_or(0);
                let head = &tokens[at + 1..end];
                if head.iter().any(|token| token.is("for")) {
                    continue;
                }
                let mut angles = 0_i32;
                let name = head.iter().rev().find_map(|token| match token {
                    Token::Sign('>') => {
                        angles += 1;
                        None
                    }
                    Token::Sign('<') => {
                        angles -= 1;
                        None
                    }
                    Token::Word(word) if angles == 0 => Some(word.clone()),
                    _ => None,
                });
                methods.extend(name.map(|name| (name, count(&tokens[end..]))));
            }
            _ => {}
        }
    }
    (defined, methods)
}

fn is_item(tokens: &[Token], at: usize) -> bool {
    at == 0 || matches!(tokens[at - 1], Token::Sign('}' | ';' | ']'))
}

/// The functions of a block, without those within them.
fn count(block: &[Token]) -> usize {
    let (mut depth, mut found) = (0_usize, 0);
    for token in block {
        match token {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => depth -= 1,
            Token::Word(word) if depth == 1 && word == "fn" => found += 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

#[test]
fn a_type_of_the_agent_has_its_methods_in_its_own_room_and_not_too_many() {
    let files = files();
    let mut homes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, tokens) in &files {
        for name in types(tokens).0 {
            homes.entry(name).or_default().insert(room(file).to_owned());
        }
    }
    let (mut wrong, mut counts) = (Vec::new(), BTreeMap::<String, usize>::new());
    for (file, tokens) in &files {
        for (name, methods) in types(tokens).1 {
            match homes.get(&name) {
                Some(rooms) if rooms.contains(room(file)) => *counts.entry(name).or_default() += methods,
                _ => wrong.push(format!("src/agent/{file}: methods of `{name}`, which is of another room")),
            }
        }
    }
    assert!(counts.values().sum::<usize>() > 300, "methods are found: {counts:?}");
    let many = counts.iter().filter(|(_, count)| **count > MAX_METHODS);
    wrong.extend(many.map(|(name, count)| format!("`{name}` has {count} methods, more than {MAX_METHODS}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_and_methods_are_found() {
    let text = "use crate::agent::history::{ledger::{Ledger, told}, trial}; use super::Node;\n\
                pub(super) fn a() { crate::agent::Refusal::new() }\n\
                impl<'a, T: Into<B>> Thing<'a, T> { fn a() { fn inner() {} } pub(in crate::agent) async fn b() {} }\n\
                impl Display for Thing { fn c() {} }";
    let paths: Vec<String> = named("node/word.rs", &tokens(text)).iter().map(|path| path.join("::")).collect();
    let wanted = ["history::ledger::Ledger", "history::ledger::told", "history::trial", "node::Node", "Refusal::new"];
    assert_eq!(paths, wanted);
    assert_eq!(types(&tokens(text)).1, [("Thing".to_owned(), 2)]);
    let face = named("steering/mod.rs", &tokens("use super::sources::place::Sources;"));
    assert_eq!(face, [["sources", "place", "Sources"]]);
}
