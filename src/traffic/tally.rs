//! Lines and counters of all workers, added up for each server.
//!
//! Pure: moments are handed in. Bounded by the number of servers that HAProxy itself lists or names, 20,000 at most.

use super::attempt::Attempt;
use super::callers::Callers;
use super::classify::{Blame, TrafficWord, classify, repeated};
use super::counters::ServerCount;
use super::groups::{GroupCounts, request, request_of};
use super::key_words::{self, KeyWords};
use super::line::{Line, StreamEnd};
use super::picture::{Picture, Quantiles, ServerPicture, TrafficStats};
use super::repeats::{Fresh, Latest, Repeats, latest};
use super::sequence::Sequence;
use super::used;
use super::window::{Times, Window};
use crate::health::{Count, LiveSample, Outcome};
use crate::model::{Moment, ServerId, retry_after_value};
use crate::rollout::Request;
use crate::usage::{SharedLedger, Told};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

/// Twice as many servers as a file may have: old workers may still know others.
const MAX_SERVERS: usize = 20_000;
/// Ten times as many frontends as a file may have.
const MAX_FRONTENDS: usize = 1_000;

/// Names one worker from the beginning to the end of its following.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerKey(u64);

/// Everything that was heard.
#[derive(Debug, Default)]
pub struct Tally {
    servers: HashMap<Box<str>, Server>,
    workers: HashMap<WorkerKey, Worker>,
    next_key: u64,
    callers: Callers,
    ledger: SharedLedger,
    stats: TrafficStats,
    last_line: Option<Moment>,
    is_urgent: bool,
    /// Answers of HAProxy's own, by its backend or frontend, since they were told.
    own_answers: HashMap<Box<str>, OwnAnswers>,
}

/// Requests that HAProxy answered by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnAnswers {
    /// By a 5xx: no server could serve, or none answered.
    pub errors: u64,
    /// By a 4xx, but for a 429: what was asked for is refused.
    pub refused: u64,
}

#[derive(Debug)]
struct Server {
    id: ServerId,
    window: Window,
    outcomes_total: BTreeMap<Outcome, u64>,
    hidden_total: u64,
    stream_ends: BTreeMap<StreamEnd, u64>,
    bytes_out_total: u64,
    /// Since the last sample.
    fresh: LiveSample,
    /// Sum and number of the times until the first byte, since the last sample.
    first_bytes: (Duration, u32),
    /// By the groups of a canary, since they were told.
    groups: GroupCounts,
    /// What was heard of its keys since it was told.
    keys: key_words::Fresh,
    /// The requests in flight that were told last.
    told_in_flight: u32,
}

/// One worker that is followed.
#[derive(Debug)]
struct Worker {
    /// Its counters and the numbers of its lines begin at zero for us, too.
    is_from_start: bool,
    lines: HashMap<Box<str>, Sequence>,
    counts: Option<HashMap<Box<str>, ServerCount>>,
    /// Of which repeated attempts it was told how they ended.
    repeats: HashMap<Box<str>, Repeats>,
    /// Its lines tell of each attempt.
    tells_tries: bool,
    /// The last attempt that was seen in HAProxy's variable, in its milliseconds.
    seen_try: u64,
}

impl Tally {
    /// Begins with a worker. `is_from_start`: it is known to be new, so that its counters tell nothing but what is new,
    /// and every line that it wrote is read; else what it has already counted and written is history.
    pub fn begin_worker(&mut self, is_from_start: bool) -> WorkerKey {
        let key = WorkerKey(self.next_key);
        self.next_key += 1;
        let counts = is_from_start.then(HashMap::new);
        let worker = Worker {
            is_from_start,
            lines: HashMap::new(),
            counts,
            repeats: HashMap::new(),
            tells_tries: false,
            seen_try: 0,
        };
        self.workers.insert(key, worker);
        key
    }

    /// What lines tell of usage goes into this ledger.
    pub fn counting_into(ledger: SharedLedger) -> Self {
        ledger.lock().meet_again();
        Self { ledger, ..Self::default() }
    }

    /// What the lines of a worker tell is counted as usage from now on.
    pub fn count_worker(&mut self, key: WorkerKey) {
        self.ledger.lock().begin(key.0);
    }

