//! The lines of servers that can be added at runtime, taken from the rendered file: whoever spelt them, a built-in part
//! or an operator's own template, `add server` gets the same words.
//!
//! Called by `render`.

use super::shape::Ids;
use crate::cfg::{self, Kind, words_of};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The `id` of every server of the file that can be added at runtime, by (proxy, server). One whose line has a word that
/// only HAProxy can read (an environment variable), or that no command can carry, or without its id, is missing, and so
/// needs a reload.
pub(super) fn servers(ids: &Ids<'_>, haproxy_cfg: &str) -> BTreeMap<(String, String), u32> {
    let id = |line: &ServerLine<'_>| ids.get(&*line.backend).and_then(|ids| ids.get(&*line.name)).copied();
    let lines = server_lines(haproxy_cfg).filter_map(|line| Some((id(&line)?, line)));
    let tells = |id: u32, words: &[String]| words.windows(2).any(|pair| pair[0] == "id" && pair[1] == id.to_string());
    let is_sent = |id: u32, words: Vec<String>| words.iter().all(|word| can_be_sent(word)) && tells(id, &words);
    let sent = lines.filter(|(id, line)| words_of(line.rest).is_some_and(|words| is_sent(*id, words)));
    sent.map(|(id, line)| ((line.backend.into_owned(), line.name.into_owned()), id)).collect()
}

/// The words of all servers' lines behind the name, without the state, which is set when a server is there.
pub(super) fn words_of_servers(haproxy_cfg: &str) -> BTreeMap<(String, String), Vec<String>> {
    let words = |line: ServerLine<'_>| {
        let mut words = words_of(line.rest)?;
        words.retain(|word| word != "disabled");
        Some(((line.backend.into_owned(), line.name.into_owned()), words))
    };
    server_lines(haproxy_cfg).filter_map(words).collect()
}

/// A line of a server in a section `backend`.
#[derive(Clone, Debug)]
pub struct ServerLine<'a> {
    /// The section.
    pub backend: Cow<'a, str>,
    /// The server.
    pub name: Cow<'a, str>,
    /// What stands behind the name.
    pub rest: &'a str,
    /// Which line of the file it is, from 0.
    pub index: usize,
    /// Where it begins in the file, in bytes.
    pub start: usize,
}

/// All of them, in their order.
pub fn server_lines(haproxy_cfg: &str) -> impl Iterator<Item = ServerLine<'_>> {
    let lines = cfg::lines(haproxy_cfg);
    lines.filter(|line| line.section.kind == Kind::Backend && line.keyword == "server").filter_map(|line| {
        let mut words = line.arguments();
        let name = words.next()?.said?;
        Some(ServerLine { backend: line.section.name, name, rest: words.rest(), index: line.index, start: line.start })
    })
}

/// Whether a command can carry a word.
fn can_be_sent(word: &str) -> bool {
    !word.is_empty() && !word.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::{server_lines, words_of_servers};

    #[test]
    fn server_lines_are_found_where_haproxy_reads_them() {
        let text = "backend a\n server s 192.0.2.1:1 weight 5\n\tlisten b\n server s x\n\
                    \"backend\" 'c'\nserver\t\"t\"\tx disabled id 7 # weight 3\n # server u x\n server \"${N}\" x\n";
        let found: Vec<_> =
            server_lines(text).map(|line| (line.backend, line.name, line.rest, line.index, line.start)).collect();
        assert_eq!(
            found,
            [
                ("a".into(), "s".into(), " 192.0.2.1:1 weight 5", 1, 10),
                ("c".into(), "t".into(), "\tx disabled id 7 # weight 3", 5, 77),
            ]
        );
        let words = words_of_servers(text);
        assert_eq!(words[&("c".to_owned(), "t".to_owned())], ["x", "id", "7"]);
    }
}
