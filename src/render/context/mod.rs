//! What the templates see: [`Desired`] as a tree of texts, numbers and yes-or-no. `docs/templates.md` lists it for
//! operators; a name in it is a promise.
//!
//! Refuses to know the text of the templates. Called by `render`, once for real and once masked.

mod backend;
mod canary;
mod clients;
mod frontend;
mod stream;
mod tls;

use super::caller::{decoded_key, replaced_headers, spelt_key, telling_headers};
use super::marks::Marks;
use super::names::{
    CANARIES_MAP, CANARY_MODELS_MAP, KEYS_MAP, LIMIT_ADDRESS, LIMIT_ADDRESS_KEY, LIMITS_MAP, LISTS_MAP, LIVE_RING,
    MODELS_MAP, PEERS, SHARED_PEERS, STATS, STATS_MAP, peers_socket,
};
use super::nodes;
use super::plain;
use super::plans::CERTIFICATE_MARK;
use super::scripts::Script;
use super::shape::Ids;
use super::value::{ContextMap, duration};
use super::{RenderError, Target};
use crate::config::{AddressLimit, Backend, Frontend, Haproxy, Stats};
use crate::desired::{Desired, needs_hops};
use crate::model::{BindAddress, BindHost, Host, Origin, Sourced};
pub(super) use backend::draws;
use stream::stream_begin;
use tera::{Context, Value};

/// So many addresses of one frontend may ask it which worker it is; HAProxy takes 64 words per line.
const MAX_OWN_ADDRESSES: usize = 40;
/// What stands for the maxconn of the process, which the runtime can set.
const MASKED_MAXCONN: u32 = 1;

/// The two renderings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// What is served.
    Real,
    /// What the runtime can set is the same for everyone.
    Masked,
}

/// Makes the context of one pass.
pub(super) struct ContextMaker<'a> {
    pub(super) desired: &'a Desired,
    pub(super) target: Target,
    pub(super) pass: Pass,
    pub(super) ids: &'a Ids<'a>,
    pub(super) marks: Marks,
}

impl<'a> ContextMaker<'a> {
    pub(super) fn new(desired: &'a Desired, target: Target, pass: Pass, ids: &'a Ids<'a>) -> Self {
        Self { desired, target, pass, ids, marks: Marks::default() }
    }

    /// The same for who asks for no places.
    pub(super) fn without_places(desired: &'a Desired, target: Target, pass: Pass, ids: &'a Ids<'a>) -> Self {
        Self { marks: Marks::silent(), ..Self::new(desired, target, pass, ids) }
    }

    /// The context with this revision marker, and the marks that it is written with.
    ///
    /// # Errors
    /// A value that no HAProxy file can carry.
    pub(super) fn context(mut self, marker: &str) -> Result<(Context, Marks), RenderError> {
        let mut context = self.head(marker);
        let backends: Vec<Value> = self.desired.config.backends.iter().map(|backend| self.backend(backend)).collect();
        let backends = Value::from(backends);
        context.insert_value("backends", backends.clone());
        context.insert_value("sections", backends);
        self.marks.verdict()?;
        Ok((context, self.marks))
    }

    /// The same without the sections of the backends, of which nothing is told but their names.
    pub(super) fn head(&mut self, marker: &str) -> Context {
        let mut context = self.common();
        let name = |backend: &Backend| ContextMap::default().with("name", backend.name.to_string()).into();
        let names: Vec<Value> = self.desired.config.backends.iter().map(name).collect();
        context.insert_value("backends", names.into());
        context.insert_value("sections", Vec::<Value>::new().into());
        let frontends: Vec<Value> =
            self.desired.config.frontends.iter().map(|frontend| self.frontend(frontend)).collect();
        context.insert_value("frontends", frontends.into());
        context.insert_value("marker", marker.into());
        context
    }