    /// What all lines told that a worker's ring had: what is new of it counts as usage, and nothing else.
    pub fn take_history(&mut self, key: WorkerKey, lines: Vec<Told>) {
        self.ledger.lock().take_history(key.0, lines);
    }

    /// A worker has a successor.
    pub fn succeed_worker(&mut self, key: WorkerKey) {
        self.ledger.lock().succeed(key.0);
    }

    /// A worker is gone, or is not heard any more.
    pub fn end_worker(&mut self, key: WorkerKey) {
        self.ledger.lock().end(key.0);
        // Nothing more will come of it: what is missing now is lost.
        if let Some(mut worker) = self.workers.remove(&key) {
            let missing = |sequence: &mut Sequence| sequence.settle() + sequence.settle();
            self.stats.lost += worker.lines.values_mut().map(missing).sum::<u64>();
        }
    }

    /// A worker does not answer: what is in flight there is not known any more.
    pub fn pause_worker(&mut self, key: WorkerKey) {
        let counts = self.workers.get_mut(&key).and_then(|worker| worker.counts.as_mut());
        counts.into_iter().flat_map(HashMap::values_mut).for_each(|count| count.sessions = 0);
    }

    /// Takes in a line of a worker's ring. `today` is what dates in it are measured by. Answers whether it has attempts
    /// that were repeated, of which only the counters know more.
    pub fn take_line(&mut self, key: WorkerKey, bytes: &[u8], now: Moment, today: SystemTime) -> bool {
        let line = match Line::parse(bytes) {
            Ok(Some(line)) => line,
            Ok(None) => return false,
            Err(_) => {
                self.stats.malformed += 1;
                return false;
            }
        };
        let is_mute = line.retries.count > 0 && line.tries.is_none();
        self.stats.lines += 1;
        self.last_line = Some(now);
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.number(line.frontend, line.number);
            worker.tells_tries |= line.tries.is_some();
        }
        line.caller.into_iter().for_each(|caller| self.callers.take(caller, line.tokens));
        used::told(&line).into_iter().for_each(|told| self.ledger.lock().take(key.0, told));
        self.take_repeated(key, &line, today);
        let Blame::Server(word) = classify(&line) else {
            self.stats.without_server += 1;
            self.take_unserved(&line);
            return is_mute;
        };
        if let Some(server) = known(&mut self.servers, line.place) {
            server.take(&line, word, now, today);
            self.is_urgent |= server.is_urgent();
        }
        is_mute
    }

    /// Takes in a line of a request that no server took.
    fn take_unserved(&mut self, line: &Line<'_>) {
        let (Some((proxy, _)), Some(status @ 400..)) = (line.place.split_once('/'), line.status) else { return };
        if status == 429 || self.own_answers.len() >= MAX_FRONTENDS && !self.own_answers.contains_key(proxy) {
            return;
        }
        let own = self.own_answers.entry(proxy.into()).or_default();
        own.errors += u64::from(status >= 500);
        own.refused += u64::from(status < 500);
    }

    /// Takes in what a line tells of usage, and nothing else.
    pub fn take_usage(&mut self, key: WorkerKey, bytes: &[u8]) {
        told(bytes).into_iter().for_each(|told| self.ledger.lock().take(key.0, told));
    }

    /// Takes in the attempts of a line that were repeated.
    fn take_repeated(&mut self, key: WorkerKey, line: &Line<'_>, today: SystemTime) {
        for (attempt, word) in repeated(line) {
            let Some((backend, _)) = line.place.split_once('/') else { return };
            let place = format!("{backend}/{}", attempt.server);
            let worker = self.workers.get_mut(&key);
            let is_news = worker.is_none_or(|worker| worker.repeats.entry(place.as_str().into()).or_default().line());
            if let Some(server) = known(&mut self.servers, &place) {
                let asked = attempt.retry_after(today);
                // Without a hop all attempts of a request have one key.
                server.keys.take(attempt.key_id.or(line.key_id), word, asked.filter(|_| is_limit(word.outcome)));
                if is_news {
                    server.repeat(word.outcome, 1, asked, line.group);
                }
                if word.is_shared {
                    server.fresh.add_shared();
                }
                self.is_urgent |= server.is_urgent();
            }
        }
    }

    /// Whether something was heard that should not wait.
    pub fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Takes in the counters of all servers of a worker, by `BACKEND/SERVER`, and its variable with the last attempts
    /// that were answered badly, where it has one.
    pub fn take_counts<'a>(
        &mut self,
        key: WorkerKey,
        counts: impl IntoIterator<Item = (&'a str, ServerCount)>,
        tries: Option<&str>,
        now: Moment,
        today: SystemTime,
    ) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let before = worker.counts.take();
        let mut seen = HashMap::with_capacity(before.as_ref().map_or(0, HashMap::len));
        for (place, count) in counts {
            if seen.len() >= MAX_SERVERS {
                break;
            }
            let earlier = before.as_ref().map(|before| before.get(place).copied().unwrap_or_default());
            // The first look at a worker that has a history tells nothing.
            let hidden = earlier.map_or(0, |earlier| count.hidden_since(&earlier));
            if (hidden > 0 || count.sessions > 0)
                && let Some(server) = known(&mut self.servers, place)
            {
                let latest = match (tries, worker.tells_tries) {
                    (Some(tries), _) => Latest::Told(last_of(tries, place, worker.seen_try)),
                    (None, true) => Latest::LinesOnly,
                    (None, false) => Latest::Mute,
                };
                let repeats = worker.repeats.entry(place.into()).or_default();
                let earlier = earlier.unwrap_or(count);
                server.hide(hidden, repeats.counted(&count, &earlier, latest, today), now);
            }
            seen.insert(place.into(), count);
        }
        if before.is_none() {
            worker.repeats.values_mut().for_each(Repeats::first_look);
        }
        worker.repeats.retain(|place, repeats| *repeats != Repeats::default() && seen.contains_key(place));
        worker.seen_try = tries.and_then(|tries| latest(tries).next()).map_or(worker.seen_try, |(at, ..)| at);
        worker.counts = Some(seen);
        self.is_urgent |= self.servers.values().any(Server::is_urgent);
    }

    /// Looks for lines that are missing, and forgets servers that no worker knows and that were not heard of for a
    /// minute. To be called about once a second: what is missing for so long is lost.
    pub fn settle(&mut self, now: Moment) {
        let workers = self.workers.values_mut();
        self.stats.lost += workers.flat_map(|worker| worker.lines.values_mut()).map(Sequence::settle).sum::<u64>();
        let listed: HashSet<&str> = self
            .workers
            .values()
            .filter_map(|worker| worker.counts.as_ref())
            .flat_map(|c| c.keys())
            .map(|k| &**k)
            .collect();
        self.servers.retain(|place, server| {
            listed.contains(&**place) || !server.window.is_empty(now) || !server.fresh.is_empty()
        });
    }

    /// What is new of each server since the last call, for those of which anything is new.
    pub fn take_samples(&mut self) -> Vec<(ServerId, LiveSample)> {
        self.is_urgent = false;
        let in_flight = in_flight(&self.workers);
        let told = |(place, server): (&str, &mut Server)| {
            let in_flight = in_flight.get(place).copied().unwrap_or(0);
            if server.fresh.is_empty() && in_flight == server.told_in_flight {
                return None;
            }
            server.told_in_flight = in_flight;
            let (sum, number) = std::mem::take(&mut server.first_bytes);
            let first_byte = (number > 0).then(|| sum / number);
            Some((server.id.clone(), LiveSample { in_flight, first_byte, ..std::mem::take(&mut server.fresh) }))
        };
        let mut samples: Vec<_> =
            self.servers.iter_mut().map(|(place, server)| (&**place, server)).filter_map(told).collect();
        samples.sort_by(|a, b| a.0.cmp(&b.0));
        samples
    }

    /// What became of requests since the last call, by server and by the group of a canary.
    pub fn take_groups(&mut self) -> Vec<(ServerId, GroupCounts)> {
        let fresh = self.servers.values_mut().filter(|server| !server.groups.is_empty());
        fresh.map(|server| (server.id.clone(), std::mem::take(&mut server.groups))).collect()
    }

    /// Answers of HAProxy's own since the last call, by the name of its backend, or of the frontend that found none.
    pub fn take_own_answers(&mut self) -> Vec<(Box<str>, OwnAnswers)> {
        self.own_answers.drain().collect()
    }

    /// What is new of the keys since the last call, by server, in the order in which it was heard.
    pub fn take_key_words(&mut self) -> Vec<KeyWords> {
        self.servers.values_mut().flat_map(|server| server.keys.tell(&server.id)).collect()
    }

    /// How well we hear.
    pub fn stats(&self, now: Moment) -> TrafficStats {
        let last_line_age = self.last_line.map(|at| now.since(at));
        TrafficStats { workers: self.workers.len(), last_line_age, ..self.stats }
    }

    /// Everything, for people.
    pub fn picture(&self, now: Moment) -> Picture {
        let in_flight = in_flight(&self.workers);
        let of = |(place, server): (&str, &Server)| {
            let sum = server.window.sum(now);
            ServerPicture {
                id: server.id.clone(),
                connect: Quantiles::of(&sum.connect),
                first_byte: Quantiles::of(&sum.first_byte),
                total: Quantiles::of(&sum.total),
                outcomes: sum.outcomes,
                hidden: sum.hidden,
                in_flight: in_flight.get(place).copied().unwrap_or(0),
                outcomes_total: server.outcomes_total.clone(),
                hidden_total: server.hidden_total,
                stream_ends: server.stream_ends.clone(),
                bytes_out_total: server.bytes_out_total,
            }
        };
        let mut servers: Vec<_> = self.servers.iter().map(|(place, server)| (&**place, server)).map(of).collect();
        servers.sort_by(|a, b| a.id.cmp(&b.id));
        Picture { servers, callers: self.callers.picture(), stats: self.stats(now) }
    }
}

