//! `models`: the list of models, free and with the key.

use super::asking::{Answer, Asking, MAX_BODY, bad, judged_json, without_api};
use super::classify::ProbeVerdict;
use super::exchange::next_piece;
use super::names::{Names, is_called};
use crate::config::ModelsProbe;
use crate::sys;
use serde_json::Value;
use std::sync::Arc;

/// So much of a list is looked at for the expected models. Gateways list some 4,000 models in 1 MiB.
const MAX_LIST: usize = 16 << 20;
/// Of a server's models so many are kept, with names of so many characters.
const MOST_NAMES: usize = 1_000;
const LONGEST_NAME: usize = 256;

pub(super) async fn probe(mut asking: Asking<'_>, probe: &ModelsProbe) -> Result<String, ProbeVerdict> {
    let provider = asking.target.provider.clone();
    let api = provider.models.as_ref().ok_or_else(|| without_api("list of models"))?;
    let answer = asking.ask(&asking.target.api_path(&api.path, ""), "application/json", None, None).await?;
    let answer = asking.success(answer).await?;
    let mut looked = Names::new(&api.name, &probe.expect);
    let body = match read(answer, &mut looked).await? {
        List::Kept(body) => body,
        List::Long { is_whole } => return judge_long(&looked, is_whole),
    };
    let list = judged_json(&body, "the list of models")?;
    // `{"data":[…]}`; Ollama without a model says `null`, Together has the bare list.
    let models = if list.is_array() { Some(&list) } else { list.get(&api.list) };
    let names: Vec<&str> = match models {
        Some(Value::Array(models)) => models.iter().filter_map(|model| model[&api.name].as_str()).collect(),
        Some(Value::Null) => Vec::new(),
        _ => return Err(bad(format!("not a list of models: it has no list `{}`", api.list))),
    };
    let is_fit = |name: &&&str| name.len() <= LONGEST_NAME && name.chars().all(|c| c.is_ascii_graphic());
    let plain = |name: &&str| name.strip_prefix("models/").unwrap_or(name).to_owned();
    // One that repeats a key is shown to nobody.
    let is_name = |name: &&&str| !sys::redact::has_secret(name);
    asking.seen.models =
        Some(Arc::new(names.iter().filter(is_fit).filter(is_name).map(plain).take(MOST_NAMES).collect()));
    match probe.expect.iter().find(|model| !names.iter().any(|name| is_called(name, model))) {
        Some(model) => Err(not_listed(model, names.len())),
        None => Ok(String::new()),
    }
}

enum List {
    Kept(Vec<u8>),
    /// Too long to be kept; only names were looked at.
    Long {
        is_whole: bool,
    },
}

/// Reads a list, and no more of a long one than is needed to find what is looked for.
async fn read(mut answer: Answer, looked: &mut Names<'_>) -> Result<List, ProbeVerdict> {
    answer.allow(2 * MAX_LIST);
    let (mut kept, mut size) = (Vec::new(), 0);
    while let Some(piece) = next_piece(answer.response.body_mut()).await? {
        looked.feed(&piece);
        size += piece.len();
        if size <= MAX_BODY {
            kept.extend_from_slice(&piece);
            continue;
        }
        kept = Vec::new();
        if looked.missing().is_none() || looked.seen == 0 || size > MAX_LIST {
            return Ok(List::Long { is_whole: false });
        }
    }
    Ok(if size <= MAX_BODY { List::Kept(kept) } else { List::Long { is_whole: true } })
}

/// A list that is longer than we read proves the key and the server; our limit is not their fault.
fn judge_long(looked: &Names<'_>, is_whole: bool) -> Result<String, ProbeVerdict> {
    match looked.missing() {
        _ if looked.seen == 0 => Err(bad("not a list of models: there is no name in its first MiB")),
        None => Ok(String::new()),
        Some(model) if is_whole => Err(not_listed(model, looked.seen)),
        Some(model) => Ok(format!("{model} is not in the first {} MiB of the list of models", MAX_LIST >> 20)),
    }
}

fn not_listed(model: &str, listed: usize) -> ProbeVerdict {
    bad(format!("{model} is not among the {listed} models listed"))
}
