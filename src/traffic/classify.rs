//! What a line says of its servers, the last one and those whose attempts were repeated: outcomes in the words of
//! probes, or nothing.
//!
//! Two letters tell who ended a session and when. Pure.
//!
//! **Whose mistake a 401 or 403 is.** The key's and the server's, where another server then answered the same request
//! well; or where it was a 401 to what every key may. Else it may be about what the client asked for: it only makes the
//! key doubtful, so that a free probe asks. A spent account is never the client's.
//!
//! **Whose mistake a 500 is.** Where two servers answer the same request so, it may be the request's own (a poison), or
//! something that both share: it weighs less against each of them.
//!
//! **Source**: configuration manual, "Session state at disconnection"; what 2.6, 3.0 and 3.2 wrote about each fault.

use super::attempt::{Attempt, Means};
use super::line::{Line, StreamEnd};
use super::termination::TerminationState;
use crate::health::{Outcome, Phase};

/// What is said of a server, and of the key that it was asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficWord {
    /// Of the server.
    pub outcome: Outcome,
    /// A rejection that means the key's account.
    pub is_billing: bool,
    /// It was a rejection, and perhaps the client's own.
    pub doubts_key: bool,
    /// A server error that another server gave to the same request as well.
    pub is_shared: bool,
}

impl From<Outcome> for TrafficWord {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, is_billing: false, doubts_key: false, is_shared: false }
    }
}

/// Whose word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It tells this of the server that is named.
    Server(TrafficWord),
    /// No server was chosen: refused, answered by HAProxy itself, or none could serve.
    NoServer,
}

/// Judges one line.
///
/// | State | | Outcome |
/// |---|---|---|
/// | `--` | ended as it should | by the status |
/// | `C?`, `c?` | the client went away or fell silent | self |
/// | `P?` with a 4xx | the client's request broke off into nonsense | self |
/// | `SC`, | the server refused the connection, or broke off the handshake | refused |
/// | `sC` | the connection was not there in time | timeout connect |
/// | `SH`, `SR` | the server hung up before its header was whole | reset |
/// | `sH`, `sR` | no header in time | timeout first token |
/// | `SD` | the server broke off within its answer | reset |
/// | `sD` | it fell silent within its answer | timeout stall |
/// | `SL`, `sL` | it had finished | by the status |
/// | `PH`, `PD` | its answer is no valid HTTP | bad content |
/// | `?Q` | waited in vain for a slot: no server was asked | self |
/// | other `P`, and `L`, `R`, `I`, `D`, `U`, `K` | HAProxy's own doing or the operator's | self |
pub fn classify(line: &Line<'_>) -> Blame {
    if line.place.contains('<') {
        return Blame::NoServer;
    }
    // What a stream said is more than how its connection ended: a client leaves at the sight of an error.
    if let Some(outcome) = line.stream_end.and_then(of_event) {
        return Blame::Server(outcome.into());
    }
    // The client's end counts before the hop's. What HAProxy cannot read of a server is a 502; a 4xx of its own in the middle of
    // a request is about what the client sent (a chunk that is none).
    let is_of_request = line.state.0[0] == b'P' && line.status.is_some_and(|status| (400..500).contains(&status));
    if is_of_client(line.state) || is_of_request {
        return Blame::Server(Outcome::SelfCaused.into());
    }
    let (last, hidden) = last_and_hidden(line);
    let means = last.map_or(line.means, |last| last.means);
    if means.stream_error && last.is_some() {
        return Blame::Server(Outcome::BadContent.into());
    }
    // What a hop answered in the server's place came of this end of its own session.
    let state = line.hop.unwrap_or(line.state);
    Blame::Server(match of_state(state) {
        Some(outcome) => outcome.into(),
        None if line.hop.is_some() => of_hop(line.status).into(),
        // Its connection ended as it should.
        None if line.stream_end == Some(StreamEnd::Cut) => Outcome::Reset.into(),
        None => {
            let asks = line.retry_after.is_some() || last.is_some_and(|last| last.asks_for_silence());
            let was_rejected_before = hidden.iter().any(is_rejection);
            let word = line.status.map_or(Outcome::SelfCaused.into(), |status| of_answer(status, means, asks));
            let word = if was_rejected_before { doubtful(word, line.status) } else { word };
            let is_shared = word.outcome == Outcome::ServerError && is_shared(server_of(line), None, &hidden);
            TrafficWord { is_shared, ..word }
        }
    })
}

