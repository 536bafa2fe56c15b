//! The counters of each server, from `show stat`.

use super::error::AdminError;
use super::session::Session;
use camino::Utf8Path;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Every proxy (-1), servers only (4).
pub(super) const ALL_SERVERS: &str = "show stat -1 4 -1";

/// What a worker counted for one server since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// Sessions now.
    pub sessions: u64,
    /// Requests that wait for a slot now.
    pub queue: u64,
    /// HAProxy's word: `UP`, `DOWN`, `MAINT`, `DRAIN`, `no check`, `UP 1/2`.
    pub status: String,
    /// The last check's result, such as `L7OK`; empty without checks.
    pub check_status: String,
    /// Requests sent to it.
    pub requests: u64,
    /// Answers with a status of 500 or above.
    pub responses_5xx: u64,
    /// Connections that failed.
    pub connection_errors: u64,
    /// Answers that broke off or made no sense.
    pub response_errors: u64,
    /// Attempts that were repeated, here or elsewhere.
    pub retries: u64,
    /// Attempts that were repeated elsewhere.
    pub redispatches: u64,
}

/// Asks the serving worker for the counters of all servers, by (proxy, server).
///
/// # Errors
/// As for [`observe`](fn@super::observe), but also where nobody listens.
pub async fn counters(
    admin_socket: &Utf8Path,
    deadline: Duration,
) -> Result<BTreeMap<(String, String), ServerCounters>, AdminError> {
    let (mut session, _) = Session::with_serving_worker(admin_socket, Instant::now() + deadline).await?;
    let reply = session.ask(ALL_SERVERS).await?;
    parse_stat(&reply).map_err(|problem| session.unreadable("show stat", problem))
}

/// Reads the CSV of `show stat` by the names in its header: versions differ in their columns.
///
/// # Errors
/// Says which column is missing, or which line is broken.
pub fn parse_stat(csv: &str) -> Result<BTreeMap<(String, String), ServerCounters>, String> {
    let csv = csv.strip_prefix("# ").ok_or("it has no header")?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(csv.as_bytes());
    let header = reader.headers().map_err(|e| e.to_string())?.clone();
    let column =
        |name: &str| header.iter().position(|found| found == name).ok_or_else(|| format!("it has no column {name:?}"));
    let (proxy, server, kind) = (column("pxname")?, column("svname")?, column("type")?);
    let (status, check_status) = (column("status")?, column("check_status")?);
    let (scur, qcur, stot) = (column("scur")?, column("qcur")?, column("stot")?);
    let (hrsp_5xx, econ, eresp) = (column("hrsp_5xx")?, column("econ")?, column("eresp")?);
    let (wretr, wredis) = (column("wretr")?, column("wredis")?);
    let mut servers = BTreeMap::new();
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row).map_err(|e| e.to_string())? {
        // 0 frontend, 1 backend, 2 server, 3 listener.
        if row.get(kind) != Some("2") {
            continue;
        }
        let text = |at: usize| row.get(at).unwrap_or_default().to_owned();
        // An empty cell means that it does not apply: a TCP backend has no 5xx.
        let number = |at: usize| match row.get(at).unwrap_or_default() {
            "" => Ok(0),
            digits => digits.parse::<u64>().map_err(|_| format!("{} is {digits:?}", &header[at])),
        };
        let found = ServerCounters {
            sessions: number(scur)?,
            queue: number(qcur)?,
            status: text(status),
            check_status: text(check_status),
            requests: number(stot)?,
            responses_5xx: number(hrsp_5xx)?,
            connection_errors: number(econ)?,
            response_errors: number(eresp)?,
            retries: number(wretr)?,
            redispatches: number(wredis)?,
        };
        servers.insert((text(proxy), text(server)), found);
    }
    Ok(servers)
}

/// The `maxconn` of each server that has one, by (proxy, server), from the same CSV.
///
/// # Errors
/// Says which column is missing, or which line is broken.
pub(super) fn parse_limits(csv: &str) -> Result<BTreeMap<(String, String), u32>, String> {
    let csv = csv.strip_prefix("# ").ok_or("it has no header")?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(csv.as_bytes());
    let header = reader.headers().map_err(|e| e.to_string())?.clone();
    let column =
        |name: &str| header.iter().position(|found| found == name).ok_or_else(|| format!("it has no column {name:?}"));
    let (proxy, server, kind, limit) = (column("pxname")?, column("svname")?, column("type")?, column("slim")?);
    let mut limits = BTreeMap::new();
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row).map_err(|e| e.to_string())? {
        let cell = |at: usize| row.get(at).unwrap_or_default();
        if cell(kind) == "2" && !cell(limit).is_empty() {
            let number = cell(limit).parse().map_err(|_| format!("slim is {:?}", cell(limit)))?;
            limits.insert((cell(proxy).to_owned(), cell(server).to_owned()), number);
        }
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::{parse_limits, parse_stat};

    const HEADER: &str =
        "# pxname,svname,qcur,scur,stot,econ,eresp,wretr,wredis,status,type,check_status,hrsp_5xx,last_chk,\n";

    #[test]
    fn rows_of_servers_are_read_by_the_names_of_the_columns() {
        let csv = format!(
            "{HEADER}f,FRONTEND,,9,9,,,,,OPEN,0,,0,,\nbe,s1,1,2,30,4,5,8,9,UP 1/2,2,* L7OK,6,\"a \"\"quoted\"\", text\",\n\
             be,s2,0,0,0,0,0,0,0,no check,2,,,,\nbe,BACKEND,1,2,30,4,5,8,9,UP,1,,6,,\n"
        );
        let servers = parse_stat(&csv).unwrap();
        assert_eq!(servers.len(), 2);
        let first = &servers[&("be".to_owned(), "s1".to_owned())];
        assert_eq!((first.queue, first.sessions, first.requests, first.responses_5xx), (1, 2, 30, 6));
        assert_eq!((first.status.as_str(), first.check_status.as_str()), ("UP 1/2", "* L7OK"));
        assert_eq!((first.connection_errors, first.response_errors), (4, 5));
        assert_eq!((first.retries, first.redispatches), (8, 9));
    }

    #[test]
    fn only_servers_with_a_limit_have_one() {
        let csv =
            "# pxname,svname,qcur,slim,type,last_chk,\nf,FRONTEND,,100,0,,\nbe,s1,0,50,2,\"a, b\",\nbe,s2,0,,2,,\n";
        assert_eq!(parse_limits(csv).unwrap(), [(("be".to_owned(), "s1".to_owned()), 50)].into());
        assert!(parse_limits("# pxname,svname,type\n").unwrap_err().contains("slim"));
        assert!(parse_limits("# pxname,svname,type,slim\nbe,s1,2,x\n").is_err());
        assert!(parse_limits("Permission denied\n").is_err());
    }

    #[test]
    fn a_missing_column_is_named() {
        assert!(parse_stat("# pxname,svname,type\n").unwrap_err().contains("status"));
        assert!(parse_stat("Permission denied\n").is_err());
    }
}
