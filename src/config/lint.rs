//! What is doubtful in a valid configuration: it will be used, and may not do what was meant.
//!
//! Refuses to know how the file was read. Called by `cli` (`check`) and `agent` (at a load of the file).

mod canary;

use super::diagnostic::{Diagnostics, Found};
use super::lint_alerts::alerts;
use super::money::ModelPrice;
use super::read::is_loopback;
use super::route::is_match;
use super::source::SourceText;
use super::types::{Backend, Config, Frontend, Server};
use crate::cfg;
use crate::model::{Balance, BindHost, Name, Origin, Scheme, Weight, format_duration};
use crate::weights::Weighting;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

/// A cheap probe more often than this is a load of its own.
const BRISK_INTERVAL: Duration = Duration::from_secs(1);
/// A completion more often than this costs more than it tells.
const BRISK_CHAT: Duration = Duration::from_secs(30);

/// Warnings about a valid configuration, sorted by place; none is an error.
///
/// `file_name` is only shown; `text` is what `config` was read from.
pub fn lint(config: &Config, file_name: &str, text: &str) -> Diagnostics {
    let source = SourceText::new(text);
    let mut lint = Lint { source: &source, found: Vec::new() };
    lint.stats(config);
    lint.chroot(config);
    lint.sockets(config);
    lint.unused_backends(config);
    lint.no_clients(config);
    lint.plans_of_routes(config);
    lint.unasked_certificates(config);
    lint.money(config);
    alerts(config, &mut |code, origin, message, help| lint.warn(code, Some(origin), message, help));
    for frontend in &config.frontends {
        lint.frontend(config, frontend);
    }
    lint.vips(config);
    for backend in &config.backends {
        lint.backend(backend);
        lint.canary(config, backend);
        for server in &backend.servers {
            lint.server(backend, server);
        }
    }
    let found = lint.found;
    Diagnostics::new(file_name, &source, found, &[])
}

struct Lint<'a> {
    source: &'a SourceText<'a>,
    found: Vec<Found>,
}

