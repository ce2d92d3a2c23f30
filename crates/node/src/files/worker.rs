//! A thread of the file service: wait for a socket or for what is queued, run calls, reply.

use std::cell::Cell;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use bytes::Bytes;
use env::leftovers::{Left, collect};
use env::posix::waits;
use model::file::FileStore;
use nfs::server::{Server, answer, refuse};

use super::connection::{Connection, Seen, lock};
use super::crew::{Called, Role};
use super::figures::Turned;
use super::input::Received;
use super::output::as_u64;
use super::poll::{Event, Found, Interest};
use super::post::Post;
use super::{STRANGER_MS, STRANGERS_MAX, Service, as_ms, seat, stay};

/// The first token of a connection; those below are the portals'.
pub(super) const CONNECTIONS: u64 = 1 << 32;
/// A call that took so long, and has waited meanwhile, may have waited for a disk. One that was only
/// not given the processor says nothing about its successors.
const SLOW: Duration = Duration::from_micros(500);
/// Replies that are gathered before they are sent: enough that one wake-up of the client is for
/// many, and few enough that it has something to do meanwhile.
const BATCH_BYTES: usize = 64 << 10;
/// What calls that are answered together leave is let go of sooner when it is so much.
const LEFT_MAX: usize = 64;
/// A call that is not whole and has fewer bytes was not cut by the network, but by its sender.
const SMALL_BYTES: usize = 64 << 10;
/// What was there after so short a time was there before.
const AT_ONCE: Duration = Duration::from_micros(3);
/// Seconds of silence after which the kernel asks whether a client is still there.
const KEEPALIVE_SECONDS: u64 = 60;
/// Where a call says which program and version it is for: behind xid, kind and RPC's version.
const PROGRAM_AT: usize = 12;

/// What a thread does that has waited for sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// It waits for them again.
    Polls,
    /// Another does so, and it may be needed for something else.
    Returns,
}

/// What one look at a connection that is read has come to.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Turn {
    /// There was no room to read more.
    pub paused: bool,
    /// Something was there.
    pub came: bool,
    /// Calls that were run.
    pub calls: usize,
    /// When it was read.
    pub at: Duration,
}

/// Starts one more thread, unless there are as many as there may be.
pub(super) fn start<F: FileStore + Clone + Send + Sync>(
    service: &Arc<Service<F>>,
) -> std::io::Result<()> {
    if !service.crew.join() {
        // Another has started meanwhile, or all are at work: who is free first.
        service.poller.ring();
        return Ok(());
    }
    let number = service.crew.threads();
    let mine = Arc::clone(service);
    let thread = std::thread::Builder::new().name(format!("files-{number}"));
    match thread.spawn(seat::anywhere(move || run(&mine))) {
        Ok(thread) => {
            lock(&service.threads).push(thread);
            Ok(())
        }
        Err(why) => {
            service.crew.leave();
            Err(why)
        }
    }
}

/// Turns for which a thread looks whether it waits, after a call that took long.
const WATCHED_TURNS: u32 = 256;

thread_local! {
    static WATCHED: Cell<u32> = const { Cell::new(0) };
}

/// How often this thread had waited at the last look. It looks only where calls have taken long of
/// late: to ask costs as much as a part of a quick call.
struct Waits(Option<u64>);

impl Waits {
    /// A turn begins.
    fn now() -> Self {
        let left = WATCHED.get();
        WATCHED.set(left.saturating_sub(1));
        Self((left > 0).then(waits::of_this_thread))
    }
    /// After a call: whether it was slow, since it has waited.
    fn was_slow(&mut self, took: Duration) -> bool {
        if took < SLOW {
            return false;
        }
        WATCHED.set(WATCHED_TURNS);
        let now = waits::of_this_thread();
        // Of the first one that took long it is not known.
        self.0.replace(now).is_some_and(|before| before != now)
    }
}

