//! The adapter against every HAProxy that `HAPILOT_TEST_HAPROXY` names.

use crate::private_haproxy::{LONG, PrivateHaproxy};
use crate::support::haproxy::binaries;
use crate::support::pause;
use crate::support::port::free_port;
use hapilot::haproxy::{
    AdminError, Listener, Question, Sockets, binary_version, check, counters, execute, observe, processes,
    prove_reload, reload,
};
use hapilot::model::{AdminState, Weight};
use hapilot::plan::{Runtime, Step};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const BACKEND: &str = "  default_backend be\nbackend be\n  balance leastconn\n  server s1 127.0.0.1:9001 weight 10\n  \
                       server s2 127.0.0.1:9002 weight 20 disabled\n";

async fn runtime(haproxy: &PrivateHaproxy) -> Runtime {
    let observed = observe(&haproxy.admin(), Some(&haproxy.master()), &[haproxy.map(), "missing".into()], true).await;
    observed.unwrap().expect("it runs")
}

/// A bind of a configuration without hapilot's answers.
fn listener(port: u16) -> Listener {
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    Listener { proxy: "f".into(), address, question: Question::Accepts("a test"), may_hang_up: false }
}

fn state(server: &str, to: AdminState) -> Step {
    Step::SetState { proxy: "be".into(), server: server.into(), from: AdminState::Ready, to }
}

fn weight(server: &str, to: u16) -> Step {
    let to = Weight::new(to).unwrap();
    Step::SetWeight { proxy: "be".into(), server: server.into(), from: Weight::ZERO, to }
}

fn address(server: &str, to: &str, port: u16) -> Step {
    Step::SetAddress { proxy: "be".into(), server: server.into(), from: String::new(), to: to.parse().unwrap(), port }
}

fn map(haproxy: &PrivateHaproxy, entries: Vec<(String, String)>) -> Step {
    Step::ReplaceMap { map: haproxy.map(), from_entries: 0, entries, is_secret: false }
}

fn server<'a>(runtime: &'a Runtime, name: &str) -> &'a hapilot::plan::RuntimeServer {
    &runtime.servers[&("be".to_owned(), name.to_owned())]
}

#[tokio::test]
async fn steps_change_what_is_observed_and_failures_come_in_haproxys_words() {
    for binary in binaries() {
        let haproxy = PrivateHaproxy::start(&binary, BACKEND);
        let before = runtime(&haproxy).await;
        assert_eq!(before.version, binary_version(binary.utf8_path()).await.unwrap());
        assert_eq!(before.description.as_deref(), Some("hapilot first"));
        assert_eq!(server(&before, "s2").admin, AdminState::Maint);
        assert_eq!(before.maps, [(haproxy.map(), std::sync::Arc::new(vec![("a".to_owned(), "1".to_owned())]))].into());
        assert_eq!(before.master.as_ref().unwrap().reloads, 0);

        let steps = [
            state("s1", AdminState::Drain),
            weight("s1", 77),
            weight("nobody", 1),
            address("s1", "2001:db8::7", 8443),
            state("s2", AdminState::Ready),
            address("s2", "127.0.0.1", 9002),
            address("nobody", "127.0.0.9", 1),
            state("nobody", AdminState::Ready),
            weight("s2", 256),
        ];
        let executed = execute(&haproxy.admin(), &steps, None, LONG).await.unwrap();
        assert_eq!((executed.pid, executed.done), (before.pid, 6));
        let failures: Vec<String> = executed.failures.iter().map(ToString::to_string).collect();
        assert_eq!(
            failures,
            [
                "weight be/nobody 0 → 1: No such server.",
                "address be/nobody  → 127.0.0.9:1: No such server.",
                "state be/nobody ready → ready: not sent, because the server's address could not be set",
            ],
            "{binary:?}"
        );
        // 3.0 and newer set an address a moment after the answer.
        let until = Instant::now() + LONG;
        let after = loop {
            let now = runtime(&haproxy).await;
            if server(&now, "s1").port == 8443 || Instant::now() > until {
                break now;
            }
        };
        let (s1, s2) = (server(&after, "s1"), server(&after, "s2"));
        assert_eq!((s1.admin, s1.weight.get(), s1.address.as_str()), (AdminState::Drain, 77, "2001:db8::7"));
        // `disabled` in the file is no longer what counts.
        assert_eq!((s2.admin, s2.weight.get(), s2.port), (AdminState::Ready, 256, 9002), "{binary:?}");

        let counted = counters(&haproxy.admin(), LONG).await.unwrap();
        assert_eq!(counted.len(), 2);
        assert_eq!(counted[&("be".to_owned(), "s1".to_owned())].requests, 0);
    }
}

