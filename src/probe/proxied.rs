//! The header of the PROXY protocol, as HAProxy sends it ahead of a connection. Pure.
//!
//! **Source**: HAProxy, doc/proxy-protocol.txt, 2.1 and 2.2.

use crate::config::ProxyProtocol;
use std::net::{IpAddr, SocketAddr};

/// What version 2 begins with; its command is PROXY.
const BEGINNING: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21";

/// The header for a connection between these two.
pub(super) fn header(version: ProxyProtocol, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes()
        }
        ProxyProtocol::V2 => {
            let addresses = [from.ip(), to.ip()].map(octets).concat();
            // Stream over IPv4 or IPv6; then both addresses and both ports follow.
            let (family, length) = if from.is_ipv4() { (0x11, 12_u16) } else { (0x21, 36) };
            let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
            [BEGINNING, &[family], &length.to_be_bytes(), &addresses, &ports].concat()
        }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_the_protocol_has_them() {
        let of = |version, from: &str, to: &str| header(version, from.parse().unwrap(), to.parse().unwrap());
        let line = of(ProxyProtocol::V1, "192.0.2.1:4000", "192.0.2.2:80");
        assert_eq!(line, b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 80\r\n");
        let line = of(ProxyProtocol::V1, "[2001:db8::1]:4000", "[2001:db8::2]:80");
        assert_eq!(line, b"PROXY TCP6 2001:db8::1 2001:db8::2 4000 80\r\n");
        let binary = of(ProxyProtocol::V2, "192.0.2.1:4000", "192.0.2.2:80");
        let expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x0f\xa0\x00\x50";
        assert_eq!(binary, expected);
        let binary = of(ProxyProtocol::V2, "[::1]:4000", "[::1]:80");
        assert_eq!((binary.len(), &binary[12..16]), (16 + 36, &b"\x21\x21\x00\x24"[..]));
    }
}
