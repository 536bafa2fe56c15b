//! `models`: the list of models, free and with the key.

use super::asking::{Asking, bad, without_api};
use super::classify::Verdict;
use crate::config::ModelsProbe;
use serde_json::Value;

pub(super) async fn probe(mut asking: Asking<'_>, probe: &ModelsProbe) -> Result<String, Verdict> {
    let provider = asking.target.provider.clone();
    let api = provider.models.as_ref().ok_or_else(|| without_api("list of models"))?;
    let answer = asking.ask(&asking.target.api_path(&api.path, ""), "application/json", None, None).await?;
    let list = asking.json(answer, "the list of models").await?;
    // `{"data":[…]}`; Ollama without a model says `null`, Together has the bare list.
    let models = if list.is_array() { Some(&list) } else { list.get(&api.list) };
    let names: Vec<&str> = match models {
        Some(Value::Array(models)) => models.iter().filter_map(|model| model[&api.name].as_str()).collect(),
        Some(Value::Null) => Vec::new(),
        _ => return Err(bad(format!("not a list of models: it has no list `{}`", api.list))),
    };
    match probe.expect.iter().find(|model| !names.iter().any(|name| is_called(name, model))) {
        Some(model) => Err(bad(format!("{model} is not among the {} models listed", names.len()))),
        None => Ok(String::new()),
    }
}

/// Whether a listed name is the expected one: Ollama adds a tag, Gemini says `models/…`.
fn is_called(name: &str, model: &str) -> bool {
    let bare = name.strip_prefix("models/").unwrap_or(name);
    name == model || bare == model || bare.strip_suffix(":latest") == Some(model)
}

#[cfg(test)]
mod tests {
    use super::is_called;

    #[test]
    fn a_tag_or_a_prefix_of_the_providers_is_no_other_model() {
        for (name, model, same) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o-mini", "gpt-4o", false),
            ("llama3:latest", "llama3", true),
            ("llama3:70b", "llama3", false),
            ("models/gemini-2.0-flash", "gemini-2.0-flash", true),
            ("models/gemini-2.0-flash", "models/gemini-2.0-flash", true),
            ("org/model", "model", false),
        ] {
            assert_eq!(is_called(name, model), same, "{name} {model}");
        }
    }
}