fn run<F: FileStore + Clone + Send + Sync>(service: &Arc<Service<F>>) {
    let post = Arc::new(Post::of_this_thread());
    lock(&service.posts).push(Arc::clone(&post));
    loop {
        match service.crew.next() {
            Role::Poll => {
                post.polls(true);
                let polled = service.poll(&post);
                post.polls(false);
                if let Err(why) = polled {
                    tracing::error!(%why, "the file service cannot wait for its sockets");
                    service.crew.resign();
                    break;
                }
            }
            Role::Run(connection) => service.run_queued(&connection, &post),
            Role::End => break,
        }
    }
    service.crew.leave();
}

impl<F: FileStore + Clone + Send + Sync> Service<F> {
    pub(super) fn now_ms(&self) -> u64 {
        as_ms(self.clock.now())
    }

    fn list(&self, connection: &Arc<Connection>) {
        self.see_to(self.crew.list(connection));
    }
    /// What a call for a thread asks for.
    pub(super) fn see_to(&self, called: Called) {
        match called {
            Called::Comes => {}
            Called::Start => {
                let started = self.me.upgrade().map_or(Ok(()), |me| start(&me));
                if let Err(why) = started {
                    tracing::warn!(%why, "the file service got no further thread");
                    self.poller.ring();
                }
            }
            // Who is free first, also among those that wait for sockets.
            Called::Busy => self.poller.ring(),
        }
    }

    /// Waits for sockets and runs what comes, until others do.
    fn poll(&self, post: &Post) -> std::io::Result<()> {
        loop {
            let (found, has_rested) = self.crew.wait(|| self.rest_a_while())?;
            if has_rested {
                self.stir();
            }
            match found {
                Found::Event(event) => {
                    if self.handle(event, post) == Then::Returns {
                        return Ok(());
                    }
                }
                // Nobody else had time for what is queued; or the service ends.
                Found::Bell => {
                    let (next, others_wait) = self.crew.take();
                    if others_wait {
                        self.poller.ring();
                    }
                    if let Some(connection) = next {
                        self.run_queued(&connection, post);
                    }
                }
            }
            if (has_rested || found == Found::Bell) && self.crew.is_dismissed() {
                if self.ending.load(Acquire) {
                    // Two strokes may have woken one: each wakes the next.
                    self.poller.ring();
                }
                return Ok(());
            }
        }
    }

    /// Waits for an event; says whether there was nothing to do at first.
    fn rest_a_while(&self) -> std::io::Result<(Found, bool)> {
        let began = self.clock.now();
        let found = self.poller.wait()?;
        Ok((found, self.clock.now().saturating_sub(began) >= AT_ONCE))
    }

    /// Does what a socket asks for.
    fn handle(&self, event: Event, post: &Post) -> Then {
        if event.token < CONNECTIONS {
            self.accept(event.token);
            return Then::Polls;
        }
        let found = lock(&self.connections).get(&event.token).cloned();
        let Some(connection) = found else { return Then::Polls };
        if event.broken {
            self.close(&connection);
            return Then::Polls;
        }
        if event.writable {
            match connection.flush(&self.poller, self.now_ms()) {
                Ok(()) => self.has_sent(&connection),
                Err(_) => {
                    self.close(&connection);
                    return Then::Polls;
                }
            }
        }
        let now = self.clock.now();
        let reader = if event.readable { connection.begin_reading(now) } else { None };
        if let Some(reader) = reader {
            return self.read(&connection, reader, post);
        }
        if connection.watch(&self.poller).is_err() {
            self.close(&connection);
        }
        Then::Polls
    }

    /// A connection has taken replies off us: it may go on.
    fn has_sent(&self, connection: &Arc<Connection>) {
        if connection.unsent() < self.share.unsent_max && connection.relist() {
            self.list(connection);
        }
        if self.paused_count.load(Acquire) > 0 {
            if self.has_room(connection) && connection.resume(&self.poller).is_err() {
                self.close(connection);
            }
            self.relax();
        }
    }

    fn has_room(&self, connection: &Connection) -> bool {
        let (held, all) = (connection.held(), self.held.bytes());
        self.share.room(held, all, connection.unsent()) > 0
    }

