//! The first line of a rendered haproxy.cfg: whose the file is, and the digest of everything below.

use crate::model::Digest;

const BEGINNING: &str = "# hapilot sha256=";
const END: &str = " - written by hapilot from its TOML file, do not edit";

/// The file's text with its first line.
pub(super) fn with_header(body: &str) -> String {
    // Of just that size: it is kept.
    [&format!("{BEGINNING}{}{END}\n", Digest::of(body)), body].concat()
}

/// What the first line of a file says, against the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The first line is hapilot's.
    pub is_ours: bool,
    /// The digest in it fits the lines below; false after an edit by hand or a truncation.
    pub is_intact: bool,
}

/// Judges a haproxy.cfg by its first line.
pub fn inspect(text: &[u8]) -> Inspection {
    let Some(rest) = text.strip_prefix(BEGINNING.as_bytes()) else {
        return Inspection { is_ours: false, is_intact: false };
    };
    let newline = rest.iter().position(|byte| *byte == b'\n');
    let is_intact = newline.is_some_and(|newline| {
        let (first_line, body) = (&rest[..newline], &rest[newline + 1..]);
        first_line == format!("{}{END}", Digest::of(body)).as_bytes()
    });
    Inspection { is_ours: true, is_intact }
}

#[cfg(test)]
mod tests {
    use super::{Inspection, inspect, with_header};

    #[test]
    fn every_truncation_and_every_edit_shows() {
        let text = with_header("global\n    maxconn 1\n");
        assert_eq!(inspect(text.as_bytes()), Inspection { is_ours: true, is_intact: true });
        for length in 0..text.len() {
            assert!(!inspect(&text.as_bytes()[..length]).is_intact, "{length}");
        }
        let edited = text.replace("maxconn 1", "maxconn 2");
        assert_eq!(inspect(edited.as_bytes()), Inspection { is_ours: true, is_intact: false });
        assert_eq!(inspect(b"global\n"), Inspection { is_ours: false, is_intact: false });
    }
}
