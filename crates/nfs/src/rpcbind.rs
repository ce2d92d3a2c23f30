//! RPCBIND version 4 (RFC 1833 2): where programs tell the port that they are on, for clients that
//! are not told it.
//!
//! Entry points: [`mappings`], the calls [`set`] and [`unset`] that make and end one, and
//! [`ask`] for the address that is known.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::rpc::{Call, Opaque};
use crate::xdr::{Reader, Xdr, XdrError, to_bytes, xdr_struct};
use crate::{mount, v3, v4};

const PROGRAM: u32 = 100_000;
const VERSION: u32 = 4;
/// RPCBPROC_SET, RPCBPROC_UNSET, RPCBPROC_GETADDR.
const SET: u32 = 1;
const UNSET: u32 = 2;
const GETADDR: u32 = 3;
/// rpcbind writes down whom it finds at the other end of its socket, whatever is said here.
const OWNER: &[u8] = b"superuser";

xdr_struct! {
    /// `rpcb`: a program's address on one kind of network.
    pub struct Mapping {
        pub program: u32,
        pub version: u32,
        /// `tcp` or `tcp6`.
        pub network: Bytes,
        /// Universal: the address, and the port's two bytes in decimal, with dots.
        pub address: Bytes,
        pub owner: Bytes,
    }
}

/// What is told of a server with these portals. One port is known for each version, so of portals
/// with several only the first one's is. Portals on loopback alone are of no use to others.
#[must_use]
pub fn mappings(portals: &[SocketAddr]) -> Vec<Mapping> {
    let reached: Vec<_> = portals.iter().filter(|one| !one.ip().is_loopback()).collect();
    let mut all = Vec::new();
    for (network, any, is_six) in [("tcp", "0.0.0.0", false), ("tcp6", "::", true)] {
        // A socket on all of IPv6 takes what comes by IPv4 too.
        let serves = |one: &&&SocketAddr| {
            one.is_ipv6() == is_six || (one.is_ipv6() && one.ip().is_unspecified())
        };
        let Some(portal) = reached.iter().find(serves) else { continue };
        let [high, low] = portal.port().to_be_bytes();
        for (program, version) in [
            (v3::PROGRAM, v3::VERSION),
            (v3::PROGRAM, v4::VERSION),
            (mount::PROGRAM, mount::VERSION),
        ] {
            let address = Bytes::from(format!("{any}.{high}.{low}"));
            let (network, owner) = (Bytes::from(network), Bytes::from(OWNER));
            all.push(Mapping { program, version, network, address, owner });
        }
    }
    all
}

impl Mapping {
    /// Of an answer: the port in a universal address.
    #[must_use]
    pub fn port_of(address: &[u8]) -> Option<u16> {
        let mut parts = std::str::from_utf8(address).ok()?.rsplit('.');
        let (low, high) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(u16::from_be_bytes([high, low]))
    }
}

fn call(procedure: u32, mapping: &Mapping) -> Call {
    let (credential, verifier) = (Opaque::none(), Opaque::none());
    let (program, version, arguments) = (PROGRAM, VERSION, to_bytes(mapping));
    Call { xid: procedure, program, version, procedure, credential, verifier, arguments }
}

/// Makes a mapping known; answered by [`done`], false where another is known.
#[must_use]
pub fn set(mapping: &Mapping) -> Call {
    call(SET, mapping)
}
/// Ends what is known of the mapping's program, version and network; answered by [`done`].
#[must_use]
pub fn unset(mapping: &Mapping) -> Call {
    call(UNSET, mapping)
}
/// Asks for the address that is known; answered by a string, empty where there is none.
#[must_use]
pub fn ask(mapping: &Mapping) -> Call {
    call(GETADDR, mapping)
}

/// # Errors
/// The results are no answer to [`set`] or [`unset`].
pub fn done(results: &mut Reader) -> Result<bool, XdrError> {
    bool::read(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(portals: &[&str]) -> Vec<(u32, u32, Bytes, Bytes)> {
        let portals: Vec<SocketAddr> = portals.iter().map(|one| one.parse().unwrap()).collect();
        let parts = |one: Mapping| (one.program, one.version, one.network, one.address);
        mappings(&portals).into_iter().map(parts).collect()
    }

    #[test]
    fn what_others_reach_is_told_by_network_and_port() {
        let of = |network: &'static str, address: &'static str| {
            [(100_003, 3), (100_003, 4), (100_005, 3)]
                .map(|(program, version)| (program, version, network.into(), address.into()))
        };
        assert_eq!(told(&["127.0.0.1:2049", "[::1]:2049"]), []);
        assert_eq!(told(&["127.0.0.1:9", "192.0.2.1:2049"]), of("tcp", "0.0.0.0.8.1"));
        assert_eq!(told(&["[2001:db8::1]:12049"]), of("tcp6", "::.47.17"));
        let both = [of("tcp", "0.0.0.0.8.1"), of("tcp6", "::.8.1")].concat();
        assert_eq!(told(&["[::]:2049"]), both);
    }

    #[test]
    fn a_universal_address_ends_in_its_port() {
        assert_eq!(Mapping::port_of(b"0.0.0.0.8.1"), Some(2049));
        assert_eq!(Mapping::port_of(b"::.47.17"), Some(12049));
        for none in [&b""[..], b"8", b"1.2.3.4.256.1", b"a.b", b"\xff.1"] {
            assert_eq!(Mapping::port_of(none), None);
        }
    }
}
