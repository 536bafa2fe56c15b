//! A frontend as the templates see it.

use super::clients::has_prices;
use super::{ContextMaker, asked_from};
use crate::cfg;
use crate::config::{ClientTrust, Frontend, FrontendTimeout, Plan, own_vips};
use crate::model::{BindHost, Digest, Origin, Sourced, TrustKind};
use crate::render::names::{self, RoutesMap, health_map, routes_map};
use crate::render::routes::reached;
use crate::render::trust::bundle;
use crate::render::value::{ContextMap, duration};
use camino::Utf8PathBuf;
use std::net::IpAddr;
use std::time::Duration;
use tera::Value;

/// Sent data that nobody has acknowledged for as long is lost.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Whether a raw line says where logs go or what they look like.
fn is_of_logs(line: &str) -> bool {
    let mut words = cfg::words(line).map(|word| word.said.unwrap_or_default());
    match words.next().as_deref() {
        Some("log" | "log-format") => true,
        Some("option") => matches!(words.next().as_deref(), Some("httplog" | "httpslog" | "tcplog")),
        _ => false,
    }
}

/// HAProxy's word for QUIC at such an address.
fn family(host: BindHost) -> &'static str {
    match host {
        BindHost::AnyBoth | BindHost::Ip(IpAddr::V6(_)) => "quic6",
        BindHost::AnyV4 | BindHost::Ip(IpAddr::V4(_)) => "quic4",
    }
}

/// Of a buffer so many bytes are not for a body.
const KEPT: u32 = 4096;

fn first_origin<T>(list: &[Sourced<T>]) -> Option<Origin> {
    list.first().and_then(|first| first.origin)
}

