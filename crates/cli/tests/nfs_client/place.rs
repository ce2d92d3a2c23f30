//! A service with a file volume, and where its clients find it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::service::Service;

/// Where a service's NFS portal is: on an address of loopback that is this process's own, so that
/// nobody takes the port while the service is down.
pub fn portal(number: u8) -> SocketAddr {
    let pid = std::process::id();
    let [.., high, low] = pid.to_be_bytes();
    (Ipv4Addr::new(127, 100 + number, high, low), 2049).into()
}

/// Opening files by handle needs root, and so does acting as one's callers.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: file volumes are served by root alone");
    }
    root
}

/// A pool of the driver `dir` in the service's own directory.
pub fn make_pool(service: &Service) {
    let path = service.path("files");
    std::fs::create_dir_all(&path).unwrap();
    let path = path.to_str().unwrap();
    service
        .json(&["pool", "create", "files", "--class", "file", "--driver", "dir", "--path", path]);
}

/// An address of loopback that is not the usual one.
pub fn stranger() -> IpAddr {
    Ipv4Addr::new(127, 99, 0, 1).into()
}
