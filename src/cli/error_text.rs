//! Errors in lines that fit: broken at blanks, never within what is copied from them.
//!
//! Whole stay paths (they have no blank), `commands` and "quotes", commands that stand bare, `error: FILE:LINE:`, and
//! lines that quote a file. Pure. Called by `output`.

use super::layout::columns;
use super::pieces::{LABELS, QUOTES, pieces, without_colors};
use anstyle::Style;

/// The text with the label that it begins with, if any, in this style.
pub(super) fn paint(text: &str, style: Style) -> String {
    match text.split_once(' ') {
        Some((label, rest)) if label == LABELS[0] => format!("{style}{label}{style:#} {rest}"),
        _ => text.to_owned(),
    }
}

/// The text with every line within `width`, as far as its unbreakable parts allow.
pub(super) fn wrap(text: &str, width: usize) -> String {
    text.split('\n').map(|line| wrap_line(line, width)).collect::<Vec<_>>().join("\n")
}

fn wrap_line(line: &str, width: usize) -> String {
    let plain = without_colors(line);
    if columns(line) <= width || is_quotation(&plain) {
        return line.to_owned();
    }
    let lead = line.len() - line.trim_start_matches(' ').len();
    let hang = lead + hang_of(plain.trim_start());
    let mut lines = Vec::new();
    let (mut current, mut is_begun) = (" ".repeat(lead), false);
    for part in pieces(&line[lead..], &QUOTES) {
        if is_begun && columns(&current) + 1 + columns(&part) > width {
            lines.push(std::mem::replace(&mut current, " ".repeat(hang)));
            is_begun = false;
        }
        if is_begun {
            current.push(' ');
        }
        current.push_str(&part);
        is_begun = true;
    }
    lines.push(current);
    lines.join("\n")
}

/// How far what goes on stands to the right: below the text of `help: text` and `= help: text`.
fn hang_of(line: &str) -> usize {
    let (mark, rest) = line.strip_prefix("= ").map_or((0, line), |rest| (2, rest));
    match ["help: ", "note: "].iter().find(|label| rest.starts_with(**label)) {
        Some(label) => mark + label.len(),
        None => 2,
    }
}

/// A line of somebody's file, or the mark below it: ` 12 | url = "…"`, `  --> FILE:LINE:COLUMN`.
fn is_quotation(line: &str) -> bool {
    let line = line.trim_start();
    let is_rendered = line.starts_with("= in haproxy.cfg line ");
    is_rendered
        || line.starts_with("-->")
        || line.starts_with(':')
        || line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors as commands end with them; what must stand on one line.
    const ERRORS: [(&str, &[&str]); 9] = [
        (
            "error: /etc/hapilot/hapilot.toml:12:9: env:OPENAI_KEY of chat/openai-1: the environment variable OPENAI_KEY of this \
             process is not set, and /etc/default/hapilot, from which the unit takes it, gives none\n  help: the running agent has \
             them: start it and let it do this; or hand them to this command, `env NAME=VALUE hapilot …`",
            &["error: /etc/hapilot/hapilot.toml:12:9:", "/etc/default/hapilot,", "`env NAME=VALUE hapilot …`"],
        ),
        (
            "error: /srv/a/very/long/path/below/which/an/operator/keeps/all/of/his/files/for/hapilot/hapilot.toml:1:1: no table",
            &[
                "error: /srv/a/very/long/path/below/which/an/operator/keeps/all/of/his/files/for/hapilot/hapilot.toml:1:1:",
            ],
        ),
        (
            "no HAProxy answers on /run/haproxy/admin.sock; the files are ready, start it: /usr/sbin/haproxy -Ws -f \
             /etc/haproxy/haproxy.cfg -S /run/haproxy/master.sock",
            &["/usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg -S /run/haproxy/master.sock"],
        ),
        (
            "start it: haproxy -Ws -f '/etc/my own/haproxy.cfg' -S /run/haproxy/master.sock once all of the rest is as it should be",
            &["haproxy -Ws -f '/etc/my own/haproxy.cfg' -S /run/haproxy/master.sock"],
        ),
        (
            "/etc/other.toml still has the content that was rolled back; to go further: hapilot -c /etc/other.toml rollback REV now",
            &["hapilot -c /etc/other.toml rollback REV"],
        ),
        (
            "error[E012]: the weight is more than 256, which is the most that a server may have in any backend at all\n \
             --> /etc/hapilot/hapilot.toml:7:10\n  |\n7 | url = \"https://api.example.com/v1\" # a comment that goes on and on and on and on, of \
             the operator's own\n  |       ^^^ too much\n  = help: write a number of 0 to 256 and let the other servers of this \
             backend have less than this one",
            &[
                "7 | url = \"https://api.example.com/v1\" # a comment that goes on and on and on and on, of the operator's own",
                " --> /etc/hapilot/hapilot.toml:7:10",
            ],
        ),
        (
            "  = in haproxy.cfg line 97: http-request deny deny_status 403 unless { src 10.0.0.0/8 } { path -m beg /v1/internal }",
            &["97: http-request deny deny_status 403 unless { src 10.0.0.0/8 } { path -m beg /v1/internal }"],
        ),
        (
            "error: HAProxy refuses the file: the line \"http-request set-header X-Long-Name %[req.hdr(x),lower] if { path /v1 }\" is odd",
            &["\"http-request set-header X-Long-Name %[req.hdr(x),lower] if { path /v1 }\""],
        ),
        (
            "\u{1b}[1;31merror:\u{1b}[0m /etc/hapilot/hapilot.toml:3:1: another hapilot works on this node: it answers on /run/x.sock",
            &["\u{1b}[1;31merror:\u{1b}[0m /etc/hapilot/hapilot.toml:3:1:"],
        ),
    ];

    #[test]
    fn errors_break_at_blanks_and_what_is_copied_stays_whole() {
        for (error, whole) in ERRORS {
            for width in [40, 80, 120] {
                let wrapped = wrap(error, width);
                let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
                assert_eq!(words(&wrapped), words(error), "no word is lost");
                for part in whole {
                    assert!(wrapped.lines().any(|line| line.contains(part)), "{part:?} at {width} in:\n{wrapped}");
                }
                for line in wrapped.lines().filter(|line| columns(line) > width && !is_quotation(&without_colors(line)))
                {
                    assert_eq!(pieces(line.trim_start(), &QUOTES).len(), 1, "too long at {width}: {line:?}");
                }
            }
            assert_eq!(wrap(error, 1000), error, "what fits is left alone");
        }
    }

    #[test]
    fn what_goes_on_hangs() {
        let text = "error: one two three four\n  help: five six seven eight\n  = help: nine ten eleven";
        let wanted = "error: one two\n  three four\n  help: five six\n        seven\n        eight\n  = help: nine\n          ten\n          \
                      eleven";
        assert_eq!(wrap(text, 16), wanted);
    }
}
