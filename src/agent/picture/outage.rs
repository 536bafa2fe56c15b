//! Whether a backend can serve, and why not.
//!
//! Pure. Called by the loop several times a second, and by who reads a picture.

use crate::fleet::Override;
use crate::model::{AdminState, Name, OperState, Weight};
use crate::plan::RuntimeServer;
use std::fmt;

/// So many reasons are told; the rest is counted.
const MAX_REASONS: usize = 3;

/// What decides whether a server can take a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    /// What is wanted of it.
    pub admin: AdminState,
    /// What an operator said.
    pub word: Option<&'a Override>,
    /// What HAProxy said last.
    pub runtime: Option<&'a RuntimeServer>,
    /// Why health has it out.
    pub unhealthy: Option<&'a str>,
    /// Whether it answers now, whatever it is held back for.
    pub answers: Option<bool>,
    /// Why no key is left.
    pub keyless: Option<&'a str>,
}

/// Why a server takes no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why<'a> {
    Word(&'a Override),
    File(AdminState),
    Haproxy(AdminState),
    Unhealthy(&'a str),
    Keyless(&'a str),
    Down,
    Unresolved,
    NoWeight,
    /// It came back, and answers nobody.
    Silent,
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "{word}"),
            Self::File(state) => write!(f, "{state} in the file"),
            Self::Haproxy(state) => write!(f, "HAProxy has it in {state}"),
            Self::Unhealthy(reason) => f.write_str(reason),
            Self::Keyless(why) => write!(f, "no usable key: {why}"),
            Self::Down => f.write_str("HAProxy's own check says that it is down"),
            Self::Unresolved => f.write_str("HAProxy has no address for it: its name does not resolve"),
            Self::NoWeight => f.write_str("its weight is 0"),
            Self::Silent => f.write_str("its last requests or probes failed"),
        }
    }
}

impl<'a> Look<'a> {
    /// Why this server takes no request, by whoever says so first: the operator, HAProxy, health, keys, the weight.
    pub(super) fn is_out(self) -> Option<Why<'a>> {
        let Self { admin, word, runtime, unhealthy, answers, keyless } = self;
        if admin != AdminState::Ready {
            return Some(word.map_or(Why::File(admin), Why::Word));
        }
        if let Some(runtime) = runtime.filter(|runtime| runtime.admin != AdminState::Ready) {
            return Some(Why::Haproxy(runtime.admin));
        }
        let has_no_weight = runtime.is_some_and(|runtime| runtime.weight == Weight::ZERO);
        // A guard keeps it in, and it answers: the hold alone is no outage.
        if let Some(reason) = unhealthy.filter(|_| has_no_weight || answers != Some(true)) {
            return Some(Why::Unhealthy(reason));
        }
        if let Some(why) = keyless {
            return Some(Why::Keyless(why));
        }
        match runtime?.oper {
            OperState::Down => return Some(Why::Down),
            OperState::Unresolved => return Some(Why::Unresolved),
            OperState::Starting | OperState::Up | OperState::Stopping => {}
        }
        has_no_weight.then(|| word.map_or(Why::NoWeight, Why::Word))
    }

    /// The same while its backend is known to be out: to have come back it must answer.
    fn is_still_out(self) -> Option<Why<'a>> {
        self.is_out().or_else(|| (self.answers == Some(false)).then_some(Why::Silent))
    }
}

