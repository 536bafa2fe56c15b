//! Ports that nobody else takes: neither another test, nor the kernel for an outgoing connection.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Below the kernel's range for outgoing connections (32768 and up by default): a load generator's own connection
/// would otherwise sit on a port between our choice and HAProxy's bind.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// What this process has claimed. A claim is a socket in the abstract namespace: atomic between processes, and gone
/// with the process however it ends.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A TCP port of the loopback that is free now and that no other test of this machine gets while this process lives.
pub fn free_port() -> u16 {
    let mut claims = CLAIMS.lock().expect("no test panics while it claims a port");
    let width = u32::from(RANGE.end - RANGE.start);
    // Processes start far apart, so that they seldom meet.
    let first = std::process::id().wrapping_mul(613) % width;
    for step in 0..width {
        let offset = u16::try_from((first + step) % width).expect("the range is narrower than u16");
        let port = RANGE.start + offset;
        let name = SocketAddr::from_abstract_name(format!("hapilot-test-port-{port}")).expect("a short name");
        let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
        if is_free(port) {
            claims.push(claim);
            return port;
        }
    }
    panic!("no free port between {} and {}", RANGE.start, RANGE.end);
}

/// Whether nobody listens there. Bound and never listening: a copy of this socket that lives on in a child, from its
/// `fork` to its `exec`, is in nobody's way.
fn is_free(port: u16) -> bool {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind((Ipv4Addr::UNSPECIFIED, port).into()).is_ok()
}

#[test]
fn a_port_is_free_beside_a_bound_socket_and_not_beside_a_listening_one() {
    let (bound, listening) = (free_port(), free_port());
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::UNSPECIFIED, bound).into()).unwrap();
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, listening)).unwrap();
    assert!(is_free(bound) && !is_free(listening));
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, bound)).is_ok(), "a listener beside what is only bound");
}

#[test]
fn ports_are_distinct_and_can_be_bound() {
    let ports: std::collections::BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 50);
    for port in ports {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port can be bound");
    }
}
