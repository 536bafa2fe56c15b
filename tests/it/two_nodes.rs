//! Two nodes: what a client has used at one of them counts at the other, in HAProxy's tables and in money, and nobody without the
//! key takes part.

use super::clients::{ask, client, key};
use super::haproxies::write_certificate;
use super::support::cluster::{Cluster, VIP};
use super::support::haproxy::{Binary, binaries};
use super::support::http::{Reply, Request};
use super::support::port::free_port;
use super::support::process;
use super::support::stage::{Stage, private};
use super::support::{PATIENCE, agent, pause, wait_for, write};
use camino::Utf8Path;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const HELLO: &str = r#"{"model":"mock-small","messages":[{"role":"user","content":"hello"}]}"#;
/// Of the mock's answer to it, in billionths of a dollar.
const COST: u64 = 9 * 2_500 + 16 * 10_000;
const NODES: [(&str, &str); 2] = [("lb1", "127.0.0.41"), ("lb2", "127.0.0.42")];
/// So many requests each of the plans lets through.
const MOST: usize = 3;
const KINDS: [&str; 5] = ["bucket", "window", "tokens", "daily", "money"];

fn plans() -> String {
    // A request has 25 tokens: the third is the one that goes over.
    let usd = 2.5 * COST as f64 / 1e9;
    format!(
        "[[price]]\nmodel = \"*\"\ninput = 2.5\noutput = 10\n\
         [plan.bucket]\nrequests = \"3/60m\"\n[plan.window]\nrequests = \"3/24h\"\n\
         [plan.tokens]\ntokens = \"60/60m\"\n[plan.daily]\ntokens = \"60/24h\"\n\
         [plan.money]\nbudget = {{ usd = {usd:.6} }}\n"
    )
}

/// Two nodes that share what their clients use. `key`: of the heartbeat, for each.
pub fn pair(binaries: [&Binary; 2], keys: [&str; 2], more: &str) -> [Stage; 2] {
    pair_of(binaries, keys, [more; 2])
}

fn pair_of(binaries: [&Binary; 2], keys: [&str; 2], more: [&str; 2]) -> [Stage; 2] {
    let port = free_port();
    let mut at = 0;
    let mut nodes = binaries.map(|binary| {
        let ((name, _), key, more) = (NODES[at], keys[at], more[at]);
        at += 1;
        let mut stage = Stage::new(binary);
        let dir = stage.path("").display().to_string();
        write(stage.path("heartbeat.key"), key);
        private(&stage.path("heartbeat.key"));
        let own = format!(
            "name  = \"{name}\"\npeers = {{ {} = \"{}\", {} = \"{}\" }}\n\
             heartbeat = {{ port = {port}, key = \"file:{dir}heartbeat.key\" }}",
            NODES[0].0, NODES[0].1, NODES[1].0, NODES[1].1
        );
        let vrrp = format!("[keepalived]\ndirectory = \"{dir}vrrp\"\n");
        let text = stage.text().replace("name  = \"test\"", &own);
        stage.write_file(&format!("{text}\n{vrrp}{}{more}", plans()));
        stage.done(&["apply"]);
        stage.start_haproxy();
        stage
    });
    for stage in &mut nodes {
        stage.start_agent();
        stage.wait_for_health();
    }
    nodes
}

fn all_clients(of: &str) -> String {
    KINDS.iter().map(|kind| client(&format!("{of}-{kind}"), kind)).collect()
}

fn chat(stage: &Stage, of: &str) -> Reply {
    ask(stage, &Request::post(CHAT, HELLO).header("Authorization", &format!("Bearer {}", key(of))))
}

/// Uses up what a client has, and is refused then.
fn use_up(stage: &Stage, of: &str) {
    for turn in 0..=MOST {
        let reply = chat(stage, of);
        assert_eq!(reply.status, if turn < MOST { 200 } else { 429 }, "{of}, {turn}: {}", reply.text());
        // What an answer costs is counted at its end.
        pause(Duration::from_millis(100));
    }
}

