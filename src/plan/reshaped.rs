//! Why servers cannot be changed where they are: what differs in their lines, in HAProxy's own words.
//!
//! HAProxy tells a number for all of it (the server's `id`). The words before are those of the haproxy.cfg on disk,
//! where its line has the very number that runs. Called by `decide`.

use super::ReloadReason;
use super::reasons::MAX_REASONS;
use crate::cfg::words_of;
use crate::model::ServerId;
use crate::render::server_lines;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Keywords of a server line that take a value.
const VALUED: [&str; 14] = [
    "id",
    "weight",
    "maxconn",
    "track",
    "inter",
    "fastinter",
    "downinter",
    "fall",
    "rise",
    "verify",
    "ca-file",
    "sni",
    "alpn",
    "check-sni",
];
/// What the runtime sets, and the number itself.
const NO_REASON: [&str; 4] = ["id", "weight", "maxconn", "disabled"];

/// Backend and server.
type Name<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Servers whose lines differ in more than the runtime can set; those that differ alike count as one reason.
pub(super) struct Reshaped<'a> {
    haproxy_cfg: &'a str,
    /// The server lines of the file on disk, behind the name; read when the first one is asked for.
    lines: Option<BTreeMap<Name<'a>, &'a str>>,
    /// What differs, with the first server and how many there are.
    found: BTreeMap<String, (ServerId, usize)>,
}

impl<'a> Reshaped<'a> {
    /// None yet; `haproxy_cfg` is the text on disk.
    pub(super) fn beside(haproxy_cfg: &'a str) -> Self {
        Self { haproxy_cfg, lines: None, found: BTreeMap::new() }
    }

    /// One more; `running_id` is the number that HAProxy tells.
    pub(super) fn push(&mut self, id: ServerId, name: &(String, String), running_id: u32, wanted: &[String]) {
        let haproxy_cfg = self.haproxy_cfg;
        let lines = self.lines.get_or_insert_with(|| {
            server_lines(haproxy_cfg).map(|line| ((line.backend, line.name), line.rest)).collect()
        });
        let before = lines
            .get(&(Cow::Borrowed(name.0.as_str()), Cow::Borrowed(name.1.as_str())))
            .and_then(|line| words_of(line));
        let before = before
            .map(|words| settings(&words))
            .filter(|before| before.iter().any(|(keyword, value)| keyword == "id" && *value == running_id.to_string()));
        let difference = before.map(|before| difference(&before, &settings(wanted))).unwrap_or_default();
        self.found.entry(difference).or_insert((id, 0)).1 += 1;
    }

    /// One reason for each way in which servers differ.
    pub(super) fn reasons(self) -> Vec<ReloadReason> {
        let more = self.found.len().saturating_sub(MAX_REASONS);
        let mut reasons: Vec<_> = self.found.into_iter().take(MAX_REASONS).map(reason).collect();
        if more > 0 {
            reasons.push(ReloadReason::whole(format!("and {more} more ways in which servers differ")));
        }
        reasons
    }
}

fn reason((difference, (first, count)): (String, (ServerId, usize))) -> ReloadReason {
    let servers = match count {
        1 => format!("server {first}"),
        2 => format!("server {first} and one more"),
        _ => format!("server {first} and {} more", count - 1),
    };
    ReloadReason::whole(match difference.as_str() {
        "" => format!(
            "{servers}: check, TLS, tier or spelling of the line differs from what runs; haproxy.cfg is not what runs, \
             so it cannot say more"
        ),
        difference => format!("{servers}: {difference}"),
    })
}

/// Keyword and value, which is empty for a flag, in the order of the line; the address in front is not one.
fn settings(words: &[String]) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let value = if VALUED.contains(&word.as_str()) { words.next() } else { None };
        settings.push((word.clone(), value.cloned().unwrap_or_default()));
    }
    settings
}

/// `inter 500ms` becomes `inter 700ms`, new `backup`, without `ssl verify none`.
fn difference(before: &[(String, String)], after: &[(String, String)]) -> String {
    let spelt = |(keyword, value): &(String, String)| match value.is_empty() {
        true => keyword.clone(),
        false => format!("{keyword} {value}"),
    };
    let counts = |(keyword, _): &&(String, String)| !NO_REASON.contains(&keyword.as_str());
    let missing_in = |these: &[(String, String)], those: &[(String, String)]| {
        let only = these.iter().filter(counts).filter(|(keyword, _)| !those.iter().any(|(other, _)| other == keyword));
        only.map(spelt).collect::<Vec<_>>().join(" ")
    };
    let mut parts: Vec<String> = Vec::new();
    for now in after.iter().filter(counts) {
        if let Some(was) = before.iter().find(|(keyword, _)| *keyword == now.0)
            && was.1 != now.1
        {
            parts.push(format!("`{}` becomes `{}`", spelt(was), spelt(now)));
        }
    }
    let (new, gone) = (missing_in(after, before), missing_in(before, after));
    parts.extend((!new.is_empty()).then(|| format!("new `{new}`")));
    parts.extend((!gone.is_empty()).then(|| format!("without `{gone}`")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: &str = "backend chat\n    balance random\n    server a 192.0.2.1:1 id 7 weight 5 backup check inter 5s fall 3\n    \
                        server b 192.0.2.2:1 id 8 weight 5 check inter 5s fall 3\nlisten x\n    server a 192.0.2.9:1 id 7\n";

    #[track_caller]
    fn check(servers: &[(&str, u32, &str)], expected: &[&str]) {
        let mut reshaped = Reshaped::beside(RUNS);
        for (server, running_id, line) in servers {
            let wanted = words_of(line).unwrap();
            let id = format!("chat/{server}").parse().unwrap();
            reshaped.push(id, &("chat".to_owned(), (*server).to_owned()), *running_id, &wanted);
        }
        let reasons: Vec<_> = reshaped.reasons().iter().map(ToString::to_string).collect();
        assert_eq!(reasons, expected);
    }

    #[test]
    fn what_differs_is_named_and_what_the_runtime_sets_is_not() {
        check(
            &[("a", 7, "192.0.2.5:1 id 9 weight 6 maxconn 3 check inter 7s fall 3 ssl verify none")],
            &["server chat/a: `inter 5s` becomes `inter 7s`, new `ssl verify none`, without `backup`"],
        );
    }

    #[test]
    fn servers_that_differ_alike_are_one_reason() {
        let (a, b) =
            ("192.0.2.1:1 weight 5 backup check inter 7s fall 3", "192.0.2.2:1 weight 5 check inter 7s fall 3");
        check(&[("a", 7, a), ("b", 8, b)], &["server chat/a and one more: `inter 5s` becomes `inter 7s`"]);
    }

    #[test]
    fn a_file_that_is_not_what_runs_tells_nothing() {
        let unknown = "check, TLS, tier or spelling of the line differs from what runs; haproxy.cfg is not what runs, so it \
                       cannot say more";
        check(&[("a", 6, "192.0.2.1:1 ssl")], &[&format!("server chat/a: {unknown}")]);
        check(&[("c", 6, "192.0.2.1:1 ssl")], &[&format!("server chat/c: {unknown}")]);
    }
}
