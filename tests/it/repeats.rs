//! What is repeated, where, and what follows from what no client saw.

use super::support::haproxy::binaries;
use super::support::http::{Connection, Request, get, post};
use super::support::stage::{SERVERS, Stage, swapped};
use super::support::{PATIENCE, pause, wait_for};
use hapilot::mock::{Fault, FaultKind};
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"mock-small","messages":[{"role":"user","content":"hello"}]}"#;
const STREAM: &str = r#"{"model":"mock-small","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;

/// It befalls completions; the list of models goes on being fine.
fn of_completions(fault: Fault) -> Fault {
    Fault { path: Some(CHAT.to_owned()), ..fault }
}

fn no_checks(text: String) -> String {
    swapped(&text, "interval = \"500ms\"\nfall     = 2", "interval = \"1h\"\nfall     = 100")
}

/// `a` alone is tier 1.
fn lone_first(text: String) -> String {
    ["b", "c"].iter().fold(text, |text, server| {
        swapped(&text, &format!("weight = 100 # {server}"), &format!("weight = 100 # {server}\ntier = 2"))
    })
}

#[test]
fn a_lone_server_of_tier_1_is_repeated_at_tier_2_and_gets_all_while_it_is_well() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| lone_first(no_checks(text)));
        let served_by = || {
            let reply = post(&stage.address, CHAT, BODY).expect("an answer");
            let server = reply.header("x-served-by").unwrap_or_default().to_owned();
            (reply.status, server)
        };
        let version = &binary.version;
        for _ in 0..6 {
            assert_eq!(served_by(), (200, "chat/a".to_owned()), "{version}");
        }
        // Whoever is taken out gets nothing, by each of the ways.
        for words in [["drain", "chat/a"], ["maint", "chat/a"]] {
            stage.done(&["server", words[0], words[1]]);
            for _ in 0..4 {
                let (status, server) = served_by();
                assert!(status == 200 && server != "chat/a", "{version} {words:?}: {status} {server}");
            }
            stage.done(&["server", "ready", "chat/a"]);
            wait_for("its traffic", PATIENCE, || (served_by().1 == "chat/a").then_some(()));
        }
        stage.break_mock("a", vec![of_completions(Fault::status(500))]);
        for _ in 0..12 {
            let (status, server) = served_by();
            assert!(status == 200 && server != "chat/a", "{version}: {status} {server}");
        }
    }
}

#[test]
fn a_stream_that_begins_with_an_error_is_a_whole_503_and_others_flow_as_they_come() {
    for binary in binaries().into_iter().filter(|binary| binary.version.at_least(3, 0)) {
        let stage = Stage::with_haproxy(&binary, no_checks);
        let version = &binary.version;
        for server in SERVERS {
            stage.break_mock(server, vec![of_completions(Fault::new(FaultKind::ErrorEvent))]);
        }
        let reply = post(&stage.address, CHAT, STREAM).expect("an answer");
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{version}");
        assert_eq!(reply.json()["error"]["code"], "stream_error", "{version}");
        // Of a good one the pieces come one by one.
        for server in SERVERS {
            let paced = Fault { rate: Some(5.0), ..Fault::new(FaultKind::Rate) };
            stage.break_mock(server, vec![of_completions(paced)]);
        }
        let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
        let mut stream = connection.stream(&Request::post(CHAT, STREAM)).expect("a stream");
        let begun = Instant::now();
        let mut times = vec![];
        while let Some(_piece) = stream.next_piece().expect("a piece") {
            times.push(begun.elapsed());
            if times.len() == 4 {
                break;
            }
        }
        let spread = times[3] - times[0];
        assert!(spread > Duration::from_millis(300), "{version}: they came together: {times:?}");
    }
}

#[test]
fn a_path_that_answers_403_costs_no_server_and_no_key_and_is_asked_once() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        for server in SERVERS {
            let forbidden = |code| Fault { path: Some(format!("/v1/forbidden-{code}")), ..Fault::status(code) };
            stage.break_mock(server, vec![forbidden(401), forbidden(403)]);
        }
        let version = &binary.version;
        for number in 0..60 {
            let code = if number % 2 == 0 { 401 } else { 403 };
            let reply = get(&stage.address, &format!("/v1/forbidden-{code}")).expect("an answer");
            assert_eq!(reply.status, code, "{version}");
        }
        // Longer than what is heard needs to take effect.
        pause(Duration::from_secs(2));
        for server in SERVERS {
            let status = stage.server_status(server);
            assert_eq!(
                (&status["health"], &status["keys"][0]["state"]),
                (&"healthy".into(), &"in_service".into()),
                "{version} {status}"
            );
            assert_eq!(stage.weight(server), 100, "{version} {server}");
        }
        let stat = hapilot::haproxy::parse_stat(&stage.private().admin("show stat -1 4 -1")).expect("counters");
        let repeated: u64 = SERVERS.iter().map(|server| stat[&("chat".to_owned(), (*server).to_owned())].retries).sum();
        assert_eq!(repeated, 0, "{version}");
    }
}