/// The attempts that were repeated, so that the client never saw them, each with what it says of its server.
pub fn repeated<'a>(line: &Line<'a>) -> Vec<(Attempt<'a>, TrafficWord)> {
    let (_, hidden) = last_and_hidden(line);
    if hidden.is_empty() {
        return vec![];
    }
    let (ended, last) = match classify(line) {
        Blame::Server(TrafficWord { outcome: Outcome::Ok, .. }) => (Ended::Well, None),
        Blame::Server(word) => (Ended::Badly, Some(word.outcome)),
        Blame::NoServer => (Ended::Badly, None),
    };
    let last = last.filter(|outcome| *outcome == Outcome::ServerError).map(|_| server_of(line));
    let judged = |attempt: &Attempt<'a>| {
        let word = of_attempt(attempt, ended);
        let is_error = ended == Ended::Badly && word.outcome == Outcome::ServerError;
        TrafficWord { is_shared: is_error && is_shared(attempt.server, last, &hidden), ..word }
    };
    hidden.iter().map(|attempt| (*attempt, judged(attempt))).collect()
}

/// Whether a server other than this one answered the same request with an error: the last one, or one before.
fn is_shared(server: &str, last: Option<&str>, hidden: &[Attempt<'_>]) -> bool {
    let is_error = |attempt: &&Attempt<'_>| of_attempt(attempt, Ended::Badly).outcome == Outcome::ServerError;
    let others = hidden.iter().filter(is_error).map(|attempt| attempt.server).chain(last);
    others.into_iter().any(|other| other != server)
}

fn server_of<'a>(line: &Line<'a>) -> &'a str {
    line.place.split_once('/').map_or("", |(_, server)| server)
}

/// How a request ended of which an attempt was repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Another attempt was answered well.
    Well,
    /// None was.
    Badly,
}

/// What an attempt that was repeated says of its server.
pub(super) fn of_attempt(attempt: &Attempt<'_>, ended: Ended) -> TrafficWord {
    let Some(status) = attempt.status else { return Outcome::Reset.into() };
    if let Some(hop) = attempt.hop {
        return of_state(hop).unwrap_or_else(|| of_hop(Some(status))).into();
    }
    let word = of_answer(status, attempt.means, attempt.asks_for_silence());
    match ended {
        Ended::Well if is_rejection(attempt) => TrafficWord { outcome: Outcome::Credential, doubts_key: false, ..word },
        Ended::Well => word,
        Ended::Badly => doubtful(word, Some(status)),
    }
}

/// A rejection that another server shares: the client's own, unless a free probe knows better.
fn doubtful(word: TrafficWord, status: Option<u16>) -> TrafficWord {
    let is_rejected = matches!(status, Some(401 | 403)) && !word.is_billing;
    if is_rejected {
        TrafficWord { outcome: Outcome::ProbeConfig, is_billing: false, doubts_key: true, is_shared: false }
    } else {
        word
    }
}

fn is_rejection(attempt: &Attempt<'_>) -> bool {
    matches!(attempt.status, Some(401 | 403)) && attempt.hop.is_none()
}

/// The attempt that the client saw, where it was answered badly, and those before it.
fn last_and_hidden<'a>(line: &Line<'a>) -> (Option<Attempt<'a>>, Vec<Attempt<'a>>) {
    let mut all: Vec<_> = line.attempts().collect();
    let server = server_of(line);
    // No answer came of a connection that was not there.
    let came_to_answer = !matches!(line.state.0[1], b'C' | b'Q');
    let is_bad = line.status.is_none_or(|status| status >= 400);
    let is_last = |last: &Attempt<'_>| {
        let same = last.status == line.status || last.status.is_none() || last.means.stream_error;
        last.server == server && same && came_to_answer && is_bad
    };
    let last = all.pop_if(|last| is_last(last));
    (last, all)
}

fn is_of_client(state: TerminationState) -> bool {
    matches!(state.0[0], b'C' | b'c')
}

/// What an event of a stream told; `None`: none did.
fn of_event(end: StreamEnd) -> Option<Outcome> {
    match end {
        StreamEnd::Error => Some(Outcome::BadContent),
        StreamEnd::Limit => Some(Outcome::RateLimited),
        StreamEnd::Overload => Some(Outcome::Overloaded),
        StreamEnd::Request => Some(Outcome::ProbeConfig),
        StreamEnd::Cut => None,
    }
}

