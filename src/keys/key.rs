//! What is known of one key.
//!
//! Knows words about a key and the times that follow from them, not the other keys. Called by `pool`.

use crate::health::Outcome;
use crate::model::{MAX_RETRY_AFTER, Moment};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The pause after a 429 that names none; doubles with each further one…
const PAUSE: Duration = Duration::from_secs(10);
/// …up to this.
const PAUSE_MAX: Duration = Duration::from_secs(120);
/// A limit is forgotten so long after its pause: the next one is a first one again.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// A rejected key is asked again after this; the gap doubles with each further rejection…
const RETEST: Duration = Duration::from_secs(60);
/// …up to this, which is also the gap where the account is spent: nobody pays a bill within a minute.
const RETEST_MAX: Duration = Duration::from_secs(3600);
/// A key that nobody uses is asked this often, so that a bad one is known before it is needed.
const ROUTINE: Duration = Duration::from_secs(3600);
/// A test that told nothing (the server was out of reach) is repeated after this…
const AGAIN: Duration = Duration::from_secs(60);
/// …and after this where live traffic suspects the key.
const AGAIN_SUSPECT: Duration = Duration::from_secs(10);
/// Live rejections in a row that condemn a key: a single one may be about what its client asked for.
const LIVE_REJECTIONS: u32 = 2;
/// One server's word against a key does not count while another has accepted it within this: then it is the server.
const ACCEPTED_LATELY: Duration = Duration::from_secs(300);
/// The other server is not asked again for so long after it accepted the key.
const ACCEPTED_JUST_NOW: Duration = Duration::from_secs(5);
/// A renewed key bears the id of the one before it: what live traffic says of that id is for so long about the old one.
const DEAF: Duration = Duration::from_secs(5);

/// Who says something of a key; a later one in this order knows more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyWitness {
    /// The free probe: the key is known, nothing is said of its account.
    Free,
    /// A probe that costs tokens.
    Deep,
    /// A client's request.
    Live,
}

/// Why a key is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// 401, 403: it is not accepted.
    Credential,
    /// 402 or a quota: its account is spent.
    Billing,
}

impl Rejection {
    /// The name in logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Billing => "billing",
        }
    }
}

/// Whether a key may be used.
///
/// ```text
///              429                       401, 402, 403, quota
///  InService ◄─────► Cooling ──────────────────┐
///      │    deadline    ▲                      ▼
///      │                └── pause lasts ──── Retired
///      └───────────────────────────────────►   │
///      ▲           401, 402, 403, quota        │
///      └────────── a test passes ──────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It may be used.
    InService,
    /// It was limited (429), and rests until then.
    Cooling {
        /// Never moves back.
        until: Moment,
    },
    /// It was rejected.
    Retired {
        /// What for.
        why: Rejection,
        /// When it is asked again, and may come back.
        retest_at: Moment,
    },
}

impl KeyState {
    /// The name in logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InService => "in_service",
            Self::Cooling { .. } => "cooling",
            Self::Retired { .. } => "retired",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retired { why, .. } => write!(f, "retired({})", why.as_str()),
            Self::InService | Self::Cooling { .. } => f.write_str(self.as_str()),
        }
    }
}

/// A rejection that counts.
#[derive(Clone, Copy, Debug)]
struct Retired {
    why: Rejection,
    by: KeyWitness,
    retest_at: Moment,
}

/// One key.
#[derive(Clone, Debug)]
pub(super) struct PoolKey {
    cooling_until: Option<Moment>,
    /// Limits in a row, each after the pause of the one before.
    limits: u32,
    limited_by: KeyWitness,
    retired: Option<Retired>,
    /// Rejections in a row that counted: the gap between two tests grows with them.
    rejections: u32,
    /// Live rejections in a row; the first only makes it suspect.
    live_rejections: u32,
    live_billing: bool,
    /// Which server accepted it last when, and has not rejected it since…
    accepted: BTreeMap<u16, Moment>,
    /// …and which did so for what costs money.
    account_accepted: BTreeMap<u16, Moment>,
    deaf_until: Moment,
    pub(super) suspect: bool,
    /// When the free probe is to ask for it.
    pub(super) test_at: Moment,
    pub(super) is_testing: bool,
    /// When the last test of it started.
    tested_at: Option<Moment>,
    /// Whose word decides: the server that is to be asked.
    pub(super) ask: Option<u16>,
    pub(super) last: Option<(Moment, Outcome, KeyWitness)>,
    /// Client requests that were seen to use it.
    pub(super) uses: u64,
}

