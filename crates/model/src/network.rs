//! Network: a named set of client addresses, with the portal addresses that serve them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::id::NetworkId;

/// Most CIDRs, and most portals, of one network.
pub const NETWORK_ADDRESSES_MAX: usize = 64;

/// Addresses that share their first bits (RFC 4632, RFC 4291 2.3). The bits behind them are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no set of addresses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CidrError {
    #[error("'{0}' is not an address or a network; write 10.0.0.7, 10.0.0.0/24 or fd00::/8")]
    Unreadable(String),
    #[error("'{text}' has more prefix bits than the {max} of such an address")]
    Prefix { text: String, max: u8 },
    #[error("'{text}' has bits set behind its prefix; the network is written {network}")]
    HostBits { text: String, network: Cidr },
}

const fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with all bits behind the prefix cleared.
fn network_of(address: IpAddr, prefix_bits: u8) -> IpAddr {
    let behind = u32::from(bits_of(address) - prefix_bits);
    match address {
        IpAddr::V4(v4) => {
            let kept = u32::MAX.checked_shl(behind).unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & kept).into()
        }
        IpAddr::V6(v6) => {
            let kept = u128::MAX.checked_shl(behind).unwrap_or(0);
            Ipv6Addr::from(u128::from(v6) & kept).into()
        }
    }
}

impl Cidr {
    /// One address alone. An IPv4 address written in IPv6 is the IPv4 address that it maps.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix_bits: bits_of(address) }
    }
    /// The first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }
    /// How many bits all of them share.
    #[must_use]
    pub const fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }
    /// Is the address one of these?
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        bits_of(address) == bits_of(self.address)
            && network_of(address, self.prefix_bits) == self.address
    }
    /// The addresses that are in both: two such sets lie in each other or have none in common.
    #[must_use]
    pub fn common(&self, other: &Self) -> Option<Self> {
        let narrow = if self.prefix_bits >= other.prefix_bits { self } else { other };
        let wide = if self.prefix_bits >= other.prefix_bits { other } else { self };
        wide.holds(narrow.address).then_some(*narrow)
    }
}

impl std::str::FromStr for Cidr {
    type Err = CidrError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let unreadable = || CidrError::Unreadable(text.to_owned());
        let Some((address, bits)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| unreadable());
        };
        let address: IpAddr = address.parse().map_err(|_| unreadable())?;
        if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(unreadable());
        }
        let max = bits_of(address);
        let too_many = || CidrError::Prefix { text: text.to_owned(), max };
        let prefix_bits: u8 = bits.parse().map_err(|_| too_many())?;
        if prefix_bits > max {
            return Err(too_many());
        }
        let network = Self { address: network_of(address, prefix_bits), prefix_bits };
        if network.address == address {
            Ok(network)
        } else {
            Err(CidrError::HostBits { text: text.to_owned(), network })
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.prefix_bits == bits_of(self.address) {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix_bits)
        }
    }
}

/// A network. Its name is unique; every project may put volumes on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    pub name: String,
    pub description: String,
    /// Who may be a client at all.
    pub clients: Vec<Cidr>,
    /// Where the node serves it; empty is every NFS portal of the node.
    pub portals: Vec<SocketAddr>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_parse_print_and_refuse() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "10.1.2.3", "::1"] {
            assert_eq!(cidr(text).to_string(), text);
        }
        assert_eq!(cidr("10.1.2.3/32").to_string(), "10.1.2.3");
        assert_eq!(cidr("::ffff:10.1.2.3").to_string(), "10.1.2.3");
        for text in ["", "ten", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "a/8"] {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::Unreadable(_))), "{text}");
        }
        for text in ["10.0.0.0/33", "::/129", "::/999"] {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::Prefix { .. })), "{text}");
        }
        let error = "10.1.2.3/8".parse::<Cidr>().unwrap_err();
        assert!(error.to_string().ends_with("the network is written 10.0.0.0/8"), "{error}");
    }

    #[test]
    fn what_two_networks_share_is_the_narrower_or_nothing() {
        let common = |a: &str, b: &str| cidr(a).common(&cidr(b)).map(|both| both.to_string());
        assert_eq!(common("10.0.0.0/8", "10.1.0.0/16").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(common("10.1.0.0/16", "10.0.0.0/8").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(common("0.0.0.0/0", "10.1.2.3").as_deref(), Some("10.1.2.3"));
        assert_eq!(common("10.0.0.0/9", "10.128.0.0/9"), None);
        assert_eq!(common("0.0.0.0/0", "::/0"), None);
        assert_eq!(common("::/0", "fe80::1").as_deref(), Some("fe80::1"));
    }

    #[test]
    fn an_address_is_in_both_networks_when_it_is_in_what_they_share() {
        // A small linear congruential sequence: the same cases every time.
        let mut state = 0x2545_f491_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        for _ in 0..20_000 {
            let mut any = || {
                // Few bits, so that networks meet often.
                let bits = u8::try_from(next() % 9).unwrap();
                let address = Ipv4Addr::from(next() & 0xff00_0000);
                Cidr { address: network_of(address.into(), bits), prefix_bits: bits }
            };
            let (one, other) = (any(), any());
            let address = IpAddr::from(Ipv4Addr::from(next()));
            let both = one.holds(address) && other.holds(address);
            let common = one.common(&other).is_some_and(|common| common.holds(address));
            assert_eq!(both, common, "{one} {other} {address}");
        }
    }
}
