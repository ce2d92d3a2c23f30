//! One connection: what it has sent, what of it runs, what it has not taken yet.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use nfs::handle::FileSystemId;

use super::input::Input;
use super::output::{Output, as_u64};
use super::pace::Pace;
use super::poll::{Interest, Poller};
use super::stay::Habit;
use super::{RECORD_BYTES_MAX, STRANGER_RECORD_BYTES_MAX, as_ms};

/// Calls of one connection that run at the same time: part of the threads is left to others.
pub(super) const RUNNING_MAX: usize = 32;

/// Bytes that all connections of a service hold together.
#[derive(Default, Debug)]
pub(super) struct Held(AtomicU64);

impl Held {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Who does what with a connection.
#[derive(Default)]
struct Desk {
    /// A thread reads, or runs what it has read: nobody else reads, and reading is not armed. The
    /// number is that thread's; one that was relieved finds another.
    reading: Option<u64>,
    next_reader: u64,
    /// There is no room to read more.
    paused: bool,
    wants_write: bool,
    /// Nothing is read any more.
    stopping: bool,
    closed: bool,
    /// Whole calls that nobody runs yet.
    queue: VecDeque<Bytes>,
    /// Calls of the queue that run.
    running: usize,
    /// It stands in the line of those that have something to run.
    listed: bool,
    pace: Pace,
    habit: Habit,
    /// When reading was last over, and how long after that it began again.
    rests_since: Duration,
    rested: Duration,
}

/// What a connection last called upon, so that it is noted once a second and not at each call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub file_system: FileSystemId,
    pub version: u32,
    pub at_ms: u64,
}

pub(super) struct Connection {
    pub token: u64,
    /// The index of the portal that it came through.
    pub portal: usize,
    pub peer: IpAddr,
    /// No export lets its peer in: it is told so until then, and ended.
    pub stranger_until_ms: Option<u64>,
    socket: TcpStream,
    desk: Mutex<Desk>,
    pub input: Mutex<Input>,
    output: Mutex<Output>,
    held: AtomicU64,
    all: Arc<Held>,
    /// When something was last received.
    heard_ms: AtomicU64,
    pub seen: Mutex<Option<Seen>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.held.load(Relaxed), Relaxed);
    }
}

impl Connection {
    pub(super) fn new(
        (token, portal): (u64, usize),
        (socket, peer): (TcpStream, IpAddr),
        stranger_until_ms: Option<u64>,
        all: Arc<Held>,
        now_ms: u64,
    ) -> Self {
        let is_stranger = stranger_until_ms.is_some();
        let record_bytes_max =
            if is_stranger { STRANGER_RECORD_BYTES_MAX } else { RECORD_BYTES_MAX };
        Self {
            token,
            portal,
            peer: peer.to_canonical(),
            stranger_until_ms,
            socket,
            desk: Mutex::default(),
            input: Mutex::new(Input::new(record_bytes_max)),
            output: Mutex::default(),
            held: AtomicU64::new(0),
            all,
            heard_ms: AtomicU64::new(now_ms),
            seen: Mutex::default(),
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }
    pub(super) fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }
    pub(super) fn take(&self, bytes: u64) {
        self.held.fetch_add(bytes, Relaxed);
        self.all.0.fetch_add(bytes, Relaxed);
    }
    pub(super) fn give(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
        self.all.0.fetch_sub(bytes, Relaxed);
    }
    pub(super) fn unsent(&self) -> u64 {
        lock(&self.output).unsent()
    }

    /// Readiness: the number of the caller as the one who reads now; `None`: there is another.
    pub(super) fn begin_reading(&self, now: Duration) -> Option<u64> {
        let mut desk = lock(&self.desk);
        if desk.reading.is_some() || desk.closed || desk.stopping {
            return None;
        }
        self.heard_ms.store(as_ms(now), Relaxed);
        desk.rested = now.saturating_sub(desk.rests_since);
        desk.next_reader += 1;
        desk.reading = Some(desk.next_reader);
        desk.reading
    }

    /// So many calls came together; whether they do so one after another, of late.
    pub(super) fn came(&self, calls: usize) -> bool {
        let mut desk = lock(&self.desk);
        let rested = desk.rested;
        desk.habit.came(calls, rested);
        desk.habit.is_brisk()
    }

    /// Whether this reader may wait for more.
    pub(super) fn stays(&self, reader: u64) -> bool {
        let desk = lock(&self.desk);
        let is_open = !desk.closed && !desk.stopping;
        is_open && desk.reading == Some(reader) && desk.queue.is_empty()
    }

    /// Reading is over for now; paused when there was no room for more. Says whether the
    /// connection is to be listed.
    pub(super) fn end_reading(
        &self,
        poller: &Poller,
        reader: u64,
        paused: bool,
        now: Duration,
    ) -> io::Result<bool> {
        let mut desk = lock(&self.desk);
        if desk.reading != Some(reader) {
            // Relieved, perhaps before it had queued what it read: that waits for a thread now.
            return Ok(Self::list(&mut desk));
        }
        desk.reading = None;
        desk.paused = paused;
        desk.rests_since = now;
        self.arm(poller, &desk)?;
        Ok(Self::list(&mut desk))
    }

