//! What HAProxy tells of real requests arrives as the right word on the right server, and nothing is lost on the way.

use super::support::haproxy::{Binary, binaries};
use super::support::http::{Connection, Request};
use super::support::load::Load;
use super::support::stage::{SERVERS, Stage, swapped};
use super::support::{PATIENCE, pause, wait_for, write};
use camino::Utf8PathBuf;
use hapilot::agent::{Batch, TrafficListener, Unanswered};
use hapilot::health::{Count, LiveSample, Outcome, Phase};
use hapilot::mock::{Fault, FaultKind};
use hapilot::sys::epoch::Epoch;
use hapilot::usage::SharedLedger;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;

/// A listener at the stage's HAProxy; no agent runs, so that nobody but the test moves weights.
pub(super) struct Ear {
    listening: TrafficListener,
    batches: Receiver<Batch>,
    samples: BTreeMap<String, LiveSample>,
    // Last: the tasks run on it.
    _runtime: Runtime,
}

impl Ear {
    pub(super) fn at(stage: &Stage) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime for the listener");
        let socket = Utf8PathBuf::from_path_buf(stage.path("admin.sock")).expect("a path in UTF-8");
        let (listening, batches) = {
            let _entered = runtime.enter();
            TrafficListener::start(&socket, Epoch::begin(), Unanswered::default(), SharedLedger::default())
        };
        let ear = Self { listening, batches, samples: BTreeMap::new(), _runtime: runtime };
        ear.wait_for_workers(1);
        ear
    }

    fn wait_for_workers(&self, count: usize) {
        wait_for("the workers that are heard", PATIENCE, || (self.listening.stats().workers == count).then_some(()));
    }

    /// Takes in what came since the last call.
    fn hear(&mut self) {
        while let Ok(batch) = self.batches.try_recv() {
            for (id, sample) in batch.samples {
                let sum = self.samples.entry(id.to_string()).or_default();
                sample.outcomes.iter().for_each(|(outcome, n)| *sum.outcomes.entry(*outcome).or_default() += n);
                sample.repeated.iter().for_each(|(outcome, n)| *sum.repeated.entry(*outcome).or_default() += n);
                sum.hidden += sample.hidden;
                sum.retry_after = sum.retry_after.max(sample.retry_after);
                sum.first_byte = sum.first_byte.max(sample.first_byte);
                sum.in_flight = sample.in_flight;
            }
        }
    }

    /// Waits until a server's sum is as wanted.
    pub(super) fn wait(&mut self, what: &str, server: &str, mut is_it: impl FnMut(&LiveSample) -> bool) -> LiveSample {
        let begun = Instant::now();
        loop {
            self.hear();
            if let Some(sample) = self.samples.get(server).filter(|sample| is_it(sample)) {
                return sample.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what} of {server}: {:?}", self.samples);
            pause(Duration::from_millis(20));
        }
    }

    pub(super) fn count(&mut self, server: &str, outcome: Outcome) -> u32 {
        self.hear();
        self.samples.get(server).and_then(|sample| sample.outcomes.get(&outcome)).copied().unwrap_or(0)
    }

    fn lines(&self) -> u64 {
        self.listening.stats().lines
    }
}

/// One server takes all: what it does is not hidden by another one.
pub(super) fn alone(text: String, server: &str) -> String {
    SERVERS.iter().filter(|other| **other != server).fold(text, |text, other| {
        swapped(&text, &format!("state = \"ready\" # {other}"), &format!("state = \"maint\" # {other}"))
    })
}

pub(super) fn no_checks(text: String) -> String {
    // What the mock does to clients must not take it out.
    swapped(&text, "interval = \"500ms\"\nfall     = 2", "interval = \"1h\"\nfall     = 100")
}

/// Attempts that no client saw, known or not.
fn repeated(sample: &LiveSample) -> u32 {
    sample.repeated.values().sum::<u32>() + sample.hidden
}

