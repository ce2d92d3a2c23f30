//! A client of version 4.1 that goes on whatever happens to the server.
//!
//! ```text
//!               connection ends: the same requests again, on the same slots, with the same numbers
//!             .---------------------------------------------------------------------.
//!             v                                                                     |
//!   absent --EXCHANGE_ID, CREATE_SESSION, reclaims, RECLAIM_COMPLETE--> settled --requests--> replies
//!      ^                                                                  |
//!      '-------------- NFS4ERR_BADSESSION: the server has restarted ------'
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;
use host::files::{
    Compound, FileClient, FilesError, Identity, LockRange, LockType, Opening, Results, Stable,
    Stateid, StateidOf, Wire,
};
use nfs::v4::Status;

/// Requests of one client that are under way at once.
pub const SLOTS: usize = 4;
/// A client that has got nowhere for so long has found a fault.
const PATIENCE: Duration = Duration::from_secs(100);

/// What a COMPOUND was answered: the last operation's status, and the results behind SEQUENCE's.
#[derive(Debug)]
pub struct Reply {
    pub status: Status,
    pub results: Results,
    /// An earlier start of the server was sent the same, and may have done it.
    pub again: bool,
}

impl Reply {
    /// The results behind so many operations that only move, which must have succeeded.
    pub fn behind(&mut self, moves: usize) -> &mut Results {
        self.results.moved(moves).unwrap()
    }
}

/// A range of bytes and the stateid of its lock.
#[derive(Clone, Debug)]
pub struct Locked {
    pub owner: String,
    pub range: (u64, u64),
    pub stateid: Stateid,
}

/// A file that is open, with the locks on it.
#[derive(Clone, Debug)]
pub struct Opened {
    pub handle: Bytes,
    pub stateid: Stateid,
    pub locks: Vec<Locked>,
}

/// What is asked of the server, in words that outlive its restart.
#[derive(Clone, Debug)]
pub enum Request {
    /// Of the opened file of this number.
    Write {
        file: usize,
        offset: u64,
        stable: Stable,
        data: Bytes,
    },
    Read {
        file: usize,
        offset: u64,
        count: u32,
    },
    Commit {
        file: usize,
    },
    /// A new file, which is closed at once.
    Create {
        directory: Bytes,
        name: Bytes,
    },
    Remove {
        directory: Bytes,
        name: Bytes,
    },
    Rename {
        directory: Bytes,
        from: Bytes,
        to: Bytes,
    },
    /// Names of a directory, from a cookie on.
    List {
        directory: Bytes,
        cookie: u64,
    },
    Open {
        directory: Bytes,
        name: Bytes,
    },
    Lock {
        file: usize,
        owner: String,
        range: (u64, u64),
    },
    /// From a handle on, or from the server's root.
    Lookup {
        from: Option<Bytes>,
        path: Vec<Bytes>,
    },
    /// The directory above.
    Parent {
        of: Bytes,
    },
}

/// Why requests have no answer yet.
#[derive(Debug)]
enum Fault {
    Broken,
    Session,
}

impl Fault {
    /// Of a request in a session.
    fn of(error: FilesError) -> Self {
        match error {
            FilesError::Lost(_) | FilesError::Unreachable { .. } => Self::Broken,
            error if error.status() == Some(Status::BadSession) => Self::Session,
            error => panic!("{error}"),
        }
    }
    /// Of a request for a session.
    fn of_beginning(error: FilesError) -> Self {
        match error {
            FilesError::Refused(_) => Self::Broken,
            FilesError::Status { status: Status::Delay | Status::StaleClientid, .. } => {
                Self::Session
            }
            error => Self::of(error),
        }
    }
}

pub struct Client {
    client: FileClient,
    name: String,
    has_session: bool,
    pub opened: Vec<Opened>,
    /// Sessions that it has had.
    pub sessions: u32,
    /// How long it waits before it says that all is reclaimed.
    pub dawdles: Duration,
    /// When it last began and ended to say so.
    pub reclaimed: Option<(Instant, Instant)>,
}

impl Client {
    pub fn new(wire: Wire, name: &str) -> Self {
        let slots = SLOTS.try_into().unwrap();
        Self {
            client: FileClient::new(wire, Identity::named(name), slots),
            name: name.to_owned(),
            has_session: false,
            opened: Vec::new(),
            sessions: 0,
            dawdles: Duration::ZERO,
            reclaimed: None,
        }
    }