    /// Lets those read on that found no room, when there is some again.
    pub(super) fn relax(&self) {
        if self.paused_count.load(Acquire) == 0 || !self.share.is_relaxed(self.held.bytes()) {
            return;
        }
        let mut paused = lock(&self.paused);
        let ready: Vec<_> = paused.extract_if(|_, one| self.has_room(one)).collect();
        self.paused_count.store(paused.len(), Release);
        drop(paused);
        for (_, connection) in ready {
            if connection.resume(&self.poller).is_err() {
                self.close(&connection);
            }
        }
    }

    fn pause(&self, connection: &Arc<Connection>) {
        let mut paused = lock(&self.paused);
        paused.insert(connection.token, Arc::clone(connection));
        self.paused_count.store(paused.len(), Release);
    }

    /// Reads what is there, and runs it as long as calls are quick; stays with a connection whose
    /// calls come one after another.
    fn read(&self, connection: &Arc<Connection>, reader: u64, post: &Post) -> Then {
        let mut turn = self.turn(connection, (reader, post), false, || {});
        let mut then = Then::Polls;
        let is_known = connection.stranger_until_ms.is_none();
        if let Ok(Turn { paused: false, calls, .. }) = turn
            && is_known
            && connection.came(calls)
            && let Some(last) = self.stay(connection, reader, post)
        {
            (turn, then) = (last, Then::Returns);
        }
        let paused = match turn {
            Ok(Turn { paused, .. }) => paused,
            Err(why) => {
                if let Some(turned) = why {
                    self.figures.turn_away(turned);
                }
                self.close(connection);
                return then;
            }
        };
        if paused {
            self.pause(connection);
        }
        match connection.end_reading(&self.poller, reader, paused, self.clock.now()) {
            Ok(true) => self.list(connection),
            Ok(false) => {}
            Err(_) => self.close(connection),
        }
        if paused {
            // What made it full may have gone meanwhile.
            self.relax();
        }
        then
    }

    /// Reads, says so, and runs; `waits`: for as long as the socket does, if nothing is there.
    ///
    /// # Errors
    /// The connection is to be closed, and what to count.
    pub(super) fn turn(
        &self,
        connection: &Arc<Connection>,
        (reader, post): (u64, &Post),
        waits: bool,
        read: impl FnOnce(),
    ) -> Result<Turn, Option<Turned>> {
        let mut turn = self.read_some(connection, waits)?;
        turn.at = self.clock.now();
        if !turn.came && !turn.paused {
            return Ok(turn);
        }
        read();
        let ran = self.run_as(connection, (reader, turn.at), post);
        post.leave();
        turn.calls = ran?;
        Ok(turn)
    }

    /// Reads until a call is whole or nothing is there.
    ///
    /// # Errors
    /// The connection is to be closed, and what to count.
    fn read_some(&self, connection: &Connection, mut waits: bool) -> Result<Turn, Option<Turned>> {
        let mut input = lock(&connection.input);
        let (mut turn, mut done) = (Turn::default(), false);
        while !done {
            let (held, all) = (connection.held(), self.held.bytes());
            let room = self.share.room(held, all, connection.unsent());
            if room == 0 {
                turn.paused = true;
                break;
            }
            let before = input.waiting();
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            match input.receive(connection.socket(), room, waits) {
                Ok(Received::Some { drained, .. }) => done = drained,
                Ok(Received::Nothing) => break,
                Ok(Received::End) | Err(_) => return Err(None),
            }
            (turn.came, waits) = (true, false);
            while let Some(call) = input.next().map_err(|_| Some(Turned::Record))? {
                connection.enqueue(call);
                done = true;
            }
            let after = input.waiting();
            if after > before {
                connection.take(as_u64(after - before));
            } else {
                connection.give(as_u64(before - after));
            }
        }
        if turn.came && !turn.paused && (1..SMALL_BYTES).contains(&input.waiting()) {
            // A client without TCP_NODELAY sends the rest when this has been acknowledged, which
            // the kernel would put off for 40 ms.
            let _ = rustix::net::sockopt::set_tcp_quickack(connection.socket(), true);
        }
        input.rest();
        Ok(turn)
    }