fn ask(stage: &Stage, path: &str) -> Option<u16> {
    let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
    connection.send(&Request::get(path)).ok().map(|reply| reply.status)
}

fn stream() -> Request {
    let body = r#"{"model":"mock-small","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    Request::post("/v1/chat/completions", body)
}

fn retry_after(code: u16, seconds: &str) -> Fault {
    Fault { retry_after: Some(seconds.to_owned()), ..Fault::status(code) }
}

#[test]
fn each_end_of_a_request_is_told_of_its_server() {
    for binary in binaries() {
        let short = |text: String| {
            swapped(
                &alone(no_checks(text), "b"),
                "timeout  = { connect = \"2s\", first_byte = \"10s\", idle = \"10s\" }",
                "timeout  = { connect = \"1s\", first_byte = \"1s\", idle = \"1s\" }",
            )
        };
        let stage = Stage::with_haproxy(&binary, short);
        let mut ear = Ear::at(&stage);
        let version = &binary.version;
        for (fault, status, outcome) in [
            (Fault::status(500), Some(500), Outcome::ServerError),
            (Fault::status(404), Some(404), Outcome::ProbeConfig),
            (Fault::status(422), Some(422), Outcome::ProbeConfig),
            (Fault::new(FaultKind::InvalidApiKey), Some(401), Outcome::Credential),
            (retry_after(429, "7"), Some(429), Outcome::RateLimited),
            (retry_after(503, "11"), Some(503), Outcome::Overloaded),
            (Fault::status(503), Some(503), Outcome::ServerError),
            (Fault::status(529), Some(529), Outcome::Overloaded),
            (Fault::new(FaultKind::Hang), Some(504), Outcome::Timeout(Phase::FirstToken)),
            (Fault::new(FaultKind::Reset), Some(502), Outcome::Reset),
            (Fault::new(FaultKind::Garbage), Some(502), Outcome::BadContent),
        ] {
            let before = ear.count("chat/b", outcome);
            stage.break_mock("b", vec![fault.clone()]);
            assert_eq!(ask(&stage, "/v1/models"), status, "{version} {fault:?}");
            let what = format!("{version} {outcome} by {:?}", fault.kind);
            ear.wait(&what, "chat/b", |sample| sample.outcomes.get(&outcome).copied().unwrap_or(0) == before + 1);
            if outcome == Outcome::RateLimited {
                assert_eq!(ear.samples["chat/b"].retry_after, Some(Duration::from_secs(7)), "{version}");
            }
        }
        assert_eq!(ear.samples["chat/b"].retry_after, Some(Duration::from_secs(11)), "{version}");
        assert_eq!(repeated(&ear.samples["chat/b"]), 0, "{version}");

        // 3.0 says of an answer that breaks off now and then that the client went away.
        let is_vague = binary.version.at_least(3, 0) && !binary.version.at_least(3, 2);
        for (fault, outcome) in [
            (Fault::new(FaultKind::Cut), Outcome::Reset),
            (Fault::new(FaultKind::ResetMidStream), Outcome::Reset),
            (Fault::new(FaultKind::Stall), Outcome::Timeout(Phase::Stall)),
        ] {
            let is_told =
                |outcome: &Outcome, wanted| *outcome == wanted || (is_vague && *outcome == Outcome::SelfCaused);
            let sum = |sample: &LiveSample| -> u32 {
                sample.outcomes.iter().filter(|(found, _)| is_told(found, outcome)).map(|(_, n)| n).sum()
            };
            ear.hear();
            let before = ear.samples.get("chat/b").map_or(0, sum);
            stage.break_mock("b", vec![fault.clone()]);
            let mut connection = Connection::open(&stage.address).expect("HAProxy accepts");
            // A body that is cut off is an error for a client, too.
            let reply = connection.send(&stream());
            assert!(reply.is_err(), "{version} {fault:?}: {reply:?}");
            let what = format!("{version} {outcome} by {:?}", fault.kind);
            ear.wait(&what, "chat/b", |sample| sum(sample) == before + 1);
        }

        stage.mend_mock("b");
        assert_eq!(ask(&stage, "/v1/models"), Some(200));
        let sample = ear.wait("a success", "chat/b", |sample| sample.outcomes.contains_key(&Outcome::Ok));
        assert!(sample.first_byte.is_some(), "{version}: {sample:?}");

        // Nobody listens: three attempts on the one server that there is, of which the last one is told by the line.
        stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
        assert_eq!(ask(&stage, "/v1/models"), Some(503));
        let sample = ear.wait("a refusal", "chat/b", |sample| {
            sample.outcomes.contains_key(&Outcome::Refused) && repeated(sample) == 2
        });
        assert_eq!(sample.outcomes[&Outcome::Refused], 1, "{version}");
        let stats = ear.listening.stats();
        assert_eq!((stats.malformed, stats.lost), (0, 0), "{version}");
    }
}