    /// Who reads has been at a call for long: others go on without it. As [`Self::end_reading`].
    pub(super) fn relieve(&self, poller: &Poller, now: Duration) -> io::Result<bool> {
        let mut desk = lock(&self.desk);
        let reader = desk.reading;
        // Its calls are not quick enough for somebody to stay with it.
        desk.habit = Habit::default();
        drop(desk);
        reader.map_or(Ok(false), |reader| self.end_reading(poller, reader, false, now))
    }

    /// Watches for what is wanted now.
    pub(super) fn watch(&self, poller: &Poller) -> io::Result<()> {
        self.arm(poller, &lock(&self.desk))
    }

    /// There may be room again.
    pub(super) fn resume(&self, poller: &Poller) -> io::Result<()> {
        let mut desk = lock(&self.desk);
        if !std::mem::take(&mut desk.paused) {
            return Ok(());
        }
        self.arm(poller, &desk)
    }

    fn arm(&self, poller: &Poller, desk: &Desk) -> io::Result<()> {
        if desk.closed {
            return Ok(());
        }
        let read = desk.reading.is_none() && !desk.paused && !desk.stopping;
        let interest = Interest { read, write: desk.wants_write };
        poller.arm(&self.socket, self.token, interest)
    }

    /// Puts a call into the queue.
    pub(super) fn enqueue(&self, call: Bytes) {
        let mut desk = lock(&self.desk);
        if !desk.closed {
            self.take(as_u64(call.len()));
            desk.queue.push_back(call);
        }
    }

    /// Takes a call out of the queue, if it may run now, and says whether the connection is to
    /// be listed again.
    pub(super) fn dequeue(&self, unsent_max: u64) -> (Option<Bytes>, bool) {
        // Not listed first: whoever sends what is unsent, after it was looked at, lists it again.
        lock(&self.desk).listed = false;
        let is_slow = self.unsent() >= unsent_max;
        let mut desk = lock(&self.desk);
        if is_slow || desk.running >= RUNNING_MAX {
            return (None, false);
        }
        let call = desk.queue.pop_front();
        desk.running += usize::from(call.is_some());
        let again = Self::list(&mut desk);
        (call, again)
    }

    /// The same for who has read it: nothing when calls are to go to other threads.
    pub(super) fn dequeue_as(&self, reader: u64) -> Option<Bytes> {
        let mut desk = lock(&self.desk);
        let is_alone = desk.queue.len() == 1 && desk.running == 0;
        let spreads = if is_alone { desk.pace.spreads_one() } else { desk.pace.is_spread() };
        if desk.reading != Some(reader) || spreads {
            return None;
        }
        let call = desk.queue.pop_front()?;
        desk.running += 1;
        Some(call)
    }

    /// A call of the queue, of so many bytes, has run; says whether the connection is to be
    /// listed.
    pub(super) fn has_run(&self, bytes: usize, was_slow: bool) -> bool {
        self.give(as_u64(bytes));
        let mut desk = lock(&self.desk);
        desk.running -= 1;
        desk.pace.learn(was_slow);
        if desk.pace.is_spread() && self.has_more() {
            desk.pace.meet();
        }
        Self::list(&mut desk)
    }

    /// Something has come that nobody has read.
    fn has_more(&self) -> bool {
        rustix::io::ioctl_fionread(&self.socket).is_ok_and(|bytes| bytes > 0)
    }

    /// What waits in the queue may be able to run now; says whether to list the connection.
    pub(super) fn relist(&self) -> bool {
        Self::list(&mut lock(&self.desk))
    }

    fn list(desk: &mut Desk) -> bool {
        // Who reads runs what it has read.
        let waits = !desk.listed && desk.reading.is_none() && !desk.queue.is_empty();
        let wanted = waits && desk.running < RUNNING_MAX;
        desk.listed |= wanted;
        wanted
    }

    /// Adds a reply to those that are sent together; says how many bytes these are.
    pub(super) fn gather(&self, reply: Vec<Bytes>) -> usize {
        lock(&self.output).gather(reply)
    }

    /// Sends what is gathered.
    pub(super) fn send(&self, poller: &Poller, now_ms: u64) -> io::Result<()> {
        self.push(poller, now_ms, |output, socket| output.send(socket, now_ms))
    }

    /// Sends what is gathered, if there is any, for who does not come to it.
    pub(super) fn send_early(&self, poller: &Poller, now_ms: u64) -> io::Result<()> {
        let has_some = lock(&self.output).has_gathered();
        if has_some { self.send(poller, now_ms) } else { Ok(()) }
    }

    /// The kernel takes something again.
    pub(super) fn flush(&self, poller: &Poller, now_ms: u64) -> io::Result<()> {
        self.push(poller, now_ms, |output, socket| output.flush(socket, now_ms))
    }

