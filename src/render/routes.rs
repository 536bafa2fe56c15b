//! Routes as data. The first route of the operator's file that matches wins, whichever map knows it: each entry's value
//! is `ORDER BACKEND`, and the frontend takes the lowest one.
//!
//! A route that looks at who asks or at headers is in a map of its own, which is there where a frontend has such routes.
//!
//! Exact models and prefixes of paths and models are looked up in trees. What is left (a `*` or `?` inside, a path
//! together with a model) are regular expressions that never go back: their cost is linear in at most 256 bytes of model.

use crate::config::{Frontend, Route};
use crate::model::{Name, Sourced};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Whatever is left of a line.
const REST: &str = r"[^\n]*+";

/// Key, and `ORDER BACKEND`.
type Entries = Vec<(String, String)>;

/// The entries of a frontend's maps of routes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Routes {
    /// Begin of the path: the longest key that fits is found.
    pub(super) paths: Entries,
    /// The whole model.
    pub(super) models: Entries,
    /// Begin of the model: the longest key that fits is found.
    pub(super) prefixes: Entries,
    /// Regular expressions on `PATH \n MODEL`: the first that fits is found.
    pub(super) expressions: Entries,
    /// Regular expressions on `CLIENT \n PLAN \n HEADER \n … PATH \n MODEL`.
    pub(super) callers: Entries,
}

/// What one route asks of a request, for one of its paths and one of its models.
struct Wish<'a> {
    path: Option<&'a str>,
    model: Option<&'a str>,
    order: usize,
    backend: &'a Name,
}

impl Routes {
    /// Of a frontend's routes in their order.
    pub(super) fn of(frontend: &Frontend) -> Self {
        let (routes, headers) = (&frontend.routes, frontend.route_headers());
        let mut all = Self::default();
        let (mut paths, mut prefixes) = (Vec::new(), Vec::new());
        for (order, route) in routes.iter().enumerate() {
            let caller = route.looks_at_caller().then(|| caller(route, &headers));
            // No condition of a kind means any.
            for path in alternatives(route.path.iter().map(|path| path.value.as_str())) {
                for model in models(route) {
                    let wish = Wish { path, model, order, backend: &route.backend.value };
                    if let Some(caller) = &caller {
                        all.callers.push((format!("^{caller}{}", wish.fitting()), wish.value()));
                        continue;
                    }
                    match (wish.path, wish.model) {
                        (Some(path), None) if is_plain(path) => paths.push((path, wish)),
                        (None, Some(model)) if is_plain(model) && !model.contains(['*', '?']) => {
                            all.models.push((model.to_owned(), wish.value()));
                        }
                        (None, Some(model)) => match model.strip_suffix('*') {
                            Some(prefix) if is_plain(prefix) && !prefix.contains(['*', '?']) => {
                                prefixes.push((prefix, wish));
                            }
                            _ => all.expressions.push((wish.expression(), wish.value())),
                        },
                        _ => all.expressions.push((wish.expression(), wish.value())),
                    }
                }
            }
        }
        all.paths = begins(paths);
        all.prefixes = begins(prefixes);
        // Of two equal names only the first one is ever found.
        let mut seen = BTreeSet::new();
        all.models.retain(|(model, _)| seen.insert(model.clone()));
        all
    }
}

impl Wish<'_> {
    /// Padded, so that orders compare as texts.
    fn value(&self) -> String {
        format!("{:05} {}", self.order, self.backend)
    }

    fn expression(&self) -> String {
        format!("^{}", self.fitting())
    }

    fn fitting(&self) -> String {
        let mut regex = String::new();
        self.path.unwrap_or_default().chars().for_each(|c| push_literal(&mut regex, c));
        match self.model {
            None => {}
            Some("") => regex.push_str(r"[^\n]*+\n$"),
            Some(glob) => {
                regex.push_str(r"[^\n]*+\n");
                push_glob(&mut regex, glob);
            }
        }
        regex
    }
}

/// What a route asks for of the lines that stand before path and model. Each line is taken once: nothing goes back behind
/// it.
fn caller(route: &Route, headers: &BTreeSet<&str>) -> String {
    let lines = [&route.client, &route.plan].into_iter().map(|globs| line(globs));
    let of_headers = headers.iter().map(|name| route.header.get(*name).map_or_else(|| line(&[]), |globs| line(globs)));
    lines.chain(of_headers).collect()
}

/// One line that any of the globs fits; without any, whatever it is.
fn line(globs: &[Sourced<String>]) -> String {
    if globs.is_empty() {
        return format!("{REST}\\n");
    }
    let fitting: Vec<String> = globs.iter().map(|glob| whole_line(&glob.value)).collect();
    format!("(?>{})", fitting.join("|"))
}

