//! The file itself and the sections that exist once.

use super::later;
use super::vip::{KEEPALIVED, MAX_NODES, VIP};
use super::{BACKEND, FRONTEND, Key, Kind, LIMIT, PROVIDER, RAW_LINES, Section};
use crate::config::{DEFAULT_SOCKET, DEFAULT_STATE};

pub(in crate::config) static ROOT: Section = Section {
    name: "",
    doc: "hapilot: steers HAProxy from this one file",
    keys: &[
        Key::new("node", Kind::Table(&NODE), NODE.doc),
        Key::new("haproxy", Kind::Table(&HAPROXY), HAPROXY.doc),
        Key::new("tls", Kind::Table(&TLS), TLS.doc),
        Key::new("frontend", Kind::Named(&FRONTEND, 100), "Where clients connect, by name")
            .required()
            .example("frontend.api"),
        Key::new("limit", Kind::Table(&LIMIT), LIMIT.doc),
        Key::new("provider", Kind::Named(&PROVIDER, 100), "Kinds of AI backend of your own, by name"),
        Key::new("backend", Kind::Named(&BACKEND, 1000), "Groups of servers that answer alike, by name")
            .required()
            .example("backend.chat.server.one"),
        Key::new("keepalived", Kind::Table(&KEEPALIVED), KEEPALIVED.doc),
        Key::new("vip", Kind::Named(&VIP, 16), VIP.doc).example("vip.public"),
        Key::new("apply", Kind::Table(&APPLY), APPLY.doc),
        Key::new("history", Kind::Table(&HISTORY), HISTORY.doc),
        Key::new("api", Kind::Table(&API), API.doc),
        Key::later("plan", later::PLANS),
        Key::later("client", later::CLIENTS),
        Key::later("canary", later::CANARIES),
        Key::later("alert", later::ALERTS),
    ],
};

pub(in crate::config) static NODE: Section = Section {
    name: "node",
    doc: "This load-balancer node",
    keys: &[
        Key::new("name", Kind::Name, "Name of the node").says("the host name").example("\"lb1\""),
        Key::new("state", Kind::Path, "Directory for revisions and the journal").is(DEFAULT_STATE),
        Key::new("peers", Kind::ByNode(&Kind::Ip, MAX_NODES), "The cluster's nodes and their addresses")
            .says("this node is alone")
            .example("{ lb1 = \"198.51.100.11\", lb2 = \"198.51.100.12\" }"),
        Key::new("heartbeat", Kind::Table(&HEARTBEAT), HEARTBEAT.doc).says("the nodes do not talk to each other"),
    ],
};

pub(in crate::config) static HEARTBEAT: Section = Section {
    name: "node.heartbeat",
    doc: "Datagrams by which the nodes in `peers` tell each other what they own and serve",
    keys: &[
        Key::new("port", Kind::Integer(1, 65_535), "UDP port, the same on all nodes").is("9441"),
        Key::new("key", Kind::Secret, "Place of the key that all nodes share, at least 16 bytes")
            .required()
            .example("\"file:/etc/hapilot/heartbeat.key\""),
    ],
};

