//! Listens to live traffic: every worker from its first line to its last, whatever comes in between.
//!
//! One task attaches to the worker that serves, again and again; each worker has a task of its own, which reads its ring
//! and asks for its counters, and which an old worker keeps until its last client is gone. What they hear goes into one
//! [`Tally`]; every 200 ms what is new is handed over, where anybody takes it, and what may take a server out at once.
//! HAProxy is never waited upon by anything
//! but these tasks, and never waits for them: when they are slow its ring is full, and the lines lost are counted.

use super::accounts;
use crate::agent::tell::unanswered::Unanswered;
use crate::haproxy::{AdminError, EventStream, RingPart, WorkerLook, WorkerWatch};
use crate::health::LiveSample;
use crate::model::{Moment, ServerId};
use crate::render::LIVE_RING;
use crate::sys;
use crate::sys::epoch::Epoch;
use crate::traffic::{
    GroupCounts, KeyWords, Line, OwnAnswers, Picture, ServerCount, Split, Tally, TrafficStats, WorkerKey, told,
};
use crate::usage::{SharedLedger, Told};
use camino::{Utf8Path, Utf8PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// What is new is handed over this often.
const HAND_OVER: Duration = Duration::from_millis(200);
/// What is urgent waits no longer than this: many failures of one instant are one batch.
const HAND_OVER_URGENT: Duration = Duration::from_millis(20);
/// Lines that are missing are looked for after so many of these: a second.
const SETTLE: u32 = 5;
/// Batches that may wait; what comes later is added up until there is room.
const MAX_BATCHES: usize = 4;
/// Counters are asked for this often; at once where HAProxy's variable tells of new attempts…
const LOOK: Duration = Duration::from_millis(500);
/// …for which it is asked this often; a version without it is looked at as soon as a line tells of a repeat.
const GLANCE: Duration = Duration::from_millis(50);
/// …of a worker on its way out, which must not be kept longer than needed…
const LOOK_STOPPING: Duration = Duration::from_millis(200);
/// …and no sooner than so many times as long as an answer took: 2 % of a core. What counts is the shorter one of the
/// last two, since a machine that is busy once is no cost of ours…
const LOOK_PAUSES: u32 = 50;
/// …and no later than this: an old number of requests in flight is a wrong one.
const LONGEST_REST: Duration = Duration::from_secs(3);
/// Longest wait for an answer. A worker that is being reloaded can take a second.
const ANSWER: Duration = Duration::from_secs(5);
/// Pause before the next try to attach, doubled up to the longest.
const RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(2);
/// Read at once; HAProxy's own buffer for an answer is of this size.
const READ_BYTES: usize = 64 << 10;
/// An old worker whose clients are gone is left once it says nothing for so long.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What is new since the last one.
#[derive(Clone, Debug)]
pub struct Batch {
    /// In the order of their names.
    pub samples: Vec<(ServerId, LiveSample)>,
    /// What became of requests, apart for the groups of canaries.
    pub groups: Vec<(ServerId, GroupCounts)>,
    /// Answers 5xx of HAProxy's own, by the name of its backend or frontend.
    pub own_answers: Vec<(Box<str>, OwnAnswers)>,
    /// What was heard of keys.
    pub keys: Vec<KeyWords>,
    /// How well we hear.
    pub stats: TrafficStats,
}

/// The listening; ends when it is dropped.
#[derive(Debug)]
pub struct TrafficListener {
    heard: Arc<HeardTraffic>,
    _tasks: JoinSet<()>,
}

impl TrafficListener {
    /// Begins to listen at this admin socket, on the runtime of the caller. HAProxy may be absent, or come without the
    /// ring (an older file of ours, or `[haproxy] live = false`): then it is tried again for ever, by and by.
    pub fn start(
        admin_socket: &Utf8Path,
        epoch: Epoch,
        unanswered: Unanswered,
        ledger: SharedLedger,
    ) -> (Self, mpsc::Receiver<Batch>) {
        let (tally, urgent) = (Mutex::new(Tally::counting_into(ledger.clone())), Notify::new());
        let heard = Arc::new(HeardTraffic { tally, ledger, epoch, urgent, unanswered });
        let (sender, receiver) = mpsc::channel(MAX_BATCHES);
        let mut tasks = JoinSet::new();
        tasks.spawn(attach_for_ever(admin_socket.to_owned(), Arc::clone(&heard)));
        tasks.spawn(hand_over(Arc::clone(&heard), sender));
        (Self { heard, _tasks: tasks }, receiver)
    }

    /// What live traffic looks like now. Costs some microseconds for each server.
    pub(in crate::agent) fn heard(&self) -> Arc<HeardTraffic> {
        self.heard.clone()
    }

    /// How well we hear.
    pub fn stats(&self) -> TrafficStats {
        self.heard.tally().stats(self.heard.now())
    }
}

/// What all tasks add to.
#[derive(Debug)]
pub(in crate::agent) struct HeardTraffic {
    tally: Mutex<Tally>,
    /// Where it counts what clients use.
    ledger: SharedLedger,
    epoch: Epoch,
    /// Something was heard that should not wait.
    urgent: Notify,
    /// Whether the worker that serves answers.
    unanswered: Unanswered,
}

impl HeardTraffic {
    /// What the requests of clients tell.
    pub fn picture(&self) -> Picture {
        self.tally().picture(self.now())
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // A panic between two additions leaves a sum that is short of one.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        self.epoch.now()
    }

    /// Whether only the counters know more of what these lines tell. `known`: so many of them are no news.
    fn lines(&self, key: WorkerKey, split: &mut Split, known: &mut usize, bytes: &[u8]) -> bool {
        let (now, today, mut tally) = (self.now(), SystemTime::now(), self.tally());
        let mut is_mute = false;
        split.feed(bytes, |line| match known.checked_sub(1) {
            Some(left) => {
                *known = if Line::is_ours(line) { left } else { *known };
                tally.take_usage(key, line);
            }
            None => is_mute |= tally.take_line(key, line, now, today),
        });
        self.hurry(&tally);
        is_mute
    }

    fn hurry(&self, tally: &Tally) {
        if tally.is_urgent() {
            self.urgent.notify_one();
        }
    }

    fn counts(&self, key: WorkerKey, look: &WorkerLook) {
        let mut places: Vec<(String, ServerCount)> = Vec::with_capacity(look.servers.len());
        for ((proxy, server), counters) in &look.servers {
            let (sessions, retries, redispatches) = (counters.sessions, counters.retries, counters.redispatches);
            places.push((format!("{proxy}/{server}"), ServerCount { sessions, retries, redispatches }));
        }
        let places = places.iter().map(|(place, count)| (place.as_str(), *count));
        let mut tally = self.tally();
        tally.take_counts(key, places, look.tries.as_deref(), self.now(), SystemTime::now());
        self.hurry(&tally);
    }
}

async fn hand_over(heard: Arc<HeardTraffic>, sender: mpsc::Sender<Batch>) {
    let mut ticks = interval(HAND_OVER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tick = 0_u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => tick = tick.wrapping_add(1),
            () = heard.urgent.notified() => sleep(HAND_OVER_URGENT).await,
        }
        let mut tally = heard.tally();
        let now = heard.now();
        if tick >= SETTLE {
            tick = 0;
            tally.settle(now);
        }
        // Full: it is added up until there is room. Closed: nobody will ever take it, but the picture goes on.
        let Ok(permit) = sender.try_reserve() else { continue };
        let (samples, own_answers) = (tally.take_samples(), tally.take_own_answers());
        if !samples.is_empty() || !own_answers.is_empty() {
            let (keys, groups) = (tally.take_key_words(), tally.take_groups());
            permit.send(Batch { samples, groups, own_answers, keys, stats: tally.stats(now) });
        }
    }
}

