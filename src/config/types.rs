//! A valid configuration as typed values. Every default is filled in; every value that the operator wrote knows its
//! place.

use super::alert::Alerts;
use super::caller::{Client, Plan, has_plan};
use super::canary::Canary;
use super::money::{ModelPrice, Price};
use super::route::Route;
use super::tls::{ClientTrust, Tls};
use super::vip::{Heartbeat, Keepalived, Vip};
use super::waiting::{BackendTimeout, RetryStreams};
use crate::cfg;
use crate::health::BudgetLimits;
use crate::model::{
    AdminState, Affinity, Balance, BindAddress, BindHost, Endpoint, Host, Name, Origin, Pattern, Profile, Rate,
    SecretRef, ServerId, Sourced, Weight,
};
use crate::weights::Weighting;
use camino::Utf8PathBuf;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// `[node] state` where the file names none.
pub const DEFAULT_STATE: &str = "/var/lib/hapilot";
/// `[api] socket` where the file names none.
pub const DEFAULT_SOCKET: &str = "/run/hapilot/hapilot.sock";

/// The whole file. Frontends, backends and servers are sorted by name, so that the same content gives the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[haproxy]`
    pub haproxy: Haproxy,
    /// `[tls]`
    pub tls: Tls,
    /// `[frontend.NAME]`, at least one.
    pub frontends: Vec<Frontend>,
    /// `[limit.address]`
    pub limit_address: Option<AddressLimit>,
    /// `[plan.NAME]`, sorted by name.
    pub plans: Vec<Plan>,
    /// `[client.NAME]`, sorted by name.
    pub clients: Vec<Client>,
    /// `[[price]]`, in the order of the file.
    pub prices: Vec<ModelPrice>,
    /// `clients`: a file with more of them.
    pub clients_file: Option<Sourced<Utf8PathBuf>>,
    /// `[backend.NAME]`, at least one, sorted by name.
    pub backends: Vec<Backend>,
    /// `[keepalived]`
    pub keepalived: Keepalived,
    /// `[vip.NAME]`, sorted by name.
    pub vips: Vec<Vip>,
    /// `[apply]`
    pub apply: Apply,
    /// `[history]`
    pub history: History,
    /// `[api]`
    pub api: Api,
    /// `[alert.…]`
    pub alerts: Alerts,
}

impl Node {
    /// Where HAProxy listens for that of other nodes, where there are counters to be shared: at the node's own address, or, where
    /// the file does not tell it, at all. `None` without a heartbeat.
    pub fn bind(&self) -> Option<BindAddress> {
        let port = self.heartbeat.as_ref()?.port;
        let host = match self.peers.get(&self.name.value) {
            Some(own) => BindHost::Ip(own.value),
            None if self.peers.values().all(|ip| ip.value.is_ipv4()) => BindHost::AnyV4,
            None => BindHost::AnyBoth,
        };
        Some(BindAddress { host, port })
    }
}

impl Config {
    /// The backend of that name.
    pub fn backend(&self, name: &Name) -> Option<&Backend> {
        let at = self.backends.binary_search_by(|backend| backend.name.cmp(name)).ok()?;
        self.backends.get(at)
    }

    /// Every server with its backend, in the order of the names.
    pub fn servers(&self) -> impl Iterator<Item = (&Backend, &Server)> {
        self.backends.iter().flat_map(|backend| backend.servers.iter().map(move |server| (backend, server)))
    }

    /// Whether clients are asked who they are, wherever the file does not say otherwise. A plan is enough: where the last
    /// client is taken away, nobody may ask, and not everybody.
    pub fn has_clients(&self) -> bool {
        !self.plans.is_empty() || self.clients_file.is_some()
    }

    /// Where the first server that a frontend leads to says that it calls a model otherwise than clients do, if one does.
    pub fn first_renamed(&self, frontend: &Frontend) -> Option<&Sourced<String>> {
        let leads_to = |backend: &&Backend| frontend.leads_to().any(|name| name.value == backend.name);
        self.backends.iter().filter(leads_to).find_map(Backend::first_renamed)
    }

