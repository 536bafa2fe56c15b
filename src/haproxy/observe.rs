//! Asks the running HAProxy what it serves.

use super::command::{Pipeline, word};
use super::error::AdminError;
use super::master;
use super::session::Session;
use super::stat;
use crate::model::{AdminState, OperState, Weight};
use crate::plan::{Runtime, RuntimeServer, RuntimeServers};
use camino::Utf8Path;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Time for all questions together: 5,000 servers and 100,000 map entries answer in a tenth of it on a busy machine.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a map that the worker does not know is answered with.
const UNKNOWN_MAP: &str = "Unknown map identifier";

/// Asks for the worker, its servers and these maps (by identifier), and the master where its socket is given.
///
/// Every server's `maxconn` is in the answer only where it is asked for, else 0: at 5,000 servers it costs HAProxy
/// 20 ms, five times what all else does.
///
/// A map that the worker does not know is missing from the answer. A master that cannot be reached is `None`: that is
/// no reason to stop steering.
///
/// # Errors
/// `Ok(None)` where nobody listens. Else no permission, a timeout, only a stopping worker, or an answer that cannot be
/// read; in each case nothing is known, and the caller changes nothing.
pub async fn observe(
    admin_socket: &Utf8Path,
    master_socket: Option<&Utf8Path>,
    maps: &[String],
    asks_maxconn: bool,
) -> Result<Option<Runtime>, AdminError> {
    let deadline = Instant::now() + DEADLINE;
    let (mut session, info) = match Session::with_serving_worker(admin_socket, deadline).await {
        Ok(found) => found,
        Err(error) if error.is_not_listening() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut questions = Pipeline::of("show servers state")?;
    if asks_maxconn {
        questions.push(stat::ALL_SERVERS)?;
    }
    for map in maps {
        questions.push(&format!("show map {}", word(map)?))?;
    }
    let mut replies = session.run(&questions).await?.into_iter();
    let mut servers = parse_servers(&replies.next().unwrap_or_default())
        .map_err(|problem| session.unreadable("show servers state", problem))?;
    if asks_maxconn {
        let limits = stat::parse_limits(&replies.next().unwrap_or_default())
            .map_err(|problem| session.unreadable("show stat", problem))?;
        for (name, limit) in limits {
            // Added in between: the next look sees it whole.
            if let Some(server) = servers.get_mut(&name) {
                server.maxconn = limit;
            }
        }
    }
    let mut contents = BTreeMap::new();
    for (map, reply) in maps.iter().zip(replies) {
        if !reply.starts_with(UNKNOWN_MAP) {
            let entries = parse_map(&reply).map_err(|problem| session.unreadable("show map", problem))?;
            contents.insert(map.clone(), Arc::new(entries));
        }
    }
    drop(session);
    let master = match master_socket {
        Some(socket) => master::processes(socket, DEADLINE).await.ok().map(|found| found.master_beside(info.pid)),
        None => None,
    };
    Ok(Some(Runtime {
        pid: info.pid,
        version: info.version,
        description: info.description,
        uptime_s: info.uptime_s,
        maxconn: info.maxconn,
        most_maxconn: info.most_maxconn,
        servers,
        maps: contents,
        master,
    }))
}

/// The servers of one proxy alone, as the worker that serves has them: what that costs does not depend on the others.
///
/// # Errors
/// Nobody listens, no permission, the deadline, or an answer that cannot be read.
pub async fn observe_backend(
    admin_socket: &Utf8Path,
    proxy: &str,
    deadline: Duration,
) -> Result<RuntimeServers, AdminError> {
    let (mut session, _) = Session::with_serving_worker(admin_socket, Instant::now() + deadline).await?;
    let reply = session.ask(&format!("show servers state {}", word(proxy)?)).await?;
    parse_servers(&reply).map_err(|problem| session.unreadable("show servers state", problem))
}

/// Reads `show servers state` by the names in its header.
fn parse_servers(reply: &str) -> Result<RuntimeServers, String> {
    let mut lines = reply.lines();
    match lines.next() {
        Some("1") => {}
        // Without a backend there is nothing to say.
        None => return Ok(RuntimeServers::default()),
        Some(other) => return Err(format!("it begins with {other:?} instead of format version 1")),
    }
    let header: Vec<&str> = match lines.next().and_then(|line| line.strip_prefix("# ")) {
        Some(header) => header.split_ascii_whitespace().collect(),
        None => return Err("it has no header".to_owned()),
    };
    let column =
        |name: &str| header.iter().position(|found| *found == name).ok_or_else(|| format!("it has no column {name:?}"));
    let (proxy, server, address, port) =
        (column("be_name")?, column("srv_name")?, column("srv_addr")?, column("srv_port")?);
    let id = column("srv_id")?;
    let (oper, admin, weight, fqdn) =
        (column("srv_op_state")?, column("srv_admin_state")?, column("srv_uweight")?, column("srv_fqdn")?);
    let mut servers = RuntimeServers::default();
    let mut cells: Vec<&str> = Vec::with_capacity(header.len());
    for line in lines.filter(|line| !line.is_empty()) {
        cells.clear();
        cells.extend(line.split_ascii_whitespace());
        if cells.len() < header.len() {
            return Err(format!("a line has {} columns instead of {}", cells.len(), header.len()));
        }
        let number = |at: usize| cells[at].parse::<u16>().map_err(|_| format!("{} is {:?}", header[at], cells[at]));
        let given = |at: usize| (cells[at] != "-").then(|| cells[at].to_owned());
        let found = RuntimeServer {
            id: cells[id].parse().map_err(|_| format!("srv_id is {:?}", cells[id]))?,
            weight: Weight::new(number(weight)?).map_err(|e| e.to_string())?,
            maxconn: 0,
            admin: admin_state(number(admin)?),
            oper: oper_state(number(oper)?, number(admin)?)?,
            address: given(address).unwrap_or_default(),
            port: number(port)?,
            fqdn: given(fqdn),
        };
        servers.insert((cells[proxy].to_owned(), cells[server].to_owned()), found);
    }
    Ok(servers)
}

/// Folds HAProxy's flags into what somebody set: 0x01 forced maint, 0x08 forced drain, 0x10 drain inherited.
///
/// The others are nobody's wish: 0x02 is inherited by `track` (a hop's server whose name does not resolve, among others),
/// and no command takes it from the one that inherits it; 0x04 says that the file had `disabled` (and stays when the
/// server is made ready), 0x20 that the name does not resolve, 0x40 that the name was changed.
fn admin_state(flags: u16) -> AdminState {
    match flags {
        _ if flags & 0x01 != 0 => AdminState::Maint,
        _ if flags & 0x18 != 0 => AdminState::Drain,
        _ => AdminState::Ready,
    }
}

fn oper_state(code: u16, admin_flags: u16) -> Result<OperState, String> {
    match code {
        // Not one that somebody put into maint.
        0 if admin_flags & 0x01 == 0 && admin_flags & 0x22 != 0 => Ok(OperState::Unresolved),
        0 => Ok(OperState::Down),
        1 => Ok(OperState::Starting),
        2 => Ok(OperState::Up),
        3 => Ok(OperState::Stopping),
        other => Err(format!("srv_op_state is {other}")),
    }
}

/// Reads `show map`: per line a pointer, the key, the value with all its blanks.
fn parse_map(reply: &str) -> Result<Vec<(String, String)>, String> {
    reply
        .split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            // Never repeats the line: the map may be secret.
            let (pointer, entry) = line.split_once(' ').ok_or("a line has no entry")?;
            if !pointer.starts_with("0x") {
                return Err("a line does not begin with a pointer".to_owned());
            }
            let (key, value) = entry.split_once(' ').unwrap_or((entry, ""));
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{admin_state, parse_map, parse_servers};
    use crate::model::{AdminState, OperState};

    const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
        srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
        bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr \
        srv_agent_addr srv_agent_port\n\
        3 be 1 s1 127.0.0.1 0 0 10 10 0 8 2 0 6 0 0 0 - 9001 - 0 0 - - 0\n\
        3 be 2 s2 - 2 40 256 20 0 1 0 0 8 0 0 0 api.example.com 443 - 1 0 - - 0\n";

    #[test]
    fn servers_are_read_by_the_names_of_the_columns() {
        let servers = parse_servers(STATE).unwrap();
        let first = &servers[&("be".to_owned(), "s1".to_owned())];
        assert_eq!((first.address.as_str(), first.port, first.oper), ("127.0.0.1", 9001, OperState::Down));
        let second = &servers[&("be".to_owned(), "s2".to_owned())];
        assert_eq!((second.address.as_str(), second.fqdn.as_deref()), ("", Some("api.example.com")));
        assert_eq!((second.weight.get(), second.admin), (256, AdminState::Drain));
    }

    #[test]
    fn another_form_is_refused_and_never_half_read() {
        for broken in ["2\n# x\n", "1\n", "1\n# be_id be_name\n", "Permission denied", &STATE[..STATE.len() - 40]] {
            assert!(parse_servers(broken).is_err(), "{broken:?}");
        }
        assert!(parse_servers("").unwrap().is_empty());
    }

    #[test]
    fn only_what_somebody_set_counts_as_administrative() {
        for (flags, state) in [
            (0x00, AdminState::Ready),
            (0x01, AdminState::Maint),
            (0x02, AdminState::Ready),
            (0x05, AdminState::Maint),
            (0x04, AdminState::Ready),
            (0x08, AdminState::Drain),
            (0x20, AdminState::Ready),
            (0x60, AdminState::Ready),
            (0x28, AdminState::Drain),
            (0x09, AdminState::Maint),
        ] {
            assert_eq!(admin_state(flags), state, "{flags:#x}");
        }
    }

    #[test]
    fn map_values_keep_their_blanks() {
        let entries = parse_map("0x561 a 1\n0x562 b two  words \n0x563 c \n0x564 d").unwrap();
        let expected = [("a", "1"), ("b", "two  words "), ("c", ""), ("d", "")];
        assert_eq!(entries, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert!(parse_map("Permission denied").is_err());
        assert!(parse_map("").unwrap().is_empty());
    }

    #[test]
    fn five_thousand_servers_are_read_in_no_time() {
        let mut text = STATE.to_owned();
        for i in 0..5000 {
            text.push_str(&format!("3 be {i} n{i} 127.0.0.1 2 0 10 10 0 8 2 0 6 0 0 0 - 9001 - 0 0 - - 0\n"));
        }
        let begun = std::time::Instant::now();
        assert_eq!(parse_servers(&text).unwrap().len(), 5002);
        // A few milliseconds when optimised; the bound only catches a quadratic mistake.
        assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}
