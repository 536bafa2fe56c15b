//! Who is listened to for live traffic.

use super::traffic_listener::Batch;
use camino::Utf8PathBuf;
use tokio::sync::mpsc;

/// Who is listened to.
#[derive(Debug, Default)]
pub(in crate::agent) struct Ears {
    /// The admin socket that is listened at.
    pub at: Option<Utf8PathBuf>,
    pub batches: Option<mpsc::Receiver<Batch>>,
}

impl Ears {
    /// The next batch; never, where nobody is listened to.
    pub async fn next(&mut self) -> Batch {
        match &mut self.batches {
            Some(batches) => match batches.recv().await {
                Some(batch) => batch,
                // The tasks end only with the listening itself.
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}
