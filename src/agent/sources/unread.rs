//! Secrets that this process may not read: an operator's shell has not the agent's environment. What can be judged
//! without them is; they are left out of every comparison, and never handed to anybody.

use crate::agent::tell::refusal::Objection;
use crate::model::{Digest, Secret, SecretRef};

/// So many are named in one line.
const MAX_NAMED: usize = 5;

/// What becomes of the values of secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretUse {
    /// They are handed to HAProxy or sent to a provider: each must be there.
    #[default]
    Handed,
    /// The same for an agent that stays: what HAProxy has stands in for a key that is missing at its start.
    Kept,
    /// They are compared: one that may not be read here is left out, and one that is wrong is a mistake.
    Compared,
    /// Nothing depends on them.
    Nothing,
}

impl SecretUse {
    /// Whether they are handed on.
    pub fn hands_on(self) -> bool {
        matches!(self, Self::Handed | Self::Kept)
    }
}

/// One secret whose value is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Where it is kept.
    pub reference: SecretRef,
    /// Whose it is: `chat/openai-1`.
    pub owner: String,
    /// Whether it is a provider's key.
    pub is_key: bool,
    /// Its place in the operator's file, whose it is, and why it cannot be read.
    pub told: Objection,
    /// Wrong for the agent too, and not only out of this process's reach.
    pub is_mistake: bool,
}

impl Unread {
    /// One line on all of them; `None` where there is none.
    pub fn line(all: &[Self]) -> Option<String> {
        let count = all.len();
        let noun = if all.iter().all(|one| one.is_key) { "key" } else { "secret" };
        let (plural, verb, them) = if count == 1 { ("", "was", "it") } else { ("s", "were", "them") };
        let named: Vec<_> =
            all.iter().take(MAX_NAMED).map(|one| format!("{} ({})", one.owner, one.reference)).collect();
        let more = if count > MAX_NAMED { format!(" and {} more", count - MAX_NAMED) } else { String::new() };
        (count > 0).then(|| {
            format!(
                "{count} {noun}{plural} cannot be read here and {verb} left out; the agent needs {them}: {}{more}",
                named.join(", ")
            )
        })
    }

    /// Stands for the value; no two references have the same.
    pub(super) fn placeholder(reference: &SecretRef) -> Option<Secret> {
        Secret::new(format!("unread-{}", Digest::of(reference.to_string()))).ok()
    }
}