/// `None`: the answer itself tells.
fn of_state(TerminationState(letters): TerminationState) -> Option<Outcome> {
    Some(match letters {
        [b'-', _] | [b'S' | b's', b'L'] => return None,
        [_, b'Q'] => Outcome::SelfCaused,
        [b'S', b'C'] => Outcome::Refused,
        [b's', b'C'] => Outcome::Timeout(Phase::Connect),
        [b'S', b'H' | b'R' | b'D'] => Outcome::Reset,
        [b's', b'H' | b'R'] => Outcome::Timeout(Phase::FirstToken),
        [b's', b'D'] => Outcome::Timeout(Phase::Stall),
        [b'P', b'H' | b'D'] => Outcome::BadContent,
        _ => Outcome::SelfCaused,
    })
}

/// An answer of a hop whose state is not known yet when it answers (2.6): the status is HAProxy's own.
fn of_hop(status: Option<u16>) -> Outcome {
    match status {
        Some(502) => Outcome::Reset,
        Some(503) => Outcome::Refused,
        Some(504) => Outcome::Timeout(Phase::FirstToken),
        _ => Outcome::SelfCaused,
    }
}

/// A whole answer.
fn of_answer(status: u16, means: Means, asks_for_silence: bool) -> TrafficWord {
    let outcome = match status {
        ..400 if means.stream_error => Outcome::BadContent,
        ..400 => Outcome::Ok,
        402 => return TrafficWord { is_billing: true, ..Outcome::Credential.into() },
        400 | 403 | 429 if means.account => return TrafficWord { is_billing: true, ..Outcome::Credential.into() },
        400 if means.key => Outcome::Credential,
        401 if means.completion => Outcome::Credential,
        401 | 403 => return TrafficWord { doubts_key: true, ..Outcome::ProbeConfig.into() },
        429 => Outcome::RateLimited,
        // The client's own mistake, whichever.
        400..500 => Outcome::ProbeConfig,
        529 => Outcome::Overloaded,
        503 if asks_for_silence => Outcome::Overloaded,
        _ => Outcome::ServerError,
    };
    outcome.into()
}

#[cfg(test)]
mod tests {
    use super::{Blame, TrafficWord, classify, repeated};
    use crate::health::{Outcome, Phase};
    use crate::traffic::Line;

    fn line(place: &str, status: &str, state: &str, hop: &str, retry_after: &str, error: &str) -> Option<Outcome> {
        let text =
            format!("[hapilot@0 live=\"api 0 {place} {status} {state} 0 0 0 0 1 9 - - {error} {hop} {retry_after}\"]");
        match classify(&Line::parse(text.as_bytes()).unwrap().unwrap()) {
            Blame::Server(word) => Some(word.outcome),
            Blame::NoServer => None,
        }
    }

    /// What is said of the last server, and of those before it.
    fn tried(status: &str, state: &str, tries: &str) -> (TrafficWord, Vec<(String, TrafficWord)>) {
        let text = format!(
            "[hapilot@0 live=\"api 0 chat/b {status} {state} +1 0 0 0 1 9 k1 - - - -\" upload=\"0 9/999\" tries=\"{tries}\"]"
        );
        let line = Line::parse(text.as_bytes()).unwrap().unwrap();
        let Blame::Server(word) = classify(&line) else { panic!("{text}") };
        (word, repeated(&line).into_iter().map(|(attempt, word)| (attempt.server.to_owned(), word)).collect())
    }

    #[test]
    fn what_a_repeat_hid_has_its_class_and_its_server() {
        for (attempt, outcome, is_billing) in [
            ("429:7:::", Outcome::RateLimited, false),
            ("429::::qi", Outcome::Credential, true),
            ("401::::i", Outcome::Credential, false),
            // Another server took the same request.
            ("401::::", Outcome::Credential, false),
            ("403::::", Outcome::Credential, false),
            ("402::::", Outcome::Credential, true),
            ("503:5:::", Outcome::Overloaded, false),
            ("503::::", Outcome::ServerError, false),
            ("503:5::SC:", Outcome::Refused, false),
            ("503:1::PH:", Outcome::BadContent, false),
            ("500::::", Outcome::ServerError, false),
            ("::::", Outcome::Reset, false),
            ("200::::e", Outcome::BadContent, false),
        ] {
            let word = TrafficWord { outcome, is_billing, doubts_key: false, is_shared: false };
            let (last, hidden) = tried("200", "--", &format!("a:{attempt} "));
            assert_eq!((last.outcome, hidden), (Outcome::Ok, vec![("a".to_owned(), word)]), "{attempt}");
            // The same server twice, and what the client saw is no repeat.
            if attempt.starts_with("429") {
                let (last, hidden) = tried("429", "--", &format!("b:{attempt} b:{attempt} "));
                assert_eq!((last, hidden), (word, vec![("b".to_owned(), word)]), "{attempt}");
            }
        }
        let (last, hidden) = tried("503", "LH", "a:500:::: b:200::::e ");
        assert_eq!((last.outcome, hidden.len()), (Outcome::BadContent, 1));
        let (last, hidden) = tried("503", "SC", "b:429:7::: ");
        assert_eq!((last.outcome, hidden[0].1.outcome), (Outcome::Refused, Outcome::RateLimited));
    }