impl PoolKey {
    /// A key of which nothing is known: it may be used.
    pub(super) fn new(test_at: Moment) -> Self {
        Self {
            cooling_until: None,
            limits: 0,
            limited_by: KeyWitness::Free,
            retired: None,
            rejections: 0,
            live_rejections: 0,
            live_billing: false,
            accepted: BTreeMap::new(),
            account_accepted: BTreeMap::new(),
            deaf_until: Moment::default(),
            suspect: false,
            test_at,
            is_testing: false,
            tested_at: None,
            ask: None,
            last: None,
            uses: 0,
        }
    }

    /// A new value in the place of an older one.
    pub(super) fn renewed(test_at: Moment, now: Moment) -> Self {
        Self { deaf_until: now + DEAF, ..Self::new(test_at) }
    }

    pub(super) fn state(&self, now: Moment) -> KeyState {
        match (self.retired, self.cooling_until) {
            (Some(Retired { why, retest_at, .. }), _) => KeyState::Retired { why, retest_at },
            (None, Some(until)) if until > now => KeyState::Cooling { until },
            (None, _) => KeyState::InService,
        }
    }

    /// Forgets who said what, and what is under way: which of the servers is which may be another.
    pub(super) fn start_over(&mut self) {
        self.accepted.clear();
        self.account_accepted.clear();
        self.ask = None;
        self.is_testing = false;
    }

    /// Whether what live traffic says is still about the key before it.
    pub(super) fn is_deaf(&self, now: Moment) -> bool {
        now < self.deaf_until
    }

    /// It worked.
    pub(super) fn accept(&mut self, source: KeyWitness, voter: u16, now: Moment) {
        self.accepted.insert(voter, now);
        if source > KeyWitness::Free {
            self.account_accepted.insert(voter, now);
        }
        if self.lifts(source, now) {
            self.retired = None;
        }
        if self.retired.is_none_or(|retired| source >= retired.by) && source > KeyWitness::Free {
            self.rejections = 0;
        }
        if source >= self.limited_by {
            self.limits = 0;
        }
        // The free probe knows nothing of the account, nor of what completions meet.
        if source > KeyWitness::Free || !self.live_billing {
            self.suspect = false;
        }
        if source > KeyWitness::Free {
            self.live_rejections = 0;
            self.live_billing = false;
        }
        if self.retired.is_none() {
            self.test_at = now + ROUTINE;
        }
    }

    /// 429: the key is known, and is used too much.
    pub(super) fn limit(&mut self, source: KeyWitness, voter: u16, retry_after: Option<Duration>, now: Moment) {
        if self.retired.is_some_and(|retired| retired.why == Rejection::Credential) && self.lifts(source, now) {
            self.retired = None;
        }
        if self.is_contradicted(voter, now) {
            return;
        }
        if self.cooling_until.is_some_and(|until| until + FORGOTTEN <= now) {
            self.limits = 0;
        }
        // A hundred clients that are limited in one instant are one limit.
        if self.cooling_until.is_none_or(|until| until <= now) {
            self.limits = self.limits.saturating_add(1);
            if source == KeyWitness::Live && retry_after.is_none() {
                // An account that is spent says so in words that a log does not carry: once for each pause.
                self.test_at = now;
                self.ask = Some(voter);
            }
        }
        self.limited_by = self.limited_by.max(source);
        let doubled = PAUSE.saturating_mul(1 << self.limits.saturating_sub(1).min(10)).min(PAUSE_MAX);
        let until = now + retry_after.map_or(doubled, |asked| asked.min(MAX_RETRY_AFTER));
        self.cooling_until = self.cooling_until.max(Some(until));
    }

    /// Rejected, perhaps for what a client asked for: the free probe is to say.
    pub(super) fn doubt(&mut self, voter: u16, now: Moment) {
        self.suspect = true;
        self.ask = Some(voter);
        // Whoever asks wrongly asks often.
        self.test_at = self.tested_at.map_or(now, |tested| (tested + AGAIN_SUSPECT).max(now));
    }

