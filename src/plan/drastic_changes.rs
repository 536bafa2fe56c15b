//! What an edit takes away or adds beyond what an edit usually does: a slip of the fingers costs a question first.
//!
//! Pure. Compares two configurations, knows neither files nor HAProxy. Called by `agent` before an apply; a rollback
//! is never asked (invariants I9 and I14).

use crate::config::{Backend, Config, Frontend, Server};
use crate::model::{AdminState, BindAddress, BindHost};
use std::collections::HashMap;
use std::fmt;

/// So many removed servers of one backend are a loss; one alone is everyday work.
const LOSS: usize = 2;
/// So many added servers are a growth; fewer are everyday work.
const GROWTH: usize = 10;

/// One thing that wants `--force`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DrasticChange {
    /// Half or more of a backend's servers go, or serve no more.
    Shrinks {
        /// Which backend.
        backend: String,
        /// Servers that go.
        removed: usize,
        /// Servers that stay and that the file takes out: another state, or weight 0.
        parked: usize,
        /// Servers before.
        of: usize,
    },
    /// No server of a backend is ready any more.
    Empties {
        /// Which backend.
        backend: String,
    },
    /// An address that clients connect to goes.
    LosesBind {
        /// Of which frontend.
        frontend: String,
        /// Which address.
        bind: String,
    },
    /// A backend that a frontend leads to goes.
    LosesBackend {
        /// Which.
        backend: String,
    },
    /// More than twice as many servers.
    Grows {
        /// Servers before.
        from: usize,
        /// Servers after.
        to: usize,
    },
}

impl fmt::Display for DrasticChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shrinks { backend, removed, parked: 0, of } => {
                write!(f, "it removes {removed} of the {of} servers of backend {backend}")
            }
            Self::Shrinks { backend, removed: 0, parked, of } => {
                write!(f, "it takes {parked} of the {of} servers of backend {backend} out of service")
            }
            Self::Shrinks { backend, removed, parked, of } => {
                write!(
                    f,
                    "it removes {removed} of the {of} servers of backend {backend} and takes {parked} out of service"
                )
            }
            Self::Empties { backend } => write!(f, "it leaves backend {backend} without a ready server"),
            Self::LosesBind { frontend, bind } => {
                write!(f, "after this nothing would listen on {bind}, where clients of frontend {frontend} connect now")
            }
            Self::LosesBackend { backend } => write!(f, "it removes backend {backend}, which is in use"),
            Self::Grows { from, to } => write!(f, "it raises the number of servers from {from} to {to}"),
        }
    }
}

/// Everything about the change that wants `--force`, in the order of the file; mostly nothing.
pub fn drastic_changes(serving: &Config, wanted: &Config) -> Vec<DrasticChange> {
    let backends = serving.backends.iter().flat_map(|before| {
        let after = wanted.backend(&before.name);
        match after {
            Some(after) => [shrinks(before, after), empties(before, after)],
            None => [
                is_used(serving, before).then(|| DrasticChange::LosesBackend { backend: before.name.to_string() }),
                None,
            ],
        }
    });
    lost_binds(serving, wanted).into_iter().chain(backends.flatten()).chain(grows(serving, wanted)).collect()
}

/// A server that only got another name, or another address, is not lost. One that served and is taken out by its state
/// or its weight is: clients miss it as if it were removed.
fn shrinks(before: &Backend, after: &Backend) -> Option<DrasticChange> {
    let (mut removed, mut parked, of) = (0, 0, before.servers.len());
    // Whether one of that name, or of that address, takes traffic: found once for thousands.
    let (mut names, mut urls) = (HashMap::new(), HashMap::new());
    for server in &after.servers {
        *names.entry(&server.name).or_insert(false) |= takes_traffic(server);
        *urls.entry(&server.url.value).or_insert(false) |= takes_traffic(server);
    }
    for server in &before.servers {
        let same = [names.get(&server.name), urls.get(&server.url.value)];
        if same.iter().all(Option::is_none) {
            removed += 1;
        } else if takes_traffic(server) && !same.contains(&Some(&true)) {
            parked += 1;
        }
    }
    let lost = removed + parked;
    (lost >= LOSS && lost * 2 >= of).then(|| DrasticChange::Shrinks {
        backend: before.name.to_string(),
        removed,
        parked,
        of,
    })
}

/// A weight of 0 takes no traffic either.
fn takes_traffic(server: &Server) -> bool {
    server.state.value == AdminState::Ready && server.weight.value.get() > 0
}

fn empties(before: &Backend, after: &Backend) -> Option<DrasticChange> {
    let has_ready = |backend: &Backend| backend.servers.iter().any(takes_traffic);
    (has_ready(before) && !has_ready(after)).then(|| DrasticChange::Empties { backend: before.name.to_string() })
}

fn is_used(config: &Config, backend: &Backend) -> bool {
    let leads_there = |frontend: &Frontend| frontend.leads_to().any(|name| name.value == backend.name);
    config.frontends.iter().any(leads_there)
}

fn lost_binds(serving: &Config, wanted: &Config) -> Vec<DrasticChange> {
    let binds = |frontend: &Frontend| -> Vec<BindAddress> {
        frontend.bind.iter().chain(&frontend.redirect_http).map(|bind| bind.value).collect()
    };
    // One that moved to another frontend, or that a wider one covers, still answers.
    let after: Vec<_> = wanted.frontends.iter().flat_map(binds).collect();
    let before = serving.frontends.iter().flat_map(|frontend| binds(frontend).into_iter().map(move |b| (frontend, b)));
    let lost = before.filter(|(_, bind)| !after.iter().any(|other| covers(other, bind)));
    lost.map(|(frontend, bind)| DrasticChange::LosesBind {
        frontend: frontend.name.to_string(),
        bind: bind.to_string(),
    })
    .collect()
}

