//! Hosts around one volume of a simulated node, and the oracle that watches them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use iscsi::initiator::{Command, Data, Options, Outcome};
use model::id::{AttachmentId, HostId, PoolId, VolumeId};
use model::order::{Access, IoMode, Mode, Order, Source};
use model::pool::Driver;
use model::size::ByteSize;
use node::Node;
use scsi::nexus::{InitiatorPort, ItNexus};
use scsi::reservations::{Request, Reservations};
use sim::session::{Ended, Pending, Session, data_out};
use sim::station::Station;
use tokio::task::LocalSet;
use uuid::Uuid;

use crate::oracle::{BLOCK, Oracle, Sequence, Tick, content};

/// Status, sense key, additional sense code and qualifier.
pub(crate) type Answer = (u8, u8, u8, u8);
pub(crate) const GOOD: Answer = (0, 0, 0, 0);
pub(crate) const CONFLICT: Answer = (0x18, 0, 0, 0);

pub(crate) const REGISTER: u8 = 0;
pub(crate) const RESERVE: u8 = 1;
pub(crate) const RELEASE: u8 = 2;
pub(crate) const CLEAR: u8 = 3;
pub(crate) const PREEMPT: u8 = 4;
pub(crate) const PREEMPT_AND_ABORT: u8 = 5;
pub(crate) const REGISTER_IGNORE: u8 = 6;
/// Write Exclusive - Registrants Only.
pub(crate) const REGISTRANTS_ONLY: u8 = 5;

pub(crate) const POOL: PoolId = PoolId(Uuid::from_u128(1));
pub(crate) const VOLUME: VolumeId = VolumeId(Uuid::from_u128(2));
/// Blocks that the oracle watches, over three chunks of the store.
pub(crate) const BLOCKS: usize = 320;

/// Virtual time that only a deadlock exceeds.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// Run a world to its end, in virtual time.
pub(crate) fn simulate<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, work)
}

/// PERSISTENT RESERVE OUT under way: nexus, CDB, parameter list.
type UnderWay = (ItNexus, Vec<u8>, Bytes);

pub(crate) struct World {
    pub(crate) station: Rc<Station>,
    pub(crate) oracle: RefCell<Oracle>,
    changes: RefCell<BTreeMap<Tick, UnderWay>>,
}

pub(crate) fn iqn(number: u8) -> String {
    format!("iqn.2026-11.org.example:host-{number}")
}

pub(crate) fn isid(port: u8) -> [u8; 6] {
    [0x80, 0, 0, 0, 0, port]
}

pub(crate) fn nexus(number: u8, port: u8) -> ItNexus {
    let initiator = InitiatorPort::iscsi(&iqn(number), isid(port));
    ItNexus { initiator, target: node::facts::TARGET_PORT }
}

fn attachment(number: u8) -> AttachmentId {
    AttachmentId(Uuid::from_u128(0x100 + u128::from(number)))
}

impl World {
    /// A node with a volume that so many hosts may reach.
    pub(crate) async fn new(seed: u64, delay_max: Duration, hosts: u8) -> Rc<Self> {
        let station = Station::new(seed, delay_max, 512);
        let node = station.start().await.unwrap();
        let oracle = RefCell::new(Oracle::new(BLOCKS));
        let world = Rc::new(Self { station, oracle, changes: RefCell::default() });
        let path = Station::pool_dir().display().to_string();
        let order = Order::OpenPool {
            pool: POOL,
            driver: Driver::Local,
            path,
            io: IoMode::Cached,
            capacity: None,
        };
        node.order(order).await.unwrap();
        let size = ByteSize((BLOCKS * BLOCK) as u64);
        let source = Source::Blank;
        let order = Order::CreateVolume { volume: VOLUME, pool: POOL, size, source };
        node.order(order).await.unwrap();
        for number in 1..=hosts {
            node.order(Order::Attach { access: world.access(number) }).await.unwrap();
        }
        world
    }

