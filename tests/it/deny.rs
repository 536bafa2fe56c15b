//! Holds deny.toml's bans, licences and sources over what is really built, without a network and without cargo-deny.
//!
//! The graph comes from `cargo tree`: it resolves features as a build does, whereas `cargo metadata` and Cargo.lock
//! also list crates that an optional feature of a dependency names and that are never compiled.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::process::Command;

#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Debug, Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Debug, Deserialize)]
struct Locked {
    name: String,
    source: Option<String>,
}

/// A crate that is compiled for this machine: its name and what it says about its licence.
type Compiled = (String, String);

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).expect(name);
    toml::from_str(&text).expect(name)
}

fn compiled() -> BTreeSet<Compiled> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--edges", "normal,build,dev", "--prefix", "none"])
        .args(["--no-dedupe", "--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(compiled_crate).collect()
}

fn compiled_crate(line: &str) -> Compiled {
    let (package, licence) = line.split_once('|').expect("the format has a bar");
    (package.split(' ').next().unwrap_or_default().to_owned(), licence.to_owned())
}

#[test]
fn nothing_banned_is_compiled() {
    let (deny, compiled) = (read::<Deny>("deny.toml"), compiled());
    assert!(compiled.len() > 50, "the graph is complete: {compiled:?}");
    for banned in deny.bans.deny {
        let found = compiled.iter().any(|(name, _)| *name == banned.name);
        assert!(!found, "{} is banned ({}); see: cargo tree -i {0}", banned.name, banned.reason);
    }
}

#[test]
fn every_licence_is_allowed() {
    let deny = read::<Deny>("deny.toml");
    let bad: Vec<Compiled> =
        compiled().into_iter().filter(|(_, licence)| !satisfied(licence, &deny.licenses.allow)).collect();
    assert!(bad.is_empty(), "licences that deny.toml does not allow: {bad:?}");
}

#[test]
fn everything_comes_from_an_allowed_registry() {
    let allowed = read::<Deny>("deny.toml").sources.allow_registry;
    let bad: Vec<Locked> = read::<Lock>("Cargo.lock")
        .package
        .into_iter()
        .filter(|locked| locked.source.as_deref().map_or(locked.name != "hapilot", |from| !registry(from, &allowed)))
        .collect();
    assert!(bad.is_empty(), "sources that deny.toml does not allow: {bad:?}");
}

fn registry(source: &str, allowed: &BTreeSet<String>) -> bool {
    source.strip_prefix("registry+").is_some_and(|from| allowed.contains(from))
}

/// Whether a choice that an SPDX expression offers consists of allowed licences only. `/` is an old spelling of OR.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut found = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        found |= all_of(words, allowed);
    }
    found
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut all = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        all &= one(words, allowed);
    }
    all
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    match words.next() {
        Some("(") => {
            let inner = any_of(words, allowed);
            words.next_if_eq(&")").is_some() && inner
        }
        Some(name) => match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
            Some(exception) => allowed.contains(&format!("{name} WITH {exception}")),
            None => allowed.contains(name),
        },
        None => false,
    }
}

#[test]
fn an_expression_is_read_as_spdx_means_it() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "ISC"].map(str::to_owned));
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "Unlicense/MIT",
        "ISC AND (Apache-2.0 OR ISC)",
        "(MIT OR GPL-3.0) AND ISC",
        "Apache-2.0 WITH LLVM-exception OR MIT",
    ] {
        assert!(satisfied(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0 WITH LLVM-exception", "(MIT", "MIT)", "MIT MIT", "mit"] {
        assert!(!satisfied(bad, &allowed), "{bad}");
    }
}

#[test]
fn only_a_registry_of_the_list_is_allowed() {
    let allowed = BTreeSet::from(["https://one".to_owned()]);
    assert!(registry("registry+https://one", &allowed));
    assert!(!registry("registry+https://two", &allowed));
    assert!(!registry("git+https://one", &allowed));
}