#[test]
fn an_attempt_that_nobody_saw_fail_is_told_of_the_server_where_it_failed() {
    for binary in binaries() {
        for fault in [FaultKind::Refuse, FaultKind::Reset] {
            let stage = Stage::with_haproxy(&binary, no_checks);
            let mut ear = Ear::at(&stage);
            stage.break_mock("b", vec![Fault::new(fault)]);
            let tally = Load::counted(&stage.address, "/v1/models", 4, 300).run();
            assert_eq!((tally.ok, tally.failed), (300, 0), "{} {tally:?}", binary.version);
            // Each of them came from the broken one, of which HAProxy knows.
            let stat = hapilot::haproxy::parse_stat(&stage.private().admin("show stat -1 4 -1")).expect("counters");
            let repeated = stat[&("chat".to_owned(), "b".to_owned())].redispatches;
            assert!(repeated >= 10, "{} {fault:?}: {repeated}", binary.version);
            let all = |sample: &LiveSample| u64::from(self::repeated(sample));
            let sample = ear.wait(&format!("{} {repeated} hidden failures", binary.version), "chat/b", |sample| {
                all(sample) >= repeated
            });
            assert_eq!(all(&sample), repeated, "{} {fault:?}", binary.version);
            assert!(sample.outcomes.is_empty(), "{} {fault:?}: {sample:?}", binary.version);
            // Where the version can tell, each has its class.
            let class = if fault == FaultKind::Refuse { Outcome::Refused } else { Outcome::Reset };
            let known = sample.repeated.get(&class).copied().unwrap_or(0);
            let expected = if binary.version.at_least(3, 0) { self::repeated(&sample) } else { 0 };
            assert_eq!(known, expected, "{} {fault:?}: {sample:?}", binary.version);
            let good = |ear: &mut Ear, server| ear.count(server, Outcome::Ok);
            wait_for("every line", PATIENCE, || {
                (good(&mut ear, "chat/a") + good(&mut ear, "chat/c") == 300).then_some(())
            });
            let others = self::repeated(&ear.samples["chat/a"]) + self::repeated(&ear.samples["chat/c"]);
            assert_eq!(others, 0, "{}", binary.version);
        }
    }
}