impl Lint<'_> {
    fn at(&self, origin: Option<Origin>) -> Range<usize> {
        self.source.token(origin.unwrap_or(Origin { line: 1, column: 1 }))
    }

    fn warn(&mut self, code: &'static str, origin: Option<Origin>, message: String, help: &str) {
        let span = self.at(origin);
        self.found.push(Found::warning(code, message, span).help(help));
    }

    fn chroot(&mut self, config: &Config) {
        if let (Some(directory), Some(limit)) = (config.haproxy.chroot(), &config.limit_address) {
            let message = format!("in chroot {directory} the counters of [limit.address] begin at zero at each reload");
            let help =
                "an old worker that is locked in finds no way to the new one: remove the line if they should last";
            self.warn("chroot-counters", limit.requests.origin, message, help);
        }
    }

    fn stats(&mut self, config: &Config) {
        if let Some(stats) = &config.haproxy.stats
            && !is_loopback(&stats.bind)
        {
            self.warn(
                "clear-stats",
                stats.bind.origin,
                format!("the statistics page listens on {} without TLS: its password travels in clear", *stats.bind),
                "bind 127.0.0.1 and reach it through a tunnel",
            );
        }
    }

    /// Maps are shown to whoever may ask: before HAProxy 3.4 that is every level.
    fn sockets(&mut self, config: &Config) {
        if config.servers().all(|(_, server)| server.keys.is_empty()) {
            return;
        }
        for line in config.haproxy.raw.iter().filter(|line| opens_a_lesser_socket(&line.value)) {
            self.warn(
                "socket-shows-keys",
                line.origin,
                "whoever may write to this socket can read the providers' keys: HAProxy before 3.4 shows maps (`show map`) at every level, also at `user`; \
                 from 3.4 on it asks for `operator`, which is what a socket without a level has"
                    .to_owned(),
                "keep it to those who may have the keys: `mode 600`, without a TCP port; what a tool wants of HAProxy's numbers is at `stats` and `[api]` as well",
            );
        }
    }

    fn vips(&mut self, config: &Config) {
        if let (None, Some(vip)) = (&config.node.heartbeat, config.vips.iter().find(|vip| vip.priority.len() > 1)) {
            self.warn(
                "no-heartbeat",
                Some(vip.origin),
                "the nodes do not hear of each other: two owners of an address go unnoticed, no node takes a revision first, and clients have their limits on each node anew"
                    .to_owned(),
                "add it to `[node]`: heartbeat = { key = \"file:/etc/hapilot/heartbeat.key\" }",
            );
        }
        let node = &config.node;
        if node.heartbeat.is_some() && !node.peers.contains_key(&node.name.value) {
            let names: Vec<&str> = node.peers.keys().map(Name::as_str).collect();
            let why = match names.is_empty() {
                true => {
                    "`[node] heartbeat` needs the addresses of the other nodes: nothing is shared with any".to_owned()
                }
                false => format!(
                    "`[node] peers` has {} and not this node, {}: the others do not know it, and share nothing with it",
                    names.join(", "),
                    node.name.value
                ),
            };
            let help = "write all nodes and their addresses: peers = { lb1 = \"ADDRESS\", lb2 = \"ADDRESS\" }; the node's name \
                        is the host's, or `name`";
            self.warn("unknown-node", node.name.origin, why, help);
        }
        for vip in config.vips.iter().filter(|vip| vip.priority.len() == 1) {
            self.warn(
                "lone-vip",
                Some(vip.origin),
                format!("one node alone takes part in [vip.{}]: it moves nowhere", vip.name),
                "name the other nodes in `priority`",
            );
        }
    }

    fn frontend(&mut self, config: &Config, frontend: &Frontend) {
        let name = &frontend.name;
        if let Some(backend) = config.backend(&name.value) {
            let line = backend.origin.line;
            self.warn(
                "shared-name",
                name.origin,
                format!("frontend {} and the backend on line {line} have one name", name.value),
                "HAProxy 3.3 and newer refuse that: rename one of them",
            );
        }
        for bind in &frontend.bind {
            let BindHost::Ip(ip) = bind.host else { continue };
            let other =
                config.node.peers.iter().find(|(node, peer)| peer.value == ip && **node != config.node.name.value);
            if let Some((node, _)) = other {
                self.warn(
                    "foreign-bind",
                    bind.origin,
                    format!("{ip} is {node}'s own address: {} cannot listen there", config.node.name.value),
                    "bind a virtual address, or all addresses with \"*:PORT\"",
                );
            }
        }
        let reachable = std::iter::once(&frontend.backend).chain(frontend.routes.iter().map(|route| &route.backend));
        let keyed = |name: &Name| {
            config.backend(name).is_some_and(|backend| backend.servers.iter().any(|server| !server.keys.is_empty()))
        };
        let outside = frontend.bind.iter().find(|bind| !is_loopback(bind));
        if let (Some(bind), Some(backend)) = (outside, reachable.map(|name| &name.value).find(|name| keyed(name)))
            && !frontend.open
            && !config.has_clients()
            && !frontend.client_certificates.as_ref().is_some_and(|trust| trust.required)
            && !frontend.raw.iter().any(|line| turns_away(line))
        {
            self.warn(
                "open-relay",
                bind.origin,
                format!(
                    "frontend {} listens on {} and asks no one who they are: whoever reaches it spends the keys of backend {backend}",
                    name.value, bind.value
                ),
                "give callers keys of their own: clients = \"/etc/hapilot/clients.toml\" at the top of the file (docs/clients.md); or let in only those you know, for example: raw = [\"http-request deny deny_status 403 unless { src 10.0.0.0/8 }\"]; \
                 where a firewall does, or it is meant so: open = true",
            );
        }
    }

    /// A glob for plans of which there is none.
    fn plans_of_routes(&mut self, config: &Config) {
        for glob in config.frontends.iter().flat_map(|frontend| &frontend.routes).flat_map(|route| &route.plan) {
            if !config.plans.iter().any(|plan| is_match(&glob.value, plan.name.value.as_str())) {
                self.warn(
                    "no-such-plan",
                    glob.origin,
                    format!("no plan fits {:?}: the route takes nobody by it", glob.value),
                    "look at the names of the plans",
                );
            }
        }
    }

    fn no_clients(&mut self, config: &Config) {
        if let (Some(plan), true, None) = (config.plans.first(), config.clients.is_empty(), &config.clients_file) {
            self.warn(
                "no-clients",
                plan.name.origin,
                "there are plans and no clients: nobody may ask".to_owned(),
                "name a file for them at the top of this one: clients = \"/etc/hapilot/clients.toml\"; or remove the plans",
            );
        }
    }

    fn unasked_certificates(&mut self, config: &Config) {
        let is_asked = |frontend: &Frontend| frontend.client_certificates.is_some() && !frontend.open;
        let known = config.clients.iter().find_map(|client| Some((client, client.certificates.first()?)));
        if let (Some((client, certificate)), false) = (known, config.frontends.iter().any(is_asked)) {
            self.warn(
                "unasked-certificate",
                certificate.origin,
                format!("client {} is known by a certificate, and no frontend asks for one", client.name.value),
                "give a frontend `client_certificates = { ca = [\"/path/to/their-ca.pem\"] }`",
            );
        }
    }

    fn money(&mut self, config: &Config) {
        let budgets = config.plans.iter().filter_map(|plan| Some((plan, plan.budget.as_ref()?)));
        let Some((plan, budget)) = budgets.min_by_key(|(_, budget)| budget.nano_usd.origin.map(|at| at.line)) else {
            return;
        };
        let (name, origin) = (&plan.name.value, budget.nano_usd.origin);
        if !config.haproxy.live {
            self.warn(
                "unkept-budget",
                origin,
                format!("plan {name} has a budget, and `[haproxy] live` is off: who has spent what is forgotten with HAProxy"),
                "remove `live = false`",
            );
        }
        let has_all = config.prices.iter().any(|price| price.model.value == "*" && price.server.is_none());
        if has_all {
            return;
        }
        let unpriced = config.servers().find(|(backend, server)| {
            let at_it = |price: &ModelPrice| {
                let server_of = price.server.as_ref().map(|id| &id.value);
                price.model.value == "*"
                    && server_of.is_some_and(|id| id.backend == backend.name && id.server == server.name)
            };
            server.price.is_none() && !config.prices.iter().any(at_it)
        });
        if let Some((backend, server)) = unpriced {
            let of = if config.prices.is_empty() { "tokens" } else { "models that no `[[price]]` has" };
            self.warn(
                "unpriced",
                origin,
                format!("plan {name} has a budget, and {of} cost nothing at {}/{}", backend.name, server.name),
                "write what all others cost: [[price]] with model = \"*\"; or `price` of the server, with zeros where it is free",
            );
        }
    }

    fn unused_backends(&mut self, config: &Config) {
        let used: BTreeSet<_> =
            config.frontends.iter().flat_map(|frontend| frontend.leads_to().map(|name| &name.value)).collect();
        for backend in config.backends.iter().filter(|backend| !used.contains(&backend.name)) {
            self.warn(
                "unused-backend",
                Some(backend.origin),
                format!("no frontend and no route leads to backend {}", backend.name),
                "add a route to it, or remove it: it is probed and gets no traffic",
            );
        }
    }

    fn backend(&mut self, backend: &Backend) {
        let origin = Some(backend.origin);
        let name = &backend.name;
        if backend.servers.len() == 1 {
            self.warn(
                "one-server",
                origin,
                format!("backend {name} has one server: no retry can hide its failure"),
                "add a second server, of another provider or region if there is one",
            );
        }
        if backend.retries.value == 0 {
            self.warn(
                "no-retries",
                backend.retries.origin,
                format!("backend {name} never retries: a refused connection reaches the client"),
                "1 or 2 retries before the first byte are safe",
            );
        }
        let tier_one = || backend.servers.iter().filter(|server| server.tier == 1);
        if tier_one().next().is_none() {
            self.warn(
                "no-first-tier",
                origin,
                format!("backend {name} has servers of tier 2 only"),
                "leave `tier` out for those that take traffic first",
            );
        }
        if !backend.servers.is_empty() && backend.servers.iter().all(|server| server.weight.value == Weight::ZERO) {
            self.warn(
                "no-weight",
                origin,
                format!("every server of backend {name} has weight 0: it gets no traffic"),
                "give one of them a weight of 1 to 256",
            );
        }
        if backend.affinity.origin.is_some() && backend.balance.value != Balance::Affinity {
            self.warn(
                "deaf-affinity",
                backend.affinity.origin,
                format!("`affinity` of backend {name} does nothing with balance {}", backend.balance.value),
                "write `balance = \"affinity\"`, or remove it",
            );
        }
        if backend.weighting == Weighting::Adaptive && backend.balance.value == Balance::First {
            self.warn(
                "deaf-balance",
                backend.balance.origin,
                format!("backend {name} has adaptive weights, and balance first does not look at weights"),
                "use leastconn, roundrobin or random",
            );
        }
        self.check(backend);
    }

    fn check(&mut self, backend: &Backend) {
        let origin = Some(backend.check.origin);
        let name = &backend.name;
        let check = &backend.check;
        if check.interval < BRISK_INTERVAL {
            self.warn(
                "brisk-check",
                origin,
                format!("backend {name} is probed every {}, each server by each node", format_duration(check.interval)),
                "1s or more is enough; providers count probes as requests",
            );
        }
        if let Some(chat) = &check.chat
            && chat.every < BRISK_CHAT
        {
            let day = Duration::from_secs(86_400).as_secs() / chat.every.as_secs().max(1);
            self.warn(
                "costly-probe",
                origin,
                format!(
                    "backend {name} pays for a completion every {}: {day} a day for each server",
                    format_duration(chat.every)
                ),
                "5m is the default",
            );
        }
        if check.certificate_expiry.is_some() && backend.servers.iter().all(|s| s.url.scheme == Scheme::Http) {
            self.warn(
                "idle-check",
                origin,
                format!("backend {name} has no server with https: `certificate_expiry` has nothing to look at"),
                "remove `certificate_expiry`",
            );
        }
        let deep = check.chat.is_some() || check.embeddings.is_some();
        if check.models.is_none() && check.http.is_none() && !deep {
            self.warn(
                "no-probe",
                origin,
                format!("backend {name} is not probed at all: its weights never follow its health"),
                "remove `models = false` or add `http = { path = \"/health\" }`",
            );
        }
    }

    fn server(&mut self, backend: &Backend, server: &Server) {
        let name = format!("{}/{}", backend.name, server.name);
        if !server.tls.verify && server.url.scheme == Scheme::Https {
            self.warn(
                "unverified-tls",
                Some(server.origin),
                format!("server {name} is not verified: whoever answers there gets the key"),
                "name its authority in `tls.ca` and remove `verify = false`",
            );
        }
        for line in &server.raw {
            if let Some((instead, word)) =
                cfg::words(line).filter_map(|word| word.said).find_map(|word| Some((connects_otherwise(&word)?, word)))
            {
                self.warn(
                    "unfollowed-word",
                    line.origin,
                    format!("`{word}` changes how HAProxy connects to server {name}: probes do not follow, and may call it down"),
                    instead,
                );
            }
        }
        let path = server.url.path.trim_end_matches('/');
        if let Some(of_api) = API_PATHS.iter().find(|of_api| path.ends_with(**of_api)) {
            self.warn(
                "api-path",
                server.url.origin,
                format!("the URL of server {name} ends in {of_api}, which clients add as well: they would get 404"),
                "write the base URL, such as \"https://api.openai.com/v1\"",
            );
        }
        if !server.keys.is_empty() && server.url.scheme == Scheme::Http && !server.url.host.is_private() {
            self.warn(
                "clear-key",
                server.url.origin,
                format!("the key of server {name} travels in clear text"),
                "write https in `url`",
            );
        }
    }
}

