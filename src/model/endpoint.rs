//! Addresses: where a server is reached, and where HAProxy listens.

use super::Refused;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

/// A host: an address, or a name that somebody must resolve.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A DNS name, lower case.
    Dns(String),
}

impl Host {
    /// Whether it is surely within the operator's own network: the loopback, a private or a link-local address. A name
    /// may lead anywhere.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Ip(ip) => match ip.to_canonical() {
                IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
                IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
            },
            Self::Dns(_) => false,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
            Self::Ip(v4) => v4.fmt(f),
            Self::Dns(name) => f.write_str(name),
        }
    }
}

fn no_scheme() -> Refused {
    Refused::new("it does not say how to reach it: write `http://` or `https://` before the host")
}

/// The base URL of a server: `https://api.openai.com/v1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// Clear text or TLS.
    pub scheme: Scheme,
    /// Name or address.
    pub host: Host,
    /// Port, 1 to 65535.
    pub port: u16,
    /// Path prefix without a slash at its end; empty where the URL had none.
    pub path: String,
}

impl Endpoint {
    /// What a client puts into the `Host` header: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let usual = match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        if self.port == usual { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl std::str::FromStr for Endpoint {
    type Err = Refused;
    /// The error never repeats user information of the URL.
    fn from_str(text: &str) -> Result<Self, Refused> {
        let url = url::Url::parse(text).map_err(|e| match e {
            // `127.0.0.1:9011/v1`: what stands before the first colon is no scheme.
            url::ParseError::RelativeUrlWithoutBase => no_scheme(),
            e => Refused::new(format!("not a URL: {e}")),
        })?;
        // `gpu1:8000/v1`: it is one, as far as a URL goes.
        if url.cannot_be_a_base() && !text.contains("://") {
            return Err(no_scheme());
        }
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => return Err(Refused::new(format!("the scheme is http or https, not {other}"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::new("a URL carries no user or password here; a key goes into `keys`"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Refused::new("a base URL has no query and no fragment"));
        }
        let host = match url.host() {
            Some(url::Host::Ipv4(ip)) => Host::Ip(ip.into()),
            Some(url::Host::Ipv6(ip)) if ip.is_unicast_link_local() => return Err(link_local(ip)),
            Some(url::Host::Ipv6(ip)) => Host::Ip(ip.into()),
            Some(url::Host::Domain(name)) => Host::Dns(dns_name(name)?),
            None => return Err(Refused::new("the URL names no host")),
        };
        let port = url
            .port_or_known_default()
            .filter(|port| *port != 0)
            .ok_or_else(|| Refused::new("a port lies between 1 and 65535"))?;
        let path = url.path().trim_end_matches('/').to_owned();
        if path.chars().any(|c| !(c.is_ascii_alphanumeric() || "/-._~%+:@".contains(c))) {
            return Err(Refused::new("the path of a base URL takes letters, digits and / - . _ ~ % + : @ only"));
        }
        Ok(Self { scheme, host, port, path })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Refused;
    fn try_from(text: String) -> Result<Self, Refused> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

/// Neither HAProxy nor the agent has a place for its interface.
fn link_local(ip: Ipv6Addr) -> Refused {
    Refused::new(format!(
        "{ip} is link-local and leads nowhere without its interface: give a global or private address"
    ))
}

fn dns_name(name: &str) -> Result<String, Refused> {
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let name = name.trim_end_matches('.');
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(Refused::new(format!("{name:?} is not a DNS name")));
    }
    Ok(name.to_ascii_lowercase())
}

/// The host part of a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindHost {
    /// `*`: every IPv4 address.
    AnyV4,
    /// `[::]`: every address of both families (rendered with `v4v6`).
    AnyBoth,
    /// One address.
    Ip(IpAddr),
}

/// Where HAProxy listens: `*:443`, `127.0.0.1:8404`, `[::]:443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindAddress {
    /// Which addresses.
    pub host: BindHost,
    /// Port, 1 to 65535.
    pub port: u16,
}

impl BindAddress {
    /// Whether the two cannot be bound side by side.
    pub fn collides_with(&self, other: &Self) -> bool {
        self.port == other.port
            && match (self.host, other.host) {
                (BindHost::AnyBoth, _) | (_, BindHost::AnyBoth) => true,
                (BindHost::AnyV4, BindHost::AnyV4) => true,
                (BindHost::AnyV4, BindHost::Ip(ip)) | (BindHost::Ip(ip), BindHost::AnyV4) => ip.is_ipv4(),
                (BindHost::Ip(a), BindHost::Ip(b)) => a == b,
            }
    }

