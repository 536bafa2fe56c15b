//! Keeps what clients used over restarts of the agent, and says what their budgets have come to.

use crate::agent::tell::bulletin::{Bulletin, LAST_WRITE};
use crate::agent::tell::refusal::Refusal;
use crate::config::{Budget, Client, Clients, Config, WhenSpent};
use crate::event::{Event, EventKind, Severity};
use crate::render::SPENT_MAP;
use crate::store;
use crate::sys;
use crate::usage::{Hour, OpenUsage, Period, SharedLedger, UsageHour, UsageLedger, money};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What is new is written this often at most. A death of the agent loses nothing of it: HAProxy's ring still has the lines,
/// but for a worker that ends meanwhile.
const EVERY: Duration = Duration::from_millis(200);
/// And no sooner than so many times as long as the last time took…
const PAUSES: u32 = 20;
/// …but within this, if the disk takes it at all.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A ledger that is not compared with HAProxy by then (nobody listens to it, or it does not run) is taken as it is.
const FORGIVES: Duration = Duration::from_secs(15);
/// Largest map of what clients spent that is read, in bytes.
const MAX_MAP: u64 = 16 << 20;
/// Hours are kept so long: 400 days.
const KEPT: i64 = 400 * 24;

/// The ledger, and how much of it is on disk.
#[derive(Debug)]
pub(in crate::agent) struct UsageBook {
    /// `None`: nothing is written, since somebody only observes.
    state: Option<Utf8PathBuf>,
    ledger: SharedLedger,
    /// The version of the ledger that is on disk, and that of what other nodes told.
    saved: u64,
    saved_elsewhere: u64,
    not_before: Instant,
    writing: Option<JoinHandle<Written>>,
    /// Why it could not be written.
    problem: Option<String>,
    forgotten_at: Hour,
    /// From then on clients are forgiven, whether or not the ledger was compared with HAProxy.
    forgives_at: Option<Instant>,
    /// How far each client was told to be; `None`: nobody was looked at yet.
    told: Option<HashMap<String, Reached>>,
}

#[derive(Debug)]
struct Written {
    version: u64,
    version_elsewhere: u64,
    closed: Vec<UsageHour>,
    took: Duration,
    result: Result<(), String>,
}

/// In which window a client had which part of its budget behind it, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reached {
    window: (i64, u32),
    part: u32,
}

impl UsageBook {
    /// Keeps this ledger. `state`: where; `None`: nothing is written.
    pub fn new(state: Option<Utf8PathBuf>, ledger: SharedLedger) -> Self {
        let mut known = ledger.lock();
        known.hold_forgiving(true);
        let (saved, saved_elsewhere) = (known.version(), known.elsewhere().version());
        drop(known);
        Self {
            state,
            ledger,
            saved,
            saved_elsewhere,
            not_before: Instant::now(),
            writing: None,
            problem: None,
            forgotten_at: Hour::default(),
            forgives_at: Some(Instant::now() + FORGIVES),
            told: None,
        }
    }

    /// Why it is not written, while it is not.
    pub fn problem(&self) -> Option<Refusal> {
        let problem = self.problem.as_ref()?;
        Some(Refusal::notice(format_args!("what clients use is not written down: {problem}")))
    }