/// Ends of paths that belong to an API and not to a server.
const API_PATHS: [&str; 6] = ["/completions", "/messages", "/embeddings", "/models", "/responses", "/rerank"];

/// A word of a server line that changes the connection, and what to write in its place.
fn connects_otherwise(word: &str) -> Option<&'static str> {
    Some(match word {
        "send-proxy" | "check-send-proxy" => "write `proxy_protocol = \"v1\"` instead",
        _ if word.starts_with("send-proxy-v2") => "write `proxy_protocol = \"v2\"` instead",
        "crt" => "write `tls = { certificate = \"…\" }` instead",
        "ca-file" | "verify" | "no-verify" => "write `tls = { ca = \"…\" }` instead",
        "sni" | "verifyhost" | "check-sni" => "write `tls = { server_name = \"…\" }` instead",
        "ssl" | "check-ssl" => "write https in `url` instead",
        "addr"
        | "port"
        | "proto"
        | "alpn"
        | "check-proto"
        | "check-alpn"
        | "check-via-socks4"
        | "ciphers"
        | "ciphersuites"
        | "crl-file"
        | "curves"
        | "force-sslv3"
        | "interface"
        | "namespace"
        | "no-check"
        | "no-ssl"
        | "redir"
        | "set-proxy-v2-tlv-fmt"
        | "sigalgs"
        | "socks4"
        | "source"
        | "ssl-max-ver"
        | "ssl-min-ver"
        | "usesrc"
        | "no-check-ssl"
        | "client-sigalgs"
        | "no-alpn"
        | "resolvers"
        | "init-addr" => "check by hand that a plain connection from this node reaches it too, or turn its probes off",
        _ => return None,
    })
}