/// What a line of a ring tells of usage.
pub fn told(bytes: &[u8]) -> Option<Told> {
    used::told(&Line::parse(bytes).ok()??)
}

/// Requests in flight of all workers.
fn in_flight(workers: &HashMap<WorkerKey, Worker>) -> HashMap<&str, u32> {
    let mut sum = HashMap::new();
    for counts in workers.values().filter_map(|worker| worker.counts.as_ref()) {
        for (place, count) in counts.iter().filter(|(_, count)| count.sessions > 0) {
            let own: &mut u32 = sum.entry(&**place).or_default();
            *own = own.saturating_add(u32::try_from(count.sessions).unwrap_or(u32::MAX));
        }
    }
    sum
}

/// The server of that place; `None` for what is no operator's (a hop), and beyond the limit.
fn known<'a>(servers: &'a mut HashMap<Box<str>, Server>, place: &str) -> Option<&'a mut Server> {
    if !servers.contains_key(place) {
        let id: ServerId = place.parse().ok().filter(|_| servers.len() < MAX_SERVERS)?;
        servers.insert(place.into(), Server::new(id));
    }
    servers.get_mut(place)
}

impl Worker {
    fn number(&mut self, frontend: &str, number: u64) {
        if let Some(sequence) = self.lines.get_mut(frontend) {
            sequence.take(number);
        } else if self.lines.len() < MAX_FRONTENDS {
            let mut sequence = if self.is_from_start { Sequence::from_start() } else { Sequence::default() };
            sequence.take(number);
            self.lines.insert(frontend.into(), sequence);
        }
    }
}

