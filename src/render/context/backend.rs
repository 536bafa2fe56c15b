//! A backend and its servers as the templates see them.

use super::{ContextMaker, Pass};
use crate::config::{Backend, BackendTimeout, Check, Config, ProxyProtocol, RetryStreams, Server};
use crate::desired::{DesiredServer, KEY_SLOTS, lone_first, needs_hops, shares_keys};
use crate::model::{
    AdminState, Affinity, Balance, ErrorWords, Host, Origin, Profile, Scheme, SecretRef, ServerId, Sourced, Weight,
};
use crate::render::caller::key_headers;
use crate::render::names::{hop_proxy, hop_socket};
use crate::render::value::{ContextMap, duration};
use std::collections::BTreeMap;
use std::time::Duration;
use tera::Value;

/// Answers that another server may do better, in any version.
const RETRIED: &str = "conn-failure empty-response junk-response 500 502 503 504";

/// How often HAProxy looks again while a server changes its state.
const FAST_INTER: Duration = Duration::from_secs(1);
/// How often HAProxy looks at a server that is down, at most.
const DOWN_INTER: Duration = Duration::from_secs(5);
/// The server with the fewest connections for its weight of two that are drawn by weight.
const BEST_OF_DRAWN: &str = "random(2)";
/// In a file with more servers drawing costs too much: 1,000 servers of weight 100 take 80 MB and a second of each start.
const MOST_DRAWN: usize = 256;
/// So many words are looked for by one rule; HAProxy takes 64 words per line.
const WORDS_PER_RULE: usize = 24;
/// What stands for an address and a port that the runtime can set.
const MASKED_ADDRESS: (&str, u16) = ("192.0.2.1", 1);

