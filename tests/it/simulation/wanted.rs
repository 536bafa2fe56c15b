//! The operator's file as values, and the edits that he makes.

use crate::support::chance::Chance;
use camino::Utf8Path;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Clone, Debug, PartialEq)]
pub struct ServerWish {
    /// 192.0.2.N, or a name where 0.
    pub host: u64,
    pub port: u64,
    pub weight: u64,
    pub state: &'static str,
    pub tier: u64,
    /// 0 is no limit.
    pub maxconn: u32,
}

/// What an edit is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Nothing that HAProxy knows of.
    Nothing,
    /// The running worker takes it over.
    Runtime,
    /// The process may have more connections than its worker began with: a reload of the same structure, which
    /// `haproxy -c` has judged.
    Raise,
    /// The masked structure differs.
    Reload,
}

impl Worth {
    /// Nothing less than a reload will do.
    pub fn is_reload(self) -> bool {
        matches!(self, Self::Raise | Self::Reload)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// `chat` and `pool` are by address, `named` by name, the servers of `keyed` each have a hop of their own.
    pub servers: BTreeMap<(&'static str, String), ServerWish>,
    /// Tiers stay with the names, so that a server that comes back is the one that it was.
    tiers: BTreeMap<String, u64>,
    /// Servers have limits, some of them.
    has_limits: bool,
    balance: &'static str,
    retries: u64,
    routes: Vec<(String, &'static str)>,
    ports: u64,
    requests: u64,
    /// There is a limit: a map comes or goes with it.
    is_limited: bool,
    window: u64,
    client: u64,
    /// Of the process.
    maxconn: u32,
    raw: u64,
    keep: u64,
    /// Content of the key file of `keyed`'s first server.
    pub key: u64,
}

const BACKENDS: [&str; 4] = ["chat", "pool", "named", "keyed"];
const STATES: [&str; 3] = ["ready", "drain", "maint"];

impl Wanted {
    pub fn new(chance: &mut Chance) -> Self {
        let mut wanted = Self {
            servers: BTreeMap::new(),
            tiers: BTreeMap::new(),
            has_limits: chance.one_in(2),
            balance: "roundrobin",
            retries: 2,
            routes: vec![("/v1/x".to_owned(), "pool")],
            ports: 0,
            requests: 100,
            is_limited: true,
            window: 10,
            client: 60,
            maxconn: 1000,
            raw: 0,
            keep: 20,
            key: 0,
        };
        for backend in ["chat", "chat", "chat", "pool", "pool", "named", "keyed", "keyed"] {
            wanted.add(backend, chance);
        }
        wanted
    }

    fn add(&mut self, backend: &'static str, chance: &mut Chance) {
        let first = match backend {
            // Their names are structure: they are what they are.
            "named" | "keyed" => self.of(backend).len() as u64,
            _ => chance.below(8),
        };
        let free = (first..first + 9).map(|n| format!("{}{n}", &backend[..1]));
        let name =
            free.into_iter().find(|name| !self.servers.contains_key(&(backend, name.clone()))).expect("nine names");
        let host = if backend == "named" { 0 } else { 1 + chance.below(20) };
        let (port, weight) = (self.fresh_port(), 1 + chance.below(256));
        let state = if chance.one_in(6) { *chance.pick(&STATES) } else { "ready" };
        // In most histories no server has one.
        let maxconn = if self.has_limits && chance.one_in(3) { 1 + chance.below(500) as u32 } else { 0 };
        let tier = self.tiers.get(&name).copied().unwrap_or(1);
        self.servers.insert((backend, name), ServerWish { host, port, weight, state, tier, maxconn });
    }

    /// Two servers of one address are a mistake.
    fn fresh_port(&mut self) -> u64 {
        self.ports += 1;
        8000 + self.ports
    }

    fn of(&self, backend: &str) -> Vec<(&'static str, String)> {
        self.servers.keys().filter(|(of, _)| *of == backend).cloned().collect()
    }

    /// Any server's key.
    pub fn any(&self, chance: &mut Chance) -> (&'static str, String) {
        let keys: Vec<_> = self.servers.keys().cloned().collect();
        chance.pick(&keys).clone()
    }

    /// One or several edits at once; answers what they are and what they are worth together, for a worker that began
    /// with this maxconn.
    pub fn edit(&mut self, chance: &mut Chance, most_maxconn: u32) -> (Vec<&'static str>, Worth) {
        let before = self.clone();
        let told = (0..1 + chance.below(4)).map(|_| self.edit_once(chance)).collect();
        (told, self.worth(&before, most_maxconn))
    }

    fn worth(&self, before: &Self, most_maxconn: u32) -> Worth {
        let Self { servers, balance, retries, routes, is_limited, window, client, maxconn, raw, key, .. } = self;
        let Self { tiers: _, ports: _, keep: _, has_limits: _, requests: _, .. } = self;
        let structure = |of: &Self| (of.balance, of.retries, of.is_limited, of.window, of.client, of.raw);
        let keeps_tier =
            |(key, server): (&_, &ServerWish)| before.servers.get(key).is_none_or(|b| b.tier == server.tier);
        if structure(before) != (*balance, *retries, *is_limited, *window, *client, *raw)
            || !servers.iter().all(keeps_tier)
            || BACKENDS.iter().any(|backend| self.lone_first(backend) != before.lone_first(backend))
        {
            return Worth::Reload;
        }
        let requests = |of: &Self| if of.is_limited { of.requests } else { 0 };
        let data = (&before.servers, &before.routes, requests(before), before.maxconn, before.key);
        match data == (servers, routes, requests(self), *maxconn, *key) {
            true => Worth::Nothing,
            false if *maxconn > most_maxconn => Worth::Raise,
            false => Worth::Runtime,
        }
    }

    /// The one server of tier 1 with others behind it, which a rule of the structure names.
    fn lone_first(&self, backend: &str) -> Option<&str> {
        let of = || self.servers.iter().filter(|((of, _), _)| *of == backend);
        let mut firsts = of().filter(|(_, server)| server.tier == 1);
        let ((_, first), _) = firsts.next()?;
        (firsts.next().is_none() && of().count() > 1).then_some(first)
    }

    fn edit_once(&mut self, chance: &mut Chance) -> &'static str {
        let key = self.any(chance);
        let is_by_address = matches!(key.0, "chat" | "pool");
        let (siblings, fresh) = (self.of(key.0).len(), self.fresh_port());
        let server = self.servers.get_mut(&key).expect("a server that was listed");
        match chance.below(29) {
            0..4 => {
                server.weight = *chance.pick(&[0, 1, 50, 100, 256]);
                "weight"
            }
            4..7 => {
                server.state = *chance.pick(&STATES);
                "state"
            }
            7..9 if server.host > 0 => {
                server.host = 1 + chance.below(20);
                server.port = fresh;
                "address"
            }
            9..12 if is_by_address && siblings < 6 => {
                self.add(key.0, chance);
                "a server more"
            }
            12..14 if is_by_address && siblings > 1 => {
                self.servers.remove(&key);
                "a server less"
            }
            14 if is_by_address => {
                // The only one is replaced by another.
                self.servers.remove(&key);
                self.add(key.0, chance);
                "a server replaced"
            }
            15 | 28 => {
                let path = format!("/v1/{}", chance.below(99));
                self.routes.retain(|(known, _)| *known != path);
                self.routes.insert(0, (path, *chance.pick(&BACKENDS)));
                self.routes.truncate(5);
                "routes"
            }
            16 => {
                self.requests = 1 + chance.below(500);
                "limit"
            }
            17 | 27 => {
                self.key += 1;
                "key"
            }
            18 if siblings > 1 => {
                // Everybody of a backend goes, and one comes in his place, somewhere else.
                server.host = if server.host == 0 { 0 } else { 1 + server.host % 20 };
                server.weight = 30;
                for ((backend, name), other) in &mut self.servers {
                    if *backend == key.0 {
                        other.state = if *name == key.1 { "ready" } else { "maint" };
                    }
                }
                "one for all"
            }
            18 => {
                self.keep = 20 + chance.below(9);
                "history"
            }
            19 if is_by_address => {
                server.tier = 3 - server.tier;
                self.tiers.insert(key.1, server.tier);
                "tier"
            }
            20 => {
                self.balance = if self.balance == "leastconn" { "roundrobin" } else { "leastconn" };
                "balance"
            }
            21 => {
                self.raw += chance.below(2);
                self.client += 1;
                self.retries = 3 - self.retries.min(2);
                self.window += 1;
                "structure"
            }
            22..24 if self.has_limits => {
                server.maxconn = *chance.pick(&[0, 1, 50, 500]);
                // One that comes back has it from the first request on.
                server.state = if chance.one_in(2) { "ready" } else { server.state };
                "maxconn"
            }
            24 => {
                self.maxconn = *chance.pick(&[500, 1000, 2000]);
                "maxconn of the process"
            }
            25..27 => {
                self.is_limited = !self.is_limited;
                "limit on and off"
            }
            _ => "nothing",
        }
    }

    /// The file, and beside it the keys that it refers to.
    pub fn write(&self, directory: &Utf8Path, port: u16) -> String {
        crate::support::write(directory.join("k0.key"), format!("sk-0-{}\n", self.key));
        crate::support::write(directory.join("k1.key"), "sk-1\n");
        let mut text = format!(
            "[node]\nname = \"lb1\"\nstate = \"{directory}/state\"\n[api]\nsocket = \"{directory}/api.sock\"\n\
             [history]\nkeep = {keep}\n[haproxy]\nbinary = \"{directory}/haproxy\"\nconfig = \"{directory}/haproxy.cfg\"\n\
             admin_socket = \"{directory}/admin.sock\"\nmaster_socket = \"{directory}/master.sock\"\nuser = \"\"\n\
             group = \"\"\nlog = \"\"\nreloads_per_hour = 720\nmax_old_workers = 1000\nmaxconn = {maxconn}\n\
             {limit}\
             [frontend.api]\nbind = [\"127.0.0.1:{port}\"]\nbackend = \"chat\"\ntimeout = {{ client = \"{client}s\" }}\n",
            keep = self.keep,
            limit = match self.is_limited {
                true => format!("[limit.address]\nrequests = \"{}/{}s\"\n", self.requests, self.window),
                false => String::new(),
            },
            client = self.client,
            maxconn = self.maxconn,
        );
        // One for each backend, so that none of them is new to the frontend.
        let fixed = BACKENDS.map(|backend| (format!("/fixed/{backend}"), backend));
        let routes = self.routes.iter().chain(&fixed);
        let routes: Vec<_> =
            routes.map(|(path, to)| format!("{{ path = [\"{path}\"], backend = \"{to}\" }}")).collect();
        let _ =
            writeln!(text, "routes = [{}]\nraw = [\"http-response set-header X-Raw {}\"]", routes.join(", "), self.raw);
        for backend in BACKENDS {
            let balance = if backend == "chat" { self.balance } else { "leastconn" };
            let _ = writeln!(
                text,
                "[backend.{backend}]\nprovider = \"vllm\"\nbalance = \"{balance}\"\nretries = {}",
                self.retries
            );
            let _ = writeln!(text, "[backend.{backend}.check]\nfall = 1\nrise = 1\nramp = \"1h\"");
        }
        for ((backend, name), ServerWish { host, port, weight, state, tier, maxconn }) in &self.servers {
            let host = if *host == 0 { "llm.example".to_owned() } else { format!("192.0.2.{host}") };
            // The name and port of a server by name are structure.
            let port = if *backend == "named" { 9000 } else { *port };
            let _ = writeln!(
                text,
                "[backend.{backend}.server.{name}]\nurl = \"http://{host}:{port}\"\nweight = {weight}\nstate = \"{state}\"\ntier = {tier}"
            );
            if *maxconn > 0 {
                let _ = writeln!(text, "maxconn = {maxconn}");
            }
            if *backend == "keyed" {
                let _ = writeln!(text, "keys = [\"file:{directory}/{name}.key\"]");
            }
        }
        text
    }
}
