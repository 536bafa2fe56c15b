//! Clients with keys of their own, and what became of their requests at the door.
//!
//! Bounded by the clients that HAProxy knows by name.

use std::collections::{BTreeMap, HashMap};

/// More than the operator's files can hold.
const MAX_CALLERS: usize = 50_000;
/// Why HAProxy refuses, as its rules spell it.
const REASONS: [&str; 13] = [
    "key",
    "old-key",
    "concurrent",
    "requests",
    "window",
    "path",
    "model",
    "tokens",
    "token-window",
    "reserve",
    "never",
    "budget",
    "reserve-budget",
];

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

/// What an answer cost, as a line tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt, those out of a cache among them.
    pub prompt: u64,
    /// Of the prompt, out of the provider's cache.
    pub cached: u64,
    /// Of the prompt, into the provider's cache at a price of its own.
    pub written: u64,
    /// Of the answer.
    pub completion: u64,
    /// The answer did not tell.
    pub is_estimated: bool,
    /// What they cost, in billionths of a US dollar; `None`: there is no price.
    pub nano_usd: Option<u64>,
}

impl Tokens {
    /// `PROMPT CACHED COMPLETION exact|estimated WRITTEN NANO-USD`, the last two `-` where nobody told; `None`: not counted.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut number = || words.next()?.parse().ok();
        let (prompt, cached, completion) = (number()?, number()?, number()?);
        let is_estimated = match words.next()? {
            "exact" => false,
            "estimated" => true,
            _ => return None,
        };
        let mut told = || match words.next() {
            None | Some("-") => Some(None),
            Some(digits) => digits.parse().ok().map(Some),
        };
        let (written, nano_usd) = (told()?.unwrap_or(0), told()?);
        words.next().is_none().then_some(Self { prompt, cached, written, completion, is_estimated, nano_usd })
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
    /// What their answers cost, where that is counted.
    pub tokens: TokensTotal,
    /// Those that were refused, by why.
    pub refused: BTreeMap<&'static str, u64>,
}

/// Tokens of many answers, since the agent's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokensTotal {
    /// See [`Tokens::prompt`].
    pub prompt: u64,
    /// See [`Tokens::cached`].
    pub cached: u64,
    /// See [`Tokens::completion`].
    pub completion: u64,
    /// What they cost, in billionths of a US dollar.
    pub nano_usd: u64,
    /// Answers that were counted.
    pub answers: u64,
    /// Those among them that did not tell.
    pub estimated: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Callers(HashMap<Box<str>, CallerPicture>);

impl Callers {
    pub(super) fn take(&mut self, caller: Caller<'_>, tokens: Option<Tokens>) {
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
        if let Some(Tokens { prompt, cached, written: _, completion, is_estimated, nano_usd }) = tokens {
            let total = &mut known.tokens;
            total.prompt += prompt;
            total.cached += cached;
            total.completion += completion;
            total.nano_usd += nano_usd.unwrap_or(0);
            total.answers += 1;
            total.estimated += u64::from(is_estimated);
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
            .for_each(|text| callers.take(Caller::parse(text).unwrap(), Tokens::parse("10 2 5 exact - 700")));
        let told: Vec<_> =
            callers.picture().into_iter().map(|one| (one.client, one.passed, one.refused.len())).collect();
        assert_eq!(told, [(String::new(), 0, 1), ("acme".to_owned(), 2, 1)]);
        let total = callers.picture()[1].tokens;
        assert_eq!(
            total,
            TokensTotal { prompt: 30, cached: 6, completion: 15, nano_usd: 2100, answers: 3, estimated: 0 }
        );
        for text in [
            "- - - -",
            "1 2 3",
            "1 2 3 exact more",
            "1 2 3 exact 4 x",
            "1 2 3 exact - - -",
            "1 2 -3 exact",
            "1 2 3 guessed",
            "",
        ] {
            assert_eq!(Tokens::parse(text), None, "{text}");
        }
    }
}
