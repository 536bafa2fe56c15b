//! Which files this process is writing now, and since when: a disk that hangs gives no error, and nobody who waits for it
//! can say so.
//!
//! Called by `files`; asked by `agent`.

use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// By number, in the order in which they began.
#[derive(Debug)]
struct UnderWay {
    begun: u64,
    writes: BTreeMap<u64, (Instant, Utf8PathBuf)>,
}

static UNDER_WAY: Mutex<UnderWay> = Mutex::new(UnderWay { begun: 0, writes: BTreeMap::new() });

fn under_way() -> MutexGuard<'static, UnderWay> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A write that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Write(u64);

impl Write {
    pub(super) fn of(path: &Utf8Path) -> Self {
        let mut all = under_way();
        all.begun += 1;
        let number = all.begun;
        all.writes.insert(number, (Instant::now(), path.to_owned()));
        Self(number)
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        under_way().writes.remove(&self.0);
    }
}

/// The file that has been written for longest, where that is longer than `limit`.
pub fn hanging(limit: Duration) -> Option<Utf8PathBuf> {
    let all = under_way();
    let (since, path) = all.writes.values().next()?;
    (since.elapsed() >= limit).then(|| path.clone())
}

#[cfg(test)]
mod tests {
    use super::{Write, hanging};
    use std::time::Duration;

    #[test]
    fn the_first_that_was_begun_is_told_until_it_ends() {
        // The limit of other tests' writes in this process: they begin and end at once.
        let first = Write::of("/a".into());
        assert_eq!(hanging(Duration::from_secs(3600)), None);
        assert!(hanging(Duration::ZERO).is_some());
        let number = first.0;
        drop(first);
        assert!(!super::under_way().writes.contains_key(&number));
    }
}