pub(in crate::config) static HAPROXY: Section = Section {
    name: "haproxy",
    doc: "The HAProxy of this node",
    keys: &[
        Key::new("config", Kind::Path, "The file that hapilot writes; maps live in `maps/` beside it")
            .is("/etc/haproxy/haproxy.cfg"),
        Key::new("admin_socket", Kind::Socket, "HAProxy's stats socket with level admin").is("/run/haproxy/admin.sock"),
        Key::new("master_socket", Kind::Socket, "The master CLI; HAProxy is started with `-S` and this path")
            .is("/run/haproxy/master.sock"),
        Key::new("binary", Kind::Program, "The program that checks the file with `-c`").is("haproxy"),
        Key::new("template", Kind::Path, "Your own root template")
            .says("the built-in one")
            .example("\"/etc/hapilot/templates/haproxy.cfg\""),
        Key::new("user", Kind::Account, "User that the worker changes to; empty: it stays who it is").is("haproxy"),
        Key::new("group", Kind::Account, "Group that the worker changes to; empty: it stays who it is").is("haproxy"),
        Key::new("maxconn", Kind::Integer(1, 10_000_000), "Concurrent connections of the process").is("10000"),
        Key::new("threads", Kind::Integer(1, 64), "Threads of the process").says("HAProxy's own choice").example("4"),
        Key::new(
            "buffer",
            Kind::Size("16KiB", "4MiB"),
            "The largest request that can be repeated at another server, or routed by its model; each request in flight may take as much memory",
        )
        .says("32KiB; 256KiB where routes look at the model")
        .example("\"256KiB\""),
        Key::new(
            "large_buffer",
            Kind::Size("64KiB", "64MiB"),
            "From HAProxy 3.4 on: the largest request that can be routed by its model; only requests above `buffer` take as much memory",
        )
        .is("2MiB"),
        Key::new("hard_stop_after", Kind::Duration("1s", "24h"), "How long an old worker may finish its streams")
            .is("10m"),
        Key::new("reloads_per_hour", Kind::Integer(1, 720), "Changes that need more reloads wait, unless forced")
            .is("60"),
        Key::new("max_old_workers", Kind::Integer(1, 1000), "While more of them finish, a reload waits, unless forced")
            .is("5"),
        Key::new("log", Kind::Word(255), "Target of HAProxy's log: a socket, host:port or stdout; empty: none")
            .is("/dev/log"),
        Key::new("live", Kind::Bool, "Whether health and metrics see how the requests of real clients end").is("true"),
        Key::new("stats", Kind::Table(&STATS), STATS.doc).says("no statistics page"),
        Key::new("raw", RAW_LINES, "Lines for HAProxy's `global` section").example("[\"tune.comp.maxlevel 1\"]"),
        Key::new("raw_defaults", RAW_LINES, "Lines for HAProxy's `defaults` section")
            .example("[\"option dontlognull\"]"),
    ],
};

pub(in crate::config) static STATS: Section = Section {
    name: "haproxy.stats",
    doc: "Statistics page at / and Prometheus exporter at /metrics",
    keys: &[
        Key::new("bind", Kind::Bind, "Where it listens; without a login on loopback only")
            .required()
            .example("\"127.0.0.1:8404\""),
        Key::new("user", Kind::Text(64), "User of the login").example("\"ops\""),
        Key::new("password", Kind::Secret, "Place of the login's password").example("\"file:/etc/hapilot/stats\""),
    ],
};

pub(in crate::config) static TLS: Section = Section {
    name: "tls",
    doc: "TLS towards clients",
    keys: &[
        Key::new(
            "profile",
            Kind::Choice(&["modern", "intermediate", "old"], &[]),
            "Mozilla's profile: modern is TLS 1.3 only, intermediate 1.2 and up, old 1.0 and up",
        )
        .is("intermediate"),
        Key::new(
            "certificate_expiry",
            Kind::Duration("1h", "24d"),
            "A certificate of a frontend that is valid for less is a problem; of one that lives for days, a third of its life",
        )
        .is("14d"),
    ],
};

pub(in crate::config) static APPLY: Section = Section {
    name: "apply",
    doc: "How a new revision comes into force",
    keys: &[
        Key::new(
            "confirm",
            Kind::Duration("1s", "7d"),
            "Without `hapilot confirm` in this time the last one comes back",
        )
        .says("a revision counts as confirmed at once")
        .example("\"10m\""),
        Key::new(
            "order",
            Kind::Choice(&["backup-first", "any"], &[]),
            "Among nodes: a node that owns a virtual address waits until the others serve the revision",
        )
        .is("backup-first"),
        Key::new(
            "on_save",
            Kind::Choice(&["apply", "plan"], &[]),
            "What a saved file does: it is served at once, or waits for `hapilot apply`, also over a restart of the agent",
        )
        .is("apply"),
    ],
};

pub(in crate::config) static HISTORY: Section = Section {
    name: "history",
    doc: "Revisions that are kept for a rollback",
    keys: &[Key::new("keep", Kind::Integer(2, 10_000), "How many revisions").is("200")],
};

pub(in crate::config) static API: Section = Section {
    name: "api",
    doc: "How people and programs talk to the agent",
    keys: &[
        Key::new("socket", Kind::Socket, "What the command line talks to").is(DEFAULT_SOCKET),
        Key::new(
            "listen",
            Kind::Bind,
            "Where everybody may read status and metrics; takes effect when the agent starts",
        )
        .says("nowhere")
        .example("\"127.0.0.1:9440\""),
        Key::later("token", later::API_TOKEN),
    ],
};
