//! Lines and counters of workers that come, go and stand side by side.

use super::{ServerCount, Tally, WorkerKey};
use crate::health::{LiveSample, Outcome, SinceSuccess};
use crate::model::Moment;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

/// Fields from the place to the retries, then queue, connect, header and total.
fn line(number: u64, head: &str, times: &str, retry_after: &str) -> Vec<u8> {
    format!("<134>1 - [hapilot@0 live=\"api {number} {head} {times} 100 - - - - {retry_after}\"] -").into_bytes()
}

struct Heard {
    tally: Tally,
    worker: WorkerKey,
    number: u64,
}

impl Heard {
    fn new(is_from_start: bool) -> Self {
        let mut tally = Tally::default();
        let worker = tally.begin_worker(is_from_start);
        Self { tally, worker, number: 0 }
    }

    fn line(&mut self, head: &str, times: &str, retry_after: &str) {
        let bytes = line(self.number, head, times, retry_after);
        self.number += 1;
        self.tally.take_line(self.worker, &bytes, at(1), SystemTime::UNIX_EPOCH);
    }

    fn counts(&mut self, counts: &[(&str, u64, u64, u64)]) {
        let counts = counts.iter().map(|(place, sessions, retries, redispatches)| {
            let (sessions, retries, redispatches) = (*sessions, *retries, *redispatches);
            (*place, ServerCount { sessions, retries, redispatches })
        });
        self.tally.take_counts(self.worker, counts, None, at(1), SystemTime::UNIX_EPOCH);
    }

    fn samples(&mut self) -> Vec<(String, LiveSample)> {
        self.tally.take_samples().into_iter().map(|(id, sample)| (id.to_string(), sample)).collect()
    }
}

#[test]
fn lines_become_samples_and_are_told_once() {
    let mut heard = Heard::new(false);
    heard.line("chat/a 200 -- 0", "0 10 90 300", "-");
    heard.line("chat/a 200 -- 0", "50 0 200 300", "-");
    // Repeated: its time until the header is not this server's alone.
    heard.line("chat/a 200 -- +1", "900 0 9000 9900", "-");
    heard.line("chat/a 500 -- 0", "0 0 7000 7000", "-");
    heard.line("chat/b 429 -- 0", "0 0 1 1", "7");
    heard.line("chat/b 429 -- 0", "0 0 1 1", "90000");
    heard.line("chat/b 200 SD 0", "0 0 1 1", "120");
    heard.line("api/<NOSRV> 429 PR 0", "-1 -1 -1 0", "-");
    let samples = heard.samples();
    let a = LiveSample {
        outcomes: [(Outcome::Ok, 3), (Outcome::ServerError, 1)].into(),
        since_success: SinceSuccess { outcomes: [(Outcome::ServerError, 1)].into(), ..SinceSuccess::default() },
        first_byte: Some(Duration::from_millis(150)),
        ..LiveSample::default()
    };
    let failed = BTreeMap::from([(Outcome::RateLimited, 2), (Outcome::Reset, 1)]);
    let b = LiveSample {
        outcomes: failed.clone(),
        since_success: SinceSuccess { outcomes: failed, ..SinceSuccess::default() },
        retry_after: Some(Duration::from_secs(300)),
        ..LiveSample::default()
    };
    assert_eq!(samples, [("chat/a".to_owned(), a), ("chat/b".to_owned(), b)]);
    assert_eq!(heard.samples(), []);
    let stats = heard.tally.stats(at(3));
    assert_eq!((stats.lines, stats.without_server, stats.malformed, stats.workers), (8, 1, 0, 1));
    assert_eq!(stats.last_line_age, Some(Duration::from_secs(2)));
}

#[test]
fn the_history_of_a_worker_that_was_there_before_is_not_told() {
    let mut heard = Heard::new(false);
    heard.counts(&[("chat/a", 0, 900, 1000), ("chat/b", 0, 0, 0)]);
    assert_eq!(heard.samples(), []);
    heard.counts(&[("chat/a", 0, 901, 1002), ("chat/b", 0, 0, 0), ("chat/c", 0, 0, 1)]);
    let hidden: Vec<_> = heard.samples().into_iter().map(|(id, sample)| (id, sample.hidden)).collect();
    assert_eq!(hidden, [("chat/a".to_owned(), 2), ("chat/c".to_owned(), 1)]);
}