    pub(crate) fn access(&self, number: u8) -> Access {
        Access {
            attachment: attachment(number),
            volume: VOLUME,
            host: HostId(Uuid::from_u128(0x200 + u128::from(number))),
            host_name: format!("host-{number}"),
            initiators: vec![iqn(number)],
            mode: Mode::ReadWrite,
            chap: None,
        }
    }

    pub(crate) fn fence_order(number: u8) -> Order {
        Order::Fence { volume: VOLUME, attachment: attachment(number) }
    }

    pub(crate) fn node(&self) -> Rc<Node> {
        self.station.node().expect("the node lives")
    }

    pub(crate) fn reservations(&self) -> Reservations {
        self.node().unit(VOLUME).map(|unit| (*unit.reservations()).clone()).unwrap_or_default()
    }

    /// Keys and whether they hold, sorted.
    pub(crate) fn registered(&self) -> Vec<(u64, bool)> {
        let view = self.node().reservations(VOLUME);
        let mut known: Vec<_> = view.registrants.iter().map(|r| (r.key, r.holder)).collect();
        known.sort_unstable();
        known
    }

    /// Look at the whole volume from below, and let the oracle judge it.
    pub(crate) async fn look(&self) {
        let started = self.oracle.borrow_mut().read_begins();
        let unit = self.node().unit(VOLUME).expect("hosts are attached");
        let found = unit.volume.read(&self.station.disk, 0, BLOCKS * BLOCK).await.unwrap();
        self.oracle.borrow_mut().read_ends(0, started, &found.concat());
    }

    /// The node goes, with or without the machine's power, and comes back. What it then says of
    /// reservations is what was there, or what a change under way would have made of it.
    pub(crate) async fn crash(&self, power: bool) {
        let before = self.reservations();
        let changes: Vec<_> = self.changes.borrow().values().cloned().collect();
        if power {
            self.station.lose_power();
            self.oracle.borrow_mut().power_lost();
        } else {
            self.station.kill();
            self.oracle.borrow_mut().killed();
        }
        let node = self.station.start().await.expect("a crash hinders no start");
        assert!(node.unit(VOLUME).is_some(), "the volume opens");
        let mut allowed = vec![before.after_power_loss()];
        for (nexus, cdb, list) in changes {
            let request = Request::parse(&cdb, &list).unwrap();
            if let Ok(change) = before.apply(&nexus, &request, &[node::facts::TARGET_PORT]) {
                allowed.push(change.next.after_power_loss());
            }
        }
        let found = self.reservations();
        assert!(!found.is_lost(), "reservation state was lost");
        assert!(allowed.contains(&found), "{found:?} after a crash is none of {allowed:?}");
        self.changes.borrow_mut().clear();
        self.look().await;
    }

    /// The same while this host's change of reservations was under way and ended without GOOD.
    pub(crate) async fn crash_during_change(
        &self,
        power: bool,
        host: &Host,
        (action, kind, keys): (u8, u8, (u64, u64)),
    ) {
        let (cdb, list) = change(action, kind, keys, true);
        let tick = self.oracle.borrow_mut().tick(11);
        let under_way = (nexus(host.number, host.port), cdb, list);
        self.changes.borrow_mut().insert(tick, under_way);
        self.crash(power).await;
    }

    /// A logged-in host, its power on attention taken.
    pub(crate) async fn host(self: &Rc<Self>, number: u8, port: u8) -> Host {
        let host = Host::new(self, number, port);
        assert!(host.log_in().await, "host {number} logs in");
        host.attentions().await;
        host
    }
}

/// A command that a fence ended gets no answer (TAS is zero): the host gives it up.
async fn patient(pending: Pending) -> Ended {
    let patience = Duration::from_secs(10);
    tokio::time::timeout(patience, pending.ended()).await.unwrap_or(Ended::Lost)
}