/// The free probe goes on being fine; what clients ask for does not.
#[test]
fn a_limit_that_a_repeat_hides_takes_the_server_out_after_a_few_requests() {
    for binary in binaries() {
        for (name, fault) in [
            ("429", Fault { retry_after: Some("20".to_owned()), ..Fault::status(429) }),
            ("quota", Fault::new(FaultKind::InsufficientQuota)),
            ("401", Fault::new(FaultKind::InvalidApiKey)),
        ] {
            // 2.6 repeats no 429, and knows nothing of a 401 that it repeats.
            let is_old = !binary.version.at_least(3, 0);
            let stage = Stage::running(&binary, |text| text);
            let b = || stage.state("chat", "b", "srv_uweight");
            stage.break_mock("b", vec![of_completions(fault)]);
            let (mut asked, mut failed) = (0, 0);
            while b() != "0" {
                assert!(asked < 60, "{} {name}: b keeps its weight", binary.version);
                failed += u32::from(post(&stage.address, CHAT, BODY).expect("an answer").status != 200);
                asked += 1;
                pause(Duration::from_millis(50));
            }
            println!("{} {name}: out after {asked} requests, {failed} failed", binary.version);
            assert!(failed == 0 || is_old, "{} {name}: {failed}", binary.version);
            // A third of them were b's.
            assert!(asked <= 15 || is_old, "{} {name}: {asked}", binary.version);
        }
    }
}

/// A pool that is never idle, as real ones are; nobody touches its weights.
#[test]
fn a_server_that_failed_gets_its_share_again_while_the_others_stay_busy() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| {
            let text = swapped(&text, "balance  = \"roundrobin\"", "balance = \"leastconn\"");
            no_checks(swapped(&text, "[haproxy]\n", "[haproxy]\nlive = false\n"))
        });
        let version = &binary.version;
        let slow = Fault { delay_ms: Some(200), ..Fault::new(FaultKind::FirstToken) };
        let hidden = Fault { count: Some(6), ..Fault::status(503) };
        for server in SERVERS {
            let faults = if server == "b" {
                vec![of_completions(hidden.clone()), of_completions(slow.clone())]
            } else {
                vec![of_completions(slow.clone())]
            };
            stage.break_mock(server, faults);
        }
        // Clients one after the other, each with its next request as soon as it has an answer: somebody always waits.
        let served: Vec<String> = std::thread::scope(|scope| {
            let client = |number: u32| {
                pause(Duration::from_millis(33) * number);
                let served = (0..12).map(|_| post(&stage.address, CHAT, BODY).expect("an answer"));
                served.map(|reply| reply.header("x-served-by").unwrap_or_default().to_owned()).collect::<Vec<_>>()
            };
            let clients: Vec<_> = (0..6).map(|number| scope.spawn(move || client(number))).collect();
            clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
        });
        for server in SERVERS {
            let name = format!("chat/{server}");
            let count = served.iter().filter(|by| **by == name).count();
            assert!((12..=40).contains(&count), "{version}: {server} served {count} of {}", served.len());
        }
    }
}

/// More words of the operator's own than one rule can look for.
#[test]
fn each_word_of_a_long_list_is_looked_for_in_what_a_repeat_hides() {
    for binary in binaries().into_iter().filter(|binary| binary.version.at_least(3, 0)) {
        let words: Vec<String> = (0..70).map(|number| format!("\"house word {number}.\"")).collect();
        let stage = Stage::running(&binary, |text| {
            let text = swapped(&text, "provider = \"openai\"\nbalance", "provider = \"house\"\nbalance");
            let words = words.join(", ");
            format!("{text}\n[provider.house]\nlike = \"openai\"\n[provider.house.errors]\naccount = [{words}]\n")
        });
        let body = r#"{"error":{"message":"House word 69.","type":"limit","code":null}}"#;
        stage.break_mock("b", vec![of_completions(Fault { body: Some(body.to_owned()), ..Fault::status(429) })]);
        wait_for("the account's end", PATIENCE, || {
            let reply = post(&stage.address, CHAT, BODY).expect("an answer");
            assert_eq!(reply.status, 200, "{}", binary.version);
            let status = stage.server_status("b");
            status["factors"].to_string().contains("unhealthy(credential)").then_some(())
        });
    }
}

#[test]
fn a_request_that_no_server_can_answer_takes_no_server_out_when_it_is_sent_again_and_again() {
    // 2.6 does not tell which server a repeat was at, nor what it answered.
    for binary in binaries().into_iter().filter(|binary| binary.version.major >= 3) {
        let stage = Stage::running(&binary, |text| text);
        for code in [500, 502] {
            SERVERS.iter().for_each(|server| stage.break_mock(server, vec![of_completions(Fault::status(code))]));
            for _ in 0..6 {
                let answer = post(&stage.address, CHAT, BODY).expect("an answer");
                assert_eq!(answer.status, code, "{}", binary.version);
            }
            SERVERS.iter().for_each(|server| stage.mend_mock(server));
            let told = wait_for("all to be heard", PATIENCE, || {
                let told: Vec<_> = SERVERS.iter().map(|server| stage.server_status(server)).collect();
                let heard =
                    |server: &serde_json::Value| server["live"]["outcomes"]["server_error"].as_u64().unwrap_or(0);
                (told.iter().map(heard).sum::<u64>() >= 6).then_some(told)
            });
            for server in told {
                assert_eq!(server["health"], "healthy", "{}: {server}", binary.version);
            }
        }
    }
}

#[test]
fn an_answer_that_is_no_http_is_repeated_like_any_failure() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        for kind in [FaultKind::Garbage, FaultKind::ManyHeaders, FaultKind::TwoLengths] {
            stage.break_mock("a", vec![of_completions(Fault::new(kind))]);
            for _ in 0..6 {
                let answer = post(&stage.address, CHAT, BODY).expect("an answer");
                assert_eq!(answer.status, 200, "{}: {kind:?}", binary.version);
            }
            stage.mend_mock("a");
        }
    }
}
