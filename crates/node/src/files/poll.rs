//! Readiness of sockets, for many threads at once: each event goes to one of them, and is off
//! until somebody arms it again.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::io::Errno;

/// What a socket is watched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Interest {
    pub read: bool,
    pub write: bool,
}

impl Interest {
    pub(super) const READ: Self = Self { read: true, write: false };

    fn flags(self) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::ONESHOT;
        flags.set(epoll::EventFlags::IN | epoll::EventFlags::RDHUP, self.read);
        flags.set(epoll::EventFlags::OUT, self.write);
        flags
    }
}

/// What is the matter with a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    /// The connection is broken in both directions.
    pub broken: bool,
}

/// What waiting for all sockets found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Event(Event),
    /// A stroke of the bell.
    Bell,
}

/// The token of the bell.
const BELL: u64 = u64::MAX;
/// What is added to its counter: not zero, in any order of bytes.
const STROKE: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];

#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    bell: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // By edges: each stroke of the bell wakes one thread, and nobody has to read it.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(BELL), flags)?;
        Ok(Self { epoll, bell })
    }

    /// Watches a socket from now on.
    pub(super) fn add(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, socket, data, interest.flags())?)
    }

    /// Arms a watched socket again.
    pub(super) fn arm(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::modify(&self.epoll, socket, data, interest.flags())?)
    }

    /// Wakes one thread that waits, or the next one that would.
    pub(super) fn ring(&self) {
        // Nobody reads the counter: one that is about to overflow is emptied.
        if rustix::io::write(&self.bell, &STROKE).is_err() {
            let _ = rustix::io::read(&self.bell, &mut [0; 8]);
            let _ = rustix::io::write(&self.bell, &STROKE);
        }
    }

    /// Waits for one event.
    pub(super) fn wait(&self) -> io::Result<Found> {
        let mut room = [MaybeUninit::<epoll::Event>::uninit(); 1];
        let event = loop {
            match epoll::wait(&self.epoll, &mut room, None) {
                Ok((&mut [event], _)) => break event,
                Ok(_) | Err(Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        };
        let (token, flags) = (event.data.u64(), event.flags);
        if token == BELL {
            return Ok(Found::Bell);
        }
        let has = |wanted| flags.intersects(wanted);
        Ok(Found::Event(Event {
            token,
            readable: has(epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
            writable: has(epoll::EventFlags::OUT),
            broken: has(epoll::EventFlags::ERR | epoll::EventFlags::HUP),
        }))
    }
    /// Whether there is an event, which stays for who asks for it.
    pub(super) fn is_ready(&self) -> bool {
        let mut asked = [PollFd::new(&self.epoll, PollFlags::IN)];
        poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_event_comes_once_for_each_time_that_it_is_armed() {
        let poller = Poller::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        near.write_all(b"x").unwrap();
        poller.add(&far, 7, Interest::READ).unwrap();
        let mut event = Event { token: 7, readable: true, writable: false, broken: false };
        assert!(poller.is_ready() && poller.is_ready());
        assert_eq!(poller.wait().unwrap(), Found::Event(event));
        // The byte is still there, but nobody asked again: only the bell wakes.
        assert!(!poller.is_ready());
        poller.ring();
        assert_eq!(poller.wait().unwrap(), Found::Bell);
        poller.arm(&far, 7, Interest { read: true, write: true }).unwrap();
        event.writable = true;
        assert_eq!(poller.wait().unwrap(), Found::Event(event));
    }
}