/// Whether a raw line opens a socket for those who do not rule HAProxy. Who does may read everything.
fn opens_a_lesser_socket(line: &str) -> bool {
    let words: Vec<_> = cfg::words(line).map(|word| word.said.unwrap_or_default()).collect();
    let is_socket = matches!(words.as_slice(), [stats, socket, ..] if stats == "stats" && socket == "socket");
    // The last one holds.
    let level = words.windows(2).rev().find(|pair| pair[0] == "level").map(|pair| &*pair[1]);
    is_socket && level != Some("admin")
}

/// Whether a raw line keeps some clients out.
fn turns_away(line: &str) -> bool {
    let mut words = cfg::words(line).map(|word| word.said.unwrap_or_default());
    let is_rule = matches!(words.next().as_deref(), Some("http-request" | "tcp-request"));
    let verdicts = ["deny", "auth", "reject", "tarpit", "silent-drop", "return"];
    is_rule && words.take(2).any(|word| verdicts.contains(&&*word))
}

#[cfg(test)]
mod tests {
    use super::lint;
    use crate::config::parse;

    const CLEAN: &str = r#"
[haproxy]
stats = { bind = "127.0.0.1:8404", user = "ops", password = "file:/etc/hapilot/stats" }

[frontend.api]
bind = ["*:8080"]
open = true
[backend.chat]
retries = 2
weighting = "adaptive"
balance = "leastconn"

[backend.chat.check]
interval = "10s"
chat = { model = "m", every = "5m" }

[backend.chat.server.a]
url = "https://a.example"
keys = ["env:A"]
weight = 100

[backend.chat.server.b]
url = "http://192.168.1.1:8000"
keys = ["env:B"]
weight = 0
"#;

