//! Weights set at runtime, beside a plain pipelined write of the same commands: `cargo bench --bench runtime_weights`.
//!
//! A private HAProxy for each binary that HAPILOT_TEST_HAPROXY names (separated by colons; default `haproxy`). The
//! reference is what a careful shell script would do on the same socket: one connection, all commands in one write,
//! reading meanwhile, without looking at the replies. Ours also asks which worker serves and judges each reply.

mod support;

use camino::{Utf8Path, Utf8PathBuf};
use hapilot::haproxy;
use hapilot::model::Weight;
use hapilot::plan::Step;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{PER_BACKEND, Pair, Turns, haproxies, ms};
use tempfile::TempDir;

const TURNS: usize = 31;
const DEADLINE: Duration = Duration::from_secs(20);

fn main() {
    println!("Weights set on a running HAProxy, medians of {TURNS} alternating runs:\n");
    println!(
        "{:>9} {:>8} {:>12} {:>10} {:>10} {:>7}",
        "HAProxy", "servers", "per backend", "hapilot", "plain", "ratio"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime, as the agent has it");
    for (binary, version) in haproxies() {
        for (servers, per_backend) in [(1_000, PER_BACKEND), (5_000, PER_BACKEND), (1_000, 1_000), (5_000, 5_000)] {
            let haproxy = Haproxy::start(&binary, servers, per_backend);
            let pair = measure(&runtime, &haproxy.socket, servers, per_backend);
            println!(
                "{:>9} {servers:>8} {per_backend:>12} {:>10} {:>10} {:>6.2}x",
                version.to_string(),
                ms(pair.subject),
                ms(pair.reference),
                pair.ratio
            );
        }
    }
}

/// A private HAProxy, one process in the foreground; dropped, it is killed and its directory deleted.
struct Haproxy {
    process: Child,
    socket: Utf8PathBuf,
    _dir: TempDir,
}

impl Haproxy {
    #[expect(clippy::disallowed_methods, reason = "a file that nobody else reads, and no runtime is blocked")]
    fn start(binary: &str, servers: usize, per_backend: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("hapilot-bench-").tempdir().expect("a directory for HAProxy");
        let socket = Utf8PathBuf::from_path_buf(dir.path().join("admin.sock")).expect("a path in UTF-8");
        let path = dir.path().join("haproxy.cfg");
        std::fs::write(&path, config(&socket, servers, per_backend)).expect("haproxy.cfg can be written");
        let mut command = Command::new(binary);
        command.arg("-db").arg("-f").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut haproxy = Self { process: command.spawn().expect("HAProxy starts"), socket, _dir: dir };
        let begun = Instant::now();
        while UnixStream::connect(&haproxy.socket).is_err() {
            let ended = haproxy.process.try_wait().expect("our own child can be asked");
            assert!(ended.is_none() && begun.elapsed() < DEADLINE, "HAProxy does not answer ({ended:?})");
            std::thread::sleep(Duration::from_millis(20));
        }
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn measure(runtime: &tokio::runtime::Runtime, socket: &Utf8Path, servers: usize, per_backend: usize) -> Pair {
    let mut turns = Turns::default();
    for turn in 0..TURNS {
        // Each write changes every weight: HAProxy has an easy time with what it has already.
        let steps = steps(servers, per_backend, weight(turn * 2));
        let commands = commands(servers, per_backend, weight(turn * 2 + 1));
        let by_hapilot = || {
            let begun = Instant::now();
            let executed =
                runtime.block_on(haproxy::execute(socket, &steps, None, DEADLINE)).expect("HAProxy takes them");
            let took = begun.elapsed();
            assert_eq!((executed.done, executed.failures.len()), (servers, 0));
            took
        };
        let by_hand = || {
            let begun = Instant::now();
            pipelined(socket, &commands, servers);
            begun.elapsed()
        };
        // Neither always goes first.
        if turn % 2 == 0 {
            let subject = by_hapilot();
            turns.add(subject, by_hand());
        } else {
            let reference = by_hand();
            turns.add(by_hapilot(), reference);
        }
    }
    turns.pair()
}

fn weight(turn: usize) -> u16 {
    u16::try_from(turn % 200).expect("below 200") + 20
}

fn config(socket: &Utf8Path, servers: usize, per_backend: usize) -> String {
    let mut text = format!(
        "global\n  stats socket {socket} mode 600 level admin\n  stats timeout 1m\n  nbthread 2\ndefaults\n  mode http\n  \
         timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n"
    );
    for number in 0..servers {
        if number % per_backend == 0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "backend b{}\n  balance roundrobin", number / per_backend);
        }
        let _ = writeln!(text, "  server s{number} 127.0.0.1:9 weight 100");
    }
    text
}

fn steps(servers: usize, per_backend: usize, to: u16) -> Vec<Step> {
    let step = |number| Step::SetWeight {
        proxy: format!("b{}", number / per_backend),
        server: format!("s{number}"),
        from: Weight::DEFAULT,
        to: Weight::new(to).expect("a weight"),
    };
    (0..servers).map(step).collect()
}

fn commands(servers: usize, per_backend: usize, to: u16) -> String {
    let line = |number| format!("set server b{}/s{number} weight {to}\n", number / per_backend);
    std::iter::once("prompt\n".to_owned()).chain((0..servers).map(line)).collect()
}

/// One connection, everything in one write, the replies counted by their prompts.
fn pipelined(socket: &Utf8Path, commands: &str, count: usize) {
    let mut reader = UnixStream::connect(socket).expect("the admin socket");
    let mut writer = reader.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(commands.as_bytes()).expect("HAProxy reads"));
        let mut buffer = vec![0; 64 << 10];
        let mut prompts = 0;
        while prompts < count + 1 {
            let length = reader.read(&mut buffer).expect("HAProxy answers");
            assert!(length > 0, "HAProxy hung up");
            prompts += buffer[..length].iter().filter(|byte| **byte == b'>').count();
        }
    });
}
