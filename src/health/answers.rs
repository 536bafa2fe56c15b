//! Whether a server answers at this moment: what an outage is, and when it is over. Another question than whether it is
//! healthy, which remembers.

use super::ServerHealth;
use crate::model::Moment;

impl ServerHealth {
    /// Whether it answers now, by the newest that is known: requests of the last seconds, else the last probes. `None`:
    /// neither tells. What it is held back for does not count.
    pub fn answers(&self, now: Moment) -> Option<bool> {
        let by_probes = || {
            let mut asked =
                self.lines.iter().filter(|(kind, _)| kind.decides()).map(|(_, line)| &line.evidence).peekable();
            asked.peek()?;
            let (mut succeeds, mut fails) = (true, false);
            // What was asked before requests opened the circuit has been answered by them.
            let fell_at = self.traffic.as_ref().and_then(|traffic| traffic.fell_at);
            for evidence in asked {
                let is_old = fell_at.is_some_and(|fell| evidence.last.as_ref().is_none_or(|(at, _)| *at <= fell));
                succeeds &= evidence.successes > 0 && !is_old;
                fails |= evidence.failures > 0 || is_old;
            }
            (succeeds || fails).then_some(!fails)
        };
        self.traffic.as_ref().and_then(|traffic| traffic.answers(now)).or_else(by_probes)
    }
}
