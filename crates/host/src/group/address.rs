//! An address that moves along with the group.
//!
//! Who had it before is still in the tables of the neighbours: gratuitous ARP (RFC 826, RFC 5227
//! 1.1) and unsolicited neighbour advertisements (RFC 4861 7.2.6) tell them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ::guard::group::Step;
use env::{echo, link};

use super::steps::Place;

/// Frames get lost; neighbours listen once.
const ANNOUNCEMENTS: usize = 3;
const BETWEEN: Duration = Duration::from_millis(100);
const BROADCAST: [u8; 6] = [0xFF; 6];
/// The Ethernet address of ff02::1 (RFC 2464 7).
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

pub(super) async fn perform(
    place: &Place,
    cidr: &str,
    interface: &str,
    step: Step,
) -> Result<(), String> {
    let address = cidr.split('/').next().unwrap_or_default();
    let address: IpAddr = address.parse().map_err(|_| format!("'{cidr}' is no address"))?;
    match step {
        Step::Start => {
            if !is_there(place, address, interface).await? {
                let mut line = vec!["ip", "address", "add", cidr, "dev", interface];
                if address.is_ipv6() {
                    // The one that had it may be paused and would defend it when it wakes; the
                    // reservation has decided already.
                    line.push("nodad");
                }
                place.call(&line).await?;
            }
            announce(address, interface).await
        }
        Step::Check if is_there(place, address, interface).await? => Ok(()),
        Step::Check => Err(format!("{address} is not on {interface} any more")),
        Step::Stop | Step::Kill => {
            if !is_there(place, address, interface).await? {
                return Ok(());
            }
            place.call(&["ip", "address", "del", cidr, "dev", interface]).await
        }
    }
}

async fn is_there(place: &Place, address: IpAddr, interface: &str) -> Result<bool, String> {
    let family = if address.is_ipv4() { "-4" } else { "-6" };
    let line = ["ip", "-o", family, "address", "show", "dev", interface];
    let said = place.ask(&line).await?;
    Ok(has(&said, address))
}

/// The lines of `ip -o address show`: number, interface, family, address and length.
fn has(said: &str, address: IpAddr) -> bool {
    said.lines().any(|line| {
        let cidr = line.split_whitespace().nth(3).unwrap_or_default();
        cidr.split('/').next().and_then(|text| text.parse().ok()) == Some(address)
    })
}

async fn announce(address: IpAddr, interface: &str) -> Result<(), String> {
    let failed = |why: std::io::Error| format!("{address} cannot be announced: {why}");
    // Loopback, for one, has no neighbours.
    let Some(own) = link::hardware_address(interface).map_err(failed)? else { return Ok(()) };
    let frame = match address {
        IpAddr::V4(address) => gratuitous_arp(own, address),
        IpAddr::V6(address) => unsolicited_advertisement(own, address),
    };
    for round in 0..ANNOUNCEMENTS {
        link::send_frame(interface, &frame).map_err(failed)?;
        if round + 1 < ANNOUNCEMENTS {
            tokio::time::sleep(BETWEEN).await;
        }
    }
    Ok(())
}

/// An ARP request for the address by its owner: understood by more neighbours than a reply.
fn gratuitous_arp(own: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = [BROADCAST, own].concat();
    // ARP; Ethernet, IPv4, lengths 6 and 4, request.
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend(own);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// To all nodes, with the override flag: who had the address before is to be forgotten.
fn unsolicited_advertisement(own: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    const NEXT_HEADER: u8 = 58;
    const HOP_LIMIT: u8 = 255;
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    // Target link-layer address, in units of eight bytes.
    message.extend([2, 1]);
    message.extend(own);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut pseudo = [address.octets(), all_nodes.octets()].concat();
    pseudo.extend(u32::from(length).to_be_bytes());
    pseudo.extend([0, 0, 0, NEXT_HEADER]);
    pseudo.extend(&message);
    let sum = echo::checksum(&pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [ALL_NODES, own].concat();
    frame.extend([0x86, 0xDD, 0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([NEXT_HEADER, HOP_LIMIT]);
    frame.extend(address.octets());
    frame.extend(all_nodes.octets());
    frame.extend(message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 9];

    #[test]
    fn arp_names_the_address_as_senders_and_targets() {
        let frame = gratuitous_arp(OWN, Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(frame.len(), 42);
        assert_eq!(
            (&frame[..6], &frame[6..12], &frame[12..14]),
            (&[0xFF; 6][..], &OWN[..], &[8, 6][..])
        );
        assert_eq!(
            (&frame[22..28], &frame[28..32], &frame[38..]),
            (&OWN[..], &[10, 0, 0, 9][..], &[10, 0, 0, 9][..])
        );
    }

    #[test]
    fn an_advertisement_has_a_checksum_that_sums_up() {
        let address: Ipv6Addr = "fd00::9".parse().unwrap();
        let frame = unsolicited_advertisement(OWN, address);
        assert_eq!(frame.len(), 14 + 40 + 32);
        let mut pseudo = frame[22..54].to_vec();
        pseudo.extend([0, 0, 0, 32, 0, 0, 0, 58]);
        pseudo.extend(&frame[54..]);
        assert_eq!(echo::checksum(&pseudo), 0);
        assert_eq!(frame[54..56], [136, 0]);
    }

    #[test]
    fn the_lines_of_ip_are_read() {
        let said = "2: eth0    inet 10.0.0.9/24 scope global eth0\\       valid_lft forever\n";
        assert!(has(said, "10.0.0.9".parse().unwrap()));
        assert!(!has(said, "10.0.0.90".parse().unwrap()) && !has("", "10.0.0.9".parse().unwrap()));
    }
}