    /// What the section of a backend may use beside the backend.
    pub(super) fn common(&mut self) -> Context {
        let config = &*self.desired.config;
        let mut context = Context::new();
        let target = ContextMap::default()
            .with("major", self.target.major)
            .with("minor", self.target.minor)
            .with("has_response_timeout", self.target.has_response_timeout())
            .with("has_large_buffers", self.target.has_large_buffers())
            .with("drops_trailers", self.target.drops_trailers())
            .with("leaves_rules", self.target.leaves_rules())
            .with("adds_to_counters", self.target.adds_to_counters())
            .with("mixes_tls_sessions", self.target.mixes_tls_sessions())
            .with("has_more_stick_counters", self.target.has_more_stick_counters())
            .with("has_hot_size", self.target.has_hot_size())
            .with("has_small_buffers", self.target.has_small_buffers())
            .with("asks_how_lua_sees_booleans", self.target.asks_how_lua_sees_booleans())
            .with("tells_attempts", self.target.tells_attempts())
            .with("answers_after_interim", self.target.answers_after_interim())
            .with("pauses", self.target.pauses());
        context.insert_value("target", target.into());
        context.insert_value("keys_map", KEYS_MAP.into());
        context.insert_value("models_map", MODELS_MAP.into());
        context.insert_value("canaries_map", CANARIES_MAP.into());
        context.insert_value("canary_models_map", CANARY_MODELS_MAP.into());
        context.insert_value("lists_map", LISTS_MAP.into());
        context.insert_value("errors", errors());
        context.insert_value("plain_json", plain::json_object().into());
        context.insert_value("bad_path", error_body(BAD_PATH, "invalid_request_error", "bad_path").into());
        context.insert_value("refusals", refusals());
        context.insert_value("telling_headers", telling_headers().into());
        context.insert_value("replaced_headers", replaced_headers().into());
        let key_query = ContextMap::default().with("decoded", decoded_key()).with("spelt", spelt_key());
        context.insert_value("key_query", key_query.into());
        let stream_error = error_body("The model server failed at the beginning.", "api_error", "stream_error");
        context.insert_value("stream_error", stream_error.into());
        let stream_silence = error_body("The model server's stream did not begin.", "api_error", "gateway_timeout");
        context.insert_value("stream_silence", stream_silence.into());
        context.insert_value("stream_begin", stream_begin());
        context.insert_value("node", self.marks.sourced(&config.node.name));
        context.insert_value("haproxy", self.haproxy(&config.haproxy));
        context.insert_value("tls", self.tls());
        context.insert_value("stats", config.haproxy.stats.as_ref().map(|stats| self.stats(stats)).into());
        context.insert_value("limit", config.limit_address.as_ref().map(|limit| self.limit(limit)).into());
        let clients = self.clients();
        context.insert_value("clients", clients.into());
        context.insert_value("certificate_mark", CERTIFICATE_MARK.into());
        // Only tables need them.
        let has_tables = config.limit_address.is_some() || clients::has_limits(config);
        let peers = has_tables.then(|| self.peers()).flatten();
        context.insert_value("peers", peers.into());
        context.insert_value("resolvers", config.servers().any(|(_, s)| matches!(s.url.host, Host::Dns(_))).into());
        // One scheme for all callers, where there is but one.
        let has_tls = |frontend: &Frontend| !frontend.certificates.is_empty();
        let scheme = match config.frontends.iter().filter(|frontend| has_tls(frontend)).count() {
            0 => Some("http"),
            all if all == config.frontends.len() => Some("https"),
            _ => None,
        };
        context.insert_value("scheme", scheme.into());
        let by_model = config.frontends.iter().filter(|frontend| frontend.routes_by_model());
        let of_routes = by_model.flat_map(|frontend| &frontend.routes).map(|route| route.backend.origin);
        let renamed = config.backends.iter().find_map(Backend::first_renamed).map(|here| here.origin);
        let origin = of_routes.chain(clients::origin_of_models(config)).chain(renamed).next();
        let mut script = |script: Script, origin: Option<Option<Origin>>| {
            origin.map(|origin| self.marks.text(script.path(&config.haproxy.config.value), origin))
        };
        context.insert_value("model_script", script(Script::Model, origin).into());
        context.insert_value("rename_script", script(Script::Rename, renamed).into());
        let watch = config.backends.iter().map(|backend| &backend.stream_watch).find(|watch| watch.value);
        context.insert_value("watch_script", script(Script::Watch, watch.map(|watch| watch.origin)).into());
        context.insert_value("usage_script", script(Script::Usage, clients::origin_of_counting(config)).into());
        // Bodies are kept for it.
        let repeats = config.backends.iter().any(|backend| backend.retries.value > 0);
        context.insert_value("repeats", repeats.into());
        let mut waits = config.backends.iter().map(|backend| &backend.timeout);
        let grows = waits.any(|wait| wait.first_byte_per_ktoken.is_some() || wait.first_token.is_some());
        context.insert_value("grows", grows.into());
        // What a request's line for the agent can tell.
        context.insert_value("has_keys", config.servers().any(|(_, server)| !server.keys.is_empty()).into());
        let has_canaries = config.backends.iter().any(|backend| backend.canary.is_some());
        context.insert_value("has_canaries", has_canaries.into());
        context.insert_value("has_hops", config.backends.iter().any(needs_hops).into());
        context
    }

