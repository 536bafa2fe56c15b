//! What `show info` says of a worker. Pure.

use crate::plan::Version;

/// The lines of `show info` that we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) pid: u32,
    pub(super) version: Version,
    pub(super) description: Option<String>,
    pub(super) uptime_s: u64,
    pub(super) maxconn: u32,
    pub(super) most_maxconn: u32,
    /// Client connections, those of the admin socket not counted.
    pub(super) connections: Option<u64>,
    /// On its way out: its state is of no interest and takes no change.
    pub(super) is_stopping: bool,
}

impl std::str::FromStr for Info {
    type Err = String;
    fn from_str(reply: &str) -> Result<Self, String> {
        let find = |wanted: &str| {
            reply.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| *key == wanted).map(|(_, v)| v.trim())
        };
        let need = |wanted: &str| find(wanted).ok_or_else(|| format!("it has no line {wanted:?}"));
        let number = |wanted: &str| -> Result<u64, String> {
            let text = need(wanted)?;
            text.parse().map_err(|_| format!("{wanted} is {text:?}"))
        };
        let limit = |wanted: &str| u32::try_from(number(wanted)?).map_err(|_| format!("{wanted} is too large"));
        Ok(Self {
            pid: u32::try_from(number("Pid")?).map_err(|_| "Pid is no process id".to_owned())?,
            version: need("Version")?.parse().map_err(|e| format!("{e}"))?,
            description: find("description").filter(|text| !text.is_empty()).map(str::to_owned),
            uptime_s: number("Uptime_sec")?,
            maxconn: limit("Maxconn")?,
            most_maxconn: limit("Hard_maxconn")?,
            connections: find("CurrConns").and_then(|text| text.parse().ok()),
            is_stopping: number("Stopping")? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Info;

    #[test]
    fn the_lines_that_matter_are_found_by_name() {
        let text = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: 12\nUptime: 0d 0h00m07s\nUptime_sec: 7\n\
                    Maxconn: 500\nHard_maxconn: 1000\nCurrConns: 3\nnode: vm\ndescription: hapilot 0123: x\nStopping: 0\n";
        let info: Info = text.parse().unwrap();
        assert_eq!((info.pid, info.uptime_s, info.is_stopping), (12, 7, false));
        assert_eq!((info.maxconn, info.most_maxconn, info.connections), (500, 1000, Some(3)));
        assert_eq!(info.version.to_string(), "2.6.12");
        assert_eq!(info.description.as_deref(), Some("hapilot 0123: x"));
        for broken in ["", "Permission denied", "Version: 2.6.12\nPid: x\n"] {
            assert!(broken.parse::<Info>().is_err(), "{broken}");
        }
    }
}