impl ContextMaker<'_> {
    pub(super) fn frontend(&mut self, frontend: &Frontend) -> Value {
        let Frontend {
            name,
            bind,
            certificates,
            client_certificates,
            http3,
            strict_sni,
            redirect_http,
            backend,
            // In the maps.
            routes: _,
            unread_model,
            methods,
            content_types,
            max_body,
            hsts,
            open,
            timeout,
            raw,
        } = frontend;
        let FrontendTimeout { client, request, body, keep_alive } = timeout;
        let timeout = ContextMap::default()
            .with("client", self.sourced_duration(client))
            .with("request", self.sourced_duration(request))
            .with("body", self.sourced_duration(body))
            .with("keep_alive", self.sourced_duration(keep_alive));
        let binds: Vec<Value> = bind
            .iter()
            .map(|bind| {
                ContextMap::default()
                    .with("address", self.bind(bind))
                    .with("is_v4v6", bind.host == BindHost::AnyBoth)
                    .with("quic", self.marks.text(format!("{}@{}", family(bind.host), bind.value), bind.origin))
                    .into()
            })
            .collect();
        let crt_list = certificates.first().map(|first| self.marks.text(names::crt_list(name), first.origin));
        let certificates: Vec<Value> = certificates.iter().map(|path| self.certificate(path)).collect();
        let trust = client_certificates.as_ref().map(|trust| self.trust(frontend, trust));
        let reaches: Vec<Value> = reached(frontend).into_iter().map(|name| self.marks.sourced(name)).collect();
        let redirect = redirect_http.as_ref().map(|clear| {
            // The port that clients use is the first bind's, and https means 443.
            let port = bind.first().map(|bind| bind.port).filter(|port| *port != 443);
            ContextMap::default()
                .with("bind", self.bind(clear))
                .with("bind_is_v4v6", clear.host == BindHost::AnyBoth)
                .with("asked_from", asked_from([clear]))
                .with("port", port)
        });
        // After an address has moved away, a stream that is still here can send and hears nothing: it ends after this,
        // and no longer keeps its server busy.
        let has_vips = own_vips(&self.desired.config).next().is_some();
        let chooses_its_log = raw.iter().chain(&self.desired.config.haproxy.raw_defaults).any(|line| is_of_logs(line));
        let (raw_first, raw_last) = self.raw_lines(raw);
        let config = &self.desired.config;
        let asks_clients = config.has_clients() && !open;
        let of_plans = |has: fn(&Plan) -> bool| asks_clients && config.plans.iter().any(has);
        let counts_tokens = of_plans(Plan::counts);
        let reads_models = config.reads_models(frontend);
        let reads_paths = !frontend.routes.is_empty() || of_plans(|plan| !plan.routes.is_empty());
        ContextMap::default()
            .with("name", self.marks.sourced(name))
            .with("bind", binds)
            .with("tcp_ut", has_vips.then(|| duration(UNACKNOWLEDGED)))
            .with("asked_from", asked_from(bind))
            .with("certificates", certificates)
            .with("crt_list", crt_list)
            .with("trust", trust)
            .with("strict_sni", *strict_sni)
            .with("http3", *http3 && self.target.has_quic())
            .with("redirect", redirect.map(Value::from))
            .with("backend", self.marks.sourced(backend))
            .with("reaches", reaches)
            .with("health_map", self.marks.text(health_map(name), backend.origin))
            .with("asks_clients", asks_clients)
            .with("counts_tokens", counts_tokens)
            .with("counts_money", counts_tokens && has_prices(config))
            .with("whole_answer_bytes", config.haproxy.buffer_bytes.value.saturating_sub(KEPT).to_string())
            .with("reads_models", reads_models)
            .with("reads_paths", reads_paths)
            .with("routes", self.routes(frontend))
            .with("unread_model", unread_model.as_ref().map(|backend| self.marks.sourced(backend)))
            .with("methods", self.patterns(methods.iter().map(|method| method.value), first_origin(methods)))
            .with("allow", methods.iter().map(|method| method.value).collect::<Vec<_>>().join(", "))
            .with("content_types", self.content_types(content_types))
            .with("max_body", max_body.as_ref().map(|most| self.max_body(most)))
            .with("hsts", *hsts)
            .with("timeout", timeout)
            .with("chooses_its_log", chooses_its_log)
            .with("raw_first", raw_first)
            .with("raw", raw_last)
            .into()
    }

    /// Patterns of an ACL.
    fn patterns<'t>(&mut self, words: impl Iterator<Item = &'t str>, origin: Option<Origin>) -> Vec<Value> {
        words.map(|word| self.marks.text(word, origin)).collect()
    }

    /// Those that are meant whole, and the begins of those that end in a star. `None` where all are taken.
    fn content_types(&mut self, types: &[Sourced<String>]) -> Option<Value> {
        let begins = types.iter().filter_map(|kind| kind.value.strip_suffix('*'));
        let begins = self.patterns(begins, first_origin(types));
        let whole = self.patterns(
            types.iter().map(|kind| kind.value.as_str()).filter(|kind| !kind.ends_with('*')),
            first_origin(types),
        );
        (!types.is_empty()).then(|| ContextMap::default().with("begins", begins).with("whole", whole).into())
    }

    /// The largest body, and the largest whose length is not told: no larger one is seen whole.
    fn max_body(&mut self, most: &Sourced<u64>) -> Value {
        let seen = self.desired.config.haproxy.buffer_bytes.value.saturating_sub(KEPT);
        ContextMap::default()
            .with("bytes", self.marks.text(most.value, most.origin))
            .with("untold_bytes", self.marks.text(most.value.min(seen.into()), most.origin))
            .into()
    }

    /// `None` where there are none: the first route, the first by model, the first by who asks or by headers, and another
    /// header are reloads.
    fn routes(&mut self, frontend: &Frontend) -> Option<Value> {
        let origin = frontend.routes.first()?.backend.origin;
        let of_headers = frontend.routes.iter().find(|route| !route.header.is_empty());
        let of_headers = of_headers.map_or(origin, |route| route.backend.origin);
        let headers = frontend.route_headers().into_iter().map(|name| self.marks.text(name, of_headers));
        let headers: Vec<Value> = headers.collect();
        let mut map = |which| self.marks.text(routes_map(&frontend.name, which), origin);
        let table = ContextMap::default()
            .with("by_model", frontend.routes_by_model())
            .with("by_caller", frontend.routes_by_caller())
            .with("headers", headers)
            .with("callers", map(RoutesMap::Callers))
            .with("paths", map(RoutesMap::Paths))
            .with("models", map(RoutesMap::Models))
            .with("prefixes", map(RoutesMap::Prefixes))
            .with("expressions", map(RoutesMap::Expressions));
        Some(table.into())
    }

    fn certificate(&mut self, path: &Sourced<Utf8PathBuf>) -> Value {
        let found = self.desired.certificates.get(&path.value).map(Vec::as_slice).unwrap_or_default();
        let contents: String = found.iter().map(|one| format!("{} {}\n", one.digest, one.path)).collect();
        // The built-in template leaves it out: with it, a renewed certificate is a reload.
        let digest = Digest::of(contents).short();
        ContextMap::default().with("path", self.marks.sourced(path)).with("digest", digest).into()
    }

    /// What the certificates of clients are judged by.
    fn trust(&mut self, frontend: &Frontend, trust: &ClientTrust) -> Value {
        let bundle = |kind| bundle(self.desired, frontend, kind);
        let both = [bundle(TrustKind::Authorities), bundle(TrustKind::Revoked)];
        let origins = [first_origin(&trust.ca), first_origin(&trust.revoked)];
        // What the admin socket cannot take is part of the structure: another one is a reload.
        let large: Vec<String> =
            both.iter().flatten().filter(|one| !one.is_data).map(|one| one.digest().short()).collect();
        let [ca, crl] = std::array::from_fn(|at| {
            let path = both[at].as_ref().map(|bundle| bundle.path.clone());
            path.map(|path| self.marks.text(path, origins[at]))
        });
        ContextMap::default()
            .with("ca", ca)
            .with("crl", crl)
            .with("required", trust.required)
            .with("large", large.join(" "))
            .into()
    }

    pub(super) fn sourced_duration(&mut self, value: &Sourced<Duration>) -> Value {
        self.marks.text(duration(value.value), value.origin)
    }
}
