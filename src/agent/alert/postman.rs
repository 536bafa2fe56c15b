//! One sink: what is on its way to it, what waits, how it answers.

use super::report::SinkReport;
use crate::alert::{self, Delivery, Fault};
use crate::alerts::{AlertTable, Notification, SinkBook};
use crate::config::AlertSink;
use crate::event::{Event, EventKind, Severity};
use crate::sys;
use jiff::Timestamp;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two messages: Slack takes one a second.
const PACE: Duration = Duration::from_secs(1);
/// What fails is tried again after this, and after twice as long each time…
const FIRST_AGAIN: Duration = Duration::from_secs(1);
/// …up to this.
const LONGEST_AGAIN: Duration = Duration::from_secs(60);
/// After so many tries a sink is one that does not deliver.
const TRIES: u32 = 5;
/// Who refuses everything (a wrong key) is asked again after this, or when the file changes.
const REFUSED_AGAIN: Duration = Duration::from_secs(120);
/// So is who has no secret that can be read.
const UNREAD_AGAIN: Duration = Duration::from_secs(15);

/// A try: of which notification, and how it ended.
pub(super) type Try = JoinHandle<Outcome>;

/// How a try ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered(Delivery),
    /// The secret could not be read.
    Unread(String),
}

impl Outcome {
    fn failure(&self) -> Option<&str> {
        match self {
            Self::Answered(Delivery::Done(_)) => None,
            Self::Answered(Delivery::Again { why, .. } | Delivery::Refused { why, .. }) | Self::Unread(why) => {
                Some(why)
            }
        }
    }
}

/// One sink.
#[derive(Debug)]
pub(super) struct Postman {
    pub sink: AlertSink,
    pub book: SinkBook,
    under_way: Option<(String, Try)>,
    not_before: Instant,
    failures: u32,
    report: SinkReport,
    dropped_told: u64,
}

impl Postman {
    pub fn new(sink: AlertSink, book: SinkBook) -> Self {
        let report = SinkReport { name: sink.name.to_string(), kind: sink.kind_name(), ..SinkReport::default() };
        let dropped_told = book.queue.dropped;
        Self { sink, book, under_way: None, not_before: Instant::now(), failures: 0, report, dropped_told }
    }

    /// The file has changed: what was wrong may be mended.
    pub fn reconfigure(&mut self, sink: AlertSink) {
        self.report.kind = sink.kind_name();
        self.sink = sink;
        self.not_before = Instant::now();
    }

    /// Begins the next try, where one is due.
    pub fn set_out(&mut self) {
        let now = Instant::now();
        if self.under_way.is_some() || now < self.not_before {
            return;
        }
        let Some(first) = self.book.queue.first().cloned() else { return };
        let (id, sink) = (first.id.clone(), self.sink.clone());
        self.under_way = Some((id, tokio::spawn(attempt(sink, first))));
    }

    /// When something is due, without what is under way.
    pub fn next_wake(&self) -> Option<Instant> {
        (self.under_way.is_none() && !self.book.queue.is_empty()).then_some(self.not_before)
    }

    /// Waits for the end of the try that is under way, and takes note of it; for ever where none is.
    pub async fn ended(&mut self) -> Option<Event> {
        let Some((_, task)) = &mut self.under_way else { return std::future::pending().await };
        let outcome = task.await;
        let id = self.under_way.take().map(|(id, _)| id).unwrap_or_default();
        let outcome = outcome.unwrap_or_else(|broken| {
            let why = format!("a bug of hapilot: {broken}");
            Outcome::Answered(Delivery::Refused { why, fault: Fault::Message })
        });
        self.take_note(&id, outcome)
    }

    /// Whether a try is under way.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What the operator is to be told of it, where that is news.
    fn take_note(&mut self, id: &str, outcome: Outcome) -> Option<Event> {
        let now = Instant::now();
        self.report.failure = outcome.failure().map(str::to_owned);
        let (problem, wait) = match outcome {
            Outcome::Answered(Delivery::Done(said)) => {
                self.book.queue.done(id);
                self.failures = 0;
                self.report.sent += 1;
                self.report.last = Some((Timestamp::now(), said));
                (None, PACE)
            }
            Outcome::Answered(Delivery::Again { why, after }) => {
                self.failures = self.failures.saturating_add(1);
                let doubled = FIRST_AGAIN * 2_u32.pow(self.failures.saturating_sub(1).min(6));
                let wait = after.unwrap_or(doubled.min(LONGEST_AGAIN)).max(PACE);
                let before = self.report.problem.is_some();
                match self.failures >= TRIES || before {
                    true => (Some(why), wait),
                    false => {
                        tracing::debug!(sink = %self.sink.name, "{why}; it is tried again");
                        self.report.failed += 1;
                        self.not_before = now + wait;
                        return None;
                    }
                }
            }
            Outcome::Answered(Delivery::Refused { why, fault: Fault::Message }) => {
                self.book.queue.done(id);
                (Some(format!("one notification was refused for ever, and is dropped: {why}")), PACE)
            }
            Outcome::Answered(Delivery::Refused { why, fault: Fault::Sink }) => (Some(why), REFUSED_AGAIN),
            Outcome::Unread(why) => (Some(why), UNREAD_AGAIN),
        };
        self.report.failed += u64::from(problem.is_some());
        self.not_before = now + wait;
        self.tell(problem)
    }

