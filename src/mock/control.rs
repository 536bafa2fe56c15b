//! The control API under `/_mock/`: faults on and off, the load, counters.

use super::config::MockLoad;
use super::fault::{Fault, MAX_FAULTS};
use super::request::Request;
use super::script::Reply;
use super::shared::Shared;
use serde_json::{Value, json};

/// The root of the control API's paths.
pub(super) const ROOT: &str = "/_mock/";

/// Answers a request of the control API.
pub(super) fn answer(shared: &Shared, request: &Request) -> Reply {
    match (request.method.as_str(), request.path.strip_prefix(ROOT).unwrap_or_default()) {
        ("GET", "fault") => Reply::json(200, &json!(shared.faults().list())),
        ("PUT", "fault") => match read_faults(&request.body) {
            Ok(faults) => {
                shared.set_faults(faults);
                Reply::json(200, &json!(shared.faults().list()))
            }
            Err(why) => error(400, &why, "bad_fault"),
        },
        ("DELETE", "fault") => {
            shared.set_faults(Vec::new());
            Reply::json(200, &json!([]))
        }
        ("GET", "load") => Reply::json(200, &json!(*shared.load())),
        ("PUT", "load") => match read_load(&request.body) {
            Ok(load) => {
                *shared.load() = load;
                Reply::json(200, &json!(load))
            }
            Err(why) => error(400, &why, "bad_load"),
        },
        ("GET", "requests") => Reply::json(200, &shared.journal().show()),
        ("DELETE", "requests") => {
            *shared.journal() = super::journal::Journal::default();
            Reply::json(200, &json!({}))
        }
        ("GET", "ca") => match &shared.certificates {
            Some(certificates) => Reply::text(200, "application/x-pem-file", certificates.ca_pem.as_str()),
            None => error(404, "this mock speaks no TLS", "no_tls"),
        },
        _ => error(
            404,
            "GET, PUT, DELETE /_mock/fault; GET, PUT /_mock/load; GET, DELETE /_mock/requests; GET /_mock/ca",
            "unknown_url",
        ),
    }
}

fn error(status: u16, message: &str, code: &str) -> Reply {
    Reply::json(status, &json!({"error": {"message": message, "type": "invalid_request_error", "code": code}}))
}

fn read_load(body: &[u8]) -> Result<MockLoad, String> {
    let load: MockLoad = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let MockLoad { waiting, running, cache } = load;
    if waiting < 0.0 || running < 0.0 || !(0.0..=1.0).contains(&cache) {
        return Err("waiting and running are 0 or more, cache lies between 0 and 1".into());
    }
    Ok(load)
}

/// One fault or a list of them.
fn read_faults(body: &[u8]) -> Result<Vec<Fault>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|e| format!("not JSON: {e}"))?;
    let list = if let Value::Array(list) = value { list } else { vec![value] };
    if list.len() > MAX_FAULTS {
        return Err(format!("at most {MAX_FAULTS} faults"));
    }
    list.into_iter()
        .map(|value| {
            let fault: Fault = serde_json::from_value(value).map_err(|e| e.to_string())?;
            fault.check()?;
            Ok(fault)
        })
        .collect()
}