    /// Whether a frontend looks at the model of each request.
    pub fn reads_models(&self, frontend: &Frontend) -> bool {
        let of_plans = || self.plans.iter().any(|plan| plan.reads_models(!self.prices.is_empty()));
        frontend.routes_by_model()
            || self.first_renamed(frontend).is_some()
            || self.has_clients() && !frontend.open && of_plans()
    }

    /// Whether there is a plan of that name.
    pub fn has_plan(&self, name: &Name) -> bool {
        has_plan(&self.plans, name)
    }

    /// Every address that HAProxy listens on for clients.
    pub fn binds(&self) -> impl Iterator<Item = &Sourced<BindAddress>> {
        let frontends = self.frontends.iter();
        let frontends = frontends.flat_map(|frontend| frontend.bind.iter().chain(&frontend.redirect_http));
        frontends.chain(self.haproxy.stats.iter().map(|stats| &stats.bind))
    }

    /// One server.
    pub fn server(&self, id: &ServerId) -> Option<(&Backend, &Server)> {
        let backend = self.backend(&id.backend)?;
        let at = backend.servers.binary_search_by(|server| server.name.cmp(&id.server)).ok()?;
        Some((backend, &backend.servers[at]))
    }
}

/// The VIPs in which the configuration's node takes part.
pub fn own_vips(config: &Config) -> impl Iterator<Item = &Vip> {
    config.vips.iter().filter(|vip| vip.priority.contains_key(&config.node.name.value))
}

impl Haproxy {
    /// The directory that raw lines lock the worker into.
    pub fn chroot(&self) -> Option<Cow<'_, str>> {
        let mut lines = self.raw.iter().map(|line| cfg::words(&line.value));
        let directory = lines.find_map(|mut words| (words.next()?.said? == "chroot").then(|| words.next())?)?;
        // One from the environment is called what it is spelt.
        let spelt = directory.spelt.trim_matches(['"', '\'']);
        Some(directory.said.unwrap_or(Cow::Borrowed(spelt))).filter(|directory| directory != "/")
    }

    /// Where HAProxy binds the sockets over which it reaches itself, and where its worker finds them: beside the admin
    /// socket, whose directory is HAProxy's own and there before it starts; else where the worker is locked in.
    pub fn own_directories(&self) -> (Cow<'_, str>, Cow<'_, str>) {
        let beside = || self.admin_socket.parent().map_or("/", |directory| directory.as_str()).into();
        self.chroot().map_or_else(|| (beside(), beside()), |chroot| (chroot, "/".into()))
    }
}

/// `[node]`
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `name`; default: the host name, handed in by the caller.
    pub name: Sourced<Name>,
    /// `state`; default `/var/lib/hapilot`.
    pub state: Sourced<Utf8PathBuf>,
    /// `peers`: the addresses of the cluster's nodes, this one's own too where the file names it.
    pub peers: BTreeMap<Name, Sourced<IpAddr>>,
    /// `heartbeat`: how the nodes hear of each other; none: they do not.
    pub heartbeat: Option<Heartbeat>,
}