/// One initiator port and its session, if it has one.
pub(crate) struct Host {
    pub(crate) world: Rc<World>,
    pub(crate) number: u8,
    port: u8,
    pub(crate) epoch: Cell<u32>,
    session: RefCell<Option<Session>>,
}

/// A write that was sent.
pub(crate) struct Writing {
    pub(crate) sequence: Sequence,
    pub(crate) pending: Pending,
    durable: bool,
}

/// A CDB with operation code, second byte, LBA and length where 16-byte commands have them.
pub(crate) fn cdb16(opcode: u8, flags: u8, lba: usize, blocks: usize) -> Vec<u8> {
    let mut cdb = vec![0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&(lba as u64).to_be_bytes());
    cdb[10..14].copy_from_slice(&u32::try_from(blocks).unwrap().to_be_bytes());
    cdb
}

/// PERSISTENT RESERVE OUT: CDB and basic parameter list.
fn change(action: u8, kind: u8, keys: (u64, u64), aptpl: bool) -> (Vec<u8>, Bytes) {
    let mut list = [0; 24];
    list[..8].copy_from_slice(&keys.0.to_be_bytes());
    list[8..16].copy_from_slice(&keys.1.to_be_bytes());
    list[20] = u8::from(aptpl);
    (vec![0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0], Bytes::copy_from_slice(&list))
}

pub(crate) fn answer_of(outcome: &Outcome) -> Answer {
    let sense = |at: usize| outcome.sense.get(at).copied().unwrap_or(0);
    match outcome.status {
        0x02 => (2, sense(2) & 0x0F, sense(12), sense(13)),
        status => (status, 0, 0, 0),
    }
}

impl Host {
    pub(crate) fn new(world: &Rc<World>, number: u8, port: u8) -> Self {
        let (epoch, session) = (Cell::new(0), RefCell::default());
        Self { world: Rc::clone(world), number, port, epoch, session }
    }

    pub(crate) async fn log_in(&self) -> bool {
        let mut options = Options::new(iqn(self.number), Some(node::book::target_name(VOLUME)));
        options.isid = isid(self.port);
        let from = ([192, 0, 2, 10 + self.number], 40_000 + u16::from(self.port)).into();
        let session = self.world.station.log_in(from, options).await;
        let good = session.is_some();
        *self.session.borrow_mut() = session;
        good
    }

    pub(crate) fn session(&self) -> Option<Session> {
        self.session.borrow().clone().filter(|session| !session.is_closed())
    }

    pub(crate) fn start(&self, cdb: &[u8], data: Data, withhold: bool) -> Option<Pending> {
        let session = self.session()?;
        Some(session.start(Command { withhold, ..Command::new(0, cdb, data) }))
    }

    /// `None`: nothing came back.
    pub(crate) async fn outcome(&self, cdb: &[u8], data: Data) -> Option<Outcome> {
        match patient(self.start(cdb, data, false)?).await {
            Ended::Answered(outcome) => Some(outcome),
            Ended::Aborted | Ended::Lost => None,
        }
    }

    pub(crate) async fn run(&self, cdb: &[u8], data: Data) -> Option<Answer> {
        self.outcome(cdb, data).await.as_ref().map(answer_of)
    }

    /// Take all pending unit attentions: their codes, in order.
    pub(crate) async fn attentions(&self) -> Vec<(u8, u8)> {
        let mut found = Vec::new();
        while let Some((2, 6, asc, ascq)) = self.run(&[0; 6], Data::None).await {
            found.push((asc, ascq));
            assert!(found.len() < 20, "endless unit attentions: {found:x?}");
        }
        found
    }

    /// Send a write of what the oracle knows by its sequence.
    pub(crate) fn start_write(&self, range: Range<usize>, kind: Write) -> Option<Writing> {
        let session = self.session()?;
        let sequence = self.world.oracle.borrow_mut().begin(range.clone(), kind.forbidden);
        let writer = u32::from(self.number);
        let data = content(writer, self.epoch.get(), sequence, range.clone());
        let cdb = cdb16(0x8A, u8::from(kind.durable) << 3, range.start, range.len());
        let command = Command::new(0, &cdb, data_out(data));
        let pending = session.start(Command { withhold: kind.withhold, ..command });
        Some(Writing { sequence, pending, durable: kind.durable })
    }

