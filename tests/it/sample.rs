//! Small configurations with every default filled in, for tests that start from a value.

use hapilot::config::{
    AddressLimit, Alerts, Api, Apply, Backend, BackendTimeout, Check, Config, Frontend, FrontendTimeout, Haproxy,
    History, Keepalived, Node, Route, Server, ServerTls, Tls, TlsProfile, Weighting,
};
use hapilot::desired::Desired;
use hapilot::model::{
    AdminState, Affinity, Balance, Certificate, Digest, Name, Origin, PrivatePem, Provider, Secret, Sourced, Weight,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A default.
pub fn set<T>(value: T) -> Sourced<T> {
    Sourced::default_value(value)
}

/// A text of the file, parsed.
pub fn parsed<T: FromStr<Err: Debug>>(text: &str) -> Sourced<T> {
    set(text.parse().unwrap())
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn seconds(seconds: u64) -> Sourced<Duration> {
    set(Duration::from_secs(seconds))
}

const NOWHERE: Origin = Origin { line: 1, column: 1 };

pub fn config(frontends: Vec<Frontend>, backends: Vec<Backend>) -> Config {
    Config {
        node: Node {
            name: set(name("lb1")),
            state: set("/var/lib/hapilot".into()),
            peers: BTreeMap::new(),
            heartbeat: None,
        },
        haproxy: Haproxy {
            config: set("/etc/haproxy/haproxy.cfg".into()),
            admin_socket: set("/run/haproxy/admin.sock".into()),
            master_socket: set("/run/haproxy/master.sock".into()),
            binary: set("haproxy".into()),
            template: None,
            user: set("haproxy".into()),
            group: set("haproxy".into()),
            maxconn: set(10_000),
            threads: None,
            buffer_bytes: set(32_768),
            large_buffer_bytes: set(2_097_152),
            hard_stop_after: seconds(600),
            reloads_per_hour: 60,
            max_old_workers: 5,
            log: set("/dev/log".into()),
            live: true,
            stats: None,
            raw: vec![],
            raw_defaults: vec![],
        },
        tls: Tls {
            profile: set(TlsProfile::Intermediate),
            certificate_expiry: set(Duration::from_secs(14 * 86_400)),
            ocsp: false,
        },
        frontends,
        limit_address: None,
        plans: vec![],
        clients: vec![],
        clients_file: None,
        prices: vec![],
        backends,
        keepalived: Keepalived {
            config: set("/etc/keepalived/keepalived.conf".into()),
            binary: set("keepalived".into()),
            directory: set("/run/hapilot/vrrp".into()),
            backstop: set("/usr/bin/hapilot".into()),
            pid_file: set("/run/keepalived.pid".into()),
            firewall: true,
        },
        vips: vec![],
        apply: Apply::default(),
        history: History { keep: 200, git: None },
        api: Api { socket: Sourced::default_value("/run/hapilot/hapilot.sock".into()), listen: None },
        alerts: Alerts::default(),
    }
}

pub fn frontend(called: &str, bind: &str, backend: &str) -> Frontend {
    Frontend {
        name: set(name(called)),
        bind: vec![parsed(bind)],
        certificates: vec![],
        client_certificates: None,
        http3: false,
        strict_sni: false,
        redirect_http: None,
        backend: set(name(backend)),
        routes: vec![],
        open: false,
        unread_model: None,
        methods: vec![],
        content_types: vec![],
        max_body: None,
        hsts: true,
        timeout: FrontendTimeout {
            client: seconds(60),
            request: seconds(10),
            body: seconds(120),
            keep_alive: seconds(60),
        },
        raw: vec![],
    }
}

pub fn route(paths: &[&str], models: &[&str], backend: &str) -> Route {
    let texts = |texts: &[&str]| texts.iter().map(|text| set((*text).to_owned())).collect();
    Route {
        path: texts(paths),
        model: texts(models),
        no_model: false,
        client: vec![],
        plan: vec![],
        header: BTreeMap::new(),
        backend: set(name(backend)),
    }
}

pub fn limit(requests: &str, burst: u32) -> AddressLimit {
    AddressLimit { requests: parsed(requests), burst: set(burst), raw: vec![] }
}

pub fn backend(called: &str, provider: Provider, servers: Vec<Server>) -> Backend {
    Backend {
        name: name(called),
        origin: NOWHERE,
        provider: hapilot::config::profile(provider),
        balance: set(Balance::LeastConn),
        affinity: set(Affinity::Prompt),
        weighting: Weighting::Static,
        retries: set(2),
        forward_client: true,
        ask_usage: true,
        retry_streams: None,
        stream_watch: set(false),
        timeout: BackendTimeout {
            connect: seconds(5),
            first_byte: seconds(60),
            first_byte_per_ktoken: None,
            first_token: None,
            idle: seconds(60),
        },
        check: Check {
            origin: NOWHERE,
            interval: Duration::from_secs(10),
            fall: 3,
            rise: 2,
            ramp: Duration::from_secs(60),
            circuit: 5,
            models: None,
            chat: None,
            embeddings: None,
            http: None,
            metrics: None,
            certificate_expiry: None,
        },
        servers,
        canary: None,
        raw: vec![],
    }
}

pub fn server(called: &str, url: &str) -> Server {
    Server {
        name: name(called),
        origin: NOWHERE,
        url: parsed(url),
        host: None,
        weight: set(Weight::DEFAULT),
        state: set(AdminState::Ready),
        tier: 1,
        region: None,
        keys: vec![],
        spread: false,
        models: BTreeMap::new(),
        maxconn: None,
        tls: ServerTls { ca: None, server_name: None, certificate: None, verify: true },
        proxy_protocol: None,
        price: None,
        raw: vec![],
    }
}

pub fn server_with_key(called: &str, url: &str, key: &str) -> Server {
    Server { keys: vec![parsed(key)], ..server(called, url) }
}

/// A certificate that is valid until 2100; its file need not exist.
pub fn certificate(path: &str, name: &str) -> Certificate {
    Certificate {
        path: path.into(),
        source: path.into(),
        read_from: vec![],
        digest: Digest::of(path),
        fingerprint: "0123456789ABCDEF0123456789ABCDEF01234567".to_owned(),
        chain: vec![],
        names: [name.to_owned()].into(),
        key_kind: "EC".to_owned(),
        lacks_issuer: false,
        not_before: "2020-01-01T00:00:00Z".parse().unwrap(),
        not_after: "2100-01-01T00:00:00Z".parse().unwrap(),
        pem: PrivatePem::new("not to be read"),
        extras: vec![],
    }
}

/// Every secret that the configuration names gets its own reference as a value, with `secret-` before it.
pub fn desired(config: Config) -> Desired {
    let stats = config.haproxy.stats.as_ref().and_then(|stats| stats.login.as_ref()).map(|(_, password)| password);
    let heartbeat = config.node.heartbeat.as_ref().map(|heartbeat| &heartbeat.key);
    let secrets = config
        .servers()
        .flat_map(|(_, server)| &server.keys)
        .chain(stats)
        .chain(heartbeat)
        .map(|reference| (reference.value.clone(), Secret::new(format!("secret-{}", reference.value)).unwrap()))
        .collect();
    let certificates = config
        .frontends
        .iter()
        .flat_map(|frontend| &frontend.certificates)
        .map(|path| (path.value.clone(), vec![certificate(path.as_str(), "localhost")]))
        .collect();
    Desired::new(Arc::new(config), &BTreeMap::new(), &BTreeMap::new(), secrets, certificates)
}
