//! Who takes a new revision first: a node that owns fewer addresses, so that a bad one is found where no client is.

use crate::model::{Digest, Name};

/// What became of the revision that a node serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It serves, for too short a time to tell.
    Proving,
    /// It serves well.
    Proven,
    /// It serves badly, for this reason.
    Failed(String),
}

/// What another node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStanding<'a> {
    /// Who.
    pub node: &'a Name,
    /// How many VIPs it owns.
    pub owned: usize,
    /// The operator's file that it serves, and how well.
    pub serves: Option<(Digest, Proof)>,
    /// The file that it could not serve, and why.
    pub refuses: Option<(Digest, &'a str)>,
}

/// Whose turn it is to serve a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Ours.
    Go,
    /// Another node's: who, and what it is waited for.
    Wait(String),
    /// Nobody's: it failed there.
    Stop(String),
}

/// Whether this node, which owns `owned` VIPs, may serve `file` now. Only nodes that are heard are in `others`: one that
/// is down holds nobody up.
pub fn turn(own: &Name, owned: usize, file: Digest, others: &[PeerStanding<'_>]) -> Turn {
    let mut waits = Vec::new();
    for other in others.iter().filter(|other| goes_first(other, own, owned)) {
        let node = other.node;
        if let Some((refused, why)) = other.refuses
            && refused == file
        {
            return Turn::Stop(format!("{node} takes a revision first and could not serve this one: {why}"));
        }
        match &other.serves {
            Some((digest, Proof::Failed(why))) if *digest == file => {
                return Turn::Stop(format!("{node} took it first and serves badly with it: {why}"));
            }
            Some((digest, Proof::Proven)) if *digest == file => {}
            Some((digest, Proof::Proving)) if *digest == file => waits.push(format!("{node} is proving it")),
            _ => waits.push(format!("{node} takes a revision first and still serves another file")),
        }
    }
    match waits.is_empty() {
        true => Turn::Go,
        false => Turn::Wait(waits.join("; ")),
    }
}

/// Fewer addresses first; of two alike the later name, so that there is an order.
fn goes_first(other: &PeerStanding<'_>, own: &Name, owned: usize) -> bool {
    owned > 0 && (other.owned, own) < (owned, other.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn the_owner_waits_for_those_who_own_less_until_they_have_proven_it() {
        let (own, lb2) = (name("lb1"), name("lb2"));
        let (old, new) = (Digest::of("old"), Digest::of("new"));
        let standing = |serves, refuses| PeerStanding { node: &lb2, owned: 0, serves, refuses };
        let turn_of = |other: PeerStanding<'_>| turn(&own, 1, new, &[other]);
        assert!(matches!(turn_of(standing(Some((old, Proof::Proven)), None)), Turn::Wait(_)));
        assert!(matches!(turn_of(standing(Some((new, Proof::Proving)), None)), Turn::Wait(_)));
        assert_eq!(turn_of(standing(Some((new, Proof::Proven)), None)), Turn::Go);
        let failed = standing(Some((new, Proof::Failed("chat has no server".into()))), None);
        assert!(matches!(turn_of(failed), Turn::Stop(why) if why.contains("chat has no server")));
        let refused = standing(Some((old, Proof::Proven)), Some((new, "no such certificate")));
        assert!(matches!(turn_of(refused), Turn::Stop(why) if why.contains("no such certificate")));
        // What it refused before is no news of this one.
        assert!(matches!(turn_of(standing(Some((old, Proof::Proven)), Some((old, "x")))), Turn::Wait(_)));
        assert_eq!(turn(&own, 1, new, &[]), Turn::Go);
    }

    #[test]
    fn no_two_nodes_wait_for_each_other() {
        let (a, b) = (name("lb1"), name("lb2"));
        let new = Digest::of("new");
        for (owned_a, owned_b) in [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1)] {
            let of = |node, owned| [PeerStanding { node, owned, serves: None, refuses: None }];
            let first = turn(&a, owned_a, new, &of(&b, owned_b)) == Turn::Go;
            let second = turn(&b, owned_b, new, &of(&a, owned_a)) == Turn::Go;
            assert!(first || second, "{owned_a} {owned_b}");
            assert!(!(first && second) || owned_a + owned_b == 0, "{owned_a} {owned_b}");
        }
    }
}
