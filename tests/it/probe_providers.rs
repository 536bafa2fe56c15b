//! Every provider's dialect against the mock that speaks it: keys in their headers, free lists, streams, and what each
//! provider's errors mean.

use hapilot::config::{ChatProbe, EmbeddingsProbe, ModelsProbe, profile};
use hapilot::health::{Observation, Outcome, Phase};
use hapilot::mock::{Fault, Mock, MockConfig};
use hapilot::model::{Provider, Secret};
use hapilot::probe::{Limits, Probe, Prober, Target};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const KEY: &str = "sk-mock-0123456789";
const MODEL: &str = "mock-small:1";

/// Those that the mock speaks natively, with a server's URL below its root.
const PROVIDERS: [Provider; 5] =
    [Provider::OpenAi, Provider::Anthropic, Provider::Gemini, Provider::Azure, Provider::Bedrock];

fn config() -> MockConfig {
    MockConfig { key: Some(KEY.into()), models: vec![MODEL.into(), "other".into()], ..MockConfig::default() }
}

fn target(mock: &Mock, provider: Provider) -> Target {
    let mut target = Target::new(mock.root_url().parse().unwrap(), profile(provider));
    target.key = Some(Secret::new(KEY.into()).unwrap());
    target
}

fn prober() -> Prober {
    // Two cores run the whole suite: only where a deadline is the point is it short.
    let long = Duration::from_secs(20);
    Prober::with_limits(Limits { connect: long, cheap_total: long, lag: Duration::from_secs(60) })
}

fn models(expected: &str) -> Probe {
    Probe::Models(ModelsProbe { expect: vec![expected.into()] })
}

fn chat() -> Probe {
    Probe::Chat(ChatProbe {
        model: MODEL.into(),
        every: Duration::from_secs(300),
        max_tokens: 16,
        first_token_soft: Duration::from_secs(20),
        first_token: Duration::from_secs(20),
        stall: Duration::from_secs(20),
        total: Duration::from_secs(30),
        budget: Default::default(),
    })
}

fn embeddings() -> Probe {
    let long = Duration::from_secs(20);
    Probe::Embeddings(EmbeddingsProbe { model: MODEL.into(), every: long, total: long })
}

