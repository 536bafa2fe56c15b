//! The built-in providers: a table in the language of the operator's file, read once by the very same reader.
//!
//! Called by `provider`, and from outside for what a provider is like.

use super::context::Context;
use super::profile::read;
use super::table::TableReader;
use crate::config::schema::ROOT;
use crate::config::source::SourceText;
use crate::model::{Profile, Provider};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use toml::de::DeTable;

const TEXT: &str = include_str!("../providers.toml");

static PROFILES: LazyLock<BTreeMap<String, Arc<Profile>>> =
    LazyLock::new(|| built_in(TEXT).expect("the built-in providers are right"));

/// A built-in provider.
///
/// # Panics
/// Never: a test reads the whole table.
pub fn profile(provider: Provider) -> Arc<Profile> {
    Arc::clone(PROFILES.get(provider.as_str()).expect("every provider has its profile"))
}

/// Every kind of a table, by name.
///
/// # Errors
/// What is wrong with it: our own bug.
fn built_in(text: &str) -> Result<BTreeMap<String, Arc<Profile>>, String> {
    let source = SourceText::new(text);
    let document = DeTable::parse(text).map_err(|e| e.to_string())?;
    let context = Context::new(&source);
    let mut left = TableReader::root(&context, &ROOT, document.get_ref()).named("provider");
    let mut profiles: BTreeMap<String, Arc<Profile>> = BTreeMap::new();
    // Each round reads those whose parent has been read: as many rounds as there are generations.
    while !left.is_empty() {
        let before = left.len();
        left.retain(|(name, table)| {
            let parent = table.get("like").and_then(|field| field.choice()).map(|like| like.value);
            let parent = match parent {
                None => Profile::default(),
                Some(like) => match profiles.get(like) {
                    Some(known) => Profile::clone(known),
                    None => return true,
                },
            };
            profiles.insert(name.to_string(), Arc::new(read(name, table, parent)));
            false
        });
        if left.len() == before {
            return Err(format!("{} is like nobody", left[0].0));
        }
    }
    drop(left);
    let (found, _) = context.into_found();
    match found.first() {
        None => Ok(profiles),
        Some(found) => Err(format!("{found:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Dialect, KEY_HEADERS};

    #[test]
    fn every_provider_has_a_profile_and_nothing_else_is_in_the_table() {
        assert_eq!(PROFILES.len(), Provider::ALL.len());
        for provider in Provider::ALL {
            let profile = profile(provider);
            assert_eq!(profile.name, provider.as_str());
            assert!(KEY_HEADERS.contains(&profile.key_header.as_str()), "{provider}");
            assert!(profile.http.path.starts_with('/') && profile.metrics.path.starts_with('/'), "{provider}");
            assert_eq!(profile.limits.wait[0], "retry-after", "{provider}");
            let api = |path: &str| assert!(path.starts_with('/'), "{provider}: {path}");
            profile.models.iter().for_each(|models| api(&models.path));
            profile.chat.iter().for_each(|chat| api(&chat.path));
            profile.embeddings.iter().for_each(|embeddings| api(&embeddings.path));
        }
    }

    #[test]
    fn a_profile_is_its_parent_with_what_it_says_itself() {
        let azure = profile(Provider::Azure);
        assert_eq!((azure.key_header.as_str(), azure.key_prefix.as_str()), ("api-key", ""));
        let chat = azure.chat.as_ref().unwrap();
        assert_eq!((chat.dialect, chat.limit.as_str(), chat.checks_model), (Dialect::OpenAi, "max_tokens", false));
        // Words of errors come on top.
        assert!(azure.errors.account.iter().any(|word| word == "insufficient_quota"));
        assert!(azure.errors.passing.iter().any(|word| word == "retry after"));
        assert_eq!(profile(Provider::Sglang).http.path, "/v1/models", "/health of SGLang costs a token");
        assert!(profile(Provider::Bedrock).models.is_none() && profile(Provider::Triton).chat.is_none());
        assert_eq!(profile(Provider::Anthropic).default_headers["anthropic-version"], "2023-06-01");
    }
}
