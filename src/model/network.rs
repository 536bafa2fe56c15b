//! Network interfaces and addresses with their prefix.

use super::Refused;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Name of a network interface: `[A-Za-z0-9_.-]`, 1 to 15 characters, as the kernel takes it; fewer characters than it
/// allows, because the name stands in keepalived.conf, where `@` and `!` have a meaning.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interface(String);

impl Interface {
    /// Longest name, in characters.
    pub const MAX: usize = 15;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Interface {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        if text.is_empty() || text.len() > Self::MAX {
            return Err(Refused::new(format!("the name of an interface has 1 to {} characters", Self::MAX)));
        }
        if matches!(text, "." | "..") {
            return Err(Refused::new("no interface is called that"));
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.-".contains(*c))) {
            Some(bad) => {
                Err(Refused::new(format!("an interface takes letters, digits, '_', '.' and '-', not {bad:?}")))
            }
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Interface {
    type Error = Refused;
    fn try_from(text: String) -> Result<Self, Refused> {
        text.parse()
    }
}

impl From<Interface> for String {
    fn from(interface: Interface) -> Self {
        interface.0
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address that an interface can bear, with the length of its network's prefix: `192.0.2.100/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Length of the prefix, 0 to 32 or 128.
    pub prefix: u8,
}

impl FromStr for InterfaceAddress {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        let form = || Refused::new("an address with its prefix looks like \"192.0.2.100/24\" or \"2001:db8::100/64\"");
        let (ip, prefix) = text.split_once('/').ok_or_else(form)?;
        let ip: IpAddr = ip.parse().map_err(|_| form())?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        // `+24` and `024` are numbers to Rust.
        let digits = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = prefix.parse::<u8>().ok().filter(|prefix| digits && *prefix <= longest);
        let prefix = prefix.ok_or_else(|| Refused::new(format!("the prefix of {ip} lies between 0 and {longest}")))?;
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || is_broadcast {
            return Err(Refused::new(format!("{ip} cannot be the address of an interface that others reach")));
        }
        if let Some(what) = borne_by_none(ip, prefix) {
            return Err(Refused::new(format!("{ip}/{prefix} is {what}, which no interface bears")));
        }
        Ok(Self { ip, prefix })
    }
}

/// What an address is that belongs to its network as a whole.
///
/// **Source**: RFC 4291, 2.6.1; networks of two IPv4 addresses have neither, RFC 3021.
fn borne_by_none(ip: IpAddr, prefix: u8) -> Option<&'static str> {
    let (host, longest) = match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let host = u32::from(ip) & mask;
            if prefix < 31 && host == mask {
                return Some("its network's broadcast address");
            }
            (u128::from(host), 32)
        }
        IpAddr::V6(ip) => (u128::from(ip) & u128::MAX.checked_shr(prefix.into()).unwrap_or(0), 128),
    };
    let is_network = prefix < longest - 1 && host == 0;
    is_network.then_some(if ip.is_ipv4() {
        "the address of the network itself"
    } else {
        "the address of all routers of its network"
    })
}

impl TryFrom<String> for InterfaceAddress {
    type Error = Refused;
    fn try_from(text: String) -> Result<Self, Refused> {
        text.parse()
    }
}

impl From<InterfaceAddress> for String {
    fn from(address: InterfaceAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_what_kernel_and_keepalived_both_take() {
        for good in ["eth0", "bond0.100", "br-lan", "enp0s31f6_x", "abcdefghijklmno"] {
            assert_eq!(good.parse::<Interface>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "abcdefghijklmnop", "eth0:1", "a b", "eth0\n", "e@x", "eth!0", "e/x"] {
            assert!(bad.parse::<Interface>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_has_its_prefix_and_is_printed_in_its_shortest_form() {
        for (text, printed) in [
            ("192.0.2.100/24", "192.0.2.100/24"),
            ("2001:0db8::0100/64", "2001:db8::100/64"),
            ("198.51.100.7/32", "198.51.100.7/32"),
        ] {
            assert_eq!(text.parse::<InterfaceAddress>().unwrap().to_string(), printed);
        }
        for bad in [
            "192.0.2.100",
            "192.0.2.100/",
            "192.0.2.100/33",
            "192.0.2.100/+24",
            "192.0.2.100/0024",
            "2001:db8::/129",
            "localhost/24",
            "0.0.0.0/24",
            "127.0.0.1/8",
            "224.0.0.18/24",
            "::1/128",
            "192.0.2.100/24 dev eth0",
            "198.51.100.0/24",
            "198.51.100.0/23",
            "198.51.100.255/24",
            "198.51.100.64/26",
            "198.51.100.127/26",
            "10.255.255.255/8",
            "198.51.100.4/30",
            "2001:db8::/64",
            "2001:db8:0:0:1::/80",
            "255.255.255.255/32",
        ] {
            assert!(bad.parse::<InterfaceAddress>().is_err(), "{bad:?}");
        }
        for good in ["198.51.100.255/23", "198.51.100.0/31", "198.51.100.0/32", "2001:db8::/127", "2001:db8::/128"] {
            assert_eq!(good.parse::<InterfaceAddress>().map(|address| address.to_string()).as_deref(), Ok(good));
        }
    }
}
