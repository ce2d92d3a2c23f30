//! The load: lanes that write, flush, unmap and read back. A lane alone writes to its stripes and
//! reads everybody's.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use host::{Data, HostError, LogicalUnit};

use crate::dice::Dice;
use crate::ledger::{BLOCK, Ledger, content};

/// Logical blocks of a stripe. Neighbours belong to different lanes, mostly of different hosts.
const STRIPE: usize = 16;
/// Longest wait of a lane between two commands.
const PAUSE_MS: usize = 6;
/// A command that has not ended by then never will: restarts and fences end the session, and with
/// it the command, so that they are no excuse.
const STALL: Duration = Duration::from_secs(30);
/// Unit attentions in a row that are news and not a failure.
const ATTENTIONS_MAX: usize = 16;

/// What all lanes did, over the whole campaign.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) commands: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) protected: AtomicU64,
    pub(crate) no_space: AtomicU64,
    pub(crate) blocks_read: AtomicU64,
    slowest: Mutex<(Duration, String)>,
}

impl Figures {
    fn ended(&self, what: &str, took: Duration) {
        self.commands.fetch_add(1, Relaxed);
        let mut slowest = self.slowest.lock().unwrap();
        if took > slowest.0 {
            *slowest = (took, what.to_owned());
        }
    }

    pub(crate) fn slowest(&self) -> (Duration, String) {
        self.slowest.lock().unwrap().clone()
    }
}

/// Why a lane came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Asked,
    SessionLost,
}

pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) unit: LogicalUnit,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    pub(crate) number: usize,
    pub(crate) lanes: usize,
    pub(crate) read_only: bool,
    pub(crate) dice: Dice,
    pub(crate) halt: Arc<AtomicBool>,
    pub(crate) figures: Arc<Figures>,
}

/// What a command that did not end well means to the lane.
enum Trouble {
    SessionLost,
    Attention,
    Conflict,
    Protected,
    NoSpace,
    /// TASK ABORTED, BUSY, TASK SET FULL.
    Unclear,
    Broken(String),
}

impl From<HostError> for Trouble {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Lost(_) => Self::SessionLost,
            HostError::Status { key: 6, .. } => Self::Attention,
            HostError::Status { status: 0x18, .. } => Self::Conflict,
            HostError::Status { key: 7, asc: 0x27, ascq: 7, .. } => Self::NoSpace,
            HostError::Status { key: 7, asc: 0x27, .. } => Self::Protected,
            HostError::Status { status: 0x40 | 0x08 | 0x28, .. } => Self::Unclear,
            other => Self::Broken(other.to_string()),
        }
    }
}

impl Lane {
    /// Work until asked to end or until the session is gone; what is wrong otherwise.
    pub(crate) async fn run(mut self) -> Result<End, String> {
        let ended = match self.settle_all().await {
            Ok(()) => self.work().await,
            Err(trouble) => Err(trouble),
        };
        match ended {
            Ok(()) => Ok(End::Asked),
            Err(Trouble::SessionLost) => Ok(End::SessionLost),
            Err(Trouble::Broken(what)) => Err(format!("{}: {what}", self.name)),
            Err(_) => Err(format!("{}: a command was refused that nothing refuses", self.name)),
        }
    }

