//! How many connections the rendered file allows the process and each server, read from its own lines: whoever spelt
//! them, a built-in part, an operator's own template or a raw `default-server`.
//!
//! Called by `render`; `plan` holds the running HAProxy against it.

use super::dynamic::words_of;
use std::collections::BTreeMap;

/// A limit; 0 where there is none, `None` where only HAProxy can read it (an environment variable).
type Limit = Option<u32>;
const UNLIMITED: Limit = Some(0);

/// The limits that a haproxy.cfg states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maxconn {
    /// Of the process; `None` where `global` does not say it in digits.
    pub process: Option<u32>,
    /// Of each server that is not plainly without one, by (proxy, server).
    servers: BTreeMap<(String, String), Limit>,
}

impl Maxconn {
    /// What the file allows a server, by (proxy, server): 0 is no limit, `None` is not to be told from here.
    pub fn of_server(&self, name: &(String, String)) -> Option<u32> {
        self.servers.get(name).copied().unwrap_or(UNLIMITED)
    }

    /// Whether a server has a limit at all.
    pub fn limits_servers(&self) -> bool {
        !self.servers.is_empty()
    }
}

/// Where a line stands.
enum Section<'a> {
    Global,
    Defaults(&'a str),
    Proxy(&'a str),
    Other,
}

/// Reads the limits as HAProxy does: a server's own word, else what `default-server` above it says, else what the
/// `defaults` say that its section follows.
pub(super) fn stated(haproxy_cfg: &str) -> Maxconn {
    let mut found = Maxconn::default();
    let mut section = Section::Other;
    // The limit of a server here that says nothing itself, and the same at the end of each `defaults`.
    let mut default = UNLIMITED;
    let mut last_defaults = UNLIMITED;
    let mut named = BTreeMap::new();
    for line in haproxy_cfg.lines().filter(|line| !line.is_empty()) {
        if !line.starts_with([' ', '\t', '#']) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let name = words.get(1).copied().unwrap_or_default();
            let from = words.iter().position(|word| *word == "from").and_then(|at| words.get(at + 1));
            let inherited = from.and_then(|from| named.get(from)).copied();
            (section, default) = match words[0] {
                "global" => (Section::Global, UNLIMITED),
                "defaults" => {
                    last_defaults = inherited.unwrap_or(UNLIMITED);
                    named.insert(name, last_defaults);
                    (Section::Defaults(name), last_defaults)
                }
                "backend" | "listen" => (Section::Proxy(name), inherited.unwrap_or(last_defaults)),
                _ => (Section::Other, UNLIMITED),
            };
            continue;
        }
        let line = line.trim_start();
        match section {
            Section::Global => {
                let own = line.strip_prefix("maxconn ").and_then(|number| number.trim().parse().ok());
                found.process = found.process.or(own);
            }
            Section::Defaults(name) if line.starts_with("default-server ") => {
                default = own_limit(line).unwrap_or(default);
                last_defaults = default;
                named.insert(name, default);
            }
            Section::Proxy(_) if line.starts_with("default-server ") => default = own_limit(line).unwrap_or(default),
            Section::Proxy(proxy) => {
                let Some((name, rest)) = line.strip_prefix("server ").and_then(|rest| rest.split_once(' ')) else {
                    continue;
                };
                let limit = own_limit(rest).unwrap_or(default);
                if limit != UNLIMITED {
                    found.servers.insert((proxy.to_owned(), name.to_owned()), limit);
                }
            }
            Section::Defaults(_) | Section::Other => {}
        }
    }
    found
}

/// The limit in the line itself; `None` where it has none.
fn own_limit(line: &str) -> Option<Limit> {
    if !line.contains("maxconn") {
        return None;
    }
    let Some(words) = words_of(line) else { return Some(None) };
    let at = words.iter().rposition(|word| word == "maxconn")?;
    Some(words.get(at + 1).and_then(|number| number.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::stated;

    #[test]
    fn limits_are_read_where_haproxy_reads_them() {
        let text = "global\n    maxconn 1000\n    maxconn 7\nlisten early\n    server s 127.0.0.1:1\n\
                    defaults base\n    default-server maxconn 40 check\n\
                    backend chat\n    server a 127.0.0.1:1 maxconn 50 check\n    server b 127.0.0.1:1 sni 'str(maxconn 9)'\n\
                    \x20   default-server maxconn 60\n    server c 127.0.0.1:1\n    server maxconn 127.0.0.1:1 maxconn 0\n\
                    \x20   server e 127.0.0.1:1 maxconn \"${N}\"\n\
                    defaults\n    mode http\nbackend other\n    server d 127.0.0.1:1\n    # server x y maxconn 3\n\
                    backend third from base\n    server d 127.0.0.1:1\n";
        let found = stated(text);
        assert_eq!(found.process, Some(1000));
        assert!(found.limits_servers());
        for (proxy, server, limit) in [
            ("early", "s", Some(0)),
            ("chat", "a", Some(50)),
            ("chat", "b", Some(40)),
            ("chat", "c", Some(60)),
            ("chat", "maxconn", Some(0)),
            ("chat", "e", None),
            ("other", "d", Some(0)),
            ("third", "d", Some(40)),
        ] {
            assert_eq!(found.of_server(&(proxy.to_owned(), server.to_owned())), limit, "{proxy}/{server}");
        }
        let none = stated("global\n    maxconn \"${N}\"\nbackend b\n    server a 127.0.0.1:1\n");
        assert_eq!((none.process, none.limits_servers()), (None, false));
    }
}