/// Why no server of a backend can take a request; `None` where one can, as far as anybody knows. `is_known`: it is known
/// to be out.
pub(super) fn of<'a>(servers: impl Iterator<Item = (&'a Name, Look<'a>)>, is_known: bool) -> Option<String> {
    let mut reasons: Vec<(Why<'_>, Vec<&str>, usize)> = Vec::new();
    let (mut all, mut left) = (0, 0);
    for (name, look) in servers {
        let why = if is_known { look.is_still_out() } else { look.is_out() }?;
        all += 1;
        match reasons.iter().position(|(known, ..)| *known == why) {
            Some(at) => {
                let (_, names, count) = &mut reasons[at];
                *count += 1;
                // No more of them are ever told.
                if names.len() < MAX_REASONS {
                    names.push(name.as_str());
                }
            }
            None if reasons.len() < MAX_REASONS => reasons.push((why, vec![name.as_str()], 1)),
            None => left += 1,
        }
    }
    let told = reasons.iter().map(|(why, names, count)| match (names.as_slice(), *count) {
        ([name], 1) => format!("{name}: {why}"),
        (_, count) if count == all => format!("all {all} servers: {why}"),
        (names, count) if count <= MAX_REASONS => format!("{}: {why}", names.join(", ")),
        (_, count) => format!("{count} servers: {why}"),
    });
    let left = (left > 0).then(|| format!("and {left} more"));
    (all > 0).then(|| told.chain(left).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> RuntimeServer {
        RuntimeServer {
            id: 1,
            weight: Weight::clamped(100.0),
            maxconn: 0,
            admin: AdminState::Ready,
            oper: OperState::Up,
            address: "127.0.0.1".to_owned(),
            port: 1,
            fqdn: None,
        }
    }

    fn look(runtime: &RuntimeServer) -> Look<'_> {
        let (admin, runtime) = (AdminState::Ready, Some(runtime));
        Look { admin, word: None, runtime, unhealthy: None, answers: None, keyless: None }
    }

    fn of_looks(looks: &[Look<'_>], is_known: bool) -> Option<String> {
        let names: Vec<Name> = (0..looks.len()).map(|n| Name::new(format!("s{n}")).unwrap()).collect();
        of(names.iter().zip(looks.iter().copied()), is_known)
    }

    #[test]
    fn whatever_takes_a_server_out_counts_and_one_that_can_serve_is_enough() {
        let with = |change: fn(&mut RuntimeServer)| {
            let mut runtime = runs();
            change(&mut runtime);
            runtime
        };
        let (fine, down, lost) = (runs(), with(|r| r.oper = OperState::Down), with(|r| r.oper = OperState::Unresolved));
        let (parked, empty) = (with(|r| r.admin = AdminState::Maint), with(|r| r.weight = Weight::ZERO));
        let out = [
            (Look { unhealthy: Some("refused"), ..look(&fine) }, "s0: refused"),
            (look(&down), "s0: HAProxy's own check says that it is down"),
            (look(&lost), "s0: HAProxy has no address for it: its name does not resolve"),
            (look(&parked), "s0: HAProxy has it in maint"),
            (look(&empty), "s0: its weight is 0"),
            (Look { unhealthy: Some("refused"), answers: Some(true), ..look(&empty) }, "s0: refused"),
            (Look { admin: AdminState::Drain, ..look(&fine) }, "s0: drain in the file"),
            (Look { keyless: Some("k1 was rejected"), ..look(&fine) }, "s0: no usable key: k1 was rejected"),
        ];
        for (out, why) in out {
            assert_eq!(of_looks(&[out], false).as_deref(), Some(why));
            assert_eq!(of_looks(&[out, look(&fine)], false), None, "the other serves");
        }
    }

    #[test]
    fn a_server_that_answers_is_no_outage_because_health_holds_it_back() {
        let fine = runs();
        let held = Look { unhealthy: Some("refused"), answers: Some(true), ..look(&fine) };
        assert_eq!(of_looks(&[held], false), None);
        assert_eq!(of_looks(&[held], true), None);
    }

    #[test]
    fn to_have_come_back_a_server_must_answer() {
        let fine = runs();
        for (answers, is_back) in [(Some(true), true), (None, true), (Some(false), false)] {
            let back = Look { answers, ..look(&fine) };
            assert_eq!(of_looks(&[back], true).is_none(), is_back, "{answers:?}");
            assert_eq!(of_looks(&[back], false), None, "health has the say before");
        }
    }

    #[test]
    fn what_nobody_knows_is_no_outage() {
        assert_eq!(of_looks(&[], false), None);
        assert_eq!(of_looks(&[Look { runtime: None, ..look(&runs()) }], false), None);
    }

    #[test]
    fn many_servers_are_told_in_few_words() {
        let fine = runs();
        let all = vec![Look { unhealthy: Some("refused"), ..look(&fine) }; 1200];
        assert_eq!(of_looks(&all, false).as_deref(), Some("all 1200 servers: refused"));
        let reasons: Vec<String> = (0..9).map(|n| format!("reason {n}")).collect();
        let each: Vec<_> = reasons.iter().map(|why| Look { unhealthy: Some(why), ..look(&fine) }).collect();
        assert_eq!(of_looks(&each, false).as_deref(), Some("s0: reason 0; s1: reason 1; s2: reason 2; and 6 more"));
    }
}