    /// Runs calls that this thread has read, one after another; the replies go out together.
    fn run_as(
        &self,
        connection: &Arc<Connection>,
        (reader, mut now): (u64, Duration),
        post: &Post,
    ) -> Result<usize, Option<Turned>> {
        let (mut calls, mut gathered, mut waits) = (0, 0, Waits::now());
        let mut left = Left::default();
        while connection.unsent() < self.share.unsent_max {
            let Some(call) = connection.dequeue_as(reader) else { break };
            post.occupy(connection.token, as_ms(now));
            calls += 1;
            let bytes = call.len();
            let (reply, took, more) = self.run(connection, call, now);
            left.add(more);
            now += took;
            post.ran(took);
            let was_slow = waits.was_slow(took);
            if let Some(reply) = reply {
                gathered = connection.gather(reply);
            }
            if connection.has_run(bytes, was_slow) {
                self.list(connection);
            }
            if gathered >= BATCH_BYTES || left.len() >= LEFT_MAX {
                connection.send(&self.poller, as_ms(now)).map_err(|_| None)?;
                drop(std::mem::take(&mut left));
                now = self.clock.now();
                gathered = 0;
            }
        }
        if gathered > 0 {
            connection.send(&self.poller, as_ms(now)).map_err(|_| None)?;
        }
        Ok(calls)
    }

    /// Lets others go on with what threads have read that are at a call for long, and sends what
    /// these have answered: so many are.
    pub(super) fn relieve(&self, now: Duration) -> usize {
        let now_ms = as_ms(now);
        let look = |post: &Arc<Post>| {
            post.look();
            post.is_long(now_ms)
        };
        let long: Vec<u64> = lock(&self.posts).iter().filter_map(look).collect();
        for token in &long {
            let found = lock(&self.connections).get(token).cloned();
            let Some(connection) = found else { continue };
            let sent = connection.send_early(&self.poller, now_ms);
            match sent.and_then(|()| connection.relieve(&self.poller, now)) {
                Ok(true) => self.list(&connection),
                Ok(false) => {}
                Err(_) => self.close(&connection),
            }
        }
        long.len()
    }

    /// Runs one call of a connection's queue.
    fn run_queued(&self, connection: &Arc<Connection>, post: &Post) {
        let (call, again) = connection.dequeue(self.share.unsent_max);
        if again {
            self.list(connection);
        }
        let Some(call) = call else { return };
        let bytes = call.len();
        let mut waits = Waits::now();
        let now = self.clock.now();
        post.begin_queued(as_ms(now));
        let (reply, took, left) = self.run(connection, call, now);
        post.end_queued();
        let was_slow = waits.was_slow(took);
        if let Some(reply) = reply {
            connection.gather(reply);
        }
        let sent = connection.send(&self.poller, self.now_ms());
        drop(left);
        if connection.has_run(bytes, was_slow) {
            self.list(connection);
        }
        match sent {
            Ok(()) => self.has_sent(connection),
            Err(_) => self.close(connection),
        }
    }

    /// Answers one call, which begins now, and says how long that took; what is left is to go behind
    /// the answer.
    fn run(
        &self,
        connection: &Connection,
        call: Bytes,
        began: Duration,
    ) -> (Option<Vec<Bytes>>, Duration, Left) {
        if connection.stranger_until_ms.is_some() {
            return (refuse(call), Duration::ZERO, Left::default());
        }
        let now_ms = as_ms(began);
        // Held until the call has ended: who changes the exports waits for it.
        let exports = self.portals[connection.portal].exports.load_full();
        let reached = Cell::new(None);
        let server = Server {
            exports: &exports,
            keys: &self.keys,
            state: &self.state,
            records: &*self.records,
            replays: &self.replays,
            name: &self.name,
            reached: &reached,
        };
        let (program, version) = program_of(&call);
        let received = call.len();
        let (reply, mut left) = collect(|| answer(&server, connection.peer, call, now_ms));
        if left.is_empty() {
            drop(exports);
        } else {
            // What is left is of these files.
            left.keep(exports);
        }
        let sent = reply.as_ref().map_or(0, |pieces| pieces.iter().map(Bytes::len).sum());
        self.figures.call(program, version, (received, sent));
        if let Some(file_system) = reached.get() {
            self.note(connection, Seen { file_system, version, at_ms: now_ms });
        }
        (reply, self.clock.now().saturating_sub(began), left)
    }