async fn with_fault(provider: Provider, fault: &str, probe: &Probe) -> Observation {
    let mock = Mock::start(config()).await.unwrap();
    if !fault.is_empty() {
        let fault: Fault = serde_json::from_str(fault).unwrap();
        mock.set_faults(vec![fault]).await;
    }
    prober().probe(&target(&mock, provider), probe).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_every_dialect_is_valid_and_its_cost_is_known() {
    for provider in PROVIDERS {
        let found = with_fault(provider, "", &chat()).await;
        assert_eq!((found.outcome, found.detail.as_str()), (Outcome::Ok, ""), "{provider}");
        assert!(found.first_token.is_some() && found.tokens > 16, "{provider}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_goes_into_the_providers_own_header() {
    for (provider, path, header, value) in [
        (Provider::OpenAi, "/v1/models", "authorization", format!("Bearer {KEY}")),
        (Provider::Anthropic, "/v1/models", "x-api-key", KEY.to_owned()),
        (Provider::Gemini, "/v1beta/models", "x-goog-api-key", KEY.to_owned()),
        (Provider::Azure, "/openai/models", "api-key", KEY.to_owned()),
    ] {
        let mock = Mock::start(config()).await.unwrap();
        let mut target = target(&mock, provider);
        let found = prober().probe(&target, &models(MODEL)).await;
        assert_eq!((found.outcome, found.detail.as_str()), (Outcome::Ok, ""), "{provider}");
        let headers = mock.journal()["last"][path]["headers"].clone();
        assert_eq!(headers[header], value, "{provider}");
        let version = if provider == Provider::Anthropic { "2023-06-01".into() } else { Value::Null };
        assert_eq!(headers["anthropic-version"], version, "{provider}");
        assert_eq!(prober().probe(&target, &models("absent")).await.outcome, Outcome::BadContent, "{provider}");
        target.key = Some(Secret::new("wrong".into()).unwrap());
        assert_eq!(prober().probe(&target, &models(MODEL)).await.outcome, Outcome::Credential, "{provider}");
        assert_eq!(prober().probe(&target, &chat()).await.outcome, Outcome::Credential, "{provider}");
    }
    let mock = Mock::start(config()).await.unwrap();
    let mut bedrock = target(&mock, Provider::Bedrock);
    bedrock.key = Some(Secret::new("wrong".into()).unwrap());
    assert_eq!(prober().probe(&bedrock, &chat()).await.outcome, Outcome::Credential);
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_asked_in_the_providers_words() {
    for (provider, told) in [(Provider::OpenAi, true), (Provider::Gemini, false), (Provider::Azure, true)] {
        let found = with_fault(provider, "", &embeddings()).await;
        assert_eq!(found.outcome, Outcome::Ok, "{provider}: {found:?}");
        assert_eq!(found.tokens > 0, told, "{provider}");
    }
    let found = with_fault(Provider::Anthropic, "", &embeddings()).await;
    assert_eq!((found.outcome, found.detail.as_str()), (Outcome::ProbeConfig, "the provider has no embeddings"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_providers_errors_mean_what_they_say() {
    let (limited, account) = (Outcome::RateLimited, Outcome::Credential);
    let status = r#"{"kind":"status","code":"#;
    let mut rows = Vec::new();
    for (provider, pause_s) in [
        (Provider::OpenAi, None),
        (Provider::Anthropic, None),
        (Provider::Gemini, Some(46)),
        (Provider::Azure, Some(6)),
        (Provider::Bedrock, None),
    ] {
        rows.extend([
            (provider, format!("{status}429}}"), limited, pause_s),
            (provider, r#"{"kind":"insufficient_quota"}"#.to_owned(), account, None),
            (provider, r#"{"kind":"credit_balance"}"#.to_owned(), account, None),
            (provider, r#"{"kind":"invalid_api_key"}"#.to_owned(), account, None),
            (provider, r#"{"kind":"overloaded"}"#.to_owned(), Outcome::Overloaded, None),
            (provider, format!("{status}500}}"), Outcome::ServerError, None),
            (provider, format!("{status}400}}"), Outcome::ProbeConfig, None),
            (provider, format!("{status}529,\"retry_after\":\"3\"}}"), Outcome::Overloaded, Some(3)),
            (provider, r#"{"kind":"error_event"}"#.to_owned(), Outcome::BadContent, None),
            (provider, r#"{"kind":"error_object"}"#.to_owned(), Outcome::BadContent, None),
            (provider, r#"{"kind":"empty"}"#.to_owned(), Outcome::BadContent, None),
            (provider, r#"{"kind":"no_done"}"#.to_owned(), Outcome::BadContent, None),
            (provider, r#"{"kind":"huge_event"}"#.to_owned(), Outcome::BadContent, None),
            (provider, r#"{"kind":"deep_json"}"#.to_owned(), Outcome::BadContent, None),
            (provider, r#"{"kind":"invalid_utf8"}"#.to_owned(), Outcome::BadContent, None),
            (provider, r#"{"kind":"comments_only"}"#.to_owned(), Outcome::BadContent, None),
            (provider, r#"{"kind":"cut"}"#.to_owned(), Outcome::Reset, None),
        ]);
    }
    let mut tasks = tokio::task::JoinSet::new();
    let gate = Arc::new(Semaphore::new(16));
    for (provider, fault, expected, pause_s) in rows {
        let gate = gate.clone();
        tasks.spawn(async move {
            let _permit = gate.acquire().await.unwrap();
            let found = with_fault(provider, &fault, &chat()).await;
            let pause = found.retry_after.map(|pause| pause.as_secs());
            (found.outcome != expected || pause != pause_s).then(|| format!("{provider} {fault}: {found:?}"))
        });
    }
    let wrong: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_has_its_deadlines() {
    for provider in PROVIDERS {
        let Probe::Chat(patient) = chat() else { unreachable!("it is a chat") };
        for (fault, expected) in [
            (r#"{"kind":"stall"}"#, Outcome::Timeout(Phase::Stall)),
            (r#"{"kind":"first_token","delay_ms":60000}"#, Outcome::Timeout(Phase::FirstToken)),
        ] {
            let mut probe = patient.clone();
            match expected {
                Outcome::Timeout(Phase::Stall) => probe.stall = Duration::from_millis(300),
                _ => probe.first_token = Duration::from_millis(300),
            }
            let found = with_fault(provider, fault, &Probe::Chat(probe)).await;
            assert_eq!(found.outcome, expected, "{provider}: {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_think_on_demand_is_asked_again_without_that_wish() {
    let mock = Mock::start(config()).await.unwrap();
    let mut fault = Fault::status(400);
    fault.count = Some(1);
    fault.body = Some(
        r#"{"error":{"code":400,"message":"Budget 0 is invalid. This model only works in thinking mode."}}"#.into(),
    );
    mock.set_faults(vec![fault]).await;
    let found = prober().probe(&target(&mock, Provider::Gemini), &chat()).await;
    assert_eq!(found.outcome, Outcome::Ok, "{found:?}");
    let last = mock.journal()["last"]["/v1beta/models/mock-small%3A1:streamGenerateContent"]["body"].clone();
    assert_eq!(last["generationConfig"]["thinkingConfig"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_the_operators_own_is_asked_as_it_says() {
    let mut mine = hapilot::model::Profile::clone(&profile(Provider::OpenAi));
    mine.headers.insert("x-team".into(), "ai".into());
    mine.query = "version=1".into();
    mine.errors.account.push("out of gas".into());
    let mock = Mock::start(config()).await.unwrap();
    let mut target = target(&mock, Provider::OpenAi);
    target.provider = Arc::new(mine);
    assert_eq!(prober().probe(&target, &models(MODEL)).await.outcome, Outcome::Ok);
    assert_eq!(mock.journal()["last"]["/v1/models"]["headers"]["x-team"], "ai");
    let mut fault = Fault::status(429);
    fault.body = Some(r#"{"error":{"message":"We are out of gas"}}"#.into());
    mock.set_faults(vec![fault]).await;
    assert_eq!(prober().probe(&target, &models(MODEL)).await.outcome, Outcome::Credential);
}
