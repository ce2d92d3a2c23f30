//! The service over loopback with a file system in memory.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::file::{Caller, Creation, SetAttributes, Stability};
use nfs::export::{Export, NOBODY, Network, Rule, Squash};
use nfs::memory::Memory;
use nfs::rpc::record::{Records as Cutter, mark};
use nfs::rpc::{AuthSys, Call, Credential, Opaque};
use nfs::v4::state::RecordError;
use nfs::xdr::Writer;

use super::figures::Turned;
use super::*;

const FILE_BYTES: usize = 1 << 20;
const ID: FileSystemId = FileSystemId([1; 16]);

/// Records that are kept only when the test lets them be; counts those that were to be kept.
struct Slow(Mutex<mpsc::Receiver<()>>, Mutex<()>, Arc<AtomicU64>);

impl ClientRecords for Slow {
    fn alone(
        &self,
        settle: &mut dyn FnMut() -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let _turn = lock(&self.1);
        settle()
    }
    fn store(&self, _: &ClientRecord) -> Result<(), RecordError> {
        self.2.fetch_add(1, SeqCst);
        lock(&self.0).recv().map_err(|_| RecordError)
    }
    fn remove(&self, _: &Bytes) -> Result<(), RecordError> {
        Ok(())
    }
}

/// A clock that can be put forward.
#[derive(Default)]
struct Jumps(env::RealClock, AtomicU64);

impl Jumps {
    fn jump(&self, by: Duration) {
        self.1.fetch_add(as_ms(by), SeqCst);
    }
}

impl Clock for Jumps {
    fn now(&self) -> Duration {
        self.0.now() + Duration::from_millis(self.1.load(SeqCst))
    }
    fn wall_ms(&self) -> u64 {
        self.0.wall_ms()
    }
}

fn served(of: &str, store: &Memory) -> Served<Memory> {
    let network = Network { address: of.parse().unwrap(), prefix_bits: 8 };
    let anonymous = (NOBODY, NOBODY);
    let rule = Rule { network, read_only: false, squash: Squash::None, anonymous };
    let path = vec![Bytes::from_static(b"e")];
    let (store, rules) = (store.clone(), vec![rule]);
    let export = Export { file_system: ID, path, store, keys: None, rules };
    Served { export, portals: Vec::new() }
}

/// A service with one file of a mebibyte, its handle, and what lets one record be kept.
struct World {
    service: FileService<Memory>,
    store: Memory,
    file: Bytes,
    let_one: mpsc::Sender<()>,
    begun: Arc<AtomicU64>,
}

impl World {
    async fn new(limits: FileLimits) -> Self {
        let world = Self::closed(limits).await;
        world.service.open().unwrap();
        world
    }
    /// One that takes no connections and has no thread.
    async fn closed(limits: FileLimits) -> Self {
        Self::at(Arc::new(env::RealClock::default()), limits).await
    }
    /// The same with another clock.
    async fn at(clock: Arc<dyn Clock>, limits: FileLimits) -> Self {
        let portals = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        let settings = FileSettings { portals, limits, ..FileSettings::default() };
        let (let_one, lets) = mpsc::channel();
        let begun = Arc::new(AtomicU64::new(0));
        let records = Box::new(Slow(Mutex::new(lets), Mutex::default(), Arc::clone(&begun)));
        let kept = Kept { secret: [3; 32], boot: 1, clients: Vec::new(), records };
        let service = FileService::start(settings, kept, clock).unwrap();
        let store = Memory::new(0, 1 << 24);
        service.serve(&[served("127.0.0.0", &store)], &[]).await.unwrap();
        let root = Caller { uid: 0, gid: 0, gids: Vec::new() };
        let how = Creation::Unchecked(SetAttributes { mode: Some(0o666), ..Default::default() });
        let made = store.create(&root, store.root(), b"f", &how).unwrap().attributes.file;
        let data = Bytes::from(vec![7; FILE_BYTES]);
        store.write(&root, made, 0, &data, Stability::File).unwrap();
        let form = nfs::handle::Form::File;
        let handle = nfs::handle::Handle { form, file_system: ID, file: made };
        let file = HandleKey::new(&[3; 32]).seal(&handle);
        Self { service, store, file, let_one, begun }
    }
    fn connect(&self) -> Client {
        Client::connect(self.service.portals()[0])
    }
    fn turned(&self, turned: Turned) -> u64 {
        self.service.0.figures.turned(turned)
    }
    fn read_args(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.opaque(&self.file);
        writer.u64(0);
        writer.u32(1 << 20);
        writer.into_bytes()
    }
}

