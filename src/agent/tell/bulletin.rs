//! The one place that tells what happened: the log has it, and so has the history of events.
//!
//! A thread of its own writes the history, so that nobody waits for a disk. Of what comes faster than a disk takes it,
//! some thousands wait; the rest is in the log alone, and counted.

use crate::alerts::classify;
use crate::event::{Event, EventKind, Severity};
use crate::store::EventWriter;
use crate::sys;
use camino::Utf8Path;
use jiff::Timestamp;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// So many events wait for the disk.
const MAX_WAITING: usize = 8_192;
/// So many are written at once.
const MAX_BATCH: usize = 1_000;
/// An agent that ends waits so long for the disk, for each file.
pub(in crate::agent) const LAST_WRITE: Duration = Duration::from_secs(3);

/// So many events wait for the desk of alerts; what is beyond it reads from the history.
const MAX_UNHEARD: usize = 4_096;

/// Tells events. Whoever has one tells to the same history; the last one to go waits until all is written.
#[derive(Clone, Debug, Default)]
pub struct Bulletin {
    history: Option<Arc<History>>,
    ear: Arc<Mutex<Option<Mouth>>>,
}

/// What is heard of all events that mean something to an alert.
#[derive(Debug)]
pub(in crate::agent) struct AlertEar {
    receiver: mpsc::Receiver<Event>,
    has_missed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Mouth {
    sender: mpsc::Sender<Event>,
    has_missed: Arc<AtomicBool>,
}

impl AlertEar {
    /// The next event; `None` when another listens in this one's place.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next one, where it is there.
    pub fn try_next(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// Whether events were missed since this was asked last.
    pub fn has_missed(&self) -> bool {
        self.has_missed.swap(false, Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct History {
    sender: Option<SyncSender<Box<Event>>>,
    /// Disconnected when the writer has ended.
    written: Mutex<Receiver<()>>,
    lost: Arc<AtomicU64>,
    /// Why the last ones could not be kept.
    problem: Arc<Mutex<Option<String>>>,
}

impl Bulletin {
    /// For a process that keeps no history, and tells the log alone.
    pub fn log_only() -> Self {
        Self::default()
    }

    /// Keeps a history in this state directory. Only for the holder of its lock.
    pub fn open(state: &Utf8Path) -> Self {
        let (sender, receiver) = sync_channel(MAX_WAITING);
        let (end, written) = sync_channel(0);
        let (lost, problem) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Option<String>>>::default());
        let writer = Writer { file: EventWriter::new(state), lost: Arc::clone(&lost), problem: Arc::clone(&problem) };
        let thread = std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            let _end = end;
            writer.write(&receiver);
        });
        match thread {
            Ok(_) => {
                let history = History { sender: Some(sender), written: Mutex::new(written), lost, problem };
                Self { history: Some(Arc::new(history)), ear: Arc::default() }
            }
            Err(error) => {
                tracing::error!(%error, "no thread can be had: what happens is told in the log alone");
                Self::log_only()
            }
        }
    }

    /// Tells what has just happened.
    pub fn tell(&self, event: Event) {
        log(&event);
        let event = Box::new(event.at(Timestamp::now()));
        self.mention(&event);
        let Some(history) = &self.history else { return };
        let Some(sender) = &history.sender else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sender.try_send(event) {
            history.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What lasts has other words by now: whoever is told of it reads those; it is no news.
    pub(in crate::agent) fn reword(&self, event: Event) {
        self.mention(&event.at(Timestamp::now()));
    }

    fn mention(&self, event: &Event) {
        if let Some(Mouth { sender, has_missed }) = &*self.ear.lock().unwrap_or_else(PoisonError::into_inner)
            && !classify(event).is_empty()
            && let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(event.clone())
        {
            has_missed.store(true, Ordering::Relaxed);
        }
    }

    /// Hears what is told from now on, in the place of who listened before.
    pub(in crate::agent) fn listen(&self) -> AlertEar {
        let (sender, receiver) = mpsc::channel(MAX_UNHEARD);
        let has_missed = Arc::<AtomicBool>::default();
        let mouth = Mouth { sender, has_missed: Arc::clone(&has_missed) };
        *self.ear.lock().unwrap_or_else(PoisonError::into_inner) = Some(mouth);
        AlertEar { receiver, has_missed }
    }

    /// Why the history is not complete, while it is not.
    pub fn problem(&self) -> Option<String> {
        let problem = self.history.as_ref()?.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        drop(self.sender.take());
        // It ends when it has written what waits; a disk that hangs is not waited for.
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = written.recv_timeout(LAST_WRITE);
    }
}

struct Writer {
    file: EventWriter,
    lost: Arc<AtomicU64>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Writer {
    fn write(mut self, receiver: &Receiver<Box<Event>>) {
        while let Ok(first) = receiver.recv() {
            let mut batch = vec![*first];
            batch.extend(receiver.try_iter().take(MAX_BATCH - 1).map(|event| *event));
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let text = format!("{lost} events came faster than they could be kept, and are in the log alone");
                let event = Event::once(EventKind::Problem, Severity::Warning, "events", text);
                batch.push(event.at(Timestamp::now()));
            }
            let failed = self.file.append(&batch).err();
            if failed.is_some() {
                self.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
            self.note(failed.map(|failed| format!("what happens is told in the log alone: {}", sys::chain(&failed))));
        }
    }

    fn note(&self, problem: Option<String>) {
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != problem {
            match &problem {
                Some(problem) => tracing::error!("{problem}"),
                None => tracing::info!("what happens is kept again"),
            }
            *known = problem;
        }
    }
}

fn log(event: &Event) {
    let Event { kind, severity, subject, text, cause, .. } = event;
    let cause = (!cause.is_empty()).then_some(cause);
    match severity {
        Severity::Info => tracing::info!(%kind, subject, cause, "{text}"),
        Severity::Warning => tracing::warn!(%kind, subject, cause, "{text}"),
        Severity::Error => tracing::error!(%kind, subject, cause, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EventReader;

    #[test]
    fn all_that_was_told_is_there_when_the_last_teller_is_gone() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        let bulletin = Bulletin::open(state);
        let other = bulletin.clone();
        for number in 0..3_000 {
            bulletin.tell(Event::once(EventKind::Health, Severity::Info, "chat/a", number));
        }
        drop(bulletin);
        other.tell(Event::once(EventKind::Health, Severity::Info, "chat/a", "last"));
        assert_eq!(other.problem(), None);
        drop(other);
        let mut seen = vec![];
        EventReader::new(state).read(|event| seen.push(event.text)).unwrap();
        assert_eq!((seen.len(), seen[0].as_str(), seen[3_000].as_str()), (3_001, "0", "last"));
    }

    #[test]
    fn a_directory_that_is_gone_is_told_and_so_is_how_much_was_lost() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap().join("state");
        let bulletin = Bulletin::open(&state);
        bulletin.tell(Event::once(EventKind::Health, Severity::Info, "chat/a", "nobody keeps this"));
        while bulletin.problem().is_none() {
            std::thread::yield_now();
        }
        assert!(bulletin.problem().is_some_and(|problem| problem.contains("events.jsonl")));
        fs_err::create_dir(&state).unwrap();
        bulletin.tell(Event::once(EventKind::Health, Severity::Info, "chat/a", "kept"));
        drop(bulletin);
        let mut seen = vec![];
        EventReader::new(&state).read(|event| seen.push(event.text)).unwrap();
        assert_eq!(seen[0], "kept");
        assert!(seen[1].starts_with("1 events came faster"), "{seen:?}");
    }
}
