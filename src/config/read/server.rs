//! Servers of a backend.
//!
//! Called by `backend`.

use super::field::Field;
use super::money;
use super::table::TableReader;
use crate::config::diagnostic::Found;
use crate::config::schema::{MAX_SERVERS, ValueKind};
use crate::config::types::{ProxyProtocol, Server, ServerTls};
use crate::model::{AdminState, Endpoint, Host, Name, Profile, Scheme, SecretRef, Sourced, Weight};
use camino::Utf8PathBuf;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use toml::de::DeValue;

/// The one name that needs no resolver.
const LOCALHOST: &str = "localhost";

pub(super) fn servers(backend: &TableReader<'_>, provider: &Profile) -> Vec<Server> {
    let named = backend.named("server");
    let context = backend.context();
    let before = context.servers.get();
    context.servers.set(before + named.len());
    if before <= MAX_SERVERS && before + named.len() > MAX_SERVERS {
        let message = format!("the file has more than {MAX_SERVERS} servers: this backend passes the limit");
        context.report(Found::error("too-many", message, backend.span()));
    }
    if backend.has_empty("server") {
        context.report(
            Found::error("empty-list", format!("`[{}]` has no server", backend.path()), backend.span())
                .help(format!("add a section `[{}]` with a `url`", backend.name("server.NAME")))
                .absence(),
        );
    }
    let read: Vec<_> = named.into_iter().filter_map(|(name, table)| server(name, &table, provider)).collect();
    report_twins(&read);
    let mut servers: Vec<_> = read.into_iter().map(|(server, _)| server).collect();
    // Collected in place, with room for the fields.
    servers.shrink_to_fit();
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    servers
}