struct Client {
    socket: TcpStream,
    input: BytesMut,
    records: Cutter,
    xid: u32,
}

impl Client {
    fn connect(to: SocketAddr) -> Self {
        let socket = TcpStream::connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, input: BytesMut::new(), records: Cutter::new(1 << 22), xid: 0 }
    }
    /// The next call, as it is sent.
    fn record(&mut self, (program, version, procedure): (u32, u32, u32), args: Bytes) -> Bytes {
        self.xid += 1;
        let sys = AuthSys { stamp: 0, machine: Bytes::new(), uid: 5, gid: 5, gids: vec![] };
        let credential = Credential::Sys(sys).to_opaque();
        let (xid, verifier, arguments) = (self.xid, Opaque::none(), args);
        Call { xid, program, version, procedure, credential, verifier, arguments }.encode()
    }
    /// The same with its mark.
    fn marked(&mut self, procedure: (u32, u32, u32), arguments: Bytes) -> Vec<u8> {
        let record = self.record(procedure, arguments);
        [&mark(std::slice::from_ref(&record)).unwrap()[..], &record].concat()
    }
    fn send(&mut self, procedure: (u32, u32, u32), arguments: Bytes) -> u32 {
        let whole = self.marked(procedure, arguments);
        self.socket.write_all(&whole).unwrap();
        self.xid
    }
    /// The xid of the next reply, and all behind it; an error when the connection has ended.
    fn reply(&mut self) -> std::io::Result<(u32, Bytes)> {
        let mut piece = vec![0; 1 << 16];
        loop {
            if let Some(record) = self.records.take(&mut self.input).unwrap() {
                let xid = u32::from_be_bytes(*record.first_chunk().unwrap());
                return Ok((xid, record.slice(4..)));
            }
            match self.socket.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => self.input.extend_from_slice(&piece[..count]),
            }
        }
    }
    fn ask(&mut self) {
        let xid = self.send(NULL, Bytes::new());
        assert_eq!(self.reply().unwrap().0, xid);
    }
    /// SETCLIENTID's confirmation, whose reply waits for the record.
    fn confirm(&mut self) -> u32 {
        let confirm = self.confirmation("someone");
        self.send((100_003, 4, 1), confirm)
    }
    /// SETCLIENTID, and then the arguments of its confirmation.
    fn confirmation(&mut self, owner: &str) -> Bytes {
        let compound = |operations: &dyn Fn(&mut Writer)| {
            let mut writer = Writer::default();
            writer.opaque(b"");
            writer.u32(0);
            writer.u32(1);
            operations(&mut writer);
            writer.into_bytes()
        };
        let set = compound(&|writer| {
            writer.u32(35);
            writer.u64(9);
            writer.opaque(owner.as_bytes());
            writer.u32(0);
            writer.opaque(b"tcp");
            writer.opaque(b"0.0.0.0.0.0");
            writer.u32(0);
        });
        self.send((100_003, 4, 1), set);
        let (_, reply) = self.reply().unwrap();
        // The client's id and what confirms it are the last sixteen bytes.
        let confirms = reply.slice(reply.len() - 16..);
        compound(&|writer| {
            writer.u32(36);
            writer.encoded(&confirms);
        })
    }
}

/// Each asks one thing after another, until a thread stays with each of them.
fn are_stayed_with(world: &World, clients: &mut [&mut Client]) {
    let begin = std::time::Instant::now();
    while world.service.0.crew.staying() != clients.len() {
        clients.iter_mut().for_each(|client| client.ask());
        assert!(begin.elapsed() < Duration::from_secs(20), "nobody stays");
    }
}