    /// Writes what is new, where it is time: on a thread of its own, so that a slow disk delays nobody.
    pub async fn keep(&mut self) {
        if self.forgives_at.is_some_and(|at| at <= Instant::now()) {
            self.forgives_at = None;
            self.ledger.lock().hold_forgiving(false);
        }
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.ended().await;
        }
        if self.writing.is_none() && Instant::now() >= self.not_before {
            self.begin();
        }
    }

    /// Writes what is new: the agent ends.
    pub async fn close(mut self) {
        let write = async {
            self.ended().await;
            self.begin();
            self.ended().await;
        };
        if tokio::time::timeout(LAST_WRITE, write).await.is_err() {
            tracing::warn!("what clients used last is not kept: the disk does not answer");
        }
    }

    /// Tells which clients have come near the end of their budgets, or to it, since it was told last.
    pub fn tell(&mut self, config: &Config, clients: &Clients, bulletin: &Bulletin) {
        let hour = Hour::of(jiff::Timestamp::now());
        // What the life before knew, it told.
        let is_first = self.told.is_none();
        let mut told = self.told.take().unwrap_or_default();
        for (client, budget) in budgeted(config, clients) {
            let name = client.name.value.as_str();
            let ledger = self.ledger.lock();
            let (window, forgiven) = ledger.spent(name, budget.per, hour);
            let spent = window.nano_usd.saturating_add(ledger.spent_elsewhere(name, budget.per, hour));
            drop(ledger);
            let whole = budget.nano_usd.value;
            let part = u32::try_from(u128::from(spent) * 1000 / u128::from(whole.max(1))).unwrap_or(u32::MAX);
            let now = Reached { window: (window.number, forgiven), part };
            let before = told.insert(name.to_owned(), now).filter(|before| before.window == now.window);
            let from = before.map_or(if is_first { part } else { 0 }, |before| before.part);
            let mut ends = budget.alert_at.iter().copied().filter(|at| *at < 1000).chain([1000]);
            // Of several that were passed at once the last one says it all.
            if let Some(passed) = ends.rfind(|at| from < *at && *at <= part) {
                bulletin.tell(event(client, budget, spent, passed));
            }
        }
        self.told = Some(told);
    }

    fn begin(&mut self) {
        let hour = Hour::of(jiff::Timestamp::now());
        let Some(state) = self.state.clone() else { return };
        let mut ledger = self.ledger.lock();
        let is_ahead = ledger.is_ahead_of(hour);
        ledger.turn(hour);
        let is_news = is_ahead
            || ledger.version() != self.saved && !ledger.is_empty()
            || ledger.elsewhere().version() != self.saved_elsewhere;
        drop(ledger);
        let forgets = self.forgotten_at != hour;
        if !is_news && !forgets {
            return;
        }
        self.forgotten_at = hour;
        let (ledger, saved, saved_elsewhere) = (self.ledger.clone(), self.saved, self.saved_elsewhere);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            if is_ahead {
                let before = hours_before(&state, hour);
                ledger.lock().come_back(before, hour);
            }
            // A line may have come since.
            let (version, is_empty, (closed, open)) = {
                let ledger = ledger.lock();
                (ledger.version(), ledger.is_empty(), ledger.to_save())
            };
            let version_elsewhere = ledger.lock().elsewhere().version();
            let mut result = Ok(());
            if version != saved && !is_empty {
                result = store::save_usage(&state, &closed, &open).map_err(|e| sys::chain(&e));
                if result.is_ok() {
                    ledger.lock().elsewhere().named();
                }
            }
            if version_elsewhere != saved_elsewhere && result.is_ok() {
                let sums = ledger.lock().elsewhere().to_save(hour);
                result = store::save_elsewhere(&state, &sums).map_err(|e| sys::chain(&e));
            }
            if forgets && result.is_ok() {
                result = store::forget_usage(&state, Hour(hour.0 - KEPT)).map_err(|e| sys::chain(&e));
            }
            Written { version, version_elsewhere, closed, took: began.elapsed(), result }
        }));
    }

    async fn ended(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        let Written { version, version_elsewhere, closed, took, result } = match writing.await {
            Ok(written) => written,
            Err(broken) => Written {
                version: 0,
                version_elsewhere: 0,
                closed: vec![],
                took: Duration::ZERO,
                result: Err(broken.to_string()),
            },
        };
        self.not_before = Instant::now() + EVERY.max((took * PAUSES).min(MAX_PAUSE));
        match result {
            Ok(()) => {
                self.ledger.lock().saved(&closed);
                (self.saved, self.saved_elsewhere, self.problem) = (version, version_elsewhere, None);
            }
            Err(problem) => {
                // Tried again, all of it.
                self.forgotten_at = Hour::default();
                self.not_before = Instant::now() + MAX_PAUSE;
                self.problem = Some(problem);
            }
        }
    }
}

/// Beside what clients have spent HAProxy's map has the number of the ledger: no client is called so.
const LEDGER: &str = "=ledger";

/// What is on disk of the hour that is not over, and of the month. What is damaged is told, and missing. A state directory that was
/// lost keeps its number, which HAProxy's map has: what is read again from HAProxy is what other nodes know of already.
pub fn load(state: &Utf8Path, config: &Config) -> UsageLedger {
    let now = Hour::of(jiff::Timestamp::now());
    let mut open = store::load_open_usage(state).unwrap_or_else(|e| {
        tracing::warn!("the usage of this hour is counted anew: {}", sys::chain(&e));
        OpenUsage::default()
    });
    let is_named = open.ledger != 0;
    if !is_named {
        open.ledger = number_in_map(config).unwrap_or_else(|| rand::random_range(1..u64::MAX));
    }
    let elsewhere = store::load_elsewhere(state).unwrap_or_else(|e| {
        tracing::warn!("what clients spent at other nodes is not known until those tell it: {}", sys::chain(&e));
        vec![]
    });
    let mut ledger = UsageLedger::resume(open, hours_before(state, now), now);
    ledger.belong_to(config.node.name.value.as_str());
    elsewhere.into_iter().for_each(|sum| ledger.elsewhere().hear(sum, now));
    if is_named {
        ledger.elsewhere().named();
    }
    ledger
}