/// Two servers that differ in nothing that matters to traffic: the later one in the file, whose order they have, is reported.
fn report_twins(servers: &[(Server, Field<'_>)]) {
    let mut of_url: HashMap<&Endpoint, Vec<&(Server, Field<'_>)>> = HashMap::new();
    for server @ (later, url) in servers {
        let before = of_url.entry(&later.url.value).or_default();
        if let Some((first, place)) = before.iter().find(|(first, _)| is_twin(first, later)) {
            url.context.report(
                url.error("duplicate", format!("`{}`: server {} has the same URL", url.name, first.name))
                    .label(format!("the first is on line {}", url.context.origin(&place.span).line))
                    .help(
                        "they differ in none of `keys`, `models`, `tier`, `weight`, `region`, `host`, `tls`, `proxy_protocol` and `raw`: remove one; where it \
                         is to take a larger share, give the other a larger `weight`",
                    ),
            );
        }
        before.push(server);
    }
}

fn is_twin(one: &Server, other: &Server) -> bool {
    let keys = |server: &Server| server.keys.iter().map(|key| key.value.clone()).collect::<Vec<_>>();
    let raw = |server: &Server| server.raw.iter().map(|word| word.value.clone()).collect::<Vec<_>>();
    let tls = |server: &Server| {
        let ServerTls { ca, server_name, certificate, verify } = &server.tls;
        let path = |path: &Option<Sourced<Utf8PathBuf>>| path.as_ref().map(|path| path.value.clone());
        let spelt = (path(ca), path(certificate), server_name.as_ref().map(|name| name.value.clone()), *verify);
        (server.url.value.scheme == Scheme::Https).then_some(spelt)
    };
    let proxied = |server: &Server| server.proxy_protocol.as_ref().map(|version| version.value);
    let models = |server: &Server| {
        server.models.iter().map(|(name, here)| (name.clone(), here.value.clone())).collect::<Vec<_>>()
    };
    let plain = |server: &Server| {
        (server.tier, server.weight.value, server.region.clone(), server.host_header(), proxied(server))
    };
    plain(one) == plain(other)
        && models(one) == models(other)
        && keys(one) == keys(other)
        && tls(one) == tls(other)
        && raw(one) == raw(other)
}

fn server<'t>(name: Name, table: &TableReader<'t>, provider: &Profile) -> Option<(Server, Field<'t>)> {
    let field = table.get("url");
    let url = field.as_ref().and_then(|field| url(field, provider));
    let is_localhost = url.as_ref().is_some_and(|(_, is_localhost)| *is_localhost);
    let url = url.map(|(url, _)| url);
    let weight = table.integer_or_default::<u16>("weight");
    let weight = weight.map(|weight| Weight::new(weight).expect("the schema's limit is the model's"));
    let state = table.get("state").and_then(|field| field.choice());
    let state = state.unwrap_or_else(|| Sourced::default_value(table.default_text("state")));
    let state = state.map(|word| word.parse::<AdminState>().expect("the schema's states are the model's"));
    let tier = table.integer_or_default("tier").value;
    let region = table.text("region").map(|region| region.value);
    let keys = keys(table);
    let spread = spread(table, keys.len());
    let models = table.get("models").map(|field| models(&field)).unwrap_or_default();
    let maxconn = table.integer("maxconn");
    let tls = tls(table, url.as_ref(), is_localhost);
    let proxy_protocol = table.get("proxy_protocol").and_then(|field| field.choice());
    let proxy_protocol = proxy_protocol.map(|word| word.map(version_of));
    let raw = table.raw("raw");
    let server = Server {
        name,
        origin: table.origin(),
        url: url?,
        host: table.text("host"),
        weight,
        state,
        tier,
        region,
        keys,
        spread,
        models,
        maxconn,
        tls,
        proxy_protocol,
        price: table.table("price").and_then(|table| money::price(&table)),
        raw,
    };
    Some((server, field?))
}

/// The URL with the provider's path where it has none, and whether it names `localhost`, which is an address: HAProxy
/// would ask a resolver for it.
fn url(field: &Field<'_>, provider: &Profile) -> Option<(Sourced<Endpoint>, bool)> {
    let mut url = field.parse::<Endpoint>()?;
    let is_localhost = url.value.host == Host::Dns(LOCALHOST.to_owned());
    if is_localhost {
        url.value.host = Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    if url.value.path.is_empty() {
        provider.api_root.clone_into(&mut url.value.path);
    }
    Some((url, is_localhost))
}

fn keys(table: &TableReader<'_>) -> Vec<Sourced<SecretRef>> {
    let mut keys: Vec<Sourced<SecretRef>> = Vec::new();
    // Every one is judged, so that a literal is found and hidden in any place.
    for field in table.list("keys") {
        let Some(key) = field.parse::<SecretRef>() else { continue };
        if keys.iter().any(|known| known.value == key.value) {
            table.context().report(
                field
                    .error("duplicate", format!("`{}` names {} twice", field.name, key.value))
                    .help("a key stands in the list once; where several servers share it, each names it"),
            );
            continue;
        }
        keys.push(key);
    }
    keys
}

fn spread(table: &TableReader<'_>, keys: usize) -> bool {
    let Some(field) = table.get("spread") else { return false };
    let is_wanted = field.boolean().unwrap_or_default();
    if is_wanted && keys < 2 {
        table.context().report(
            field
                .error("spread-alone", format!("`{}`: there are no two keys to spread requests over", field.name))
                .help("name more `keys`, or remove `spread`"),
        );
    }
    is_wanted
}

/// Characters of a name of a model, at most.
const LONGEST_MODEL: usize = 256;

/// Names of models, and what they are called here.
pub(super) fn models(field: &Field<'_>) -> BTreeMap<String, Sourced<String>> {
    let ValueKind::Models(max) = *field.kind else { panic!("{} is not declared as models", field.name) };
    let DeValue::Table(table) = field.value else {
        field.wrong_type();
        return BTreeMap::new();
    };
    if table.is_empty() {
        field.context.report(
            field
                .error("empty-list", format!("`{}` names no model", field.name))
                .help("name one, or remove it")
                .absence(),
        );
    }
    if table.len() > max {
        let message = format!("`{}` has {} models, at most {max} are allowed", field.name, table.len());
        field.context.report(Found::error("too-many", message, field.key_span.clone()));
    }
    let judged = |name: &str, span: &Range<usize>| {
        if name.contains(['*', '?']) && name != "*" {
            let message = format!("`{}`: {name:?} is no glob here", field.name);
            let help = "name each model; \"*\" alone stands for all others";
            field.context.report(Found::error("bad-value", message, span.clone()).help(help));
            return false;
        }
        let is_good = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        if !name.is_empty() && name.len() <= LONGEST_MODEL && name.chars().all(is_good) {
            return true;
        }
        let message = format!(
            "`{}`: a name of a model has 1 to {LONGEST_MODEL} characters of ASCII, without blanks, quotes and backslashes",
            field.name
        );
        field.context.report(Found::error("bad-value", message, span.clone()));
        false
    };
    let mut models = BTreeMap::new();
    for (name, value) in table.iter().take(max) {
        let DeValue::String(here) = value.get_ref() else {
            let message = format!("`{}`: the name of a model stands in quotes", field.name);
            field.context.report(Found::error("wrong-type", message, value.span()));
            continue;
        };
        let is_known = judged(name.get_ref(), &name.span());
        if here == "*" {
            let message = format!("`{}`: {here:?} is the name of no model", field.name);
            let help = "without a name of its own a model passes as the client calls it";
            field.context.report(Found::error("bad-value", message, value.span()).help(help));
            continue;
        }
        if judged(here, &value.span()) && is_known {
            let here = Sourced::new(here.to_string(), field.context.origin(&value.span()));
            models.insert(name.get_ref().to_string(), here);
        }
    }
    models
}

fn version_of(word: &str) -> ProxyProtocol {
    match word {
        "v1" => ProxyProtocol::V1,
        _ => ProxyProtocol::V2,
    }
}

fn tls(server: &TableReader<'_>, url: Option<&Sourced<Endpoint>>, is_localhost: bool) -> ServerTls {
    let table = server.table_or_default("tls");
    if table.is_written()
        && let Some(url) = url
        && url.scheme == Scheme::Http
    {
        server.context().report(
            Found::error("tls-without-https", format!("`[{}]`: the URL is http", table.path()), table.span())
                .label("there is no TLS to this server")
                .help("write https in `url`, or remove `tls`"),
        );
    }
    let is_https = url.is_some_and(|url| url.scheme == Scheme::Https);
    let by_address = is_https && url.is_some_and(|url| matches!(url.host, Host::Ip(_)));
    let server_name = table.text("server_name");
    let server_name =
        server_name.or_else(|| (is_https && is_localhost).then(|| Sourced::default_value(LOCALHOST.to_owned())));
    let verify = table.get("verify").and_then(|field| field.boolean()).unwrap_or(true);
    if let (true, true, None, None) = (by_address, verify, &server_name, table.get("server_name"))
        && let Some(field) = server.get("url")
    {
        server.context().report(
            field
                .error("unnamed-tls", format!("`{}` has an address: HAProxy verifies names only", field.name))
                .label("any certificate of the authority would be taken")
                .help(format!(
                    "write a name that stands in its certificate into `[{}]`: server_name = \"gpu.example\"; \
                     `verify = false` there trusts whoever answers",
                    server.name("tls")
                )),
        );
    }
    let path = |name| table.text(name).map(|path| path.map(Utf8PathBuf::from));
    ServerTls { ca: path("ca"), server_name, certificate: path("certificate"), verify }
}
