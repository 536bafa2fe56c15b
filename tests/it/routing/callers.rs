//! Routes by client, plan and header: random ones and random requests, hostile ones among them, judged by a second, simple
//! reading of the same rules and by a running HAProxy of every version.

use super::table::is_match;
use super::{MOST_CPU, ask, cpu, middle, number, upstream};
use crate::clients::{client, key};
use crate::haproxies::HaproxyBinary;
use crate::model_lists::{list, names};
use crate::sample::set;
use crate::support::chance::Chance;
use crate::support::haproxy::binaries;
use crate::support::port::free_port;
use crate::support::stage::{Stage, swapped};
use crate::traffic::{Serving, bind, on_every_haproxy, serve};
use hapilot::config::parse;
use std::fmt::Write as _;
use std::time::Duration;

/// Files and, for each, requests that are sent to each version.
const FILES: u64 = 6;
const REQUESTS: u64 = 250;

const CLIENTS: [(&str, &str); 6] = [
    ("acme", "premium"),
    ("acme2", "free"),
    ("team-a", "premium"),
    ("team-b", "free"),
    ("x.y_z", "pre-paid"),
    ("other", "free"),
];
const CLIENT_GLOBS: [&str; 9] = ["acme", "acme?", "team-*", "*", "*-b", "x.y*z", "x?y_z", "nobody", "?t*r"];
const PLAN_GLOBS: [&str; 6] = ["premium", "free", "pre-paid", "pre*", "*", "*e*m*"];
const HEADERS: [&str; 3] = ["x-tenant", "x-region", "user-agent"];
const VALUES: [&str; 12] =
    ["blue", "green-1", "green-", "Blue", "a b", "eu|us", "100%", "x.*y", "[a]", "aaab", "blue, green-1", "\"a,b\""];
const VALUE_GLOBS: [&str; 11] =
    ["blue", "green-*", "*", "?lue", "a b", "*|*", "100%", "x.\\*y", "[a]", "*a*a*b", "\"a,b\""];
const MODELS: [&str; 4] = ["gpt-4o", "gpt-4o-mini", "claude-1", "m"];
const MODEL_GLOBS: [&str; 4] = ["gpt-4o", "gpt-*", "*-mini", "claude-?"];
const PATHS: [&str; 4] = ["/v1/chat/completions", "/v1/embeddings", "/v1/chat", "/other"];
const PATH_BEGINS: [&str; 3] = ["/v1/chat", "/v1", "/other"];

#[derive(Debug, Default)]
struct Wanted {
    path: Vec<&'static str>,
    model: Vec<&'static str>,
    no_model: bool,
    client: Vec<&'static str>,
    plan: Vec<&'static str>,
    header: Vec<(&'static str, Vec<&'static str>)>,
}

/// What is asked: a client and its plan, the values of each header line by line, a path and perhaps a model.
#[derive(Debug)]
struct Asked {
    client: (&'static str, &'static str),
    header: Vec<(String, String)>,
    path: &'static str,
    model: Option<&'static str>,
}

fn some(chance: &mut Chance, of: &[&'static str], once_in: u64) -> Vec<&'static str> {
    if !chance.one_in(once_in) {
        return vec![];
    }
    let mut some: Vec<&str> = (0..=chance.below(2)).map(|_| *chance.pick(of)).collect();
    some.dedup();
    some
}

impl Wanted {
    fn generate(chance: &mut Chance, by_model: bool) -> Self {
        loop {
            let header = HEADERS.iter().map(|name| (*name, some(chance, &VALUE_GLOBS, 3)));
            let wanted = Self {
                header: header.filter(|(_, values)| !values.is_empty()).collect(),
                path: some(chance, &PATH_BEGINS, 3),
                model: if by_model { some(chance, &MODEL_GLOBS, 3) } else { vec![] },
                no_model: by_model && chance.one_in(8),
                client: some(chance, &CLIENT_GLOBS, 3),
                plan: some(chance, &PLAN_GLOBS, 4),
            };
            let Self { header, path, model, client, plan, no_model } = &wanted;
            let empty = [path, model, client, plan].iter().all(|list| list.is_empty());
            if !(empty && header.is_empty() && !no_model) {
                return wanted;
            }
        }
    }

    fn toml(&self, backend: &str) -> String {
        let mut text = String::from("{ ");
        let lists = [("path", &self.path), ("model", &self.model), ("client", &self.client), ("plan", &self.plan)];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            write!(text, "{key} = {list:?}, ").unwrap();
        }
        if self.no_model {
            text.push_str("no_model = true, ");
        }
        if !self.header.is_empty() {
            let all: Vec<String> = self.header.iter().map(|(name, values)| format!("{name:?} = {values:?}")).collect();
            write!(text, "header = {{ {} }}, ", all.join(", ")).unwrap();
        }
        text + &format!("backend = {backend:?} }}")
    }

    fn takes(&self, asked: &Asked) -> bool {
        let any = |globs: &[&str], text: &str| globs.is_empty() || globs.iter().any(|glob| is_match(glob, text));
        let of_header =
            |(name, globs): &(&str, Vec<&str>)| one_value(asked, name).is_some_and(|value| any(globs, value));
        let by_model = !self.model.is_empty() || self.no_model;
        let fits_model = match asked.model {
            Some(model) => !self.model.is_empty() && any(&self.model, model),
            None => self.no_model,
        };
        (self.path.is_empty() || self.path.iter().any(|begin| asked.path.starts_with(begin)))
            && (!by_model || fits_model)
            && any(&self.client, asked.client.0)
            && any(&self.plan, asked.client.1)
            && self.header.iter().all(of_header)
    }
}

/// The value of a header that has exactly one, of a length and of characters that count.
fn one_value<'a>(asked: &'a Asked, name: &str) -> Option<&'a str> {
    let mut lines = asked.header.iter().filter(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    let (Some(value), None) = (lines.next(), lines.next()) else { return None };
    (!value.contains(',') && (1..=256).contains(&value.len()) && !value.contains(char::is_control)).then_some(value)
}

