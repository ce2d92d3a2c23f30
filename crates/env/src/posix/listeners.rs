//! Who takes TCP connections on this machine.

use std::io;

/// The state of a socket that takes connections (`TCP_LISTEN` of the kernel).
const LISTEN: &str = "0A";

/// Whether anybody takes connections on this port, at whichever address of the machine (proc(5),
/// `/proc/net/tcp` and `/proc/net/tcp6`).
///
/// # Errors
/// The kernel does not say.
pub fn is_listened_on(port: u16) -> io::Result<bool> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    // A machine without IPv6 has none of these.
    let table_six = match std::fs::read_to_string("/proc/net/tcp6") {
        Err(why) if why.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let mut sockets = table.lines().chain(table_six.lines());
    Ok(sockets.any(|socket| is_listener(socket, port)))
}

/// A line of the tables: number, local address, far address, state.
fn is_listener(socket: &str, port: u16) -> bool {
    let mut parts = socket.split_ascii_whitespace().skip(1);
    let local = parts.next().and_then(|address| address.rsplit_once(':'));
    let is_here = local.is_some_and(|(_, digits)| u16::from_str_radix(digits, 16) == Ok(port));
    is_here && parts.nth(1) == Some(LISTEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_socket_is_nobody() {
        for line in ["", "  sl  local_address rem_address   st", "0: 0100007F:0801", "0: x y 0A"] {
            assert!(!is_listener(line, 0x801), "{line}");
        }
        let line = "   1: 0100007F:0801 00000000:0000 0A 00000000:00000000 00:00000000";
        assert!(is_listener(line, 0x801) && !is_listener(line, 0x802));
    }
}
