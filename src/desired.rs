//! What should be served: the configuration joined with weights and the operator's overrides.
//!
//! Pure. Refuses to know how it is spelt. Made by `agent` and `cli`, read by `render` and `plan`.

use crate::config::{Backend, Clients, Config, Server};
use crate::model::{
    AdminState, Along, Certificate, Name, Secret, SecretRef, ServerId, Sourced, TrustFile, TrustKind, Weight,
};
use crate::rollout::Percent;
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The complete wish for one node. Nothing in it depends on what runs now, and nothing is left to look up.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The operator's file.
    pub config: Arc<Config>,
    /// Every server of the configuration, exactly.
    pub servers: BTreeMap<ServerId, DesiredServer>,
    /// Every secret that the rendered files need.
    pub secrets: BTreeMap<SecretRef, Secret>,
    /// What is found at each path that a frontend's `certificates` names: the file, or those of the directory in the
    /// order of their names.
    pub certificates: BTreeMap<Utf8PathBuf, Vec<Certificate>>,
    /// What is found in each file that a frontend's `client_certificates` names.
    pub trust: Arc<BTreeMap<(TrustKind, Utf8PathBuf), TrustFile>>,
    /// Every client, of the operator's file and of the clients' own.
    pub clients: Arc<Clients>,
    /// What each client with a budget has spent, by its name, in the words of HAProxy's rules.
    pub spent: Arc<BTreeMap<String, String>>,
    /// The lists of models that callers are answered with, by who asks; see `render::model_lists`.
    pub lists: Arc<BTreeMap<String, String>>,
    /// What each canary has of the clients, by its name; one that is not named has none.
    pub canaries: Arc<BTreeMap<Name, Percent>>,
    /// Which key serves at each of [`key_entries`], counted from 0; the first one where an entry is not named.
    pub active_keys: BTreeMap<String, usize>,
    /// Which keys share the requests at each entry that is spread; all of them where an entry is not named.
    pub spread_keys: BTreeMap<String, Vec<usize>>,
}

/// The wish for one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredServer {
    /// Effective weight: base × health, guards applied.
    pub weight: Weight,
    /// Administrative state: an operator's override, else the file's.
    pub state: AdminState,
}

impl DesiredServer {
    /// The wish for one server: what was decided of its weight, and what an operator said.
    pub fn of(backend: &Backend, server: &Server, decided: Option<Weight>, word: DesiredOverride) -> Self {
        let weight = word.weight.or(decided).unwrap_or(server.weight.value);
        let state = word.state.unwrap_or(server.state.value);
        // `use-server` knows weights, not drain.
        let is_of_canary = backend.canary.as_ref().is_some_and(|canary| canary.has_server(&server.name));
        let is_chosen = is_of_canary || lone_first(backend).is_some_and(|first| first.name == server.name);
        let weight = if is_chosen && state == AdminState::Drain { Weight::ZERO } else { weight };
        Self { weight, state }
    }
}

impl Desired {
    /// Joins a configuration with what was decided elsewhere. A server without a decision has its configured weight, the
    /// first key of each list serves until `active_keys` is set, and clients are those of the operator's file.
    pub fn new(
        config: Arc<Config>,
        weights: &BTreeMap<ServerId, Weight>,
        overrides: &BTreeMap<ServerId, DesiredOverride>,
        secrets: BTreeMap<SecretRef, Secret>,
        certificates: BTreeMap<Utf8PathBuf, Vec<Certificate>>,
    ) -> Self {
        let id_of = |(backend, server): (&Backend, &Server)| ServerId::new(backend.name.clone(), server.name.clone());
        let first = config.servers().next().map(id_of);
        let mut known = first.as_ref().map(|first| (Along::from(weights, first), Along::from(overrides, first)));
        let servers = config
            .servers()
            .map(|(backend, server)| {
                let id = id_of((backend, server));
                let (weight, wish) = known.as_mut().map(|(w, o)| (w.of(&id), o.of(&id))).unwrap_or_default();
                let wanted = DesiredServer::of(backend, server, weight.copied(), wish.copied().unwrap_or_default());
                (id, wanted)
            })
            .collect();
        let clients = Arc::new(Clients::new(&config.clients, vec![]));
        let (active_keys, spread_keys) = (BTreeMap::new(), BTreeMap::new());
        let (trust, spent, lists, canaries) = (Arc::default(), Arc::default(), Arc::default(), Arc::default());
        Self {
            config,
            servers,
            secrets,
            certificates,
            trust,
            clients,
            spent,
            lists,
            canaries,
            active_keys,
            spread_keys,
        }
    }

