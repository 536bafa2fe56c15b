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
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            claims.push(claim);
            return port;
        }
    }
    panic!("no free port between {} and {}", RANGE.start, RANGE.end);
}

#[test]
fn ports_are_distinct_and_can_be_bound() {
    let ports: std::collections::BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 50);
    for port in ports {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port can be bound");
    }
}
