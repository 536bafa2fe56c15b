//! The file itself and the sections that exist once.

use super::alert::{ALERT, ALERTS};
use super::caller::{CLIENT, CLIENTS, MODEL_PRICE, PLAN, PLANS, PRICES};
use super::canary::CANARY;
use super::later;
use super::vip::{KEEPALIVED, MAX_NODES, VIP};
use super::{BACKEND, FRONTEND, KeySpec, LIMIT, PROVIDER, RAW_LINES, Section, ValueKind};
use crate::config::{DEFAULT_SOCKET, DEFAULT_STATE};

pub(in crate::config) static ROOT: Section = Section {
    name: "",
    doc: "hapilot: steers HAProxy from this one file",
    keys: &[
        KeySpec::new("node", ValueKind::Table(&NODE), NODE.doc),
        KeySpec::new("haproxy", ValueKind::Table(&HAPROXY), HAPROXY.doc),
        KeySpec::new("tls", ValueKind::Table(&TLS), TLS.doc),
        KeySpec::new("frontend", ValueKind::Named(&FRONTEND, 100), "Where clients connect, by name")
            .required()
            .example("frontend.api"),
        KeySpec::new("limit", ValueKind::Table(&LIMIT), LIMIT.doc),
        KeySpec::new("plan", PLANS, PLAN.doc).example("plan.free"),
        KeySpec::new("client", CLIENTS, CLIENT.doc).example("client.acme"),
        KeySpec::new("clients", ValueKind::Path, "A file of more `[client.NAME]` sections, at the top of this one; a change in it is taken over without a reload")
            .example("\"/etc/hapilot/clients.toml\""),
        KeySpec::new("price", PRICES, MODEL_PRICE.doc)
            .says("none")
            .example("[{ model = \"gpt-4o*\", input = 2.5, output = 10 }]"),
        KeySpec::new("provider", ValueKind::Named(&PROVIDER, 100), "Kinds of AI backend of your own, by name"),
        KeySpec::new("backend", ValueKind::Named(&BACKEND, 1000), "Groups of servers that answer alike, by name")
            .required()
            .example("backend.chat.server.one"),
        KeySpec::new("keepalived", ValueKind::Table(&KEEPALIVED), KEEPALIVED.doc),
        KeySpec::new("vip", ValueKind::Named(&VIP, 16), VIP.doc).example("vip.public"),
        KeySpec::new("apply", ValueKind::Table(&APPLY), APPLY.doc),
        KeySpec::new("history", ValueKind::Table(&HISTORY), HISTORY.doc),
        KeySpec::new("api", ValueKind::Table(&API), API.doc),
        KeySpec::new("canary", ValueKind::Named(&CANARY, 100), CANARY.doc).example("canary.turbo"),
        KeySpec::new("alert", ALERTS, ALERT.doc).example("alert.team"),
    ],
};

pub(in crate::config) static NODE: Section = Section {
    name: "node",
    doc: "This load-balancer node",
    keys: &[
        KeySpec::new("name", ValueKind::Name, "Name of the node").says("the host name").example("\"lb1\""),
        KeySpec::new(
            "state",
            ValueKind::Path,
            "Directory for revisions and the journal; takes effect when the agent starts",
        )
        .is(DEFAULT_STATE),
        KeySpec::new("peers", ValueKind::ByNode(&ValueKind::Ip, MAX_NODES), "The cluster's nodes and their addresses")
            .says("this node is alone")
            .example("{ lb1 = \"198.51.100.11\", lb2 = \"198.51.100.12\" }"),
        KeySpec::new("heartbeat", ValueKind::Table(&HEARTBEAT), HEARTBEAT.doc)
            .says("the nodes do not talk to each other"),
    ],
};

pub(in crate::config) static HEARTBEAT: Section = Section {
    name: "node.heartbeat",
    doc: "By which the nodes in `peers` tell each other what they own and serve, and what clients used",
    keys: &[
        KeySpec::new(
            "port",
            ValueKind::Integer(1, 65_535),
            "Port, the same on all nodes: UDP for the agents, TCP for the counters of HAProxy",
        )
        .is("9441"),
        KeySpec::new("key", ValueKind::Secret, "Place of the key that all nodes share, at least 16 bytes")
            .required()
            .example("\"file:/etc/hapilot/heartbeat.key\""),
    ],
};