    /// The wish for one server of the configuration.
    ///
    /// # Panics
    /// Never for a server of `self.config`: [`Self::new`] covers them all.
    pub fn server(&self, backend: &Backend, server: &Server) -> DesiredServer {
        self.servers[&ServerId::new(backend.name.clone(), server.name.clone())]
    }
}

/// The one server of tier 1, where others stand behind it and requests are repeated. HAProxy repeats at active servers
/// alone while one is up, so that with those as backups a repeat would come back to the server that has just failed. The
/// rule `use-server` gives it every request all the same.
pub fn lone_first(backend: &Backend) -> Option<&Server> {
    let mut firsts = backend.servers.iter().filter(|server| server.tier == 1);
    // A canary's servers stand behind it as well, and are no place for its repeats.
    let is_another = |server: &&Server| !backend.canary.as_ref().is_some_and(|canary| canary.has_server(&server.name));
    let has_others = backend.servers.iter().filter(is_another).nth(1).is_some();
    let first = firsts.next().filter(|_| firsts.next().is_none() && has_others);
    first.filter(|_| backend.retries.value > 0)
}

/// What an operator set by command, over the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DesiredOverride {
    /// `server drain|ready|maint`
    pub state: Option<AdminState>,
    /// `server weight`
    pub weight: Option<Weight>,
}

/// Whether a backend's servers each need their own hop: a loopback listener that sets Host, path and key.
///
/// HAProxy decides on the server after the request's rules have run, so what differs between the servers of one
/// backend (own Host, path prefix or list of keys) can only be set behind that decision.
pub fn needs_hops(backend: &Backend) -> bool {
    fn identity(server: &Server) -> (String, &str, Vec<&SecretRef>, bool) {
        let keys = server.keys.iter().map(|key| &key.value).collect();
        (server.host_header(), &server.url.path, keys, shares_keys(server))
    }
    // What it calls its models is set there as well.
    let renames = backend.servers.iter().any(|server| !server.models.is_empty());
    // And only there an error that begins a stream can be made one that is repeated.
    let repeats = backend.retry_streams.is_some() && backend.servers.len() > 1;
    let renames = renames || backend.canary.as_ref().is_some_and(|canary| canary.models().is_some());
    renames || repeats || backend.servers.windows(2).any(|pair| identity(&pair[0]) != identity(&pair[1]))
}

/// How many entries of the map of keys share the requests of one place whose keys serve all at once. Always as many, so
/// that a key that goes out or comes back changes values only: 16 keys get exactly equal shares, 3 nearly.
pub const KEY_SLOTS: usize = 64;

/// Whether a server's keys serve all at once.
pub fn shares_keys(server: &Server) -> bool {
    server.spread && server.keys.len() > 1
}

/// One place of the map of keys, and whom it serves: a backend as a whole, or one server behind its hop. Of its keys one
/// is in use at a time.
#[derive(Clone, Debug)]
pub struct KeyEntry<'a> {
    /// The entry in the map: `BACKEND` or `BACKEND/SERVER`.
    pub name: String,
    /// The backend.
    pub backend: &'a Backend,
    /// The servers that share it, at least one.
    pub servers: &'a [Server],
    /// The keys, at least one.
    pub keys: &'a [Sourced<SecretRef>],
    /// They serve all at once.
    pub is_spread: bool,
}

/// Every place of the map of keys, in the order of the names.
pub fn key_entries(config: &Config) -> Vec<KeyEntry<'_>> {
    let mut entries = Vec::new();
    for backend in &config.backends {
        let shared = !needs_hops(backend);
        let groups =
            if shared { backend.servers.chunks(backend.servers.len().max(1)) } else { backend.servers.chunks(1) };
        for servers in groups {
            let Some(first) = servers.first().filter(|first| !first.keys.is_empty()) else { continue };
            let name = if shared { backend.name.to_string() } else { format!("{}/{}", backend.name, first.name) };
            entries.push(KeyEntry { name, backend, servers, keys: &first.keys, is_spread: shares_keys(first) });
        }
    }
    entries
}

/// What a key is called in the map, in logs and in `status`: its place in the list, from `k1`.
pub fn key_id(index: usize) -> String {
    format!("k{}", index + 1)
}