    fn tell(&mut self, problem: Option<String>) -> Option<Event> {
        let subject = format!("alert/{}", self.sink.name);
        let kind = self.sink.kind_name();
        match (problem, self.report.problem.take()) {
            // Another reason is no other trouble.
            (Some(why), Some((since, _))) => {
                self.report.problem = Some((since, why));
                None
            }
            (Some(why), None) => {
                let text = format!("alerts do not reach {} ({kind})", self.sink.name);
                let event = Event::begins(EventKind::Problem, Severity::Warning, subject, text).because(&why);
                self.report.problem = Some((Timestamp::now(), why));
                Some(event.about("delivery"))
            }
            (None, Some(_)) => {
                let text = format!("alerts reach {} ({kind}) again", self.sink.name);
                Some(Event::ends(EventKind::Problem, subject, text).about("delivery"))
            }
            (None, None) => None,
        }
    }

    /// That something was dropped, where that is news.
    pub fn tell_dropped(&mut self) -> Option<Event> {
        let dropped = self.book.queue.dropped;
        let news = dropped.saturating_sub(self.dropped_told);
        self.dropped_told = dropped;
        (news > 0).then(|| {
            let text = format!("{news} notifications for {} had no room any more and are dropped", self.sink.name);
            Event::once(EventKind::Problem, Severity::Warning, format!("alert/{}", self.sink.name), text).about("room")
        })
    }

    /// How it goes.
    pub fn report(&self, table: &AlertTable) -> SinkReport {
        let queue = &self.book.queue;
        let (open, matters) = (self.book.open(), self.book.open_matters(table));
        SinkReport { waiting: queue.len(), dropped: queue.dropped, open, matters, ..self.report.clone() }
    }
}

/// One try. The secret is read each time: a new one needs no reload.
async fn attempt(sink: AlertSink, told: Notification) -> Outcome {
    let secret = match sink.secret().map(|reference| reference.value.clone()) {
        None => None,
        Some(reference) => {
            let read = tokio::task::spawn_blocking(move || {
                sys::secrets::read_secret(&reference).map_err(|e| format!("{reference}: {}", sys::chain(&e)))
            });
            match tokio::time::timeout(alert::TOTAL, read).await {
                Ok(Ok(Ok(read))) => Some(read.secret),
                Ok(Ok(Err(why))) => return Outcome::Unread(why),
                Ok(Err(_)) | Err(_) => return Outcome::Unread("its secret cannot be read in time".to_owned()),
            }
        }
    };
    Outcome::Answered(alert::deliver(&sink, secret.as_ref(), &told).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn postman() -> Postman {
        let file = "[frontend.api]\nbind = [\"*:8080\"]\n[backend.chat.server.one]\nurl = \"http://192.0.2.1\"\n\
                    [alert.hook]\nwebhook = { url = \"http://192.0.2.2/\" }\n";
        let config = parse("f", file, "lb1").unwrap();
        Postman::new(config.alerts.sinks[0].clone(), SinkBook::default())
    }

    #[test]
    fn a_sink_that_fails_is_told_once_when_it_goes_on_and_once_when_it_is_over() {
        let mut postman = postman();
        let again = || Outcome::Answered(Delivery::Again { why: "refused".into(), after: None });
        assert_eq!(postman.take_note("x", again()), None);
        let report = postman.report(&AlertTable::default());
        assert_eq!((report.failure.as_deref(), report.problem), (Some("refused"), None), "the first failure is seen");
        let told: Vec<_> = (1..8).map(|_| postman.take_note("x", again()).map(|event| event.cause)).collect();
        let wanted = [None, None, None, Some("refused".to_owned()), None, None, None];
        assert_eq!(told, wanted);
        let wait = postman.not_before.duration_since(Instant::now());
        assert!(wait > Duration::from_secs(59) && wait <= LONGEST_AGAIN, "{wait:?}");
        assert_eq!(
            (postman.report(&AlertTable::default()).failed, postman.report(&AlertTable::default()).problem.is_some()),
            (8, true)
        );
        let over = postman.take_note("x", Outcome::Answered(Delivery::Done("it answered 200".into())));
        assert_eq!(over.map(|event| event.key).as_deref(), Some("problem/alert/hook/delivery"));
        assert_eq!(
            (postman.report(&AlertTable::default()).sent, postman.report(&AlertTable::default()).problem),
            (1, None)
        );
        // What it asks for counts.
        let after = Some(Duration::from_secs(7));
        postman.take_note("x", Outcome::Answered(Delivery::Again { why: "429".into(), after }));
        let wait = postman.not_before.duration_since(Instant::now());
        assert!(wait > Duration::from_secs(6) && wait <= Duration::from_secs(7), "{wait:?}");
        // A wrong key is told at once.
        let refused = Delivery::Refused { why: "401".into(), fault: Fault::Sink };
        assert!(postman.take_note("x", Outcome::Answered(refused)).is_some());
    }
}