    fn push(
        &self,
        poller: &Poller,
        now_ms: u64,
        how: impl FnOnce(&mut Output, &TcpStream) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut output = lock(&self.output);
        let before = output.unsent();
        let done = how(&mut output, &self.socket);
        let after = output.unsent();
        if after > before {
            self.take(after - before);
        } else {
            self.give(before - after);
        }
        done?;
        self.heard_ms.store(now_ms, Relaxed);
        if after == 0 && before == 0 {
            return Ok(());
        }
        let mut desk = lock(&self.desk);
        desk.wants_write = after > 0;
        self.arm(poller, &desk)
    }

    /// Takes nothing more, for good.
    pub(super) fn stop_reading(&self) {
        lock(&self.desk).stopping = true;
    }

    /// Whether it is a stranger's whose time is over.
    pub(super) fn is_turned_away(&self, now_ms: u64) -> bool {
        self.stranger_until_ms.is_some_and(|until_ms| now_ms >= until_ms)
    }

    /// Whether the peer has kept something half done for so long.
    pub(super) fn is_stuck(&self, now_ms: u64, patience_ms: u64) -> bool {
        let output = lock(&self.output);
        if output.unsent() > 0 {
            return now_ms.saturating_sub(output.progress_ms) > patience_ms;
        }
        drop(output);
        let silent = now_ms.saturating_sub(self.heard_ms.load(Relaxed)) > patience_ms;
        // Who reads just now is not stuck.
        silent && self.input.try_lock().is_ok_and(|input| input.waiting() > 0)
    }

    /// Nothing runs, waits to run or waits to be sent. What a connection that has ended had not
    /// read or sent waits for nobody.
    pub(super) fn is_at_rest(&self) -> bool {
        let desk = lock(&self.desk);
        if desk.closed {
            return desk.running == 0;
        }
        let at_rest = desk.queue.is_empty() && desk.running == 0 && desk.reading.is_none();
        drop(desk);
        at_rest && lock(&self.output).is_empty()
    }

    /// Ends it: what waits is not run any more.
    pub(super) fn close(&self) {
        let mut desk = lock(&self.desk);
        desk.closed = true;
        let waiting: usize = desk.queue.drain(..).map(|record| record.len()).sum();
        drop(desk);
        self.give(as_u64(waiting));
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while the lock is held")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// A client that hung up in the moment of a stop kept the service for all the time that a stop
    /// may take, and the others waited for the next start.
    #[test]
    fn a_connection_that_has_ended_keeps_no_stop_waiting() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, peer) = listener.accept().unwrap();
        let connection = Connection::new((7, 0), (far, peer.ip()), None, Arc::default(), 0);
        let reader = connection.begin_reading(Duration::ZERO).unwrap();
        connection.enqueue(Bytes::from_static(b"call"));
        assert!(connection.dequeue_as(reader).is_some());
        connection.gather(vec![Bytes::from_static(b"reply")]);
        connection.close();
        assert!(!connection.is_at_rest(), "a call still runs");
        connection.has_run(4, false);
        assert!(connection.is_at_rest());
    }

    /// Each of its calls went through the queue to another thread, which took longer than the disk.
    #[test]
    fn a_slow_call_that_is_the_only_one_is_run_by_who_has_read_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, peer) = listener.accept().unwrap();
        let connection = Connection::new((7, 0), (far, peer.ip()), None, Arc::default(), 0);
        let reader = connection.begin_reading(Duration::ZERO).unwrap();
        let call = Bytes::from_static(b"call");
        let one = || connection.enqueue(call.clone());
        for _ in 0..10 {
            one();
            assert!(connection.dequeue_as(reader).is_some());
            connection.has_run(4, true);
        }
        one();
        one();
        assert_eq!(connection.dequeue_as(reader), None, "two go to two threads");
        for _ in 0..2 {
            assert!(connection.dequeue(u64::MAX).0.is_some());
        }
        one();
        assert_eq!(connection.dequeue_as(reader), None, "beside those that run");
        assert!(connection.dequeue(u64::MAX).0.is_some());
        for _ in 0..2 {
            connection.has_run(4, true);
        }
        // The next call has come before this one has ended.
        near.write_all(b"more").unwrap();
        while !connection.has_more() {
            std::thread::yield_now();
        }
        connection.has_run(4, true);
        one();
        assert_eq!(connection.dequeue_as(reader), None, "who had two under way");
    }

    #[test]
    fn a_call_whose_reader_was_relieved_before_it_was_queued_is_not_forgotten() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, peer) = listener.accept().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&far, 7, Interest::READ).unwrap();
        let connection = Connection::new((7, 0), (far, peer.ip()), None, Arc::default(), 0);
        let reader = connection.begin_reading(Duration::ZERO).unwrap();
        // Meant for the reader before, who was at a call for long and has just ended.
        assert!(!connection.relieve(&poller, Duration::ZERO).unwrap());
        connection.enqueue(Bytes::from_static(b"call"));
        assert_eq!(connection.dequeue_as(reader), None);
        assert!(
            connection.end_reading(&poller, reader, false, Duration::ZERO).unwrap(),
            "nobody runs the call"
        );
        assert_eq!(connection.dequeue(u64::MAX), (Some(Bytes::from_static(b"call")), false));
    }
}
