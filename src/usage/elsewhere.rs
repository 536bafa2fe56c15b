//! What clients have spent at other nodes, as those tell it.
//!
//! Each node has a ledger of its own, of which only the sums of a client go to the others, again and again. A sum only grows
//! within its day or month: of what is told twice, late or in any order the largest counts, so that nothing counts double and a
//! lost word is told again. What one node heard it passes on, so that a node which lost its disk, or that could not hear another one,
//! learns it all the same. Pure.

use super::hour::Hour;
use super::spent::{Period, Spent};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Sums that are known of others. What comes beyond is not taken in.
const MAX_SUMS: usize = 50_000;
/// Longest name of a client, in bytes.
const MAX_NAME: usize = 64;
/// Of each page that has room, so many sums are told once more, in turns.
const AGAIN: usize = 4;

/// What one ledger knows of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldSum {
    /// Which ledger.
    #[serde(rename = "l")]
    pub ledger: u64,
    /// The client.
    #[serde(rename = "c")]
    pub client: String,
    /// How much.
    #[serde(rename = "s")]
    pub sum: Sum,
}

/// Of one client, without what it was forgiven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum(
    /// Since when it counts: seconds since 1970, 0 for a client that was never forgiven.
    pub i64,
    /// Of the day and of the month: its number, see [`Period::number`], and billionths of a US dollar.
    pub [(i64, u64); 2],
);

impl Sum {
    fn of(&self, period: Period) -> (i64, u64) {
        match period {
            Period::Day => self.1[0],
            Period::Month => self.1[1],
        }
    }

    /// Takes in what the same ledger says at another time. Whether that was news.
    fn take(&mut self, said: Self, hour: Hour) -> bool {
        let before = *self;
        if said.0 > self.0 {
            *self = Self(said.0, Self::default().1);
        }
        if said.0 == self.0 {
            for ((known, said), period) in self.1.iter_mut().zip(said.1).zip([Period::Day, Period::Month]) {
                // A clock that is ahead tells of windows that are not yet; they are told again when they are.
                if said.0 <= period.number(hour) {
                    *known = (*known).max(said);
                }
            }
        }
        before != *self
    }
}

/// What is known of others, and what is to be told to them.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// Of which ledger the sums are not taken in: the node's own; 0: of none.
    own: u64,
    /// A ledger without a name on disk would have another one in its next life, and count twice.
    is_named: bool,
    sums: BTreeMap<(u64, String), Sum>,
    /// Own clients of which there is news.
    news: BTreeSet<String>,
    /// The last one that was told as news, and the last one of all.
    told: (String, (u64, String)),
    version: u64,
}

impl Elsewhere {
    /// Nothing is known yet.
    pub(super) fn of(own: u64) -> Self {
        Self { own, ..Self::default() }
    }

    /// Whether the number of the own ledger is on disk.
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// The number of the own ledger is on disk.
    pub fn named(&mut self) {
        self.is_named = true;
    }

    /// Which ledger is the node's own.
    pub fn own(&self) -> u64 {
        self.own
    }

    /// How often what is known has changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes in what another node says.
    pub fn hear(&mut self, said: ToldSum, hour: Hour) {
        let ToldSum { ledger, client, sum } = said;
        if ledger == self.own || client.len() > MAX_NAME {
            return;
        }
        let key = (ledger, client);
        if self.sums.len() >= MAX_SUMS && !self.sums.contains_key(&key) {
            self.forget(hour);
            if self.sums.len() >= MAX_SUMS {
                return;
            }
        }
        self.version += u64::from(self.sums.entry(key).or_default().take(sum, hour));
    }

    /// What a client spent elsewhere in the window of an hour. `since`: from when on it counts, as [`Sum`] has it.
    pub fn spent(&self, client: &str, period: Period, hour: Hour, since: i64) -> u64 {
        let number = period.number(hour);
        let of = |ledger: u64| self.sums.get(&(ledger, client.to_owned()));
        let sums = self.ledgers().into_iter().filter_map(of).filter(|sum| sum.0 >= since);
        sums.map(|sum| sum.of(period)).filter(|(of, _)| *of == number).fold(0, |all, (_, sum)| all.saturating_add(sum))
    }

    /// All that is known, without what is over.
    pub fn to_save(&mut self, hour: Hour) -> Vec<ToldSum> {
        self.forget(hour);
        let told = |((ledger, client), sum): (&(u64, String), &Sum)| ToldSum {
            ledger: *ledger,
            client: client.clone(),
            sum: *sum,
        };
        self.sums.iter().map(told).collect()
    }

    /// A client of this node has spent something.
    pub(super) fn note(&mut self, client: &str) {
        if !self.news.contains(client) {
            self.news.insert(client.to_owned());
        }
    }

