//! Probes against the mock: every hostile answer has one outcome and ends in time.

use hapilot::config::{ChatProbe, EmbeddingsProbe, HttpProbe, MetricsProbe, ModelsProbe, profile};
use hapilot::health::{Load, Observation, Outcome, Phase};
use hapilot::mock::{Fault, FaultKind, Mock, MockConfig, MockLoad, MockTls};
use hapilot::model::{Provider, Secret};
use hapilot::probe::{Limits, MAX_DETAIL, Probe, ProbeReport, Prober, Target, TargetTls};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

const KEY: &str = "sk-mock-0123456789";

/// Deadlines of the tests: total 1.5 s, so the bound of the product's law is 2 s.
const TOTAL: Duration = Duration::from_millis(1500);
const FIRST_TOKEN: Duration = Duration::from_millis(1000);
const STALL: Duration = Duration::from_millis(400);
/// What a probe may take beyond its total deadline.
const GRACE: Duration = Duration::from_millis(500);

fn prober() -> Prober {
    // Two cores run the whole suite: our own lag is not what is tested here.
    Prober::with_limits(Limits {
        connect: Duration::from_millis(500),
        cheap_total: TOTAL,
        lag: Duration::from_secs(60),
    })
}

fn config() -> MockConfig {
    MockConfig { key: Some(KEY.into()), ..MockConfig::default() }
}

fn tls_config() -> MockConfig {
    MockConfig { tls: Some(MockTls::default()), ..config() }
}

fn target(mock: &Mock) -> Target {
    let mut target = Target::new(mock.base_url().parse().unwrap(), profile(Provider::OpenAi));
    target.key = Some(Secret::new(KEY.into()).unwrap());
    target.tls.ca_pem = mock.ca_pem().map(str::to_owned);
    target
}

fn models() -> Probe {
    Probe::Models(ModelsProbe { expect: vec!["mock-small".into()] })
}

fn chat() -> Probe {
    Probe::Chat(ChatProbe {
        model: "mock-small".into(),
        every: Duration::from_secs(300),
        max_tokens: 16,
        first_token_soft: Duration::from_millis(300),
        first_token: FIRST_TOKEN,
        stall: STALL,
        total: TOTAL,
        budget: Default::default(),
    })
}

fn http() -> Probe {
    Probe::Http(HttpProbe {
        path: "/health".into(),
        status: vec![200],
        headers: vec![("content-type".into(), "^application/json".parse().unwrap())],
        json: vec![("/status".into(), json!("ok"))],
        body: Some("(?i)\"STATUS\"".parse().unwrap()),
    })
}

fn embeddings() -> Probe {
    Probe::Embeddings(EmbeddingsProbe { model: "mock-small".into(), every: Duration::from_secs(300), total: TOTAL })
}

fn metrics() -> Probe {
    Probe::Metrics(MetricsProbe {
        path: "/metrics".into(),
        port: None,
        waiting: vec!["vllm:num_requests_waiting".into()],
        cache: vec!["vllm:kv_cache_usage_perc".into()],
    })
}

fn certificate() -> Probe {
    Probe::Certificate(Duration::from_secs(14 * 86_400))
}

