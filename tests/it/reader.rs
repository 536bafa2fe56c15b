//! The reader of HAProxy's language against real HAProxys: they name the words and sections that it reads.

use crate::haproxies::{HaproxyBinary, directory, installed};
use crate::support::chance::Chance;
use hapilot::cfg;
use std::borrow::Cow;

/// HAProxy tells no more mistakes of one file.
const MOST_TOLD: usize = 40;
/// What words are put together from.
const PIECES: [&str; 36] = [
    "a",
    "b",
    "ä",
    "\"",
    "\"",
    "'",
    "'",
    "\\",
    "\\ ",
    "\\\\",
    "\\#",
    "\\'",
    "\\\"",
    "\\t",
    "\\x41",
    "\\x4",
    "\\q",
    "\\$",
    "#",
    " ",
    "\t",
    "\x0b",
    "\x0c",
    "\r",
    "\"x y\"",
    "'x y'",
    "$",
    "${",
    "}",
    "${A}",
    "$A",
    "\"${A-x\"y}\"",
    ",",
    "\"#\"",
    "'#'",
    "[",
];

const HEAD: &str =
    "defaults\n mode http\n timeout client 1s\n timeout connect 1s\n timeout server 1s\nbackend reader\n";

/// What HAProxy says about a text, line by line.
fn said(haproxy: &HaproxyBinary, text: &str) -> Vec<String> {
    let (_keep, directory) = directory();
    let path = directory.join("haproxy.cfg");
    fs_err::write(&path, text).unwrap();
    let (is_valid, said) = haproxy.check(&path);
    assert!(!is_valid, "taken:\n{text}");
    said.lines().map(str::to_owned).collect()
}

/// What HAProxy says about one line, from 0.
fn said_about(said: &[String], index: usize) -> Option<&String> {
    said.iter().find(|line| line.contains(&format!("haproxy.cfg:{}]", index + 1)))
}

#[test]
fn words_are_those_that_haproxy_reads() {
    let mut chance = Chance::new(7);
    let (mut told, mut refused) = (Vec::new(), Vec::new());
    while told.len() < MOST_TOLD * 10 || refused.len() < 40 {
        let spelt: String = (0..=chance.index(8)).map(|_| *chance.pick(&PIECES)).collect();
        let line = format!(" server s{} 127.0.0.1:1 z{spelt} zz", told.len());
        let word = cfg::words(&line).nth(3).map(|word| word.said.map(Cow::into_owned));
        match word {
            // An empty word is another mistake to newer HAProxys.
            Some(Some(word)) if cfg::words_of(&line).is_some_and(|words| !words.contains(&String::new())) => {
                told.push((line, word));
            }
            // Without a `$` it is no matter of the environment.
            Some(None) if !line.contains('$') => refused.push(line),
            _ => {}
        }
    }
    for haproxy in installed() {
        for batch in told.chunks(MOST_TOLD) {
            let lines: Vec<&str> = batch.iter().map(|(line, _)| line.as_str()).collect();
            let said = said(&haproxy, &format!("{HEAD}{}\n", lines.join("\n")));
            for (at, (line, word)) in batch.iter().enumerate() {
                let about = said_about(&said, HEAD.lines().count() + at);
                let expected = format!("unknown keyword '{word}'");
                assert!(about.is_some_and(|about| about.contains(&expected)), "{line:?}: {word:?}: {about:?}");
            }
        }
        for line in refused.iter().take(40) {
            let said = said(&haproxy, &format!("{HEAD}{line}\n"));
            let about = said_about(&said, HEAD.lines().count());
            let is_refused = about.is_some_and(|about| ["quote", "hexadecimal"].iter().any(|why| about.contains(why)));
            assert!(is_refused, "{line:?}: {about:?}");
        }
    }
}

#[test]
fn sections_are_those_that_haproxy_reads() {
    let mut chance = Chance::new(7);
    let haproxies = installed();
    for _ in 0..10 {
        let mut text = String::new();
        for at in 0..MOST_TOLD {
            let indent = *chance.pick(&["", "", " ", "\t", "\x0b  ", "    "]);
            let keyword = *chance.pick(&[
                "global",
                "defaults",
                "frontend",
                "\"backend\"",
                "li'ste'n",
                "\\x62ackend",
                "# backend",
                "back\\end",
                "zork",
                "zork",
                "zork",
                "",
            ]);
            let name = if keyword == "global" { String::new() } else { format!(" n{at}") };
            let end = *chance.pick(&["\n", "\r\n", " # frontend x\n", "#x\n", "\\\n", "\rglobal\n"]);
            let end = if keyword == "zork" || !end.contains('\\') { end } else { "\n" };
            text.extend([indent, keyword, &name, end]);
        }
        for haproxy in &haproxies {
            let said = said(haproxy, &format!("{text} zork\n"));
            for line in cfg::lines(&text).filter(|line| line.keyword == "zork" || line.keyword == "back\\end") {
                let expected = match line.section.kind {
                    cfg::Kind::Outside => "out of section".to_owned(),
                    kind => format!("in '{}' section", format!("{kind:?}").to_lowercase()),
                };
                let about = said_about(&said, line.index);
                let is_so = about.is_some_and(|about| about.contains(&expected));
                assert!(is_so, "line {}: {expected}: {about:?}\n{text}", line.index);
            }
        }
    }
}