/// The other node hears of it within so long.
const NEWS: Duration = Duration::from_millis(7_000);

#[test]
fn what_was_used_at_one_node_is_used_at_the_other() {
    for binary in binaries() {
        let said = binary.version.to_string();
        let more = all_clients("acme") + &all_clients("web");
        let mut nodes = pair([&binary, &binary], ["a key for one test alone"; 2], &more);
        for kind in KINDS {
            use_up(&nodes[0], &format!("acme-{kind}"));
        }
        pause(NEWS);
        for kind in KINDS {
            let reply = chat(&nodes[1], &format!("acme-{kind}"));
            assert_eq!(reply.status, 429, "{said}, {kind}: {}", reply.text());
            assert_eq!(chat(&nodes[1], &format!("web-{kind}")).status, 200, "{said}, {kind}");
        }
        // The listing says what is spent at both.
        for stage in &nodes {
            assert_eq!(spent(stage, "acme-money"), Some(MOST as u64 * COST), "{said}");
        }
        // HAProxy begins anew at the first node, and no agent is there to tell it anything.
        nodes[0].agent().kill();
        nodes[0].end_haproxy();
        nodes[0].start_haproxy();
        pause(NEWS);
        for kind in KINDS {
            assert_eq!(chat(&nodes[0], &format!("acme-{kind}")).status, 429, "{said}, {kind}, after a restart");
        }
        // And a reload forgets nothing.
        let (_, before) = nodes[1].revisions();
        nodes[1].edit("maxconn       = 1000", "maxconn       = 1000\nhard_stop_after = \"5s\"");
        wait_for("a reload", PATIENCE, || (nodes[1].revisions().1 != before).then_some(()));
        for kind in KINDS {
            let reply = chat(&nodes[1], &format!("acme-{kind}"));
            assert_eq!(reply.status, 429, "{said}, {kind}, after a reload: {}", reply.text());
        }
        // Also where nobody but HAProxy knows them.
        nodes[1].agent().kill();
        let before = counters(&nodes[1], "lb2/web-money");
        assert!(before.iter().sum::<u64>() > 0, "{said}");
        nodes[1].private().reload();
        wait_for("what it was told", PATIENCE, || {
            (counters(&nodes[1], "lb2/web-money") == before && counters(&nodes[1], "lb1/acme-money").len() == 5)
                .then_some(())
        });
    }
}

#[test]
fn nodes_of_different_versions_share_their_counters() {
    let all = binaries();
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return };
    let more = all_clients("acme") + &all_clients("web");
    let nodes = pair([first, last], ["a key for one test alone"; 2], &more);
    let said = format!("{} and {}", first.version, last.version);
    for kind in KINDS {
        use_up(&nodes[0], &format!("acme-{kind}"));
        use_up(&nodes[1], &format!("web-{kind}"));
    }
    pause(NEWS);
    for kind in KINDS {
        assert_eq!(chat(&nodes[1], &format!("acme-{kind}")).status, 429, "{said}, {kind}");
        assert_eq!(chat(&nodes[0], &format!("web-{kind}")).status, 429, "{said}, {kind}");
    }
}

