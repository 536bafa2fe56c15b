//! The ledger: each line of HAProxy counts exactly once, over deaths of the agent too.
//!
//! What is saved ([`OpenUsage`]) are the sums of the hour *and* how far each worker's lines were read. Whoever begins again
//! from it reads a worker's ring from its oldest line, and what stands before that place is counted already. So it does
//! not matter when it is saved, as long as the ring still has what came after.

use super::Amounts;
use super::elsewhere::{Elsewhere, Sum, ToldSum};
use super::hour::{Hour, Row, UsageHour, UsageKey};
use super::spent::{Forgiven, Period, Spent, Window};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Rows of one hour. What is beyond counts for its client and server with the model `*`.
pub const MAX_ROWS: usize = 20_000;
/// Clients whose spending is known.
const MAX_CLIENTS: usize = 50_000;
/// Workers of the life before that may come again.
const MAX_FORMER: usize = 16;
/// Hours that are over and wait for the disk.
const MAX_CLOSED: usize = 48;

/// Which line of a worker: its moment, and HAProxy's number of the request, which no other line has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineId {
    /// As HAProxy spells it.
    pub at: String,
    /// `%rt`
    pub request: u64,
}

/// What a line tells the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which line.
    pub line: LineId,
    /// When its request ended.
    pub hour: Hour,
    /// Whose usage, and how much; `None`: nobody's.
    pub used: Option<(UsageKey, Amounts)>,
}

/// What is saved: the hour that is not over, and how far the lines were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenUsage {
    /// Which ledger: a random number that it has for life.
    #[serde(default)]
    pub ledger: u64,
    /// The hour.
    #[serde(flatten)]
    pub hour: UsageHour,
    /// The last line of each worker that is counted. A line has a name that no other has, and so says whose it is.
    pub positions: Vec<LineId>,
    /// By client.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forgiven: BTreeMap<String, Forgiven>,
}

/// One worker that is read.
#[derive(Debug, Default)]
struct Reader {
    last: Option<LineId>,
    /// Lines that were counted as history, and may come again.
    seen: HashSet<u64>,
    /// It has a successor.
    is_old: bool,
}

/// The sums, and how far they go.
#[derive(Debug, Default)]
pub struct UsageLedger {
    hour: Hour,
    rows: HashMap<UsageKey, Amounts>,
    /// Hours that are over and are not yet taken away.
    closed: Vec<UsageHour>,
    spent: BTreeMap<String, Spent>,
    forgiven: BTreeMap<String, Forgiven>,
    /// Nobody is forgiven: what was spent before is not all known yet.
    holds: bool,
    readers: BTreeMap<u64, Reader>,
    /// Of the life before, of workers that are not read yet.
    former: Vec<LineId>,
    /// Counts the changes.
    version: u64,
    /// Whose it is.
    node: String,
    elsewhere: Elsewhere,
}

impl UsageLedger {
    /// Goes on where another one ended. `before` are the hours of the month up to `now`. One that ended in the future (a clock
    /// was wrong) goes on now.
    pub fn resume(open: OpenUsage, before: impl IntoIterator<Item = UsageHour>, now: Hour) -> Self {
        let former = open.positions.into_iter().take(MAX_FORMER).collect();
        let hour = open.hour.hour.min(now);
        let is_ahead = open.hour.hour > now;
        let elsewhere = Elsewhere::of(open.ledger);
        let mut ledger = Self { hour, former, forgiven: open.forgiven, elsewhere, ..Self::default() };
        for UsageHour { hour, rows } in before {
            // The open one stands for itself, also where its file was written already; but not for the hour of now, which is
            // another than its own.
            for Row { key, amounts } in rows {
                if hour < ledger.hour {
                    ledger.spend(hour, &key.client, &amounts);
                } else if is_ahead && hour == ledger.hour {
                    ledger.add(key, amounts);
                }
            }
        }
        open.hour.rows.into_iter().for_each(|Row { key, amounts }| ledger.add(key, amounts));
        ledger
    }

