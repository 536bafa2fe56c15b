//! The lines of servers that can be added at runtime, taken from the rendered file: whoever spelt them, a built-in part
//! or an operator's own template, `add server` gets the same words.
//!
//! Called by `render`.

use super::shape::Ids;
use std::collections::BTreeMap;

/// The `id` of every server of the file that can be added at runtime, by (proxy, server). One whose line has a word that
/// only the file's own rules can read (an environment variable) is missing, and so needs a reload.
pub(super) fn servers(ids: &Ids<'_>, haproxy_cfg: &str) -> BTreeMap<(String, String), u32> {
    let id = |line: &ServerLine<'_>| ids.get(line.backend).and_then(|ids| ids.get(line.name)).copied();
    let lines = server_lines(haproxy_cfg).filter_map(|line| Some((id(&line)?, line)));
    let readable = lines.filter(|(_, line)| words_of(line.rest).is_some());
    readable.map(|(id, line)| ((line.backend.to_owned(), line.name.to_owned()), id)).collect()
}

/// The words of all servers' lines behind the name, without the state, which is set when a server is there.
pub(super) fn words_of_servers(haproxy_cfg: &str) -> BTreeMap<(String, String), Vec<String>> {
    let words = |line: ServerLine<'_>| {
        let mut words = words_of(line.rest)?;
        words.retain(|word| word != "disabled");
        Some(((line.backend.to_owned(), line.name.to_owned()), words))
    };
    server_lines(haproxy_cfg).filter_map(words).collect()
}

/// A line of a server in a section `backend`.
#[derive(Clone, Copy, Debug)]
pub struct ServerLine<'a> {
    /// The section.
    pub backend: &'a str,
    /// The server.
    pub name: &'a str,
    /// What stands behind the name.
    pub rest: &'a str,
    /// Which line of the file it is, from 0.
    pub index: usize,
    /// Where it begins in the file, in bytes.
    pub start: usize,
}

/// All of them, in their order.
pub fn server_lines(haproxy_cfg: &str) -> impl Iterator<Item = ServerLine<'_>> {
    let (mut section, mut at) = (None, 0);
    haproxy_cfg.split_inclusive('\n').enumerate().filter_map(move |(index, line)| {
        let start = at;
        at += line.len();
        let line = line.strip_suffix('\n').unwrap_or(line);
        if !line.starts_with([' ', '\t', '#']) && !line.is_empty() {
            section = line.strip_prefix("backend ").map(str::trim);
            return None;
        }
        let (name, rest) = line.trim_start().strip_prefix("server ")?.split_once(' ')?;
        Some(ServerLine { backend: section?, name, rest, index, start })
    })
}

/// The words of a line of haproxy.cfg, read as HAProxy reads them; `None` where one would need its environment, or is
/// not closed.
pub fn words_of(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '#' => break,
            '\\' => word.get_or_insert_default().push(chars.next()?),
            '\'' => {
                let text = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        other => text.push(other),
                    }
                }
            }
            '"' => {
                let text = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '$' => return None,
                        '\\' => text.push(chars.next()?),
                        other => text.push(other),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::words_of;

    #[test]
    fn words_are_read_as_haproxy_reads_them() {
        let check = |line: &str, expected: Option<&[&str]>| {
            assert_eq!(
                words_of(line).as_deref(),
                expected.map(|words| words.iter().map(ToString::to_string).collect::<Vec<_>>()).as_deref()
            );
        };
        check("127.0.0.1:1 weight  5 # end", Some(&["127.0.0.1:1", "weight", "5"]));
        check(r#"sni 'str("a b")' x"\"y"'z'"#, Some(&["sni", r#"str("a b")"#, "x\"yz"]));
        check(r"a\ b", Some(&["a b"]));
        check(r#""${HOME}""#, None);
        check("'open", None);
    }
}