#[test]
fn the_counters_of_a_new_worker_count_from_zero_and_the_old_one_beside_it() {
    let mut heard = Heard::new(false);
    heard.counts(&[("chat/a", 2, 900, 1000)]);
    assert_eq!(heard.samples()[0].1.in_flight, 2);
    let old = heard.worker;
    heard.worker = heard.tally.begin_worker(true);
    heard.counts(&[("chat/a", 3, 0, 4)]);
    let sample = heard.samples().remove(0).1;
    assert_eq!((sample.hidden, sample.in_flight), (4, 5));
    heard.tally.end_worker(old);
    let sample = heard.samples().remove(0).1;
    assert_eq!((sample.hidden, sample.in_flight), (0, 3));
    heard.counts(&[("chat/a", 0, 0, 4), ("chat:a/a", 9, 9, 9)]);
    let samples = heard.samples();
    assert_eq!(samples.len(), 1, "a hop is no server of the operator's");
    assert_eq!(samples[0].1, LiveSample::default());
}

#[test]
fn lines_that_never_came_are_counted() {
    let mut heard = Heard::new(true);
    heard.number = 5;
    heard.line("chat/a 200 -- 0", "0 0 1 1", "-");
    heard.number = 9;
    heard.line("chat/a 200 -- 0", "0 0 1 1", "-");
    heard.tally.settle(at(2));
    heard.tally.settle(at(3));
    assert_eq!(heard.tally.stats(at(3)).lost, 8);
    heard.number = 20;
    heard.line("chat/a 200 -- 0", "0 0 1 1", "-");
    let worker = heard.worker;
    heard.tally.end_worker(worker);
    assert_eq!(heard.tally.stats(at(4)).lost, 18);
}

#[test]
fn a_server_that_is_gone_is_forgotten_after_its_last_minute() {
    let mut heard = Heard::new(false);
    heard.counts(&[("chat/a", 0, 0, 0)]);
    heard.line("chat/a 200 -- 0", "0 0 1 1", "-");
    heard.line("chat/gone 200 -- 0", "0 0 1 1", "-");
    heard.tally.settle(at(50));
    assert_eq!(heard.tally.picture(at(50)).servers.len(), 2);
    heard.samples();
    heard.tally.settle(at(70));
    let picture = heard.tally.picture(at(70));
    assert_eq!(picture.servers.len(), 1);
    assert_eq!((picture.servers[0].id.to_string().as_str(), picture.servers[0].total), ("chat/a", None));
    assert_eq!(picture.servers[0].outcomes_total[&Outcome::Ok], 1);
}

#[test]
fn a_picture_has_the_quantiles_of_the_last_minute() {
    let mut heard = Heard::new(false);
    for ms in 1..=100 {
        heard.line("chat/a 200 -- 0", &format!("0 0 {ms} {}", 10 * ms), "-");
    }
    let server = heard.tally.picture(at(30)).servers.remove(0);
    let (first_byte, total) = (server.first_byte.unwrap(), server.total.unwrap());
    assert!((45..57).contains(&first_byte.p50.as_millis()), "{first_byte:?}");
    assert!((840..1070).contains(&total.p95.as_millis()), "{total:?}");
    assert_eq!((server.bytes_out_total, server.outcomes[&Outcome::Ok]), (10_000, 100));
}

#[test]
fn no_number_of_names_takes_more_memory_than_the_limit() {
    let mut heard = Heard::new(false);
    for number in 0..super::MAX_SERVERS + 100 {
        heard.line(&format!("chat/s{number} 200 -- 0"), "0 0 1 1", "-");
    }
    assert_eq!(heard.tally.servers.len(), super::MAX_SERVERS);
}
