//! Who listens on a port, from `/proc`; best effort, since other users' processes are hidden from all but root.

use std::collections::BTreeSet;

/// Most processes that are looked at.
const MAX_PROCESSES: usize = 20_000;
/// `TCP_LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A process that holds something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its short name.
    pub name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The first process that listens on this TCP port on any address.
pub(super) fn of_port(port: u16) -> Option<Holder> {
    let sockets: BTreeSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs_err::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = fs_err::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .take(MAX_PROCESSES)
        .find(|pid| holds(*pid, &sockets))
        .map(|pid| Holder { pid, name: process_name(pid).unwrap_or_else(|| "a process".to_owned()) })
}

/// The short name of a process.
pub(super) fn process_name(pid: u32) -> Option<String> {
    let name = fs_err::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

fn holds(pid: u32, sockets: &BTreeSet<String>) -> bool {
    let Ok(descriptors) = fs_err::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .filter_map(Result::ok)
        .filter_map(|entry| fs_err::read_link(entry.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
}

/// Inodes of listening sockets on a port: `sl local_address rem_address st … inode`, columns counted from 0.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            let listens = columns.get(1)?.ends_with(&wanted) && *columns.get(3)? == LISTEN;
            listens.then(|| columns.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::listening_inodes;

    #[test]
    fn the_inode_of_a_listening_socket_is_found_by_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20011 1 0 100 0 0 10 0\n\
             \x20  1: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 20012 1 0 100 0 0 10 0\n";
        assert_eq!(listening_inodes(table, 8080), ["20011"]);
        assert!(listening_inodes(table, 8081).is_empty());
    }
}
