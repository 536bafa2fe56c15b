//! Frontends with their routes, and limits.
//!
//! Called by `read` after the backends, whose names it needs for the default.

use super::field::Field;
use super::routes::{Callers, routes};
use super::table::TableReader;
use crate::config::diagnostic::Found;
use crate::config::tls::ClientTrust;
use crate::config::types::{AddressLimit, Frontend, FrontendTimeout};
use crate::model::{BindAddress, Name, Rate, Sourced};
use camino::Utf8PathBuf;
use std::collections::BTreeMap;

pub(super) fn frontends(root: &TableReader<'_>, callers: &Callers<'_>) -> Vec<Frontend> {
    let named = root.named("frontend").into_iter();
    let mut frontends: Vec<_> = named.filter_map(|(name, table)| frontend(name, &table, callers)).collect();
    frontends.sort_by(|a, b| a.name.value.cmp(&b.name.value));
    frontends
}

fn frontend(name: Name, table: &TableReader<'_>, callers: &Callers<'_>) -> Option<Frontend> {
    let bind: Vec<_> = table.list("bind").iter().filter_map(bind_of).collect();
    let certificate_fields = table.list("certificates");
    let certificates = paths(table, "certificates");
    let redirect_field = table.get("redirect_http");
    let redirect_http = redirect_field.as_ref().and_then(bind_of);
    if let Some(field) = &redirect_field
        && certificate_fields.is_empty()
    {
        let message = format!("`{}` needs `certificates`: there is no TLS to redirect to", field.name);
        table.context().report(
            field
                .error("redirect-without-tls", message)
                .help("add `certificates`, or remove `redirect_http`")
                .absence(),
        );
    }
    let client_certificates = client_certificates(table);
    let strict_sni = table.get("strict_sni").and_then(|field| field.boolean()).unwrap_or(false);
    let http3 = table.get("http3").and_then(|field| field.boolean()).unwrap_or(false);
    for (key, is_wanted) in [("client_certificates", true), ("http3", http3), ("strict_sni", strict_sni)] {
        if let Some(field) = table.get(key)
            && certificate_fields.is_empty()
            && !table.is_misspelt("certificates")
            && is_wanted
        {
            let message = format!("`{}` needs `certificates`: without them there is no TLS", field.name);
            table.context().report(
                field.error("missing-key", message).help(format!("add `certificates`, or remove `{key}`")).absence(),
            );
        }
    }
    let backend = default_backend(table);
    let unread_model = unread_model(table);
    let hsts = table.get("hsts").and_then(|field| field.boolean()).unwrap_or(true);
    let timeout = table.table_or_default("timeout");
    let timeout = FrontendTimeout {
        client: timeout.duration_or_default("client"),
        request: timeout.duration_or_default("request"),
        body: timeout.duration_or_default("body"),
        keep_alive: timeout.duration_or_default("keep_alive"),
    };
    let methods = table.list("methods").iter().filter_map(Field::choice).collect();
    let content_types = table.list("content_types").iter().filter_map(content_type).collect();
    let max_body = table.get("max_body").and_then(|field| field.size());
    let raw = table.raw("raw");
    let open = table.get("open").and_then(|field| field.boolean()).unwrap_or(false);
    let routes = routes(table, callers, open);
    let name = Sourced::new(name, table.origin());
    Some(Frontend {
        name,
        bind,
        certificates,
        client_certificates,
        http3,
        strict_sni,
        redirect_http,
        backend: backend?,
        routes,
        unread_model,
        methods,
        content_types,
        max_body,
        hsts,
        open,
        timeout,
        raw,
    })
}

fn client_certificates(table: &TableReader<'_>) -> Option<ClientTrust> {
    let table = table.table("client_certificates")?;
    let required = table.get("required").and_then(|field| field.boolean()).unwrap_or(true);
    Some(ClientTrust { ca: paths(&table, "ca"), required, revoked: paths(&table, "revoked") })
}

/// Paths of files, each named once.
fn paths(table: &TableReader<'_>, key: &'static str) -> Vec<Sourced<Utf8PathBuf>> {
    let mut seen = BTreeMap::new();
    let path = |field: &Field<'_>| {
        let path = field.text()?.map(Utf8PathBuf::from);
        if let Some(first) = seen.insert(path.value.clone(), path.origin) {
            let found = field.error("duplicate", format!("`{}` names {} twice", field.name, path.value));
            field.context.report(found.label(line_of(first)));
        }
        Some(path)
    };
    table.list(key).iter().filter_map(path).collect()
}

/// `TYPE/SUBTYPE` or `TYPE/*`, in lower case.
fn content_type(field: &Field<'_>) -> Option<Sourced<String>> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    let text = field.text()?.map(|text| text.to_ascii_lowercase());
    let is_good = text.value.split_once('/').is_some_and(|(kind, sub)| is_word(kind) && (sub == "*" || is_word(sub)));
    if !is_good {
        let message = format!("`{}` wants a kind of body without parameters", field.name);
        field.context.report(field.error("bad-value", message).help("such as \"application/json\" or \"audio/*\""));
    }
    is_good.then_some(text)
}

/// `refuse`, the default, is no backend: one of that name cannot be meant here.
fn unread_model(table: &TableReader<'_>) -> Option<Sourced<Name>> {
    let field = table.get("unread_model")?;
    if field.text().is_some_and(|text| text.value == "refuse") { None } else { reference(&field) }
}

fn line_of(origin: Option<crate::model::Origin>) -> String {
    origin.map_or_else(String::new, |origin| format!("the first is on line {}", origin.line))
}

/// An address that HAProxy or the agent will listen on; it must not collide with another.
pub(super) fn bind_of(field: &Field<'_>) -> Option<Sourced<BindAddress>> {
    let address = field.parse::<BindAddress>()?;
    field.context.binds.borrow_mut().push((address.value, field.span.clone(), field.name.clone()));
    Some(address)
}

/// A backend that must exist.
pub(super) fn reference(field: &Field<'_>) -> Option<Sourced<Name>> {
    let name = field.name()?;
    field.context.references.borrow_mut().push((name.value.clone(), field.span.clone()));
    Some(name)
}

fn default_backend(table: &TableReader<'_>) -> Option<Sourced<Name>> {
    if let Some(field) = table.get("backend") {
        return reference(&field);
    }
    let backends = table.context().backends.borrow();
    match &backends[..] {
        // Its absence is reported for the file as a whole.
        [] => None,
        // A bad name is reported where it stands.
        [(only, _)] => Name::new(only.as_str()).ok().map(Sourced::default_value),
        many => {
            let names: Vec<&str> = many.iter().take(8).map(|(name, _)| name.as_str()).collect();
            table.context().report(
                Found::error("missing-key", format!("`[{}]` lacks `backend`", table.path()), table.span())
                    .label(format!("the file has {} backends: which is the default?", many.len()))
                    .help(format!("add `backend = \"{}\"`; there are {}", names[0], names.join(", ")))
                    .absence(),
            );
            None
        }
    }
}

pub(super) fn address_limit(root: &TableReader<'_>) -> Option<AddressLimit> {
    let table = root.table("limit")?.table("address")?;
    let requests = table.get("requests").and_then(|field| field.parse::<Rate>());
    let burst = table.integer_or_default("burst");
    let raw = table.raw("raw");
    Some(AddressLimit { requests: requests?, burst, raw })
}
