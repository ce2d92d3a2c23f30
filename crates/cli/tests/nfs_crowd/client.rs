//! One of many clients, and the one that floods.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use host::files::{
    Compound, FileClient, Identity, LockRange, LockType, OpenFile, Opening, Stable, Stateid,
    StateidOf, Who,
};

const BLOCK_BYTES: u32 = 4096;
const BLOCKS: u64 = 16;
/// The file in which every client holds a byte.
const COMMON: &str = "common";
/// Slots of the one that floods, and what it reads.
const FLOOD_SLOTS: u32 = 64;
const FLOOD_BYTES: u32 = 1 << 20;
const FLOOD_FILE_BYTES: u64 = 16 << 20;

fn who() -> Who {
    Who { uid: 1000, gid: 1000, gids: Vec::new() }
}

fn connect(portal: SocketAddr, path: &str, name: &str, slots: u32) -> (FileClient, Bytes) {
    let mut client = FileClient::connect(portal, &Identity::named(name), &who(), slots).unwrap();
    client.reclaimed().unwrap();
    let root = client.mount(path).unwrap();
    (client, root)
}

/// A client with a session, a file that is its own, and a lock in it and in the common file.
pub(crate) struct Crowded {
    client: FileClient,
    number: u32,
    own: OpenFile,
    common: OpenFile,
    locks: [(Stateid, LockRange); 2],
    turn: u64,
}

impl Crowded {
    pub(crate) fn new(portal: SocketAddr, path: &str, number: u32) -> Self {
        let (mut client, root) = connect(portal, path, &format!("crowd-{number}"), 4);
        let mut open = |name: &str| client.open(&root, name, Opening::OrCreate(0o666)).unwrap();
        let (own, common) = (open(&format!("own-{number}")), open(COMMON));
        let range =
            |offset, bytes| LockRange { kind: LockType::Write, reclaim: false, offset, bytes };
        let mut lock = |file: &OpenFile, range: LockRange| {
            let owner = client.owner("locks");
            let asks = Compound::new().file(&file.handle).lock(&range, &file.stateid, &owner);
            let held = client.call(asks).unwrap().moved(1).unwrap().stateid(StateidOf::Lock);
            (held.unwrap(), range)
        };
        let locks = [lock(&own, range(0, u64::MAX)), lock(&common, range(u64::from(number), 1))];
        if let Some(neighbour) = number.checked_sub(1) {
            let (held, theirs) = (&locks[1].0, range(u64::from(neighbour), 1));
            let asks = Compound::new().file(&common.handle).lock_more(&theirs, held);
            let refused = client.call(asks).unwrap().moved(1).unwrap().stateid(StateidOf::Lock);
            assert_eq!(refused.unwrap_err().status(), Some(nfs::v4::Status::Denied));
        }
        Self { client, number, own, common, locks, turn: 0 }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Writes a block, and reads it back.
    pub(crate) fn step(&mut self) {
        self.turn += 1;
        let offset = self.turn % BLOCKS * u64::from(BLOCK_BYTES);
        let mark = (u64::from(self.number) << 32 | self.turn).to_be_bytes();
        let data = Bytes::from(mark.repeat(BLOCK_BYTES as usize / mark.len()));
        self.client.write_at(&self.own, offset, Stable::Unstable, &data).unwrap();
        let read = self.client.read_at(&self.own, offset, BLOCK_BYTES).unwrap();
        assert!(read == data, "client {} reads what it has not written", self.number);
    }

    pub(crate) fn leave(mut self) {
        for (file, (held, range)) in [&self.own, &self.common].into_iter().zip(&self.locks) {
            let asks = Compound::new().file(&file.handle).unlock(range, held);
            let freed =
                self.client.call(asks).unwrap().moved(1).unwrap().stateid(StateidOf::Unlock);
            freed.unwrap();
            self.client.close(file).unwrap();
        }
        self.client.leave().unwrap();
    }
}

/// Reads as much as it can get, until it is told to end: so many mebibytes.
pub(crate) fn flood(portal: SocketAddr, path: &str, ends: &AtomicBool) -> u64 {
    let (mut client, root) = connect(portal, path, "flood", FLOOD_SLOTS);
    let file = client.open(&root, "flood", Opening::OrCreate(0o666)).unwrap();
    let data = Bytes::from(vec![7; FLOOD_BYTES as usize]);
    for offset in (0..FLOOD_FILE_BYTES).step_by(FLOOD_BYTES as usize) {
        client.write_at(&file, offset, Stable::Unstable, &data).unwrap();
    }
    let send = |client: &mut FileClient, slot: usize| {
        let offset = slot as u64 * u64::from(FLOOD_BYTES) % FLOOD_FILE_BYTES;
        let asks = Compound::new().file(&file.handle).read(&file.stateid, offset, FLOOD_BYTES);
        client.send(slot, asks).unwrap();
    };
    let mut under_way = client.slots();
    (0..under_way).for_each(|slot| send(&mut client, slot));
    let mut answered = 0;
    while under_way > 0 {
        let (slot, mut results) = client.receive().unwrap();
        let (_, got) = results.moved(1).unwrap().read().unwrap();
        assert_eq!(got.len(), data.len());
        answered += 1;
        if ends.load(Ordering::Acquire) {
            under_way -= 1;
        } else {
            send(&mut client, slot);
        }
    }
    client.close(&file).unwrap();
    client.leave().unwrap();
    answered
}
