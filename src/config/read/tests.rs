//! What good files mean, and that no file makes the reader fall over.

use super::context::Context;
use super::table::TableReader;
use super::{parse, parse_for_node, peek, read};
use crate::config::money::Price;
use crate::config::schema::{ROOT, Section, ValueKind};
use crate::config::source::SourceText;
use crate::config::types::Config;
use crate::health::BudgetLimits;
use crate::model::{Affinity, Balance, Name};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;
use toml::de::DeTable;

const SMALLEST: &str = "\
[frontend.api]
bind = [\"*:8080\"]
[backend.chat.server.one]
url = \"http://localhost:8000\"
";

/// Every key that exists, each with a right value.
const FULL: &str = include_str!("full.toml");

fn good(text: &str) -> Config {
    parse("hapilot.toml", text, "lb1").unwrap_or_else(|diagnostics| panic!("{}", diagnostics.render(false)))
}

fn codes(text: &str) -> Vec<&'static str> {
    match parse("hapilot.toml", text, "lb1") {
        Ok(_) => Vec::new(),
        Err(diagnostics) => diagnostics.iter().map(|diagnostic| diagnostic.code).collect(),
    }
}

#[test]
fn the_smallest_file_has_good_defaults() {
    let config = good(SMALLEST);
    assert_eq!(config.node.name.as_str(), "lb1");
    assert_eq!(config.node.name.origin, None);
    assert_eq!(config.haproxy.buffer_bytes.value, 32_768);
    let backend = &config.backends[0];
    assert_eq!(config.frontends[0].backend.value, backend.name);
    assert_eq!((backend.provider.name.as_str(), backend.balance.value), ("openai", Balance::LeastConn));
    assert_eq!(backend.origin.to_string(), "3:10");
    let server = &backend.servers[0];
    assert_eq!(server.url.to_string(), "http://127.0.0.1:8000/v1");
    assert_eq!((server.weight.get(), server.tier, server.tls.verify), (100, 1, true));
    assert!(backend.check.models.is_some() && backend.check.chat.is_none() && backend.check.http.is_none());
    assert_eq!(backend.check.origin, backend.origin);
}

#[test]
fn every_declared_key_is_read_and_every_read_key_is_declared() {
    let source = SourceText::new(FULL);
    let document = DeTable::parse(FULL).unwrap();
    let context = Context::new(&source);
    let root = TableReader::root(&context, &ROOT, document.get_ref());
    read(&root, "lb1", None).unwrap();
    let mut declared = BTreeSet::new();
    fn walk(section: &'static Section, declared: &mut BTreeSet<(&'static str, &'static str)>) {
        for key in section.keys.iter().filter(|key| key.not_yet.is_none()) {
            declared.insert((section.name, key.name));
            match key.kind {
                ValueKind::Table(inner)
                | ValueKind::Switch(inner)
                | ValueKind::Budget(inner)
                | ValueKind::Named(inner, _)
                | ValueKind::List(&ValueKind::Table(inner), ..) => walk(inner, declared),
                ValueKind::NamedBeside(inner, _, _, &ValueKind::Named(beside, _)) => {
                    walk(inner, declared);
                    walk(beside, declared);
                }
                _ => {}
            }
        }
    }
    walk(&ROOT, &mut declared);
    assert_eq!(*context.asked.borrow(), declared);
    assert!(context.into_found().0.is_empty());
}

