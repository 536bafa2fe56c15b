//! Servers that hang cost other backends nothing: their probes keep their pace.

use super::support::haproxy::binaries;
use super::support::process::Background;
use super::support::stage::Stage;
use super::support::{PATIENCE, pause, wait_for};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Servers that take a connection and say nothing; more than probes may be in flight.
const HANGING: usize = 400;
/// Descriptors that the agent may have: half of them are for probes.
const DESCRIPTORS: usize = 600;
/// How long the pace is looked at.
const WATCHED: Duration = Duration::from_secs(15);
/// The healthy server is asked each second; behind a queue it was asked each ten.
const LONGEST_GAP: Duration = Duration::from_secs(4);

/// A server that is well, and when it was probed.
fn healthy_server() -> (String, Arc<Mutex<Vec<Instant>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let list = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let mut stream = stream;
            let mut request = [0; 4096];
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let length = stream.read(&mut request).unwrap_or(0);
            if String::from_utf8_lossy(&request[..length]).contains("health probe") {
                list.lock().expect("nobody panics with it").push(Instant::now());
            }
            let body = r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
            let _ = stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n{body}").as_bytes());
        }
    });
    (address, asked)
}

#[test]
fn hundreds_of_hanging_servers_delay_no_other_backends_probes() {
    for binary in binaries().into_iter().rev().take(1) {
        // The kernel takes connections for it up to a queue's length, and then none: both hang.
        let silent = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = silent.local_addr().expect("an address").port();
        let (healthy, asked) = healthy_server();
        let mut more = format!(
            "\n[backend.well.check]\ninterval = \"1s\"\n[backend.well.server.w]\nurl = \"http://{healthy}/v1\"\n\
             [backend.hangs.check]\ninterval = \"1s\"\n"
        );
        for number in 0..HANGING {
            let (high, low) = (number / 200, number % 200 + 1);
            let _ = write!(more, "[backend.hangs.server.h{number}]\nurl = \"http://127.9.{high}.{low}:{port}/v1\"\n");
        }
        let stage = Stage::with_haproxy(&binary, |text| text + &more);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("ulimit -n {DESCRIPTORS}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_hapilot")]);
        command.arg("-c").arg(stage.file()).arg("run").env_remove("NOTIFY_SOCKET");
        let mut agent = Background::start(command);
        agent.wait_for_output("serving");
        let unhealthy = || {
            let said = agent.stderr();
            (said.matches("is out: health").count() >= HANGING / 4).then_some(())
        };
        wait_for("the hanging ones to be found out", PATIENCE * 3, unhealthy);
        let since = Instant::now();
        pause(WATCHED);
        let asked = asked.lock().expect("nobody panics with it");
        let times = asked.iter().copied().filter(|at| *at >= since).chain([Instant::now()]);
        let gaps = std::iter::once(since).chain(times.clone()).zip(times).map(|(earlier, later)| later - earlier);
        let longest = gaps.max().expect("it was probed");
        println!("{} probes, longest gap {longest:?}", asked.len());
        assert!(longest < LONGEST_GAP, "{longest:?}");
        assert!(!agent.stderr().contains("Too many open files"));
        drop(silent);
    }
}