impl Asked {
    fn generate(chance: &mut Chance, by_model: bool) -> Self {
        let mut header = Vec::new();
        for name in HEADERS {
            for _ in 0..[0, 1, 1, 1, 1, 2][chance.index(6)] {
                let name = if chance.one_in(3) { name.to_ascii_uppercase() } else { name.to_owned() };
                let value = match chance.below(20) {
                    0 => String::new(),
                    1 => "a".repeat(257) + "b",
                    2 => "a".repeat(255) + "b",
                    3 => "green-\tx".to_owned(),
                    4 => "  blue  ".to_owned(),
                    5 => "acme\\nblue".to_owned(),
                    _ => (*chance.pick(&VALUES)).to_owned(),
                };
                header.push((name, value));
            }
        }
        let model = (by_model && !chance.one_in(4)).then(|| *chance.pick(&MODELS));
        Self { client: *chance.pick(&CLIENTS), header, path: *chance.pick(&PATHS), model }
    }

    fn bytes(&self) -> Vec<u8> {
        let body = self.model.map_or_else(|| "{}".to_owned(), |model| format!("{{\"model\":\"{model}\"}}"));
        let headers: String = self.header.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (path, length, key) = (self.path, body.len(), key(self.client.0));
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nx-api-key: {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{headers}Connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// A file with these routes; `b0` is the backend of the first one, and so on.
fn file(address: &str, upstream: &str, routes: &[String]) -> String {
    let mut text =
        format!("[frontend.api]\nbind = [{address:?}]\nbackend = \"rest\"\nroutes = [\n{}\n]\n", routes.join(",\n"));
    for plan in ["premium", "free", "pre-paid"] {
        writeln!(text, "[plan.{plan}]").unwrap();
    }
    for (name, plan) in CLIENTS {
        text += &client(name, plan).replacen(&format!("[client.{name}]"), &format!("[client.{name:?}]"), 1);
    }
    for backend in (0..routes.len()).map(|at| format!("b{at}")).chain(["rest".to_owned()]) {
        write!(text, "[backend.{backend}]\nprovider = \"vllm\"\n[backend.{backend}.server.s]\nurl = {upstream:?}\n")
            .unwrap();
    }
    text
}

fn serve_file(haproxy: &HaproxyBinary, text: &str) -> Serving {
    let mut config = parse("f", text, "lb1").unwrap_or_else(|mistakes| panic!("{}\n{text}", mistakes.render(false)));
    config.haproxy.buffer_bytes = set(32_768);
    serve(haproxy, config)
}

#[test]
fn every_request_goes_by_the_first_route_that_fits_its_client_plan_and_headers() {
    let (seed, files) = (number("HAPILOT_TEST_SEED", 7), number("HAPILOT_TEST_FILES", FILES));
    on_every_haproxy(|haproxy| {
        let upstream = upstream();
        let (mut by_route, mut by_rest) = (0, 0);
        for file_number in 0..files {
            let mut chance = Chance::new(seed << 32 | file_number);
            let by_model = file_number % 2 == 0;
            let mut routes: Vec<(Wanted, String)> = Vec::new();
            while routes.len() < 10 {
                let wanted = Wanted::generate(&mut chance, by_model);
                let toml = wanted.toml(&format!("b{}", routes.len()));
                let condition = |toml: &str| toml.rsplit_once("backend").map(|(begin, _)| begin.to_owned());
                if routes.iter().all(|(_, other)| condition(other) != condition(&toml)) {
                    routes.push((wanted, toml));
                }
            }
            let toml: Vec<String> = routes.iter().map(|(_, toml)| toml.clone()).collect();
            let port = free_port();
            let text = file(&bind(port), &upstream, &toml);
            if parse("f", &text, "lb1").is_err_and(|mistakes| mistakes.iter().all(|one| one.code == "duplicate")) {
                // The same lists in another order.
                continue;
            }
            let _serving = serve_file(haproxy, &text);
            for number in 0..REQUESTS {
                let asked = Asked::generate(&mut chance, by_model);
                let expected = routes.iter().position(|(wanted, _)| wanted.takes(&asked));
                let expected = expected.map_or_else(|| "rest".to_owned(), |at| format!("b{at}"));
                let answer = ask(port, &asked.bytes());
                let what = || format!("{} seed {seed}, file {file_number}, {number}: {asked:?}\n{text}", haproxy.path);
                assert_eq!((answer.status, answer.backend.as_deref()), (200, Some(expected.as_str())), "{}", what());
                *(if expected == "rest" { &mut by_rest } else { &mut by_route }) += 1;
            }
            let nobody =
                ask(port, b"POST /v1/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            assert_eq!(nobody.status, 401, "{}", haproxy.path);
        }
        println!("{}: {by_route} by a route, {by_rest} by none", haproxy.path);
        assert!(by_route > 300 && by_rest > 50, "the generator has become one-sided: {by_route}, {by_rest}");
    });
}

/// As many conditions as a frontend may have, each of them dear, and a request that fits none.
#[test]
fn the_dearest_routes_by_headers_cost_less_than_is_allowed() {
    on_every_haproxy(|haproxy| {
        let names: Vec<String> = (0..8).map(|at| format!("x-h{at}")).collect();
        let routes: Vec<String> = (0..40)
            .map(|at| {
                let of = |name: &String| {
                    let globs: Vec<String> = (0..11).map(|_| format!("*{}b{at}", "a*".repeat(9))).collect();
                    format!("{name:?} = {globs:?}")
                };
                let half: Vec<String> = names[at % 2 * 4..][..4].iter().map(of).collect();
                format!("{{ header = {{ {} }}, backend = \"b{at}\" }}", half.join(", "))
            })
            .collect();
        let port = free_port();
        let serving = serve_file(haproxy, &file(&bind(port), &upstream(), &routes));
        let values: String = names.iter().map(|name| format!("{name}: {}\r\n", "a".repeat(256))).collect();
        let request = format!(
            "POST /v1/chat HTTP/1.1\r\nHost: a\r\nx-api-key: {}\r\nContent-Length: 0\r\n{values}Connection: close\r\n\r\n",
            key("acme")
        );
        let once = || {
            let before = cpu(&serving);
            let answer = ask(port, request.as_bytes());
            assert_eq!(answer.backend.as_deref(), Some("rest"));
            cpu(&serving).saturating_sub(before)
        };
        let cost: Duration = middle([once(), once(), once()]);
        println!("{}: {cost:?}", haproxy.path);
        assert!(cost <= MOST_CPU, "{}: {cost:?}", haproxy.path);
    });
}

/// What routes by client lead to is listed for whom they are meant; another client of a route is no reload.
#[test]
fn lists_of_models_follow_routes_by_client_and_plan_and_an_edit_is_live() {
    for binary in binaries() {
        let version = &binary.version;
        let mut stage = Stage::with_haproxy(&binary, |text| {
            let routes = "routes  = [{ client = [\"team-*\"], model = [\"claude-*\"], backend = \"claude\" }, \
                          { plan = [\"few\"], model = [\"mock-large\"], backend = \"nothing\" }, ";
            let text = swapped(&text, "routes  = [", routes);
            let claude = "[backend.claude]\nprovider = \"anthropic\"\n[backend.claude.check]\nmodels = { expect = [\"claude-new\"] }\n[backend.claude.server.one]\nurl = \"http://127.0.0.1:1\"\n";
            let nothing = "[backend.nothing]\nprovider = \"bedrock\"\n[backend.nothing.check]\nmodels = false\n[backend.nothing.server.one]\nurl = \"http://127.0.0.1:1\"\n";
            let clients = [("team-a", "all"), ("acme", "all"), ("small", "few")];
            let clients: String = clients.iter().map(|(name, plan)| client(name, plan)).collect();
            format!("{text}\n{claude}{nothing}[plan.all]\n[plan.few]\n{clients}")
        });
        stage.start_agent();
        let asked = |stage: &Stage, who: &str, headers: &[(&str, &str)]| {
            let key = key(who);
            let mut names = names(&list(stage, "/v1/models", &[&[("x-api-key", key.as_str())], headers].concat()));
            names.sort();
            names
        };
        let anthropic = [("anthropic-version", "2023-06-01")];
        let all = ["mock-large", "mock-small"];
        crate::support::wait_for("the whole list", crate::support::PATIENCE, || {
            (asked(&stage, "acme", &[]) == all).then_some(())
        });
        assert_eq!(asked(&stage, "team-a", &[]), all, "{version}");
        assert_eq!(asked(&stage, "team-a", &anthropic), ["claude-new"], "{version}");
        assert_eq!(asked(&stage, "small", &[]), ["mock-small"], "{version}: the plan's requests go elsewhere");
        // Of no list of Anthropic's is anything known for it: the servers answer, in their own shape.
        assert_eq!(asked(&stage, "acme", &anthropic), all, "{version}");
        let worker = stage.worker();
        stage.edit("[\"team-*\"]", "[\"acme\"]");
        crate::support::wait_for("the edited list", crate::support::PATIENCE, || {
            (asked(&stage, "acme", &anthropic) == ["claude-new"]).then_some(())
        });
        assert_eq!(asked(&stage, "team-a", &anthropic), all, "{version}");
        assert_eq!(stage.worker(), worker, "{version}");
    }
}