#[test]
fn money_that_both_nodes_take_is_added_and_forgiven_together() {
    for binary in binaries() {
        let said = binary.version.to_string();
        let more = client("acme", "money") + "[plan.large]\nbudget = { usd = 1 }\n" + &client("big", "large");
        let nodes = pair([&binary, &binary], ["a key for one test alone"; 2], &more);
        // Half of it here and half of it there: both refuse then.
        assert_eq!(chat(&nodes[0], "acme").status, 200, "{said}");
        assert_eq!(chat(&nodes[1], "acme").status, 200, "{said}");
        pause(NEWS);
        assert_eq!(chat(&nodes[0], "acme").status, 200, "{said}");
        pause(NEWS);
        for stage in &nodes {
            assert_eq!(chat(stage, "acme").status, 429, "{said}");
        }
        // What is spent at the other is not taken for what HAProxy here does not know, however often they are compared.
        for stage in nodes.iter().cycle().take(8) {
            let reply = chat(stage, "big");
            assert_eq!(reply.status, 200, "{said}: {}", reply.text());
        }
        pause(Duration::from_secs(20));
        for stage in &nodes {
            assert_eq!(spent(stage, "big"), Some(8 * COST), "{said}");
            let usage = stage.json(&["usage", "--by", "client"]);
            let text = usage.to_string();
            assert!(!text.contains("made up"), "{said}: {text}");
        }
        let since = "budget_since = \"2026-11-30T00:00:00Z\"\n";
        for stage in &nodes {
            stage.edit("[client.acme]\n", &format!("[client.acme]\n{since}"));
        }
        for stage in &nodes {
            wait_for("forgiveness", PATIENCE, || (chat(stage, "acme").status == 200).then_some(()));
        }
    }
}

#[test]
fn who_has_another_key_takes_no_part() {
    for binary in binaries() {
        let said = binary.version.to_string();
        let held = tempfile::tempdir().expect("a directory");
        let pem = held.path().join("tls.pem");
        write_certificate(Utf8Path::from_path(&pem).expect("UTF-8"));
        let (tls, other_tls) = (free_port(), free_port());
        let frontend = format!(
            "[frontend.tls]\nbind = [\"127.0.0.1:TLS\"]\ncertificates = [\"{}\"]\nbackend = \"chat\"\n",
            pem.display()
        );
        let more = |port: u16| all_clients("acme") + &frontend.replace("TLS", &port.to_string());
        let keys = ["a key for one test alone", "and another key for it"];
        let nodes = pair_of([&binary, &binary], keys, [&more(tls), &more(other_tls)]);
        use_up(&nodes[0], "acme-bucket");
        use_up(&nodes[0], "acme-money");
        pause(NEWS);
        for kind in ["bucket", "money"] {
            assert_eq!(chat(&nodes[1], &format!("acme-{kind}")).status, 200, "{said}, {kind}");
        }
        // Without any certificate nobody comes in, and whoever just sits there takes no place from clients.
        let address = format!("{}:{}", NODES[0].1, port_of(&nodes[0]));
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, "-quiet"]);
        let said_openssl = process::run(command, agent::LIMIT);
        assert!(said_openssl.stderr.contains("certificate required"), "{said}: {}", said_openssl.stderr);
        // Nor with a session of a frontend that asks for none.
        let script = "(sleep 0.3; printf 'GET /health HTTP/1.0\r\n\r\n'; sleep 0.3) | openssl s_client -connect 127.0.0.1:$1 \
                      -tls1_3 -sess_out $3/session >/dev/null 2>&1; sleep 1 | openssl s_client -connect $2 -tls1_3 \
                      -sess_in $3/session 2>&1";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", &tls.to_string(), &address]).arg(held.path());
        let second = process::run(command, agent::LIMIT).stdout;
        assert!(second.contains("New, TLSv1.3") && second.contains("certificate required"), "{said}: {second}");
        let at = address.parse().expect("an address");
        let idle: Vec<_> =
            (0..100).filter_map(|_| TcpStream::connect_timeout(&at, Duration::from_millis(50)).ok()).collect();
        assert_eq!(chat(&nodes[0], "acme-daily").status, 200, "{said}");
        assert!(!idle.is_empty(), "{said}");
    }
}

fn port_of(stage: &Stage) -> String {
    let text = stage.text();
    let at = text.find("port = ").expect("a port") + "port = ".len();
    text[at..].split(',').next().expect("a number").to_owned()
}