    /// Notes who calls upon what, about once a second.
    fn note(&self, connection: &Connection, now: Seen) {
        let mut seen = lock(&connection.seen);
        let is_known = seen.is_some_and(|seen| {
            let same = (seen.file_system, seen.version) == (now.file_system, now.version);
            same && now.at_ms.saturating_sub(seen.at_ms) < 1000
        });
        if !is_known {
            *seen = Some(now);
            drop(seen);
            let key = (now.file_system, connection.peer, now.version);
            lock(&self.seen).insert(key, now.at_ms);
        }
    }

    fn accept(&self, portal: u64) {
        let Some((at, portal)) = (0..).zip(&self.portals).find(|(at, _)| as_u64(*at) == portal)
        else {
            return;
        };
        loop {
            match portal.listener.accept() {
                Ok((socket, peer)) => self.admit(at, socket, peer.ip()),
                Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
                Err(why) => {
                    // Out of descriptors, or the peer was gone already.
                    self.figures.turn_away(Turned::Accept);
                    tracing::warn!(%why, "a connection of an NFS client was not accepted");
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    break;
                }
            }
        }
        if let Err(why) = self.poller.arm(&portal.listener, as_u64(at), Interest::READ) {
            tracing::error!(%why, address = %portal.address, "an NFS portal is not watched");
        }
    }

    fn admit(&self, portal: usize, socket: TcpStream, peer: IpAddr) {
        let is_stranger = !self.portals[portal].exports.load().admits(peer);
        if is_stranger {
            self.figures.turn_away(Turned::Stranger);
        }
        if prepare(&socket).is_err() {
            return self.figures.turn_away(Turned::Accept);
        }
        let limits = &self.settings.limits;
        let token = self.next_token.fetch_add(1, Relaxed);
        let (held, now_ms) = (Arc::clone(&self.held), self.now_ms());
        let all = (token, portal);
        let until_ms = is_stranger.then_some(now_ms + STRANGER_MS);
        let connection = Arc::new(Connection::new(all, (socket, peer), until_ms, held, now_ms));
        let mut connections = lock(&self.connections);
        let strangers = || connections.values().filter(|one| one.stranger_until_ms.is_some());
        if is_stranger && strangers().count() >= STRANGERS_MAX {
            return;
        }
        if connections.len() >= limits.connections {
            return self.figures.turn_away(Turned::Connections);
        }
        let of_peer = connections.values().filter(|one| one.peer == connection.peer).count();
        if of_peer >= limits.connections_per_address {
            return self.figures.turn_away(Turned::Address);
        }
        connections.insert(token, Arc::clone(&connection));
        drop(connections);
        if self.poller.add(connection.socket(), token, Interest::READ).is_err() {
            self.close(&connection);
        }
    }

    pub(super) fn close(&self, connection: &Arc<Connection>) {
        lock(&self.connections).remove(&connection.token);
        connection.close();
        if self.paused_count.load(Acquire) > 0 {
            let mut paused = lock(&self.paused);
            paused.remove(&connection.token);
            self.paused_count.store(paused.len(), Release);
        }
    }
}

fn prepare(socket: &TcpStream) -> std::io::Result<()> {
    // Who waits in it does so for a moment; nobody else waits for it.
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(stay::PATIENCE))?;
    socket.set_nodelay(true)?;
    let time = std::time::Duration::from_secs(KEEPALIVE_SECONDS);
    let keepalive = socket2::TcpKeepalive::new().with_time(time).with_interval(time / 6);
    socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// The program and version that a call is for, as far as it says so.
fn program_of(call: &[u8]) -> (u32, u32) {
    let number = |at: usize| {
        let bytes = call.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    };
    (number(PROGRAM_AT), number(PROGRAM_AT + 4))
}