/// `[haproxy]`
#[derive(Clone, Debug, PartialEq)]
pub struct Haproxy {
    /// `config`; default `/etc/haproxy/haproxy.cfg`. Maps live in `maps/` beside it.
    pub config: Sourced<Utf8PathBuf>,
    /// `admin_socket`; default `/run/haproxy/admin.sock`.
    pub admin_socket: Sourced<Utf8PathBuf>,
    /// `master_socket`; default `/run/haproxy/master.sock`. The service must start HAProxy with `-S` and this path.
    pub master_socket: Sourced<Utf8PathBuf>,
    /// `binary`; default `haproxy`, looked up in `PATH`: what `-c` is run with.
    pub binary: Sourced<Utf8PathBuf>,
    /// `template`: the operator's own root template, else the built-in one.
    pub template: Option<Sourced<Utf8PathBuf>>,
    /// `user` and `group` that the worker changes to; default `haproxy`, empty: it stays who it is.
    pub user: Sourced<String>,
    /// See `user`.
    pub group: Sourced<String>,
    /// `maxconn`, 1 to 10,000,000; default 10,000.
    pub maxconn: Sourced<u32>,
    /// `threads`, 1 to 64; default: HAProxy's own choice.
    pub threads: Option<Sourced<u32>>,
    /// `buffer` (`tune.bufsize`), 16 KiB to 4 MiB; default 32 KiB, 256 KiB where routes look at the model: the largest
    /// request that can be repeated at another server, or routed by its model wherever that stands.
    pub buffer_bytes: Sourced<u32>,
    /// `large_buffer` (`tune.bufsize.large`), 64 KiB to 64 MiB; default 2 MiB: the largest request that can be routed by
    /// its model, from HAProxy 3.4 on.
    pub large_buffer_bytes: Sourced<u32>,
    /// `hard_stop_after`, 1 s to 24 h; default 10 min: how long an old worker may finish its streams.
    pub hard_stop_after: Sourced<Duration>,
    /// `reloads_per_hour`, 1 to 720; default 60: a change that needs one more waits, unless it is forced.
    pub reloads_per_hour: u32,
    /// `max_old_workers`, 1 to 1000; default 5: while more of them finish, a reload waits, unless it is forced.
    pub max_old_workers: u32,
    /// `log`: target of HAProxy's log (`/dev/log`, `stdout`, `192.0.2.1:514`); default `/dev/log`, empty: none.
    pub log: Sourced<String>,
    /// `live`; default true: HAProxy tells the agent how each request ended.
    pub live: bool,
    /// `stats`; none by default.
    pub stats: Option<Stats>,
    /// `raw`: lines for `global`.
    pub raw: Vec<Sourced<String>>,
    /// `raw_defaults`: lines for `defaults`.
    pub raw_defaults: Vec<Sourced<String>>,
}

/// `stats` of `[haproxy]`: statistics page at `/` and Prometheus exporter at `/metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Where it listens.
    pub bind: Sourced<BindAddress>,
    /// Basic authentication: user and the password's place; both or neither. Without: loopback binds only.
    pub login: Option<(Sourced<String>, Sourced<SecretRef>)>,
}

/// `[frontend.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Frontend {
    /// The table's name and place.
    pub name: Sourced<Name>,
    /// `bind`, at least one; with certificates they speak TLS.
    pub bind: Vec<Sourced<BindAddress>>,
    /// `certificates`: PEM files or directories, the first one the default; empty: clear text.
    pub certificates: Vec<Sourced<Utf8PathBuf>>,
    /// `client_certificates`: what clients must or may show; none: they are asked for none.
    pub client_certificates: Option<ClientTrust>,
    /// `http3`: over UDP at the same addresses; default false.
    pub http3: bool,
    /// `strict_sni`: whoever names no host of a certificate is turned away; default false.
    pub strict_sni: bool,
    /// `redirect_http`: a clear-text bind that redirects to the TLS one.
    pub redirect_http: Option<Sourced<BindAddress>>,
    /// `backend`: the default one. May be left out where there is exactly one backend.
    pub backend: Sourced<Name>,
    /// `routes`, the first that matches wins.
    pub routes: Vec<Route>,
    /// `open`: that whoever reaches it may use its backends' keys is meant so; default false.
    pub open: bool,
    /// `unread_model`: where requests go whose model cannot be told; none: they are refused.
    pub unread_model: Option<Sourced<Name>>,
    /// `methods`: which are served; empty: all but TRACE and CONNECT.
    pub methods: Vec<Sourced<&'static str>>,
    /// `content_types`: kinds of bodies that are taken, `TYPE/SUBTYPE` or `TYPE/*` in lower case; empty: all.
    pub content_types: Vec<Sourced<String>>,
    /// `max_body`: largest body of a request, in bytes, 1 to 100 GiB; none: no limit.
    pub max_body: Option<Sourced<u64>>,
    /// `hsts`; default true: with certificates, browsers are told to use nothing but TLS for two years.
    pub hsts: bool,
    /// `timeout`
    pub timeout: FrontendTimeout,
    /// `raw`: lines at the section's end.
    pub raw: Vec<Sourced<String>>,
}

