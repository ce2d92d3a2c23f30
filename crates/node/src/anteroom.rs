//! Who may be connected: a place for each login under way, and one for each session.
//!
//! ```text
//!  accepted --knock--> login under way --seat--> session --leave--> gone
//!                 |          |                 |
//!              Refused    expelled          no seat left
//! ```
//!
//! A place for a login is worth most to whoever has few: when all are taken, the address that has
//! most of them yields its oldest. For one that has as many itself, a login is given up only after
//! [`GRACE`], so that a rush of honest logins is not cut down by its own tail.
//!
//! Invariant: at most [`Places::logins`] logins and [`Places::sessions`] sessions at any time.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// What a login may take before it can lose its place to another one of its own address.
pub const GRACE: Duration = Duration::from_secs(3);

/// How many may be there at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// Sessions with targets.
    pub sessions: usize,
    /// Connections that have not logged in yet, and discovery sessions: nobody has to prove
    /// anything for those.
    pub logins: usize,
    /// The same for one address; of IPv6, for one network of 64 bits.
    pub logins_per_address: usize,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The address has as many logins under way as it may have.
    Address,
    /// The node has, and no address has more of them than this one.
    Node,
}

/// One connection's place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    origin: IpAddr,
    serial: u64,
}

struct Login<T> {
    serial: u64,
    since: Duration,
    guest: T,
}

/// The node's places. `T` is the way to tell a connection that it is expelled.
pub struct Anteroom<T> {
    limits: Places,
    /// Logins under way by where they come from, oldest first.
    logins: HashMap<IpAddr, VecDeque<Login<T>>>,
    logins_count: usize,
    sessions: usize,
    serial: u64,
}

impl<T> Anteroom<T> {
    #[must_use]
    pub fn new(limits: Places) -> Self {
        Self { limits, logins: HashMap::new(), logins_count: 0, sessions: 0, serial: 0 }
    }

    /// Somebody comes. Gives the place, and who loses one for it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn knock(
        &mut self,
        from: IpAddr,
        now: Duration,
        guest: T,
    ) -> Result<(Ticket, Option<T>), Refusal> {
        let origin = origin_of(from);
        let mine = self.logins.get(&origin).map_or(0, VecDeque::len);
        let expelled = if mine >= self.limits.logins_per_address {
            Some(self.expel_aged(origin, now).ok_or(Refusal::Address)?)
        } else if self.logins_count >= self.limits.logins {
            Some(self.expel_for(mine, now).ok_or(Refusal::Node)?)
        } else {
            None
        };
        let serial = self.serial;
        self.serial += 1;
        self.logins.entry(origin).or_default().push_back(Login { serial, since: now, guest });
        self.logins_count += 1;
        Ok((Ticket { origin, serial }, expelled))
    }

    /// The oldest of the address that has most: at once if that is more than the newcomer would
    /// have, else after its grace.
    fn expel_for(&mut self, mine: usize, now: Duration) -> Option<T> {
        let (fullest, most) = self
            .logins
            .iter()
            .map(|(address, logins)| (*address, logins.len()))
            .max_by_key(|(_, count)| *count)?;
        if most > mine + 1 { self.expel(fullest) } else { self.expel_aged(fullest, now) }
    }

    fn expel_aged(&mut self, origin: IpAddr, now: Duration) -> Option<T> {
        let oldest = self.logins.get(&origin)?.front()?;
        if now.saturating_sub(oldest.since) < GRACE {
            return None;
        }
        self.expel(origin)
    }

    fn expel(&mut self, origin: IpAddr) -> Option<T> {
        let logins = self.logins.get_mut(&origin)?;
        let login = logins.pop_front()?;
        if logins.is_empty() {
            self.logins.remove(&origin);
        }
        self.logins_count -= 1;
        Some(login.guest)
    }

    /// A login is through: its place is free again, and it has a seat where there is one.
    /// False: there is none, or the ticket is void.
    #[must_use]
    pub fn seat(&mut self, ticket: Ticket) -> bool {
        if !self.leave(ticket) || self.sessions >= self.limits.sessions {
            return false;
        }
        self.sessions += 1;
        true
    }

    /// A connection that has not logged in is gone. False: its place was another's already.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(logins) = self.logins.get_mut(&ticket.origin) else { return false };
        let Ok(at) = logins.binary_search_by_key(&ticket.serial, |login| login.serial) else {
            return false;
        };
        logins.remove(at);
        if logins.is_empty() {
            self.logins.remove(&ticket.origin);
        }
        self.logins_count -= 1;
        true
    }

    /// A session that had a seat is over.
    pub fn rise(&mut self) {
        self.sessions = self.sessions.saturating_sub(1);
    }

    /// Logins under way and sessions.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.logins_count, self.sessions)
    }
}

