//! Backends and their servers.

use super::{CHECK, DAY, Key, Kind, RAW_LINES, Refusal, Section};

pub(in crate::config) static BACKEND: Section = Section {
    name: "backend.NAME",
    doc: "A group of servers that answer alike",
    keys: &[
        Key::new(
            "provider",
            Kind::Provider,
            "Who answers: decides paths, the header of the key, and what answers mean; or a name of `[provider.NAME]`",
        )
        .is("openai"),
        Key::new(
            "balance",
            Kind::Choice(
                &["roundrobin", "leastconn", "first", "random", "source"],
                &[(
                    "static-rr",
                    Refusal::Never("it fixes the weights when HAProxy loads, so that health could not steer it"),
                )],
            ),
            "HAProxy's load-balancing algorithm; `leastconn` becomes `random(4)`, the least busy of four, on HAProxy 3.2 and newer, whose own loses servers from sight after a repeat",
        )
        .is("leastconn"),
        Key::new(
            "weighting",
            Kind::Choice(&["static", "adaptive"], &[]),
            "static: your weight and the server's state; adaptive: also its latency",
        )
        .is("static"),
        Key::new("retries", Kind::Integer(0, 10), "Retries on another server, before the first byte only").is("2"),
        Key::new("timeout", Kind::Table(&BACKEND_TIMEOUT), BACKEND_TIMEOUT.doc),
        Key::new(
            "forward_client",
            Kind::Bool,
            "Whether the servers are told the caller's address and the name that it asked for (`X-Forwarded-For`, `X-Forwarded-Host`, `X-Forwarded-Proto`)",
        )
        .says("only where the URL of each server is a private address"),
        Key::new("check", Kind::Table(&CHECK), CHECK.doc),
        Key::new("server", Kind::Named(&SERVER, 10_000), "The servers, by name").required().example("server.one"),
        Key::new("raw", RAW_LINES, "Lines at the end of HAProxy's `backend` section")
            .example("[\"http-request set-header X-Team ai\"]"),
    ],
};

pub(in crate::config) static BACKEND_TIMEOUT: Section = Section {
    name: "backend.NAME.timeout",
    doc: "How long HAProxy waits for servers",
    keys: &[
        Key::new("connect", Kind::Duration("10ms", "10m"), "Until the connection stands").is("5s"),
        Key::new("first_byte", Kind::Duration("100ms", DAY), "From the request to the response's first byte").is("60s"),
        Key::new("idle", Kind::Duration("1s", DAY), "Between two pieces of a stream").is("60s"),
    ],
};

pub(in crate::config) static SERVER: Section = Section {
    name: "backend.NAME.server.NAME",
    doc: "One server of a backend",
    keys: &[
        Key::new("url", Kind::Url, "Base URL; without a path the provider's own (such as /v1)")
            .required()
            .example("\"https://api.openai.com/v1\""),
        Key::new("host", Kind::HostHeader, "The `Host` header of every request to it, a client's or a probe's; never the client's own")
            .says("the URL's name; for an address `tls.server_name`, else localhost")
            .example("\"gpu.example\""),
        Key::new("weight", Kind::Integer(0, 256), "Base weight; 0: no new requests").is("100"),
        Key::new("state", Kind::Choice(&["ready", "drain", "maint"], &[]), "Administrative state").is("ready"),
        Key::new("tier", Kind::Integer(1, 2), "Tier 2 takes traffic only when no server of tier 1 can").is("1"),
        Key::new("region", Kind::Text(64), "A label").example("\"us-east\""),
        Key::new("keys", Kind::List(&Kind::Secret, 0, 16), "Places of the provider's keys; the first serves until it is limited or rejected, then the next one that works")
            .example("[\"env:OPENAI_KEY\"]"),
        Key::new("spread", Kind::Bool, "All keys serve at once, each request with one of them by chance; else one key at a time").is("false"),
        Key::new("maxconn", Kind::Integer(1, 1_000_000), "Concurrent requests").says("no limit").example("64"),
        Key::new("tls", Kind::Table(&SERVER_TLS), SERVER_TLS.doc),
        Key::new("proxy_protocol", Kind::Choice(&["v1", "v2"], &[]), "The server wants the caller's address ahead of the connection, in this version of the PROXY protocol")
            .says("no such header"),
        Key::new("raw", RAW_LINES, "Words for the end of the `server` line; probes do not follow them")
            .example("[\"slowstart 30s\"]"),
        Key::new("price", Kind::Table(&PRICE), PRICE.doc).says("unknown"),
    ],
};

pub(in crate::config) static PRICE: Section = Section {
    name: "backend.NAME.server.NAME.price",
    doc: "What the server's tokens cost, in US dollars a million",
    keys: &[
        Key::new("input", Kind::Amount(1_000_000), "Tokens of the prompt").required().example("2.5"),
        Key::new("output", Kind::Amount(1_000_000), "Tokens of the completion").required().example("10"),
    ],
};

pub(in crate::config) static SERVER_TLS: Section = Section {
    name: "backend.NAME.server.NAME.tls",
    doc: "TLS towards the server; only where its URL is https",
    keys: &[
        Key::new("ca", Kind::Path, "PEM file of authorities")
            .says("the system's authorities")
            .example("\"/etc/hapilot/ca.pem\""),
        Key::new("server_name", Kind::DnsName, "The name that is asked for and verified")
            .says("the URL's name; to be written for https with an address, unless `verify = false`")
            .example("\"api.openai.com\""),
        Key::new("certificate", Kind::Path, "PEM file of our own certificate and its key, for a server that asks for one; a renewed one is HAProxy's with its next reload")
            .says("none is shown")
            .example("\"/etc/hapilot/client.pem\""),
        Key::new("verify", Kind::Bool, "Whether the server's certificate is verified").is("true"),
    ],
};