    /// How counters are handed over at a reload, and to other nodes; none: they are not.
    fn peers(&mut self) -> Option<Value> {
        let config = &self.desired.config;
        let origin = config.haproxy.admin_socket.origin;
        let socket = peers_socket(config).map(|socket| self.marks.text(socket, origin));
        let of_heartbeat = config.node.heartbeat.as_ref().and_then(|heartbeat| heartbeat.key.origin);
        let others: Vec<Value> = nodes::others(config)
            .into_iter()
            .map(|(name, address)| {
                let address = self.marks.text(address, config.node.peers.get(name).and_then(|ip| ip.origin));
                ContextMap::default().with("name", name.to_string()).with("address", address).into()
            })
            .collect();
        if socket.is_none() && others.is_empty() {
            return None;
        }
        let [certificate, ca] = nodes::paths();
        let peers = ContextMap::default()
            .with("name", PEERS)
            .with("socket", socket)
            .with("shared", if others.is_empty() { PEERS } else { SHARED_PEERS })
            .with("nodes", others)
            .with("address", self.marks.text(nodes::own_address(config), of_heartbeat))
            .with("mark", nodes::mark(self.desired).unwrap_or_default())
            .with("maxconn", nodes::MAX_CONNECTIONS)
            .with("certificate", certificate)
            .with("ca", ca);
        Some(peers.into())
    }

    fn haproxy(&mut self, haproxy: &Haproxy) -> Value {
        let Haproxy {
            // Paths of files that haproxy.cfg does not name.
            config: _,
            master_socket: _,
            binary: _,
            template: _,
            stats: _,
            // Limits of the agent's own.
            reloads_per_hour: _,
            max_old_workers: _,
            admin_socket,
            user,
            group,
            maxconn,
            threads,
            buffer_bytes,
            large_buffer_bytes,
            hard_stop_after,
            log,
            live,
            raw,
            raw_defaults,
        } = haproxy;
        let marks = &mut self.marks;
        // Lowered, and raised again up to where the worker began, while it runs.
        let shown = match self.pass {
            Pass::Real => maxconn.value,
            Pass::Masked => MASKED_MAXCONN,
        };
        ContextMap::default()
            .with("admin_socket", marks.sourced(admin_socket))
            .with("user", non_empty(marks, user))
            .with("group", non_empty(marks, group))
            .with("maxconn", marks.text(shown, maxconn.origin))
            .with("threads", threads.as_ref().map(|threads| marks.sourced(threads)))
            .with("buffer_bytes", marks.sourced(buffer_bytes))
            .with(
                "large_buffer_bytes",
                (large_buffer_bytes.value > buffer_bytes.value).then(|| marks.sourced(large_buffer_bytes)),
            )
            .with("hard_stop_after", marks.text(duration(hard_stop_after.value), hard_stop_after.origin))
            .with("log", non_empty(marks, log))
            // A terminal or a pipe has no use for the header of syslog.
            .with("log_is_stream", matches!(log.value.as_str(), "stdout" | "stderr") || log.value.starts_with("fd@"))
            .with("live", live.then_some(LIVE_RING))
            .with("raw", marks.lines(raw))
            .with("raw_defaults", marks.lines(raw_defaults))
            .into()
    }

    fn stats(&mut self, stats: &Stats) -> Value {
        let Stats { bind, login } = stats;
        ContextMap::default()
            .with("name", STATS)
            .with("bind", self.bind(bind))
            .with("bind_is_v4v6", bind.host == BindHost::AnyBoth)
            .with("asked_from", asked_from([bind]))
            .with("login_map", login.as_ref().map(|(user, _)| self.marks.text(STATS_MAP, user.origin)))
            .into()
    }

    fn limit(&mut self, limit: &AddressLimit) -> Value {
        // The numbers are in the map.
        let AddressLimit { requests, burst: _, raw } = limit;
        let window = requests.value.window;
        let body = error_body(
            "Too many requests from this address, please slow down.",
            "rate_limit_error",
            "rate_limit_exceeded",
        );
        ContextMap::default()
            .with("table", LIMIT_ADDRESS)
            .with("key", LIMIT_ADDRESS_KEY)
            .with("map", self.marks.text(LIMITS_MAP, requests.origin))
            .with("window", self.marks.text(duration(window), requests.origin))
            // Rounded up: a client that comes back at this second is let in.
            .with("window_s", window.as_millis().div_ceil(1000).to_string())
            // The sliding window looks at two.
            .with("expire", duration(window * 2))
            .with("body", body)
            .with("raw", self.marks.lines(raw))
            .into()
    }

