//! Who has a place among the connections, and who must leave it when a new client comes.
//!
//! **Purpose:** clients that send nothing keep nobody from an answer. **In → Out:** addresses of clients and what they
//! did → a place, and whose connection is closed for it. **Invariants:** at most [`CONNECTIONS_MAX`] places, of
//! those at most [`ADDRESS_MAX`] of one address; the newest client has a place before an older one that has not asked for
//! anything. **Not here:** sockets and time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Connections at once.
pub(super) const CONNECTIONS_MAX: usize = 128;
/// Of those, how many of one address: more than may listen to events, and so a proxy always has some left for requests.
pub(super) const ADDRESS_MAX: usize = 64;

/// What a client is at, the first to be closed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It has not sent one whole request yet.
    New,
    /// It was answered, and may ask again.
    Idle,
    /// It is being answered.
    Asked,
    /// It stays for events. Never closed for another: their number has a limit of its own.
    Listening,
}

struct Connection<T> {
    address: IpAddr,
    phase: Phase,
    /// Larger for a later phase: the smallest number has waited longest.
    since: u64,
    handle: T,
}

/// The places; `T` is what closes a connection.
pub(super) struct Places<T> {
    count: u64,
    held: BTreeMap<u64, Connection<T>>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { count: 0, held: BTreeMap::new() }
    }
}

impl<T> Places<T> {
    /// Gives a client a place. Returns its number, and the handle of the connection that is to be closed
    /// for it; `None` if every place that it could have belongs to a listener.
    pub fn enter(&mut self, address: IpAddr, handle: T) -> Option<(u64, Option<T>)> {
        let address = network(address);
        let of_address = self.held.values().filter(|held| held.address == address).count();
        let full = of_address >= ADDRESS_MAX || self.held.len() >= CONNECTIONS_MAX;
        let closed = if full { Some(self.close(address, of_address >= ADDRESS_MAX)?) } else { None };
        self.count += 1;
        let held = Connection { address, phase: Phase::New, since: self.count, handle };
        self.held.insert(self.count, held);
        Some((self.count, closed))
    }

    /// Takes the place of the client that has waited longest: of any, or of this `address` alone.
    fn close(&mut self, address: IpAddr, alone: bool) -> Option<T> {
        let may =
            |held: &Connection<T>| held.phase != Phase::Listening && (!alone || held.address == address);
        let waiting = self.held.iter().filter(|(_, held)| may(held));
        let (&number, _) = waiting.min_by_key(|(_, held)| (held.phase, held.since))?;
        self.held.remove(&number).map(|held| held.handle)
    }

    /// Notes what the client with this place is at now.
    pub fn set(&mut self, number: u64, phase: Phase) {
        self.count += 1;
        if let Some(held) = self.held.get_mut(&number) {
            (held.phase, held.since) = (phase, self.count);
        }
    }

    /// Frees a place; one that was taken away already is none.
    pub fn leave(&mut self, number: u64) {
        self.held.remove(&number);
    }
}

/// What counts as one address: of IPv6 the first 64 bits, since one host may use all others.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> IpAddr {
        IpAddr::from([192, 0, 2, u8::try_from(number).unwrap()])
    }

    #[test]
    fn the_oldest_that_has_not_asked_is_closed_and_a_listener_never() {
        let mut places = Places::default();
        let mut enter = |from: usize, name: usize| places.enter(address(from), name);
        let first = enter(0, 0).unwrap().0;
        let rest: Vec<u64> = (1..CONNECTIONS_MAX).map(|n| enter(n % 100, n).unwrap().0).collect();
        places.set(first, Phase::Asked);
        places.set(rest[0], Phase::Listening);
        places.set(rest[1], Phase::Idle);
        // 0 asked, 1 listens, 2 was answered: 3 is the oldest that has sent nothing.
        assert_eq!(places.enter(address(200), 1000).unwrap().1, Some(3));
        for &number in &rest[3..] {
            places.set(number, Phase::Listening);
        }
        let mut closed = || places.enter(address(201), 1001).unwrap().1;
        assert_eq!((closed(), closed(), closed()), (Some(1000), Some(1001), Some(1001)));
    }

    #[test]
    fn one_address_takes_its_own_places_alone() {
        let mut places = Places::default();
        places.enter(address(1), 999).unwrap();
        let mut numbers = Vec::new();
        for name in 0..ADDRESS_MAX {
            let (number, closed) = places.enter(address(2), name).unwrap();
            assert_eq!(closed, None);
            numbers.push(number);
        }
        assert_eq!(places.enter(address(2), 1000).unwrap().1, Some(0), "of its own, though 999 is older");
        places.leave(numbers[1]);
        assert_eq!(places.enter(address(2), 1001).unwrap().1, None, "a place that was left is free");
        let mut all = Places::default();
        for name in 0..ADDRESS_MAX {
            let (number, _) = all.enter(address(3), name).unwrap();
            all.set(number, Phase::Listening);
        }
        assert!(all.enter(address(3), 0).is_none(), "listeners leave no place of this address");
        assert_eq!(all.enter(address(4), 0).unwrap().1, None);
    }

    #[test]
    fn a_host_has_one_address_in_whatever_way_it_is_written() {
        let net = |text: &str| network(text.parse().unwrap());
        assert_eq!(net("2001:db8::1"), net("2001:db8::ffff:1:2:3"));
        assert_ne!(net("2001:db8::1"), net("2001:db8:0:1::1"));
        assert_eq!(net("::ffff:192.0.2.1"), net("192.0.2.1"));
    }
}