fn covers(wide: &BindAddress, bind: &BindAddress) -> bool {
    let is_wider = match (wide.host, bind.host) {
        (BindHost::AnyBoth, _) => true,
        (BindHost::AnyV4, BindHost::Ip(ip)) => ip.is_ipv4(),
        (one, other) => one == other,
    };
    wide.port == bind.port && is_wider
}

fn grows(serving: &Config, wanted: &Config) -> Option<DrasticChange> {
    let (from, to) = (serving.servers().count(), wanted.servers().count());
    (to > from * 2 && to >= from + GROWTH).then_some(DrasticChange::Grows { from, to })
}

#[cfg(test)]
mod tests {
    use super::drastic_changes;
    use crate::config::{Config, parse};
    use std::fmt::Write;

    /// Each backend as `NAME: SERVER SERVER…`; a server `x!` is in maint, `x=y` has the address of `y`.
    fn config(binds: &[&str], backends: &[&str]) -> Config {
        let mut text = String::new();
        for (at, bind) in binds.iter().enumerate() {
            let first = backends[0].split(':').next().unwrap();
            writeln!(text, "[frontend.f{at}]\nbind = [\"{bind}\"]\nbackend = \"{first}\"").unwrap();
        }
        for backend in backends {
            let (name, servers) = backend.split_once(':').unwrap();
            for word in servers.split_whitespace() {
                let is_ready = !word.ends_with('!');
                let word = word.trim_end_matches('!');
                let (server, host) = word.split_once('=').unwrap_or((word, word));
                let state = if is_ready { "ready" } else { "maint" };
                writeln!(
                    text,
                    "[backend.{name}.server.{server}]\nurl = \"http://{host}.example\"\nstate = \"{state}\""
                )
                .unwrap();
            }
        }
        parse("hapilot.toml", &text, "lb1").unwrap_or_else(|e| panic!("{text}\n{}", e.render(false)))
    }

    fn check(before: (&[&str], &[&str]), after: (&[&str], &[&str]), expected: &[&str]) {
        let (before, after) = (config(before.0, before.1), config(after.0, after.1));
        let found: Vec<_> = drastic_changes(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    const ONE: &[&str] = &["127.0.0.1:1"];

    #[test]
    fn half_of_a_backend_and_at_least_two_servers_are_a_loss() {
        for (before, after, expected) in [
            ("b: p q r s", "b: p q r", None),
            ("b: p q r s", "b: p q", Some("it removes 2 of the 4 servers of backend b")),
            ("b: p q r s t", "b: p q r", None),
            ("b: p q", "b: p", None),
            ("b: p q r s", "b: p=x q=y r=z s=v", None),
            ("b: p q r s", "b: t=p u=q v=r w=s", None),
            ("b: p q r s", "b: t u v w", Some("it removes 4 of the 4 servers of backend b")),
            ("b: p q r s", "b: p! q! r! s", Some("it takes 3 of the 4 servers of backend b out of service")),
            ("b: p q r s", "b: p! q! r s", Some("it takes 2 of the 4 servers of backend b out of service")),
            ("b: p q r s", "b: p! q r s", None),
            ("b: p! q! r s", "b: p! q! r s", None),
            ("b: p q r s", "b: p q! r", Some("it removes 1 of the 4 servers of backend b and takes 1 out of service")),
        ] {
            check((ONE, &[before]), (ONE, &[after]), &expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_last_ready_server_is_a_loss_and_one_that_was_not_ready_is_none() {
        let empties = "it leaves backend b without a ready server";
        check((ONE, &["b: p q!"]), (ONE, &["b: p! q!"]), &[empties]);
        check((ONE, &["b: p q!"]), (ONE, &["b: q!"]), &[empties]);
        check((ONE, &["b: p!"]), (ONE, &["b: q!"]), &[]);
    }

    #[test]
    fn a_bind_and_a_backend_in_use_are_missed_and_others_are_not() {
        let two: &[&str] = &["127.0.0.1:1", "127.0.0.1:2"];
        let lost = "after this nothing would listen on 127.0.0.1:2, where clients of frontend f1 connect now";
        check((two, &["b: p"]), (ONE, &["b: p"]), &[lost]);
        check((two, &["b: p"]), (&["127.0.0.1:2", "127.0.0.1:1"], &["b: p"]), &[]);
        check((ONE, &["b: p"]), (&["*:1"], &["b: p"]), &[]);
        check((ONE, &["b: p", "c: q"]), (ONE, &["c: q"]), &["it removes backend b, which is in use"]);
        check((ONE, &["b: p", "c: q"]), (ONE, &["b: p"]), &[]);
    }

    #[test]
    fn more_than_twice_as_many_servers_and_ten_more_are_a_growth() {
        let many = |n: usize| format!("b: {}", (0..n).map(|i| format!("s{i} ")).collect::<String>());
        let grown = |from: usize, to: usize, expected: &[&str]| {
            check((ONE, &[&many(from)]), (ONE, &[&many(to)]), expected);
        };
        grown(1, 10, &[]);
        grown(1, 11, &["it raises the number of servers from 1 to 11"]);
        grown(10, 20, &[]);
        grown(10, 21, &["it raises the number of servers from 10 to 21"]);
        grown(4, 9, &[]);
    }

    #[test]
    fn the_same_configuration_wants_nothing() {
        let same = config(&["127.0.0.1:1", "127.0.0.1:2"], &["b: p q! r", "c: s"]);
        assert!(drastic_changes(&same, &same).is_empty());
    }
}
