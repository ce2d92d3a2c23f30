//! The listening sockets of a process: bound, or taken over from the program before, and kept for
//! the one that comes after. Who connects while one program takes another's place waits in the
//! kernel's queue and is refused by nobody.
//!
//! Entry points: [`Sockets::listen`], [`Sockets::take`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::portal;

/// What a socket is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The REST API.
    Api,
    /// The metrics of a node of its own.
    Metrics,
    /// iSCSI.
    Block,
    /// NFS.
    Files,
}

/// A socket, and for what and where it was asked for: with port 0 it listens elsewhere.
#[derive(Debug)]
pub struct Kept {
    pub purpose: Purpose,
    pub asked: SocketAddr,
    pub listener: TcpListener,
}

#[derive(Default, Debug)]
struct Desk {
    /// From the program before.
    came: Vec<Kept>,
    /// For the one after.
    kept: Vec<Kept>,
}

impl Desk {
    /// A new one. What the program before has left goes when it stands in the way: it was asked for
    /// by other words, as the wildcard where one address was.
    fn open(&mut self, asked: SocketAddr) -> io::Result<TcpListener> {
        match portal::listen(asked) {
            Err(why) if why.kind() == io::ErrorKind::AddrInUse => {
                let port = |one: &Kept| one.listener.local_addr().map(|at| at.port());
                self.came.retain(|one| port(one).is_ok_and(|port| port != asked.port()));
                portal::listen(asked)
            }
            done => done,
        }
    }
}

/// All of a process. Cheap to clone; all clones are one.
#[derive(Clone, Default, Debug)]
pub struct Sockets(Arc<Mutex<Desk>>);

impl Sockets {
    /// With what the program before has left.
    #[must_use]
    pub fn after(came: Vec<Kept>) -> Self {
        Self(Arc::new(Mutex::new(Desk { came, kept: Vec::new() })))
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().expect("no panic while the lock is held")
    }

    /// Whether the program before has left one for this address.
    #[must_use]
    pub fn has(&self, purpose: Purpose, asked: SocketAddr) -> bool {
        self.desk().came.iter().any(|one| (one.purpose, one.asked) == (purpose, asked))
    }

    /// A socket that listens there: that of the program before, or a new one.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn listen(&self, purpose: Purpose, asked: SocketAddr) -> io::Result<TcpListener> {
        let mut desk = self.desk();
        let mine = |one: &Kept| (one.purpose, one.asked) == (purpose, asked);
        let listener = match desk.came.iter().position(mine) {
            Some(at) => desk.came.remove(at).listener,
            None => desk.open(asked)?,
        };
        let copy = listener.try_clone()?;
        desk.kept.push(Kept { purpose, asked, listener: copy });
        Ok(listener)
    }

    /// Whether a new one could listen there.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn try_listen(&self, asked: SocketAddr) -> io::Result<()> {
        self.desk().open(asked).map(drop)
    }

    /// Everything listens that is to: what else the program before has left is closed.
    pub fn settle(&self) {
        self.desk().came.clear();
    }

    /// Nobody comes after: each socket ends with who listens on it.
    pub fn close(&self) {
        self.desk().kept.clear();
    }

    /// What is kept, for the program that comes after.
    #[must_use]
    pub fn take(&self) -> Vec<Kept> {
        std::mem::take(&mut self.desk().kept)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn a_portal_that_was_changed_before_an_upgrade_is_not_refused_by_what_the_old_one_left() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let first = Sockets::default();
        let ours = first.listen(Purpose::Files, any).unwrap().local_addr().unwrap();
        let other = first.listen(Purpose::Block, any).unwrap().local_addr().unwrap();
        let second = Sockets::after(first.take());
        let wide = SocketAddr::from((Ipv4Addr::UNSPECIFIED, ours.port()));
        second.try_listen(wide).unwrap();
        let listener = second.listen(Purpose::Files, wide).unwrap();
        assert_eq!(listener.local_addr().unwrap(), wide);
        assert!(second.has(Purpose::Block, any), "the other is not in the way");
        assert!(TcpStream::connect(other).is_ok());
        // What somebody else has stays theirs.
        let held = TcpListener::bind(any).unwrap();
        let refused = second.listen(Purpose::Api, held.local_addr().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn who_connects_between_two_programs_waits_for_the_second() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let first = Sockets::default();
        let listeners = [Purpose::Block, Purpose::Block, Purpose::Files]
            .map(|purpose| first.listen(purpose, any).unwrap());
        let at = listeners.each_ref().map(|one| one.local_addr().unwrap());
        drop(listeners);
        let waiting = TcpStream::connect(at[1]).unwrap();
        let second = Sockets::after(first.take());
        assert!(second.has(Purpose::Files, any) && !second.has(Purpose::Api, any));
        let again =
            [Purpose::Block, Purpose::Block].map(|purpose| second.listen(purpose, any).unwrap());
        assert_eq!(again.each_ref().map(|one| one.local_addr().unwrap()), at[..2]);
        again[1].set_nonblocking(false).unwrap();
        assert_eq!(again[1].accept().unwrap().1, waiting.local_addr().unwrap());
        second.settle();
        assert!(TcpStream::connect(at[2]).is_err(), "nobody wanted it any more");
        second.close();
        drop(again);
        assert!(TcpStream::connect(at[0]).is_err());
    }
}
