//! What a kind of AI backend is like: one table of `[provider.NAME]` on top of the kind that it is like.
//!
//! Called by `builtin` and `provider`.

use super::field::Field;
use super::table::{Switch, TableReader};
use crate::config::diagnostic::Found;
use crate::model::{
    ChatApi, Dialect, EmbeddingsApi, ErrorWords, HttpApi, KEY_HEADERS, LimitSigns, MetricsApi, ModelsApi, Name, Profile,
};
use std::collections::BTreeMap;

/// Headers of a request that belong to the connection and not to the operator.
const OWN_HEADERS: [&str; 7] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "expect", "accept-encoding"];
/// Headers that carry secrets, beside those of keys.
const SECRET_HEADERS: [&str; 2] = ["cookie", "proxy-authorization"];

/// The profile of that name; what it does not say itself is its parent's.
pub(super) fn read(name: &Name, table: &TableReader<'_>, parent: Profile) -> Profile {
    // Every field by name: a new one is asked for here.
    let Profile {
        name: _,
        api_root,
        query,
        key_header,
        key_prefix,
        headers,
        default_headers,
        http,
        models,
        chat,
        embeddings,
        metrics,
        errors,
        limits,
    } = parent;
    Profile {
        name: name.to_string(),
        api_root: text(table, "api_root", api_root),
        query: text(table, "query", query),
        key_header: text(table, "key_header", key_header).to_ascii_lowercase(),
        key_prefix: text(table, "key_prefix", key_prefix),
        headers: table.get("headers").map_or(headers, |field| constants(&field)),
        default_headers: table.get("default_headers").map_or(default_headers, |field| constants(&field)),
        http: http_of(&table.table_or_default("http"), http),
        models: switched(table.switch("models"), models, models_of),
        chat: switched(table.switch("chat"), chat, chat_of),
        embeddings: switched(table.switch("embeddings"), embeddings, embeddings_of),
        metrics: metrics_of(&table.table_or_default("metrics"), metrics),
        errors: errors_of(&table.table_or_default("errors"), errors),
        limits: limits_of(&table.table_or_default("limits"), limits),
    }
}

fn text(table: &TableReader<'_>, key: &'static str, parent: String) -> String {
    table.text(key).map_or(parent, |text| text.value)
}

fn texts(table: &TableReader<'_>, key: &'static str) -> Option<Vec<String>> {
    let field = table.get(key)?;
    Some(field.list().iter().filter_map(Field::text).map(|text| text.value).collect())
}

fn switched<T>(
    switch: Switch<TableReader<'_>>,
    parent: Option<T>,
    read: fn(&TableReader<'_>, Option<T>) -> T,
) -> Option<T> {
    match switch {
        Switch::LeftOut => parent,
        Switch::Off => None,
        Switch::On(table) => Some(read(&table, parent)),
    }
}

/// Headers with texts that are nobody's secret.
fn constants(field: &Field<'_>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for (name, value) in field.headers() {
        let refused = match name.as_str() {
            name if KEY_HEADERS.contains(&name) || SECRET_HEADERS.contains(&name) => {
                value.context.hide(value.span.clone());
                Some("carries a secret: a key goes into `keys` of the server, its header into `key_header`")
            }
            name if OWN_HEADERS.contains(&name) => Some("is set by hapilot and HAProxy themselves"),
            _ => None,
        };
        match refused {
            Some(why) => value.context.report(value.error("bad-value", format!("`{}`: {name} {why}", field.name))),
            None => headers.extend(value.text().map(|text| (name, text.value))),
        }
    }
    headers
}

fn http_of(table: &TableReader<'_>, parent: HttpApi) -> HttpApi {
    let HttpApi { path, status } = parent;
    let written = table.get("status");
    let status = written.map_or(status, |field| {
        field.list().iter().filter_map(|item| item.integer()).map(|status| status.value).collect()
    });
    HttpApi { path: text(table, "path", path), status }
}

