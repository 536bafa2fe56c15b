//! A cache of prompts as model servers keep one: what a new prompt has in common with an earlier one costs them nothing.
//!
//! Pure.

use serde_json::Value;
use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// The prompts that were seen last.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// Of each prompt a digest after each of its messages; the one that was used last stands last.
    prompts: VecDeque<Vec<u64>>,
}

impl Prefixes {
    /// How many of the first messages are in the cache; after that all of them are. Holds at most `most` prompts.
    pub(super) fn take(&mut self, messages: &[Value], most: usize) -> usize {
        let mut hasher = DefaultHasher::new();
        let digest = |message: &Value| {
            message.to_string().hash(&mut hasher);
            hasher.finish()
        };
        let prompt: Vec<u64> = messages.iter().map(digest).collect();
        let common = |known: &Vec<u64>| known.iter().zip(&prompt).take_while(|(one, other)| one == other).count();
        let best = self.prompts.iter().enumerate().max_by_key(|(_, known)| common(known));
        let (at, found) = best.map_or((None, 0), |(at, known)| (Some(at), common(known)));
        // A longer prompt takes the place of the one that it goes on from.
        if let Some(at) = at.filter(|at| found == self.prompts[*at].len()) {
            self.prompts.remove(at);
        }
        self.prompts.push_back(prompt);
        while self.prompts.len() > most {
            self.prompts.pop_front();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_goes_on_is_found_and_the_oldest_is_forgotten() {
        let talk = |of: u32, length: u32| -> Vec<Value> { (0..length).map(|turn| json!([of, turn])).collect() };
        let mut cache = Prefixes::default();
        assert_eq!((cache.take(&talk(1, 1), 2), cache.take(&talk(1, 3), 2), cache.take(&talk(1, 2), 2)), (0, 1, 2));
        assert_eq!((cache.take(&talk(2, 1), 2), cache.take(&talk(3, 1), 2)), (0, 0));
        assert_eq!((cache.take(&talk(3, 3), 2), cache.take(&talk(1, 3), 2)), (1, 0));
    }
}