#[tokio::test]
async fn limits_are_set_and_taken_away_and_the_process_goes_up_to_where_it_began() {
    let limit = |server: &str, to| Step::SetMaxconn { proxy: "be".into(), server: server.into(), from: 0, to };
    let process = |to| Step::SetProcessMaxconn { from: 0, to };
    for binary in binaries() {
        let haproxy = PrivateHaproxy::start(&binary, &BACKEND.replace("weight 20", "weight 20 maxconn 30"));
        let seen = async || {
            let now = runtime(&haproxy).await;
            (server(&now, "s1").maxconn, server(&now, "s2").maxconn, now.maxconn, now.most_maxconn)
        };
        let most = seen().await.3;
        assert_eq!(seen().await, (0, 30, most, most), "{binary:?}");
        let steps = [limit("s1", 50), limit("s2", 0), process(most / 2)];
        assert_eq!(execute(&haproxy.admin(), &steps, None, LONG).await.unwrap().done, 3);
        assert_eq!(seen().await, (50, 0, most / 2, most), "{binary:?}");
        let steps = [limit("nobody", 1), process(most + 1), process(most)];
        let failures = execute(&haproxy.admin(), &steps, None, LONG).await.unwrap().failures;
        assert_eq!(
            failures.iter().map(|failure| failure.reason.as_str()).collect::<Vec<_>>(),
            ["No such server.", "Value out of range."],
            "{binary:?}"
        );
        assert_eq!(seen().await, (50, 0, most, most), "{binary:?}");
        // Nobody asked: nothing is said.
        let unasked = observe(&haproxy.admin(), None, &[], false).await.unwrap().expect("it runs");
        assert_eq!(server(&unasked, "s1").maxconn, 0);
    }
}

#[tokio::test]
async fn any_map_goes_there_and_comes_back() {
    for binary in binaries() {
        let haproxy = PrivateHaproxy::start(&binary, BACKEND);
        let key = proptest::string::string_regex("[a-zA-Z0-9\\\\;<>+\"'$%*|^~/é@=][!-~é]{0,40}").unwrap();
        let value = proptest::string::string_regex("([!-~é][ -~\té]{0,60})?").unwrap();
        let entries = proptest::collection::vec((key, value), 0..40);
        let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(Config::with_cases(60), seed);
        for _ in 0..60 {
            let entries = entries.new_tree(&mut runner).unwrap().current();
            let step = map(&haproxy, entries.clone());
            let executed = execute(&haproxy.admin(), &[step], None, LONG).await.unwrap();
            assert_eq!(executed.failures, [], "{binary:?} {entries:?}");
            assert_eq!(*runtime(&haproxy).await.maps[&haproxy.map()], entries, "{binary:?}");
        }
    }
}