#[test]
fn a_client_that_breaks_its_own_request_says_nothing_of_a_server() {
    for binary in binaries() {
        let stage = Stage::with_haproxy(&binary, |text| alone(no_checks(text), "b"));
        let mut ear = Ear::at(&stage);
        let head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n";
        let good = "5\r\nhello\r\n";
        // Nonsense in the place of a chunk; an end that comes too early; a length that is left open, and the end of the connection.
        let broken = [
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n{good}"), "ZZZ\r\n"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n{good}"), "5\r\nhelloworld"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n{good}"), "fffffffffffffffffff\r\n"),
            (format!("{head}Content-Length: 400000\r\n\r\n{good}"), ""),
        ];
        let all = broken.len();
        for (begin, rest) in broken {
            let mut client = TcpStream::connect(&stage.address).expect("HAProxy accepts");
            client.write_all(begin.as_bytes()).expect("a part of a request");
            pause(Duration::from_millis(300));
            client.write_all(rest.as_bytes()).expect("another part");
            client.shutdown(std::net::Shutdown::Write).expect("an end");
            client.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
            let mut answer = vec![];
            // It may be an answer, or none.
            let _ = client.read_to_end(&mut answer);
        }
        wait_for("a line of each", PATIENCE, || (ear.lines() == all as u64).then_some(()));
        assert_eq!(ask(&stage, "/v1/models"), Some(200));
        let sample = ear.wait("the good one", "chat/b", |sample| sample.outcomes.contains_key(&Outcome::Ok));
        let failures: Vec<_> =
            sample.outcomes.iter().filter(|(outcome, _)| outcome.count() == Count::HardFailure).collect();
        assert!(failures.is_empty(), "{} {sample:?}", binary.version);
    }
}

#[test]
fn behind_a_hop_the_servers_own_end_is_told() {
    for binary in binaries() {
        // Two keys in one backend: each server is reached over a hop of its own.
        let two_keys = |stage_key: String| {
            let text = alone(no_checks(stage_key), "b");
            let text =
                swapped(&text, "connect = \"2s\", first_byte = \"10s\"", "connect = \"1s\", first_byte = \"2s\"");
            let a = text.lines().find(|line| line.ends_with("\"] # a")).expect("a's key").to_owned();
            swapped(&text, &a, "")
        };
        let stage = Stage::with_haproxy(&binary, two_keys);
        assert!(stage.read("haproxy.cfg").contains("listen chat:b"), "there are hops");
        let is_old = binary.version.major < 3;
        let mut ear = Ear::at(&stage);
        for (fault, status, outcome) in [
            (Fault::new(FaultKind::Refuse), Some(503), Outcome::Refused),
            (Fault::new(FaultKind::Reset), Some(502), Outcome::Reset),
            // 2.6 knows how its session ended only after it has answered: any 502 is a reset there.
            (Fault::new(FaultKind::Garbage), Some(502), if is_old { Outcome::Reset } else { Outcome::BadContent }),
            (Fault::status(503), Some(503), Outcome::ServerError),
            (retry_after(503, "5"), Some(503), Outcome::Overloaded),
        ] {
            stage.break_mock("b", vec![fault.clone()]);
            // The fault before may still have the last word.
            let what = format!("{} {status:?} by {:?}", binary.version, fault.kind);
            wait_for(&what, PATIENCE, || (ask(&stage, "/v1/models") == status).then_some(()));
            let what = format!("{} {outcome} by {:?}", binary.version, fault.kind);
            ear.wait(&what, "chat/b", |sample| sample.outcomes.contains_key(&outcome));
        }
        assert_eq!(ear.samples.keys().collect::<Vec<_>>(), ["chat/b"], "{}", binary.version);
    }
}

