//! Receives the packets of one IP protocol, behind this node's filters. Needs root or CAP_NET_RAW.
//!
//! Refuses to know the protocol. Called by adapters.

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};
use std::io;
use std::net::UdpSocket as StdUdpSocket;
use std::num::NonZeroU32;
use tokio::net::UdpSocket;

/// Packets over IPv4, each with its IP header. The socket is raw; what it shares with a UDP socket is how it receives.
///
/// # Errors
/// This process may not.
pub fn receive_v4(protocol: u8) -> io::Result<UdpSocket> {
    receive(AddressFamily::INET, protocol)
}

/// Packets over IPv6, without their IP headers.
///
/// # Errors
/// As [`receive_v4`]; or the node has no IPv6.
pub fn receive_v6(protocol: u8) -> io::Result<UdpSocket> {
    receive(AddressFamily::INET6, protocol)
}

fn receive(family: AddressFamily, protocol: u8) -> io::Result<UdpSocket> {
    let protocol = NonZeroU32::new(u32::from(protocol)).map(Protocol::from_raw);
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::RAW, flags, protocol)?;
    UdpSocket::from_std(StdUdpSocket::from(socket))
}