    /// Whether nobody has used anything yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.closed.is_empty()
            && self.former.is_empty()
            && self.forgiven.is_empty()
            && self.readers.values().all(|reader| reader.last.is_none())
    }

    /// Whether it is in a future: the clock was ahead, and is right again.
    pub fn is_ahead_of(&self, now: Hour) -> bool {
        self.hour > now
    }

    /// Comes back from the future. `before`: what is on disk of the month up to now.
    pub fn come_back(&mut self, before: impl IntoIterator<Item = UsageHour>, now: Hour) {
        let (closed, open) = self.to_save();
        // An hour that is on disk may wait to be written once more.
        let mut hours: BTreeMap<Hour, UsageHour> = before.into_iter().map(|hour| (hour.hour, hour)).collect();
        hours.extend(closed.iter().filter(|hour| hour.hour <= now).map(|hour| (hour.hour, hour.clone())));
        let readers = std::mem::take(&mut self.readers);
        let (version, holds) = (self.version + 1, self.holds);
        let (elsewhere, node) = (std::mem::take(&mut self.elsewhere), std::mem::take(&mut self.node));
        let closed = closed.into_iter().filter(|hour| hour.hour != now).collect();
        *self =
            Self { readers, version, holds, closed, node, elsewhere, ..Self::resume(open, hours.into_values(), now) };
    }

    /// Begins with a worker, or goes on with it.
    pub fn begin(&mut self, key: u64) {
        self.readers.entry(key).or_default();
    }

    /// Takes in all lines that a worker's ring has. Those up to the last one that is counted are left out; where that one is
    /// gone, all are new. They may come again, by [`take`](Self::take).
    pub fn take_history(&mut self, key: u64, lines: Vec<Told>) {
        let Some(reader) = self.readers.get_mut(&key) else { return };
        let is_counted = |told: &Told| reader.last.as_ref() == Some(&told.line) || self.former.contains(&told.line);
        let begin = lines.iter().rposition(is_counted).map_or(0, |at| at + 1);
        let mut seen: HashSet<u64> = lines.iter().map(|told| told.line.request).collect();
        lines.into_iter().skip(begin).for_each(|told| self.count(key, told));
        if let Some(reader) = self.readers.get_mut(&key) {
            std::mem::swap(&mut reader.seen, &mut seen);
        }
    }

    /// Takes in a line that has just come.
    pub fn take(&mut self, key: u64, told: Told) {
        let Some(reader) = self.readers.get_mut(&key) else { return };
        if reader.seen.is_empty() || !reader.seen.remove(&told.line.request) {
            self.count(key, told);
        }
    }

    /// A worker has a successor.
    pub fn succeed(&mut self, key: u64) {
        self.readers.get_mut(&key).into_iter().for_each(|reader| reader.is_old = true);
    }

    /// Whether a worker that has a successor is still read.
    pub fn has_old_worker(&self) -> bool {
        self.readers.values().any(|reader| reader.is_old)
    }

    /// A worker is gone.
    pub fn end(&mut self, key: u64) {
        self.version += u64::from(self.readers.remove(&key).is_some());
    }

    /// What a client spent in the window of an hour, without what it was forgiven; and how often that was.
    pub fn spent(&self, client: &str, period: Period, hour: Hour) -> (Window, u32) {
        let forgiven = self.forgiven.get(client);
        (left_of(self.spent.get(client), forgiven, period, hour), forgiven.map_or(0, |forgiven| forgiven.count))
    }

    /// What a client spent at other nodes in the window of an hour, as far as those told it.
    pub fn spent_elsewhere(&self, client: &str, period: Period, hour: Hour) -> u64 {
        self.elsewhere.spent(client, period, hour, since(self.forgiven.get(client)))
    }

    /// Whose it is: the node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// It is this node's.
    pub fn belong_to(&mut self, node: &str) {
        if self.node != node {
            node.clone_into(&mut self.node);
        }
    }

    /// Takes in what another node says. Whom it has forgiven later, is forgiven here as well.
    pub fn hear(&mut self, said: ToldSum, hour: Hour) {
        if let Ok(since) = Timestamp::from_second(said.sum.0)
            && said.sum.0 > 0
        {
            self.forgive(&said.client, since);
        }
        self.elsewhere.hear(said, hour);
    }

    /// What is known of other nodes.
    pub fn elsewhere(&mut self) -> &mut Elsewhere {
        &mut self.elsewhere
    }

    /// The next sums to tell other nodes, `most` at a time.
    pub fn page(&mut self, most: usize, hour: Hour) -> Vec<ToldSum> {
        let Self { elsewhere, spent, forgiven, .. } = self;
        elsewhere.page(most, spent, |client| sum_of(spent.get(client), forgiven.get(client), hour))
    }

    /// What this ledger knows of each client in the windows of an hour.
    pub fn sums(&self, hour: Hour) -> Vec<ToldSum> {
        let clients: std::collections::BTreeSet<&String> = self.spent.keys().chain(self.forgiven.keys()).collect();
        let ledger = self.elsewhere.own();
        let sum_of = |client: &String| sum_of(self.spent.get(client), self.forgiven.get(client), hour);
        clients.into_iter().map(|client| ToldSum { ledger, client: client.clone(), sum: sum_of(client) }).collect()
    }

    /// What a client has spent so far counts no more, unless that was said already, or something later.
    pub fn forgive(&mut self, client: &str, since: Timestamp) {
        let known = self.forgiven.get(client);
        // Whole seconds are what other nodes are told. An older file takes nothing back.
        if self.holds || known.is_some_and(|known| known.since.as_second() >= since.as_second()) {
            return;
        }
        let count = known.map_or(0, |known| known.count).wrapping_add(1);
        let spent = self.spent.get(client).copied().unwrap_or_default();
        self.forgiven.insert(client.to_owned(), Forgiven { since, count, spent });
        self.elsewhere.note(client);
        self.version += 1;
    }

    /// Whether to forgive nobody from now on, until the other is said: what is counted late would be a new debt, or lost.
    pub fn hold_forgiving(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Who has spent anything here.
    pub fn spenders(&self) -> Vec<String> {
        self.spent.keys().cloned().collect()
    }

    /// Adds what no line told, in an hour that is not over.
    pub fn make_up(&mut self, hour: Hour, whose: UsageKey, amounts: Amounts) {
        self.turn(hour);
        self.version += 1;
        self.add(whose, amounts);
    }

    /// Another listener begins: each worker is met anew.
    pub fn meet_again(&mut self) {
        let readers = std::mem::take(&mut self.readers).into_values();
        let read = readers.filter_map(|reader| reader.last);
        let former: Vec<_> = read.chain(std::mem::take(&mut self.former)).take(MAX_FORMER).collect();
        self.former = former;
    }

    /// How often it has changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The hour goes on, also where no line comes.
    pub fn turn(&mut self, hour: Hour) {
        if hour <= self.hour {
            return;
        }
        if !self.rows.is_empty() {
            self.closed.push(self.open_hour());
            self.version += 1;
        }
        // A disk that takes nothing for two days.
        if self.closed.len() > MAX_CLOSED {
            self.closed.remove(0);
        }
        self.rows = HashMap::new();
        self.hour = hour;
    }

    /// What is to be saved: first the hours that are over, then this.
    pub fn to_save(&self) -> (Vec<UsageHour>, OpenUsage) {
        let read = self.readers.values().filter_map(|reader| reader.last.clone());
        let positions = read.chain(self.former.iter().cloned()).collect();
        (
            self.closed.clone(),
            OpenUsage {
                ledger: self.elsewhere.own(),
                hour: self.open_hour(),
                positions,
                forgiven: self.forgiven.clone(),
            },
        )
    }

    /// These hours are saved.
    pub fn saved(&mut self, hours: &[UsageHour]) {
        self.closed.retain(|closed| !hours.contains(closed));
    }

    fn open_hour(&self) -> UsageHour {
        let mut rows: Vec<_> =
            self.rows.iter().map(|(key, amounts)| Row { key: key.clone(), amounts: *amounts }).collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        UsageHour { hour: self.hour, rows }
    }

    fn count(&mut self, key: u64, told: Told) {
        let Some(reader) = self.readers.get_mut(&key) else { return };
        reader.last = Some(told.line);
        self.version += 1;
        let Some((whose, amounts)) = told.used else { return };
        self.turn(told.hour);
        self.add(whose, amounts);
    }

    fn add(&mut self, mut whose: UsageKey, amounts: Amounts) {
        if !self.rows.contains_key(&whose) && self.rows.len() >= MAX_ROWS {
            "*".clone_into(&mut whose.model);
        }
        // A line of an hour that is over was late; its window is that of now.
        self.spend(self.hour, &whose.client, &amounts);
        *self.rows.entry(whose).or_default() += amounts;
    }

    fn spend(&mut self, hour: Hour, client: &str, amounts: &Amounts) {
        if (amounts.nano_usd, amounts.late_nano_usd) == (0, 0)
            || !self.spent.contains_key(client) && self.spent.len() >= MAX_CLIENTS
        {
            return;
        }
        let spent = self.spent.entry(client.to_owned()).or_default();
        spent.add(hour, amounts.nano_usd, amounts.late_nano_usd);
        self.elsewhere.note(client);
    }
}

