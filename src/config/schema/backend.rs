//! Backends and their servers.

use super::{CHECK, DAY, KeySpec, RAW_LINES, RefusedChoice, Section, ValueKind};

pub(in crate::config) static BACKEND: Section = Section {
    name: "backend.NAME",
    doc: "A group of servers that answer alike",
    keys: &[
        KeySpec::new(
            "provider",
            ValueKind::Provider,
            "Who answers: decides paths, the header of the key, and what answers mean; or a name of `[provider.NAME]`",
        )
        .is("openai"),
        KeySpec::new(
            "balance",
            ValueKind::Choice(
                &["roundrobin", "leastconn", "first", "random", "source", "affinity"],
                &[(
                    "static-rr",
                    RefusedChoice::Never("it fixes the weights when HAProxy loads, so that health could not steer it"),
                )],
            ),
            "HAProxy's load-balancing algorithm; `leastconn` becomes `random(2)`, the less busy of two, on HAProxy 3.2 and newer, whose own loses servers from sight after a repeat; `affinity` keeps what belongs together (`affinity`) at one server, whose cache has it, unless that is too busy",
        )
        .is("leastconn"),
        KeySpec::new(
            "affinity",
            ValueKind::Affinity,
            "With `balance = \"affinity\"`, what belongs together: `prompt` (a conversation, by its first question), `client`, or `header:NAME`",
        )
        .is("prompt"),
        KeySpec::new(
            "weighting",
            ValueKind::Choice(&["static", "adaptive"], &[]),
            "static: your weight and the server's state; adaptive: also its latency",
        )
        .is("static"),
        KeySpec::new("retries", ValueKind::Integer(0, 10), "Retries on another server, before the first byte only").is("2"),
        KeySpec::new(
            "retry_streams",
            ValueKind::Choice(&["errors", "errors and silence"], &[]),
            "Which streams are repeated at another server before their first token: those that begin with an error, or also those that say nothing within `timeout.first_token`, which may be billed twice",
        )
        .says("where servers differ in host, path, key or models, as `errors`; else the client gets a 503")
        .example("\"errors\""),
        KeySpec::new(
            "stream_watch",
            ValueKind::Bool,
            "Whether streams are read as they pass, so that an error behind the first event, or a stream that ends without its end, is told and counts in health",
        )
        .is("false"),
        KeySpec::new("timeout", ValueKind::Table(&BACKEND_TIMEOUT), BACKEND_TIMEOUT.doc),
        KeySpec::new(
            "forward_client",
            ValueKind::Bool,
            "Whether the servers are told the caller's address and the name that it asked for (`X-Forwarded-For`, `X-Forwarded-Host`, `X-Forwarded-Proto`)",
        )
        .says("only where the URL of each server is a private address"),
        KeySpec::new(
            "ask_usage",
            ValueKind::Bool,
            "Whether streams of clients with a limit of tokens ask for `stream_options.include_usage` where the client did not",
        )
        .says("where the provider speaks OpenAI's API"),
        KeySpec::new("check", ValueKind::Table(&CHECK), CHECK.doc),
        KeySpec::new("server", ValueKind::Named(&SERVER, 10_000), "The servers, by name").required().example("server.one"),
        KeySpec::new("raw", RAW_LINES, "Lines at the end of HAProxy's `backend` section")
            .example("[\"http-request set-header X-Team ai\"]"),
    ],
};

pub(in crate::config) static BACKEND_TIMEOUT: Section = Section {
    name: "backend.NAME.timeout",
    doc: "How long HAProxy waits for servers",
    keys: &[
        KeySpec::new("connect", ValueKind::Duration("10ms", "10m"), "Until the connection stands").is("5s"),
        KeySpec::new("first_byte", ValueKind::Duration("100ms", DAY), "From the request to the response's first byte")
            .is("60s"),
        KeySpec::new(
            "first_byte_per_ktoken",
            ValueKind::Duration("1ms", "60s"),
            "So much more for each 1,000 tokens: those of the request, four bytes each, and the `max_tokens` of an answer that is no stream; ten times `first_byte` at most",
        )
        .says("the same for all")
        .example("\"2s\""),
        KeySpec::new(
            "first_token",
            ValueKind::Duration("100ms", DAY),
            "From the request to the first event of a stream; grows with `first_byte_per_ktoken` as well",
        )
        .says("as `first_byte`")
        .example("\"20s\""),
        KeySpec::new("idle", ValueKind::Duration("1s", DAY), "Between two pieces of a stream").is("60s"),
    ],
};