const NULL: (u32, u32, u32) = (100_003, 3, 0);
const READ: (u32, u32, u32) = (100_003, 3, 6);

#[tokio::test]
async fn a_call_that_waits_for_a_disk_holds_up_no_other_of_its_connection() {
    let world = World::new(FileLimits::default()).await;
    let mut client = world.connect();
    let waits = client.confirm();
    for _ in 0..3 {
        let quick = client.send(NULL, Bytes::new());
        assert_eq!(client.reply().unwrap().0, quick);
    }
    world.let_one.send(()).unwrap();
    assert_eq!(client.reply().unwrap().0, waits);
}

#[tokio::test]
async fn quick_calls_that_were_read_together_with_a_slow_one_are_answered_before_it() {
    let world = World::new(FileLimits::default()).await;
    // Behind the slow one there is another, whose thread could send for all, or there is none.
    for (owner, is_another_behind) in [("one", true), ("two", false)] {
        let mut client = world.connect();
        let slow = client.confirmation(owner);
        let mut together = client.marked(NULL, Bytes::new());
        let quick = client.xid;
        together.extend(client.marked((100_003, 4, 1), slow));
        let waits = client.xid;
        if is_another_behind {
            together.extend(client.marked(NULL, Bytes::new()));
        }
        client.socket.write_all(&together).unwrap();
        assert_eq!(client.reply().unwrap().0, quick);
        if is_another_behind {
            assert_eq!(client.reply().unwrap().0, client.xid);
        }
        world.let_one.send(()).unwrap();
        assert_eq!(client.reply().unwrap().0, waits);
    }
}

