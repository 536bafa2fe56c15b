//! `http`: one GET of a path, judged by status, headers, JSON and text.

use super::asking::{Asking, MAX_SMALL_BODY, bad, plain_text};
use super::classify::{ProbeVerdict, parse_json};
use super::exchange::read_up_to;
use crate::config::HttpProbe;
use crate::health::{Outcome, Phase};
use crate::model::Pattern;
use hyper::header::HeaderMap;
use serde_json::Value;

pub(super) async fn probe(mut asking: Asking<'_>, probe: &HttpProbe) -> Result<String, ProbeVerdict> {
    let mut answer = asking.ask(&probe.path, "*/*", None, None).await?;
    asking.seen.phase = Phase::Total;
    let response = &mut answer.response;
    if !probe.status.contains(&response.status().as_u16()) {
        let mut verdict = asking.refusal(response).await.0;
        if response.status().is_success() {
            verdict.outcome = Outcome::BadContent;
        }
        return Err(verdict);
    }
    judge_headers(&probe.headers, response.headers())?;
    let reads_body = !probe.json.is_empty() || probe.body.is_some();
    if reads_body {
        plain_text(response)?;
    }
    let mut body = Vec::new();
    let whole = read_up_to(response.body_mut(), MAX_SMALL_BODY, &mut body).await?;
    if !reads_body {
        // A long page is as alive as a short one.
        return Ok(String::new());
    }
    if let Some(pattern) = &probe.body
        && !pattern.is_in(&String::from_utf8_lossy(&body))
    {
        return Err(bad(format!("nothing in the body is like {pattern}")));
    }
    if !probe.json.is_empty() {
        if !whole {
            // Our own limit, and not the server's fault.
            let why = "the body is longer than the 64 KiB that are read: `json` cannot be judged";
            return Err(ProbeVerdict::new(Outcome::ProbeConfig, why));
        }
        judge_json(&probe.json, &body)?;
    }
    Ok(String::new())
}

fn judge_headers(expected: &[(String, Pattern)], headers: &HeaderMap) -> Result<(), ProbeVerdict> {
    for (name, pattern) in expected {
        let mut values = headers.get_all(name.as_str()).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        if values.any(|value| pattern.is_in(&value)) {
            continue;
        }
        return Err(bad(match headers.get(name.as_str()) {
            Some(value) => format!("{name} is {}, not {pattern}", String::from_utf8_lossy(value.as_bytes())),
            None => format!("the answer has no header {name}"),
        }));
    }
    Ok(())
}

fn judge_json(expected: &[(String, Value)], body: &[u8]) -> Result<(), ProbeVerdict> {
    let value = parse_json(body).map_err(|why| bad(format!("the body is {why}")))?;
    match expected.iter().find(|(pointer, expected)| value.pointer(pointer) != Some(expected)) {
        Some((pointer, expected)) => {
            let found = value.pointer(pointer).map_or_else(|| "nothing".to_owned(), ToString::to_string);
            Err(bad(format!("{pointer} is {found}, not {expected}")))
        }
        None => Ok(()),
    }
}
