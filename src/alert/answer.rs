//! What a sink's answer means.

use super::exchange::Answer;
use super::line::one_line;
use std::time::Duration;

/// Of an answer's own words, in characters.
const MAX_WORDS: usize = 200;

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It was taken; what the sink said.
    Done(String),
    /// It was not, and may be later.
    Again {
        /// Why, in one line. No secret.
        why: String,
        /// Not before.
        after: Option<Duration>,
    },
    /// It will not be.
    Refused {
        /// Why, in one line. No secret.
        why: String,
        /// Whose fault that is.
        fault: Fault,
    },
}

/// Why something is refused for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This one message; others may pass.
    Message,
    /// The sink, its secret or its address: until somebody mends that, nothing passes.
    Sink,
}

impl Delivery {
    pub(super) fn again(why: impl Into<String>) -> Self {
        Self::Again { why: one_line(&why.into(), MAX_WORDS), after: None }
    }

    pub(super) fn refused(fault: Fault, why: impl Into<String>) -> Self {
        Self::Refused { why: one_line(&why.into(), MAX_WORDS), fault }
    }

    /// What an answer of HTTP means, whoever gave it.
    pub(super) fn of(answer: &Answer) -> Self {
        let said = one_line(&answer.body, MAX_WORDS);
        let why = if said.is_empty() {
            format!("it answered {}", answer.status)
        } else {
            format!("it answered {}: {said}", answer.status)
        };
        match answer.status {
            200..=299 => Self::Done(why),
            408 | 425 | 429 | 500..=599 => Self::Again { why, after: answer.retry_after },
            400 | 413 | 422 => Self::Refused { why, fault: Fault::Message },
            300..=399 => Self::Refused { why: format!("{why}; nobody follows redirects here"), fault: Fault::Sink },
            _ => Self::Refused { why, fault: Fault::Sink },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_is_wrong_is_not() {
        let of = |status| {
            let retry_after = Some(Duration::from_secs(3));
            Delivery::of(&Answer { status, retry_after, body: "words\u{1b}[2J of\nit".to_owned() })
        };
        assert_eq!(of(202), Delivery::Done("it answered 202: words\\u{1b}[2J of it".to_owned()));
        for status in [408, 429, 500, 503] {
            assert!(matches!(of(status), Delivery::Again { after: Some(_), .. }), "{status}");
        }
        for (status, wanted) in
            [(400, Fault::Message), (401, Fault::Sink), (403, Fault::Sink), (302, Fault::Sink), (100, Fault::Sink)]
        {
            assert!(matches!(of(status), Delivery::Refused { fault, .. } if fault == wanted), "{status}");
        }
    }
}
