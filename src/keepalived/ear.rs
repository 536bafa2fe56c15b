//! Hears the adverts of other nodes, as this node's Keepalived does: behind the same filters.
//!
//! Keepalived in FAULT says nothing of what it hears. Whether two nodes hear each other again is what tells one that
//! gave way that it may come back.
//!
//! **Source**: RFC 5798, 5.2: version and type, router id, priority are the first three bytes.

use crate::sys::raw;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

/// IANA's number of VRRP.
const VRRP: u8 = 112;
/// An advert is some twenty bytes and an address or twenty.
const MAX_BYTES: usize = 1024;
/// A pause as long ends a series.
const GAP: Duration = Duration::from_millis(1_000);

/// Both ears, as far as this process may have them.
#[derive(Debug)]
pub struct Ear {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    series: BTreeMap<(IpAddr, u8), Series>,
}

#[derive(Clone, Copy, Debug)]
struct Series {
    began: Instant,
    last: Instant,
}

impl Ear {
    /// Opens what can be opened.
    ///
    /// # Errors
    /// Not even one family: raw sockets need root or CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        let (v4, v6) = (raw::receive_v4(VRRP), raw::receive_v6(VRRP));
        if let (Err(e), Err(_)) = (&v4, &v6) {
            return Err(io::Error::new(e.kind(), e.to_string()));
        }
        Ok(Self { v4: v4.ok(), v6: v6.ok(), series: BTreeMap::new() })
    }

    /// Waits for an advert and takes it in. May be dropped at any moment.
    pub async fn next(&mut self) {
        let (mut a, mut b) = ([0; MAX_BYTES], [0; MAX_BYTES]);
        let (from, router_id) = tokio::select! {
            Some(found) = receive(self.v4.as_ref(), &mut a, |packet| packet.first().map(|first| usize::from(first & 0x0f) * 4)) => found,
            Some(found) = receive(self.v6.as_ref(), &mut b, |_| Some(0)) => found,
            else => std::future::pending().await,
        };
        self.take(from, router_id, Instant::now());
    }

    fn take(&mut self, from: IpAddr, router_id: u8, now: Instant) {
        let series = self.series.entry((from, router_id)).or_insert(Series { began: now, last: now });
        if now.saturating_duration_since(series.last) > GAP {
            series.began = now;
        }
        series.last = now;
        if self.series.len() > MAX_SPEAKERS {
            self.series.retain(|_, series| now.saturating_duration_since(series.last) <= GAP);
        }
    }

    /// For how long adverts of this router have come from there without a gap; `None`: none just now.
    pub fn heard_for(&self, from: IpAddr, router_id: u8, now: Instant) -> Option<Duration> {
        let series = self.series.get(&(from, router_id))?;
        (now.saturating_duration_since(series.last) <= GAP).then(|| series.last.saturating_duration_since(series.began))
    }
}

/// Speakers that are remembered before those that fell silent are forgotten.
const MAX_SPEAKERS: usize = 256;

/// Sender and router id of the next advert; `None` for what is none, or without an ear.
async fn receive(
    socket: Option<&UdpSocket>,
    buffer: &mut [u8],
    header: impl Fn(&[u8]) -> Option<usize>,
) -> Option<(IpAddr, u8)> {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        let Ok((length, from)) = socket.recv_from(buffer).await else { return std::future::pending().await };
        let packet = &buffer[..length];
        let advert = header(packet).and_then(|at| packet.get(at..)).and_then(router_id);
        if let Some(router_id) = advert {
            return Some((from.ip(), router_id));
        }
    }
}

/// The router id of an advert of version 2 or 3.
fn router_id(message: &[u8]) -> Option<u8> {
    match message {
        [0x21 | 0x31, router_id, _priority, ..] => Some(*router_id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_lasts_while_no_gap_is_longer_than_a_second() {
        let mut ear = Ear { v4: None, v6: None, series: BTreeMap::new() };
        let (from, start) = ("198.51.100.12".parse().unwrap(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [0, 100, 200, 1_100] {
            ear.take(from, 51, at(ms));
        }
        assert_eq!(ear.heard_for(from, 51, at(1_150)), Some(Duration::from_millis(1_100)));
        assert_eq!(ear.heard_for(from, 52, at(1_150)), None);
        assert_eq!(ear.heard_for(from, 51, at(2_200)), None);
        ear.take(from, 51, at(2_300));
        assert_eq!(ear.heard_for(from, 51, at(2_300)), Some(Duration::ZERO));
        assert_eq!(
            (router_id(&[0x31, 51, 250]), router_id(&[0x41, 51, 250]), router_id(&[0x31])),
            (Some(51), None, None)
        );
    }
}
