//! A module names only modules on a lower floor. The table is the one of ARCHITECTURE.md.

mod paths;
mod rooms;
pub mod source;

use paths::{Named, named};
use source::{sources, test_files};

/// The floors from the ground up; modules of one floor do not know each other.
const FLOORS: [&[&str]; 12] = [
    &["model"],
    &["cfg", "health", "rollout", "usage", "event"],
    &["weights", "keys", "vip", "traffic", "alerts"],
    &["config"],
    &["desired"],
    &["render", "fleet"],
    &["plan"],
    &["sys"],
    &["haproxy", "heartbeat", "keepalived", "network", "probe", "store", "alert", "mock"],
    &["agent"],
    &["api"],
    &["cli"],
];

/// Modules that know less than their floor would let them, and what they know.
const NARROW: [(&str, &[&str]); 2] = [("cfg", &[]), ("sys", &["model"])];

/// Files above all floors.
const ROOTS: [&str; 2] = ["lib.rs", "main.rs"];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// The module that a file of src belongs to: `config` for `config.rs`, `config/mod.rs` and `config/raw/tls.rs`.
fn module(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// What one file does against the rule.
fn violations(file: &str, text: &str) -> Vec<String> {
    let own = module(file);
    let Some(height) = floor(own) else { return vec![format!("src/{file}: `{own}` has no floor")] };
    let narrow = NARROW.iter().find(|(module, _)| *module == own).map(|(_, known)| *known);
    // `super` leads out of the module from `own.rs` and `own/mod.rs`.
    let at_door = file == format!("{own}.rs") || file == format!("{own}/mod.rs");
    let judge = |named| match named {
        Named::Refused(why) => Some(why),
        Named::Module(other) if other == own => None,
        Named::Module(other) => match floor(&other) {
            None => Some(format!("names `{other}`, which has no floor")),
            Some(theirs) if theirs >= height => {
                Some(format!("is on floor {height} and names `{other}` on floor {theirs}"))
            }
            Some(_) if narrow.is_some_and(|known| !known.contains(&other.as_str())) => {
                Some(format!("may know {narrow:?} only and names `{other}`"))
            }
            Some(_) => None,
        },
    };
    named(text, at_door).into_iter().filter_map(judge).map(|why| format!("src/{file}: {why}")).collect()
}

#[test]
fn a_module_names_only_modules_on_a_lower_floor() {
    let sources = sources();
    assert!(sources.len() > 10, "src is read");
    let tests = test_files(&sources);
    let found: Vec<String> = sources
        .iter()
        .filter(|(name, _)| !ROOTS.contains(&name.as_str()))
        .filter(|(name, _)| !tests.iter().any(|test| name == test || name.starts_with(&format!("{test}/"))))
        .flat_map(|(name, text)| violations(name, text))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_stays_below_is_fine() {
    let sources = [
        ("plan/mod.rs", "use crate::model::Weight; use crate::{desired::Desired, render::{Rendered, self as r}};"),
        ("plan/step.rs", "use super::observed::Observed; fn a() -> crate::plan::Plan { crate::model::x() }"),
        ("plan.rs", "pub(in crate::plan) fn a() {} pub(crate) fn b() {}"),
        ("weights.rs", "// use crate::cli;\n/* crate::api /* crate::cli */ crate::cli */ use crate::health::State;"),
        (
            "weights.rs",
            "//! See [`crate::agent`].\nconst A: &str = \"crate::cli\"; const B: &str = r#\"\"crate::cli\"#;",
        ),
        ("weights.rs", "fn a<'a>(x: &'a str) { let c = '\\''; let d = '\"'; } // crate::cli \" '"),
        ("weights.rs", "#[cfg(test)]\nmod tests { use crate::cli::Run; use super::super::cli; }"),
        ("weights.rs", "#[cfg(test)] #[derive(Debug)] struct A { b: crate::cli::B }\n#[cfg(test)] use crate::cli;"),
        ("weights.rs", "#[cfg(all(test, unix))] fn a() { crate::cli::b(); }"),
        ("weights.rs", "mod inner { use super::Weight; }"),
        ("store/mod.rs", "use crate::sys::replace_file; use crate::plan::Plan;"),
        ("sys/files.rs", "use crate::model::Digest;"),
        ("cli/run.rs", "use crate::{agent::{self, Agent}, api};"),
    ];
    for (file, text) in sources {
        assert_eq!(violations(file, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_looks_up_or_sideways_is_found() {
    let sources = [
        ("model/name.rs", "use crate::config::Config;"),
        ("plan/mod.rs", "use crate::{model::Weight, haproxy::Socket};"),
        ("plan/mod.rs", "use crate::{model::{Weight, Digest}, render::Rendered, sys::{files::{a, b}}};"),
        ("plan/mod.rs", "use ::std::{a, b}; use crate::{\n    model,\n    agent as other,\n};"),
        ("plan/mod.rs", "fn a() { let x = crate :: agent :: now(); }"),
        ("plan/mod.rs", "macro_rules! a { () => { $crate::agent::b() } }"),
        ("haproxy/mod.rs", "use crate::store::Revision;"),
        ("probe/http.rs", "use crate::mock::Fault;"),
        ("vip.rs", "use crate::weights::Explained;"),
        ("sys/files.rs", "use crate::config::Config;"),
        ("weights.rs", "use super::cli::Run;"),
        ("config/mod.rs", "use super::{model, cli::Run};"),
        ("config/mod.rs", "use self::super::cli::Run;"),
        ("config/raw/tls.rs", "use super::super::Config;"),
        ("config/raw.rs", "mod a { fn b() { super::super::c() } }"),
        ("config/raw.rs", "use crate::*;"),
        ("config/raw.rs", "use crate::{self as all};"),
        ("config/raw.rs", "use crate as all;"),
        ("config/raw.rs", "extern crate self as all;"),
        ("config/raw.rs", "use hapilot::cli::Run;"),
        ("config/mod.rs", "use super::*;"),
        ("config/raw.rs", "use crate::nowhere::A;"),
        ("nowhere.rs", ""),
        ("weights.rs", "#[cfg(test)] fn a() { if b { c() } }\nuse crate::cli;"),
        ("weights.rs", "#[cfg(not(test))] use crate::cli;"),
        ("weights.rs", "const A: char = '\"'; use crate::cli; const B: char = '\"';"),
        ("weights.rs", "const A: &[u8] = b\"\\\"\"; use crate::cli;"),
    ];
    for (file, text) in sources {
        assert_eq!(violations(file, text).len(), 1, "{file}: {text}: {:?}", violations(file, text));
    }
}

#[test]
fn a_file_that_only_tests_compile_is_known() {
    let sources = [
        ("plan/mod.rs", "#[cfg(test)]\nmod tests;\nmod step;"),
        ("plan/step.rs", "#[cfg(test)] mod cases;\n#[cfg(test)] #[path = \"x.rs\"] pub mod y;"),
        ("weights.rs", "#[cfg(test)] mod table { }"),
    ];
    let sources: Vec<(String, String)> =
        sources.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let files = test_files(&sources);
    for file in ["plan/tests", "plan/tests.rs", "plan/step/cases", "plan/step/cases.rs", "plan/x.rs"] {
        assert!(files.iter().any(|known| known == file), "{file}: {files:?}");
    }
    assert!(!files.iter().any(|known| known.contains("step.rs") || known.contains("table")), "{files:?}");
}