    /// The next `most` sums to tell: what is news first, and some of all others in their turn. `own` are the clients of
    /// this node.
    pub(super) fn page(
        &mut self,
        most: usize,
        own: &BTreeMap<String, Spent>,
        sum_of: impl Fn(&str) -> Sum,
    ) -> Vec<ToldSum> {
        let mine = |client: String| ToldSum { ledger: self.own, sum: sum_of(&client), client };
        let mut page: Vec<ToldSum> = Vec::new();
        while self.is_named
            && page.len() < most
            && let Some(next) = after(&self.news, &self.told.0)
        {
            self.news.remove(&next);
            self.told.0.clone_from(&next);
            page.push(mine(next));
        }
        let is_full = page.len() >= most;
        for _ in 0..if is_full { 0 } else { AGAIN.min(most - page.len()) } {
            // The node's own come first, then what others said.
            let (ledger, last) = &self.told.1;
            let next_own = own
                .range::<str, _>((Bound::Excluded(last.as_str()), Bound::Unbounded))
                .next()
                .map(|(client, _)| client);
            let next = match next_own.filter(|_| *ledger == 0 && self.is_named) {
                Some(client) => (0, client.clone()),
                None => {
                    let from = if *ledger == 0 { Bound::Unbounded } else { Bound::Excluded(&self.told.1) };
                    match self.sums.range((from, Bound::Unbounded)).next() {
                        Some((key, _)) => key.clone(),
                        None => (0, String::new()),
                    }
                }
            };
            self.told.1.clone_from(&next);
            match next {
                (0, client) if client.is_empty() => break,
                (0, client) => page.push(mine(client)),
                (ledger, client) => {
                    let sum = self.sums.get(&(ledger, client.clone())).copied().unwrap_or_default();
                    page.push(ToldSum { ledger, client, sum });
                }
            }
        }
        page
    }

    /// How much of what is news is not told yet.
    pub fn has_news(&self) -> bool {
        self.is_named && !self.news.is_empty()
    }

    fn ledgers(&self) -> Vec<u64> {
        let mut ledgers: Vec<u64> = vec![];
        while let Some(((ledger, _), _)) = self
            .sums
            .range((
                ledgers.last().map_or(Bound::Unbounded, |last| Bound::Included((last + 1, String::new()))),
                Bound::Unbounded,
            ))
            .next()
        {
            ledgers.push(*ledger);
        }
        ledgers
    }

    fn forget(&mut self, hour: Hour) {
        let month = Period::Month.number(hour);
        self.sums.retain(|_, sum| sum.of(Period::Month).0 >= month);
    }
}