#[tokio::test]
async fn a_change_of_exports_is_over_when_no_call_of_before_runs() {
    let world = World::new(FileLimits::default()).await;
    let (mut waiting, mut other) = (world.connect(), world.connect());
    let waits = waiting.confirm();
    // Sent first, it need not be read first.
    while world.begun.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    other.send(READ, world.read_args());
    assert!(other.reply().unwrap().1.len() > FILE_BYTES);
    assert_eq!(world.service.clients(ID).len(), 1);
    let elsewhere = [served("10.0.0.0", &world.store)];
    let change = world.service.serve(&elsewhere, &[]);
    tokio::pin!(change);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut change).await;
    assert!(early.is_err(), "a call still runs under what was before");
    // From the swap on, whoever asks is asked for the new rules: 13 is NFS3ERR_ACCES.
    other.send(READ, world.read_args());
    let (_, reply) = other.reply().unwrap();
    assert_eq!(reply.slice(20..24), 13u32.to_be_bytes()[..]);
    world.let_one.send(()).unwrap();
    change.await.unwrap();
    assert_eq!(waiting.reply().unwrap().0, waits);
    let mut stranger = world.connect();
    stranger.send(NULL, Bytes::new());
    assert!(stranger.reply().is_ok());
    stranger.send(READ, world.read_args());
    let (_, denied) = stranger.reply().unwrap();
    // MSG_DENIED, AUTH_ERROR, AUTH_BADCRED.
    assert_eq!(denied[denied.len() - 12..], [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
    assert!(stranger.reply().is_err(), "and is not kept");
    assert_eq!(world.turned(Turned::Stranger), 1);
    world.service.evict(ID);
    assert!(world.service.clients(ID).is_empty());
}

#[tokio::test]
async fn a_client_that_takes_no_replies_is_stopped_alone_and_loses_none() {
    let limits = FileLimits { buffer_bytes: 16 << 20, threads: 4, ..FileLimits::default() };
    let world = World::new(limits).await;
    let mut slow = world.connect();
    let arguments = world.read_args();
    let sent: Vec<u32> = (0..100).map(|_| slow.send(READ, arguments.clone())).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let held = world.service.0.held.bytes();
    assert!(held < 16 << 20, "{held} bytes are held for one client");
    let mut other = world.connect();
    for _ in 0..20 {
        other.send(READ, arguments.clone());
        assert!(other.reply().unwrap().1.len() > FILE_BYTES);
    }
    let mut got: Vec<u32> = (0..100).map(|_| slow.reply().unwrap().0).collect();
    got.sort_unstable();
    assert_eq!(got, sent);
    drop((slow, other));
    for _ in 0..200 {
        if world.service.0.held.bytes() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} bytes are still held", world.service.0.held.bytes());
}

#[tokio::test]
async fn strokes_of_the_bell_that_come_together_leave_no_connection_waiting() {
    let world = World::closed(FileLimits { threads: 1, ..FileLimits::default() }).await;
    let service = &world.service.0;
    // All threads are at work: whoever is listed rings.
    assert!(service.crew.join());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut clients: Vec<Client> = (0..3)
        .map(|number| {
            let mut client = Client::connect(listener.local_addr().unwrap());
            let (socket, peer) = listener.accept().unwrap();
            let held = Arc::clone(&service.held);
            let token = worker::CONNECTIONS + number;
            let connection =
                Arc::new(Connection::new((token, 0), (socket, peer.ip()), None, held, 0));
            service.poller.add(connection.socket(), token, Interest::READ).unwrap();
            connection.enqueue(client.record(NULL, Bytes::new()));
            assert!(connection.relist());
            service.see_to(service.crew.list(&connection));
            lock(&service.connections).insert(token, connection);
            client
        })
        .collect();
    service.crew.leave();
    worker::start(service).unwrap();
    for client in &mut clients {
        assert_eq!(client.reply().unwrap().0, 1);
    }
}

#[tokio::test]
async fn connections_are_limited_for_each_address_and_long_records_end_them() {
    let limits = FileLimits { connections_per_address: 2, ..FileLimits::default() };
    let world = World::new(limits).await;
    let mut clients = [world.connect(), world.connect()];
    for client in &mut clients {
        client.send(NULL, Bytes::new());
        client.reply().unwrap();
    }
    assert!(world.connect().reply().is_err());
    assert_eq!(world.turned(Turned::Address), 1);
    let [mut first, second] = clients;
    first.socket.write_all(&[0xff; 4]).unwrap();
    assert!(first.reply().is_err());
    assert_eq!(world.turned(Turned::Record), 1);
    drop((first, second));
    for _ in 0..200 {
        let mut again = world.connect();
        let _ = again.send(NULL, Bytes::new());
        if again.reply().is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("an ended connection keeps its place");
}

#[tokio::test]
async fn who_keeps_a_call_half_done_is_ended() {
    let world = World::new(FileLimits { patience_ms: 100, ..FileLimits::default() }).await;
    let (mut half, mut whole) = (world.connect(), world.connect());
    half.socket.write_all(&[0x80, 0, 0, 100, 1, 2, 3]).unwrap();
    assert!(half.reply().is_err());
    assert_eq!(world.turned(Turned::Stuck), 1);
    whole.send(NULL, Bytes::new());
    whole.reply().unwrap();
}

#[tokio::test]
async fn who_asks_one_thing_after_another_is_stayed_with_and_others_are_served_meanwhile() {
    let world = World::new(FileLimits::default()).await;
    let (mut brisk, mut other) = (world.connect(), world.connect());
    are_stayed_with(&world, &mut [&mut brisk]);
    other.ask();
    // One more thread comes for it.
    are_stayed_with(&world, &mut [&mut brisk, &mut other]);
    let begin = std::time::Instant::now();
    while world.service.0.crew.staying() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(20), "it waits for ever");
        std::thread::sleep(Duration::from_millis(1));
    }
    are_stayed_with(&world, &mut [&mut brisk]);
    // A client that ends is no reason to stay.
    drop(brisk);
    are_stayed_with(&world, &mut [&mut other]);
    let service = Arc::clone(&world.service.0);
    world.service.stop().await;
    assert_eq!(Arc::strong_count(&service), 2, "a thread is left");
}