impl ContextMaker<'_> {
    pub(in crate::render) fn backend(&mut self, backend: &Backend) -> Value {
        let Backend {
            name,
            origin,
            // Seen by `identity`.
            provider: _,
            balance,
            affinity,
            // How weights come about is not HAProxy's business.
            weighting: _,
            retries,
            retry_streams,
            stream_watch,
            timeout,
            forward_client,
            ask_usage,
            check,
            servers,
            canary,
            raw,
        } = backend;
        let needs_hops = needs_hops(backend);
        let has_keys = servers.iter().any(|server| !server.keys.is_empty());
        let retry_on = retry_on(backend, self.target.has_retry_on_429());
        let first = lone_first(backend).map(|server| self.marks.text(&server.name, Some(server.origin)));
        let BackendTimeout { connect, first_byte, first_byte_per_ktoken, first_token, idle } = timeout;
        // Where one timeout serves for both, it is the longer one that grows.
        let base = if self.target.has_response_timeout() { first_byte.value } else { first_byte.value.max(idle.value) };
        let growth = first_byte_per_ktoken.as_ref().map(|growth| {
            ContextMap::default()
                .with("ms_per_ktoken", self.marks.text(growth.value.as_millis(), growth.origin))
                .with("base_ms", base.as_millis().to_string())
                .with("most_ms", timeout.longest_first_byte().max(base).as_millis().to_string())
        });
        let repeats_silence = retry_streams.as_ref().is_some_and(|word| word.value == RetryStreams::ErrorsAndSilence);
        let first_token = first_token.as_ref().map(|first| {
            let most = timeout.longest_first_token().unwrap_or(first.value);
            ContextMap::default()
                .with("ms", self.marks.text(first.value.as_millis(), first.origin))
                .with("most_ms", most.as_millis().to_string())
        });
        let longest = if first_byte.value >= idle.value { first_byte } else { idle };
        let timeout = ContextMap::default()
            .with("connect", self.sourced_duration(connect))
            .with("first_byte", self.sourced_duration(first_byte))
            .with("idle", self.sourced_duration(idle))
            .with("idle_differs", first_byte.value != idle.value || growth.is_some() || first_token.is_some())
            .with("first_token", first_token.map(Value::from))
            .with("growth", growth.map(Value::from))
            .with("longest", self.sourced_duration(longest));
        let identity =
            servers.first().filter(|_| !needs_hops).map(|server| self.identity(backend, server, name.as_str()));
        let check = self.check(check);
        let ids = self.ids.get(name.as_str());
        let id_of = |server: &Server| ids?.get(server.name.as_str());
        // What the runtime can add and remove is no structure.
        let is_shown = |server: &&Server| self.pass == Pass::Real || id_of(server).is_none();
        let shown: Vec<&Server> = servers.iter().filter(is_shown).collect();
        let rows: Vec<Value> =
            shown.into_iter().map(|server| self.server(backend, server, &check, needs_hops, id_of(server))).collect();
        let (raw_first, raw_last) = self.raw_lines(raw);
        ContextMap::default()
            .with("name", self.marks.text(name, Some(*origin)))
            .with("balance", self.balance(balance))
            .with("hash_is_consistent", matches!(balance.value, Balance::Source | Balance::Affinity))
            .with("affinity", (balance.value == Balance::Affinity).then(|| self.affinity(affinity)))
            .with("timeout", timeout)
            .with("retries", self.marks.sourced(retries))
            .with("repeats_rejections", retry_on.as_ref().is_some_and(|causes| causes.contains("401")))
            .with("retry_on", retry_on.map(|codes| self.marks.text(codes, retries.origin)))
            .with("forward_client", *forward_client)
            .with("ask_usage", *ask_usage)
            .with("first", first)
            .with("words", self.words(backend))
            .with("needs_hops", needs_hops)
            .with("watches_streams", stream_watch.value)
            .with("repeats_streams", retry_streams.is_some() && needs_hops)
            .with("repeats_silence", repeats_silence && needs_hops)
            .with("renames_models", backend.first_renamed().is_some())
            .with("canary", canary.as_ref().map(|canary| self.canary(backend, canary)))
            .with("has_keys", has_keys)
            .with("hops_tell_key", needs_hops && has_keys)
            .with("identity", identity)
            .with("servers", rows)
            .with("raw_first", raw_first)
            .with("raw", raw_last)
            .into()
    }

    fn server(
        &mut self,
        backend: &Backend,
        server: &Server,
        check: &Value,
        needs_hops: bool,
        dynamic_id: Option<&u32>,
    ) -> Value {
        let name = self.marks.text(&server.name, Some(server.origin));
        let line = self.line(backend, server, check, needs_hops, dynamic_id);
        let hop = needs_hops.then(|| {
            let id = ServerId::new(backend.name.clone(), server.name.clone());
            let socket = hop_socket(&self.desired.config, &id);
            let longest = backend.timeout.longest_first_byte().max(backend.timeout.idle.value);
            let timeout = longest + Duration::from_secs(1);
            let line = self.reached(unshared(&name), check, server);
            // For a first event; where silence is not repeated, the one in front decides.
            let repeats_silence =
                backend.retry_streams.as_ref().is_some_and(|word| word.value == RetryStreams::ErrorsAndSilence);
            let patience = backend.timeout.longest_first_token().filter(|_| repeats_silence).unwrap_or(timeout);
            let of_canary = || backend.canary.as_ref()?.models()?.values().next();
            let renamed = server.models.values().next().or_else(of_canary);
            let renames = renamed.map(|here| self.marks.text(&id, here.origin));
            ContextMap::default()
                .with("proxy", hop_proxy(&id))
                .with("socket", self.marks.text(&socket.bind, Some(server.origin)))
                .with("timeout", duration(timeout))
                .with("patience", duration(patience))
                .with("identity", self.identity(backend, server, &id.to_string()))
                // What its names of models begin with in the map, where it has any.
                .with("renames", renames)
                .with("renames_others", server.models.contains_key("*"))
                .with("line", line)
        });
        ContextMap::default()
            .with("name", name)
            .with("tier", server.tier)
            .with("region", server.region.as_ref().map(|region| self.marks.text(region, Some(server.origin))))
            .with("line", line)
            .with("hop", hop.map(Value::from))
            .into()
    }

    /// The server's line in its backend, as `parts/server.cfg` sees it.
    pub(in crate::render) fn line(
        &mut self,
        backend: &Backend,
        server: &Server,
        check: &Value,
        needs_hops: bool,
        dynamic_id: Option<&u32>,
    ) -> ContextMap {
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        let is_backup = match lone_first(backend) {
            Some(first) => first.name == server.name,
            None => server.tier > 1,
        };
        let front = self.shares(server, &id).with("is_backup", is_backup);
        let front = if needs_hops {
            front
                .with("address", hop_socket(&self.desired.config, &id).connect)
                .with("port", None::<Value>)
                .with("track", format!("{}/{}", hop_proxy(&id), server.name))
                .with("check", None::<Value>)
                .with("tls", None::<Value>)
                .with("is_dns", false)
                .with("proxy_protocol", None::<Value>)
                .with("raw", Vec::<Value>::new())
        } else {
            self.reached(front.with("track", None::<Value>), check, server)
        };
        let name = self.marks.text(&server.name, Some(server.origin));
        front.with("name", name).with("id", dynamic_id.map(ToString::to_string))
    }

    /// HAProxy's own cheap check, a net below ours: the same for all servers of a backend.
    pub(in crate::render) fn check(&mut self, check: &Check) -> Value {
        let Check { origin, interval, fall, rise, .. } = check;
        let origin = Some(*origin);
        ContextMap::default()
            .with("inter", self.marks.text(duration(*interval), origin))
            .with("fastinter", duration((*interval).min(FAST_INTER)))
            .with("downinter", duration((*interval).min(DOWN_INTER)))
            .with("fall", self.marks.text(fall, origin))
            .with("rise", self.marks.text(rise, origin))
            .into()
    }

    /// What decides on a server's part of the traffic.
    fn shares(&mut self, server: &Server, id: &ServerId) -> ContextMap {
        let configured = DesiredServer { weight: server.weight.value, state: server.state.value };
        let wish = match self.pass {
            Pass::Real => self.desired.servers.get(id).copied().unwrap_or(configured),
            Pass::Masked => DesiredServer { weight: Weight::DEFAULT, state: AdminState::Ready },
        };
        let weight = if wish.state == AdminState::Drain { Weight::ZERO } else { wish.weight };
        // What the file says, and not what became of it: lines keep their places whatever moves.
        let origin = if server.state.value == AdminState::Drain { server.state.origin } else { server.weight.origin };
        let maxconn = server.maxconn.as_ref().filter(|_| self.pass == Pass::Real);
        ContextMap::default()
            .with("weight", self.marks.text(weight, origin))
            .with("is_disabled", wish.state == AdminState::Maint)
            .with("maxconn", maxconn.map(|maxconn| self.marks.sourced(maxconn)))
    }

    /// Where a server is and how it is looked after.
    fn reached(&mut self, line: ContextMap, check: &Value, server: &Server) -> ContextMap {
        let is_dns = matches!(server.url.host, Host::Dns(_));
        let (address, port) = match self.pass {
            Pass::Masked if !is_dns => (MASKED_ADDRESS.0.to_owned(), MASKED_ADDRESS.1),
            Pass::Real | Pass::Masked => (server.url.host.to_string(), server.url.port),
        };
        let proxied = server.proxy_protocol.as_ref().map(|version| match version.value {
            ProxyProtocol::V1 => self.marks.text("send-proxy", version.origin),
            ProxyProtocol::V2 => self.marks.text("send-proxy-v2", version.origin),
        });
        line.with("address", self.marks.text(address, server.url.origin))
            .with("port", port)
            .with("check", check.clone())
            .with("tls", self.server_tls(server))
            .with("is_dns", is_dns)
            .with("proxy_protocol", proxied)
            .with("raw", self.marks.lines(&server.raw))
    }

    fn server_tls(&mut self, server: &Server) -> Option<Value> {
        if server.url.scheme == Scheme::Http {
            return None;
        }
        let tls = &server.tls;
        let ca_file = match &tls.ca {
            Some(path) => self.marks.sourced(path),
            None => Value::from("@system-ca"),
        };
        let server_name = match (&tls.server_name, &server.url.host) {
            (Some(name), _) => Some(self.marks.sourced(name)),
            (None, Host::Dns(name)) => Some(self.marks.text(name, server.url.origin)),
            // An address is no server name in TLS; nothing is verified here.
            (None, Host::Ip(_)) => None,
        };
        // Else the client's Host would be asked for, and verified.
        let refuses_auto = server_name.is_none() && self.target.has_sni_auto();
        let table = ContextMap::default()
            .with("verify", tls.verify)
            .with("ca_file", ca_file)
            .with("server_name", server_name)
            .with("refuses_sni_auto", refuses_auto)
            .with("certificate", tls.certificate.as_ref().map(|path| self.marks.sourced(path)));
        Some(table.into())
    }

    /// What a request must look like for this server: Host, path, key. `key` is the entry in the map of keys.
    fn identity(&mut self, backend: &Backend, server: &Server, key: &str) -> Value {
        let origin = server.url.origin;
        let host_origin = match &server.host {
            Some(host) => host.origin,
            None => origin,
        };
        let host = self.marks.text(server.host_header(), host_origin);
        let Profile { key_header, key_prefix, headers, default_headers, .. } = &*backend.provider;
        let key_origin: Option<Option<Origin>> = server.keys.first().map(|key| key.origin);
        ContextMap::default()
            .with("host", host)
            .with("path", self.path(backend, server, origin))
            .with("key", key_origin.map(|origin| self.marks.text(key, origin)))
            .with("key_slots", shares_keys(server).then_some(KEY_SLOTS))
            .with("key_header", self.marks.text(key_header, Some(backend.origin)))
            .with("key_prefix", (!key_prefix.is_empty()).then(|| self.marks.text(key_prefix, Some(backend.origin))))
            .with("key_headers", self.marks.text(key_headers(key_header), Some(backend.origin)))
            .with("headers", self.constants(headers, backend.origin))
            .with("default_headers", self.constants(default_headers, backend.origin))
            .into()
    }

    /// HAProxy's algorithm: what was asked for, or what comes nearest to it on a version that has a fault there.
    fn balance(&mut self, balance: &Sourced<Balance>) -> Value {
        let is_faulty = balance.value == Balance::LeastConn && self.target.leastconn_loses_servers();
        if is_faulty && draws(&self.desired.config) {
            self.marks.text(BEST_OF_DRAWN, balance.origin)
        } else {
            self.marks.sourced(balance)
        }
    }

    /// What requests belong together by, as parts/affinity.cfg sees it.
    fn affinity(&mut self, affinity: &Sourced<Affinity>) -> Value {
        let header = match &affinity.value {
            Affinity::Header(name) => Some(self.marks.text(name, affinity.origin)),
            Affinity::Prompt | Affinity::Client => None,
        };
        let is_client = affinity.value == Affinity::Client;
        ContextMap::default().with("header", header).with("is_client", is_client).into()
    }

    /// What the provider's errors mean, in lower case, by the rule that looks for them.
    fn words(&mut self, backend: &Backend) -> Value {
        let mut listed = |words: &[String]| -> Vec<Value> {
            let mut rule = |words: &[String]| -> Value {
                let words = words.iter().map(|word| self.marks.text(word.to_lowercase(), Some(backend.origin)));
                words.collect::<Vec<_>>().into()
            };
            words.chunks(WORDS_PER_RULE).map(&mut rule).collect()
        };
        let ErrorWords { account, rejected, passing, overloaded: _ } = &backend.provider.errors;
        ContextMap::default()
            .with("account", listed(account))
            .with("rejected", listed(rejected))
            .with("passing", listed(passing))
            .into()
    }

    fn constants(&mut self, headers: &BTreeMap<String, String>, origin: Origin) -> Vec<Value> {
        headers
            .iter()
            .map(|(name, value)| {
                let name = self.marks.text(name, Some(origin));
                ContextMap::default().with("name", name).with("value", self.marks.text(value, Some(origin))).into()
            })
            .collect()
    }

    /// How a client's path becomes the server's, where the two differ.
    fn path(&mut self, backend: &Backend, server: &Server, origin: Option<Origin>) -> Option<Value> {
        let from = backend.provider.api_root.as_str();
        let to = server.url.path.as_str();
        if to.is_empty() || to == from {
            return None;
        }
        let table = ContextMap::default()
            .with("from", (!from.is_empty()).then_some(from))
            .with("from_regex", format!("^{}(/.*)?$", from.replace('.', "\\.")))
            .with("to", self.marks.text(to, origin));
        Some(table.into())
    }
}

