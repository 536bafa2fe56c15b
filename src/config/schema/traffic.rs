//! Where clients connect, and what they may do before anybody knows them.

use super::{DAY, KeySpec, RAW_LINES, Section, ValueKind};

const METHODS: ValueKind =
    ValueKind::List(&ValueKind::Choice(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"], &[]), 1, 7);

pub(in crate::config) static FRONTEND: Section = Section {
    name: "frontend.NAME",
    doc: "Where clients connect",
    keys: &[
        KeySpec::new("bind", ValueKind::List(&ValueKind::Bind, 1, 64), "Addresses; with certificates they speak TLS")
            .required()
            .example("[\"*:443\"]"),
        KeySpec::new("certificates", ValueKind::List(&ValueKind::Path, 0, 1000), "Certificates with their keys: PEM files, or directories such as certbot's; renewed ones are taken over without a reload; none: clear text")
            .example("[\"/etc/hapilot/certs/api.pem\"]"),
        KeySpec::new("client_certificates", ValueKind::Table(&CLIENT_CERTIFICATES), CLIENT_CERTIFICATES.doc)
            .says("clients are asked for none"),
        KeySpec::new("http3", ValueKind::Bool, "With certificates: whether it speaks HTTP/3 as well, over UDP at the same addresses; from HAProxy 3.0 on, where it was built with QUIC")
            .is("false"),
        KeySpec::new("strict_sni", ValueKind::Bool, "With certificates: whether a client that names no host, or one that no certificate is for, is turned away, instead of seeing the first certificate")
            .is("false"),
        KeySpec::new("redirect_http", ValueKind::Bind, "A clear-text address that redirects to the TLS one").example("\"*:80\""),
        KeySpec::new("backend", ValueKind::BackendName, "The default backend")
            .says("the file's only backend")
            .example("\"chat\""),
        KeySpec::new("routes", ValueKind::List(&ValueKind::Table(&ROUTE), 0, 1000), "The first route that matches wins")
            .example("[{ path = [\"/v1/embeddings\"], backend = \"embeddings\" }]"),
        KeySpec::new("open", ValueKind::Bool, "Whoever reaches it may use the keys of its backends, and no warning says so").is("false"),
        KeySpec::new(
            "unread_model",
            ValueKind::BackendName,
            "Where routes look at the model: the backend for requests whose model cannot be told, or `refuse` (400 or 413)",
        )
        .says("refuse")
        .example("\"chat\""),
        KeySpec::new("methods", METHODS, "Which methods are served; others are answered with 405")
            .says("all but TRACE and CONNECT")
            .example("[\"GET\", \"POST\"]"),
        KeySpec::new(
            "content_types",
            ValueKind::List(&ValueKind::Text(100), 1, 30),
            "Which kinds of bodies are taken, as `application/json` or `audio/*`; others are answered with 415",
        )
        .says("all")
        .example("[\"application/json\", \"multipart/form-data\"]"),
        KeySpec::new("max_body", ValueKind::Size("1B", "100GiB"), "Largest body of a request; larger ones are answered with 413")
            .says("no limit")
            .example("\"10MiB\""),
        KeySpec::new("hsts", ValueKind::Bool, "With certificates: whether browsers are told to use nothing but TLS for two years")
            .is("true"),
        KeySpec::new("timeout", ValueKind::Table(&FRONTEND_TIMEOUT), FRONTEND_TIMEOUT.doc),
        KeySpec::new("raw", RAW_LINES, "Lines at the end of HAProxy's `frontend` section")
            .example("[\"http-response del-header Server\"]"),
    ],
};

pub(in crate::config) static CLIENT_CERTIFICATES: Section = Section {
    name: "frontend.NAME.client_certificates",
    doc: "Certificates that clients show in the TLS handshake (mTLS)",
    keys: &[
        KeySpec::new(
            "ca",
            ValueKind::List(&ValueKind::Path, 1, 100),
            "PEM files of the authorities whose certificates are good",
        )
        .required()
        .example("[\"/etc/hapilot/certs/clients-ca.pem\"]"),
        KeySpec::new("required", ValueKind::Bool, "Whether a client that shows none is turned away in the handshake")
            .is("true"),
        KeySpec::new(
            "revoked",
            ValueKind::List(&ValueKind::Path, 0, 100),
            "PEM files with lists of revoked certificates (CRLs): one of each authority is needed",
        )
        .says("nothing is looked up")
        .example("[\"/etc/hapilot/certs/clients-crl.pem\"]"),
    ],
};

pub(in crate::config) static FRONTEND_TIMEOUT: Section = Section {
    name: "frontend.NAME.timeout",
    doc: "How long HAProxy waits for clients",
    keys: &[
        KeySpec::new("client", ValueKind::Duration("1s", DAY), "The client is silent while we wait for it").is("60s"),
        KeySpec::new("request", ValueKind::Duration("1s", "1h"), "A whole request header").is("10s"),
        KeySpec::new(
            "body",
            ValueKind::Duration("1s", "1h"),
            "The part of a body that must be there before the request goes on",
        )
        .is("2m"),
        KeySpec::new("keep_alive", ValueKind::Duration("1ms", DAY), "An idle connection between two requests")
            .is("60s"),
    ],
};

const CALLERS: ValueKind = ValueKind::List(&ValueKind::Text(64), 1, 100);

pub(in crate::config) static ROUTE: Section = Section {
    name: "frontend.NAME.routes",
    doc: "Of the conditions that are given, all must match",
    keys: &[
        KeySpec::new("path", ValueKind::List(&ValueKind::UrlPath, 1, 100), "Prefixes of the path; any of them")
            .example("[\"/v1/embeddings\"]"),
        KeySpec::new(
            "model",
            ValueKind::List(&ValueKind::Text(256), 1, 100),
            "Globs with * and ? on the request's model; any of them",
        )
        .example("[\"claude-*\"]"),
        KeySpec::new("no_model", ValueKind::Bool, "Requests that name no model at all").is("false"),
        KeySpec::new("client", CALLERS, "Globs with * and ? on the names of clients; any of them")
            .example("[\"team-*\"]"),
        KeySpec::new("plan", CALLERS, "Globs with * and ? on the names of plans; any of them").example("[\"premium\"]"),
        KeySpec::new(
            "header",
            ValueKind::Headers(&ValueKind::List(&ValueKind::HeaderText(256), 1, 100), 4),
            "Headers of the request, all of them; each has one value, which any of its globs with * and ? fits",
        )
        .example("{ \"x-tenant\" = [\"blue\", \"green-*\"] }"),
        KeySpec::new("backend", ValueKind::BackendName, "Where to").required().example("\"embeddings\""),
    ],
};

pub(in crate::config) static LIMIT: Section = Section {
    name: "limit",
    doc: "Limits for everybody",
    keys: &[KeySpec::new("address", ValueKind::Table(&ADDRESS_LIMIT), ADDRESS_LIMIT.doc).says("no limit")],
};

pub(in crate::config) static ADDRESS_LIMIT: Section = Section {
    name: "limit.address",
    doc: "Per client address, before authentication",
    keys: &[
        KeySpec::new("requests", ValueKind::Rate, "Requests in a sliding window").required().example("\"100/10s\""),
        KeySpec::new("burst", ValueKind::Integer(0, 1_000_000), "So many more in one window").is("0"),
        KeySpec::new("raw", RAW_LINES, "Lines for the stick-table's own section").example("[]"),
    ],
};