    #[test]
    fn a_rejection_that_another_server_shares_is_the_clients_own() {
        let doubt =
            TrafficWord { outcome: Outcome::ProbeConfig, is_billing: false, doubts_key: true, is_shared: false };
        for status in ["401", "403"] {
            let (last, hidden) = tried(status, "--", &format!("a:{status}::::i b:{status}::::i "));
            assert_eq!((last, hidden), (doubt, vec![("a".to_owned(), doubt)]), "{status}");
            // Alone: to what every key may, a 401 is the key's.
            let (last, _) = tried(status, "--", &format!("b:{status}:::: "));
            assert_eq!(last, doubt, "{status}");
        }
        let (last, _) = tried("401", "--", "b:401::::i ");
        assert_eq!(last, Outcome::Credential.into());
        let (last, _) = tried("403", "--", "b:403::::i ");
        assert_eq!(last, doubt);
        // A spent account is not.
        let (last, hidden) = tried("429", "--", "a:403::::iq b:429::::iq ");
        assert!(last.is_billing && hidden[0].1.is_billing);
    }

    #[test]
    fn a_server_error_that_another_server_shares_is_marked() {
        let shared = TrafficWord { is_shared: true, ..Outcome::ServerError.into() };
        for (first, second) in [("500", "500"), ("502", "500"), ("500", "503"), ("520", "504")] {
            let (last, hidden) = tried(second, "--", &format!("a:{first}:::: b:{second}:::: "));
            assert_eq!((last, hidden), (shared, vec![("a".to_owned(), shared)]), "{first} {second}");
        }
        // The same server twice says nothing of the request; nor does one that hung up, refused, or asked for silence.
        for tries in ["b:500:::: b:500:::: ", "a::::: b:500:::: ", "a:503:::SC: b:500:::: ", "a:503:5::: b:500:::: "] {
            let (last, hidden) = tried("500", "--", tries);
            assert!(!last.is_shared && !hidden[0].1.is_shared, "{tries}: {last:?} {hidden:?}");
        }
        // A third took it: then it was they.
        let (_, hidden) = tried("200", "--", "a:500:::: c:500:::: ");
        assert!(hidden.iter().all(|(_, word)| !word.is_shared), "{hidden:?}");
    }

    #[test]
    fn every_termination_state_has_its_outcome() {
        use Outcome::{BadContent, Ok, Refused, Reset, SelfCaused, Timeout};
        // Rows: who ended it; columns: R request, Q queue, C connect, H header, D data, L last data, T tarpit, - end.
        let of_second = |first: char| -> [Outcome; 8] {
            match first {
                '-' => [Ok; 8],
                'S' => [Reset, SelfCaused, Refused, Reset, Reset, Ok, SelfCaused, SelfCaused],
                's' => [
                    Timeout(Phase::FirstToken),
                    SelfCaused,
                    Timeout(Phase::Connect),
                    Timeout(Phase::FirstToken),
                    Timeout(Phase::Stall),
                    Ok,
                    SelfCaused,
                    SelfCaused,
                ],
                'P' => {
                    let own = SelfCaused;
                    [own, own, own, BadContent, BadContent, own, own, own]
                }
                _ => [SelfCaused; 8],
            }
        };
        for first in "-CcSsPLRIDUK".chars() {
            for (second, expected) in "RQCHDLT-".chars().zip(of_second(first)) {
                let state = format!("{first}{second}");
                assert_eq!(line("chat/a", "200", &state, "-", "-", "-"), Some(expected), "{state}");
                // The same where a hop says it of an answer of its own.
                let told = if expected == Ok { Refused } else { expected };
                assert_eq!(line("chat/a", "503", "--", &state, "5", "-"), Some(told), "hop {state}");
                assert_eq!(line("api/<NOSRV>", "503", &state, "-", "-", "-"), None);
            }
        }
    }

