//! A bounded load: some connections, each of which sends one request after the other, and a tally of what came back.

use super::http::{Connection, Reply, Request};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No load of a test lasts longer, whatever it asks for.
const LONGEST: Duration = Duration::from_secs(60);
/// How many failures a tally spells out.
const SPELLED_OUT: usize = 5;

/// When a load ends by itself.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After this many requests, all connections together.
    Requests(u64),
}

/// What to send, and how much of it.
#[derive(Clone, Debug)]
pub struct Load {
    /// `HOST:PORT`.
    pub address: String,
    /// What each request is.
    pub request: Request,
    /// How many at a time, at most 64.
    pub connections: usize,
    /// Whether a connection takes more than one request.
    pub keep_alive: bool,
    /// The bound.
    pub until: Until,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers from 200 to 299.
    pub ok: u64,
    /// Everything else: other statuses, and answers that did not come.
    pub failed: u64,
    /// Answers per status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers per value of `X-Served-By`.
    pub served_by: BTreeMap<String, u64>,
    /// Kept connections that were closed between two answers and opened anew, as every client does. No failure.
    pub reopened: u64,
    /// The first failures in words.
    pub failures: Vec<String>,
}

impl Tally {
    fn add(&mut self, outcome: &io::Result<Reply>) {
        match outcome {
            Ok(reply) => {
                *self.statuses.entry(reply.status).or_default() += 1;
                if let Some(server) = reply.header("x-served-by") {
                    *self.served_by.entry(server.to_owned()).or_default() += 1;
                }
                if (200..300).contains(&reply.status) {
                    self.ok += 1;
                } else {
                    self.fail(format!("status {}", reply.status));
                }
            }
            Err(error) => self.fail(format!("{error} ({:?})", error.kind())),
        }
    }

    fn fail(&mut self, words: String) {
        self.failed += 1;
        if self.failures.len() < SPELLED_OUT {
            self.failures.push(words);
        }
    }

    fn merge(&mut self, other: Self) {
        let Self { ok, failed, statuses, served_by, reopened, failures } = other;
        self.ok += ok;
        self.failed += failed;
        self.reopened += reopened;
        statuses.into_iter().for_each(|(status, count)| *self.statuses.entry(status).or_default() += count);
        served_by.into_iter().for_each(|(server, count)| *self.served_by.entry(server).or_default() += count);
        self.failures.extend(failures);
        self.failures.truncate(SPELLED_OUT);
    }
}

impl Load {
    /// Kept connections on one path, for a time.
    pub fn lasting(address: &str, path: &str, connections: usize, time: Duration) -> Self {
        let until = Until::Elapsed(time);
        Self { address: address.to_owned(), request: Request::get(path), connections, keep_alive: true, until }
    }

    /// Kept connections on one path, for so many requests.
    pub fn counted(address: &str, path: &str, connections: usize, requests: u64) -> Self {
        let until = Until::Requests(requests);
        Self { address: address.to_owned(), request: Request::get(path), connections, keep_alive: true, until }
    }

    /// Sends it all and waits for the last answer.
    pub fn run(self) -> Tally {
        self.start().wait()
    }

    /// Begins to send, so that the test can do something meanwhile.
    pub fn start(self) -> Running {
        assert!((1..=64).contains(&self.connections), "between 1 and 64 connections");
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), taken: AtomicU64::new(0), begun: Instant::now() });
        let workers = (0..self.connections)
            .map(|_| {
                let (load, shared) = (self.clone(), Arc::clone(&shared));
                std::thread::spawn(move || load.work(&shared))
            })
            .collect();
        Running { shared, workers }
    }

    fn work(&self, shared: &Shared) -> Tally {
        let mut tally = Tally::default();
        let mut kept = None;
        while shared.take(self.until) {
            let outcome = self.one(&mut kept, &mut tally);
            tally.add(&outcome);
            if outcome.is_err() {
                // A refused port must not become a storm.
                super::pause(Duration::from_millis(2));
            }
        }
        tally
    }

    fn one(&self, kept: &mut Option<Connection>, tally: &mut Tally) -> io::Result<Reply> {
        if let Some(mut connection) = kept.take() {
            match connection.send(&self.request) {
                Ok(reply) => return Ok(self.keep(kept, connection, reply)),
                Err(error) if closed_between(&error) => tally.reopened += 1,
                Err(error) => return Err(error),
            }
        }
        let mut connection = Connection::open(&self.address)?;
        let reply = connection.send(&self.request)?;
        Ok(self.keep(kept, connection, reply))
    }

    fn keep(&self, kept: &mut Option<Connection>, connection: Connection, reply: Reply) -> Reply {
        let closing = reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        *kept = (self.keep_alive && !closing).then_some(connection);
        reply
    }
}