/// What counts as one address: whoever has an IPv6 address has a network of them.
fn origin_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const LIMITS: Places = Places { sessions: 20, logins: 32, logins_per_address: 12 };

    fn address(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_address_cannot_take_all_places_and_a_rush_is_refused_not_cut() {
        let mut room = Anteroom::new(LIMITS);
        for number in 0..12 {
            assert!(matches!(room.knock(address(1), at(0), number), Ok((_, None))));
        }
        assert_eq!(room.knock(address(1), at(2999), 12).unwrap_err(), Refusal::Address);
        // Who has not logged in after the grace makes room for the next.
        assert_eq!(room.knock(address(1), at(3000), 12).unwrap().1, Some(0));
        assert_eq!(room.counts(), (12, 0));
    }

    #[test]
    fn a_full_node_takes_from_the_fullest_address() {
        let mut room = Anteroom::new(LIMITS);
        for number in 0..32 {
            let from = if number < 12 { 1 } else { 2 + number % 5 };
            room.knock(address(from), at(0), number).unwrap();
        }
        assert_eq!(room.knock(address(99), at(1), 50).unwrap().1, Some(0), "the oldest of 1");
        assert_eq!(room.knock(address(1), at(1), 51).unwrap_err(), Refusal::Node);
        assert_eq!(room.counts().0, 32);
    }

    #[test]
    fn neighbours_of_an_ipv6_network_are_one_address() {
        let mut room = Anteroom::new(LIMITS);
        for number in 0..12_u16 {
            let from = Ipv6Addr::new(0x2001, 0xdb8, 0, 7, number, number, number, number);
            room.knock(from.into(), at(0), number).unwrap();
        }
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0xffff, 0, 0, 1);
        assert_eq!(room.knock(other.into(), at(0), 12).unwrap_err(), Refusal::Address);
        let network = Ipv6Addr::new(0x2001, 0xdb8, 0, 8, 0, 0, 0, 1);
        assert!(room.knock(network.into(), at(0), 13).is_ok());
        // An IPv4 address is the same one behind a portal of both families.
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        assert_eq!(origin_of(mapped.into()), address(1));
    }

    #[test]
    fn a_seat_is_had_by_as_many_as_there_are() {
        let mut room = Anteroom::new(LIMITS);
        for number in 0..25_u8 {
            let (ticket, _) = room.knock(address(number), at(0), ()).unwrap();
            assert_eq!(room.seat(ticket), number < 20);
            assert!(!room.leave(ticket), "the place is free already");
        }
        assert_eq!(room.counts(), (0, 20));
        room.rise();
        let (ticket, _) = room.knock(address(1), at(0), ()).unwrap();
        assert!(room.seat(ticket));
    }

    /// Whatever a flood from a few addresses does, a login of an address that has none under way
    /// gets a place, and keeps it for as long as others have more than it.
    #[test]
    fn a_flood_never_keeps_a_lone_login_out() {
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut room: Anteroom<u64> = Anteroom::new(LIMITS);
            let mut flood: Vec<Ticket> = Vec::new();
            let attackers = random.random_range(1..12);
            for turn in 0..2000 {
                let from = address(random.random_range(0..attackers));
                if let Ok((ticket, _)) = room.knock(from, at(turn), turn) {
                    flood.push(ticket);
                }
                if random.random_ratio(1, 8) && !flood.is_empty() {
                    let gone = flood.swap_remove(random.random_range(0..flood.len()));
                    room.leave(gone);
                }
                if random.random_ratio(1, 10) {
                    let (ticket, _) = room.knock(address(200), at(turn), u64::MAX).unwrap();
                    for _ in 0..20 {
                        let from = address(random.random_range(0..attackers));
                        if let Ok((_, expelled)) = room.knock(from, at(turn), turn) {
                            assert_ne!(expelled, Some(u64::MAX), "seed {seed}, turn {turn}");
                        }
                    }
                    assert!(room.leave(ticket), "seed {seed}: the place was lost");
                }
                let (logins, _) = room.counts();
                assert!(logins <= LIMITS.logins);
                assert_eq!(logins, room.logins.values().map(VecDeque::len).sum::<usize>());
                let fullest = room.logins.values().map(VecDeque::len).max().unwrap_or(0);
                assert!(fullest <= LIMITS.logins_per_address);
            }
        }
    }
}
