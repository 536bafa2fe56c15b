//! `docs/edits.md`: for every kind of edit, on every version of HAProxy, whether it needs a reload and why. Each row is
//! an edit that was carried out by `hapilot apply` on a running HAProxy; whether the worker stayed is asked of the
//! kernel, not of hapilot.
//!
//! `UPDATE=1` writes the page anew; it needs the versions that the page names.

use super::support::haproxy::{Binary, binaries};
use super::support::stage::{Stage, swapped};
use super::support::write;
use std::fmt::Write;

/// One kind of edit: what it is called, what it makes of the file's text.
type Edit = (&'static str, fn(&Stage, &str) -> String);

/// One node for all edits: a clear-text and a TLS frontend, backends by address and by name.
fn start(binary: &Binary) -> Stage {
    Stage::with_haproxy(binary, |text| {
        let text = swapped(&text, "[backend.embeddings]\n", "[backend.embeddings]\nbalance = \"random\"\n");
        let route = "backend = \"embeddings\" }, { header = { x-tenant = [\"blue\"] }, backend = \"chat\" }]";
        let text = swapped(&text, "backend = \"embeddings\" }]", route);
        let text = swapped(&text, "state = \"ready\" # b", "state = \"ready\" # b\nmaxconn = 30 # b");
        let directory =
            text.split_once("state = \"").and_then(|(_, rest)| rest.split_once("/state\"")).expect("a state").0;
        ["a", "b", "c"].iter().for_each(|name| make_certificate(&format!("{directory}/{name}.pem"), name));
        let (port, pem) = (super::support::port::free_port(), |name| format!("\"{directory}/{name}.pem\""));
        let (a, b) = (pem("a"), pem("b"));
        format!(
            "{text}\n{CLIENTS}[backend.named.server.n]\nurl = \"http://localhost.localdomain:9\"\n\
             [frontend.secure]\nbind = [\"127.0.0.1:{port}\"]\nbackend = \"chat\"\ncertificates = [{a}, {b}]\n"
        )
    })
}

fn make_certificate(path: &str, name: &str) {
    let made = rcgen::generate_simple_self_signed(vec![format!("{name}.test")]).expect("a certificate");
    write(path, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem()));
}

/// The file with other certificates, by their letters.
fn certified(stage: &Stage, text: &str, names: &[&str]) -> String {
    let (begin, rest) = text.split_once("certificates = [").expect("the frontend with TLS");
    let (_, end) = rest.split_once(']').expect("its end");
    let paths: Vec<_> = names.iter().map(|name| format!("{:?}", stage.path(&format!("{name}.pem")))).collect();
    format!("{begin}certificates = [{}]{end}", paths.join(", "))
}

fn server(stage: &Stage, text: &str, name: &str, url: &str) -> String {
    format!(
        "{text}\n[backend.chat.server.{name}]\nurl = \"{url}\"\nkeys = [\"file:{}\"]\n",
        stage.path("key").display()
    )
}

/// What clients begin with.
const MONEY: &str = "[[price]]\nmodel = \"gpt-4o\"\ninput = 2.5\noutput = 10\n[plan.paying]\nbudget = { usd = 50 }\n";
const CLIENTS: &str = "[plan.free]\nrequests = \"60/1m\"\n[client.acme]\nplan = \"free\"\nkey_sha256 = \"5f2d1c0a9b8e7d6c5b4a39281706f5e4d3c2b1a0998877665544332211ffeedd\"\n";

