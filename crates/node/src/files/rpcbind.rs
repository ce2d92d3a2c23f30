//! Tells this machine's rpcbind which port NFS and MOUNT are on, for clients that ask it: those of
//! NFSv3 that are given no port, and `showmount`.
//!
//! Where none runs, one is looked for again, and one that was started anew is told again. What
//! another server has said stays, unless nobody listens there any more: it is that server's.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use env::posix::listeners;
use nfs::rpc::record::{Records, mark};
use nfs::rpc::{Accepted, Call, Reply, ReplyBody};
use nfs::rpcbind::{self, Mapping};
use nfs::xdr::{Reader, Xdr};

use super::connection::lock;

/// Where rpcbind listens for programs of the machine, whose user the kernel tells it.
pub(super) const USUAL: &str = "/run/rpcbind.sock";
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks whether what was told is still known.
const PAUSE: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 4096;

/// Keeps rpcbind told until it is ended.
pub(super) struct Told {
    ending: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Told {
    /// # Errors
    /// No thread is to be had.
    pub(super) fn start(path: &Path, portals: &[SocketAddr]) -> Result<Self> {
        let (path, wanted) = (path.to_owned(), rpcbind::mappings(portals));
        let ending = Arc::new((Mutex::new(false), Condvar::new()));
        let mut thread = None;
        if !wanted.is_empty() {
            let ending = Arc::clone(&ending);
            let name = "files-rpcbind".to_owned();
            let run = move || keep(&path, &wanted, &ending);
            thread = Some(std::thread::Builder::new().name(name).spawn(run)?);
        }
        Ok(Self { ending, thread })
    }

    /// Takes back what was told.
    pub(super) fn end(mut self) {
        *lock(&self.ending.0) = true;
        self.ending.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(path: &Path, wanted: &[Mapping], ending: &(Mutex<bool>, Condvar)) {
    let mut ours: Vec<&Mapping> = Vec::new();
    let mut refused = false;
    loop {
        let found = tell(path, wanted);
        if let Ok(told) = found {
            if told.len() < wanted.len() && !refused {
                let why = "rpcbind knows another NFS server: clients must be told the port";
                tracing::warn!("{why}");
            }
            refused = told.len() < wanted.len();
            ours = told;
        }
        let wait = ending.1.wait_timeout_while(lock(&ending.0), PAUSE, |ends| !*ends);
        if *wait.unwrap_or_else(PoisonError::into_inner).0 {
            break;
        }
    }
    for mapping in ours {
        let _ = ask(path, &rpcbind::unset(mapping));
    }
}

/// Those that rpcbind knows now.
fn tell<'a>(path: &Path, wanted: &'a [Mapping]) -> Result<Vec<&'a Mapping>> {
    let mut told = Vec::new();
    for mapping in wanted {
        let set = || rpcbind::done(&mut ask(path, &rpcbind::set(mapping))?).map_err(Error::other);
        if set()? || (is_stale(path, mapping)? && set()?) {
            told.push(mapping);
        }
    }
    Ok(told)
}

/// Whether what is known in a mapping's place is of a server that is gone; it is ended then.
fn is_stale(path: &Path, mapping: &Mapping) -> Result<bool> {
    let address = Bytes::read(&mut ask(path, &rpcbind::ask(mapping))?).map_err(Error::other)?;
    let Some(port) = Mapping::port_of(&address) else { return Ok(false) };
    // Whoever listens at one address alone may have told that it does at all of them.
    let gone = !listeners::is_listened_on(port)?;
    Ok(gone && rpcbind::done(&mut ask(path, &rpcbind::unset(mapping))?).map_err(Error::other)?)
}

/// One call and its results.
fn ask(path: &Path, call: &Call) -> Result<Reader> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let record = call.clone().encode();
    let mark = mark(std::slice::from_ref(&record)).map_err(Error::other)?;
    socket.write_all(&[&mark[..], &record].concat())?;
    let (mut records, mut input) = (Records::new(ANSWER_BYTES_MAX), BytesMut::new());
    let mut piece = [0; ANSWER_BYTES_MAX];
    let record = loop {
        if let Some(record) = records.take(&mut input).map_err(Error::other)? {
            break record;
        }
        match socket.read(&mut piece)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => input.extend_from_slice(&piece[..count]),
        }
    };
    let mut reader = Reader::new(record);
    let reply = Reply::read(&mut reader).map_err(Error::other)?;
    let is_success = reply.body == ReplyBody::Accepted(Accepted::Success);
    if is_success { Ok(reader) } else { Err(Error::other(format!("{:?}", reply.body))) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixListener;

    use nfs::xdr::{Writer, from_bytes};

    use super::*;

    /// Programs and versions, and the addresses that are known of them.
    type Known = Arc<Mutex<BTreeMap<(u32, u32, Bytes), Bytes>>>;

    /// What rpcbind does, as far as it is asked.
    fn answer(known: &Known, call: &Call) -> Writer {
        let mapping: Mapping = from_bytes(call.arguments.clone()).unwrap();
        let key = (mapping.program, mapping.version, mapping.network.clone());
        let (mut known, mut results) = (lock(known), Writer::default());
        match call.procedure {
            1 => {
                let address = mapping.address;
                results.put(&(known.entry(key).or_insert_with(|| address.clone()) == &address));
            }
            2 => results.put(&known.remove(&key).is_some()),
            _ => results.put(&known.get(&key).cloned().unwrap_or_default()),
        }
        results
    }

    fn serve(listener: &UnixListener, known: &Known) {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut head = [0; 4];
            // Nobody who only looks whether the place is there.
            if socket.read_exact(&mut head).is_err() {
                continue;
            }
            let mut record = vec![0; (u32::from_be_bytes(head) & !(1 << 31)) as usize];
            socket.read_exact(&mut record).unwrap();
            let call = Call::decode(record.into()).unwrap();
            assert_eq!((call.program, call.version), (100_000, 4));
            let mut reply = Writer::default();
            reply.put(&Reply::accepted(call.xid, Accepted::Success));
            reply.append(answer(known, &call));
            let reply = reply.into_bytes();
            let mark = mark(std::slice::from_ref(&reply)).unwrap();
            socket.write_all(&[&mark[..], &reply].concat()).unwrap();
        }
    }

    fn until(known: &Known, so: impl Fn(&BTreeMap<(u32, u32, Bytes), Bytes>) -> bool) {
        for _ in 0..500 {
            if so(&lock(known)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{:?}", lock(known));
    }

    #[test]
    fn rpcbind_is_told_and_what_another_server_said_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let known = Known::default();
        let theirs = Arc::clone(&known);
        std::thread::spawn(move || serve(&listener, &theirs));
        // MOUNT is of a server that is gone, NFSv3 of one that is there, and NFSv4 of one that is
        // at a single address.
        let lives = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let apart = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = |listener: &std::net::TcpListener| {
            let [high, low] = listener.local_addr().unwrap().port().to_be_bytes();
            Bytes::from(format!("0.0.0.0.{high}.{low}"))
        };
        let tcp = Bytes::from_static(b"tcp");
        let other = address(&lives);
        lock(&known).insert((100_003, 3, tcp.clone()), other.clone());
        lock(&known).insert((100_003, 4, tcp.clone()), address(&apart));
        lock(&known).insert((100_005, 3, tcp.clone()), address(&gone));
        drop(gone);
        let told = Told::start(&path, &["192.0.2.1:2049".parse().unwrap()]).unwrap();
        let ours = Bytes::from_static(b"0.0.0.0.8.1");
        until(&known, |known| known.values().any(|at| **at == ours));
        assert_eq!(lock(&known)[&(100_003, 3, tcp.clone())], other);
        assert_eq!(lock(&known)[&(100_003, 4, tcp.clone())], address(&apart));
        assert_eq!(lock(&known)[&(100_005, 3, tcp.clone())], ours);
        told.end();
        let left: Vec<_> = lock(&known).keys().map(|key| (key.0, key.1)).collect();
        assert_eq!(left, [(100_003, 3), (100_003, 4)], "what is not ours stays, and nothing else");
    }

    #[test]
    fn where_no_rpcbind_runs_nobody_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none");
        let told = Told::start(&path, &["192.0.2.1:2049".parse().unwrap()]).unwrap();
        told.end();
        let none = Told::start(&path, &["127.0.0.1:2049".parse().unwrap()]).unwrap();
        assert!(none.thread.is_none());
        none.end();
    }
}
