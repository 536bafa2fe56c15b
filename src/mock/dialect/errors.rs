//! Errors as each provider words them.
//!
//! **Source**: the providers' error references, and answers that their users have published.

use super::{Dialect, Mistake};
use crate::mock::script::Reply;
use serde_json::{Value, json};

impl Dialect {
    /// A mistake in the provider's shape, status and words.
    pub(in crate::mock) fn error(self, mistake: &Mistake) -> Reply {
        match self {
            Self::OpenAi => openai(mistake),
            Self::Azure => azure(mistake),
            Self::Anthropic => anthropic(mistake),
            Self::Gemini => gemini(mistake),
            Self::Bedrock => bedrock(mistake),
        }
    }
}

fn told(status: u16) -> String {
    format!("status {status}, as told")
}

fn openai(mistake: &Mistake) -> Reply {
    let error = |status: u16, message: &str, kind: &str, code: &str| {
        Reply::json(status, &json!({"error": {"message": message, "type": kind, "param": null, "code": code}}))
    };
    let invalid = "invalid_request_error";
    match mistake {
        Mistake::Request(what) => error(400, what, invalid, "invalid_request"),
        Mistake::Key | Mistake::Status(401) => error(401, "Incorrect API key provided.", invalid, "invalid_api_key"),
        Mistake::Model(model) => error(404, &format!("The model `{model}` does not exist"), invalid, "model_not_found"),
        Mistake::Path => error(404, "unknown path", invalid, "unknown_url"),
        Mistake::Method => error(405, "method not allowed", invalid, "method_not_allowed"),
        Mistake::Status(429) => {
            let message = "Rate limit reached for requests. You can increase your rate limit by adding a payment method \
                to your account at https://platform.openai.com/account/billing.";
            error(429, message, "requests", "rate_limit_exceeded")
        }
        Mistake::Quota => {
            let message = "You exceeded your current quota, please check your plan and billing details.";
            error(429, message, "insufficient_quota", "insufficient_quota")
        }
        Mistake::Credit => Reply::json(
            400,
            &json!({"type": "error", "error": {"type": invalid, "message": "Your credit balance is too low to access the API."}}),
        ),
        Mistake::Overloaded => {
            Reply::json(529, &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))
        }
        Mistake::Status(code) => {
            error(*code, &told(*code), if *code < 500 { invalid } else { "server_error" }, "mock_fault")
        }
    }
}

fn azure(mistake: &Mistake) -> Reply {
    let error = |status: u16, code: &str, message: &str| {
        Reply::json(status, &json!({"error": {"code": code, "message": message}}))
    };
    match mistake {
        Mistake::Request(what) => error(400, "BadRequest", what),
        Mistake::Key | Mistake::Status(401) => error(
            401,
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for \
             an active subscription.",
        ),
        Mistake::Model(_) => error(404, "DeploymentNotFound", "The API deployment for this resource does not exist."),
        Mistake::Path | Mistake::Method => error(404, "404", "Resource not found"),
        Mistake::Status(429) => error(
            429,
            "429",
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded \
             token rate limit of your current OpenAI S0 pricing tier. Please retry after 6 seconds. Please go here: \
             https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit.",
        ),
        Mistake::Quota | Mistake::Credit => openai(&Mistake::Quota),
        Mistake::Overloaded => error(503, "ServiceUnavailable", "The service is overloaded, please try again later."),
        Mistake::Status(code) => error(*code, &code.to_string(), &told(*code)),
    }
}