#[test]
fn the_full_file_means_what_it_says() {
    let config = good(FULL);
    assert_eq!(config.node.name.value.as_str(), "lb7");
    assert_eq!(config.haproxy.stats.as_ref().unwrap().login.as_ref().unwrap().0.value, "ops");
    let names: Vec<_> = config.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["chat", "embeddings", "plain"]);
    let vip = &config.vips[0];
    assert_eq!((vip.name.as_str(), vip.interface.as_str(), vip.router_id.value), ("public", "bond0.100", 51));
    assert_eq!(vip.addresses[0].to_string(), "198.51.100.100/24");
    assert_eq!((vip.advert_interval.value, vip.priority.len()), (Duration::from_millis(200), 2));
    assert!(vip.failback && vip.second_chance && !vip.multicast && !config.keepalived.firewall);
    assert_eq!(config.node.heartbeat.as_ref().map(|heartbeat| heartbeat.port), Some(9001));
    assert!(config.apply.backup_first && config.apply.waits_on_save);
    let chat = config.backends[0].check.chat.as_ref().unwrap();
    assert_eq!(chat.first_token, Duration::from_secs(6));
    let affinity = &config.backends[0].affinity.value;
    assert_eq!(
        (config.backends[0].balance.value, affinity),
        (Balance::Affinity, &Affinity::Header("x-session".to_owned()))
    );
    assert_eq!(chat.first_token_soft, Duration::from_secs(2));
    let budget = BudgetLimits { probes: 100, tokens: 5_000, micro_usd: Some(250_000) };
    assert_eq!((chat.budget, config.backends[0].check.circuit), (budget, 8));
    assert_eq!(
        config.backends[0].servers[0].price,
        Some(Price { input: 2_500_000, cached: 2_500_000, cache_write: 2_500_000, output: 10_000_000 })
    );
    let http = config.backends[0].check.http.as_ref().unwrap();
    assert_eq!((http.path.as_str(), &http.status[..]), ("/health?full=1", &[200, 204][..]));
    assert_eq!(http.headers, [("content-type".to_owned(), "json".parse().unwrap())]);
    let mine = &config.backends[0].provider;
    assert_eq!((mine.name.as_str(), mine.key_header.as_str(), mine.key_prefix.as_str()), ("mine", "x-my-key", "Key "));
    assert!(mine.errors.account.iter().any(|word| word == "broke") && mine.errors.account.len() > 1);
    assert_eq!((mine.limits.wait.as_slice(), mine.metrics.port), (&["x-wait".to_owned()][..], Some(9000)));
    let metrics = config.backends[0].check.metrics.as_ref().unwrap();
    assert_eq!((metrics.waiting.as_slice(), metrics.port), (&["waiting".to_owned()][..], Some(8002)));
    assert_eq!(config.backends[0].check.certificate_expiry, Some(Duration::from_secs(14 * 86_400)));
    assert_eq!(http.json, [("/status".to_owned(), serde_json::json!("ok"))]);
    assert!(config.backends[1].check.models.is_none());
    assert_eq!(config.backends[2].servers[0].url.path, "");
    assert_eq!(config.backends[2].check.http.as_ref().unwrap().status.len(), 200);
    assert_eq!(config.frontends[0].routes[0].model[0].value, "text-embedding-*");
}

#[test]
fn the_chosen_node_wins_over_the_file_and_the_file_over_the_host() {
    let other = Name::new("lb2").unwrap();
    let chosen = parse_for_node("f", FULL, "host", Some(&other)).unwrap();
    assert_eq!(chosen.node.name.value, other);
    assert_eq!(parse("f", FULL, "host").unwrap().node.name.as_str(), "lb7");
    let error = parse("f", SMALLEST, "bad host").unwrap_err();
    assert_eq!(error.iter().map(|d| d.code).collect::<Vec<_>>(), ["bad-name"]);
    assert!(parse_for_node("f", SMALLEST, "bad host", Some(&other)).is_ok());
}

