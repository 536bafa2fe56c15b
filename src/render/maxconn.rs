//! How many connections the rendered file allows the process and each server, read from its own lines: whoever spelt
//! them, a built-in part, an operator's own template or a raw `default-server`.
//!
//! Called by `render`; `plan` holds the running HAProxy against it.

use super::dynamic::words_of;
use std::collections::BTreeMap;

/// A number; 0 where there is none, `None` where only HAProxy can read it (an environment variable).
type Number = Option<u32>;

/// What a server line or a `default-server` says.
#[derive(Clone, Copy)]
struct Limit {
    maxconn: Number,
    minconn: Number,
}

const UNLIMITED: Limit = Limit { maxconn: Some(0), minconn: Some(0) };

impl Limit {
    /// What a line says, over what holds where it says nothing.
    fn with_line(self, line: &str) -> Self {
        if !line.contains("conn ") {
            return self;
        }
        let Some(words) = words_of(line) else { return Self { maxconn: None, minconn: None } };
        let number = |keyword: &str, default: Number| match words.iter().rposition(|word| word == keyword) {
            Some(at) => words.get(at + 1).and_then(|number| number.parse().ok()),
            None => default,
        };
        Self { maxconn: number("maxconn", self.maxconn), minconn: number("minconn", self.minconn) }
    }

    /// HAProxy raises a maxconn below minconn when it starts.
    fn in_force(self) -> Number {
        Some(self.maxconn?.max(self.minconn?))
    }
}

/// The limits that a haproxy.cfg states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maxconn {
    /// Of the process; `None` where `global` does not say it in digits.
    pub process: Option<u32>,
    /// Of each server that is not plainly without one, by (proxy, server).
    servers: BTreeMap<(String, String), Number>,
}

impl Maxconn {
    /// Reads a haproxy.cfg.
    pub fn stated_in(haproxy_cfg: &str) -> Self {
        stated(haproxy_cfg)
    }

    /// What the file allows a server, by (proxy, server): 0 is no limit, `None` is not to be told from here.
    pub fn of_server(&self, name: &(String, String)) -> Option<u32> {
        self.servers.get(name).copied().unwrap_or(Some(0))
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
fn stated(haproxy_cfg: &str) -> Maxconn {
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
                default = default.with_line(line);
                last_defaults = default;
                named.insert(name, default);
            }
            Section::Proxy(_) if line.starts_with("default-server ") => default = default.with_line(line),
            Section::Proxy(proxy) => {
                let Some((name, rest)) = line.strip_prefix("server ").and_then(|rest| rest.split_once(' ')) else {
                    continue;
                };
                let limit = default.with_line(rest).in_force();
                if limit != Some(0) {
                    found.servers.insert((proxy.to_owned(), name.to_owned()), limit);
                }
            }
            Section::Defaults(_) | Section::Other => {}
        }
    }
    found
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
                    backend third from base\n    server d 127.0.0.1:1\n\
                    \x20   server f 127.0.0.1:1 minconn 70\n    server g 127.0.0.1:1 maxconn 90 minconn 70\n";
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
            ("third", "f", Some(70)),
            ("third", "g", Some(90)),
        ] {
            assert_eq!(found.of_server(&(proxy.to_owned(), server.to_owned())), limit, "{proxy}/{server}");
        }
        let none = stated("global\n    maxconn \"${N}\"\nbackend b\n    server a 127.0.0.1:1\n");
        assert_eq!((none.process, none.limits_servers()), (None, false));
    }
}