pub(in crate::config) static SERVER: Section = Section {
    name: "backend.NAME.server.NAME",
    doc: "One server of a backend",
    keys: &[
        KeySpec::new("url", ValueKind::Url, "Base URL; without a path the provider's own (such as /v1)")
            .required()
            .example("\"https://api.openai.com/v1\""),
        KeySpec::new("host", ValueKind::HostHeader, "The `Host` header of every request to it, a client's or a probe's; never the client's own")
            .says("the URL's name; for an address `tls.server_name`, else localhost")
            .example("\"gpu.example\""),
        KeySpec::new("weight", ValueKind::Integer(0, 256), "Base weight; 0: no new requests").is("100"),
        KeySpec::new("state", ValueKind::Choice(&["ready", "drain", "maint"], &[]), "Administrative state").is("ready"),
        KeySpec::new("tier", ValueKind::Integer(1, 2), "Tier 2 takes traffic only when no server of tier 1 can").is("1"),
        KeySpec::new("region", ValueKind::Text(64), "A label").example("\"us-east\""),
        KeySpec::new("keys", ValueKind::List(&ValueKind::Secret, 0, 16), "Places of the provider's keys; the first serves until it is limited or rejected, then the next one that works")
            .example("[\"env:OPENAI_KEY\"]"),
        KeySpec::new("spread", ValueKind::Bool, "All keys serve at once, each request with one of them by chance; else one key at a time").is("false"),
        KeySpec::new("models", ValueKind::Models(1_000), "What models are called at this server, by the names that clients ask for; `\"*\"` is for all others")
            .says("the name that the client asks for")
            .example("{ \"gpt-4o\" = \"my-deployment\" }"),
        KeySpec::new("maxconn", ValueKind::Integer(1, 1_000_000), "Concurrent requests").says("no limit").example("64"),
        KeySpec::new("tls", ValueKind::Table(&SERVER_TLS), SERVER_TLS.doc),
        KeySpec::new("proxy_protocol", ValueKind::Choice(&["v1", "v2"], &[]), "The server wants the caller's address ahead of the connection, in this version of the PROXY protocol")
            .says("no such header"),
        KeySpec::new("raw", RAW_LINES, "Words for the end of the `server` line; probes do not follow them")
            .example("[\"slowstart 30s\"]"),
        KeySpec::new("price", ValueKind::Table(&PRICE), PRICE.doc).says("unknown"),
    ],
};

// Of both kinds of prices.
const PER_MILLION: ValueKind = ValueKind::Amount(100_000);
pub(super) const INPUT: KeySpec = KeySpec::new("input", PER_MILLION, "Tokens of the prompt").required().example("2.5");
pub(super) const OUTPUT: KeySpec = KeySpec::new("output", PER_MILLION, "Tokens of the answer").required().example("10");
pub(super) const CACHED: KeySpec =
    KeySpec::new("cached", PER_MILLION, "Tokens of the prompt out of the provider's cache")
        .says("as `input`")
        .example("1.25");
pub(super) const CACHE_WRITE: KeySpec = KeySpec::new(
    "cache_write",
    PER_MILLION,
    "Tokens of the prompt that are written into the provider's cache, where it tells them apart",
)
.says("as `input`")
.example("3.75");

pub(in crate::config) static PRICE: Section = Section {
    name: "backend.NAME.server.NAME.price",
    doc: "What the server's tokens cost where no `[[price]]` has the model, in US dollars a million, in steps of 0.000001",
    keys: &[INPUT, OUTPUT, CACHED, CACHE_WRITE],
};

pub(in crate::config) static SERVER_TLS: Section = Section {
    name: "backend.NAME.server.NAME.tls",
    doc: "TLS towards the server; only where its URL is https",
    keys: &[
        KeySpec::new("ca", ValueKind::Path, "PEM file of authorities")
            .says("the system's authorities")
            .example("\"/etc/hapilot/ca.pem\""),
        KeySpec::new("server_name", ValueKind::DnsName, "The name that is asked for and verified")
            .says("the URL's name; to be written for https with an address, unless `verify = false`")
            .example("\"api.openai.com\""),
        KeySpec::new("certificate", ValueKind::Path, "PEM file of our own certificate and its key, for a server that asks for one; a renewed one is HAProxy's with its next reload")
            .says("none is shown")
            .example("\"/etc/hapilot/client.pem\""),
        KeySpec::new("verify", ValueKind::Bool, "Whether the server's certificate is verified").is("true"),
    ],
};