/// Whether the file has few enough servers for drawing.
pub(in crate::render) fn draws(config: &Config) -> bool {
    config.servers().count() <= MOST_DRAWN
}

/// The line of the one server behind a hop: all traffic is its own, its share was decided in front.
fn unshared(name: &Value) -> ContextMap {
    ContextMap::default()
        .with("name", name.clone())
        .with("id", None::<Value>)
        .with("weight", Weight::DEFAULT.to_string())
        .with("is_disabled", false)
        .with("maxconn", None::<Value>)
        .with("is_backup", false)
        .with("track", None::<Value>)
}

fn key_references(server: &Server) -> Vec<&SecretRef> {
    server.keys.iter().map(|key| &key.value).collect()
}

/// What makes HAProxy try another server; `None` where it retries nothing. The template takes it back while there is no
/// other server: that changes at runtime.
fn retry_on(backend: &Backend, has_retry_on_429: bool) -> Option<String> {
    if backend.retries.value == 0 {
        return None;
    }
    let mut causes = vec![RETRIED];
    // Where the key is the client's, its mistake would be made once per server.
    if backend.servers.iter().any(|server| !server.keys.is_empty()) {
        causes.push("401");
    }
    // What one key may not do, another one may.
    if backend.servers.iter().any(|server| key_references(server) != key_references(&backend.servers[0])) {
        causes.push("403");
    }
    if has_retry_on_429 {
        causes.push("429");
    }
    Some(causes.join(" "))
}
