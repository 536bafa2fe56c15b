//! The other nodes, and what each said last.

use super::beat::{Beat, MAX_BYTES, NodeNews, Said, SharedKey, Sums, seal, seal_sums, unseal};
use crate::model::Name;
use crate::usage::ToldSum;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

/// An echo of something older is none.
const ECHO: Duration = Duration::from_secs(2);
/// Nonces that are remembered for each node.
const NONCES: usize = 64;
/// A node that says nothing for as long is gone.
const SILENCE: Duration = Duration::from_millis(600);

/// What was heard of one node.
#[derive(Clone, Debug)]
pub struct PeerRecord {
    /// What it said last, fresh or not; none: nothing yet.
    pub news: Option<NodeNews>,
    /// When.
    pub at: Option<Instant>,
}

impl PeerRecord {
    /// What it says just now; none: it is silent.
    pub fn fresh(&self, now: Instant) -> Option<&NodeNews> {
        self.news.as_ref().filter(|_| self.at.is_some_and(|at| now.saturating_duration_since(at) < SILENCE))
    }
}

/// What another node says.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A beat of this one, which is taken in.
    Beat(Name),
    /// What clients spent.
    Sums(Vec<ToldSum>),
}

/// The socket and the other nodes.
#[derive(Debug)]
pub struct Circle {
    socket: UdpSocket,
    key: SharedKey,
    own: Name,
    life: u64,
    number: u64,
    others: BTreeMap<Name, Other>,
    /// Datagrams that were not by our key.
    pub forged: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Other {
    address: SocketAddr,
    /// Its life and the number of its last beat.
    last: Option<(u64, u64)>,
    /// What it wants to hear.
    nonce: u64,
    sent: VecDeque<(u64, Instant)>,
    heard: PeerRecord,
}

impl Circle {
    /// Binds the port: on this node's own address where `peers` has it, else on all.
    ///
    /// # Errors
    /// The port is taken, or the address not one of this node (yet).
    pub async fn open(own: &Name, peers: &BTreeMap<Name, IpAddr>, port: u16, key: SharedKey) -> io::Result<Self> {
        let others: BTreeMap<Name, Other> = peers
            .iter()
            .filter(|(name, _)| *name != own)
            .map(|(name, ip)| (name.clone(), Other::at(SocketAddr::new(*ip, port))))
            .collect();
        let any = match others.values().all(|other| other.address.is_ipv4()) {
            true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((peers.get(own).copied().unwrap_or(any), port)).await?;
        Ok(Self {
            socket,
            key,
            own: own.clone(),
            life: rand::random(),
            number: 0,
            others,
            forged: 0,
            buffer: vec![0; MAX_BYTES + 1],
        })
    }

    /// Tells each other node. One that cannot be reached is not waited for.
    pub fn tell(&mut self, news: &NodeNews, now: Instant) {
        self.number += 1;
        let news = news.clone().shortened();
        for (name, other) in &mut self.others {
            let beat = Beat {
                from: self.own.clone(),
                to: name.clone(),
                life: self.life,
                number: self.number,
                nonce: rand::random(),
                echo: other.nonce,
                news: news.clone(),
            };
            other.sent.push_back((beat.nonce, now));
            if other.sent.len() > NONCES {
                other.sent.pop_front();
            }
            let sealed = seal(&self.key, &beat);
            // What is nice to know is left out where it is too much for a datagram.
            let plain = || seal(&self.key, &Beat { news: beat.news.clone().plain(), ..beat.clone() });
            if let Some(bytes) = sealed.or_else(plain) {
                // A node that is down answers by an error here, or not at all: its silence is what counts.
                let _ = self.socket.try_send_to(&bytes, other.address);
            }
        }
    }

    /// Tells each other node what clients spent. What is lost is told again by who tells it.
    pub fn tell_sums(&self, sums: Vec<ToldSum>) {
        let Some(bytes) = seal_sums(&self.key, &Sums { from: self.own.clone(), sums }) else { return };
        for other in self.others.values() {
            let _ = self.socket.try_send_to(&bytes, other.address);
        }
    }

    /// Waits for a beat that is fresh, and takes it in, or for what clients spent. May be dropped at any moment.
    ///
    /// # Errors
    /// The socket broke.
    pub async fn next(&mut self) -> io::Result<Heard> {
        loop {
            let length = match self.socket.recv_from(&mut self.buffer).await {
                Ok((length, _)) => length,
                // What became of an earlier datagram of ours: nobody listens there.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(e) => return Err(e),
            };
            match unseal(&self.key, &self.buffer[..length]) {
                Ok(Said::Beat(beat)) => {
                    if let Some(name) = self.take(*beat, Instant::now()) {
                        return Ok(Heard::Beat(name));
                    }
                }
                Ok(Said::Sums(Sums { from, sums })) => {
                    if self.others.contains_key(&from) {
                        return Ok(Heard::Sums(sums));
                    }
                }
                Err(_) => self.forged += 1,
            }
        }
    }

    fn take(&mut self, beat: Beat, now: Instant) -> Option<Name> {
        let Beat { from, to, life, number, nonce, echo, news } = beat;
        let other = self.others.get_mut(&from).filter(|_| to == self.own)?;
        let is_fresh = other.sent.iter().any(|(sent, at)| *sent == echo && now.saturating_duration_since(*at) < ECHO);
        if !is_fresh {
            // Perhaps its first one: it is answered by an echo, and believed when it echoes in turn. Where we hear it
            // well already, this is an old one.
            if other.heard.fresh(now).is_none() {
                other.nonce = nonce;
            }
            return None;
        }
        if other.last.is_some_and(|(last_life, last)| last_life == life && number <= last) {
            return None;
        }
        other.last = Some((life, number));
        other.nonce = nonce;
        other.heard = PeerRecord { news: Some(news), at: Some(now) };
        Some(from)
    }

    /// What was heard of each other node.
    pub fn heard(&self) -> impl Iterator<Item = (&Name, &PeerRecord)> {
        self.others.iter().map(|(name, other)| (name, &other.heard))
    }
}

impl Other {
    fn at(address: SocketAddr) -> Self {
        Self { address, last: None, nonce: 0, sent: VecDeque::new(), heard: PeerRecord { news: None, at: None } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    fn key() -> SharedKey {
        SharedKey::of(&Secret::new("0123456789abcdef".to_owned()).unwrap())
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    async fn pair() -> (Circle, Circle) {
        let peers = |a: u8, b: u8| {
            let ip = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
            BTreeMap::from([(name("lb1"), ip(a)), (name("lb2"), ip(b))])
        };
        // A port that was free a moment ago on one address; both addresses are loopback's.
        for _ in 0..50 {
            let port = UdpSocket::bind("127.0.0.41:0").await.unwrap().local_addr().unwrap().port();
            let a = Circle::open(&name("lb1"), &peers(41, 42), port, key()).await;
            let b = Circle::open(&name("lb2"), &peers(41, 42), port, key()).await;
            if let (Ok(a), Ok(b)) = (a, b) {
                return (a, b);
            }
        }
        panic!("no port is free");
    }

    #[tokio::test]
    async fn two_nodes_believe_each_other_after_an_echo_and_no_recording() {
        let (mut a, mut b) = pair().await;
        let news = |can_serve| NodeNews { can_serve, ..NodeNews::default() };
        let within = Duration::from_secs(5);
        let began = Instant::now();
        // Nobody is believed before an echo, so it takes some beats.
        while b.heard().next().is_some_and(|(_, heard)| heard.news.is_none()) {
            assert!(began.elapsed() < within);
            a.tell(&news(true), Instant::now());
            b.tell(&news(true), Instant::now());
            for circle in [&mut a, &mut b] {
                let _ = tokio::time::timeout(Duration::from_millis(20), circle.next()).await;
            }
        }
        let (_, heard) = b.heard().next().unwrap();
        assert!(heard.fresh(Instant::now()).is_some_and(|news| news.can_serve));
        assert!(heard.fresh(Instant::now() + SILENCE).is_none());
        // The same again, as somebody recorded it: neither its number nor, later, its echo is new.
        let beat = Beat {
            from: name("lb1"),
            to: name("lb2"),
            life: a.life,
            number: a.number,
            nonce: 1,
            echo: b.others[&name("lb1")].sent.back().unwrap().0,
            news: news(false),
        };
        let now = Instant::now();
        assert_eq!(b.take(beat.clone(), now), None);
        let later = Beat { number: beat.number + 1, ..beat.clone() };
        assert_eq!(b.take(later.clone(), now + ECHO + Duration::from_millis(1)), None);
        assert_eq!(b.take(Beat { to: name("lb3"), ..later.clone() }, now), None);
        assert_eq!(b.take(Beat { from: name("lb3"), ..later.clone() }, now), None);
        assert_eq!(b.take(later, now), Some(name("lb1")));
    }
}