    /// A 401 that a client met, where a free probe can say more: the key rests while another one serves (`may_rest`), and
    /// the probe decides whether it is out.
    pub(super) fn reject_for_now(&mut self, voter: u16, count: u32, may_rest: bool, now: Moment) {
        self.live_rejections = self.live_rejections.saturating_add(count);
        self.doubt(voter, now);
        if self.live_rejections < LIVE_REJECTIONS || !may_rest || self.is_contradicted(voter, now) {
            return;
        }
        if self.cooling_until.is_none_or(|until| until <= now) {
            self.limits = self.limits.saturating_add(1);
        }
        self.limited_by = KeyWitness::Live;
        let doubled = PAUSE.saturating_mul(1 << self.limits.saturating_sub(1).min(10)).min(PAUSE_MAX);
        self.cooling_until = self.cooling_until.max(Some(now + doubled));
    }

    /// 401, 402, 403 or a quota.
    pub(super) fn reject(&mut self, source: KeyWitness, voter: u16, why: Rejection, count: u32, now: Moment) {
        if source == KeyWitness::Live {
            self.live_rejections = self.live_rejections.saturating_add(count);
            self.live_billing |= why == Rejection::Billing;
            if self.live_rejections < LIVE_REJECTIONS {
                self.suspect = true;
                self.ask = Some(voter);
                self.test_at = now;
                return;
            }
        }
        self.accepted.remove(&voter);
        self.account_accepted.remove(&voter);
        // A free probe that is answered elsewhere knows nothing of an account that clients found spent.
        let accepted = match why {
            Rejection::Billing if source > KeyWitness::Free => &self.account_accepted,
            Rejection::Billing | Rejection::Credential => &self.accepted,
        };
        if let Some((other, at)) = elsewhere(accepted, voter, now) {
            if now.since(at) >= ACCEPTED_JUST_NOW {
                self.suspect = true;
                self.ask = Some(other);
                self.test_at = now;
            }
            return;
        }
        self.suspect = false;
        let before = self.retired;
        if let Some(retired) = self.retired.as_mut().filter(|before| before.retest_at > now && before.why == why) {
            // Between two tests many may say the same: that neither lengthens the wait nor starts it anew.
            // Whoever rejected it can tell that it is accepted again.
            retired.by = retired.by.min(source);
            return;
        }
        self.rejections = self.rejections.saturating_add(1);
        let gap = match why {
            Rejection::Billing if source < KeyWitness::Live => RETEST_MAX,
            // What a client met may be of what it asked for; the free probe, which cannot know, gives it another try.
            Rejection::Billing | Rejection::Credential => {
                RETEST.saturating_mul(1 << self.rejections.saturating_sub(1).min(10)).min(RETEST_MAX)
            }
        };
        let retest_at = before.map_or(now + gap, |before| before.retest_at.max(now + gap));
        let by = before.map_or(source, |before| before.by.min(source));
        self.retired = Some(Retired { why, by, retest_at });
        self.ask = Some(voter);
        self.test_at = retest_at;
    }

    /// Where no probe is free a rejected key comes back by time, to be tried by whatever uses it next.
    pub(super) fn give_another_chance(&mut self, now: Moment) {
        if self.retired.is_some_and(|retired| retired.retest_at <= now) {
            self.retired = None;
        }
    }

    /// A test of it starts now; should it tell nothing, there is another one.
    pub(super) fn test_started(&mut self, now: Moment) {
        self.is_testing = true;
        self.tested_at = Some(now);
        self.test_at = now + if self.suspect { AGAIN_SUSPECT } else { AGAIN };
    }

    /// When it may be used again: the end of its pause, or the test that may bring it back.
    pub(super) fn usable_at(&self, now: Moment) -> Moment {
        match self.state(now) {
            KeyState::InService => now,
            KeyState::Cooling { until } => until,
            KeyState::Retired { retest_at, .. } => retest_at.max(self.cooling_until.unwrap_or_default()),
        }
    }

    /// Whether a word of this source ends the retirement: it knows as much as the one that began it, or it is time.
    fn lifts(&self, source: KeyWitness, now: Moment) -> bool {
        self.retired.is_some_and(|retired| source >= retired.by || now >= retired.retest_at)
    }

    fn is_contradicted(&self, voter: u16, now: Moment) -> bool {
        elsewhere(&self.accepted, voter, now).is_some()
    }
}

/// Another server that has accepted it lately, and when: the last one.
fn elsewhere(accepted: &BTreeMap<u16, Moment>, voter: u16, now: Moment) -> Option<(u16, Moment)> {
    let lately = |at: Moment| now.since(at) <= ACCEPTED_LATELY;
    let others = accepted.iter().filter(|(other, at)| **other != voter && lately(**at));
    others.map(|(other, at)| (*other, *at)).max_by_key(|(_, at)| *at)
}