/// A worker that is, or was, followed.
#[derive(Clone, Copy, Debug)]
struct Followed {
    pid: u32,
    key: WorkerKey,
    /// When it was last known to serve.
    seen: Instant,
    news: Option<WorkerEnd>,
}

/// How the following of a worker goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkerEnd {
    /// It has a successor, which began after this.
    Stops(Instant),
    /// It is not followed any more.
    Left,
}

async fn attach_for_ever(admin_socket: Utf8PathBuf, heard: Arc<HeardTraffic>) {
    let mut following = JoinSet::new();
    let mut last: Option<Followed> = None;
    let mut pause = RETRY;
    let mut told = String::new();
    loop {
        match Worker::attach(&admin_socket, last, &heard.unanswered).await {
            Ok(mut worker) => {
                pause = RETRY;
                told.clear();
                let (news, mut hears) = mpsc::channel(2);
                let (pid, is_from_start) = (worker.watch.pid(), worker.is_from_start);
                let same = last.filter(|last| last.pid == pid);
                // Its connection broke, and it is another worker that came back.
                if let Some(gone) =
                    last.filter(|last| last.pid != pid && !matches!(last.news, Some(WorkerEnd::Stops(_))))
                {
                    heard.tally().end_worker(gone.key);
                }
                let key = same.map_or_else(|| heard.tally().begin_worker(is_from_start), |same| same.key);
                let told = std::mem::take(&mut worker.past.told);
                heard.tally().count_worker(key);
                if !is_from_start {
                    heard.tally().take_history(key, told);
                }
                tracing::debug!(pid, is_from_start, "listening to the worker's traffic");
                if same.is_none() {
                    following.spawn(accounts::settle(admin_socket.clone(), pid, heard.ledger.clone()));
                }
                following.spawn(worker.follow(key, Arc::clone(&heard), news));
                // Nothing to do until it has a successor, or the connection broke.
                let news = hears.recv().await;
                // Its looks may be seconds apart, and what its successor wrote meanwhile is news.
                let seen = match news {
                    Some(WorkerEnd::Stops(served)) => served,
                    Some(WorkerEnd::Left) | None => Instant::now(),
                };
                last = Some(Followed { pid, key, seen, news });
            }
            Err(problem) => {
                let problem = problem.to_string();
                if told != problem {
                    tracing::debug!("not listening to live traffic: {problem}");
                    told = problem;
                }
                sleep(pause).await;
                pause = (pause * 2).min(MAX_RETRY);
            }
        }
        while following.try_join_next().is_some() {}
    }
}

