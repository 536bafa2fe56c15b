//! Splits what an interactive session sends back into replies. Pure.
//!
//! After `prompt`, every reply of every version ends in a line break and `> `. That is the only framing that holds on
//! 2.6, 3.0 and 3.2 alike: blank lines do not (2.6's `del server` has none), a socket timeout never does.

/// The end of a reply.
const TERMINATOR: &[u8] = b"\n> ";

/// Replies so far, fed with bytes as they come.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Bytes of the reply that is not complete yet.
    pending: Vec<u8>,
    /// How many bytes of `pending` were searched.
    searched: usize,
    complete: Vec<String>,
}

impl Replies {
    /// Takes some more bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let mut start = 0;
        let mut at = self.searched;
        while let Some(length) = self.pending[at..].iter().position(|byte| *byte == b'\n') {
            at += length;
            let rest = &self.pending[at..];
            if rest.starts_with(TERMINATOR) {
                self.complete.push(text(&self.pending[start..at]));
                at += TERMINATOR.len();
                start = at;
            } else if rest.len() < TERMINATOR.len() {
                // The rest of the terminator may still come.
                break;
            } else {
                at += 1;
            }
        }
        // Where no line break is left, everything was searched.
        let searched = if self.pending[at..].contains(&b'\n') { at } else { self.pending.len() };
        self.searched = searched - start;
        self.pending.drain(..start);
    }

    /// Complete replies so far.
    pub(super) fn len(&self) -> usize {
        self.complete.len()
    }

    /// Bytes that wait for the end of their reply.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// The replies; `None` where bytes are left whose reply never ended.
    pub(super) fn finish(self) -> Option<Vec<String>> {
        self.pending.is_empty().then_some(self.complete)
    }
}

/// A reply without the blank line at its end. NUL bytes, which some versions send, go; what is not UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
    if end == 0 {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes[..end]);
    if text.contains('\0') { text.replace('\0', "") } else { text.into_owned() }
}

/// What 2.6 and 3.0 put before the reply to a command with a payload: one `+ ` per line.
pub(super) fn without_echo(reply: &str) -> &str {
    let mut rest = reply;
    while let Some(shorter) = rest.strip_prefix("+ ").or_else(|| rest.strip_prefix("+\n")) {
        rest = shorter;
    }
    rest.trim_start_matches('\n')
}

#[cfg(test)]
mod tests {
    use super::{Replies, without_echo};
    use proptest::prelude::prop;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    fn whole(bytes: &[u8]) -> Option<Vec<String>> {
        let mut replies = Replies::default();
        replies.feed(bytes);
        replies.finish()
    }

    #[test]
    fn replies_are_split_at_the_prompt_only() {
        let bytes = b"\n> 30 (initial 10)\n\n> \n> Server deleted.\n> a\n\nb > c\n>d\n\n> ";
        let expected = ["", "30 (initial 10)", "", "Server deleted.", "a\n\nb > c\n>d"];
        assert_eq!(whole(bytes).unwrap(), expected);
        assert_eq!(whole(b"\n\n\n> \n> ").unwrap(), ["", ""]);
        assert_eq!(whole(b"alpn h2\0\n\n> ").unwrap(), ["alpn h2"]);
    }

    #[test]
    fn the_echo_of_a_payload_is_no_part_of_the_reply() {
        assert_eq!(without_echo("+ + + "), "");
        assert_eq!(without_echo("+ + \nNo such map."), "No such map.");
        assert_eq!(without_echo("plain"), "plain");
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_replies_and_a_truncated_one_is_noticed(
            replies in prop::collection::vec("[ab+> \n]{0,12}", 1..6),
            cuts in prop::collection::vec(0usize..60, 0..8),
            lost in 1usize..4,
        ) {
            let bytes: Vec<u8> = replies.iter().flat_map(|reply| format!("{reply}\n\n> ").into_bytes()).collect();
            let expected = whole(&bytes);
            prop_assert!(expected.is_some());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut chunked = Replies::default();
            for pair in cuts.windows(2) {
                chunked.feed(&bytes[pair[0]..pair[1]]);
            }
            prop_assert_eq!(chunked.finish(), expected);
            prop_assert_eq!(whole(&bytes[..bytes.len() - lost]), None);
        }
    }
}
