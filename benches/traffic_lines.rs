//! Reading HAProxy's lines, beside reading the same facts as JSON: `cargo bench --bench traffic_lines`.
//!
//! One core. Ours is the whole way from bytes in pieces to the sums of each server; the reference is `serde_json` with a
//! struct of the fields that we need, line by line, and nothing after it.

#[expect(dead_code, reason = "the other benches use the rest")]
mod support;

use hapilot::model::Moment;
use hapilot::traffic::{Split, Tally};
use serde::Deserialize;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};
use support::{Turns, ms};

const TURNS: usize = 31;
const LINES: usize = 50_000;
const SERVERS: usize = 100;
/// What the agent reads at once.
const PIECE: usize = 64 << 10;

/// The same facts, as the access log would tell them.
#[derive(Deserialize)]
struct Json<'a> {
    frontend: &'a str,
    backend: &'a str,
    server: &'a str,
    status: u16,
    state: &'a str,
    retries: &'a str,
    queue_ms: i64,
    connect_ms: i64,
    headers_ms: i64,
    total_ms: i64,
    bytes_out: u64,
}

fn main() {
    let (lines, json) = (lines(), json());
    let mut turns = Turns::default();
    for turn in 0..TURNS {
        let ours = || timed(|| read(&lines));
        let theirs = || timed(|| read_json(&json));
        // Neither always goes first.
        if turn % 2 == 0 {
            let subject = ours();
            turns.add(subject, theirs());
        } else {
            let reference = theirs();
            turns.add(ours(), reference);
        }
    }
    let pair = turns.pair();
    println!("{LINES} lines of {SERVERS} servers on one core, medians of {TURNS} alternating runs:\n");
    println!("{:>28} {:>10} {:>14}", "", "time", "lines/s");
    for (name, time) in [("lines to sums", pair.subject), ("JSON to a struct", pair.reference)] {
        println!("{name:>28} {:>10} {:>14.0}", ms(time), LINES as f64 / time.as_secs_f64());
    }
    println!("{:>28} {:>9.2}x", "ratio", pair.ratio);
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn read(text: &str) {
    let (mut tally, mut split) = (Tally::default(), Split::default());
    let worker = tally.begin_worker(true);
    let (now, today) = (Moment(Duration::from_secs(1)), SystemTime::now());
    for piece in text.as_bytes().chunks(PIECE) {
        split.feed(piece, |line| {
            tally.take_line(worker, line, now, today);
        });
    }
    let stats = tally.stats(now);
    assert_eq!((stats.lines, stats.malformed), (LINES as u64, 0));
    black_box(tally.take_samples());
}

fn read_json(text: &str) {
    let mut sum = 0;
    for line in text.lines() {
        let line: Json<'_> = serde_json::from_str(line).expect("our own line");
        let Json { frontend, backend, server, state, retries, .. } = &line;
        let names = frontend.len() + backend.len() + server.len() + state.len() + retries.len();
        sum += names as i64 + line.queue_ms + line.connect_ms + line.headers_ms + line.total_ms;
        sum += i64::from(line.status) + line.bytes_out as i64;
    }
    black_box(sum);
}

fn lines() -> String {
    let mut text = String::new();
    for number in 0..LINES {
        let (server, status) = (number % SERVERS, status(number));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "<134>1 2026-11-21T17:15:44.046909+00:00 - haproxy 543 - [hapilot@0 live=\"api {number} chat/gpu-{server} {status} -- 0 0 1 \
             {} {} 5120 - - - - -\"] -",
            number % 900,
            number % 9000
        );
    }
    text
}

fn json() -> String {
    let mut text = String::new();
    for number in 0..LINES {
        let (server, status) = (number % SERVERS, status(number));
        let _ = writeln!(
            text,
            "{{\"frontend\":\"api\",\"backend\":\"chat\",\"server\":\"gpu-{server}\",\"status\":{status},\"state\":\"--\",\
             \"retries\":\"0\",\"queue_ms\":0,\"connect_ms\":1,\"headers_ms\":{},\"total_ms\":{},\"bytes_out\":5120}}",
            number % 900,
            number % 9000
        );
    }
    text
}

fn status(number: usize) -> u16 {
    match number % 50 {
        0 => 500,
        1 => 429,
        _ => 200,
    }
}
