//! Sockets that outlive a program: it is replaced by another in the same process, which goes on
//! listening where it has.

// A number is made a descriptor again.
#![allow(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Lets the next program of this process have a socket; its number there.
///
/// # Errors
/// What the kernel does not allow.
pub fn keep(socket: &TcpListener) -> io::Result<RawFd> {
    let flags = fcntl_getfd(socket)?;
    fcntl_setfd(socket, flags.difference(FdFlags::CLOEXEC))?;
    Ok(socket.as_raw_fd())
}

/// A socket that the program before has kept, which is no other's from now on. To be called once
/// for each number, before anything else can have been opened under it.
///
/// # Errors
/// There is no listening socket of that number.
pub fn adopt(number: RawFd) -> io::Result<TcpListener> {
    if number < 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: it is only looked at; the kernel answers EBADF for a number that nothing has.
    let seen = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(seen)?;
    if !rustix::net::sockopt::socket_acceptconn(seen)? {
        return Err(io::Error::other(format!("descriptor {number} is no listening socket")));
    }
    // SAFETY: it is open, as was just seen; by the word of the caller nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(socket.as_fd(), flags.union(FdFlags::CLOEXEC))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn a_kept_socket_goes_on_listening_under_its_number_and_nothing_else_is_taken() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let number = keep(&first).unwrap();
        assert!(!fcntl_getfd(&first).unwrap().contains(FdFlags::CLOEXEC));
        // As the process is when it has been replaced: nobody owns the number.
        assert_eq!(first.into_raw_fd(), number);
        let client = std::net::TcpStream::connect(address).unwrap();
        let second = adopt(number).unwrap();
        assert!(fcntl_getfd(&second).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(second.accept().unwrap().1, client.local_addr().unwrap());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(adopt(file.as_raw_fd()).is_err(), "a file is no socket");
        assert!(adopt(client.as_raw_fd()).is_err(), "a connection does not listen");
        assert!(adopt(1 << 20).is_err() && adopt(-1).is_err());
    }
}