#[tokio::test]
async fn a_large_map_is_replaced_whole_and_a_refused_one_leaves_the_old() {
    for binary in binaries() {
        let haproxy = PrivateHaproxy::start(&binary, BACKEND);
        let large: Vec<_> = (0..20_000).map(|i| (format!("client-{i:064}"), format!("plan {i}"))).collect();
        let executed = execute(&haproxy.admin(), &[map(&haproxy, large.clone())], None, LONG).await.unwrap();
        assert_eq!(executed.failures, [], "{binary:?}");
        assert_eq!(*runtime(&haproxy).await.maps[&haproxy.map()], large);

        let refused = vec![("fine".to_owned(), "1".to_owned()), ("not fine".to_owned(), "sk-secret".to_owned())];
        let missing = Step::ReplaceMap { map: "nope".into(), from_entries: 0, entries: large.clone(), is_secret: true };
        let steps = [map(&haproxy, refused), missing, weight("s1", 5)];
        let executed = execute(&haproxy.admin(), &steps, None, LONG).await.unwrap();
        assert_eq!((executed.done, executed.failures.len()), (1, 2));
        assert!(!format!("{executed:?}").contains("sk-secret"));
        assert!(executed.failures[1].reason.contains("Unknown map identifier"), "{executed:?}");
        assert_eq!(runtime(&haproxy).await.maps[&haproxy.map()].len(), large.len());
        // `show map` of a version that was never committed would be a leak.
        let longest = vec![("k".to_owned(), "v".repeat(11_600))];
        let executed = execute(&haproxy.admin(), &[map(&haproxy, longest.clone())], None, LONG).await.unwrap();
        assert_eq!(executed.failures, [], "{binary:?}");
        assert_eq!(*runtime(&haproxy).await.maps[&haproxy.map()], longest);
    }
}

#[tokio::test]
async fn a_reload_is_proven_and_a_failed_one_is_told() {
    for binary in binaries() {
        let haproxy = PrivateHaproxy::start(&binary, BACKEND);
        let (admin, master) = (haproxy.admin(), haproxy.master());
        let sockets = Sockets { admin: &admin, master: Some(&master) };
        let binds = [listener(haproxy.port)];
        let before = runtime(&haproxy).await;

        haproxy.configure("hapilot second", BACKEND);
        let report = reload(&master, before.version, LONG).await.unwrap();
        assert!(report.ok, "{binary:?} {report:?}");
        prove_reload(sockets, &before, "hapilot second", &binds, LONG).await.unwrap();
        let after = observe(sockets.admin, sockets.master, &[], false).await.unwrap().unwrap();
        assert_ne!(after.pid, before.pid);
        assert_eq!(after.master.as_ref().unwrap().reloads, 1);

        let unproven = prove_reload(sockets, &after, "hapilot third", &binds, Duration::from_millis(200)).await;
        let text = unproven.unwrap_err().to_string();
        assert!(text.contains("still the one from before") && text.contains("hapilot third"), "{text}");

        haproxy.configure("hapilot third", &format!("{BACKEND}  bogus\n"));
        let verdict = check(binary.utf8_path(), &haproxy.directory.join("haproxy.cfg"), &[], LONG).await.unwrap();
        assert!(!verdict.ok && verdict.stderr.contains("bogus"), "{verdict:?}");
        let report = reload(&master, before.version, LONG).await.unwrap();
        assert!(!report.ok, "{binary:?} {report:?}");
        assert_eq!(report.log.contains("bogus"), before.version.at_least(2, 7), "{binary:?} {report:?}");
        let unproven = prove_reload(sockets, &after, "hapilot third", &binds, Duration::from_millis(200)).await;
        assert!(unproven.unwrap_err().to_string().contains("1 failed reloads"));
        let still = runtime(&haproxy).await;
        assert_eq!(still.pid, after.pid);
        assert_eq!(
            still.master.unwrap().old_workers,
            [] as [u32; 0],
            "{binary:?}: the serving worker is not an old one"
        );

        haproxy.configure("hapilot fourth", BACKEND);
        assert!(reload(&master, before.version, LONG).await.unwrap().ok);
        prove_reload(sockets, &after, "hapilot fourth", &binds, LONG).await.unwrap();
        assert_eq!(processes(&master, LONG).await.unwrap().workers.len(), 1);
    }
}