const EDITS: [Edit; 50] = [
    ("weight of a server", |_, text| swapped(text, "weight = 100 # a", "weight = 7 # a")),
    ("state of a server: drain", |_, text| swapped(text, "state = \"ready\" # a", "state = \"drain\" # a")),
    ("state of a server: maint", |_, text| swapped(text, "state = \"ready\" # b", "state = \"maint\" # b")),
    ("address of a server", |stage, text| {
        let address = stage.mock_address("a");
        swapped(
            text,
            &format!("{address}/v1\" # a"),
            &format!("{}/v1\" # a", address.replace("127.0.0.1", "127.0.0.2")),
        )
    }),
    ("a server more", |stage, text| server(stage, text, "more", "http://127.0.0.3:9000/v1")),
    ("a server more, with TLS", |stage, text| {
        server(stage, text, "more", "https://127.0.0.3:9000/v1") + "tls = { verify = false }\n"
    }),
    ("a server less", |_, text| {
        let begin = text.find("[backend.chat.server.c]").expect("the server");
        let end = text[begin + 1..].find("\n[").map_or(text.len(), |at| begin + 1 + at);
        format!("{}{}", &text[..begin], &text[end..])
    }),
    ("a route by path", |_, text| swapped(text, "[\"/v1/embeddings\"]", "[\"/v1/embeddings\", \"/v1/rerank\"]")),
    ("a route by model", |_, text| {
        swapped(
            text,
            "backend = \"embeddings\" }",
            "backend = \"embeddings\" }, { model = [\"bge-*\"], backend = \"embeddings\" }",
        )
    }),
    ("a route to a backend that no route of the frontend led to before", |_, text| {
        swapped(
            text,
            "backend = \"embeddings\" }",
            "backend = \"embeddings\" }, { path = [\"/n\"], backend = \"named\" }",
        )
    }),
    ("a route by client, plan or header, where there is one already", |_, text| {
        let more = "{ client = [\"acme\"], plan = [\"f*\"], header = { x-tenant = [\"b*\"] }, backend = \"named\" }, { header = {";
        swapped(text, "{ header = {", more)
    }),
    ("values of a header of a route", |_, text| swapped(text, "[\"blue\"]", "[\"blue\", \"green-*\"]")),
    ("the first route by client, plan or header", |_, text| {
        let routes = "routes = [{ plan = [\"free\"], backend = \"named\" }]";
        swapped(text, "[frontend.secure]\n", &format!("[frontend.secure]\n{routes}\n"))
    }),
    ("a route by a header that no route looked at", |_, text| {
        swapped(text, "x-tenant = [\"blue\"]", "x-tenant = [\"blue\"], x-region = [\"eu\"]")
    }),
    ("requests or burst of a limit", |_, text| swapped(text, "burst    = 1000", "burst    = 10")),
    ("maxconn of a server", |_, text| swapped(text, "maxconn = 30 # b", "maxconn = 50 # b")),
    ("maxconn of a server, where there was none", |_, text| {
        swapped(text, "state = \"ready\" # a", "state = \"ready\"\nmaxconn = 50")
    }),
    ("maxconn of a server, taken away", |_, text| swapped(text, "maxconn = 30 # b", "")),
    ("maxconn of the process, lowered", |_, text| swapped(text, "maxconn       = 1000", "maxconn = 900")),
    ("maxconn of the process, raised again to what it started with", |stage, text| {
        stage.write_file(&swapped(text, "maxconn       = 1000", "maxconn = 900"));
        stage.done(&["apply"]);
        text.to_owned()
    }),
    ("a provider's key", |stage, text| {
        write(stage.path("key"), "sk-another-key-4712");
        text.to_owned()
    }),
    ("a key more, for all servers of a backend", |stage, text| {
        write(stage.path("key2"), "sk-another-key-4713");
        let more = format!("/key\", \"file:{}\"] #", stage.path("key2").display());
        let after = text.replace("/key\"] #", &more);
        assert_ne!(after, text);
        after
    }),
    ("a certificate, renewed", |stage, text| {
        make_certificate(stage.path("b.pem").to_str().expect("UTF-8"), "b");
        text.to_owned()
    }),
    ("a certificate more", |stage, text| certified(stage, text, &["a", "b", "c"])),
    ("a certificate less", |stage, text| certified(stage, text, &["a"])),
    ("what is only hapilot's: probes, weighting, history", |_, text| {
        swapped(text, "ramp     = \"3s\"", "ramp     = \"4s\"")
    }),
    ("a client more", |_, text| {
        let key = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";
        format!("{text}\n[client.more]\nplan = \"free\"\nkey_sha256 = \"{key}\"\n")
    }),
    ("key of a client", |_, text| swapped(text, "5f2d1c0a", "0f2d1c0a")),
    ("a plan more, for a client", |_, text| {
        swapped(text, "plan = \"free\"\n", "plan = \"paid\"\n") + "\n[plan.paid]\nrequests = \"600/1m\"\n"
    }),
    ("rate or burst of a plan", |_, text| swapped(text, "\"60/1m\"", "\"90/2m\"\nburst = 5")),
    ("the last plan and client", |_, text| swapped(text, CLIENTS, "")),
    ("the first limit of a kind in a plan: a long window, or requests at a time", |_, text| {
        swapped(text, "\"60/1m\"", "\"60/1m\"\nconcurrent = 5")
    }),
    ("the first limit of tokens in a plan", |_, text| swapped(text, "\"60/1m\"", "\"60/1m\"\ntokens = \"1000/1m\"")),
    ("the first budget and price", |_, text| format!("{text}\n{MONEY}")),
    ("the first plan that names models", |_, text| swapped(text, "\"60/1m\"", "\"60/1m\"\nmodels = [\"gpt-*\"]")),
    ("the first plan that names routes", |_, text| swapped(text, "\"60/1m\"", "\"60/1m\"\nroutes = [\"/v1\"]")),
    ("window of a limit", |_, text| swapped(text, "10000000/10s", "10000000/20s")),
    ("maxconn of the process, raised above what it started with", |_, text| {
        swapped(text, "maxconn       = 1000", "maxconn = 1100")
    }),
    ("tier of a server", |_, text| swapped(text, "state = \"ready\" # a", "state = \"ready\"\ntier = 2")),
    ("TLS of a server", |stage, text| {
        let address = stage.mock_address("a");
        swapped(
            text,
            &format!("http://{address}/v1\" # a"),
            &format!("https://{address}/v1\"\ntls = {{ verify = false }}"),
        )
    }),
    ("name of a server's host", |_, text| swapped(text, "localhost.localdomain:9", "localhost.localdomain:10")),
    ("interval, fall or rise of a check", |_, text| swapped(text, "interval = \"500ms\"", "interval = \"700ms\"")),
    ("a timeout", |_, text| swapped(text, "first_byte = \"10s\"", "first_byte = \"11s\"")),
    ("balance", |_, text| swapped(text, "balance  = \"roundrobin\"", "balance  = \"leastconn\"")),
    ("retries", |_, text| swapped(text, "retries  = 2", "retries  = 3")),
    ("stream_watch of a backend", |_, text| swapped(text, "retries  = 2", "retries  = 2\nstream_watch = true")),
    ("a backend more", |_, text| format!("{text}\n[backend.more.server.m]\nurl = \"http://127.0.0.3:9001/v1\"\n")),
    ("a bind more", |stage, text| {
        let port = super::support::port::free_port();
        swapped(text, &format!("[\"{}\"]", stage.address), &format!("[\"{}\", \"127.0.0.1:{port}\"]", stage.address))
    }),
    ("another default certificate", |stage, text| certified(stage, text, &["b", "a"])),
    ("a raw line", |_, text| {
        swapped(text, "[frontend.api]\n", "[frontend.api]\nraw = [\"http-response del-header Server\"]\n")
    }),
];