    /// Raw lines for the beginning and for the end of a section: HAProxy warns of a `tcp-request` that stands behind
    /// an `http-request`; a `tcp-response` must run before ours, which accept.
    fn raw_lines(&mut self, raw: &[Sourced<String>]) -> (Value, Value) {
        let (first, last): (Vec<_>, Vec<_>) =
            raw.iter().cloned().partition(|line| line.value.trim_start().starts_with("tcp-re"));
        (self.marks.lines(&first), self.marks.lines(&last))
    }

    fn bind(&mut self, bind: &Sourced<BindAddress>) -> Value {
        self.marks.sourced(bind)
    }
}

/// Where this node's own questions to these binds come from: the loopback, or the very address that is asked.
fn asked_from<'a>(binds: impl IntoIterator<Item = &'a Sourced<BindAddress>>) -> String {
    let own = binds.into_iter().filter_map(|bind| match bind.host {
        BindHost::Ip(ip) if !ip.is_loopback() => Some(ip.to_string()),
        BindHost::Ip(_) | BindHost::AnyV4 | BindHost::AnyBoth => None,
    });
    // Words of a line are counted: 64 at most.
    let own: std::collections::BTreeSet<_> = own.take(MAX_OWN_ADDRESSES).collect();
    ["127.0.0.0/8", "::1"].into_iter().map(str::to_owned).chain(own).collect::<Vec<_>>().join(" ")
}

/// A text that means "none" where it is empty.
fn non_empty(marks: &mut Marks, text: &Sourced<String>) -> Option<Value> {
    (!text.value.is_empty()).then(|| marks.sourced(text))
}

/// The errors that HAProxy answers itself.
fn errors() -> Value {
    /// Seconds after which a client may try again where nobody can serve: two rounds of HAProxy's checks.
    const UNAVAILABLE_S: u32 = 5;
    let error = |status: u16, retry_after_s: Option<u32>, message: &str, kind: &str, code: &str| -> Value {
        ContextMap::default()
            .with("status", status)
            .with("retry_after_s", retry_after_s)
            .with("body", error_body(message, kind, code))
            .into()
    };
    let invalid = "invalid_request_error";
    vec![
        error(400, None, "The request is not valid HTTP.", invalid, "bad_request"),
        error(405, None, "This method is not served here.", invalid, "method_not_allowed"),
        error(408, None, "The request did not arrive in time.", invalid, "request_timeout"),
        error(429, Some(1), "Too many requests, please slow down.", "rate_limit_error", "rate_limit_exceeded"),
        error(500, None, "The gateway failed on this request.", "api_error", "internal_error"),
        error(502, None, "The model server sent no valid answer.", "api_error", "bad_gateway"),
        error(503, Some(UNAVAILABLE_S), "No model server can answer.", "overloaded_error", "service_unavailable"),
        error(504, None, "The model server did not answer in time.", "api_error", "gateway_timeout"),
    ]
    .into()
}

/// What frontends say of requests that they do not take.
fn refusals() -> Value {
    let invalid = "invalid_request_error";
    ContextMap::default()
        .with("method", error_body("This method is not served here.", invalid, "method_not_allowed"))
        .with(
            "kind",
            error_body("This kind of body (Content-Type) is not taken here.", invalid, "unsupported_media_type"),
        )
        .with("large", error_body("The body is larger than this gateway takes.", invalid, "request_too_large"))
        .with("untold", error_body("Send the body with a Content-Length.", invalid, "length_required"))
        .with(
            "untold_large",
            error_body(
                "The body is larger than this gateway takes without a Content-Length.",
                invalid,
                "request_too_large",
            ),
        )
        .into()
}

/// The path is too long, or servers might understand it in several ways.
const BAD_PATH: &str = "The path is too long, or has . or .. segments, control characters or wrong percent-encoding.";

/// One body that the official clients of OpenAI, Anthropic and Gemini all read: `type` and `error.type` are Anthropic's,
/// `error.code` and `error.param` OpenAI's, and `error.message` is everybody's.
fn error_body(message: &str, kind: &str, code: &str) -> String {
    format!(r#"{{"type":"error","error":{{"message":"{message}","type":"{kind}","param":null,"code":"{code}"}}}}"#)
}