#[tokio::test]
async fn half_of_the_threads_are_left_to_who_asks_seldom() {
    let limits = FileLimits { threads: 4, ..FileLimits::default() };
    let world = World::new(limits).await;
    let mut all: Vec<_> = (0..4).map(|_| world.connect()).collect();
    let mut most = 0;
    for _ in 0..500 {
        for one in &mut all {
            (0..5).for_each(|_| one.ask());
            most = most.max(world.service.0.crew.staying());
        }
    }
    assert!((1..=2).contains(&most), "{most}");
}

/// A call that hangs, of a connection that somebody stays with, is no reason for its next call to
/// wait.
#[tokio::test]
async fn who_stays_is_relieved_when_a_call_takes_long() {
    let world = World::new(FileLimits::default()).await;
    let mut client = world.connect();
    let confirm = client.confirmation("someone");
    are_stayed_with(&world, &mut [&mut client]);
    let slow = client.send((100_003, 4, 1), confirm);
    std::thread::sleep(Duration::from_millis(50));
    client.ask();
    world.let_one.send(()).unwrap();
    assert_eq!(client.reply().unwrap().0, slow);
    are_stayed_with(&world, &mut [&mut client]);
}

#[tokio::test]
async fn a_stop_lets_calls_end_and_their_replies_go_out() {
    let world = World::new(FileLimits::default()).await;
    let mut client = world.connect();
    let waits = client.confirm();
    std::thread::sleep(Duration::from_millis(50));
    let let_one = world.let_one.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        let_one.send(()).unwrap();
    });
    let service = Arc::clone(&world.service.0);
    world.service.stop().await;
    assert_eq!(client.reply().unwrap().0, waits);
    assert!(client.reply().is_err());
    // This one's and the service's own.
    assert_eq!(Arc::strong_count(&service), 2, "a thread is left");
}

