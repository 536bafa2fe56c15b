//! TCP ports of this node: whether one can be bound, who holds it, whether an address is ours.
//!
//! Called by the preflight (invariant I9: `haproxy -c` does not bind, and a reload onto a taken port stops the old
//! worker's listeners for seconds) and by the proof of a reload (I7).

use super::holder::{self, Holder};
use super::lack;
use crate::model::{BindAddress, BindHost};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use tokio::net::TcpSocket;

/// One address that could not be bound.
#[derive(Debug)]
pub struct BindProblem {
    /// The address.
    pub address: BindAddress,
    /// What the system said.
    pub error: io::Error,
    /// Who listens there: `nginx (pid 812)`; `None` where it could not be found out or nobody does.
    pub holder: Option<Holder>,
}

impl BindProblem {
    /// Of an address that was to be bound, with who has its port.
    pub fn of(address: BindAddress, error: io::Error) -> Self {
        let taken = error.kind() == io::ErrorKind::AddrInUse;
        Self { holder: if taken { holder::of_port(address.port) } else { None }, address, error }
    }

    /// What to do, where that can be said: whom to end, or who knows whom.
    pub fn help(&self) -> Option<String> {
        let port = self.address.port;
        match (self.error.kind(), &self.holder) {
            (io::ErrorKind::AddrInUse, Some(_)) => Some("stop that program, or choose another port".to_owned()),
            (io::ErrorKind::AddrInUse, None) => Some(format!(
                "`sudo ss -Hltnp sport = :{port}` says who has it; stop that program, or choose another port"
            )),
            _ => None,
        }
    }
}

impl fmt::Display for BindProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.address.to_bind();
        match self.error.kind() {
            io::ErrorKind::AddrInUse => match &self.holder {
                Some(holder) => write!(f, "port {} is in use: {holder} has it, so {at} cannot be bound", at.port()),
                None => write!(f, "port {} is in use, so {at} cannot be bound", at.port()),
            },
            io::ErrorKind::PermissionDenied if at.port() < 1024 => {
                write!(f, "{at} needs the right to bind ports below 1024 (root or CAP_NET_BIND_SERVICE)")
            }
            io::ErrorKind::AddrNotAvailable => write!(
                f,
                "{} is not an address of this node; for a virtual IP set net.ipv{}.ip_nonlocal_bind=1",
                at.ip(),
                if at.is_ipv4() { 4 } else { 6 },
            ),
            _ => write!(f, "{at} cannot be bound: {}", self.error),
        }
    }
}

/// Binds each address for a moment, without listening, and answers those that cannot be bound.
///
/// SO_REUSEADDR is set, so that connections in TIME_WAIT do not matter; SO_REUSEPORT is not, so that a port taken by
/// anyone who sets it (HAProxy does) is noticed. Hence only *new* binds go in here: those of the running HAProxy are
/// taken by itself.
pub fn bind_test(addresses: &[BindAddress]) -> Vec<BindProblem> {
    addresses.iter().filter_map(|address| Some(BindProblem::of(*address, try_bind(address).err()?))).collect()
}

/// Why a program of our own cannot listen where it should: the first of its addresses that is taken, with who has it.
pub fn why_not(wanted: &[SocketAddr], error: &io::Error) -> String {
    let wanted: Vec<BindAddress> =
        wanted.iter().map(|at| BindAddress { host: BindHost::Ip(at.ip()), port: at.port() }).collect();
    bind_test(&wanted).first().map_or_else(|| error.to_string(), ToString::to_string)
}

fn try_bind(address: &BindAddress) -> io::Result<()> {
    bind_once(address.to_bind())?;
    if address.host == BindHost::AnyBoth {
        // HAProxy's `v4v6` takes IPv4 too, whatever net.ipv6.bindv6only says of our own test.
        bind_once(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port)))?;
    }
    Ok(())
}

fn bind_once(at: SocketAddr) -> io::Result<()> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)
}

/// Whether an address is one of this node now. For a virtual address that another node has, a connection would reach
/// that one.
///
/// Asks the kernel for the route, without sending anything: towards an address of its own, its source is that very
/// address. `ip_nonlocal_bind` does not deceive it.
///
/// # Errors
/// This process lacks what it needs to ask: nothing is known.
pub fn is_of_this_node(address: IpAddr) -> io::Result<bool> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        // The port is of no meaning: nothing is sent.
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    if address.is_loopback() {
        return Ok(true);
    }
    match source() {
        Ok(source) => Ok(source.ip() == address),
        // EADDRNOTAVAIL is an answer here: no address of this node leads there.
        Err(e) if lack::is_ours(&e) && e.kind() != io::ErrorKind::AddrNotAvailable => Err(e),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::{BindProblem, bind_test, is_of_this_node};
    use crate::model::{BindAddress, BindHost};
    use std::io;
    use std::net::TcpListener;

    #[test]
    fn a_taken_port_is_noticed_on_every_address_that_covers_it_and_its_holder_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        for host in [BindHost::AnyV4, BindHost::AnyBoth, BindHost::Ip([127, 0, 0, 1].into())] {
            let problems = bind_test(&[BindAddress { host, port }]);
            let text = problems.first().expect("the port is taken").to_string();
            assert!(text.contains(&format!("(pid {})", std::process::id())), "{host:?}: {text}");
        }
        assert!(bind_test(&[BindAddress { host: BindHost::Ip([127, 0, 0, 2].into()), port }]).is_empty());
        drop(taken);
        assert!(bind_test(&[BindAddress { host: BindHost::AnyV4, port }]).is_empty());
    }

    #[test]
    fn an_address_of_another_node_comes_with_the_hint() {
        let problems = bind_test(&["192.0.2.77:8443".parse().unwrap()]);
        // With ip_nonlocal_bind set there is nothing to complain about.
        if let Some(problem) = problems.first() {
            assert!(problem.to_string().contains("ip_nonlocal_bind"), "{problem}");
        }
        let denied = BindProblem {
            address: "*:443".parse().unwrap(),
            error: io::ErrorKind::PermissionDenied.into(),
            holder: None,
        };
        assert!(denied.to_string().contains("CAP_NET_BIND_SERVICE"));
    }

    #[test]
    fn an_address_of_this_node_is_told_from_one_elsewhere() {
        assert!(is_of_this_node([127, 0, 0, 9].into()).unwrap());
        assert!(is_of_this_node(std::net::Ipv6Addr::LOCALHOST.into()).unwrap());
        for elsewhere in ["192.0.2.77", "2001:db8::77"] {
            assert!(!is_of_this_node(elsewhere.parse().unwrap()).unwrap(), "{elsewhere}");
        }
    }
}