/// Why nobody is listened to.
#[derive(Debug, thiserror::Error)]
enum Deaf {
    #[error("{}", sys::chain(.0))]
    Admin(#[from] AdminError),
    #[error("the running configuration has no ring {LIVE_RING}")]
    NoRing,
    #[error("HAProxy was reloaded in between")]
    OtherWorker,
}

/// Both connections to one worker.
struct Worker {
    watch: WorkerWatch,
    stream: EventStream,
    is_from_start: bool,
    /// What its ring had already, where that is no news.
    past: Past,
}

/// The lines that a worker had written before it was listened to.
#[derive(Debug, Default)]
struct Past {
    told: Vec<Told>,
    lines: usize,
}

impl Worker {
    async fn attach(admin_socket: &Utf8Path, last: Option<Followed>, unanswered: &Unanswered) -> Result<Self, Deaf> {
        let mut watch = unanswered.on(WorkerWatch::open(admin_socket, ANSWER)).await?;
        if !watch.has_ring(LIVE_RING, ANSWER).await? {
            return Err(Deaf::NoRing);
        }
        // New since we last looked: all that it counted and wrote is news. Uptimes are whole seconds.
        let is_from_start = last.is_some_and(|last| {
            last.pid != watch.pid() && watch.uptime() <= last.seen.elapsed() + Duration::from_secs(2)
        });
        // What its ring has by now is read first, so that it is known again: nothing is lost between this and the stream.
        let past = if is_from_start { Past::default() } else { Past::read(admin_socket, watch.pid()).await? };
        let stream = EventStream::open(admin_socket, LIVE_RING, RingPart::All, ANSWER).await?;
        if stream.pid() != watch.pid() {
            return Err(Deaf::OtherWorker);
        }
        Ok(Self { watch, stream, is_from_start, past })
    }

    /// Until the worker is gone, or the connection.
    async fn follow(self, key: WorkerKey, heard: Arc<HeardTraffic>, news: mpsc::Sender<WorkerEnd>) {
        let Self { mut watch, mut stream, is_from_start: _, past: Past { lines: mut known, told: _ } } = self;
        let (mut split, mut buffer, look_soon) = (Split::default(), vec![0; READ_BYTES], Notify::new());
        let listen = async {
            loop {
                match stream.read(&mut buffer).await {
                    Ok(0) => return,
                    Ok(length) if heard.lines(key, &mut split, &mut known, &buffer[..length]) => look_soon.notify_one(),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!("live traffic: {}", sys::chain(&error));
                        return;
                    }
                }
            }
        };
        let is_done = tokio::select! {
            () = listen => false,
            is_done = watch_over(&mut watch, key, &heard, &news, &look_soon) => is_done,
        };
        if is_done {
            // Its last lines are in the ring before its last connection is gone.
            while let Ok(Ok(length @ 1..)) = tokio::time::timeout(LAST_WORDS, stream.read(&mut buffer)).await {
                heard.lines(key, &mut split, &mut known, &buffer[..length]);
            }
        }
        // The worker waits for these connections to end.
        drop((watch, stream));
        // One whose connection broke may be followed again, under the same key.
        if is_done || news.is_closed() {
            heard.tally().end_worker(key);
        } else {
            heard.tally().pause_worker(key);
        }
        // The other end may have turned to the successor long ago.
        let _ = news.send(WorkerEnd::Left).await;
    }
}

