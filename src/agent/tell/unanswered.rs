//! Whether HAProxy answers, known to whoever asks, also while the loop waits for that very answer.
//!
//! A HAProxy that hangs keeps its sockets and takes connections: only the time since the first question without an
//! answer tells it. Shared by all who ask the worker that serves; read by the API.

use crate::haproxy::AdminError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A worker that is being reloaded may take a second; longer than this is a HAProxy that hangs or is out of breath.
const PATIENCE: Duration = Duration::from_secs(2);

/// Since when a question waits for HAProxy's answer.
#[derive(Clone, Debug, Default)]
pub struct Unanswered(Arc<Mutex<Option<Instant>>>);

impl Unanswered {
    /// Passes an answer on, and takes note of how long it took. Only an answer ends the silence, or that nobody listens,
    /// which is another finding; that it did not come in time does not.
    pub(in crate::agent) async fn on<T>(
        &self,
        question: impl Future<Output = Result<T, AdminError>>,
    ) -> Result<T, AdminError> {
        self.set(|since| since.or_else(|| Some(Instant::now())));
        let answer = question.await;
        if !matches!(answer, Err(AdminError::Deadline { .. })) {
            self.forget();
        }
        answer
    }

    /// How long HAProxy has been silent; `None` while it answers in the time that it may take.
    pub fn lasts(&self) -> Option<Duration> {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed()).filter(|silence| *silence >= PATIENCE)
    }

    /// Who asked has ended, and its last question with it.
    pub(in crate::agent) fn forget(&self) {
        self.set(|_| None);
    }

    fn set(&self, change: impl FnOnce(Option<Instant>) -> Option<Instant>) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = change(*since);
    }
}