fn anthropic(mistake: &Mistake) -> Reply {
    let error = |status: u16, kind: &str, message: &str| {
        let error = json!({"type": kind, "message": message});
        Reply::json(status, &json!({"type": "error", "error": error, "request_id": "req_mock"}))
    };
    let invalid = "invalid_request_error";
    match mistake {
        Mistake::Request(what) => error(400, invalid, what),
        Mistake::Key | Mistake::Status(401) => error(401, "authentication_error", "invalid x-api-key"),
        Mistake::Model(model) => error(404, "not_found_error", &format!("model: {model}")),
        Mistake::Path | Mistake::Status(404) => error(404, "not_found_error", "Not Found"),
        Mistake::Method => error(405, invalid, "Method Not Allowed"),
        Mistake::Status(429) => error(
            429,
            "rate_limit_error",
            "This request would exceed your organization's rate limit of 50 requests per minute. Please reduce the \
             prompt length or the maximum tokens requested, or try again later.",
        ),
        Mistake::Quota => {
            let details = json!({"error_code": "enforced_spend_limit_reached"});
            let error = json!({"type": "rate_limit_error", "message": "Your workspace has reached its limit.", "details": details});
            Reply::json(429, &json!({"type": "error", "error": error, "request_id": "req_mock"}))
        }
        Mistake::Credit => error(
            400,
            invalid,
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or \
             purchase credits.",
        ),
        Mistake::Overloaded | Mistake::Status(529) => error(529, "overloaded_error", "Overloaded"),
        Mistake::Status(code) => error(*code, if *code < 500 { invalid } else { "api_error" }, &told(*code)),
    }
}

fn gemini(mistake: &Mistake) -> Reply {
    let error = |code: u16, status: &str, message: &str, details: Value| {
        Reply::json(code, &json!({"error": {"code": code, "message": message, "status": status, "details": details}}))
    };
    let quota = |id: &str| {
        json!([
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
                "quotaId": id, "quotaDimensions": {"location": "global", "model": "gemini"}, "quotaValue": "15"}]},
            {"@type": "type.googleapis.com/google.rpc.Help", "links": [{
                "description": "Learn more about Gemini API quotas and billing",
                "url": "https://ai.google.dev/gemini-api/docs/rate-limits"}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "46s"},
        ])
    };
    let exceeded = "You exceeded your current quota, please check your plan and billing details. For more information on \
        this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.";
    match mistake {
        Mistake::Request(what) => error(400, "INVALID_ARGUMENT", what, json!([])),
        Mistake::Key => error(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                    "domain": "googleapis.com"}]),
        ),
        Mistake::Model(model) => {
            error(404, "NOT_FOUND", &format!("models/{model} is not found for API version v1beta."), json!([]))
        }
        Mistake::Path | Mistake::Method => error(404, "NOT_FOUND", "Not Found", json!([])),
        Mistake::Status(429) => {
            error(429, "RESOURCE_EXHAUSTED", exceeded, quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"))
        }
        Mistake::Quota => {
            error(429, "RESOURCE_EXHAUSTED", exceeded, quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"))
        }
        Mistake::Credit => error(
            429,
            "RESOURCE_EXHAUSTED",
            "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing.",
            json!([]),
        ),
        Mistake::Overloaded => error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.", json!([])),
        Mistake::Status(code) => {
            error(*code, if *code < 500 { "UNKNOWN" } else { "INTERNAL" }, &told(*code), json!([]))
        }
    }
}

fn bedrock(mistake: &Mistake) -> Reply {
    let error = |status: u16, kind: &str, message: &str| {
        Reply::json(status, &json!({"message": message})).header("x-amzn-errortype", kind)
    };
    match mistake {
        Mistake::Request(what) => error(400, "ValidationException", what),
        Mistake::Key | Mistake::Status(401) => {
            error(403, "AccessDeniedException", "Authentication failed: Please make sure your API Key is valid.")
        }
        Mistake::Model(_) => error(400, "ValidationException", "The provided model identifier is invalid."),
        Mistake::Path | Mistake::Method => error(404, "UnknownOperationException", ""),
        Mistake::Status(429) => {
            error(429, "ThrottlingException", "Too many requests, please wait before trying again.")
        }
        Mistake::Quota => {
            error(429, "ThrottlingException", "Too many tokens per day, please wait before trying again.")
        }
        Mistake::Credit => error(
            403,
            "AccessDeniedException",
            "Model access is denied due to INVALID_PAYMENT_INSTRUMENT: A valid payment instrument must be provided.",
        ),
        Mistake::Overloaded => error(503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
        Mistake::Status(code) => {
            error(*code, if *code < 500 { "ValidationException" } else { "InternalServerException" }, &told(*code))
        }
    }
}