#[test]
fn nothing_is_lost_over_reloads_under_load_and_old_workers_are_heard_to_their_end() {
    for binary in binaries() {
        let stage = Stage::with_haproxy(&binary, no_checks);
        let mut ear = Ear::at(&stage);
        // A stream that outlives the reload.
        let mut long = TcpStream::connect(&stage.address).expect("HAProxy accepts");
        for server in SERVERS {
            let slow = Fault { delay_ms: Some(3000), ..Fault::new(FaultKind::FirstToken) };
            stage.break_mock(server, vec![Fault { path: Some("/v1/chat".to_owned()), ..slow }]);
        }
        let body = r#"{"model":"mock-small","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        long.write_all(head.as_bytes()).expect("a request");
        wait_for("the stream to be in flight", PATIENCE, || {
            ear.hear();
            (ear.samples.values().map(|sample| sample.in_flight).sum::<u32>() == 1).then_some(())
        });

        let load = stage.load(8).start();
        wait_for("requests before the reload", PATIENCE, || (load.begun() > 1000).then_some(()));
        assert!(stage.private().reload().succeeded);
        let begun = load.begun();
        wait_for("requests after the reload", PATIENCE, || (load.begun() > begun + 2000).then_some(()));
        let tally = load.stop();
        assert_eq!(tally.failed, 0, "{}: {tally:?}", binary.version);
        let mut answer = vec![];
        long.read_to_end(&mut answer).expect("the stream comes to its end");
        let ended = Instant::now();

        let sent = tally.ok + 1;
        wait_for("every line", PATIENCE, || (ear.lines() >= sent).then_some(()));
        ear.wait_for_workers(1);
        println!("{}: the old worker is left {} ms after its last stream", binary.version, ended.elapsed().as_millis());
        wait_for("the old worker's end", PATIENCE, || {
            let processes = stage.private().master("show proc");
            let workers = processes.lines().filter(|line| line.contains(" worker "));
            (workers.count() == 1).then_some(())
        });
        // Two rounds of looking for what is missing.
        pause(Duration::from_millis(2200));
        let stats = ear.listening.stats();
        assert_eq!((stats.lines, stats.lost, stats.malformed), (sent, 0, 0), "{}: {tally:?}", binary.version);
        wait_for("every sample", PATIENCE, || {
            let ok: u32 = ["chat/a", "chat/b", "chat/c"].iter().map(|server| ear.count(server, Outcome::Ok)).sum();
            (u64::from(ok) == sent).then_some(())
        });
        assert_eq!(ear.samples.values().map(repeated).sum::<u32>(), 0, "{}: {:?}", binary.version, ear.samples);
        // Counters are asked for later where the machine, and so the last answer, was slow.
        wait_for("the last request in flight", PATIENCE, || {
            ear.hear();
            (ear.samples.values().map(|sample| sample.in_flight).sum::<u32>() == 0).then_some(())
        });
    }
}

#[test]
fn a_listener_that_begins_late_tells_nothing_of_what_was_before() {
    for binary in binaries() {
        let mut stage = Stage::with_haproxy(&binary, no_checks);
        stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
        assert_eq!(Load::counted(&stage.address, "/v1/models", 4, 200).run().ok, 200);
        stage.mend_mock("b");
        let mut ear = Ear::at(&stage);
        assert_eq!(ask(&stage, "/v1/models"), Some(200));
        wait_for("one line", PATIENCE, || (ear.lines() == 1).then_some(()));
        ear.hear();
        assert!(ear.samples.values().all(|sample| repeated(sample) == 0), "{}: {:?}", binary.version, ear.samples);

        // HAProxy dies and comes back: the next worker is heard from its first line on.
        stage.end_haproxy();
        stage.start_haproxy();
        for _ in 0..20 {
            assert_eq!(ask(&stage, "/v1/models"), Some(200));
        }
        wait_for("the lines of the next one", PATIENCE, || (ear.lines() == 21).then_some(()));
        ear.wait_for_workers(1);
    }
}

#[test]
fn lines_that_a_stuck_reader_keeps_out_of_the_ring_are_counted_and_haproxy_serves_on() {
    for binary in binaries() {
        let mut stage = Stage::new(&binary);
        stage.write_file(&no_checks(stage.text()));
        stage.done(&["apply"]);
        // A smaller ring is full sooner.
        let text = swapped(&stage.read("haproxy.cfg"), "    size 4194304\n", "    size 65536\n");
        write(stage.path("haproxy.cfg"), text);
        stage.start_haproxy();
        let ear = Ear::at(&stage);
        // Somebody else's reader that does not read: HAProxy keeps what it has not had, and drops what is new.
        let mut stuck = std::os::unix::net::UnixStream::connect(stage.path("admin.sock")).expect("the admin socket");
        stuck.write_all(b"show events hapilot-live -w -n\n").expect("a question");
        pause(Duration::from_millis(200));
        // More than the ring, the socket and HAProxy's buffers hold.
        let tally = Load::counted(&stage.address, "/v1/models", 8, 6000).run();
        assert_eq!(tally.failed, 0, "{}: {tally:?}", binary.version);
        drop(stuck);
        wait_for("the lines that are missing", PATIENCE, || {
            // A later line has a later number: without one nobody knows.
            let _ = ask(&stage, "/v1/models");
            let stats = ear.listening.stats();
            (stats.lost > 0 && stats.lines + stats.lost >= tally.ok).then_some(())
        });
    }
}