impl Frontend {
    /// Every backend that its requests may go to, the default one first; one may come more than once.
    pub fn leads_to(&self) -> impl Iterator<Item = &Sourced<Name>> {
        let routes = self.routes.iter().map(|route| &route.backend);
        std::iter::once(&self.backend).chain(routes).chain(&self.unread_model)
    }

    /// Whether its routes look at the model of a request.
    pub fn routes_by_model(&self) -> bool {
        self.routes.iter().any(|route| route.no_model || !route.model.is_empty())
    }

    /// Whether its routes look at who asks, or at headers.
    pub fn routes_by_caller(&self) -> bool {
        self.routes.iter().any(Route::looks_at_caller)
    }

    /// The headers that its routes look at, in the order of their names.
    pub fn route_headers(&self) -> BTreeSet<&str> {
        self.routes.iter().flat_map(|route| route.header.keys().map(String::as_str)).collect()
    }
}

/// `timeout` of a frontend.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontendTimeout {
    /// `client`: the client is silent while we wait for it, 1 s to 24 h; default 60 s.
    pub client: Sourced<Duration>,
    /// `request`: a whole request header, 1 s to 1 h; default 10 s.
    pub request: Sourced<Duration>,
    /// `body`: the part of a body that must be there before the request goes on, 1 s to 1 h; default 2 min.
    pub body: Sourced<Duration>,
    /// `keep_alive`: an idle connection between two requests, 1 ms to 24 h; default 60 s.
    pub keep_alive: Sourced<Duration>,
}

/// `[limit.address]`: requests per client address, before authentication.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressLimit {
    /// `requests`
    pub requests: Sourced<Rate>,
    /// `burst`: so many more in one window; default 0, at most 1,000,000.
    pub burst: Sourced<u32>,
    /// `raw`: lines for the stick-table's own section.
    pub raw: Vec<Sourced<String>>,
}

/// `[backend.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// The table's name.
    pub name: Name,
    /// The table's place.
    pub origin: Origin,
    /// `provider`, built in or of the operator's own; default openai.
    pub provider: Arc<Profile>,
    /// `balance`; default leastconn.
    pub balance: Sourced<Balance>,
    /// `affinity`: what requests belong together by, where `balance` is affinity; default prompt.
    pub affinity: Sourced<Affinity>,
    /// `weighting`; default static.
    pub weighting: Weighting,
    /// `retries`, 0 to 10; default 2. Before the first byte only.
    pub retries: Sourced<u32>,
    /// `retry_streams`: which streams are repeated at another server before their first token; none by default.
    pub retry_streams: Option<Sourced<RetryStreams>>,
    /// `stream_watch`: whether streams are read as they pass; default no.
    pub stream_watch: Sourced<bool>,
    /// `timeout`
    pub timeout: BackendTimeout,
    /// `forward_client`: whether its servers are told who asked; default only where all have private addresses.
    pub forward_client: bool,
    /// `ask_usage`: whether its servers know `stream_options.include_usage`; default where the provider speaks OpenAI's API.
    pub ask_usage: bool,
    /// `check`
    pub check: Check,
    /// `server.NAME`, at least one, sorted by name.
    pub servers: Vec<Server>,
    /// `[canary.NAME]`: how a part of its clients is served in another way; none by default.
    pub canary: Option<Canary>,
    /// `raw`: lines at the section's end.
    pub raw: Vec<Sourced<String>>,
}

impl Backend {
    /// Where the first of its servers, or its canary, says that it calls a model otherwise than clients do, if one does.
    pub fn first_renamed(&self) -> Option<&Sourced<String>> {
        let of_servers = self.servers.iter().find_map(|server| server.models.values().next());
        of_servers.or_else(|| self.canary.as_ref()?.models()?.values().next())
    }
}