    /// The address to bind for a test.
    pub fn to_bind(&self) -> SocketAddr {
        match self.host {
            BindHost::AnyV4 => SocketAddr::from(([0, 0, 0, 0], self.port)),
            BindHost::AnyBoth => SocketAddr::from((Ipv6Addr::UNSPECIFIED, self.port)),
            BindHost::Ip(ip) => SocketAddr::from((ip, self.port)),
        }
    }

    /// The address on this node at which a client reaches it.
    pub fn to_connect(&self) -> SocketAddr {
        match self.host {
            BindHost::AnyV4 | BindHost::AnyBoth => SocketAddr::from(([127, 0, 0, 1], self.port)),
            BindHost::Ip(ip) => SocketAddr::from((ip, self.port)),
        }
    }
}

impl std::str::FromStr for BindAddress {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        let form = || Refused::new("a bind is ADDRESS:PORT, such as \"*:443\", \"127.0.0.1:8404\" or \"[::]:443\"");
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| Refused::new("a port lies between 1 and 65535"))?;
        let host = match host {
            "*" | "" | "0.0.0.0" => BindHost::AnyV4,
            "[::]" => BindHost::AnyBoth,
            v6 if v6.starts_with('[') => {
                let inner = v6.strip_prefix('[').and_then(|h| h.strip_suffix(']')).ok_or_else(form)?;
                let ip: Ipv6Addr = inner.parse().map_err(|_| form())?;
                if ip.is_unicast_link_local() {
                    return Err(link_local(ip));
                }
                BindHost::Ip(IpAddr::V6(ip))
            }
            v4 => BindHost::Ip(IpAddr::V4(v4.parse().map_err(|_| form())?)),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            BindHost::AnyV4 => write!(f, "*:{}", self.port),
            BindHost::AnyBoth => write!(f, "[::]:{}", self.port),
            BindHost::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            BindHost::Ip(ip) => write!(f, "{ip}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_read_into_their_parts() {
        for (text, host, port, path, authority) in [
            ("https://api.openai.com/v1", "api.openai.com", 443, "/v1", "api.openai.com"),
            ("https://API.openai.com/v1/", "api.openai.com", 443, "/v1", "api.openai.com"),
            ("http://198.51.100.7:8000", "198.51.100.7", 8000, "", "198.51.100.7:8000"),
            ("http://[2001:db8::1]:8000/api", "[2001:db8::1]", 8000, "/api", "[2001:db8::1]:8000"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host.to_string().as_str(), endpoint.port, endpoint.path.as_str()), (host, port, path));
            assert_eq!(endpoint.authority(), authority);
        }
    }

    #[test]
    fn a_url_without_its_scheme_is_told_to_have_one() {
        for text in ["127.0.0.1:9011/v1", "gpu1:8000/v1", "gpu1", "[2001:db8::1]:80", "localhost:1"] {
            let told = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(told.contains("write `http://` or `https://` before the host"), "{text}: {told}");
        }
    }

    #[test]
    fn urls_that_hide_something_are_refused() {
        for text in [
            "api.openai.com",
            "ftp://a/",
            "https://u:p@a/",
            "https://a/?x",
            "https://a/#x",
            "https://a:0/",
            "https://a/b c'",
            "http://[fe80::1]:8000",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
        assert!(!"https://u:hush@a/".parse::<Endpoint>().unwrap_err().to_string().contains("hush"));
    }

    #[test]
    fn binds_that_share_a_port_collide_unless_their_addresses_differ() {
        let bind = |text: &str| text.parse::<BindAddress>().unwrap();
        assert!(bind("*:80").collides_with(&bind("127.0.0.1:80")));
        assert!(bind("[::]:80").collides_with(&bind("127.0.0.1:80")));
        assert!(!bind("*:80").collides_with(&bind("[2001:db8::1]:80")));
        assert!(!bind("127.0.0.1:80").collides_with(&bind("127.0.0.2:80")));
        assert!(!bind("*:80").collides_with(&bind("*:81")));
        for text in ["443", "*:0", "*:65536", "::1:80", "[::1:80", "host:80", "[fe80::1]:80"] {
            assert!(text.parse::<BindAddress>().is_err(), "{text}");
        }
    }
}
