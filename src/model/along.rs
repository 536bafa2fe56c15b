//! A map of servers, read along servers in the order of their names: each step looks at the next entry, where a search would look
//! at a dozen.

use super::ServerId;
use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

/// The entries of a map from one server on.
#[derive(Debug)]
pub struct Along<'a, V>(Peekable<btree_map::Range<'a, ServerId, V>>);

impl<'a, V> Along<'a, V> {
    /// From this server on.
    pub fn from(map: &'a BTreeMap<ServerId, V>, first: &ServerId) -> Self {
        Self(map.range(first..).peekable())
    }

    /// The entry of a server, which comes behind all that were asked for before.
    pub fn of(&mut self, id: &ServerId) -> Option<&'a V> {
        loop {
            match self.0.peek()?.0.cmp(id) {
                Ordering::Less => drop(self.0.next()),
                Ordering::Equal => return self.0.next().map(|(_, value)| value),
                Ordering::Greater => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Along, ServerId};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn id(number: u8) -> ServerId {
        format!("b{}/s{}", number % 3, number / 3).parse().unwrap()
    }

    proptest! {
        #[test]
        fn it_finds_what_a_search_finds(held in prop::collection::btree_map(0..60u8, any::<u8>(), 0..40), asked in prop::collection::btree_set(0..60u8, 1..40)) {
            let map: BTreeMap<ServerId, u8> = held.into_iter().map(|(number, value)| (id(number), value)).collect();
            let asked: BTreeSet<ServerId> = asked.into_iter().map(id).collect();
            let mut along = Along::from(&map, asked.first().unwrap());
            for id in &asked {
                prop_assert_eq!(along.of(id), map.get(id));
            }
        }
    }
}
