//! Every provider's documented errors, and those that their users have published: what each means.

use super::classify::classify;
use crate::config::profile;
use crate::health::Outcome;
use crate::model::Provider;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime};

const LIMITED: Outcome = Outcome::RateLimited;
const KEY: Outcome = Outcome::Credential;
const OURS: Outcome = Outcome::ProbeConfig;
const BUSY: Outcome = Outcome::Overloaded;
const BROKEN: Outcome = Outcome::ServerError;

/// Provider, status, a header, body, what it means, the pause in milliseconds.
type Row = (Provider, u16, &'static str, &'static str, Outcome, Option<u64>);

fn check(rows: &[Row]) {
    let mut wrong = Vec::new();
    for (provider, status, header, body, expected, pause_ms) in rows {
        let headers: HeaderMap = header
            .split_once(": ")
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let found = classify(&profile(*provider), *status, &headers, body.as_bytes(), SystemTime::UNIX_EPOCH);
        if found.outcome != *expected || found.retry_after != pause_ms.map(Duration::from_millis) {
            wrong.push(format!("{provider} {status} {header} {body}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn openai_and_who_speaks_its_api() {
    use Provider::OpenAi as P;
    check(&[
        (
            P,
            401,
            "",
            r#"{"error":{"message":"Incorrect API key provided: sk-x.","type":"invalid_request_error","code":"invalid_api_key"}}"#,
            KEY,
            None,
        ),
        (P, 401, "", r#"{"error":{"message":"You must be a member of an organization to use the API"}}"#, KEY, None),
        (P, 403, "", r#"{"error":{"code":"unsupported_country_region_territory"}}"#, KEY, None),
        // The advice speaks of billing; the limit passes.
        (
            P,
            429,
            "retry-after-ms: 1500",
            r#"{"error":{"message":"Rate limit reached for gpt-4o. You can increase your rate limit by adding a payment method at https://platform.openai.com/account/billing.","type":"requests","code":"rate_limit_exceeded"}}"#,
            LIMITED,
            Some(1500),
        ),
        (
            P,
            429,
            "",
            r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000. Please try again in 6.5s. Visit https://platform.openai.com/account/rate-limits to learn more.","type":"tokens","code":"rate_limit_exceeded"}}"#,
            LIMITED,
            Some(6500),
        ),
        (P, 429, "", r#"{"error":{"message":"Slow down","code":"slow_down"}}"#, LIMITED, None),
        (
            P,
            429,
            "retry-after: 5",
            r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            KEY,
            None,
        ),
        (P, 429, "", r#"{"error":{"code":"credit_balance_exhausted"}}"#, KEY, None),
        (P, 429, "", r#"{"error":{"code":"project_spend_limit_exceeded"}}"#, KEY, None),
        (P, 429, "", r#"{"error":{"code":"organization_usage_limit_exceeded"}}"#, KEY, None),
        (
            P,
            429,
            "",
            r#"{"error":{"message":"Your account is not active, please check your billing details on our website.","type":"billing_not_active","code":"billing_not_active"}}"#,
            KEY,
            None,
        ),
        (
            P,
            400,
            "",
            r#"{"error":{"message":"Billing hard limit has been reached","code":"billing_hard_limit_reached"}}"#,
            KEY,
            None,
        ),
        (
            P,
            503,
            "",
            r#"{"error":{"message":"That model is currently overloaded","type":"server_error","code":"server_is_overloaded"}}"#,
            BUSY,
            None,
        ),
        (
            P,
            500,
            "",
            r#"{"error":{"message":"The server had an error while processing your request","type":"server_error"}}"#,
            BROKEN,
            None,
        ),
        (
            P,
            404,
            "",
            r#"{"error":{"message":"The model `x` does not exist or you do not have access to it.","code":"model_not_found"}}"#,
            OURS,
            None,
        ),
        (
            P,
            400,
            "",
            r#"{"error":{"message":"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 1 instead.","code":"integer_below_min_value"}}"#,
            OURS,
            None,
        ),
        (
            P,
            400,
            "",
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","code":"context_length_exceeded"}}"#,
            OURS,
            None,
        ),
        (
            P,
            400,
            "",
            r#"{"error":{"message":"Your request about billing was flagged","code":"content_policy_violation"}}"#,
            OURS,
            None,
        ),
        (P, 413, "", "", OURS, None),
        // DeepSeek, Moonshot, xAI, OpenRouter, Gemini behind OpenAI's API.
        (
            P,
            402,
            "",
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#,
            KEY,
            None,
        ),
        (
            P,
            429,
            "",
            r#"{"error":{"message":"Your account is suspended","type":"exceeded_current_quota_error"}}"#,
            KEY,
            None,
        ),
        (
            P,
            429,
            "",
            r#"{"code":"The caller does not have permission","error":"Your team has either used all available credits or reached its monthly spending limit."}"#,
            KEY,
            None,
        ),
        (
            P,
            429,
            "",
            r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel"}]},{"retryDelay":"21s"}]}}]"#,
            LIMITED,
            Some(21_000),
        ),
        (
            P,
            429,
            "",
            r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"retryDelay":"21s"}]}}]"#,
            KEY,
            None,
        ),
        (
            P,
            400,
            "",
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
            KEY,
            None,
        ),
    ]);
}

#[test]
fn anthropic() {
    use Provider::Anthropic as P;
    check(&[
        (
            P,
            401,
            "",
            r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
            KEY,
            None,
        ),
        (
            P,
            403,
            "",
            r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission"}}"#,
            KEY,
            None,
        ),
        (P, 402, "", r#"{"type":"error","error":{"type":"billing_error","message":"x"}}"#, KEY, None),
        (
            P,
            400,
            "",
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}"#,
            KEY,
            None,
        ),
        (
            P,
            400,
            "",
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01."}}"#,
            KEY,
            None,
        ),
        (
            P,
            429,
            "retry-after: 20",
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"x","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
            KEY,
            None,
        ),
        (
            P,
            429,
            "retry-after: 20",
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit"}}"#,
            LIMITED,
            Some(20_000),
        ),
        (
            P,
            429,
            "anthropic-ratelimit-tokens-reset: 1970-01-01T00:00:30Z",
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"}}"#,
            LIMITED,
            Some(30_000),
        ),
        (P, 529, "", r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, BUSY, None),
        (
            P,
            500,
            "",
            r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#,
            BROKEN,
            None,
        ),
        (P, 504, "", r#"{"type":"error","error":{"type":"timeout_error","message":"x"}}"#, BROKEN, None),
        (P, 404, "", r#"{"type":"error","error":{"type":"not_found_error","message":"model: x"}}"#, OURS, None),
        (
            P,
            400,
            "",
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"}}"#,
            OURS,
            None,
        ),
        (P, 413, "", r#"{"type":"error","error":{"type":"request_too_large","message":"x"}}"#, OURS, None),
    ]);
}

#[test]
fn gemini_whose_every_429_speaks_of_billing() {
    use Provider::Gemini as P;
    check(&[
        (
            P,
            429,
            "",
            r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateContentInputTokensPerModelPerMinute-FreeTier"}]},{"@type":"type.googleapis.com/google.rpc.Help","links":[{"description":"billing","url":"https://x/PerDay"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"46.5s"}]}}"#,
            LIMITED,
            Some(46_500),
        ),
        (
            P,
            429,
            "",
            r#"{"error":{"code":429,"message":"You exceeded your current quota. Please retry in 37.2s.","status":"RESOURCE_EXHAUSTED"}}"#,
            LIMITED,
            Some(37_200),
        ),
        (
            P,
            429,
            "",
            r#"{"error":{"code":429,"message":"Resource has been exhausted (e.g. check quota).","status":"RESOURCE_EXHAUSTED"}}"#,
            LIMITED,
            None,
        ),
        (
            P,
            429,
            "",
            r#"{"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaValue":"50"}]},{"retryDelay":"46s"}]}}"#,
            KEY,
            None,
        ),
        (
            P,
            429,
            "",
            r#"{"error":{"code":429,"message":"Quota exceeded for metric: x, limit: 0, model: gemini-2.5-pro","status":"RESOURCE_EXHAUSTED"}}"#,
            KEY,
            None,
        ),
        (
            P,
            400,
            "",
            r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#,
            KEY,
            None,
        ),
        (
            P,
            400,
            "",
            r#"{"error":{"code":400,"message":"API key expired. Please renew the API key.","status":"INVALID_ARGUMENT"}}"#,
            KEY,
            None,
        ),
        (P, 403, "", r#"{"error":{"code":403,"message":"Permission denied","status":"PERMISSION_DENIED"}}"#, KEY, None),
        (
            P,
            503,
            "",
            r#"{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}"#,
            BUSY,
            None,
        ),
        (
            P,
            500,
            "",
            r#"{"error":{"code":500,"message":"An internal error has occurred","status":"INTERNAL"}}"#,
            BROKEN,
            None,
        ),
        (P, 504, "", r#"{"error":{"code":504,"status":"DEADLINE_EXCEEDED"}}"#, BROKEN, None),
        (
            P,
            404,
            "",
            r#"{"error":{"code":404,"message":"models/x is not found for API version v1beta","status":"NOT_FOUND"}}"#,
            OURS,
            None,
        ),
        (
            P,
            400,
            "",
            r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#,
            OURS,
            None,
        ),
    ]);
}

#[test]
fn azure_and_bedrock() {
    use Provider::{Azure, Bedrock};
    check(&[
        (
            Azure,
            401,
            "",
            r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#,
            KEY,
            None,
        ),
        (
            Azure,
            403,
            "",
            r#"{"error":{"code":"403","message":"Out of call volume quota. Quota will be replenished in 12.23:56:44."}}"#,
            KEY,
            None,
        ),
        (
            Azure,
            429,
            "",
            r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 6 seconds. Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."}}"#,
            LIMITED,
            Some(6000),
        ),
        (
            Azure,
            429,
            "retry-after-ms: 250",
            r#"{"error":{"code":"429","message":"Please retry after 1 second."}}"#,
            LIMITED,
            Some(250),
        ),
        (
            Azure,
            429,
            "",
            r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"x"}}"#,
            KEY,
            None,
        ),
        (
            Azure,
            404,
            "",
            r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#,
            OURS,
            None,
        ),
        (Azure, 400, "", r#"{"error":{"code":"content_filter","message":"x"}}"#, OURS, None),
        (Azure, 408, "", r#"{"error":{"code":"Timeout","message":"The operation was timeout."}}"#, BROKEN, None),
        (
            Bedrock,
            429,
            "x-amzn-errortype: ThrottlingException:http://internal.amazon.com/coral/",
            r#"{"message":"Too many requests, please wait before trying again."}"#,
            LIMITED,
            None,
        ),
        (
            Bedrock,
            429,
            "x-amzn-errortype: ThrottlingException",
            r#"{"message":"Too many tokens per day, please wait before trying again."}"#,
            KEY,
            None,
        ),
        (Bedrock, 429, "x-amzn-errortype: ModelNotReadyException", r#"{"message":"x"}"#, LIMITED, None),
        (Bedrock, 400, "x-amzn-errortype: ServiceQuotaExceededException", r#"{"message":"x"}"#, KEY, None),
        (
            Bedrock,
            403,
            "x-amzn-errortype: AccessDeniedException",
            r#"{"Message":"You don't have access to the model"}"#,
            KEY,
            None,
        ),
        (
            Bedrock,
            400,
            "x-amzn-errortype: ValidationException",
            r#"{"message":"The provided model identifier is invalid."}"#,
            OURS,
            None,
        ),
        (Bedrock, 404, "x-amzn-errortype: ResourceNotFoundException", r#"{"message":"x"}"#, OURS, None),
        (Bedrock, 503, "x-amzn-errortype: ServiceUnavailableException", r#"{"message":"x"}"#, BUSY, None),
        (Bedrock, 408, "x-amzn-errortype: ModelTimeoutException", r#"{"message":"x"}"#, BROKEN, None),
        (Bedrock, 424, "x-amzn-errortype: ModelErrorException", r#"{"message":"x"}"#, BROKEN, None),
        (Bedrock, 500, "x-amzn-errortype: InternalServerException", r#"{"message":"x"}"#, BROKEN, None),
    ]);
}

#[test]
fn servers_of_ones_own() {
    use Provider::{LlamaCpp, Ollama, Sglang, Tgi, Triton, Vllm};
    check(&[
        (Vllm, 401, "", r#"{"error":"Unauthorized"}"#, KEY, None),
        (
            Vllm,
            404,
            "",
            r#"{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}"#,
            OURS,
            None,
        ),
        (
            Vllm,
            400,
            "",
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","code":400}"#,
            OURS,
            None,
        ),
        (
            Vllm,
            500,
            "",
            r#"{"object":"error","message":"EngineCore encountered an issue.","type":"InternalServerError","code":500}"#,
            BROKEN,
            None,
        ),
        (Vllm, 422, "", r#"{"detail":[{"loc":["body","messages"],"msg":"field required"}]}"#, OURS, None),
        (
            Sglang,
            503,
            "",
            r#"{"object":"error","message":"The request queue is full.","type":"SERVICE_UNAVAILABLE"}"#,
            BUSY,
            None,
        ),
        (Tgi, 429, "", r#"{"error":"Model is overloaded","error_type":"overloaded"}"#, LIMITED, None),
        (Tgi, 424, "", r#"{"error":"Request failed during generation","error_type":"generation"}"#, BROKEN, None),
        (Tgi, 422, "", r#"{"error":"Input validation error","error_type":"validation"}"#, OURS, None),
        (
            Ollama,
            503,
            "",
            r#"{"error":{"message":"server busy, please try again.  maximum pending requests exceeded","type":"api_error"}}"#,
            BUSY,
            None,
        ),
        (
            Ollama,
            404,
            "",
            r#"{"error":{"message":"model \"x\" not found, try pulling it first","type":"api_error"}}"#,
            OURS,
            None,
        ),
        (
            LlamaCpp,
            503,
            "",
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
            BROKEN,
            None,
        ),
        (
            LlamaCpp,
            401,
            "",
            r#"{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}"#,
            KEY,
            None,
        ),
        (Triton, 503, "", r#"{"error":"server is not ready"}"#, BROKEN, None),
        (Triton, 400, "", r#"{"error":"Request for unknown model"}"#, OURS, None),
    ]);
}
