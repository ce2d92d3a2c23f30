//! Who takes connections, as the kernel tells it. A program of its own, without another test: what
//! starts a child process has its descriptors copied into it until that executes, so that a socket
//! which was closed here would still listen there for a moment.

use std::net::{TcpListener, TcpStream};

use env::posix::listeners::is_listened_on;

#[test]
fn who_listens_at_any_address_is_found_and_who_is_connected_is_not() {
    for address in ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0", "0.0.0.0:0"] {
        // Where there is no IPv6, nobody listens on it.
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let port = listener.local_addr().unwrap().port();
        assert!(is_listened_on(port).unwrap(), "{address}");
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _far = listener.accept().unwrap();
        drop(listener);
        assert!(!is_listened_on(near.local_addr().unwrap().port()).unwrap());
        assert!(!is_listened_on(port).unwrap(), "{address}");
    }
}