/// Whether a kept connection had been closed before the request, not during its answer.
fn closed_between(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    taken: AtomicU64,
    begun: Instant,
}

impl Shared {
    fn take(&self, until: Until) -> bool {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let within = match until {
            Until::Elapsed(time) => self.begun.elapsed() < time.min(LONGEST),
            Until::Requests(count) => taken < count && self.begun.elapsed() < LONGEST,
        };
        within && !self.stop.load(Ordering::Relaxed)
    }
}

/// A load that is being sent.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<Tally>>,
}

impl Running {
    /// How many requests have been begun.
    pub fn begun(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// Ends it now, after the answers that are under way.
    pub fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits for its own end.
    pub fn wait(self) -> Tally {
        let mut total = Tally::default();
        self.workers.into_iter().for_each(|worker| total.merge(worker.join().expect("a load thread does not panic")));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::tests::{Act, scripted};
    use super::super::port::free_port;
    use super::*;

    const ONE: Act = Act::Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Served-By: one\r\n\r\n");
    const TWO: Act = Act::Send("HTTP/1.1 503 No\r\nContent-Length: 0\r\nX-Served-By: two\r\nConnection: close\r\n\r\n");

    #[test]
    fn a_counted_load_tells_who_served_what() {
        let scripts = vec![vec![ONE], vec![ONE], vec![TWO, Act::Close], vec![ONE]];
        let (address, server) = scripted(scripts);
        let tally = Load::counted(&address, "/", 1, 4).run();
        assert_eq!((tally.ok, tally.failed, tally.reopened), (3, 1, 0), "{tally:?}");
        assert_eq!(tally.served_by, BTreeMap::from([("one".to_owned(), 3), ("two".to_owned(), 1)]));
        assert_eq!(tally.statuses, BTreeMap::from([(200, 3), (503, 1)]));
        assert_eq!(tally.failures, ["status 503"]);
        server.join().expect("the server ends");
    }

    #[test]
    fn a_connection_closed_between_two_answers_is_no_failure() {
        let (address, server) = scripted(vec![vec![ONE, Act::Close], vec![ONE]]);
        let tally = Load::counted(&address, "/", 1, 2).run();
        assert_eq!((tally.ok, tally.failed, tally.reopened), (2, 0, 1), "{tally:?}");
        server.join().expect("the server ends");
    }

    #[test]
    fn an_answer_that_is_cut_off_is_a_failure_also_on_a_kept_connection() {
        let half = Act::Send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        let (address, server) = scripted(vec![vec![ONE], vec![half, Act::Close]]);
        let tally = Load::counted(&address, "/", 1, 2).run();
        assert_eq!((tally.ok, tally.failed, tally.reopened), (1, 1, 0), "{tally:?}");
        server.join().expect("the server ends");
    }

    #[test]
    fn connections_of_their_own_are_for_one_request_each() {
        let (address, server) = scripted(vec![vec![ONE, Act::Close], vec![ONE, Act::Close]]);
        let tally = Load { keep_alive: false, ..Load::counted(&address, "/", 1, 2) }.run();
        assert_eq!((tally.ok, tally.reopened), (2, 0), "{tally:?}");
        server.join().expect("the server ends");
    }

    #[test]
    fn a_lasting_load_ends_by_itself_and_counts_refusals() {
        let tally = Load::lasting(&format!("127.0.0.1:{}", free_port()), "/", 3, Duration::from_millis(60)).run();
        assert!(tally.ok == 0 && tally.failed >= 3 && tally.failures.len() == SPELLED_OUT, "{tally:?}");
    }

    #[test]
    fn a_running_load_can_be_stopped() {
        let running = Load::lasting(&format!("127.0.0.1:{}", free_port()), "/", 2, LONGEST).start();
        super::super::wait_for("some requests", super::super::PATIENCE, || (running.begun() > 4).then_some(()));
        assert!(running.stop().failed > 2);
    }
}