/// A path without which an API is none.
fn path(table: &TableReader<'_>, parent: String) -> String {
    let path = text(table, "path", parent);
    if path.is_empty() && table.get("path").is_none() {
        let message = format!("`[{}]` lacks `path`: the provider that it is like has none", table.path());
        let found = Found::error("missing-key", message, table.span()).help("add `path = \"/…\"`").absence();
        table.context().report(found);
    }
    path
}

fn models_of(table: &TableReader<'_>, parent: Option<ModelsApi>) -> ModelsApi {
    let or = |name: &str| name.to_owned();
    let parent = parent.unwrap_or_else(|| ModelsApi { path: String::new(), list: or("data"), name: or("id") });
    ModelsApi {
        path: path(table, parent.path),
        list: text(table, "list", parent.list),
        name: text(table, "name", parent.name),
    }
}

fn dialect(table: &TableReader<'_>) -> Option<Dialect> {
    let word = table.get("dialect")?.choice()?;
    Some(word.value.parse().expect("the schema's dialects are the model's"))
}

fn chat_of(table: &TableReader<'_>, parent: Option<ChatApi>) -> ChatApi {
    let before = parent.as_ref().map(|parent| parent.dialect);
    let ChatApi { dialect: inherited, path: inherited_path, limit, checks_model } =
        parent.unwrap_or_else(|| ChatApi { checks_model: true, ..ChatApi::default() });
    let dialect = dialect(table).unwrap_or(inherited);
    // Another dialect has another word for it.
    let limit = if before == Some(dialect) { limit } else { usual_limit(dialect).to_owned() };
    ChatApi {
        dialect,
        path: path(table, inherited_path),
        limit: text(table, "limit", limit),
        checks_model: table.get("checks_model").and_then(|field| field.boolean()).unwrap_or(checks_model),
    }
}

fn usual_limit(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi | Dialect::Anthropic => "max_tokens",
        Dialect::Gemini => "maxOutputTokens",
        Dialect::Bedrock => "maxTokens",
    }
}

fn embeddings_of(table: &TableReader<'_>, parent: Option<EmbeddingsApi>) -> EmbeddingsApi {
    let parent = parent.unwrap_or_default();
    let dialect = dialect(table).unwrap_or(parent.dialect);
    if matches!(dialect, Dialect::Anthropic | Dialect::Bedrock)
        && let Some(field) = table.get("dialect")
    {
        let message = format!("`{}`: {} has no embeddings", field.name, dialect.as_str());
        table.context().report(field.error("bad-value", message).help("openai or gemini, or `embeddings = false`"));
    }
    EmbeddingsApi { dialect, path: path(table, parent.path) }
}

fn metrics_of(table: &TableReader<'_>, parent: MetricsApi) -> MetricsApi {
    let MetricsApi { path, port, waiting, cache } = parent;
    let path = text(table, "path", if path.is_empty() { "/metrics".to_owned() } else { path });
    MetricsApi {
        path,
        port: table.integer("port").map(|port| port.value).or(port),
        waiting: texts(table, "waiting").unwrap_or(waiting),
        cache: texts(table, "cache").unwrap_or(cache),
    }
}

fn errors_of(table: &TableReader<'_>, parent: ErrorWords) -> ErrorWords {
    // In lower case, as they are compared.
    let add = |key, mut words: Vec<String>| {
        words.extend(texts(table, key).unwrap_or_default().into_iter().map(|word| word.to_lowercase()));
        words
    };
    let ErrorWords { account, rejected, passing, overloaded } = parent;
    ErrorWords {
        account: add("account", account),
        rejected: add("rejected", rejected),
        passing: add("passing", passing),
        overloaded: add("overloaded", overloaded),
    }
}

fn limits_of(table: &TableReader<'_>, parent: LimitSigns) -> LimitSigns {
    let LimitSigns { wait, reset, phrases } = parent;
    let lower = |words: Vec<String>| words.into_iter().map(|word| word.to_ascii_lowercase()).collect();
    LimitSigns {
        wait: texts(table, "wait").map_or(wait, lower),
        reset: texts(table, "reset").map_or(reset, lower),
        phrases: texts(table, "phrases").map_or(phrases, lower),
    }
}