#[test]
fn mistakes_of_virtual_addresses_are_named() {
    const VIP: &str = "\
[node]
peers = { lb1 = \"198.51.100.11\", lb2 = \"198.51.100.12\" }
[vip.public]
addresses = [\"198.51.100.100/24\"]
interface = \"eth0\"
router_id = 51
priority = { lb1 = 150, lb2 = 100 }
second_chance = true
";
    let base = format!("{VIP}{SMALLEST}");
    good(&base);
    let other = "[vip.other]\naddresses = [\"ADDRESS\"]\ninterface = \"eth0\"\nrouter_id = ID\n\
        priority = { lb1 = 150, lb2 = 100 }\n[frontend.api]";
    for (from, to, code) in [
        ("198.51.100.100/24", "198.51.100.100", "bad-value"),
        ("198.51.100.100/24", "198.51.100.100/33", "bad-value"),
        ("\"eth0\"", "\"eth0\\n}\"", "bad-value"),
        ("router_id = 51", "router_id = 256", "out-of-range"),
        ("lb2 = 100", "lb2 = 150", "duplicate"),
        ("lb2 = 100", "lb3 = 100", "unknown-node"),
        ("lb2 = \"198.51.100.12\"", "lb2 = \"198.51.100.11\"", "duplicate"),
        ("lb2 = \"198.51.100.12\"", "lb2 = \"lb2.example\"", "bad-value"),
        ("lb2 = \"198.51.100.12\"", "lb2 = \"2001:db8::12\"", "address-family"),
        ("lb2 = \"198.51.100.12\"", "lb2 = \"fe80::12\"", "bad-value"),
        ("lb2 = \"198.51.100.12\"", "lb2 = \"fe80::12%eth0\"", "bad-value"),
        ("lb2 = \"198.51.100.12\"", "lb2 = \"0.0.0.0\"", "bad-value"),
        ("198.51.100.100/24", "198.51.100.11/24", "own-address"),
        ("198.51.100.100/24", "198.51.100.12/24", "own-address"),
        ("198.51.100.100/24", "198.51.100.0/24", "bad-value"),
        ("198.51.100.100/24", "198.51.100.255/24", "bad-value"),
        ("100/24\"", "100/24\", \"2001:db8::100/64\"", "no-second-chance"),
        (", lb2 = 100", "", "no-second-chance"),
        ("[vip.public]", "[vip.a-name-of-more-than-thirty-two-letters]", "out-of-range"),
        ("[frontend.api]", &other.replace("ADDRESS", "198.51.100.100/24").replace("ID", "52"), "duplicate"),
        ("[frontend.api]", &other.replace("ADDRESS", "198.51.100.101/24").replace("ID", "51"), "duplicate"),
        ("[node]", "[keepalived]\ndirectory = \"/run/a b\"\n[node]", "bad-value"),
        ("[node]", "[apply]\norder = \"first\"\n[node]", "bad-value"),
        ("[node]\n", "[node]\nheartbeat = { port = 1 }\n", "missing-key"),
        ("[node]\n", "[node]\nheartbeat = { port = 8080, key = \"env:KEY\" }\n", "bind-collision"),
    ] {
        let text = base.replacen(from, to, 1);
        assert_ne!(text, base, "{from}");
        assert!(codes(&text).contains(&code), "{to}: {:?}", codes(&text));
    }
}

#[test]
fn servers_of_one_url_are_fine_where_they_differ_in_what_matters() {
    let twins = |first: &str, second: &str| {
        let server = |name: &str, more: &str| {
            format!("[backend.chat.server.{name}]\nurl = \"https://api.example/v1\"\n{more}\n")
        };
        // The later one in the file has the earlier name.
        let servers = server("z", first) + &server("a", second);
        SMALLEST.replace("[backend.chat.server.one]\nurl = \"http://localhost:8000\"\n", &servers)
    };
    for (first, second) in [
        ("keys = [\"env:A\"]", "keys = [\"env:B\"]"),
        ("keys = [\"env:A\", \"env:B\"]", "keys = [\"env:B\", \"env:A\"]"),
        ("keys = [\"env:A\"]", ""),
        ("", "tier = 2"),
        ("", "weight = 50"),
        ("region = \"us\"", "region = \"eu\""),
        ("", "tls = { server_name = \"other.example\" }"),
        ("", "raw = [\"send-proxy-v2\"]"),
    ] {
        assert_eq!(codes(&twins(first, second)), [""; 0], "{first} | {second}");
    }
    for (first, second) in
        [("", ""), ("keys = [\"env:A\"]", "keys = [\"env:A\"]"), ("", "weight = 100\nstate = \"maint\"")]
    {
        let text = twins(first, second);
        assert_eq!(codes(&text), ["duplicate"], "{first} | {second}");
        let told = parse("hapilot.toml", &text, "lb1").unwrap_err().render(false);
        assert!(
            told.contains("chat.server.a.url`: server z has the same URL") && told.contains("a larger `weight`"),
            "{told}"
        );
    }
}

#[test]
fn one_broken_line_gives_one_code() {
    for (from, to, code) in [
        ("\"*:8080\"", "\"*:0\"", "bad-bind"),
        ("\"*:8080\"", "", "empty-list"),
        ("\"*:8080\"", "\"*:8080\", \"127.0.0.1:8080\"", "bind-collision"),
        ("localhost:8000", "localhost:8000/v1?x=1", "bad-url"),
        ("[frontend.api]", "[frontend.\"a b\"]", "bad-name"),
        ("url =", "weigth = 1\nurl =", "unknown-key"),
        ("url =", "weight = 257\nurl =", "out-of-range"),
        ("url =", "weight = 1.5\nurl =", "wrong-type"),
        ("url =", "keys = [\"sk-1234\"]\nurl =", "secret"),
        ("url =", "keys = [\"env:A\", \"env:B\", \"env:A\"]\nurl =", "duplicate"),
        ("url =", "tls = {}\nurl =", "tls-without-https"),
        ("url =", "keys = [\"env:A\"]\nspread = true\nurl =", "spread-alone"),
        ("url = \"http://localhost:8000\"", "", "missing-key"),
        ("url =", "tier = 2\ntier = 2\nurl =", "duplicate-key"),
        ("url =", "x = = 1\nurl =", "syntax"),
        ("[frontend.api]", "[plan.free]\nover = \"delay\"\n[frontend.api]", "missing-key"),
        (
            "[frontend.api]",
            "[[price]]\nmodel = \"m\"\ninput = 1\noutput = 2\nserver = \"no/one\"\n[frontend.api]",
            "unknown-server",
        ),
        ("[frontend.api]", "[plan.free]\ntokens = [\"1/1m\", \"2/1m\"]\n[frontend.api]", "out-of-range"),
        ("[frontend.api]", "[frontend.api]\nmethods = [\"get\"]", "bad-value"),
        ("[frontend.api]", "[frontend.api]\ncontent_types = [\"json\"]", "bad-value"),
        ("[frontend.api]", "[frontend.api]\ncontent_types = [\"application/json; charset=utf-8\"]", "bad-value"),
        ("[frontend.api]", "[frontend.api]\nmax_body = \"0B\"", "out-of-range"),
        ("[frontend.api]", "[plan.free]\nreserve = true\n[frontend.api]", "missing-key"),
        (
            "[frontend.api]",
            "[plan.free]\ntokens = \"1/1m\"\ntoken_weights = { cached = 101 }\n[frontend.api]",
            "out-of-range",
        ),
        ("[frontend.api]", "[plan.free]\nrequests = [\"1/1m\", \"2/1m\"]\n[frontend.api]", "out-of-range"),
        ("[frontend.api]", "[plan.free]\nrequests = \"30000/1s\"\n[frontend.api]", "out-of-range"),
        ("[frontend.api]", "[plan.free]\nrequests = \"1/1h\"\nburst = 12\n[frontend.api]", "out-of-range"),
        ("[frontend.api]", "[plan.free]\nrequests = [\"1/1m\", \"2/24h\", \"3/1h\"]\n[frontend.api]", "wrong-type"),
        ("[frontend.api]", "[plan.free]\nburst = 5\n[frontend.api]", "burst-without-rate"),
        ("[frontend.api]", "[plan.free]\nroutes = [\"/v1/*\"]\n[frontend.api]", "bad-value"),
        ("url =", "clients = \"/a\"\nurl =", "unknown-key"),
        ("[frontend.api]", "[node]\npeers = {}\n[frontend.api]", "empty-list"),
        ("bind =", "backend = \"chatt\"\nbind =", "unknown-backend"),
        ("bind =", "redirect_http = \"*:80\"\nbind =", "redirect-without-tls"),
        ("bind =", "raw = [\"a\\nb\"]\nbind =", "raw-line"),
        ("bind =", "raw = [\"a\\u0000b\"]\nbind =", "control-character"),
        ("bind =", "certificates = [\"a.pem\"]\nbind =", "relative-path"),
        ("bind =", "routes = [{ backend = \"chat\" }]\nbind =", "empty-route"),
        ("[frontend.api]", "[haproxy]\nstats = { bind = \"*:1\" }\n[frontend.api]", "open-stats"),
        (
            "[backend.chat.server.one]",
            "[backend.chat]\nbalance = \"static-rr\"\n[backend.chat.server.one]",
            "bad-value",
        ),
        ("[backend.chat.server.one]", "[backend.chat]\nprovider = \"azur\"\n[backend.chat.server.one]", "bad-value"),
        ("[frontend.api]", "[provider.openai]\n[frontend.api]", "duplicate"),
        ("[frontend.api]", "[provider.x]\nlike = \"openia\"\n[frontend.api]", "bad-value"),
        ("[frontend.api]", "[provider.x]\nheaders = { Authorization = \"hunter2\" }\n[frontend.api]", "bad-value"),
        ("[frontend.api]", "[provider.x]\nlike = \"http\"\nchat = {}\n[frontend.api]", "missing-key"),
        ("[frontend.api]", "[provider.x]\napi_root = \"/v1/\"\n[frontend.api]", "bad-value"),
        ("[frontend.api]", "[provider.x]\nmodels = { path = \"/a{b}\" }\n[frontend.api]", "bad-value"),
        ("[backend.chat.server.one]", "[backend.chat.check]\nmetrics = {}\n[backend.chat.server.one]", "missing-key"),
        (
            "[backend.chat.server.one]",
            "[backend.chat.check]\nhttp = { body = \"(\" }\n[backend.chat.server.one]",
            "bad-pattern",
        ),
    ] {
        assert!(SMALLEST.contains(from), "{from}");
        assert_eq!(codes(&SMALLEST.replacen(from, to, 1)), [code], "{to}");
    }
}

#[test]
fn a_second_backend_asks_for_a_default_one() {
    let two = format!("{SMALLEST}[backend.b.server.a]\nurl = \"http://192.0.2.1\"\n");
    assert_eq!(codes(&two), ["missing-key"]);
}

#[test]
fn too_much_is_refused_and_told_briefly() {
    assert_eq!(codes(&"#".repeat(5 << 20)), ["too-large"]);
    let servers: String =
        (0..10_001).map(|n| format!("[backend.chat.server.s{n}]\nurl = \"http://192.0.2.1:{}\"\n", n + 1)).collect();
    assert_eq!(codes(&format!("{SMALLEST}{servers}")), ["too-many"]);
    let wrong: String = (0..150).map(|n| format!("[backend.b{n}]\nx = 1\n")).collect();
    let diagnostics = parse("f", &wrong, "lb1").unwrap_err();
    assert_eq!(diagnostics.iter().count(), 100);
    assert!(diagnostics.len() > 300);
    assert!(diagnostics.render(false).contains("more that are not shown"));
}

#[test]
fn the_contract_without_what_does_not_exist_yet_is_good() {
    let contract = include_str!("../../../tests/bad/contract/input.toml");
    let mut kept = String::new();
    let mut skip = false;
    for line in contract.lines() {
        if line.starts_with('[') {
            skip = ["plan", "client", "alert", "apply"].iter().any(|s| line[1..].starts_with(s));
        }
        let later = ["token "];
        if !skip && !later.iter().any(|key| line.starts_with(key)) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    // The page names two backends and a server that it does not show.
    let shown = "[backend.embeddings.server.a]\nurl = \"http://192.0.2.1\"\n[backend.anthropic.server.a]\nurl = \"http://192.0.2.2\"\n\
                 [backend.chat.server.turbo-1]\nurl = \"http://192.0.2.3\"\n";
    good(&format!("{kept}{shown}"));
    let codes = codes(&format!("{contract}{shown}"));
    assert!(!codes.is_empty() && codes.iter().all(|code| *code == "not-yet"), "{codes:?}");
}

#[test]
fn one_slip_of_the_fingers_shows_no_secret() {
    const TEXT: &str = "\
[haproxy]
stats = { bind = \"127.0.0.1:8404\", user = \"ops\", password = \"hunter2 hunter2\" }
[frontend.api]
bind = [\"*:8080\"]
[backend.chat.server.one]
keys = [
  \"hunter2 hunter2\",
]
url = \"http://localhost:8000\"
";
    let shows = |text: String| {
        let shown = match parse("f", &text, "lb1") {
            Ok(_) => return,
            Err(diagnostics) => diagnostics.render(false) + &serde_json::to_string(&diagnostics).unwrap(),
        };
        assert!(!shown.contains("hunter2"), "{text}\n{shown}");
    };
    for at in 0..TEXT.len() {
        let (before, after) = TEXT.split_at(at);
        shows(format!("{before}{}", &after[1..]));
        for slip in ["[", "]", "{", "}", "\"", "'", "=", ".", ",", "\n", "#", "x", " ", "\0"] {
            shows(format!("{before}{slip}{after}"));
            shows(format!("{before}{slip}{}", &after[1..]));
        }
    }
}

/// A file with some of its bytes changed.
fn mutated(text: &str) -> impl Strategy<Value = String> {
    let text = text.as_bytes().to_vec();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..=8);
    edits.prop_map(move |edits| {
        let mut bytes = text.clone();
        for (at, byte, how) in edits {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, b"[]{}\"'=.,\n#"[usize::from(byte) % 11]),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_the_reader_fall_over(text in "\\PC*|[a-z\\[\\]{}=\"'\\n.,# ßé\u{0}]*") {
        if let Err(diagnostics) = parse("f", &text, "lb1") {
            prop_assert!(!diagnostics.is_empty());
            diagnostics.render(false);
        }
    }

    #[test]
    fn no_slip_of_the_fingers_makes_the_reader_fall_over(text in mutated(FULL)) {
        if let Err(diagnostics) = parse("f", &text, "lb1") {
            prop_assert!(diagnostics.has_errors());
            prop_assert!(diagnostics.iter().all(|diagnostic| diagnostic.code != "internal"));
            diagnostics.render(true);
        }
    }
}

#[test]
fn the_places_of_socket_and_state_are_found_in_a_file_that_is_no_toml() {
    let good = "[node]\nstate = \"/s\"\n[haproxy]\nmaxconn = 1\n[api]\nsocket = \"/a\"\n";
    for broken in ["maxconn = = 1", "maxconn", "maxconn =", "maxconn = 1\nmaxconn = 2", "maxconn = \"1", "maxconn 1"] {
        let text = good.replace("maxconn = 1", broken);
        assert_eq!(peek(&text, "node", "state").as_deref(), Some("/s"), "{broken}");
        assert_eq!(peek(&text, "api", "socket").as_deref(), Some("/a"), "{broken}");
    }
    assert_eq!(peek(good, "node", "name"), None);
    assert_eq!(peek("node = 1", "node", "state"), None);
}
