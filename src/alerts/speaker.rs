//! Which node tells what all nodes see: the owner of the addresses; another one when that has been silent for long.

use std::time::Duration;

/// A node that was silent for longer tells nothing any more.
const SILENCE: Duration = Duration::from_secs(90);

/// A node's part in the virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It owns one.
    Owner,
    /// It owns none, and its Keepalived knows an owner.
    Backup,
    /// There are none, or nobody says who owns them.
    None,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is heard now.
    pub is_heard: bool,
    /// Since it was heard last; never: since we listen.
    pub silent: Duration,
    /// It owned an address when it was heard last.
    pub owns: bool,
}

/// Whether this node tells what all nodes see. Without a heartbeat `others` is empty: then Keepalived's word holds.
///
/// Of several owners, and where nobody owns anything, the first by name tells. Two nodes that do not hear each other may both
/// tell; the keys are the same.
pub fn speaks(own: &str, part: Part, others: &[Other<'_>]) -> bool {
    let is_alive = |other: &&Other<'_>| other.silent < SILENCE;
    match part {
        Part::Owner => !others.iter().any(|other| other.is_heard && other.owns && other.name < own),
        Part::Backup if others.is_empty() => false,
        Part::Backup | Part::None => {
            let alive: Vec<_> = others.iter().filter(is_alive).collect();
            !alive.iter().any(|other| other.owns || other.name < own)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(name: &str, silent_s: u64, owns: bool) -> Other<'_> {
        Other { name, is_heard: silent_s == 0, silent: Duration::from_secs(silent_s), owns }
    }

    #[test]
    fn the_owner_tells_and_another_one_after_its_silence() {
        assert!(speaks("lb1", Part::None, &[]), "a node alone");
        assert!(speaks("lb2", Part::Owner, &[other("lb1", 0, false)]));
        assert!(!speaks("lb1", Part::Backup, &[other("lb2", 0, true)]));
        assert!(!speaks("lb1", Part::Backup, &[other("lb2", 89, true)]));
        assert!(speaks("lb1", Part::Backup, &[other("lb2", 90, true)]));
        // The addresses have moved: who owns them does not wait.
        assert!(speaks("lb2", Part::Owner, &[other("lb1", 1, true)]));
        assert!(!speaks("lb2", Part::Owner, &[other("lb1", 0, true)]), "each owns one: the first by name");
        assert!(!speaks("lb2", Part::Backup, &[]), "without a heartbeat Keepalived's word holds");
    }

    #[test]
    fn of_nodes_that_hear_each_other_exactly_one_tells() {
        let names = ["lb1", "lb2", "lb3"];
        for owners in 0_u8..8 {
            let owns = |at: usize| owners & (1 << at) != 0;
            let speakers = names.iter().enumerate().filter(|(at, own)| {
                let others: Vec<_> = (0..3).filter(|i| i != at).map(|i| other(names[i], 0, owns(i))).collect();
                let part = match owns(*at) {
                    true => Part::Owner,
                    false if owners == 0 => Part::None,
                    false => Part::Backup,
                };
                speaks(own, part, &others)
            });
            assert_eq!(speakers.count(), 1, "{owners}");
        }
    }
}