    #[test]
    fn a_whole_answer_is_judged_by_its_status() {
        for (status, retry_after, expected) in [
            ("200", "-", Outcome::Ok),
            ("304", "-", Outcome::Ok),
            ("400", "-", Outcome::ProbeConfig),
            ("404", "-", Outcome::ProbeConfig),
            ("405", "-", Outcome::ProbeConfig),
            ("413", "-", Outcome::ProbeConfig),
            ("415", "-", Outcome::ProbeConfig),
            ("422", "-", Outcome::ProbeConfig),
            ("401", "-", Outcome::ProbeConfig),
            ("402", "-", Outcome::Credential),
            ("403", "-", Outcome::ProbeConfig),
            ("429", "-", Outcome::RateLimited),
            ("429", "7", Outcome::RateLimited),
            ("503", "7", Outcome::Overloaded),
            ("529", "-", Outcome::Overloaded),
            ("503", "-", Outcome::ServerError),
            ("500", "7", Outcome::ServerError),
            ("502", "-", Outcome::ServerError),
            ("504", "-", Outcome::ServerError),
            ("-1", "-", Outcome::SelfCaused),
        ] {
            assert_eq!(line("chat/a", status, "--", "-", retry_after, "-"), Some(expected), "{status}");
        }
        assert_eq!(line("chat/a", "401", "--", "-", "-", "i"), Some(Outcome::Credential));
        assert_eq!(line("chat/a", "429", "--", "-", "-", "iq"), Some(Outcome::Credential));
        assert_eq!(line("chat/a", "200", "--", "-", "-", "1"), Some(Outcome::BadContent));
        assert_eq!(line("chat/a", "500", "--", "-", "-", "1"), Some(Outcome::ServerError));
    }

    #[test]
    fn a_hop_without_a_state_is_judged_by_its_status() {
        for (status, expected) in [
            ("502", Outcome::Reset),
            ("503", Outcome::Refused),
            ("504", Outcome::Timeout(Phase::FirstToken)),
            ("429", Outcome::SelfCaused),
        ] {
            assert_eq!(line("chat/a", status, "--", "--", "5", "-"), Some(expected), "{status}");
        }
    }

    #[test]
    fn a_4xx_of_haproxys_own_within_a_request_is_the_clients() {
        for (status, state, expected) in [
            ("400", "PH", Outcome::SelfCaused),
            ("400", "PD", Outcome::SelfCaused),
            ("413", "PR", Outcome::SelfCaused),
            ("502", "PH", Outcome::BadContent),
            ("200", "PD", Outcome::BadContent),
        ] {
            assert_eq!(line("chat/a", status, state, "-", "5", "-"), Some(expected), "{status} {state}");
            // Behind a hop as well.
            if expected == Outcome::SelfCaused {
                assert_eq!(line("chat/a", status, state, "SD", "5", "-"), Some(expected), "{status} {state}");
            }
        }
    }

    #[test]
    fn a_stream_that_ends_badly_has_its_class() {
        for (end, state, expected) in [
            ("error", "--", Outcome::BadContent),
            ("limit", "--", Outcome::RateLimited),
            ("overload", "SD", Outcome::Overloaded),
            ("request", "--", Outcome::ProbeConfig),
            ("cut", "--", Outcome::Reset),
            // One failure, by its own name.
            ("cut", "SD", Outcome::Reset),
            ("cut", "sD", Outcome::Timeout(Phase::Stall)),
            ("cut", "PD", Outcome::BadContent),
            ("-", "--", Outcome::Ok),
            // The client went away: before the end, or at the sight of an error.
            ("cut", "CD", Outcome::SelfCaused),
            ("-", "CD", Outcome::SelfCaused),
            ("error", "CD", Outcome::BadContent),
        ] {
            let line = format!(
                "[hapilot@0 live=\"api 0 chat/a 200 {state} 0 0 0 0 1 9 - - - - -\" upload=\"0 9/999\" stream=\"{end}\"]"
            );
            let Blame::Server(word) = classify(&Line::parse(line.as_bytes()).unwrap().unwrap()) else {
                panic!("{line}")
            };
            assert_eq!(word.outcome, expected, "{line}");
        }
    }

    #[test]
    fn a_client_that_goes_away_is_nobodys_failure() {
        assert_eq!(line("chat/a", "200", "CD", "SC", "-", "-"), Some(Outcome::SelfCaused));
        assert_eq!(line("chat/a", "-1", "CH", "-", "-", "-"), Some(Outcome::SelfCaused));
    }
}