    /// How it ended; the oracle knows of it then. `None`: nobody can know whether it was done.
    pub(crate) async fn ended(&self, writing: Writing) -> Option<Answer> {
        let ended = patient(writing.pending).await;
        let mut oracle = self.world.oracle.borrow_mut();
        let Ended::Answered(outcome) = ended else { return None };
        let answer = answer_of(&outcome);
        oracle.tick(u64::from(answer.0) << 16 | u64::from(answer.2));
        match answer {
            GOOD => oracle.good(writing.sequence, writing.durable),
            // Refused before anything was done.
            CONFLICT | (2, 6 | 5, _, _) => oracle.never(writing.sequence),
            _ => oracle.close(writing.sequence),
        }
        Some(answer)
    }

    pub(crate) async fn write(&self, range: Range<usize>) -> Option<Answer> {
        let writing = self.start_write(range, Write::default())?;
        self.ended(writing).await
    }

    pub(crate) async fn read(&self, range: Range<usize>) -> Option<Answer> {
        let started = self.world.oracle.borrow_mut().read_begins();
        let cdb = cdb16(0x88, 0, range.start, range.len());
        let bytes = u32::try_from(range.len() * BLOCK).unwrap();
        let outcome = self.outcome(&cdb, Data::In(bytes)).await?;
        let answer = answer_of(&outcome);
        if answer == GOOD {
            let data = outcome.data.concat();
            assert_eq!(data.len(), range.len() * BLOCK);
            self.world.oracle.borrow_mut().read_ends(range.start, started, &data);
        }
        Some(answer)
    }

    pub(crate) async fn flush(&self) -> Option<Answer> {
        let started = self.world.oracle.borrow_mut().flush_begins();
        let answer = self.run(&cdb16(0x91, 0, 0, 0), Data::None).await?;
        if answer == GOOD {
            self.world.oracle.borrow_mut().flush_ends(started);
        }
        Some(answer)
    }

    /// PERSISTENT RESERVE OUT with these keys.
    pub(crate) async fn reserve_out(
        &self,
        action: u8,
        kind: u8,
        keys: (u64, u64),
        aptpl: bool,
    ) -> Option<Answer> {
        let (cdb, list) = change(action, kind, keys, aptpl);
        let tick = self.world.oracle.borrow_mut().tick(10);
        let change = (nexus(self.number, self.port), cdb.clone(), list.clone());
        self.world.changes.borrow_mut().insert(tick, change);
        let answer = self.run(&cdb, data_out(list)).await;
        if answer.is_some() {
            // One without an answer may still be under way.
            self.world.changes.borrow_mut().remove(&tick);
        }
        answer
    }

    pub(crate) async fn register(&self, key: u64) {
        assert_eq!(self.reserve_out(REGISTER, 0, (0, key), false).await, Some(GOOD), "REGISTER");
    }

    pub(crate) async fn reserve(&self, key: u64, kind: u8) {
        assert_eq!(self.reserve_out(RESERVE, kind, (key, 0), false).await, Some(GOOD), "RESERVE");
    }

    /// PERSISTENT RESERVE IN.
    pub(crate) async fn reserve_in(&self, action: u8) -> Vec<u8> {
        let cdb = [0x5E, action, 0, 0, 0, 0, 0, 0x10, 0, 0];
        let outcome = self.outcome(&cdb, Data::In(0x1000)).await.unwrap();
        assert_eq!(answer_of(&outcome), GOOD);
        outcome.data.concat()
    }
}

/// How a write is sent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Write {
    pub(crate) durable: bool,
    pub(crate) withhold: bool,
    /// The host was fenced, and knows that it is.
    pub(crate) forbidden: bool,
}