/// A glob on a whole line, which has no line break in it; `?` is one byte.
fn whole_line(glob: &str) -> String {
    let mut regex = String::new();
    let push = |regex: &mut String, part: &str| {
        for c in part.chars() {
            match c {
                '?' => regex.push_str(r"[^\n]"),
                c => push_literal(regex, c),
            }
        }
    };
    let mut parts = glob.split('*');
    push(&mut regex, parts.next().unwrap_or_default());
    let mut rest: Vec<&str> = parts.collect();
    if let Some(last) = rest.pop() {
        for part in rest.iter().filter(|part| !part.is_empty()) {
            regex.push_str("(?>[^\\n]*?");
            push(&mut regex, part);
            regex.push(')');
        }
        match last {
            // A lone star: any, but one.
            "" if glob.bytes().all(|byte| byte == b'*') => regex.push_str(r"[^\n]++"),
            "" => regex.push_str(REST),
            last => {
                regex.push_str(r"[^\n]*");
                push(&mut regex, last);
            }
        }
    }
    regex.push_str(r"\n");
    regex
}

/// Each backend that requests of this frontend may go to, once.
pub(super) fn reached(frontend: &Frontend) -> Vec<&Sourced<Name>> {
    let mut reached: Vec<&Sourced<Name>> = Vec::new();
    for name in frontend.leads_to() {
        if !reached.contains(&name) {
            reached.push(name);
        }
    }
    reached
}

fn alternatives<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Option<&'a str>> {
    let some: Vec<_> = values.map(Some).collect();
    if some.is_empty() { vec![None] } else { some }
}

/// The globs of a route; the empty one stands for requests without a model.
fn models(route: &Route) -> Vec<Option<&str>> {
    let globs = route.model.iter().map(|model| model.value.as_str());
    alternatives(globs.chain(route.no_model.then_some("")))
}

/// A glob on models as an expression for one plan: `PLAN/MODEL`.
pub(super) fn model_expression(plan: &str, glob: &str) -> String {
    let mut regex = String::from("^");
    plan.chars().chain(['/']).for_each(|c| push_literal(&mut regex, c));
    push_glob(&mut regex, glob);
    regex
}

