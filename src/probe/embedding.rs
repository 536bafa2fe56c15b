//! `embeddings`: one embedding of one word.

use super::asking::{Asking, bad, without_api};
use super::classify::ProbeVerdict;
use crate::config::EmbeddingsProbe;
use crate::model::Dialect;
use serde_json::{Value, json};

/// What is embedded: a token in most vocabularies.
const WORD: &str = "ok";

pub(super) async fn probe(mut asking: Asking<'_>, probe: &EmbeddingsProbe) -> Result<String, ProbeVerdict> {
    let provider = asking.target.provider.clone();
    let api = provider.embeddings.as_ref().ok_or_else(|| without_api("embeddings"))?;
    let body = match api.dialect {
        Dialect::OpenAi => json!({"model": probe.model, "input": WORD}),
        Dialect::Gemini => json!({"content": {"parts": [{"text": WORD}]}}),
        Dialect::Anthropic | Dialect::Bedrock => return Err(without_api("embeddings")),
    };
    let path = asking.target.api_path(&api.path, &probe.model);
    let answer = asking.ask(&path, "application/json", Some(body.to_string()), None).await?;
    let value = asking.json(answer, "the embedding").await?;
    asking.seen.tokens =
        value["usage"]["total_tokens"].as_u64().or_else(|| value["usage"]["prompt_tokens"].as_u64()).unwrap_or(0);
    let vector = match api.dialect {
        Dialect::Gemini => &value["embedding"]["values"],
        _ => &value["data"][0]["embedding"],
    };
    judge(vector)
}

/// Numbers that are not all nothing; some servers answer in Base64 unasked.
fn judge(vector: &Value) -> Result<String, ProbeVerdict> {
    match vector {
        Value::String(text) if !text.is_empty() => Ok(String::new()),
        Value::Array(numbers) if numbers.is_empty() => Err(bad("the embedding is empty")),
        Value::Array(numbers) if numbers.iter().any(|number| !number.is_number()) => {
            Err(bad("the embedding is not a list of numbers"))
        }
        Value::Array(numbers) if numbers.iter().all(|number| number.as_f64() == Some(0.0)) => {
            Err(bad("every number of the embedding is 0"))
        }
        Value::Array(_) => Ok(String::new()),
        _ => Err(bad("the answer has no embedding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_is_numbers_that_are_not_all_nothing() {
        for good in [json!([0.0, -0.1]), json!([1]), json!("AACAPw==")] {
            assert!(judge(&good).is_ok(), "{good}");
        }
        for wrong in [json!([]), json!([0.0, 0]), json!([null]), json!(["a"]), json!(""), json!(null), json!({})] {
            assert!(judge(&wrong).is_err(), "{wrong}");
        }
    }
}