impl Server {
    fn new(id: ServerId) -> Self {
        Self {
            id,
            window: Window::default(),
            outcomes_total: BTreeMap::new(),
            hidden_total: 0,
            stream_ends: BTreeMap::new(),
            bytes_out_total: 0,
            fresh: LiveSample::default(),
            first_bytes: (Duration::ZERO, 0),
            groups: GroupCounts::default(),
            keys: key_words::Fresh::default(),
            told_in_flight: 0,
        }
    }

    fn take(&mut self, line: &Line<'_>, word: TrafficWord, now: Moment, today: SystemTime) {
        let outcome = word.outcome;
        let is_success = outcome.count() == Count::Success;
        // With attempts before it, the time until the header is not this server's alone; nor where it waited for the
        // rest of what a client sent.
        let is_first = line.retries.count == 0;
        let is_own = is_first && !line.upload.is_some_and(|upload| upload.is_longer_than_the_buffer);
        let header = is_own.then(|| line.connect.zip(line.header)).flatten();
        let first_byte = line.first_token.filter(|_| is_first).or(header.map(|(connect, header)| connect + header));
        let first_byte = first_byte.filter(|_| is_success);
        let upload = line.upload.and_then(|upload| upload.took).unwrap_or_default();
        let total = line.total.map(|total| total.saturating_sub(upload));
        self.window.add(outcome, Times { connect: line.connect, first_byte, total }, now);
        let tokens = line.tokens.map(|tokens| {
            let answered = total.zip(first_byte).map(|(total, first)| total.saturating_sub(first)).unwrap_or_default();
            (tokens.completion, answered)
        });
        // Clients wait for a slot as well. Where the template measures, that is in it.
        let slot = line.queue.filter(|_| line.first_token.is_none()).unwrap_or_default();
        self.groups.of(line.group).add(&Request {
            first_token: first_byte.map(|time| time + slot),
            latency: total.filter(|_| is_success),
            tokens: tokens.filter(|_| is_success),
            cost_nano_usd: line.tokens.and_then(|tokens| tokens.nano_usd),
            ..request_of(line, outcome)
        });
        *self.outcomes_total.entry(outcome).or_default() += 1;
        if let Some(end) = line.stream_end.filter(|_| outcome != Outcome::SelfCaused) {
            *self.stream_ends.entry(end).or_default() += 1;
        }
        self.bytes_out_total = self.bytes_out_total.saturating_add(line.bytes_out);
        self.fresh.add(outcome, 1, false);
        if word.is_shared {
            self.fresh.add_shared();
        }
        if let Some(time) = first_byte {
            self.first_bytes = (self.first_bytes.0.saturating_add(time), self.first_bytes.1 + 1);
        }
        let told = || line.attempts().next_back().filter(|last| Some(last.server) == server_of(line.place));
        let asked = line.retry_after.and_then(|text| retry_after_value(text, today));
        let asked = asked.or_else(|| told()?.retry_after(today)).filter(|_| is_limit(outcome));
        self.fresh.retry_after = self.fresh.retry_after.max(asked);
        self.keys.take(line.key_id, word, asked);
    }