#[test]
fn a_key_is_in_no_file_but_its_own() {
    let Some(binary) = binaries().pop() else { return };
    let secret = "a key for one test alone";
    let nodes = pair([&binary, &binary], [secret; 2], &client("acme", "bucket"));
    for stage in &nodes {
        let found = files_with(stage, secret);
        assert_eq!(found, ["heartbeat.key"]);
        let pem = stage.path("certificates/hapilot-nodes.pem");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs_err::metadata(pem).expect("the certificate").permissions());
        assert_eq!(mode & 0o007, 0, "others may read the nodes' private key");
        assert!(!files_with(stage, "BEGIN PRIVATE KEY").iter().any(|name| name.starts_with("state/")));
    }
}

/// The counters of an entry of the table of money; none where it is not there.
fn counters(stage: &Stage, entry: &str) -> Vec<u64> {
    let table = stage.private().admin(&format!("show table limit:money key {entry}"));
    table.split_whitespace().filter_map(|word| word.strip_prefix("gpc")?.split_once('=')?.1.parse().ok()).collect()
}

/// What a client has spent, as a node tells it.
fn spent(stage: &Stage, of: &str) -> Option<u64> {
    let listed = stage.json(&["client", "list"]);
    let one = listed.as_array().expect("a list").iter().find(|one| one["client"] == of).cloned();
    one.expect("the client")["budget"]["spent_nano_usd"].as_u64()
}

#[test]
fn a_lost_state_directory_counts_nothing_twice_and_another_key_is_shared_again() {
    let Some(binary) = binaries().pop() else { return };
    let more = client("acme", "money") + &client("web", "bucket");
    let mut nodes = pair([&binary, &binary], ["a key for one test alone"; 2], &more);
    assert_eq!(chat(&nodes[0], "acme").status, 200);
    assert_eq!(chat(&nodes[1], "acme").status, 200);
    pause(NEWS);
    nodes[1].agent().kill();
    fs_err::remove_dir_all(nodes[1].path("state")).expect("it is removed");
    nodes[1].start_agent();
    pause(Duration::from_secs(12));
    for stage in &nodes {
        assert_eq!(spent(stage, "acme"), Some(2 * COST));
    }
    assert_eq!(chat(&nodes[1], "acme").status, 200);
    pause(NEWS);
    assert_eq!(nodes.each_ref().map(|stage| chat(stage, "acme").status), [429, 429]);
    // Another key: a reload of each, and they find each other again.
    for stage in &nodes {
        let before = stage.worker();
        write(stage.path("heartbeat.key"), "another key for that test");
        wait_for("a reload", Duration::from_secs(40), || (stage.worker() != before).then_some(()));
    }
    pause(NEWS);
    use_up(&nodes[0], "web");
    wait_for("the counters", PATIENCE, || {
        let table = nodes[1].private().admin("show table limit:client key web");
        table.contains("gpc0=3").then_some(())
    });
    assert_eq!(chat(&nodes[1], "web").status, 429);
}

#[test]
fn a_port_for_other_nodes_that_somebody_else_has_is_told_before_a_reload() {
    for binary in binaries() {
        let said = binary.version.to_string();
        let stage = Stage::running(&binary, |file| file);
        let worker = stage.worker();
        let dir = stage.path("").display().to_string();
        write(stage.path("heartbeat.key"), "a key for one test alone");
        private(&stage.path("heartbeat.key"));
        let held = std::net::TcpListener::bind((NODES[0].1, 0)).expect("a port");
        let port = held.local_addr().expect("its address").port();
        let own = format!(
            "name  = \"test\"\npeers = {{ test = \"{}\", lb2 = \"{}\" }}\n\
             heartbeat = {{ port = {port}, key = \"file:{dir}heartbeat.key\" }}",
            NODES[0].1, NODES[1].1
        );
        let text =
            stage.text().replace("name  = \"test\"", &own) + &format!("[keepalived]\ndirectory = \"{dir}vrrp\"\n");
        stage.write_file(&text);
        wait_for("a refusal", PATIENCE, || {
            let problems = stage.json(&["status"])["problems"].to_string();
            problems.contains(&format!("port {port} is in use")).then_some(())
        });
        assert_eq!(stage.worker(), worker, "{said}");
        drop(held);
        wait_for("a reload", Duration::from_secs(40), || {
            stage.cli(&["apply"]);
            (stage.worker() != worker).then_some(())
        });
    }
}