#[tokio::test]
async fn a_service_is_not_stopped_for_another_while_a_call_of_it_hangs() {
    let clock = Arc::new(Jumps::default());
    let world = World::at(Arc::clone(&clock) as _, FileLimits::default()).await;
    world.service.open().unwrap();
    assert_eq!(world.service.can_end().await, Ok(()));
    let (mut waiting, mut other) = (world.connect(), world.connect());
    let waits = waiting.confirm();
    let calls = async |are: fn(Option<u64>) -> bool| {
        let wait = async {
            while !are(world.service.longest_call_ms()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the calls are so");
    };
    calls(|longest_ms| longest_ms > Some(100)).await;
    clock.jump(Duration::from_secs(9));
    let asked = world.service.can_end();
    tokio::pin!(asked);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut asked).await;
    assert!(early.is_err(), "it may still end");
    clock.jump(Duration::from_secs(3));
    assert!(asked.await.unwrap_err() >= 12_000);
    other.send(NULL, Bytes::new());
    other.reply().expect("it serves on");
    world.let_one.send(()).unwrap();
    assert_eq!(waiting.reply().unwrap().0, waits);
    calls(|longest_ms| longest_ms.is_none()).await;
    assert_eq!(world.service.can_end().await, Ok(()));
}

#[tokio::test]
async fn a_start_that_failed_half_way_leaves_no_thread_behind() {
    let world = World::closed(FileLimits::default()).await;
    let service = &world.service.0;
    // What is watched already cannot be watched once more, which is found when threads run.
    service.poller.add(&service.portals[0].listener, 0, Interest::READ).unwrap();
    assert!(world.service.open().is_err());
    assert!(Arc::strong_count(service) > 1);
    world.service.stop().await;
    world.service.ended().await;
    assert_eq!(Arc::strong_count(service), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_ends_before_its_export_is_there_again_holds_the_file_no_more() {
    use host::files::{FileClient, Identity, Opening, Who};
    let world = World::new(FileLimits::default()).await;
    let portal = world.service.portals()[0];
    (0..2).for_each(|_| world.let_one.send(()).unwrap());
    let open = move || {
        let mut client = FileClient::connect(portal, &Identity::named("one"), &Who::default(), 1)?;
        client.reclaimed()?;
        let root = client.mount("/e")?;
        client.open(&root, "f", Opening::Existing).map(|_| ())
    };
    tokio::task::spawn_blocking(open).await.unwrap().unwrap();
    let (store, root) = (&world.store, Caller { uid: 0, gid: 0, gids: Vec::new() });
    let file = store.lookup(&root, store.root(), b"f").unwrap().file;
    store.remove(&root, store.root(), b"f", model::file::Removal::File).unwrap();
    world.service.serve(&[], &[]).await.unwrap();
    lock(&world.service.0.state.0).tick(u64::MAX / 2);
    // The keeper finds it, and nobody to tell.
    world.service.0.let_go();
    assert!(store.attributes(file).is_ok());
    world.service.serve(&[served("127.0.0.0", store)], &[]).await.unwrap();
    world.service.0.let_go();
    assert_eq!(store.attributes(file), Err(model::file::FileError::Stale));
}

/// Blocking, so that the service's own threads are all that runs besides.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_this_project_does_a_days_work() {
    use host::files::{
        Compound, FileClient, Identity, LockRange, LockType, Opening, Stable, StateidOf, Who,
    };
    let world = World::new(FileLimits::default()).await;
    let portal = world.service.portals()[0];
    // The records of both clients.
    (0..4).for_each(|_| world.let_one.send(()).unwrap());
    let work = move || -> Result<(), host::files::FilesError> {
        let who = Who::default();
        let mut client = FileClient::connect(portal, &Identity::named("one"), &who, 8)?;
        assert_eq!(client.slots(), 8);
        client.reclaimed()?;
        let root = client.mount("/e")?;
        let below = client.create_directory(&root, "d")?;
        let file = client.open(&below, "a", Opening::New(0o644))?;
        let again = client.open(&below, "a", Opening::New(0o644)).unwrap_err();
        assert_eq!(again.status(), Some(nfs::v4::Status::Exist));
        let data = Bytes::from(vec![5; 300_000]);
        client.write_at(&file, 4096, Stable::File, &data)?;
        assert_eq!(client.read_at(&file, 4096, 400_000)?, data);
        // As many reads at once as there are slots.
        for slot in 0..client.slots() {
            let offset = 4096 * slot as u64;
            let read = Compound::new().file(&file.handle).read(&file.stateid, offset, 4096);
            client.send(slot, read)?;
        }
        for _ in 0..client.slots() {
            let (slot, mut results) = client.receive()?;
            let (_, data) = results.moved(1)?.read()?;
            assert_eq!(data, vec![if slot == 0 { 0 } else { 5 }; 4096]);
        }
        let range = LockRange { kind: LockType::Write, reclaim: false, offset: 0, bytes: 10 };
        let owner = client.owner("locks");
        let lock = Compound::new().file(&file.handle).lock(&range, &file.stateid, &owner);
        let held = client.call(lock)?.moved(1)?.stateid(StateidOf::Lock)?;

        let mut other = FileClient::connect(portal, &Identity::named("two"), &who, 1)?;
        other.reclaimed()?;
        let theirs = other.open(&below, "a", Opening::Existing)?;
        let wants = Compound::new().file(&theirs.handle).lock(
            &range,
            &theirs.stateid,
            &other.owner("locks"),
        );
        let refused = other.call(wants)?.moved(1)?.stateid(StateidOf::Lock).unwrap_err();
        assert_eq!(refused.status(), Some(nfs::v4::Status::Denied));
        let free = Compound::new().file(&file.handle).unlock(&range, &held);
        client.call(free)?.moved(1)?.stateid(StateidOf::Unlock)?;
        other.close(&theirs)?;
        other.leave()?;

        client.close(&file)?;
        client.rename(&below, "a", "b")?;
        assert_eq!(client.list(&below)?, ["b"]);
        client.remove(&below, "b")?;
        assert!(client.list(&below)?.is_empty());
        client.leave()
    };
    tokio::task::spawn_blocking(work).await.unwrap().unwrap();
}
