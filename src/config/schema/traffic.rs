//! Where clients connect, and what they may do before anybody knows them.

use super::{DAY, Key, Kind, RAW_LINES, Section};

pub(in crate::config) static FRONTEND: Section = Section {
    name: "frontend.NAME",
    doc: "Where clients connect",
    keys: &[
        Key::new("bind", Kind::List(&Kind::Bind, 1, 64), "Addresses; with certificates they speak TLS")
            .required()
            .example("[\"*:443\"]"),
        Key::new("certificates", Kind::List(&Kind::Path, 0, 1000), "Certificates with their keys: PEM files, or directories such as certbot's; renewed ones are taken over without a reload; none: clear text")
            .example("[\"/etc/hapilot/certs/api.pem\"]"),
        Key::new("redirect_http", Kind::Bind, "A clear-text address that redirects to the TLS one").example("\"*:80\""),
        Key::new("backend", Kind::BackendName, "The default backend")
            .says("the file's only backend")
            .example("\"chat\""),
        Key::new("routes", Kind::List(&Kind::Table(&ROUTE), 0, 1000), "The first route that matches wins")
            .example("[{ path = [\"/v1/embeddings\"], backend = \"embeddings\" }]"),
        Key::new("open", Kind::Bool, "Whoever reaches it may use the keys of its backends, and no warning says so").is("false"),
        Key::new(
            "unread_model",
            Kind::BackendName,
            "Where routes look at the model: the backend for requests whose model cannot be told, or `refuse` (400 or 413)",
        )
        .says("refuse")
        .example("\"chat\""),
        Key::new("hsts", Kind::Bool, "With certificates: whether browsers are told to use nothing but TLS for two years")
            .is("true"),
        Key::new("timeout", Kind::Table(&FRONTEND_TIMEOUT), FRONTEND_TIMEOUT.doc),
        Key::new("raw", RAW_LINES, "Lines at the end of HAProxy's `frontend` section")
            .example("[\"http-response del-header Server\"]"),
    ],
};

pub(in crate::config) static FRONTEND_TIMEOUT: Section = Section {
    name: "frontend.NAME.timeout",
    doc: "How long HAProxy waits for clients",
    keys: &[
        Key::new("client", Kind::Duration("1s", DAY), "The client is silent while we wait for it").is("60s"),
        Key::new("request", Kind::Duration("1s", "1h"), "A whole request header").is("10s"),
        Key::new(
            "body",
            Kind::Duration("1s", "1h"),
            "The part of a body that must be there before the request goes on",
        )
        .is("2m"),
        Key::new("keep_alive", Kind::Duration("1ms", DAY), "An idle connection between two requests").is("60s"),
    ],
};

pub(in crate::config) static ROUTE: Section = Section {
    name: "frontend.NAME.routes",
    doc: "Where both path and model are given, both must match",
    keys: &[
        Key::new("path", Kind::List(&Kind::UrlPath, 1, 100), "Prefixes of the path; any of them")
            .example("[\"/v1/embeddings\"]"),
        Key::new(
            "model",
            Kind::List(&Kind::Text(256), 1, 100),
            "Globs with * and ? on the request's model; any of them",
        )
        .example("[\"claude-*\"]"),
        Key::new("no_model", Kind::Bool, "Requests that name no model at all").is("false"),
        Key::new("backend", Kind::BackendName, "Where to").required().example("\"embeddings\""),
    ],
};

pub(in crate::config) static LIMIT: Section = Section {
    name: "limit",
    doc: "Limits for everybody",
    keys: &[Key::new("address", Kind::Table(&ADDRESS_LIMIT), ADDRESS_LIMIT.doc).says("no limit")],
};

pub(in crate::config) static ADDRESS_LIMIT: Section = Section {
    name: "limit.address",
    doc: "Per client address, before authentication",
    keys: &[
        Key::new("requests", Kind::Rate, "Requests in a sliding window").required().example("\"100/10s\""),
        Key::new("burst", Kind::Integer(0, 1_000_000), "So many more in one window").is("0"),
        Key::new("raw", RAW_LINES, "Lines for the stick-table's own section").example("[]"),
    ],
};