#[test]
fn a_node_that_shares_nothing_is_told() {
    let Some(binary) = binaries().pop() else { return };
    let mut nodes = pair([&binary, &binary], ["a key for one test alone"; 2], &client("acme", "bucket"));
    let told = |stage: &Stage| {
        let status = stage.json(&["status"]);
        status["problems"]
            .as_array()
            .expect("problems")
            .iter()
            .any(|one| one.as_str().is_some_and(|text| text.starts_with("HAProxy shares no counters with lb2: ")))
    };
    assert!(!told(&nodes[0]));
    nodes[1].end_haproxy();
    wait_for("word of it", Duration::from_secs(60), || told(&nodes[0]).then_some(()));
    nodes[1].start_haproxy();
    wait_for("no word of it", Duration::from_secs(60), || (!told(&nodes[0])).then_some(()));
}

fn files_with(stage: &Stage, text: &str) -> Vec<String> {
    let mut command = Command::new("grep");
    command.args(["-rlF", text, "."]).current_dir(stage.path(""));
    let found = process::run(command, agent::LIMIT).stdout;
    let mut names: Vec<String> = found.lines().map(|line| line.trim_start_matches("./").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn who_has_used_up_a_limit_has_used_it_up_where_the_address_moves() {
    let Some(mut cluster) = Cluster::new(&["a", "b"]) else { return };
    let all = all_clients("acme") + &all_clients("web");
    let text = cluster
        .toml()
        .replace("[backend.chat.check]\n", "[backend.chat]\nprovider = \"openai\"\n[backend.chat.check]\n");
    cluster.write_file(&(text + &plans() + &all));
    for node in ["a", "b"] {
        cluster.start_node(node);
    }
    let (owner, other) = cluster.wait_until_quiet();
    // Each HAProxy asks the other one for its counters when it begins, and takes them for newer than its own.
    pause(NEWS);
    let status = |cluster: &Cluster, of: &str| {
        let words = format!(
            "curl -s -m 5 -o /dev/null -w %{{http_code}} -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' \
             -d '{}' http://{VIP}:8080{CHAT}",
            key(of),
            HELLO.replace("mock-small", "gpt-4o-mini")
        );
        cluster.net.run("sw", &["sh", "-c", &words]).stdout
    };
    for kind in KINDS {
        for turn in 0..=MOST {
            let expected = if turn < MOST { "200" } else { "429" };
            assert_eq!(status(&cluster, &format!("acme-{kind}")), expected, "{kind}, {turn}");
            pause(Duration::from_millis(100));
        }
    }
    pause(NEWS);
    let done = cluster.hapilot(owner, &["vip", "release"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    cluster.wait_for_owner(other);
    for kind in KINDS {
        assert_eq!(status(&cluster, &format!("acme-{kind}")), "429", "{kind}");
        assert_eq!(status(&cluster, &format!("web-{kind}")), "200", "{kind}");
    }
    // The other way round, with a node that dies.
    for kind in KINDS {
        for _ in 1..MOST {
            assert_eq!(status(&cluster, &format!("web-{kind}")), "200", "{kind}");
            pause(Duration::from_millis(100));
        }
        assert_eq!(status(&cluster, &format!("web-{kind}")), "429", "{kind}");
    }
    assert_eq!(cluster.hapilot(owner, &["vip", "reclaim"]).code, Some(0));
    pause(NEWS);
    for part in ["agent", "haproxy", "keepalived"] {
        cluster.kill(other, part);
    }
    cluster.net.done(other, &["ip", "link", "set", "eth0", "down"]);
    wait_for("the address", PATIENCE, || cluster.bears(owner).then_some(()));
    for kind in KINDS {
        for of in ["acme", "web"] {
            assert_eq!(status(&cluster, &format!("{of}-{kind}")), "429", "{of}, {kind}, after a death");
        }
    }
}