/// `check` of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The table's place; the backend's where there is none.
    pub origin: Origin,
    /// `interval` of the cheap probes, 200 ms to 1 h; default 10 s.
    pub interval: Duration,
    /// `fall`: hard failures in a row until unhealthy, 1 to 100; default 3.
    pub fall: u32,
    /// `rise`: successes in a row until probation, 1 to 100; default 2.
    pub rise: u32,
    /// `ramp`: how long probation takes from 10 % to 100 %, 0 to 1 h; default 60 s.
    pub ramp: Duration,
    /// `circuit`: failures of real requests in a row until unhealthy, 2 to 1,000; default 5.
    pub circuit: u32,
    /// `models`: on by default for providers that have a list of models; `models = false` turns it off.
    pub models: Option<ModelsProbe>,
    /// `chat`: off by default, it costs money.
    pub chat: Option<ChatProbe>,
    /// `embeddings`: off by default, it costs money.
    pub embeddings: Option<EmbeddingsProbe>,
    /// `http`: on by default for providers without a list of models; `http = false` turns it off.
    pub http: Option<HttpProbe>,
    /// `metrics`: off by default.
    pub metrics: Option<MetricsProbe>,
    /// `certificate_expiry`, 1 h to 24 d: warn when a server's certificate is valid for less; off by default.
    pub certificate_expiry: Option<Duration>,
}

/// `models`: `GET …/models` with the key.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelsProbe {
    /// Models that must be listed.
    pub expect: Vec<String>,
}

/// `chat`: one streamed completion.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatProbe {
    /// Which model.
    pub model: String,
    /// `every`, 1 s to 24 h; default 5 min.
    pub every: Duration,
    /// `max_tokens`, 16 to 4096; default 16. Below 16 reasoning models answer 400.
    pub max_tokens: u32,
    /// `first_token_soft`: beyond it the answer is slow; default a third of `first_token`.
    pub first_token_soft: Duration,
    /// `first_token`: beyond it the probe fails, at most `total`; default 15 s, at most `total`.
    pub first_token: Duration,
    /// `stall`: silence between two tokens, at most `total`; default 12 s, at most `total`.
    pub stall: Duration,
    /// `total`, 1 ms to 1 h; default 60 s.
    pub total: Duration,
    /// `budget` a day of all servers of the backend; default 500 probes and 50,000 tokens.
    pub budget: BudgetLimits,
}

/// `embeddings`: one embedding of one word.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingsProbe {
    /// Which model.
    pub model: String,
    /// `every`, 1 s to 24 h; default 5 min.
    pub every: Duration,
    /// `total`, 1 ms to 10 min; default 15 s.
    pub total: Duration,
}

/// `http`: one GET.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// Path from the server's root (not below the base URL's path), with its query.
    pub path: String,
    /// Status codes that are right; default 200.
    pub status: Vec<u16>,
    /// Headers of the answer, in lower case, and what must be found in each.
    pub headers: Vec<(String, Pattern)>,
    /// JSON pointers into the body and what must stand there.
    pub json: Vec<(String, serde_json::Value)>,
    /// What must be found in the first 64 KiB of the body.
    pub body: Option<Pattern>,
}

/// `metrics`: the server's own figures of its load.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsProbe {
    /// Path from the server's root.
    pub path: String,
    /// Where it is not the URL's.
    pub port: Option<u16>,
    /// Gauges of waiting requests, at least one; the first that is there counts.
    pub waiting: Vec<String>,
    /// Gauges of the cache in use, 0 to 1; the first that is there counts.
    pub cache: Vec<String>,
}

