//! Kinds of AI backend: `[provider.NAME]` of the operator's file, and the one that a backend names.
//!
//! Called by `read`, before the backends, which name them.

use super::builtin::profile;
use super::profile::read;
use super::table::TableReader;
use super::word::closest;
use crate::config::diagnostic::Found;
use crate::model::{Profile, Provider};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The operator's own, by name.
pub(super) fn providers(root: &TableReader<'_>) -> BTreeMap<String, Arc<Profile>> {
    let mut profiles = BTreeMap::new();
    for (name, table) in root.named("provider") {
        if name.as_str().parse::<Provider>().is_ok() {
            let message = format!("`[provider.{name}]`: {name} is built in");
            table.context().report(
                Found::error("duplicate", message, table.span())
                    .help(format!("give yours another name and write `like = \"{name}\"` in it")),
            );
        }
        let like = table.get("like").and_then(|field| field.choice());
        let like: Provider = like
            .map_or(table.default_text("like"), |word| word.value)
            .parse()
            .expect("the schema's providers are the model's");
        let read = read(&name, &table, Profile::clone(&profile(like)));
        profiles.insert(name.to_string(), Arc::new(read));
    }
    profiles
}

/// The provider that a backend names.
pub(super) fn named(backend: &TableReader<'_>, own: &BTreeMap<String, Arc<Profile>>) -> Arc<Profile> {
    let built_in = |name: &str| name.parse::<Provider>().ok().map(profile);
    let default = || built_in(backend.default_text("provider")).expect("the schema's providers are the model's");
    let Some(field) = backend.get("provider") else { return default() };
    let Some(name) = field.text() else { return default() };
    if let Some(found) = own.get(&name.value).cloned().or_else(|| built_in(&name.value)) {
        return found;
    }
    let all = || own.keys().map(String::as_str).chain(Provider::NAMES);
    let found = field.error("bad-value", format!("`{}`: there is no provider `{}`", field.name, name.value));
    let help = format!(
        "built in are {}; one of your own is a section `[provider.{}]`",
        Provider::NAMES.join(", "),
        name.value
    );
    backend.context().report(match closest(&name.value, all()) {
        Some(alike) => found.label(format!("did you mean \"{alike}\"?")),
        None => found.help(help),
    });
    default()
}