/// The number that the ledger of this HAProxy had.
pub fn number_in_map(config: &Config) -> Option<u64> {
    let map = sys::files::directory_of(&config.haproxy.config).join(SPENT_MAP);
    let bytes = sys::files::read_limited(&map, MAX_MAP).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let number = text.lines().find_map(|line| line.strip_prefix(LEDGER)?.trim().parse().ok());
    number.filter(|number| *number != 0)
}

/// The hours on disk that may be of this month, up to now.
fn hours_before(state: &Utf8Path, now: Hour) -> Vec<UsageHour> {
    let mut before = vec![];
    // What a backup brought is told of, and counts as spent elsewhere.
    let restored = store::load_restored(state).unwrap_or_else(|e| {
        tracing::warn!("what was used before the restore may count twice: {}", sys::chain(&e));
        Hour::default()
    });
    // The month began at most so many hours ago.
    let from = restored.max(Hour(now.0 - 31 * 24));
    match store::load_usage(state, from, Hour(now.0 + 1), |hour| before.push(hour)) {
        Ok(damaged) => {
            for path in damaged {
                tracing::warn!("{path} is damaged: what was used in that hour is missing, in budgets too");
            }
        }
        Err(e) => tracing::warn!("what was used before cannot be read: {}", sys::chain(&e)),
    }
    before
}

/// What HAProxy is to know of each client, whichever plan it gets: how often it was forgiven; then of the day and of the month
/// its number, what the counters should have, and what they do not have, other nodes' share included. Clients that spent nothing
/// are left out.
pub(in crate::agent) fn spent(
    ledger: &mut UsageLedger,
    config: &Config,
    clients: &Clients,
) -> BTreeMap<String, String> {
    let hour = Hour::of(jiff::Timestamp::now());
    let mut rows = BTreeMap::new();
    if !config.plans.iter().any(|plan| plan.budget.is_some()) {
        return rows;
    }
    ledger.belong_to(config.node.name.value.as_str());
    if ledger.elsewhere().is_named() {
        rows.insert(LEDGER.to_owned(), ledger.elsewhere().own().to_string());
    }
    for client in clients.iter() {
        let name = client.name.value.as_str();
        client.budget_since.into_iter().for_each(|since| ledger.forgive(name, since));
        let (_, forgiven) = ledger.spent(name, Period::Day, hour);
        let (mut row, mut is_empty) = (forgiven.to_string(), forgiven == 0);
        for period in [Period::Day, Period::Month] {
            let (window, _) = ledger.spent(name, period, hour);
            let elsewhere = ledger.spent_elsewhere(name, period, hour);
            let unknown = window.late_nano_usd.saturating_add(elsewhere);
            row.push_str(&format!(" {} {} {unknown}", window.tag(forgiven), window.known_nano_usd()));
            is_empty &= (window.nano_usd, elsewhere) == (0, 0);
        }
        if !is_empty {
            rows.insert(name.to_owned(), row);
        }
    }
    rows
}

/// Clients whose plan has a budget.
pub(in crate::agent) fn budgeted<'a>(
    config: &'a Config,
    clients: &'a Clients,
) -> impl Iterator<Item = (&'a Client, &'a Budget)> {
    clients.iter().filter_map(|client| {
        let at = config.plans.binary_search_by(|plan| plan.name.value.cmp(&client.plan.value)).ok()?;
        Some((client, config.plans[at].budget.as_ref()?))
    })
}

fn event(client: &Client, budget: &Budget, nano_usd: u64, passed: u32) -> Event {
    let (name, plan) = (&client.name.value, &client.plan.value);
    let period = budget.per.word();
    let (whole, spent) = (money::told(budget.nano_usd.value), money::told(nano_usd));
    let text = match passed {
        1000 => format!("client {name} has spent its budget: ${spent} of ${whole} a {period}"),
        _ => {
            format!("client {name} has spent ${spent} of ${whole} a {period}: {} % and more", f64::from(passed) / 10.0)
        }
    };
    let then = match (passed, budget.when_spent) {
        (1000, WhenSpent::Deny) => format!("it is refused until the {period} is over (UTC)"),
        (1000, WhenSpent::Only) => format!("until the {period} is over (UTC) it may ask for the models of `only`"),
        (_, WhenSpent::Deny) => "when it is spent, it is refused".to_owned(),
        (_, WhenSpent::Only) => "when it is spent, it may ask for the models of `only`".to_owned(),
        (_, WhenSpent::Pass) => "nothing is refused".to_owned(),
    };
    Event::once(EventKind::Budget, Severity::Warning, format!("client/{name}"), text)
        .about(format!("{}.{}", passed / 1000, passed % 1000))
        .because(format!("plan {plan}: {then}"))
}
