//! How many connections the rendered file allows the process and each server, read from its own lines: whoever spelt
//! them, a built-in part, an operator's own template or a raw `default-server`.
//!
//! Called by `render`; `plan` holds the running HAProxy against it.

use crate::cfg::{self, Kind, Words};
use std::borrow::Cow;
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
const UNKNOWN: Limit = Limit { maxconn: None, minconn: None };

impl Limit {
    /// What the words of a line say, over what holds where they say nothing.
    fn with_words(self, words: Words<'_>) -> Self {
        // Most lines say nothing; the environment may.
        if !words.rest().contains("conn") && !words.rest().contains('$') {
            return self;
        }
        let words: Option<Vec<_>> = words.map(|word| word.said).collect();
        let Some(words) = words else { return UNKNOWN };
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

/// Reads the limits as HAProxy does: a server's own word, else what `default-server` above it says, else what the
/// `defaults` say that its section follows. What a condition decides (`.if`) is not to be told.
fn stated(haproxy_cfg: &str) -> Maxconn {
    let mut process = None;
    let mut servers = BTreeMap::new();
    // The limit of a server here that says nothing itself, and the same at the end of each `defaults`.
    let mut default = UNLIMITED;
    let mut last_defaults = UNLIMITED;
    let mut named: BTreeMap<Cow<'_, str>, Limit> = BTreeMap::new();
    for line in cfg::lines(haproxy_cfg) {
        let kind = line.section.kind;
        match &*line.keyword {
            _ if line.is_header => {
                let inherited = line.section.from.as_ref().and_then(|from| named.get(from)).copied();
                default = match kind {
                    Kind::Defaults if line.is_conditional => UNKNOWN,
                    Kind::Defaults => inherited.unwrap_or(UNLIMITED),
                    _ => inherited.unwrap_or(last_defaults),
                };
            }
            "maxconn" if kind == Kind::Global && process.is_none() => {
                let number = line.arguments().next().and_then(|word| word.said?.parse().ok());
                process = Some(number.filter(|_| !line.is_conditional));
            }
            "default-server" if line.is_conditional => default = UNKNOWN,
            "default-server" => default = default.with_words(line.arguments()),
            "server" if kind.has_servers() => {
                let mut words = line.arguments();
                let Some(name) = words.next().and_then(|word| word.said) else { continue };
                let limit = default.with_words(words).in_force();
                if limit != Some(0) {
                    let name = (line.section.name.into_owned(), name.into_owned());
                    servers.insert(name, limit.filter(|_| !line.is_conditional));
                }
                continue;
            }
            _ => continue,
        }
        if kind == Kind::Defaults {
            last_defaults = default;
            named.insert(line.section.name, default);
        }
    }
    Maxconn { process: process.flatten(), servers }
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
        let none = stated("global\n    maxconn \"${N}\"\n    maxconn 7\nbackend b\n    server a 127.0.0.1:1\n");
        assert_eq!((none.process, none.limits_servers()), (None, false));
    }

    #[test]
    fn indents_quotes_and_comments_mean_what_they_mean_to_haproxy() {
        let text = "global\nmaxconn 1000 # not 7\n  defaults base\ndefault-server\tmaxconn\t40\ndefaults from base\n\
                    backend a\n server s x maxconn\t\"6\"\n\"server\" t x \"max\"conn 7 # maxconn 9\n server u x\n\
                    defaults other\nbackend b zork from base\n server s x\nbackend c from base\n server s x \"${MORE}\"\n\
                    listen d from base\n server s x id 5 check cookie '$a'\n";
        let found = stated(text);
        assert_eq!(found.process, Some(1000));
        for (proxy, server, limit) in [
            ("a", "s", Some(6)),
            ("a", "t", Some(7)),
            ("a", "u", Some(40)),
            ("b", "s", Some(0)),
            ("c", "s", None),
            ("d", "s", Some(40)),
        ] {
            assert_eq!(found.of_server(&(proxy.to_owned(), server.to_owned())), limit, "{proxy}/{server}");
        }
    }

    #[test]
    fn what_a_condition_decides_is_not_to_be_told() {
        let text = "global\n.if A\n maxconn 7\n.endif\n maxconn 8\n\
                    backend a\n.if A\n server s x maxconn 5\n server t x\n default-server maxconn 3\n.endif\n\
                    \x20server u x\n server v x maxconn 9 minconn 2\n";
        let found = stated(text);
        assert_eq!(found.process, None);
        for (server, limit) in [("s", None), ("t", Some(0)), ("u", None), ("v", Some(9))] {
            assert_eq!(found.of_server(&("a".to_owned(), server.to_owned())), limit, "{server}");
        }
    }
}