#[tokio::test]
async fn a_reload_just_after_somebody_elses_waits_for_it() {
    for binary in binaries() {
        let haproxy = PrivateHaproxy::start(&binary, BACKEND);
        let (master, version) = (haproxy.master(), runtime(&haproxy).await.version);
        for round in 0..10 {
            let before = processes(&master, LONG).await.unwrap().master.reloads;
            let mut strange = std::os::unix::net::UnixStream::connect(&master).unwrap();
            std::io::Write::write_all(&mut strange, b"reload\n").unwrap();
            pause(Duration::from_millis(6 * round));
            let report = reload(&master, version, LONG).await.unwrap();
            assert!(report.ok, "{binary:?} round {round}: {report:?}");
            let after = processes(&master, LONG).await.unwrap().master.reloads;
            assert!(after > before, "{binary:?} round {round}: {before} {after}");
        }
    }
}

#[tokio::test]
async fn an_old_worker_that_lives_on_is_listed_and_not_talked_to() {
    for binary in binaries() {
        let haproxy = PrivateHaproxy::start(&binary, BACKEND);
        let before = runtime(&haproxy).await;
        let _stream = tokio::net::TcpStream::connect(("127.0.0.1", haproxy.port)).await.unwrap();
        // An open session on the admin socket keeps the old worker alive.
        let admin = tokio::net::UnixStream::connect(haproxy.admin().as_std_path()).await.unwrap();
        admin.writable().await.unwrap();
        admin.try_write(b"prompt\n").unwrap();
        admin.readable().await.unwrap();
        assert!(reload(&haproxy.master(), before.version, LONG).await.unwrap().ok);
        let (admin, master) = (haproxy.admin(), haproxy.master());
        let sockets = Sockets { admin: &admin, master: Some(&master) };
        prove_reload(sockets, &before, "hapilot first", &[], LONG).await.unwrap();
        let after = observe(sockets.admin, sockets.master, &[], false).await.unwrap().unwrap();
        assert_eq!(after.master.unwrap().old_workers, [before.pid], "{binary:?}");
    }
}

#[tokio::test]
async fn nobody_there_no_permission_and_no_answer_are_told_apart() {
    let held = tempfile::tempdir().unwrap();
    let path = camino::Utf8Path::from_path(held.path()).unwrap().join("s.sock");
    assert!(observe(&path, None, &[], true).await.unwrap().is_none());
    let silent = tokio::net::UnixListener::bind(path.as_std_path()).unwrap();
    let failed = execute(&path, &[weight("s1", 1)], None, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(failed.source, AdminError::Deadline { .. }), "{failed:?}");
    drop(silent);
    assert!(observe(&path, None, &[], true).await.unwrap().is_none());
}

#[tokio::test]
async fn a_burst_costs_little_more_than_the_bare_writes() {
    const SERVERS: usize = 5000;
    let Some(binary) = binaries().into_iter().next() else { return };
    let mut text = "  default_backend be\nbackend be\n  balance roundrobin\n".to_owned();
    for i in 0..SERVERS {
        writeln!(text, "  server s{i} 127.0.0.1:{} weight 10", 1 + i).unwrap();
    }
    let haproxy = PrivateHaproxy::start(&binary, &text);
    let mut bare_times = Vec::new();
    let mut our_times = Vec::new();
    for round in 1..=5u16 {
        let steps: Vec<Step> = (0..SERVERS).map(|i| weight(&format!("s{i}"), 10 + round)).collect();
        let begun = Instant::now();
        let executed = execute(&haproxy.admin(), &steps, None, LONG).await.unwrap();
        our_times.push(begun.elapsed());
        assert_eq!((executed.done, executed.failures.len()), (SERVERS, 0));
        let commands: String = (0..SERVERS).map(|i| format!("set server be/s{i} weight {}\n", 50 + round)).collect();
        let begun = Instant::now();
        bare(&haproxy, &commands).await;
        bare_times.push(begun.elapsed());
    }
    let begun = Instant::now();
    let observed = runtime(&haproxy).await;
    let observing = begun.elapsed();
    assert_eq!(observed.servers.len(), SERVERS);
    assert!(observed.servers.iter().all(|(.., found)| found.weight.get() == 55));
    our_times.sort();
    bare_times.sort();
    eprintln!("{SERVERS} weights: ours {our_times:?}, bare {bare_times:?}; observe {observing:?}");
    // The ratio is a benchmark's business; this only catches a round trip per step.
    assert!(our_times[2] < bare_times[2] * 10, "ours {our_times:?}, bare {bare_times:?}");
}

