//! The control API under `/_mock/`: faults on and off, counters.

use super::fault::{Fault, MAX_FAULTS};
use super::openai::error;
use super::request::Request;
use super::script::Reply;
use super::server::Shared;
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
            Err(why) => error(400, &why, "invalid_request_error", "bad_fault"),
        },
        ("DELETE", "fault") => {
            shared.set_faults(Vec::new());
            Reply::json(200, &json!([]))
        }
        ("GET", "requests") => Reply::json(200, &shared.journal().show()),
        ("DELETE", "requests") => {
            *shared.journal() = super::journal::Journal::default();
            Reply::json(200, &json!({}))
        }
        ("GET", "ca") => match &shared.certificates {
            Some(certificates) => Reply::text(200, "application/x-pem-file", certificates.ca_pem.as_str()),
            None => error(404, "this mock speaks no TLS", "invalid_request_error", "no_tls"),
        },
        _ => error(
            404,
            "GET, PUT, DELETE /_mock/fault; GET, DELETE /_mock/requests; GET /_mock/ca",
            "invalid_request_error",
            "unknown_url",
        ),
    }
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