/// What `apply` says of one edit, checked against the process that serves; then everything is as before.
fn outcome(stage: &Stage, name: &str, edit: fn(&Stage, &str) -> String) -> (bool, String) {
    let (text, worker) = (stage.text(), stage.worker());
    stage.write_file(&edit(stage, &text));
    let applied = stage.json(&["apply"]);
    let reloads = applied["how"] == "reload";
    assert_eq!(stage.worker() != worker, reloads, "{name}: {applied}");
    let left = stage.json(&["plan"]);
    assert_eq!(left["how"], "unchanged", "{name}: something is left to do: {left}");
    let why = applied["reload_reasons"][0].as_str().unwrap_or_default().to_owned();
    stage.write_file(&text);
    write(stage.path("key"), super::support::stage::KEY);
    stage.done(&["apply", "--force"]);
    (reloads, why)
}

#[test]
fn every_kind_of_edit_needs_a_reload_or_not_on_every_version() {
    let versions = binaries();
    let mut table: Vec<(String, Vec<(bool, String)>)> =
        EDITS.iter().map(|(name, _)| ((*name).to_owned(), vec![])).collect();
    // One thread a version: the gap between two reloads is most of the time.
    let columns: Vec<Vec<(bool, String)>> = std::thread::scope(|scope| {
        let run = |binary: &Binary| {
            let stage = start(binary);
            EDITS.iter().map(|(name, edit)| outcome(&stage, name, *edit)).collect()
        };
        let threads: Vec<_> = versions.iter().map(|binary| scope.spawn(move || run(binary))).collect();
        threads.into_iter().map(|thread| thread.join().expect("one version's edits")).collect()
    });
    for column in columns {
        for (row, outcome) in table.iter_mut().zip(column) {
            row.1.push(outcome);
        }
    }
    check_page(&versions, &table);
}

fn check_page(versions: &[Binary], table: &[(String, Vec<(bool, String)>)]) {
    let branch = |binary: &Binary| format!("{}.{}", binary.version.major, binary.version.minor);
    let mut page = String::from(
        "# Which edits need a reload\n\nMade by a test that carries each edit out on a running HAProxy of each version and looks \
         whether the worker process stayed (`cargo nextest run edits::`).\n\n| Edit |",
    );
    for binary in versions {
        write!(page, " {} |", branch(binary)).expect("a String");
    }
    page.push_str(" Why |\n| --- |");
    page.push_str(&" --- |".repeat(versions.len() + 1));
    page.push('\n');
    for (name, outcomes) in table {
        write!(page, "| {name} |").expect("a String");
        for (reloads, _) in outcomes {
            page.push_str(if *reloads { " reload |" } else { " no reload |" });
        }
        // The reason is HAProxy's own line; what differs between runs (ports) stays out of the page.
        let why = outcomes.last().map(|(_, why)| reason(why)).unwrap_or_default();
        writeln!(page, " {why} |").expect("a String");
    }
    page.push_str("\nWhat a version cannot do at runtime falls back to a reload, and `hapilot plan` says so.\n");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/edits.md");
    if std::env::var_os("UPDATE").is_some() {
        write(path, &page);
    }
    let kept = fs_err::read_to_string(path).unwrap_or_default();
    let is_same_set = kept.lines().any(|line| page.lines().nth(5) == Some(line));
    if is_same_set {
        assert!(kept == page, "docs/edits.md is not what happens; UPDATE=1 writes it anew:\n{page}");
    } else {
        println!("docs/edits.md was made with other versions of HAProxy; here:\n{page}");
    }
}

/// The first reason without what differs from run to run.
fn reason(why: &str) -> String {
    let settled = |word: &str| match word.rsplit_once('/') {
        _ if word.contains("127.0.0.1:") => "…".to_owned(),
        Some((directory, name)) if directory.contains("/hapilot-") => name.to_owned(),
        _ => word.to_owned(),
    };
    let words: Vec<_> = why.split(' ').map(settled).collect();
    words.join(" ").replace('|', "\\|")
}