fn fault(text: &str) -> Fault {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Probes a mock that has one fault; the observation is in time and its line is clean.
async fn observe(config: MockConfig, fault_text: &str, probe: &Probe) -> Observation {
    let mock = Mock::start(config).await.unwrap();
    let target = target(&mock);
    if !fault_text.is_empty() {
        mock.set_faults(vec![fault(fault_text)]).await;
    }
    let started = Instant::now();
    let observation = prober().probe(&target, probe).await;
    let took = started.elapsed();
    assert!(took <= TOTAL + GRACE, "{fault_text}: {took:?}, {observation:?}");
    assert!(observation.detail.chars().count() <= MAX_DETAIL, "{observation:?}");
    assert!(!observation.detail.contains(KEY) && !observation.detail.chars().any(char::is_control), "{observation:?}");
    mock.stop().await;
    observation
}

/// Runs a table, a few rows at a time: what is judged is the prober and not how it shares a core with fifty others.
async fn check(make: fn() -> MockConfig, rows: Vec<(&'static str, Probe, Outcome)>) {
    let mut tasks = tokio::task::JoinSet::new();
    let gate = Arc::new(Semaphore::new(16));
    for (fault, probe, expected) in rows {
        let gate = gate.clone();
        tasks.spawn(async move {
            let _permit = gate.acquire().await.unwrap();
            let found = observe(make(), fault, &probe).await;
            (found.outcome != expected).then(|| format!("{} {fault}: {found:?}, not {expected}", probe.kind()))
        });
    }
    let wrong: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_called_like_a_key_is_not_told() {
    let key = "sk-mock/listed+4711";
    hapilot::sys::redact::learn(key);
    let names = [
        "mock-small",
        "sk-mock/listed+4711",
        "ft:sk-mock/listed%2B4711:x",
        "models/sk-mock%2Flisted%2b4711",
        "mock-large",
    ];
    let models_of = names.map(str::to_owned).to_vec();
    let found = observe(MockConfig { models: models_of, ..config() }, "", &models()).await;
    assert_eq!(found.outcome, Outcome::Ok, "{found:?}");
    let told: Vec<_> = found.models.expect("a list").iter().cloned().collect();
    assert_eq!(told, ["mock-large", "mock-small"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_server_passes_every_probe_and_says_what_it_cost() {
    for make in [config, tls_config] {
        for probe in [models(), http(), chat(), embeddings()] {
            let found = observe(make(), "", &probe).await;
            assert_eq!(found.outcome, Outcome::Ok, "{found:?}");
            assert_eq!(found.detail, "");
            assert_eq!(found.first_token.is_some(), probe == chat());
            assert_eq!(found.tokens > 16, probe == chat(), "{found:?}");
            assert_eq!(found.tokens > 0, probe.kind().is_deep(), "{found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_statuses() {
    let rows = vec![
        (r#"{"kind":"status","code":401}"#, models(), Outcome::Credential),
        (r#"{"kind":"invalid_api_key"}"#, chat(), Outcome::Credential),
        (r#"{"kind":"insufficient_quota","retry_after":"5"}"#, chat(), Outcome::Credential),
        (r#"{"kind":"credit_balance"}"#, chat(), Outcome::Credential),
        (r#"{"kind":"status","code":402}"#, models(), Outcome::Credential),
        (r#"{"kind":"status","code":429}"#, models(), Outcome::RateLimited),
        (r#"{"kind":"status","code":429,"retry_after":"-1"}"#, chat(), Outcome::RateLimited),
        (r#"{"kind":"overloaded"}"#, chat(), Outcome::Overloaded),
        (r#"{"kind":"status","code":503,"retry_after":"7"}"#, models(), Outcome::Overloaded),
        (r#"{"kind":"status","code":503}"#, models(), Outcome::ServerError),
        (r#"{"kind":"status","code":500}"#, http(), Outcome::ServerError),
        (r#"{"kind":"status","code":404}"#, models(), Outcome::ProbeConfig),
        (r#"{"kind":"status","code":400}"#, chat(), Outcome::ProbeConfig),
        (r#"{"kind":"redirect"}"#, models(), Outcome::ProbeConfig),
        (r#"{"kind":"redirect"}"#, embeddings(), Outcome::ProbeConfig),
        (r#"{"kind":"redirect"}"#, metrics(), Outcome::ProbeConfig),
        (r#"{"kind":"insufficient_quota"}"#, embeddings(), Outcome::Credential),
        (r#"{"kind":"status","code":429}"#, embeddings(), Outcome::RateLimited),
        (r#"{"kind":"status","code":404}"#, metrics(), Outcome::ProbeConfig),
        (r#"{"kind":"status","code":500}"#, metrics(), Outcome::ServerError),
        (r#"{"kind":"redirect","location":"http://169.254.169.254/latest/meta-data/"}"#, http(), Outcome::ProbeConfig),
    ];
    check(config, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_content() {
    let bad = Outcome::BadContent;
    let rows = vec![
        (r#"{"kind":"html"}"#, models(), bad),
        (r#"{"kind":"html"}"#, chat(), bad),
        (r#"{"kind":"html"}"#, http(), bad),
        (r#"{"kind":"invalid_json"}"#, models(), bad),
        (r#"{"kind":"invalid_json"}"#, chat(), bad),
        (r#"{"kind":"invalid_json"}"#, http(), bad),
        (r#"{"kind":"error_object"}"#, models(), bad),
        (r#"{"kind":"error_object"}"#, chat(), bad),
        (r#"{"kind":"error_event"}"#, chat(), bad),
        (r#"{"kind":"empty"}"#, models(), bad),
        (r#"{"kind":"empty"}"#, chat(), bad),
        (r#"{"kind":"wrong_model"}"#, chat(), bad),
        (r#"{"kind":"missing_model"}"#, models(), bad),
        (r#"{"kind":"missing_model","body":"mock-small"}"#, models(), bad),
        (r#"{"kind":"missing_model","body":"mock-large"}"#, models(), Outcome::Ok),
        (r#"{"kind":"no_blank_line"}"#, chat(), bad),
        (r#"{"kind":"no_done"}"#, chat(), bad),
        (r#"{"kind":"comments_only"}"#, chat(), bad),
        (r#"{"kind":"huge_event"}"#, chat(), bad),
        (r#"{"kind":"deep_json"}"#, models(), bad),
        (r#"{"kind":"deep_json"}"#, chat(), bad),
        (r#"{"kind":"invalid_utf8"}"#, models(), bad),
        (r#"{"kind":"invalid_utf8"}"#, chat(), bad),
        (r#"{"kind":"endless_body"}"#, models(), bad),
        (r#"{"kind":"endless_body"}"#, chat(), bad),
        (r#"{"kind":"endless_body"}"#, http(), bad),
        (r#"{"kind":"gzip_bomb"}"#, models(), bad),
        (r#"{"kind":"gzip_bomb"}"#, chat(), bad),
        (r#"{"kind":"html"}"#, embeddings(), bad),
        (r#"{"kind":"html"}"#, metrics(), bad),
        (r#"{"kind":"invalid_json"}"#, embeddings(), bad),
        (r#"{"kind":"error_object"}"#, embeddings(), bad),
        (r#"{"kind":"error_object"}"#, metrics(), bad),
        (r#"{"kind":"empty"}"#, embeddings(), bad),
        (r#"{"kind":"empty"}"#, metrics(), bad),
        (r#"{"kind":"deep_json"}"#, embeddings(), bad),
        (r#"{"kind":"invalid_utf8"}"#, embeddings(), bad),
        (r#"{"kind":"invalid_utf8"}"#, metrics(), bad),
        (r#"{"kind":"endless_body"}"#, embeddings(), bad),
        // More than is read of the metrics, and what was wanted may stand there.
        (r#"{"kind":"endless_body"}"#, metrics(), Outcome::ProbeConfig),
        (r#"{"kind":"gzip_bomb"}"#, embeddings(), bad),
        (r#"{"kind":"gzip_bomb"}"#, metrics(), bad),
        (r#"{"kind":"gzip_bomb"}"#, http(), bad),
    ];
    check(config, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_timing() {
    let head = Outcome::Timeout(Phase::FirstToken);
    let total = Outcome::Timeout(Phase::Total);
    let rows = vec![
        (r#"{"kind":"hang"}"#, models(), head),
        (r#"{"kind":"hang"}"#, chat(), head),
        (r#"{"kind":"hang_after_headers"}"#, models(), total),
        (r#"{"kind":"hang_after_headers"}"#, chat(), head),
        (r#"{"kind":"hang_on_accept"}"#, http(), head),
        (r#"{"kind":"drip_headers"}"#, models(), head),
        (r#"{"kind":"drip_headers","delay_ms":20}"#, chat(), head),
        (r#"{"kind":"drip_body"}"#, models(), total),
        (r#"{"kind":"drip_body"}"#, chat(), head),
        (r#"{"kind":"first_token","delay_ms":40000}"#, chat(), head),
        (r#"{"kind":"first_token","delay_ms":400}"#, chat(), Outcome::Slow),
        (r#"{"kind":"stall"}"#, chat(), Outcome::Timeout(Phase::Stall)),
        (r#"{"kind":"rate","rate":1}"#, chat(), Outcome::Timeout(Phase::Stall)),
        (r#"{"kind":"rate","rate":5}"#, chat(), total),
        (r#"{"kind":"hang"}"#, embeddings(), head),
        (r#"{"kind":"hang"}"#, metrics(), head),
        (r#"{"kind":"hang_after_headers"}"#, embeddings(), total),
        (r#"{"kind":"hang_after_headers"}"#, metrics(), total),
        (r#"{"kind":"drip_headers"}"#, metrics(), head),
        (r#"{"kind":"drip_body"}"#, embeddings(), total),
        (r#"{"kind":"drip_body"}"#, metrics(), total),
    ];
    check(config, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes() {
    let rows = vec![
        (r#"{"kind":"refuse"}"#, models(), Outcome::Refused),
        (r#"{"kind":"reset_on_accept"}"#, models(), Outcome::Reset),
        (r#"{"kind":"close_on_accept"}"#, models(), Outcome::Reset),
        (r#"{"kind":"reset"}"#, models(), Outcome::Reset),
        (r#"{"kind":"reset_after_headers"}"#, models(), Outcome::Reset),
        (r#"{"kind":"reset_mid_stream"}"#, chat(), Outcome::Reset),
        (r#"{"kind":"cut"}"#, chat(), Outcome::Reset),
        (r#"{"kind":"endless_continue"}"#, models(), Outcome::BadContent),
        (r#"{"kind":"endless_continue"}"#, chat(), Outcome::BadContent),
        (r#"{"kind":"many_headers"}"#, models(), Outcome::BadContent),
        (r#"{"kind":"two_lengths"}"#, models(), Outcome::BadContent),
        (r#"{"kind":"garbage"}"#, chat(), Outcome::BadContent),
        (r#"{"kind":"refuse"}"#, metrics(), Outcome::Refused),
        (r#"{"kind":"reset"}"#, embeddings(), Outcome::Reset),
        (r#"{"kind":"endless_continue"}"#, embeddings(), Outcome::BadContent),
        (r#"{"kind":"endless_continue"}"#, metrics(), Outcome::BadContent),
        (r#"{"kind":"many_headers"}"#, metrics(), Outcome::BadContent),
        (r#"{"kind":"two_lengths"}"#, embeddings(), Outcome::BadContent),
        (r#"{"kind":"garbage"}"#, metrics(), Outcome::BadContent),
    ];
    check(config, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_tls() {
    let rows = vec![
        (r#"{"kind":"tls_expired"}"#, models(), Outcome::Tls),
        (r#"{"kind":"tls_wrong_name"}"#, chat(), Outcome::Tls),
        (r#"{"kind":"tls_unknown_authority"}"#, http(), Outcome::Tls),
        (r#"{"kind":"tls_plain"}"#, models(), Outcome::Tls),
        (r#"{"kind":"tls_hang"}"#, chat(), Outcome::Timeout(Phase::Connect)),
        (r#"{"kind":"reset_on_accept"}"#, models(), Outcome::Reset),
        (r#"{"kind":"tls_expired"}"#, certificate(), Outcome::Tls),
        (r#"{"kind":"tls_wrong_name"}"#, certificate(), Outcome::Tls),
        (r#"{"kind":"tls_unknown_authority"}"#, certificate(), Outcome::Tls),
        (r#"{"kind":"tls_plain"}"#, certificate(), Outcome::Tls),
        (r#"{"kind":"tls_hang"}"#, certificate(), Outcome::Timeout(Phase::Connect)),
        (r#"{"kind":"refuse"}"#, certificate(), Outcome::Refused),
        (r#"{"kind":"reset_on_accept"}"#, certificate(), Outcome::Reset),
    ];
    check(tls_config, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expires_between_two_probes_is_noticed() {
    let mock = Mock::start(tls_config()).await.unwrap();
    let (prober, mut target) = (prober(), target(&mock));
    assert_eq!(prober.probe(&target, &models()).await.outcome, Outcome::Ok);
    mock.set_faults(vec![Fault::new(FaultKind::TlsExpired)]).await;
    assert_eq!(prober.probe(&target, &models()).await.outcome, Outcome::Tls);
    target.tls = TargetTls { verify: false, ..target.tls };
    assert_eq!(prober.probe(&target, &models()).await.outcome, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expires_soon_is_a_warning_and_no_failure() {
    for (days, verify, words) in [
        (400, true, "the certificate is valid for 399 days"),
        (3, false, "warning: the certificate is valid for 2 days"),
    ] {
        // A minute less, so that the whole days are certain.
        let tls = MockTls { valid: Duration::from_secs(days * 86_400 - 60), ..MockTls::default() };
        let mock = Mock::start(MockConfig { tls: Some(tls), ..config() }).await.unwrap();
        let mut target = target(&mock);
        target.tls.verify = verify;
        let found = prober().probe(&target, &certificate()).await;
        assert_eq!(found.outcome, Outcome::Ok, "{found:?}");
        assert!(found.detail.starts_with(words), "{found:?}");
        assert_eq!(mock.requests_total(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_that_a_server_tells_is_read_also_at_another_port() {
    let mock = Mock::start(config()).await.unwrap();
    let found = prober().probe(&target(&mock), &metrics()).await;
    assert_eq!((found.outcome, found.load), (Outcome::Ok, Some(Load { waiting: 0.0, cache: Some(0.0) })), "{found:?}");
    mock.set_load(MockLoad { waiting: 7.0, running: 8.0, cache: 0.25 });
    let mut elsewhere = target(&mock);
    let Probe::Metrics(mut probe) = metrics() else { unreachable!("it is metrics") };
    probe.port = Some(elsewhere.endpoint.port);
    elsewhere.endpoint.port = 1;
    let found = prober().probe(&elsewhere, &Probe::Metrics(probe)).await;
    assert_eq!(found.load, Some(Load { waiting: 7.0, cache: Some(0.25) }), "{found:?}");
    assert_eq!(found.detail, "7 waiting, 25 % of the cache in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_judged_by_headers_and_text_too() {
    let mock = Mock::start(config()).await.unwrap();
    let Probe::Http(good) = http() else { unreachable!("it is http") };
    let header = |name: &str, pattern: &str| vec![(name.to_owned(), pattern.parse().unwrap())];
    for (probe, detail) in [
        (HttpProbe { headers: header("x-mock", "^mock$"), ..good.clone() }, ""),
        (HttpProbe { headers: header("x-mock", "^other$"), ..good.clone() }, "x-mock is mock, not ^other$"),
        (HttpProbe { headers: header("x-ready", "."), ..good.clone() }, "the answer has no header x-ready"),
        (HttpProbe { body: Some("starting".parse().unwrap()), ..good.clone() }, "nothing in the body is like starting"),
    ] {
        let found = prober().probe(&target(&mock), &Probe::Http(probe)).await;
        assert_eq!(found.detail, detail);
        assert_eq!(found.outcome, if detail.is_empty() { Outcome::Ok } else { Outcome::BadContent });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_the_name_in_tls_and_the_host_header_are_three_things() {
    let tls = MockTls { names: vec!["inner.example".into()], ..MockTls::default() };
    let mock = Mock::start(MockConfig { tls: Some(tls), ..config() }).await.unwrap();
    let mut target = target(&mock);
    target.endpoint = "https://api.example/v1".parse().unwrap();
    target.connect_to = Some(mock.addr());
    assert_eq!(prober().probe(&target, &models()).await.outcome, Outcome::Tls);
    target.tls.server_name = Some("inner.example".into());
    let found = prober().probe(&target, &models()).await;
    assert_eq!(found.outcome, Outcome::Ok, "{found:?}");
    assert_eq!(mock.journal()["last"]["/v1/models"]["headers"]["host"], "api.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_is_not_the_servers_fault() {
    let target = Target::new("http://no-such-host.invalid/v1".parse().unwrap(), profile(Provider::OpenAi));
    assert_eq!(prober().probe(&target, &models()).await.outcome, Outcome::Dns);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_dies_between_two_probes_is_noticed_and_so_is_its_return() {
    let mock = Mock::start(config()).await.unwrap();
    let (prober, target) = (prober(), target(&mock));
    assert_eq!(prober.probe(&target, &models()).await.outcome, Outcome::Ok);
    mock.set_faults(vec![Fault::new(FaultKind::Refuse)]).await;
    assert_eq!(prober.probe(&target, &models()).await.outcome, Outcome::Refused);
    mock.set_faults(vec![]).await;
    assert_eq!(prober.probe(&target, &models()).await.outcome, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_while_we_lag_ourselves_is_thrown_away() {
    let mock = Mock::start(config()).await.unwrap();
    mock.set_faults(vec![Fault::new(FaultKind::Hang)]).await;
    let limits = Limits { connect: STALL, cheap_total: STALL, lag: Duration::ZERO };
    let found = Prober::with_limits(limits).probe(&target(&mock), &models()).await;
    assert_eq!(found.outcome, Outcome::SelfCaused, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_no_streams_passes_with_a_whole_completion() {
    let mut fault = Fault::status(200);
    let message = json!({"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}],
                         "usage": {"total_tokens": 9}});
    fault.body = Some(message.to_string());
    let mock = Mock::start(config()).await.unwrap();
    mock.set_faults(vec![fault]).await;
    let found = prober().probe(&target(&mock), &chat()).await;
    assert_eq!((found.outcome, found.tokens), (Outcome::Ok, 9), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_longer_than_we_keep_is_no_fault_of_the_server() {
    let models_of = |expect: &[&str]| {
        Probe::Models(ModelsProbe { expect: expect.iter().map(|model| (*model).to_owned()).collect() })
    };
    let list: Vec<_> = (0..30_000).map(|at| json!({"id": format!("model-{at}"), "object": "model"})).collect();
    let list = json!({"object": "list", "data": list}).to_string();
    let figures = format!("vllm:num_requests_waiting 3\n{}", "other 1\n".repeat(200_000));
    assert!(list.len() > 1 << 20 && figures.len() > 1 << 20);
    let page = format!("{{\"status\":\"ok\",\"more\":{list}}}");
    for (body, probe, expected) in [
        (&list, models_of(&[]), Outcome::Ok),
        (&list, models_of(&["model-0", "model-29999"]), Outcome::Ok),
        (&list, models_of(&["model-0", "absent"]), Outcome::BadContent),
        (&figures, metrics(), Outcome::Ok),
        (&page, http(), Outcome::ProbeConfig),
    ] {
        let mut fault = Fault::status(200);
        fault.body = Some(body.clone());
        let mock = Mock::start(config()).await.unwrap();
        mock.set_faults(vec![fault]).await;
        let found = prober().probe(&target(&mock), &probe).await;
        assert_eq!(found.outcome, expected, "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_the_server_asks_for_is_passed_on_and_capped() {
    for (text, expected) in [
        (r#"{"kind":"status","code":429,"retry_after":"10"}"#, Some(10)),
        (r#"{"kind":"status","code":429,"retry_after":"1e12"}"#, Some(300)),
        (r#"{"kind":"status","code":429,"retry_after":"tomorrow"}"#, None),
        (r#"{"kind":"status","code":429,"headers":{"x-ratelimit-reset-tokens":"1m2s"}}"#, Some(62)),
        (r#"{"kind":"status","code":529,"retry_after":"3"}"#, Some(3)),
    ] {
        let found = observe(config(), text, &chat()).await;
        assert_eq!(found.retry_after.map(|d| d.as_secs()), expected, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_repeats_the_key_does_not_leak_it() {
    let mut fault = Fault::status(401);
    fault.body = Some(json!({"error": {"message": format!("bad key\n{KEY}\u{1b}[31m!")}}).to_string());
    let mock = Mock::start(config()).await.unwrap();
    mock.set_faults(vec![fault]).await;
    let found = prober().probe(&target(&mock), &models()).await;
    assert_eq!(found.detail, "HTTP 401: bad key [key] [31m!");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_only_the_older_parameter_is_asked_in_its_own_words() {
    let mut fault = Fault::status(422);
    fault.count = Some(1);
    fault.body = Some(r#"{"detail":[{"loc":["body","max_completion_tokens"],"msg":"Extra inputs"}]}"#.into());
    let mock = Mock::start(config()).await.unwrap();
    mock.set_faults(vec![fault]).await;
    let found = prober().probe(&target(&mock), &chat()).await;
    assert_eq!(found.outcome, Outcome::Ok, "{found:?}");
    let body = &mock.journal()["last"]["/v1/chat/completions"]["body"];
    assert_eq!(body["max_tokens"], 16);
    assert_eq!(body["max_completion_tokens"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_switched_over_http_even_while_the_port_refuses() {
    let mock = Mock::start(config()).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (fault_url, requests_url) =
        (format!("{}/fault", mock.control_url()), format!("{}/requests", mock.control_url()));
    let put = |body: &'static str| client.put(&fault_url).body(body).send();
    assert_eq!(put(r#"{"kind":"refuse"}"#).await.unwrap().status(), 200);
    assert_eq!(prober().probe(&target(&mock), &models()).await.outcome, Outcome::Refused);
    assert_eq!(put(r#"{"kind":"no such"}"#).await.unwrap().status(), 400);
    assert_eq!(put(r#"[{"kind":"status","code":500,"count":1,"path":"/v1/models"}]"#).await.unwrap().status(), 200);
    assert_eq!(prober().probe(&target(&mock), &http()).await.outcome, Outcome::Ok);
    assert_eq!(prober().probe(&target(&mock), &models()).await.outcome, Outcome::ServerError);
    assert_eq!(prober().probe(&target(&mock), &models()).await.outcome, Outcome::Ok);
    let seen: Value = client.get(&requests_url).send().await.unwrap().json().await.unwrap();
    assert_eq!(seen["total"], 3);
    assert_eq!(seen["last"]["/v1/models"]["headers"]["authorization"], format!("Bearer {KEY}"));
    assert_eq!(client.delete(&requests_url).send().await.unwrap().status(), 200);
    assert_eq!(client.delete(&fault_url).send().await.unwrap().status(), 200);
    assert_eq!(mock.requests_total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_speaks_the_api_that_clients_expect() {
    let mock = Mock::start(MockConfig { name: "a".into(), ..config() }).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = |path: &str, body: Value| {
        client.post(format!("{}/{path}", mock.base_url())).bearer_auth(KEY).json(&body).send()
    };
    let ask = json!({"model": "mock-small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3});
    let reply = post("chat/completions", ask).await.unwrap();
    assert_eq!(reply.headers()["x-mock"], "a");
    let reply: Value = reply.json().await.unwrap();
    assert_eq!(reply["system_fingerprint"], "a");
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    assert_eq!(reply["usage"]["completion_tokens"], 3);
    let reply = post("chat/completions", json!({"model": "other", "messages": [{}]})).await.unwrap();
    assert_eq!(reply.status(), 404);
    let reply: Value =
        post("embeddings", json!({"model": "mock-small", "input": ["a", "b"]})).await.unwrap().json().await.unwrap();
    assert_eq!(reply["data"].as_array().map(Vec::len), Some(2));
    let reply = client.get(format!("{}/models", mock.base_url())).bearer_auth("wrong").send().await.unwrap();
    assert_eq!(reply.status(), 401);
    // Four requests on fewer connections: keep-alive works. Not on one for certain: the client may ask again before it
    // has put the first one back.
    assert!(mock.journal()["connections"].as_u64().is_some_and(|connections| connections < 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_every_connection_at_once() {
    let mock = Mock::start(config()).await.unwrap();
    mock.set_faults(vec![Fault::new(FaultKind::Hang)]).await;
    let (target, addr) = (target(&mock), mock.addr());
    let hung = tokio::spawn(async move { prober().probe(&target, &models()).await });
    while mock.requests_total() == 0 {
        tokio::task::yield_now().await;
    }
    mock.stop().await;
    assert_eq!(hung.await.unwrap().outcome, Outcome::Reset);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_probes_make_a_report() {
    let mock = Mock::start(config()).await.unwrap();
    let mut fault = Fault::status(500);
    fault.share = Some(0.25);
    mock.set_faults(vec![fault]).await;
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(prober().probe(&target(&mock), &chat()).await);
    }
    let report = ProbeReport::from(all.as_slice());
    assert_eq!(report.success_rate, Some(0.75));
    assert_eq!(report.outcomes["server_error"], 2);
}
