//! Network interfaces: their hardware address, and frames that go out as they are.
//!
//! Entry points: [`hardware_address`], [`send_frame`].

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The Ethernet address of an interface; `None` for one that has none, such as loopback.
///
/// # Errors
/// There is no such interface.
pub fn hardware_address(interface: &str) -> io::Result<Option<[u8; 6]>> {
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/address"))?;
    let mut address = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut address {
        let part = parts.next().and_then(|part| u8::from_str_radix(part, 16).ok());
        let Some(part) = part else { return Ok(None) };
        *byte = part;
    }
    Ok((parts.next().is_none() && address != [0; 6]).then_some(address))
}

/// Send an Ethernet frame, header included.
///
/// # Errors
/// There is no such interface, or no CAP_NET_RAW.
pub fn send_frame(interface: &str, frame: &[u8]) -> io::Result<()> {
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
    let index: libc::c_int = text.trim().parse().map_err(io::Error::other)?;
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed; the descriptor is checked before it is owned.
    let socket = unsafe {
        let descriptor = libc::socket(libc::AF_PACKET, kind, 0);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(descriptor)
    };
    // SAFETY: zeros are a valid sockaddr_ll.
    let mut to: libc::sockaddr_ll = unsafe { mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    to.sll_ifindex = index;
    to.sll_halen = 6;
    let target = frame.get(..6).ok_or(io::ErrorKind::InvalidInput)?;
    to.sll_addr[..6].copy_from_slice(target);
    let length = libc::socklen_t::try_from(mem::size_of::<libc::sockaddr_ll>());
    // SAFETY: frame and address outlive the call, with their true lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            length.map_err(io::Error::other)?,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
