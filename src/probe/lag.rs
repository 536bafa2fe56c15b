//! How late our own timers are: a machine that lags must not blame a server for it.

use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often the timer beside a probe is due.
const TICK: Duration = Duration::from_millis(50);

/// Runs a future with a timer beside it; returns its output and the timer's worst delay.
pub(super) async fn with_lag<F: Future>(future: F) -> (F::Output, Duration) {
    let mut future = pin!(future);
    let mut worst = Duration::ZERO;
    loop {
        let due = Instant::now() + TICK;
        tokio::select! {
            biased;
            output = &mut future => return (output, worst.max(Instant::now().saturating_duration_since(due))),
            () = sleep_until(due) => worst = worst.max(Instant::now().saturating_duration_since(due)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant as Clock;

    #[tokio::test(start_paused = true)]
    async fn waiting_is_no_lag() {
        assert_eq!(with_lag(tokio::time::sleep(Duration::from_secs(9))).await.1, Duration::ZERO);
    }

    #[tokio::test]
    async fn a_blocked_thread_is_lag() {
        let block = async {
            tokio::task::yield_now().await;
            let until = Clock::now() + Duration::from_millis(120);
            while Clock::now() < until {
                std::hint::spin_loop();
            }
        };
        assert!(with_lag(block).await.1 >= Duration::from_millis(60));
    }
}
