//! Clients with keys of their own, and what became of their requests at the door.
//!
//! Bounded by the clients that HAProxy knows by name.

use std::collections::{BTreeMap, HashMap};

/// More than the operator's files can hold.
const MAX_CALLERS: usize = 50_000;
/// Why HAProxy refuses, as its rules spell it.
const REASONS: [&str; 7] = ["key", "old-key", "concurrent", "requests", "window", "path", "model"];

/// Who asked, as a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The client; `None`: nobody knows.
    pub client: Option<&'a str>,
    /// Its plan then.
    pub plan: Option<&'a str>,
    /// Why HAProxy refused it; `None`: it did not.
    pub refused: Option<&'static str>,
}

impl<'a> Caller<'a> {
    /// `CLIENT PLAN REFUSED`, each of them `-` where there is none.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.split(' ').map(|word| Some(word).filter(|word| *word != "-" && !word.is_empty()));
        let (client, plan, refused) = (words.next()?, words.next()?, words.next()?);
        let refused = match refused {
            None => None,
            Some(word) => Some(*REASONS.iter().find(|reason| **reason == word)?),
        };
        words.next().is_none().then_some(Self { client, plan, refused })
    }
}

/// One client with one plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerPicture {
    /// Empty: nobody knows who.
    pub client: String,
    /// Empty where nobody knows.
    pub plan: String,
    /// Requests that were let in, since the agent's start.
    pub passed: u64,
    /// Those that were refused, by why.
    pub refused: BTreeMap<&'static str, u64>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Callers(HashMap<Box<str>, CallerPicture>);

impl Callers {
    pub(super) fn take(&mut self, caller: Caller<'_>) {
        let (client, plan) = (caller.client.unwrap_or_default(), caller.plan.unwrap_or_default());
        let name = format!("{client} {plan}");
        if !self.0.contains_key(name.as_str()) && self.0.len() >= MAX_CALLERS {
            return;
        }
        let known = self.0.entry(name.into()).or_insert_with(|| CallerPicture {
            client: client.to_owned(),
            plan: plan.to_owned(),
            ..CallerPicture::default()
        });
        match caller.refused {
            None => known.passed += 1,
            Some(why) => *known.refused.entry(why).or_default() += 1,
        }
    }

    /// In the order of their names.
    pub(super) fn picture(&self) -> Vec<CallerPicture> {
        let mut all: Vec<_> = self.0.values().cloned().collect();
        all.sort_by(|a, b| (&a.client, &a.plan).cmp(&(&b.client, &b.plan)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_haproxy_says_of_a_caller_is_read_and_nothing_else() {
        let caller = |client, plan, refused| Some(Caller { client, plan, refused });
        for (text, expected) in [
            ("acme free -", caller(Some("acme"), Some("free"), None)),
            ("acme free window", caller(Some("acme"), Some("free"), Some("window"))),
            ("- - key", caller(None, None, Some("key"))),
            ("acme free", None),
            ("acme free sold", None),
            ("acme free - -", None),
        ] {
            assert_eq!(Caller::parse(text), expected, "{text}");
        }
        let mut callers = Callers::default();
        ["- - key", "acme free -", "acme free -", "acme free model"]
            .into_iter()
            .for_each(|text| callers.take(Caller::parse(text).unwrap()));
        let told: Vec<_> =
            callers.picture().into_iter().map(|one| (one.client, one.passed, one.refused.len())).collect();
        assert_eq!(told, [(String::new(), 0, 1), ("acme".to_owned(), 2, 1)]);
    }
}