    /// Asks all of these at once, at most [`SLOTS`], and again until each has its answer. A single
    /// request for new state that comes during the grace is asked again too.
    pub fn ask(&mut self, requests: &[Request]) -> Vec<Reply> {
        let end = Instant::now() + PATIENCE;
        loop {
            let replies = self.ask_once(requests, false);
            if !replies.iter().any(|reply| reply.status == Status::Grace) {
                return replies;
            }
            assert!(requests.len() == 1, "only one request at a time may have to wait");
            assert!(Instant::now() < end, "the grace does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// As [`Self::ask`], without waiting for the end of the grace; may lose the connection on
    /// purpose when all is sent.
    pub fn ask_once(&mut self, requests: &[Request], mut hangs_up: bool) -> Vec<Reply> {
        assert!(requests.len() <= SLOTS);
        let mut replies: Vec<Option<Reply>> = requests.iter().map(|_| None).collect();
        let mut sent_in: Vec<Option<u32>> = vec![None; requests.len()];
        let end = Instant::now() + PATIENCE;
        while replies.iter().any(Option::is_none) {
            assert!(Instant::now() < end, "no answer to {requests:?}");
            match self.try_all(requests, &mut replies, &mut sent_in, &mut hangs_up) {
                Ok(()) => {}
                Err(Fault::Broken) => {
                    self.client.hang_up();
                    std::thread::sleep(Duration::from_millis(3));
                }
                Err(Fault::Session) => {
                    // What else was asked in it is answered alike: nobody waits for that.
                    self.client.hang_up();
                    self.has_session = false;
                }
            }
        }
        replies.into_iter().flatten().collect()
    }

    fn try_all(
        &mut self,
        requests: &[Request],
        replies: &mut [Option<Reply>],
        sent_in: &mut [Option<u32>],
        hangs_up: &mut bool,
    ) -> Result<(), Fault> {
        self.settle()?;
        let mut waiting = 0;
        for slot in (0..requests.len()).filter(|slot| replies[*slot].is_none()) {
            let compound = self.operations(&requests[slot]);
            self.client.send(slot, compound).map_err(Fault::of)?;
            sent_in[slot].get_or_insert(self.sessions);
            waiting += 1;
        }
        if std::mem::take(hangs_up) {
            self.client.flush().map_err(Fault::of)?;
            self.client.hang_up();
            return Ok(());
        }
        for _ in 0..waiting {
            let (slot, reply) = self.receive()?;
            if let Some(mut reply) = reply {
                reply.again = sent_in[slot] != Some(self.sessions);
                replies[slot] = Some(reply);
            }
        }
        Ok(())
    }

    /// The next reply and its slot; none when the same is to be asked again.
    fn receive(&mut self) -> Result<(usize, Option<Reply>), Fault> {
        let (slot, results) = self.client.receive_or_again().map_err(Fault::of)?;
        if results.is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let reply = |results: Results| Reply { status: results.status(), results, again: false };
        Ok((slot, results.map(reply)))
    }

    /// One request of the recovery itself.
    fn step(&mut self, compound: impl Fn() -> Compound) -> Result<Reply, Fault> {
        loop {
            self.client.send(0, compound()).map_err(Fault::of)?;
            if let (_, Some(reply)) = self.receive()? {
                return Ok(reply);
            }
        }
    }

    /// Has a session, with all that was open and locked.
    fn settle(&mut self) -> Result<(), Fault> {
        if self.has_session {
            return Ok(());
        }
        self.client.begin_session().map_err(Fault::of_beginning)?;
        assert_eq!(self.client.slots(), SLOTS);
        self.sessions += 1;
        // Begun again as a whole when it breaks off: a reclaim that was answered is answered alike
        // again.
        self.reclaim()?;
        self.has_session = true;
        Ok(())
    }

    /// Everything that was held, and then that this was all.
    fn reclaim(&mut self) -> Result<(), Fault> {
        for number in 0..self.opened.len() {
            let handle = self.opened[number].handle.clone();
            let opener = self.client.owner(&self.name);
            let mut reply = self.step(|| Compound::new().file(&handle).reclaim_open(&opener))?;
            self.opened[number].stateid = reply.behind(1).open().unwrap();
            for lock in 0..self.opened[number].locks.len() {
                let Locked { owner, range, .. } = self.opened[number].locks[lock].clone();
                let open = self.opened[number].stateid.clone();
                let owner = self.client.owner(&owner);
                let (file, range) = (|| Compound::new().file(&handle), lock_range(range, true));
                let mut reply = self.step(|| file().lock(&range, &open, &owner))?;
                let stateid = reply.behind(1).stateid(StateidOf::Lock).unwrap();
                self.opened[number].locks[lock].stateid = stateid;
            }
        }
        std::thread::sleep(self.dawdles);
        let begins = Instant::now();
        let status = self.step(Compound::reclaim_complete)?.status;
        assert!(matches!(status, Status::Ok | Status::CompleteAlready), "{status:?}");
        self.reclaimed = Some((begins, Instant::now()));
        Ok(())
    }

    fn operations(&self, request: &Request) -> Compound {
        let file = |number: &usize| Compound::new().file(&self.opened[*number].handle);
        let stateid = |number: &usize| &self.opened[*number].stateid;
        // Whose all opens are.
        let opener = self.client.owner(&self.name);
        match request {
            Request::Write { file: number, offset, stable, data } => {
                file(number).write(stateid(number), *offset, *stable, data)
            }
            Request::Read { file: number, offset, count } => {
                file(number).read(stateid(number), *offset, *count)
            }
            Request::Commit { file: number } => file(number).commit(0, 0),
            Request::Create { directory, name } => Compound::new()
                .file(directory)
                .open(&opener, name, Opening::New(0o666))
                .close(&Stateid::CURRENT),
            Request::Remove { directory, name } => Compound::new().file(directory).remove(name),
            Request::Rename { directory, from, to } => {
                Compound::new().file(directory).save().rename(from, to)
            }
            Request::List { directory, cookie } => {
                Compound::new().file(directory).readdir(*cookie, [0; 8], 32 << 10)
            }
            Request::Open { directory, name } => Compound::new()
                .file(directory)
                .open(&opener, name, Opening::OrCreate(0o666))
                .handle(),
            Request::Lock { file: number, owner, range } => {
                let range = lock_range(*range, false);
                file(number).lock(&range, stateid(number), &self.client.owner(owner))
            }
            Request::Lookup { from, path } => {
                let compound = Compound::new();
                let compound = match from {
                    Some(handle) => compound.file(handle),
                    None => compound.root(),
                };
                path.iter().fold(compound, |compound, name| compound.lookup(name)).handle()
            }
            Request::Parent { of } => Compound::new().file(of).parent().handle(),
        }
    }

    /// One request.
    pub fn one(&mut self, request: Request) -> Reply {
        self.ask(&[request]).remove(0)
    }

    /// The handle of a path from the server's root.
    pub fn find(&mut self, path: &[&str]) -> Result<Bytes, Status> {
        let names: Vec<_> = path.iter().map(|name| name.as_bytes()).collect();
        self.look_up(None, &names)
    }

    /// The handle of a path from a directory on.
    pub fn find_from(&mut self, directory: &Bytes, path: &[&[u8]]) -> Result<Bytes, Status> {
        self.look_up(Some(directory.clone()), path)
    }

    fn look_up(&mut self, from: Option<Bytes>, names: &[&[u8]]) -> Result<Bytes, Status> {
        let path = names.iter().map(|name| Bytes::copy_from_slice(name)).collect();
        self.handle(Request::Lookup { from, path }, 1 + names.len())
    }

    /// The directory above.
    pub fn parent(&mut self, of: &Bytes) -> Result<Bytes, Status> {
        self.handle(Request::Parent { of: of.clone() }, 2)
    }

    /// Whether a handle may be the current one.
    pub fn enter(&mut self, handle: &Bytes) -> Status {
        self.look_up(Some(handle.clone()), &[]).err().unwrap_or(Status::Ok)
    }

    fn handle(&mut self, request: Request, moves: usize) -> Result<Bytes, Status> {
        let mut reply = self.one(request);
        let is_there = reply.status == Status::Ok;
        if is_there { Ok(reply.behind(moves).handle().unwrap()) } else { Err(reply.status) }
    }

    /// Opens a file, which is made when it is not there; its number.
    pub fn open(&mut self, directory: &Bytes, name: &[u8]) -> usize {
        let (directory, name) = (directory.clone(), Bytes::copy_from_slice(name));
        let mut reply = self.one(Request::Open { directory, name });
        let stateid = reply.behind(1).open().unwrap();
        let handle = reply.results.handle().unwrap();
        self.opened.push(Opened { handle, stateid, locks: Vec::new() });
        self.opened.len() - 1
    }

    /// Tries for an exclusive lock; what came of it.
    pub fn lock(&mut self, file: usize, owner: &str, range: (u64, u64)) -> Status {
        let owner = owner.to_owned();
        let request = Request::Lock { file, owner: owner.clone(), range };
        let mut reply = self.ask_once(&[request], false).remove(0);
        if reply.status == Status::Ok {
            let stateid = reply.behind(1).stateid(StateidOf::Lock).unwrap();
            self.opened[file].locks.push(Locked { owner, range, stateid });
        }
        reply.status
    }
}

/// Offset and bytes of an exclusive lock.
fn lock_range((offset, bytes): (u64, u64), reclaim: bool) -> LockRange {
    LockRange { kind: LockType::Write, reclaim, offset, bytes }
}