/// What was spent in a window, without what was forgiven.
fn left_of(spent: Option<&Spent>, forgiven: Option<&Forgiven>, period: Period, hour: Hour) -> Window {
    let window = spent.copied().unwrap_or_default().in_window(period, hour);
    forgiven.map_or(window, |forgiven| window.without(forgiven.spent.in_window(period, hour)))
}

/// What is told of a client to others.
fn sum_of(spent: Option<&Spent>, forgiven: Option<&Forgiven>, hour: Hour) -> Sum {
    let windows = [Period::Day, Period::Month].map(|period| left_of(spent, forgiven, period, hour));
    Sum(since(forgiven), windows.map(|window| (window.number, window.nano_usd)))
}

/// From when on what a client spends counts, as [`Sum`] has it.
fn since(forgiven: Option<&Forgiven>) -> i64 {
    forgiven.map_or(0, |forgiven| forgiven.since.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    fn told(request: u64, hour: i64) -> Told {
        let key = UsageKey { client: format!("c{}", request % 3), model: "m".to_owned(), ..UsageKey::default() };
        let amounts = Amounts { requests: 1, nano_usd: request + 1, ..Amounts::default() };
        Told { line: LineId { at: format!("t{request}"), request }, hour: Hour(hour), used: Some((key, amounts)) }
    }

    fn sum(ledger: &UsageLedger, saved: &BTreeMap<Hour, UsageHour>) -> (u64, u64) {
        let (closed, open) = ledger.to_save();
        let mut hours = saved.clone();
        hours.extend(closed.into_iter().chain([open.hour]).map(|hour| (hour.hour, hour)));
        let rows = hours.values().flat_map(|hour| &hour.rows);
        rows.fold((0, 0), |(requests, usd), row| (requests + row.amounts.requests, usd + row.amounts.nano_usd))
    }

    proptest! {
        /// The agent dies at any moment, saved some time before, and reads the ring again: each line counts once.
        #[test]
        fn each_line_counts_once_whenever_the_agent_dies(
            steps in prop::collection::vec((1_u64..40, any::<bool>(), any::<bool>(), 0_i64..2), 1..30)
        ) {
            let mut ring: Vec<Told> = vec![];
            let (mut saved, mut hours) = (OpenUsage::default(), BTreeMap::new());
            let mut ledger = UsageLedger::default();
            ledger.begin(0);
            let mut hour = 100;
            for (lines, saves, dies, later) in steps {
                hour += later;
                // Some of what comes was in the ring before the history was read, and comes again.
                let from = ring.len();
                (0..lines).for_each(|_| ring.push(told(ring.len() as u64, hour)));
                if dies {
                    ledger = UsageLedger::resume(saved.clone(), hours.values().cloned(), Hour(hour));
                    ledger.begin(0);
                    ledger.take_history(0, ring.clone());
                }
                ring[from..].iter().for_each(|line| ledger.take(0, line.clone()));
                if saves {
                    let (closed, open) = ledger.to_save();
                    hours.extend(closed.iter().map(|hour| (hour.hour, hour.clone())));
                    ledger.saved(&closed);
                    saved = open;
                }
            }
            let expected = (ring.len() as u64, (1..=ring.len() as u64).sum());
            prop_assert_eq!(sum(&ledger, &hours), expected);
            let spent: u64 = ["c0", "c1", "c2"].iter()
                .map(|client| ledger.spent(client, Period::Month, Hour(hour)).0.nano_usd).sum();
            prop_assert_eq!(spent, expected.1);
        }
    }

    #[test]
    fn another_worker_is_read_from_its_first_line_and_a_lost_place_loses_nothing_that_is_there() {
        let mut ledger = UsageLedger::default();
        ledger.begin(0);
        (0..10).for_each(|request| ledger.take(0, told(request, 5)));
        let (_, open) = ledger.to_save();
        for (history, expected) in [
            // Another worker, whose requests have the same numbers at another time.
            (
                (0..4)
                    .map(|request| Told { line: LineId { at: "later".to_owned(), request }, ..told(request, 5) })
                    .collect(),
                14,
            ),
            // The ring has gone on beyond the place.
            ((12..20).map(|request| told(request, 5)).collect(), 18),
            ((3..12).map(|request| told(request, 5)).collect::<Vec<_>>(), 12),
        ] {
            let mut next = UsageLedger::resume(open.clone(), [], Hour(5));
            next.begin(3);
            next.take_history(3, history);
            assert_eq!(sum(&next, &BTreeMap::new()).0, expected);
        }
    }

    #[test]
    fn a_clock_that_was_ahead_ends_no_budget() {
        let mut ledger = UsageLedger::default();
        ledger.begin(0);
        ledger.take(0, told(3, 500_000));
        ledger.turn(Hour(500_000 + 40 * 24));
        ledger.take(0, told(6, 500_000 + 40 * 24));
        // The hour that was closed is on disk.
        let (closed, open) = ledger.to_save();
        let now = Hour(500_000);
        let resumed = UsageLedger::resume(open, closed.clone(), now);
        ledger.saved(&closed);
        assert!(ledger.is_ahead_of(now) && !resumed.is_ahead_of(now));
        ledger.come_back(closed, now);
        for ledger in [ledger, resumed] {
            assert_eq!(ledger.spent("c0", Period::Month, now).0.nano_usd, 11);
            assert_eq!(sum(&ledger, &BTreeMap::new()), (2, 11));
        }
    }

    #[test]
    fn who_is_forgiven_begins_anew_and_rows_are_bounded() {
        let mut ledger = UsageLedger::default();
        ledger.begin(0);
        ledger.take(0, told(3, 5));
        ledger.take(0, told(6, 5));
        ledger.make_up(Hour(5), UsageKey::made_up("c0".to_owned()), Amounts { late_nano_usd: 7, ..Amounts::default() });
        let (window, _) = ledger.spent("c0", Period::Day, Hour(5));
        assert_eq!((window.nano_usd, window.late_nano_usd), (11, 7));
        let said = Timestamp::from_second(100).unwrap();
        ledger.forgive("c0", said);
        ledger.forgive("c0", said);
        ledger.take(0, told(9, 5));
        let (window, count) = ledger.spent("c0", Period::Day, Hour(5));
        assert_eq!((window.nano_usd, window.late_nano_usd, count), (10, 0, 1));
        let resumed = UsageLedger::resume(ledger.to_save().1, [], Hour(5));
        assert_eq!(resumed.spent("c0", Period::Day, Hour(5)), ledger.spent("c0", Period::Day, Hour(5)));
        for request in 0..MAX_ROWS as u64 + 10 {
            let mut told = told(request, 5);
            told.used.iter_mut().for_each(|(key, _)| key.model = format!("m{request}"));
            ledger.take(0, told);
        }
        assert!(ledger.to_save().1.hour.rows.len() <= MAX_ROWS + 3);
    }
}
