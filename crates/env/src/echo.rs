//! Is an address there? ICMP echo (RFC 792, RFC 4443).
//!
//! Entry point: [`answers`]. It needs CAP_NET_RAW, as ping does.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
    socket_with,
};

const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;
const ROOM_BYTES: usize = 1024;

/// Whether it answers within `limit`. Blocks so long at most. `token` tells the answer from those
/// that others asked for.
///
/// # Errors
/// It cannot be asked: no permission, no route.
pub fn answers(address: IpAddr, token: [u8; 6], limit: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
    connect(&socket, &SocketAddr::new(address, 0))?;
    send(&socket, &request(address, token), SendFlags::empty())?;
    let mut room = [0; ROOM_BYTES];
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        set_socket_timeout(&socket, Timeout::Recv, Some(left))?;
        match recv(&socket, &mut room, RecvFlags::empty()) {
            Ok((bytes, _)) if is_reply(address, &room[..bytes], token) => return Ok(true),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn request(address: IpAddr, token: [u8; 6]) -> Vec<u8> {
    let kind = if address.is_ipv4() { REQUEST_V4 } else { REQUEST_V6 };
    let mut message = vec![kind, 0, 0, 0];
    // Identifier, sequence number, and two bytes of data.
    message.extend(token);
    if address.is_ipv4() {
        // The kernel fills in the one of ICMPv6, which needs addresses.
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The checksum of the internet (RFC 1071).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// A raw socket of version 4 shows the header of IP, too.
fn is_reply(address: IpAddr, packet: &[u8], token: [u8; 6]) -> bool {
    let (message, kind) = match address {
        IpAddr::V4(_) => {
            let words = packet.first().map_or(0, |first| usize::from(first & 0x0F));
            (packet.get(4 * words..).unwrap_or_default(), REPLY_V4)
        }
        IpAddr::V6(_) => (packet, REPLY_V6),
    };
    message.first() == Some(&kind) && message.get(4..10) == Some(&token[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_their_checksum_and_only_their_own_replies_count() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let request = request(loopback, [1, 2, 3, 4, 5, 6]);
        assert_eq!(checksum(&request), 0, "a message with its checksum sums up to nothing");
        let mut reply = vec![0x45; 20];
        reply.extend([REPLY_V4, 0, 0, 0, 1, 2, 3, 4, 5, 6]);
        assert!(is_reply(loopback, &reply, [1, 2, 3, 4, 5, 6]));
        assert!(!is_reply(loopback, &reply, [1, 2, 3, 4, 5, 7]));
        for length in 0..reply.len() {
            assert!(!is_reply(loopback, &reply[..length], [1, 2, 3, 4, 5, 6]));
        }
    }

    #[test]
    fn loopback_answers_where_asking_is_permitted() {
        match answers([127, 0, 0, 1].into(), [9; 6], Duration::from_secs(5)) {
            Ok(there) => assert!(there),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        }
    }
}
