//! The lines of servers that can be added at runtime, taken from the rendered file: whoever spelt them, a built-in part
//! or an operator's own template, `add server` gets the same words.
//!
//! Called by `render`.

use super::DynamicServer;
use super::shape::Ids;
use std::collections::BTreeMap;

/// Every server of the file that can be added at runtime. One whose line has a word that only the file's own rules can
/// read (an environment variable) is missing, and so needs a reload.
pub(super) fn servers(ids: &Ids<'_>, haproxy_cfg: &str) -> BTreeMap<(String, String), DynamicServer> {
    let mut found = BTreeMap::new();
    let mut section = None;
    for line in haproxy_cfg.lines() {
        if !line.starts_with([' ', '\t', '#']) && !line.is_empty() {
            section = line.strip_prefix("backend ").map(str::trim);
            continue;
        }
        let Some(backend) = section else { continue };
        let Some(rest) = line.trim_start().strip_prefix("server ") else { continue };
        let Some((name, rest)) = rest.split_once(' ') else { continue };
        let id = ids.get(backend).and_then(|ids| ids.get(name));
        if let (Some(id), Some(mut words)) = (id, words_of(rest)) {
            // Its state is set when it is there.
            words.retain(|word| word != "disabled");
            found.insert((backend.to_owned(), name.to_owned()), DynamicServer { id: *id, words });
        }
    }
    found
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
