//! Temporary.
use crate::config::Config;
use crate::model::{Interface, InterfaceAddress};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
/// x
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Wanted;
/// x
pub fn wanted(_: &Config) -> Wanted {
    Wanted
}
/// x
pub async fn settle(_: &Wanted) -> Vec<String> {
    vec![]
}
/// x
pub fn addresses_of(interface: &Interface) -> io::Result<BTreeSet<IpAddr>> {
    let all = nix::ifaddrs::getifaddrs()?;
    Ok(all
        .filter(|one| one.interface_name == interface.as_str())
        .filter_map(|one| {
            let address = one.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect())
}
/// x
pub async fn remove(interface: &Interface, address: InterfaceAddress) -> Result<(), String> {
    let done = crate::sys::process::run(
        "ip".into(),
        &["addr", "del", &address.to_string(), "dev", interface.as_str()],
        std::time::Duration::from_secs(2),
        1000,
    )
    .await;
    match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        Err(e) => Err(crate::sys::chain(&e)),
    }
}