/// Whether a text can stand as a key in a map's file, where a blank ends it and `#` begins a comment.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('#') && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// The tree gives the longest key that fits. So each key carries the first route of all whose keys it begins with.
fn begins(wishes: Vec<(&str, Wish<'_>)>) -> Entries {
    let mut first: BTreeMap<&str, &Wish<'_>> = BTreeMap::new();
    for (key, wish) in &wishes {
        first.entry(key).or_insert(wish);
    }
    let best = |key: &str| {
        let ends = key.char_indices().map(|(at, c)| at + c.len_utf8());
        ends.filter_map(|end| first.get(&key[..end])).min_by_key(|wish| wish.order)
    };
    first.keys().filter_map(|key| Some(((*key).to_owned(), best(key)?.value()))).collect()
}

/// A glob on a name, from its begin.
pub(super) fn name_expression(glob: &str) -> String {
    let mut regex = String::new();
    push_glob(&mut regex, glob);
    regex
}

/// A glob as an expression without backtracking: each part between two stars is taken where it comes first, for good.
fn push_glob(regex: &mut String, glob: &str) {
    let parts: Vec<&str> = glob.split('*').collect();
    let Some((first, rest)) = parts.split_first() else { return };
    push_part(regex, first);
    let Some((last, middle)) = rest.split_last() else {
        regex.push('$');
        return;
    };
    for part in middle.iter().filter(|part| !part.is_empty()) {
        regex.push_str("(?>.*?");
        push_part(regex, part);
        regex.push(')');
    }
    if !last.is_empty() {
        regex.push_str(".*");
        push_part(regex, last);
        regex.push('$');
    } else if parts.iter().all(|part| part.is_empty()) {
        // A lone star: any model, but one.
        regex.push('.');
    }
}

fn push_part(regex: &mut String, part: &str) {
    for c in part.chars() {
        match c {
            // One character, which may be several bytes.
            '?' => regex.push_str(r"[^\x80-\xbf][\x80-\xbf]*+"),
            c => push_literal(regex, c),
        }
    }
}

fn push_literal(regex: &mut String, c: char) {
    match c {
        c if c.is_ascii_alphanumeric() || "/_-~%:@=,;!\"'&<>".contains(c) => regex.push(c),
        // Metacharacters; a backslash before any other punctuation means nothing either.
        c if c.is_ascii_punctuation() => regex.extend(['\\', c]),
        // Byte by byte: HAProxy compares bytes.
        c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
            // Writing to a string cannot fail.
            let _ = write!(regex, r"\x{byte:02x}");
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Routes, Wish, whole_line};
    use crate::config::{Frontend, Route};
    use crate::model::{Name, Sourced};

    fn expression(path: Option<&str>, model: Option<&str>) -> String {
        Wish { path, model, order: 0, backend: &Name::new("b").unwrap() }.expression()
    }

    #[test]
    fn globs_become_expressions_that_never_go_back() {
        for (path, model, expected) in [
            (Some("/a b"), None, r"^/a\x20b"),
            (None, Some("*-8b"), r"^[^\n]*+\n.*-8b$"),
            (None, Some("*-*-*instruct*"), r"^[^\n]*+\n(?>.*?-)(?>.*?-)(?>.*?instruct)"),
            (Some("/v1"), Some("gpt-4.1"), r"^/v1[^\n]*+\ngpt-4\.1$"),
            (Some("/v1"), Some("a**b"), r"^/v1[^\n]*+\na.*b$"),
            (None, Some("*"), r"^[^\n]*+\n."),
            (None, Some(""), r"^[^\n]*+\n$"),
            (None, Some(r"m?[x]^$|{2}\#"), r"^[^\n]*+\nm[^\x80-\xbf][\x80-\xbf]*+\[x\]\^\$\|\{2\}\\\#$"),
            (None, Some("ü*x"), r"^[^\n]*+\n\xc3\xbc.*x$"),
        ] {
            assert_eq!(expression(path, model), expected);
            assert!(!expected.contains(char::is_whitespace));
        }
    }

    #[test]
    fn a_glob_on_a_line_never_leaves_it() {
        for (glob, expected) in [
            ("acme", r"acme\n"),
            ("team-*", r"team-[^\n]*+\n"),
            ("*", r"[^\n]++\n"),
            ("*-eu", r"[^\n]*-eu\n"),
            ("a*b**c?", r"a(?>[^\n]*?b)[^\n]*c[^\n]\n"),
            ("a b|c", r"a\x20b\|c\n"),
        ] {
            assert_eq!(whole_line(glob), expected);
        }
    }

    fn texts(texts: &[&str]) -> Vec<Sourced<String>> {
        texts.iter().map(|text| Sourced::default_value((*text).to_owned())).collect()
    }

    fn route(path: &[&str], model: &[&str], backend: &str) -> Route {
        let backend = Sourced::default_value(Name::new(backend).unwrap());
        let (path, model) = (texts(path), texts(model));
        Route { path, model, no_model: false, client: vec![], plan: vec![], header: [].into(), backend }
    }

    /// The only frontend of a file, with these routes.
    fn routes_of(routes: Vec<Route>) -> Routes {
        let file = "[frontend.api]\nbind = [\"*:80\"]\n[backend.chat.server.one]\nurl = \"http://192.0.2.1\"\n";
        let config = crate::config::parse("f", file, "lb1").unwrap();
        let api: &Frontend = &config.frontends[0];
        Routes::of(&Frontend { routes, ..api.clone() })
    }

    #[test]
    fn a_route_by_who_asks_is_one_entry_and_in_no_other_map() {
        let header = [("x-tenant".to_owned(), texts(&["blue", "green-*"]))].into();
        let routes = routes_of(vec![
            Route { client: texts(&["acme", "team-*"]), ..route(&["/v1"], &["gpt-4o"], "a") },
            Route { plan: texts(&["premium"]), header, ..route(&[], &[], "b") },
            route(&["/v1"], &[], "c"),
        ]);
        let of = |entries: &[(String, String)]| {
            entries.iter().map(|(key, value)| format!("{key} → {value}")).collect::<Vec<_>>()
        };
        assert_eq!(
            of(&routes.callers),
            [
                r"^(?>acme\n|team-[^\n]*+\n)[^\n]*+\n[^\n]*+\n/v1[^\n]*+\ngpt-4o$ → 00000 a",
                r"^[^\n]*+\n(?>premium\n)(?>blue\n|green-[^\n]*+\n) → 00001 b"
            ]
        );
        assert_eq!(of(&routes.paths), ["/v1 → 00002 c"]);
        assert!(routes.models.is_empty() && routes.prefixes.is_empty() && routes.expressions.is_empty());
    }

    #[test]
    fn the_first_route_wins_also_where_a_later_one_fits_longer() {
        let routes = routes_of(vec![
            route(&["/v1/chat"], &[], "a"),
            route(&["/v1"], &[], "b"),
            route(&["/v1/embeddings"], &[], "c"),
            route(&[], &["gpt-4o", "gpt-*"], "d"),
            route(&[], &["gpt-4*", "gpt-4o"], "e"),
            route(&["/x"], &["y"], "f"),
            route(&[], &["a b", "#c"], "g"),
        ]);
        let of = |entries: &[(String, String)]| {
            entries.iter().map(|(key, value)| format!("{key} → {value}")).collect::<Vec<_>>()
        };
        assert_eq!(of(&routes.paths), ["/v1 → 00001 b", "/v1/chat → 00000 a", "/v1/embeddings → 00001 b"]);
        assert_eq!(of(&routes.models), ["gpt-4o → 00003 d"]);
        assert_eq!(of(&routes.prefixes), ["gpt- → 00003 d", "gpt-4 → 00003 d"]);
        assert_eq!(
            of(&routes.expressions),
            [r"^/x[^\n]*+\ny$ → 00005 f", r"^[^\n]*+\na\x20b$ → 00006 g", r"^[^\n]*+\n\#c$ → 00006 g"]
        );
    }
}