#[test]
fn with_the_switch_off_nothing_of_it_is_in_the_file() {
    for binary in binaries() {
        let off = |text: String| swapped(&text, "threads       = 2", "threads       = 2\nlive          = false");
        let stage = Stage::with_haproxy(&binary, off);
        let text = stage.read("haproxy.cfg");
        for word in ["hapilot-live", "hapilot@0", "log-format", "x-hapilot-hop"] {
            assert!(!text.contains(word), "{word} in\n{text}");
        }
    }
}

/// A provider that tries to write a line of its own.
#[test]
fn a_retry_after_that_is_none_forges_nothing() {
    for binary in binaries() {
        let stage = Stage::with_haproxy(&binary, |text| alone(no_checks(text), "b"));
        let mut ear = Ear::at(&stage);
        let forged = "1\"] [hapilot@0 live=\"api 0 chat/a 500 -- 0 0 0 0 0 0 - - - - -\"]";
        let long = "9".repeat(5000);
        for value in [forged, "7\t7", &long, "-", "[hapilot@0 live=", "%[var(txn.x)]", "7;8"] {
            stage.break_mock("b", vec![retry_after(429, value)]);
            assert_eq!(ask(&stage, "/v1/models"), Some(429), "{} {value:?}", binary.version);
        }
        let path = "/v1/%22%5D[hapilot@0%20live=%22api?\"]";
        let _ = ask(&stage, path);
        ear.wait("the limits", "chat/b", |sample| sample.outcomes.get(&Outcome::RateLimited) >= Some(&7));
        assert_eq!(ear.samples.keys().collect::<Vec<_>>(), ["chat/b"], "{}", binary.version);
        assert_eq!(ear.samples["chat/b"].retry_after, None, "{}", binary.version);
        assert_eq!(ear.listening.stats().malformed, 0, "{}", binary.version);
    }
}

fn stage_with_log(binary: &Binary, log: &str) -> Stage {
    Stage::with_haproxy(binary, |text| {
        swapped(&no_checks(text), "log           = \"\"", &format!("log           = \"{log}\""))
    })
}

#[test]
fn beside_the_access_log_the_lines_are_the_same() {
    for binary in binaries() {
        let port = super::support::port::free_port();
        let collector = std::net::UdpSocket::bind(("127.0.0.1", port)).expect("a collector");
        collector.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let stage = stage_with_log(&binary, &format!("127.0.0.1:{port}"));
        let mut ear = Ear::at(&stage);
        assert_eq!(ask(&stage, "/v1/models?a=%22"), Some(200));
        wait_for("the line", PATIENCE, || (ear.lines() == 1).then_some(()));
        wait_for("the sample", PATIENCE, || {
            ear.hear();
            ear.samples.values().any(|sample| sample.outcomes.contains_key(&Outcome::Ok)).then_some(())
        });
        let mut buffer = vec![0; 9000];
        let text = loop {
            let length = collector.recv(&mut buffer).expect("the access log");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains("request_id") {
                break text;
            }
        };
        let json = &text[text.find('{').expect("an object")..];
        let json: serde_json::Value = serde_json::from_str(json.trim_end()).expect("the access log is JSON as before");
        assert_eq!(json["status"], 200);
        assert!(!text.contains("hapilot@0"), "{text}");
    }
}