/// `[backend.NAME.server.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The table's name.
    pub name: Name,
    /// The table's place.
    pub origin: Origin,
    /// `url`
    pub url: Sourced<Endpoint>,
    /// `host`: the `Host` header of its requests; [`Server::host_header`] knows the default.
    pub host: Option<Sourced<String>>,
    /// `weight`, 0 to 256; default 100.
    pub weight: Sourced<Weight>,
    /// `state`; default ready.
    pub state: Sourced<AdminState>,
    /// `tier`, 1 or 2; default 1. Tier 2 takes traffic only when no server of tier 1 can.
    pub tier: u8,
    /// `region`: a label.
    pub region: Option<String>,
    /// `keys`: at most 16, none twice; the first one serves first. None: whatever the client presents is passed on.
    pub keys: Vec<Sourced<SecretRef>>,
    /// `spread`: all keys serve at once; default false.
    pub spread: bool,
    /// `models`: what a model that clients ask for is called here; `*` stands for all that are not named. Empty: as the client
    /// calls it.
    pub models: BTreeMap<String, Sourced<String>>,
    /// `maxconn`: concurrent requests, 1 to 1,000,000; default none.
    pub maxconn: Option<Sourced<u32>>,
    /// `tls`
    pub tls: ServerTls,
    /// `proxy_protocol`: what announces the caller to it; none by default.
    pub proxy_protocol: Option<Sourced<ProxyProtocol>>,
    /// `price`: what its tokens cost; none by default.
    pub price: Option<Price>,
    /// `raw`: words for the `server` line's end.
    pub raw: Vec<Sourced<String>>,
}

/// The `Host` of servers that are reached by address and have no name: one for all of them, so that a pool needs no hop,
/// and one that protection against DNS rebinding lets in.
const HOST_OF_ADDRESSES: &str = "localhost";

impl Server {
    /// What a model is called here.
    pub fn model_here<'a>(&'a self, model: &'a str) -> &'a str {
        self.models.get(model).or_else(|| self.models.get("*")).map_or(model, |here| &here.value)
    }

    /// The `Host` header of its requests, a client's as well as a probe's: `host`, the URL's name with its port, or for an
    /// address the name in TLS, else `localhost`.
    pub fn host_header(&self) -> String {
        self.own_host().map_or_else(|| self.url.authority(), str::to_owned)
    }

    /// The same where the URL does not say it.
    pub fn own_host(&self) -> Option<&str> {
        match (&self.host, &self.url.host) {
            (Some(host), _) => Some(&host.value),
            (None, Host::Dns(_)) => None,
            (None, Host::Ip(_)) => Some(self.tls.server_name.as_ref().map_or(HOST_OF_ADDRESSES, |name| &name.value)),
        }
    }
}

/// `proxy_protocol` of a server.
///
/// **Source**: HAProxy, doc/proxy-protocol.txt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// A binary header.
    V2,
}

/// `tls` of a server; only where the URL is https.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTls {
    /// `ca`: a PEM file; default the system's authorities.
    pub ca: Option<Sourced<Utf8PathBuf>>,
    /// `server_name`: the name that is asked for and verified; default the URL's name. An https URL with an address has
    /// one unless `verify` is false.
    pub server_name: Option<Sourced<String>>,
    /// `certificate`: a PEM file with our certificate and its key, shown where the server asks; none by default.
    pub certificate: Option<Sourced<Utf8PathBuf>>,
    /// `verify`; default true.
    pub verify: bool,
}

/// `[apply]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Apply {
    /// `order`: among nodes, a node that owns a virtual address waits until the others serve the revision; default true.
    pub backup_first: bool,
    /// `on_save`: whether a saved file waits for `hapilot apply`; default: it is served at once.
    pub waits_on_save: bool,
    /// `confirm`, 1 s to 7 d: how long a new revision serves on trial; none by default, it is confirmed at once.
    pub confirm: Option<Duration>,
    /// `soak`, 1 min to 1 d, shorter than `confirm`: how long a new revision is compared with the time before it; none by
    /// default.
    pub soak: Option<Duration>,
}

/// `[history]`
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// `keep`: revisions, 2 to 10,000; default 200.
    pub keep: u32,
    /// `git`: a repository that has each confirmed revision as a commit; none by default.
    pub git: Option<Sourced<Utf8PathBuf>>,
}

/// `[api]`
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// `socket`: what the command line talks to; default `/run/hapilot/hapilot.sock`.
    pub socket: Sourced<Utf8PathBuf>,
    /// `listen`: where everybody may read status and metrics over TCP; default nowhere.
    pub listen: Option<BindAddress>,
}