    async fn work(&mut self) -> Result<(), Trouble> {
        while !self.halt.load(Relaxed) {
            match self.step().await {
                Ok(()) => {}
                Err(Trouble::Conflict) => {
                    self.figures.conflicts.fetch_add(1, Relaxed);
                }
                Err(Trouble::NoSpace) => {
                    self.figures.no_space.fetch_add(1, Relaxed);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(Trouble::Attention | Trouble::Unclear) => {}
                Err(other) => return Err(other),
            }
            let pause = self.dice.below(PAUSE_MS).try_into().unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), Trouble> {
        let blocks = self.ledger.lock().unwrap().blocks();
        let anywhere = self.range(blocks, None);
        let own = self.range(blocks, Some(self.number));
        match self.dice.below(20) {
            0..4 => self.read(anywhere).await,
            4..7 => self.read(own).await,
            7 if self.read_only => self.refused_write(own).await,
            _ if self.read_only => self.read(anywhere).await,
            7 => self.flush().await,
            8 => self.unmap(own).await,
            9..14 => self.write(own, true).await,
            _ => self.write(own, false).await,
        }
    }

    /// A part of a stripe: of this lane, or of any.
    fn range(&mut self, blocks: usize, lane: Option<usize>) -> Range<usize> {
        let turns = blocks / STRIPE / self.lanes;
        let lane = lane.unwrap_or_else(|| self.dice.below(self.lanes));
        let stripe = self.dice.below(turns) * self.lanes + lane;
        let first = self.dice.below(STRIPE);
        let count = 1 + self.dice.below(STRIPE - first);
        stripe * STRIPE + first..stripe * STRIPE + first + count
    }

    /// Run a command, again after unit attentions, and note how long it took.
    async fn timed<T, F>(&self, what: &str, command: impl Fn() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, HostError>>,
    {
        for _ in 0..ATTENTIONS_MAX {
            let began = Instant::now();
            let Ok(ended) = tokio::time::timeout(STALL, command()).await else {
                return Err(Trouble::Broken(format!("{what} stalls for {STALL:?}")));
            };
            match ended.map_err(Trouble::from) {
                Err(Trouble::SessionLost) => return Err(Trouble::SessionLost),
                other => {
                    self.figures.ended(&format!("{what} of {}", self.name), began.elapsed());
                    match other {
                        Err(Trouble::Attention) => {}
                        other => return other,
                    }
                }
            }
        }
        Err(Trouble::Broken(format!("{what}: a unit attention without end")))
    }

    async fn write(&self, range: Range<usize>, durable: bool) -> Result<(), Trouble> {
        let (before, version) = {
            let mut ledger = self.ledger.lock().unwrap();
            (ledger.sent(range.clone()), ledger.write_begins(range.clone()))
        };
        let lba = lba(&range);
        let data = content(range.clone(), version);
        match self.timed("WRITE", || self.unit.write(lba, data.clone(), durable)).await {
            Ok(()) => self.ledger.lock().unwrap().write_ends(range, version, durable),
            Err(refused @ (Trouble::Conflict | Trouble::Protected)) => {
                self.ledger.lock().unwrap().refused(before);
                return Err(refused);
            }
            Err(trouble @ (Trouble::NoSpace | Trouble::Unclear)) => {
                self.settle(range).await?;
                return Err(trouble);
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// A write through a read-only attachment must be refused, and leave nothing.
    async fn refused_write(&self, range: Range<usize>) -> Result<(), Trouble> {
        match self.write(range, false).await {
            Err(Trouble::Protected) => {
                self.figures.protected.fetch_add(1, Relaxed);
                Ok(())
            }
            Ok(()) => Err(Trouble::Broken("a read-only attachment took a write".into())),
            other => other,
        }
    }

    async fn flush(&self) -> Result<(), Trouble> {
        let covered = self.ledger.lock().unwrap().flush_begins();
        self.timed("SYNCHRONIZE CACHE", || self.unit.sync()).await?;
        self.ledger.lock().unwrap().flush_ends(&covered);
        Ok(())
    }

    async fn unmap(&self, range: Range<usize>) -> Result<(), Trouble> {
        let before = {
            let mut ledger = self.ledger.lock().unwrap();
            let before = ledger.sent(range.clone());
            ledger.unmap_begins(range.clone());
            before
        };
        // UNMAP with one descriptor (SBC-4 5.34).
        let mut list = [0; 24];
        (list[1], list[3]) = (22, 16);
        list[8..16].copy_from_slice(&lba(&range).to_be_bytes());
        list[16..20].copy_from_slice(&count(&range).to_be_bytes());
        let cdb = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
        let data = || Data::Out(vec![Bytes::copy_from_slice(&list)]);
        let ended = self.timed("UNMAP", || async { self.unit.run(&cdb, data()).await.map(drop) });
        match ended.await {
            Err(Trouble::Conflict) => {
                self.ledger.lock().unwrap().refused(before);
                Err(Trouble::Conflict)
            }
            Err(Trouble::SessionLost) => Err(Trouble::SessionLost),
            // What the target kept of them is seen now, and stays.
            ended => self.settle(range).await.and(ended),
        }
    }

    /// Every answered write must be seen, by whomever it was.
    async fn read(&self, range: Range<usize>) -> Result<(), Trouble> {
        self.look(range).await.map(drop)
    }

    async fn look(&self, range: Range<usize>) -> Result<Vec<u64>, Trouble> {
        let low = self.ledger.lock().unwrap().picture_begins();
        let (lba, blocks) = (lba(&range), count(&range));
        let data = self.timed("READ", || self.unit.read(lba, blocks)).await?;
        let bounds = self.ledger.lock().unwrap().picture_ends(low);
        self.figures.blocks_read.fetch_add(blocks.into(), Relaxed);
        let blocks = range.zip(data.chunks(BLOCK));
        let found = blocks.map(|(at, block)| bounds.check_block(at, block));
        found.collect::<Result<_, _>>().map_err(Trouble::Broken)
    }

    /// Nothing of this lane is on its way: what is there now stays until it writes again.
    async fn settle(&self, range: Range<usize>) -> Result<(), Trouble> {
        let first = range.start;
        let found = self.look(range).await?;
        self.ledger.lock().unwrap().settle_part(first, &found);
        Ok(())
    }

    /// Find out what became of the commands that a former session never saw answered.
    pub(crate) async fn settle_stripes(&self) -> Result<(), String> {
        match self.settle_all().await {
            Ok(()) | Err(Trouble::SessionLost) => Ok(()),
            Err(Trouble::Broken(what)) => Err(format!("{}: {what}", self.name)),
            Err(_) => Err(format!("{}: a READ was refused that nothing refuses", self.name)),
        }
    }

    async fn settle_all(&self) -> Result<(), Trouble> {
        let stripes = self.ledger.lock().unwrap().blocks() / STRIPE;
        for stripe in (self.number..stripes).step_by(self.lanes) {
            let range = stripe * STRIPE..(stripe + 1) * STRIPE;
            let open = self.ledger.lock().unwrap().unanswered(range);
            if let Some(open) = open {
                self.settle(open).await?;
            }
        }
        Ok(())
    }
}

fn lba(range: &Range<usize>) -> u64 {
    u64::try_from(range.start).unwrap()
}

fn count(range: &Range<usize>) -> u32 {
    u32::try_from(range.len()).unwrap()
}
