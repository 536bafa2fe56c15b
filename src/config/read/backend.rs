//! Backends.
//!
//! Called by `read`, first of all, because others name them.

use super::table::TableReader;
use super::{check, provider, server};
use crate::config::types::Backend;
use crate::config::waiting::{BackendTimeout, RetryStreams};
use crate::model::{Affinity, Balance, Dialect, Name, Profile, Sourced, format_duration};
use crate::weights::Weighting;
use std::collections::BTreeMap;
use std::sync::Arc;
use toml::de::DeValue;

pub(super) fn backends(root: &TableReader<'_>, own: &BTreeMap<String, Arc<Profile>>) -> Vec<Backend> {
    if let Some(field) = root.get("backend")
        && let DeValue::Table(tables) = field.value
    {
        let tables = tables.iter().filter(|(_, value)| value.get_ref().is_table());
        let names = tables.map(|(key, _)| (key.get_ref().to_string(), key.span()));
        root.context().backends.borrow_mut().extend(names);
    }
    let named = root.named("backend").into_iter();
    let mut backends: Vec<_> = named.map(|(name, table)| backend(name, &table, own)).collect();
    backends.sort_by(|a, b| a.name.cmp(&b.name));
    backends
}

fn backend(name: Name, table: &TableReader<'_>, own: &BTreeMap<String, Arc<Profile>>) -> Backend {
    let provider = provider::named(table, own);
    let balance = table.get("balance").and_then(|field| field.choice());
    let balance = balance.unwrap_or_else(|| Sourced::default_value(table.default_text("balance")));
    let affinity_field = table.get("affinity");
    let affinity = affinity_field.as_ref().and_then(|field| field.parse::<Affinity>());
    let balance = balance.map(|word| word.parse::<Balance>().expect("the schema's algorithms are the model's"));
    let weighting = table.get("weighting").and_then(|field| field.choice());
    let weighting = match weighting.map_or(table.default_text("weighting"), |word| word.value) {
        "adaptive" => Weighting::Adaptive,
        _ => Weighting::Static,
    };
    let timeout = timeout(&table.table_or_default("timeout"));
    let retries = table.integer_or_default("retries");
    let retry_streams = retry_streams(table, retries.value, &timeout);
    let stream_watch = table.get("stream_watch").and_then(|field| Some(field.sourced(field.boolean()?)));
    let servers = server::servers(table, &provider);
    let is_inside = servers.iter().all(|server| server.url.host.is_private());
    let forward_client = table.get("forward_client").and_then(|field| field.boolean()).unwrap_or(is_inside);
    let is_openai = provider.chat.as_ref().is_some_and(|chat| chat.dialect == Dialect::OpenAi);
    let ask_usage = table.get("ask_usage").and_then(|field| field.boolean()).unwrap_or(is_openai);
    Backend {
        name,
        origin: table.origin(),
        balance,
        affinity: affinity.unwrap_or_else(|| Sourced::default_value(Affinity::default())),
        weighting,
        retries,
        retry_streams,
        stream_watch: stream_watch.unwrap_or_else(|| Sourced::default_value(false)),
        timeout,
        forward_client,
        ask_usage,
        check: check::check(table, &provider),
        servers,
        canary: None,
        provider,
        raw: table.raw("raw"),
    }
}

fn timeout(table: &TableReader<'_>) -> BackendTimeout {
    let first_byte = table.duration_or_default("first_byte");
    let first_token = table.duration("first_token");
    if let (Some(token), Some(field)) = (&first_token, table.get("first_token"))
        && token.value >= first_byte.value
    {
        let wait = format_duration(first_byte.value);
        let message = format!("`{}` is not less than `first_byte`, {wait}: that ends the wait before", field.name);
        table.context().report(field.error("out-of-range", message).help("lower it, or raise `first_byte`"));
    }
    BackendTimeout {
        connect: table.duration_or_default("connect"),
        first_byte,
        first_byte_per_ktoken: table.duration("first_byte_per_ktoken"),
        first_token,
        idle: table.duration_or_default("idle"),
    }
}

fn retry_streams(table: &TableReader<'_>, retries: u32, timeout: &BackendTimeout) -> Option<Sourced<RetryStreams>> {
    let field = table.get("retry_streams")?;
    let retry = field.choice()?.map(|word| match word {
        "errors" => RetryStreams::Errors,
        _ => RetryStreams::ErrorsAndSilence,
    });
    if retries == 0 {
        let message = format!("`{}`: this backend retries nothing", field.name);
        table.context().report(field.error("bad-value", message).help("set `retries`, or remove `retry_streams`"));
    }
    if retry.value == RetryStreams::ErrorsAndSilence && timeout.first_token.is_none() {
        let message = format!("`{}` does not say how long silence lasts", field.name);
        let help = format!("write `first_token = \"20s\"` into `{}`", table.name("timeout"));
        table.context().report(field.error("missing-key", message).help(help).absence());
    }
    Some(retry)
}