    /// Attempts came to this, and were repeated.
    fn repeat(&mut self, outcome: Outcome, count: u32, asked: Option<Duration>, group: Option<&str>) {
        self.fresh.add(outcome, count, true);
        (0..count).for_each(|_| self.groups.of(group).add(&request(outcome)));
        self.fresh.retry_after = self.fresh.retry_after.max(asked.filter(|_| is_limit(outcome)));
    }

    /// So many attempts were repeated by the counters, of which this is news.
    fn hide(&mut self, count: u32, fresh: Fresh, now: Moment) {
        if count > 0 {
            self.window.add_hidden(count, now);
            self.hidden_total += u64::from(count);
        }
        let Fresh { refused, known, unknown } = fresh;
        if refused > 0 {
            self.repeat(Outcome::Refused, refused, None, None);
        }
        if let Some((outcome, count, asked)) = known {
            self.repeat(outcome, count, asked, None);
        }
        if unknown > 0 {
            self.fresh.add_hidden(unknown);
            let failure = Request { failed: Some(true), ..Request::default() };
            (0..unknown).for_each(|_| self.groups.others.add(&failure));
        }
    }

    /// Whether something was heard that may take it out.
    fn is_urgent(&self) -> bool {
        let fresh = &self.fresh;
        fresh.failed() + fresh.count(Count::Limited) + fresh.of(Outcome::Credential) > 0
    }
}

fn is_limit(outcome: Outcome) -> bool {
    outcome.count() == Count::Limited
}

fn server_of(place: &str) -> Option<&str> {
    place.split_once('/').map(|(_, server)| server)
}

/// The last attempt at that place after `seen` that was answered badly.
fn last_of<'a>(tries: &'a str, place: &str, seen: u64) -> Option<Attempt<'a>> {
    let at_place =
        |(_, backend, attempt): &(u64, &str, Attempt<'_>)| place.split_once('/') == Some((*backend, attempt.server));
    let news = latest(tries).take_while(|(at, ..)| *at > seen);
    let mut news = news.filter(at_place).map(|(_, _, attempt)| attempt);
    let last = news.next()?;
    // Behind a hop the real answer may be told before the interim one.
    Some(if last.is_interim() { news.find(|attempt| !attempt.is_interim()).unwrap_or(last) } else { last })
}

#[cfg(test)]
mod tests;