    fn warnings(text: &str) -> Vec<(&'static str, u32)> {
        let config = parse("f", text, "lb1").unwrap_or_else(|diagnostics| panic!("{}", diagnostics.render(false)));
        let diagnostics = lint(&config, "f", text);
        assert!(!diagnostics.has_errors());
        let place = |origin: Option<crate::model::Origin>| origin.map_or(0, |origin| origin.line);
        diagnostics.iter().map(|diagnostic| (diagnostic.code, place(diagnostic.origin))).collect()
    }

    #[test]
    fn a_clean_file_has_no_warning_and_one_broken_thing_has_one() {
        let clean = CLEAN;
        assert_eq!(warnings(clean), []);
        for (from, to, code, line) in [
            ("127.0.0.1:8404", "*:8404", "clear-stats", 3),
            ("open = true", "", "open-relay", 6),
            ("open = true", "raw = [\"http-response del-header Server\"]", "open-relay", 6),
            ("open = true", "raw = [\"http-request deny unless { src 10.0.0.0/8 }\"]", "", 0),
            ("open = true", "raw = [\"tcp-request connection reject unless { src 10.0.0.0/8 }\"]", "", 0),
            ("*:8080\"]\nopen = true", "127.0.0.1:8080\"]", "", 0),
            ("[frontend.api]", "[frontend.chat]", "shared-name", 5),
            ("[haproxy]", "node = { peers = { lb1 = \"192.0.2.11\", lb2 = \"192.0.2.12\" } }\n[haproxy]", "", 0),
            ("retries = 2", "retries = 0", "no-retries", 9),
            ("\"leastconn\"", "\"first\"", "deaf-balance", 11),
            ("\"10s\"", "\"500ms\"", "brisk-check", 13),
            ("\"5m\"", "\"10s\"", "costly-probe", 13),
            ("weight = 100", "weight = 0", "no-weight", 8),
            ("https://a.example", "https://a.example/v1/chat/completions", "api-path", 18),
            ("https://a.example", "https://a.example/v1/", "", 0),
            ("192.168.1.1", "203.0.113.1", "clear-key", 23),
            ("192.168.1.1", "b.example", "clear-key", 23),
            ("weight = 100", "raw = [\"slowstart 1s\", \"send-proxy-v2-ssl\"]", "unfollowed-word", 20),
            ("weight = 100", "raw = [\"crt /x.pem\"]", "unfollowed-word", 20),
            ("weight = 100", "raw = [\"source 192.0.2.1\"]", "unfollowed-word", 20),
            ("weight = 100", "tls = { verify = false }", "unverified-tls", 17),
            ("chat = {", "models = false\nchat = {", "", 0),
            ("chat = { model = \"m\", every = \"5m\" }", "models = false", "no-probe", 13),
        ] {
            assert!(clean.contains(from), "{from}");
            let expected = if code.is_empty() { Vec::new() } else { vec![(code, line)] };
            assert_eq!(warnings(&clean.replacen(from, to, 1)), expected, "{to}");
        }
        let expiry = clean.replace("interval = ", "certificate_expiry = \"14d\"\ninterval = ");
        assert_eq!(warnings(&expiry), []);
        assert_eq!(warnings(&expiry.replace("https://a.example", "http://10.0.0.1")), [("idle-check", 13)]);
        let elsewhere = clean
            .replace("[haproxy]", "node = { peers = { lb1 = \"192.0.2.11\", lb2 = \"192.0.2.12\" } }\n[haproxy]")
            .replace("\"*:8080\"", "\"192.0.2.11:8080\", \"192.0.2.12:8080\"");
        assert_eq!(warnings(&elsewhere), [("foreign-bind", 7)]);
        let heartbeat = |peers: &str| {
            clean.replace("[haproxy]", &format!("node = {{ {peers}heartbeat = {{ key = \"env:KEY\" }} }}\n[haproxy]"))
        };
        assert_eq!(warnings(&heartbeat("peers = { lb1 = \"192.0.2.11\", lb2 = \"192.0.2.12\" }, ")), []);
        assert_eq!(warnings(&heartbeat("peers = { lb8 = \"192.0.2.11\", lb9 = \"192.0.2.12\" }, ")).len(), 1);
        assert_eq!(warnings(&heartbeat("")).len(), 1);
        let tiers = clean.replace("weight = ", "tier = 2\nweight = ");
        assert_eq!(warnings(&tiers), [("no-first-tier", 8)]);
        let unused = clean.replace("bind = [", "backend = \"chat\"\nbind = [")
            + "[backend.x.server.a]\nurl = \"http://10.0.0.1\"\n[backend.x.server.b]\nurl = \"http://10.0.0.2\"\n";
        assert_eq!(warnings(&unused), [("unused-backend", 27)]);
    }

    #[test]
    fn a_client_of_a_certificate_that_nobody_asks_for_is_doubtful() {
        let client =
            format!("[plan.free]\n[client.acme]\nplan = \"free\"\ncertificate_sha256 = \"{}\"\n", "0a".repeat(32));
        let text = CLEAN.to_owned() + &client;
        assert_eq!(warnings(&text.replace("open = true", "")), [("unasked-certificate", 29)]);
        let asked = "certificates = [\"/x.pem\"]\nclient_certificates = { ca = [\"/ca.pem\"] }";
        assert_eq!(warnings(&text.replace("open = true", asked)), []);
        // Whoever needs one is no stranger.
        assert_eq!(warnings(&CLEAN.replace("open = true", asked)), []);
        let optional = asked.replace("] }", "], required = false }");
        assert_eq!(warnings(&CLEAN.replace("open = true", &optional)), [("open-relay", 6)]);
    }

    #[test]
    fn one_server_is_doubtful() {
        let text = "[frontend.api]\nbind = [\"*:8080\"]\n[backend.chat.server.a]\nurl = \"http://10.0.0.1\"\n";
        assert_eq!(warnings(text), [("one-server", 3)]);
    }
}
