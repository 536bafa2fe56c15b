//! What a line says of the server: its outcome in the words of probes, or nothing.
//!
//! Two letters tell who ended a session and when. Pure.
//!
//! **Source**: configuration manual, "Session state at disconnection"; what 2.6, 3.0 and 3.2 wrote about each fault.

use super::line::{Line, TerminationState};
use crate::health::{Outcome, Phase};

/// Whose word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It tells this of the server that is named.
    Server(Outcome),
    /// No server was chosen: refused, answered by HAProxy itself, or none could serve.
    NoServer,
}

/// Judges one line.
///
/// | State | | Outcome |
/// |---|---|---|
/// | `--` | ended as it should | by the status |
/// | `C?`, `c?` | the client went away or fell silent | self |
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
    // What a hop answered in the server's place came of this end of its own session.
    let state = line.hop.unwrap_or(line.state);
    // The client's end counts before the hop's.
    if is_of_client(line.state) {
        return Blame::Server(Outcome::SelfCaused);
    }
    Blame::Server(match of_state(state) {
        Some(outcome) => outcome,
        None if line.hop.is_some() => of_hop(line.status),
        None => of_answer(line),
    })
}

fn is_of_client(state: TerminationState) -> bool {
    matches!(state.0[0], b'C' | b'c')
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
fn of_answer(line: &Line<'_>) -> Outcome {
    match line.status {
        Some(100..400) if line.has_stream_error => Outcome::BadContent,
        Some(100..400) => Outcome::Ok,
        Some(401..=403) => Outcome::Credential,
        Some(429) => Outcome::RateLimited,
        // The client's own mistake, whichever.
        Some(400..500) => Outcome::ProbeConfig,
        Some(529) => Outcome::Overloaded,
        Some(503) if line.retry_after.is_some() => Outcome::Overloaded,
        Some(_) => Outcome::ServerError,
        None => Outcome::SelfCaused,
    }
}

#[cfg(test)]
mod tests {
    use super::{Blame, classify};
    use crate::health::{Outcome, Phase};
    use crate::traffic::Line;

    fn line(place: &str, status: &str, state: &str, hop: &str, retry_after: &str, error: &str) -> Blame {
        let text =
            format!("[hapilot@0 live=\"api 0 {place} {status} {state} 0 0 0 0 1 9 - - {error} {hop} {retry_after}\"]");
        classify(&Line::parse(text.as_bytes()).unwrap().unwrap())
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
                assert_eq!(line("chat/a", "200", &state, "-", "-", "-"), Blame::Server(expected), "{state}");
                // The same where a hop says it of an answer of its own.
                let told = if expected == Ok { Refused } else { expected };
                assert_eq!(line("chat/a", "503", "--", &state, "5", "-"), Blame::Server(told), "hop {state}");
                assert_eq!(line("api/<NOSRV>", "503", &state, "-", "-", "-"), Blame::NoServer);
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
            ("401", "-", Outcome::Credential),
            ("402", "-", Outcome::Credential),
            ("403", "-", Outcome::Credential),
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
            assert_eq!(line("chat/a", status, "--", "-", retry_after, "-"), Blame::Server(expected), "{status}");
        }
        assert_eq!(line("chat/a", "200", "--", "-", "-", "1"), Blame::Server(Outcome::BadContent));
        assert_eq!(line("chat/a", "500", "--", "-", "-", "1"), Blame::Server(Outcome::ServerError));
    }

    #[test]
    fn a_hop_without_a_state_is_judged_by_its_status() {
        for (status, expected) in [
            ("502", Outcome::Reset),
            ("503", Outcome::Refused),
            ("504", Outcome::Timeout(Phase::FirstToken)),
            ("429", Outcome::SelfCaused),
        ] {
            assert_eq!(line("chat/a", status, "--", "--", "5", "-"), Blame::Server(expected), "{status}");
        }
    }

    #[test]
    fn a_client_that_goes_away_is_nobodys_failure() {
        assert_eq!(line("chat/a", "200", "CD", "SC", "-", "-"), Blame::Server(Outcome::SelfCaused));
        assert_eq!(line("chat/a", "-1", "CH", "-", "-", "-"), Blame::Server(Outcome::SelfCaused));
    }
}