impl Past {
    async fn read(admin_socket: &Utf8Path, pid: u32) -> Result<Self, Deaf> {
        let mut stream = EventStream::open(admin_socket, LIVE_RING, RingPart::Past, ANSWER).await?;
        if stream.pid() != pid {
            return Err(Deaf::OtherWorker);
        }
        let (mut split, mut buffer, mut past) = (Split::default(), vec![0; READ_BYTES], Self::default());
        let mut take = |line: &[u8]| {
            past.lines += usize::from(Line::is_ours(line));
            past.told.extend(told(line));
        };
        loop {
            let read = tokio::time::timeout(ANSWER, stream.read(&mut buffer)).await;
            match read.map_err(|_| AdminError::Deadline { socket: admin_socket.to_owned() })?? {
                0 => return Ok(past),
                length => split.feed(&buffer[..length], &mut take),
            }
        }
    }
}

/// Asks for the counters until the worker has no client left (true) or does not answer any more.
async fn watch_over(
    watch: &mut WorkerWatch,
    key: WorkerKey,
    heard: &HeardTraffic,
    news: &mpsc::Sender<WorkerEnd>,
    look_soon: &Notify,
) -> bool {
    let (mut was_stopping, mut served) = (false, Instant::now());
    let mut took = Duration::MAX;
    loop {
        let begun = Instant::now();
        // One on its way out may be slow, and serves nobody new.
        let unanswered = (!was_stopping).then_some(&heard.unanswered);
        let look = match asked(unanswered, watch.look(ANSWER)).await {
            Ok(look) => look,
            Err(error) => {
                tracing::debug!("live traffic: {}", sys::chain(&error));
                return false;
            }
        };
        heard.counts(key, &look);
        if look.is_stopping && !was_stopping {
            heard.tally().succeed_worker(key);
            // Of no interest where nobody waits for it.
            let _ = news.try_send(WorkerEnd::Stops(served));
            was_stopping = true;
        }
        if !look.is_stopping {
            served = begun;
        }
        if look.is_stopping && look.connections == 0 {
            return true;
        }
        let before = std::mem::replace(&mut took, begun.elapsed());
        let rest = took.min(before).saturating_mul(LOOK_PAUSES).min(LONGEST_REST);
        let pause = if look.is_stopping { LOOK_STOPPING } else { LOOK };
        let unanswered = (!was_stopping).then_some(&heard.unanswered);
        let pauses = [rest, pause.saturating_sub(rest)];
        if let Err(error) = pause_until_news(watch, look_soon, &look, pauses, unanswered).await {
            tracing::debug!("live traffic: {}", sys::chain(&error));
            return false;
        }
    }
}

/// An answer, whose time is taken where the worker is one that serves.
async fn asked<T>(
    unanswered: Option<&Unanswered>,
    question: impl Future<Output = Result<T, AdminError>>,
) -> Result<T, AdminError> {
    match unanswered {
        Some(unanswered) => unanswered.on(question).await,
        None => question.await,
    }
}

/// Rests, and then waits for the time to look again, or for what is worth a look sooner.
async fn pause_until_news(
    watch: &mut WorkerWatch,
    look_soon: &Notify,
    seen: &WorkerLook,
    [rest, pause]: [Duration; 2],
    unanswered: Option<&Unanswered>,
) -> Result<(), AdminError> {
    sleep(rest).await;
    let ends = Instant::now() + pause;
    while Instant::now() < ends {
        let left = ends.saturating_duration_since(Instant::now());
        tokio::select! {
            () = look_soon.notified() => return Ok(()),
            () = sleep(left.min(GLANCE)) => {}
        }
        if seen.tries.is_some() && asked(unanswered, watch.tries(ANSWER)).await? != seen.tries {
            return Ok(());
        }
    }
    Ok(())
}