pub(in crate::config) static HAPROXY: Section = Section {
    name: "haproxy",
    doc: "The HAProxy of this node",
    keys: &[
        KeySpec::new("config", ValueKind::Path, "The file that hapilot writes; maps live in `maps/` beside it")
            .is("/etc/haproxy/haproxy.cfg"),
        KeySpec::new("admin_socket", ValueKind::Socket, "HAProxy's stats socket with level admin").is("/run/haproxy/admin.sock"),
        KeySpec::new("master_socket", ValueKind::Socket, "The master CLI; HAProxy is started with `-S` and this path")
            .is("/run/haproxy/master.sock"),
        KeySpec::new("binary", ValueKind::Program, "The program that checks the file with `-c`").is("haproxy"),
        KeySpec::new("template", ValueKind::Path, "Your own root template")
            .says("the built-in one")
            .example("\"/etc/hapilot/templates/haproxy.cfg\""),
        KeySpec::new("user", ValueKind::Account, "User that the worker changes to; empty: it stays who it is").is("haproxy"),
        KeySpec::new("group", ValueKind::Account, "Group that the worker changes to; empty: it stays who it is").is("haproxy"),
        KeySpec::new("maxconn", ValueKind::Integer(1, 10_000_000), "Concurrent connections of the process").is("10000"),
        KeySpec::new("threads", ValueKind::Integer(1, 64), "Threads of the process").says("HAProxy's own choice").example("4"),
        KeySpec::new(
            "buffer",
            ValueKind::Size("16KiB", "4MiB"),
            "The largest request that can be repeated at another server, or routed by its model; each request in flight may take as much memory",
        )
        .says("32KiB; 256KiB where routes look at the model")
        .example("\"256KiB\""),
        KeySpec::new(
            "large_buffer",
            ValueKind::Size("64KiB", "64MiB"),
            "From HAProxy 3.4 on: the largest request that can be routed by its model; only requests above `buffer` take as much memory",
        )
        .is("2MiB"),
        KeySpec::new("hard_stop_after", ValueKind::Duration("1s", "24h"), "How long an old worker may finish its streams")
            .is("10m"),
        KeySpec::new("reloads_per_hour", ValueKind::Integer(1, 720), "Changes that need more reloads wait, unless forced")
            .is("60"),
        KeySpec::new("max_old_workers", ValueKind::Integer(1, 1000), "While more of them finish, a reload waits, unless forced")
            .is("5"),
        KeySpec::new("log", ValueKind::Word(255), "Target of HAProxy's log: a socket, host:port or stdout; empty: none")
            .is("/dev/log"),
        KeySpec::new("live", ValueKind::Bool, "Whether health and metrics see how the requests of real clients end").is("true"),
        KeySpec::new("stats", ValueKind::Table(&STATS), STATS.doc).says("no statistics page"),
        KeySpec::new("raw", RAW_LINES, "Lines for HAProxy's `global` section").example("[\"tune.comp.maxlevel 1\"]"),
        KeySpec::new("raw_defaults", RAW_LINES, "Lines for HAProxy's `defaults` section")
            .example("[\"option dontlognull\"]"),
    ],
};

pub(in crate::config) static STATS: Section = Section {
    name: "haproxy.stats",
    doc: "Statistics page at / and Prometheus exporter at /metrics",
    keys: &[
        KeySpec::new("bind", ValueKind::Bind, "Where it listens; without a login on loopback only")
            .required()
            .example("\"127.0.0.1:8404\""),
        KeySpec::new("user", ValueKind::Text(64), "User of the login").example("\"ops\""),
        KeySpec::new("password", ValueKind::Secret, "Place of the login's password")
            .example("\"file:/etc/hapilot/stats\""),
    ],
};

pub(in crate::config) static TLS: Section = Section {
    name: "tls",
    doc: "TLS towards clients",
    keys: &[
        KeySpec::new(
            "profile",
            ValueKind::Choice(&["modern", "intermediate", "old"], &[]),
            "Mozilla's profile: modern is TLS 1.3 only, intermediate 1.2 and up, old 1.0 and up",
        )
        .is("intermediate"),
        KeySpec::new(
            "certificate_expiry",
            ValueKind::Duration("1h", "24d"),
            "A certificate of a frontend that is valid for less is a problem; of one that lives for days, a third of its life",
        )
        .is("14d"),
        KeySpec::new(
            "ocsp",
            ValueKind::Bool,
            "From HAProxy 3.0 on: whether it asks the authorities of the frontends' certificates if they were revoked, and hands the answers to clients (OCSP stapling)",
        )
        .is("false"),
    ],
};

pub(in crate::config) static APPLY: Section = Section {
    name: "apply",
    doc: "How a new revision comes into force",
    keys: &[
        KeySpec::new(
            "confirm",
            ValueKind::Duration("1s", "7d"),
            "Without `hapilot confirm` in this time the last one comes back",
        )
        .says("a revision counts as confirmed at once")
        .example("\"10m\""),
        KeySpec::new(
            "soak",
            ValueKind::Duration("1m", "1d"),
            "How long a new revision is compared with the time before it: back by itself where it is worse, else confirmed; shorter than `confirm`",
        )
        .says("nothing is compared")
        .example("\"5m\""),
        KeySpec::new(
            "order",
            ValueKind::Choice(&["backup-first", "any"], &[]),
            "Among nodes: a node that owns a virtual address waits until the others serve the revision",
        )
        .is("backup-first"),
        KeySpec::new(
            "on_save",
            ValueKind::Choice(&["apply", "plan"], &[]),
            "What a saved file does: it is served at once, or waits for `hapilot apply`, also over a restart of the agent",
        )
        .is("apply"),
    ],
};

pub(in crate::config) static HISTORY: Section = Section {
    name: "history",
    doc: "Revisions that are kept for a rollback",
    keys: &[
        KeySpec::new("keep", ValueKind::Integer(2, 10_000), "How many revisions").is("200"),
        KeySpec::new(
            "git",
            ValueKind::Path,
            "A git repository in which each confirmed revision is a commit; it is made where there is none, and pushed where it has a remote `origin`",
        )
        .says("none")
        .example("\"/var/lib/hapilot/git\""),
    ],
};

pub(in crate::config) static API: Section = Section {
    name: "api",
    doc: "How people and programs talk to the agent",
    keys: &[
        KeySpec::new("socket", ValueKind::Socket, "What the command line talks to; takes effect when the agent starts")
            .is(DEFAULT_SOCKET),
        KeySpec::new(
            "listen",
            ValueKind::Bind,
            "Where everybody may read status and metrics; takes effect when the agent starts",
        )
        .says("nowhere")
        .example("\"127.0.0.1:9440\""),
        KeySpec::later("token", later::API_TOKEN),
    ],
};