/// Writes everything and reads until HAProxy hangs up.
async fn bare(haproxy: &PrivateHaproxy, commands: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(haproxy.admin().as_std_path()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let wire = format!("prompt\n{commands}quit\n");
    let mut bytes = Vec::new();
    let (written, read) = tokio::join!(writer.write_all(wire.as_bytes()), reader.read_to_end(&mut bytes));
    written.unwrap();
    read.unwrap();
}

#[tokio::test]
async fn a_bind_that_nobody_serves_leaves_a_reload_unproven() {
    let Some(binary) = binaries().into_iter().next() else { return };
    let haproxy = PrivateHaproxy::start(&binary, BACKEND);
    let mut before = runtime(&haproxy).await;
    before.pid = 0;
    let (admin, closed) = (haproxy.admin(), listener(free_port()));
    let sockets = Sockets { admin: &admin, master: None };
    let proven = prove_reload(sockets, &before, "hapilot first", &[closed], Duration::from_millis(200)).await;
    assert!(proven.unwrap_err().to_string().contains("takes no connection"));
}

/// Answers every connection with these bytes, reading once before them and once behind the second prompt, and hangs up.
async fn parrot(socket: &camino::Utf8Path, bytes: &'static str) -> tokio::task::JoinHandle<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::UnixListener::bind(socket.as_std_path()).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let _ = stream.read(&mut asked).await;
            for (number, part) in bytes.split_inclusive("> ").enumerate() {
                let _ = stream.write_all(part.as_bytes()).await;
                if number == 1 {
                    let _ = stream.read(&mut asked).await;
                }
            }
        }
    })
}

#[tokio::test]
async fn a_stopping_worker_and_a_reply_without_its_end_are_errors() {
    let held = tempfile::tempdir().unwrap();
    let dir = camino::Utf8Path::from_path(held.path()).unwrap();
    let stopping = "\n> Version: 3.2.1\nPid: 7\nUptime_sec: 1\nMaxconn: 9\nHard_maxconn: 9\nStopping: 1\n\n> ";
    let old = parrot(&dir.join("old"), stopping).await;
    let failed = execute(&dir.join("old"), &[weight("s1", 1)], None, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(failed.source, AdminError::Stopping { pid: 7, .. }), "{failed:?}");
    old.abort();

    let cut = "\n> Version: 3.2.1\nPid: 7\nUptime_sec: 1\nMaxconn: 9\nHard_maxconn: 9\nStopping: 0\n\n> \n> \n";
    let cut_off = parrot(&dir.join("cut"), cut).await;
    let failed = execute(&dir.join("cut"), &[weight("s1", 1), weight("s2", 1)], None, LONG).await.unwrap_err();
    assert!(matches!(failed.source, AdminError::Truncated { answered: 1, asked: 2, .. }), "{failed:?}");
    cut_off.abort();

    let closed = parrot(&dir.join("closed"), "").await;
    let failed = observe(&dir.join("closed"), None, &[], true).await.unwrap_err();
    assert!(matches!(failed, AdminError::Truncated { answered: 0, .. }), "{failed:?}");
    closed.abort();
}