/// The one behind `last`, around the end.
fn after(all: &BTreeSet<String>, last: &str) -> Option<String> {
    let behind = all.range::<str, _>((Bound::Excluded(last), Bound::Unbounded)).next();
    behind.or(all.first()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Amounts, OpenUsage, UsageKey, UsageLedger};
    use jiff::Timestamp;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    const HOUR: Hour = Hour(495_000);

    fn ledger(own: u64) -> UsageLedger {
        let mut ledger = UsageLedger::resume(OpenUsage { ledger: own, ..OpenUsage::default() }, [], HOUR);
        ledger.elsewhere().named();
        ledger
    }

    fn spend(ledger: &mut UsageLedger, client: &str, nano_usd: u64, hour: Hour) {
        let amounts = Amounts { nano_usd, ..Amounts::default() };
        ledger.make_up(hour, UsageKey::made_up(client.to_owned()), amounts);
    }

    fn all(ledger: &UsageLedger, client: &str, hour: Hour) -> [u64; 2] {
        [Period::Day, Period::Month]
            .map(|period| ledger.spent(client, period, hour).0.nano_usd + ledger.spent_elsewhere(client, period, hour))
    }

    proptest! {
        /// Words are lost, doubled and overtaken, nodes forget what they heard, time goes on: in the end each knows the same.
        #[test]
        fn every_node_comes_to_know_what_all_have_spent(
            steps in prop::collection::vec((0_usize..3, 0_u8..5, 0_u64..1000, any::<bool>(), 0_usize..3, 0_i64..20), 1..60),
        ) {
            let mut nodes = [ledger(11), ledger(22), ledger(33)];
            let (mut spent, mut hour) = (BTreeMap::<(i64, u8), u64>::new(), HOUR);
            let mut month = BTreeMap::<(i64, u8), u64>::new();
            let mut delayed: Vec<(usize, Vec<ToldSum>)> = vec![];
            for (who, client, nano_usd, is_lost, to, later) in steps {
                hour = Hour(hour.0 + later);
                spend(&mut nodes[who], &format!("c{client}"), nano_usd, hour);
                *spent.entry((Period::Day.number(hour), client)).or_default() += nano_usd;
                *month.entry((Period::Month.number(hour), client)).or_default() += nano_usd;
                let page = nodes[who].page(2, hour);
                if !is_lost {
                    delayed.push((to, page.clone()));
                    page.into_iter().for_each(|sum| nodes[to].elsewhere().hear(sum, hour));
                }
                if nano_usd % 7 == 0 {
                    // An old word, once more.
                    let old = delayed.first().cloned();
                    old.into_iter().for_each(|(to, page)| page.into_iter().for_each(|sum| nodes[to].elsewhere().hear(sum, hour)));
                }
            }
            // The first and the third do not hear each other.
            for _ in 0..60 {
                for (from, to) in [(0, &[1][..]), (2, &[1]), (1, &[0, 2])] {
                    let page = nodes[from].page(3, hour);
                    for (to, sum) in to.iter().flat_map(|to| page.iter().map(|sum| (*to, sum.clone()))) {
                        nodes[to].elsewhere().hear(sum, hour);
                    }
                }
            }
            for client in 0..5 {
                let of = |sums: &BTreeMap<(i64, u8), u64>, period: Period| {
                    sums.get(&(period.number(hour), client)).copied().unwrap_or(0)
                };
                let expected = [of(&spent, Period::Day), of(&month, Period::Month)];
                for node in &nodes {
                    prop_assert_eq!(all(node, &format!("c{client}"), hour), expected);
                }
            }
        }
    }

    #[test]
    fn what_was_forgiven_elsewhere_counts_for_nobody_and_a_future_is_none() {
        let (mut one, mut other) = (ledger(1), ledger(2));
        spend(&mut one, "acme", 100, HOUR);
        let tell = |one: &mut UsageLedger, other: &mut UsageLedger, hour: Hour| {
            one.page(9, hour).into_iter().for_each(|sum| other.hear(sum, hour));
        };
        tell(&mut one, &mut other, HOUR);
        assert_eq!(all(&other, "acme", HOUR), [100, 100]);
        // First here, then there.
        let said = Timestamp::from_second(1_000).unwrap();
        other.forgive("acme", said);
        assert_eq!(all(&other, "acme", HOUR), [0, 0]);
        one.forgive("acme", said);
        spend(&mut one, "acme", 7, HOUR);
        tell(&mut one, &mut other, HOUR);
        assert_eq!(all(&other, "acme", HOUR), [7, 7]);
        // First there: the word of it comes along, and an older file takes nothing back.
        let later = Timestamp::from_second(2_000).unwrap();
        one.forgive("acme", later);
        spend(&mut one, "acme", 3, HOUR);
        tell(&mut one, &mut other, HOUR);
        assert_eq!(all(&other, "acme", HOUR), [3, 3]);
        for since in [later, said] {
            other.forgive("acme", since);
            assert_eq!(all(&other, "acme", HOUR), [3, 3]);
        }
        // A clock that is a year ahead takes nothing away, and what it says is forgotten.
        let ahead = ToldSum { ledger: 1, client: "acme".to_owned(), sum: Sum(2_000, [(99_999, 5), (209_901, 5)]) };
        other.elsewhere().hear(ahead, HOUR);
        assert_eq!(all(&other, "acme", HOUR), [3, 3]);
        assert_eq!(other.elsewhere().to_save(Hour(HOUR.0 + 24 * 40)), []);
    }

    #[test]
    fn a_ledger_without_a_name_on_disk_is_silent_and_hears_nothing_of_itself() {
        let mut nameless = UsageLedger::resume(OpenUsage { ledger: 5, ..OpenUsage::default() }, [], HOUR);
        spend(&mut nameless, "acme", 100, HOUR);
        assert_eq!(nameless.page(9, HOUR), []);
        nameless.elsewhere().named();
        let page = nameless.page(1, HOUR);
        assert_eq!(page.len(), 1);
        page.into_iter().for_each(|sum| nameless.elsewhere().hear(sum, HOUR));
        assert_eq!(all(&nameless, "acme", HOUR), [100, 100]);
    }

    #[test]
    fn nobody_is_told_of_twice_before_everybody_was_once() {
        let mut ledger = ledger(1);
        for client in 0..100 {
            spend(&mut ledger, &format!("c{client}"), 1, HOUR);
        }
        for _ in 0..13 {
            ledger.page(8, HOUR);
            // One that always has news keeps nobody back.
            spend(&mut ledger, "c0", 1, HOUR);
        }
        let told: Vec<_> = (0..30).flat_map(|_| ledger.page(8, HOUR)).map(|sum| sum.client).collect();
        let different: BTreeSet<_> = told.iter().collect();
        assert_eq!(different.len(), 100);
        assert!(ledger.page(8, HOUR).len() <= 8);
    }
}
