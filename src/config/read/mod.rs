//! From the text to a `Config`, or to every mistake in it.
//!
//! Goes on after each mistake with a default, so that one run finds them all. Refuses to know what the keys are called
//! in messages or which limits they have: that is `schema`. Called by `config` only.

mod alert;
mod backend;
mod builtin;
mod caller;
mod canary;
mod check;
mod context;
mod cross;
mod field;
mod global;
mod hint;
mod money;
mod profile;
mod provider;
mod routes;
mod server;
mod syntax;
mod table;
#[cfg(test)]
mod tests;
mod traffic;
mod value;
mod vip;
mod word;

use super::caller::Client;
use super::diagnostic::{Diagnostics, Found};
use super::mask::without_secrets;
use super::schema;
use super::source::SourceText;
use super::types::{Config, Frontend};
use crate::model::Name;
pub use builtin::profile;
use context::Context;
pub(super) use global::is_loopback;
use routes::Callers;
use table::TableReader;

/// Reads the operator's file for the node that the caller runs on.
///
/// `file_name` is only shown. `host_name` is the node's name where `node.name` is left out.
///
/// # Errors
/// Every mistake of the file, sorted by place; at least one of them is an error. Nothing of the file may be used then.
pub fn parse(file_name: &str, text: &str, host_name: &str) -> Result<Config, Diagnostics> {
    parse_for_node(file_name, text, host_name, None)
}

/// Like [`parse`], for another node than this one (`--node NAME`): the name wins over `node.name` and the host name.
///
/// # Errors
/// As [`parse`].
pub fn parse_for_node(
    file_name: &str,
    text: &str,
    host_name: &str,
    node: Option<&Name>,
) -> Result<Config, Diagnostics> {
    judged(file_name, text, &schema::ROOT, |root| read(root, host_name, node))
}

/// Reads the file that `clients` names, for the plans and the clients of the operator's file.
///
/// # Errors
/// Every mistake of the file. Nothing of it may be used then.
pub fn parse_clients(file_name: &str, text: &str, config: &Config) -> Result<Vec<Client>, Diagnostics> {
    let clients =
        |root: &TableReader<'_>| Some(caller::clients(root, &config.plans, &config.clients, "the operator's file"));
    judged(file_name, text, &schema::CLIENTS_FILE, clients)
}

/// What is read of a text, or every mistake in it.
fn judged<T>(
    file_name: &str,
    text: &str,
    section: &'static schema::Section,
    read: impl FnOnce(&TableReader<'_>) -> Option<T>,
) -> Result<T, Diagnostics> {
    let source = SourceText::new(text);
    if text.len() > schema::MAX_FILE_BYTES {
        let message = format!("the file has {} bytes, at most {} are read", text.len(), schema::MAX_FILE_BYTES);
        return Err(Diagnostics::new(file_name, &source, vec![Found::of_file("too-large", message)], &[]));
    }
    let mut judged = syntax::judge(text, &source);
    let syntax = syntax::mistakes(text, &source, &judged.errors);
    let source = source.broken(!judged.errors.is_empty());
    let document = judged.document();
    let context = Context::new(&source);
    let value = read(&TableReader::root(&context, section, document.get_ref()));
    let (mut found, secrets) = context.into_found();
    if !syntax.is_empty() {
        syntax::drop_consequences(&syntax, &mut found, &source);
    }
    found.extend(syntax);
    match value {
        Some(value) if found.is_empty() => Ok(value),
        None if found.is_empty() => {
            // No rule may give up without a word; should one ever, the file is refused all the same.
            let message = "the file cannot be used, and hapilot cannot say why: this is a bug of hapilot";
            Err(Diagnostics::new(file_name, &source, vec![Found::of_file("internal", message)], &[]))
        }
        _ => Err(Diagnostics::new(file_name, &source, found, &secrets)),
    }
}

/// A text of a section of the file ("": of the file itself), also of one with mistakes, as far as TOML's parser recovers: so that a slip of the fingers
/// hides neither the agent's socket nor the state. No check is made.
pub fn peek(text: &str, section: &str, key: &str) -> Option<String> {
    if text.len() > schema::MAX_FILE_BYTES {
        return None;
    }
    let mut judged = syntax::judge(text, &SourceText::new(text));
    let document = judged.document();
    let root = document.get_ref();
    let value = if section.is_empty() { root.get(key)? } else { root.get(section)?.get_ref().as_table()?.get(key)? };
    value.get_ref().as_str().map(str::to_owned)
}

/// A text of the operator's file, right or broken, fit to be shown: secrets are replaced by `*`.
pub fn masked(text: &str) -> String {
    let source = SourceText::new(text);
    if text.len() > schema::MAX_FILE_BYTES {
        return source.broken(true).masked(&[]);
    }
    let mut judged = syntax::judge(text, &source);
    let source = source.broken(!judged.errors.is_empty());
    let document = judged.document();
    let context = Context::new(&source);
    // For the places that must not be shown.
    drop(read(&TableReader::root(&context, &schema::ROOT, document.get_ref()), "node", None));
    let (_, secrets) = context.into_found();
    source.masked(&secrets)
}

/// A text of any other kind without the words that look like keys.
pub fn masked_words(text: &str) -> String {
    without_secrets(text)
}

fn read(root: &TableReader<'_>, host_name: &str, node: Option<&Name>) -> Option<Config> {
    let mut backends = backend::backends(root, &provider::providers(root));
    canary::canaries(root, &mut backends);
    let node = global::node(root, host_name, node);
    let tls = global::tls(root);
    let plans = caller::plans(root);
    let clients_file = caller::clients_file(root);
    let frontends = traffic::frontends(root, &Callers { plans: &plans, has_file: clients_file.is_some() });
    let prices = money::prices(root, &backends);
    let looks_at_models = plans.iter().any(|plan| plan.reads_models(!prices.is_empty()));
    let renames_models = backends.iter().any(|backend| backend.first_renamed().is_some());
    let haproxy =
        global::haproxy(root, looks_at_models || renames_models || frontends.iter().any(Frontend::routes_by_model));
    let clients = caller::clients(root, &plans, &[], "");
    let limit_address = traffic::address_limit(root);
    let keepalived = vip::keepalived(root);
    let vips = vip::vips(root, node.as_ref());
    let apply = global::apply(root);
    let history = global::history(root);
    let api = global::api(root);
    let alerts = alert::alerts(root);
    cross::check(root.context());
    Some(Config {
        node: node?,
        haproxy,
        tls,
        frontends,
        limit_address,
        plans,
        clients,
        clients_file,
        prices,
        backends,
        keepalived,
        vips,
        apply,
        history,
        api,
        alerts,
    })
}
