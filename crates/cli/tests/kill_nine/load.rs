//! The load: lanes that write in all ways, flush, unmap and read back, each on stripes of its own,
//! and one that changes reservations without end.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use host::{Data, HostError, LogicalUnit};

use crate::dice::Dice;
use crate::ledger::{BLOCK, Ledger, content};

/// Logical blocks of a stripe. Neighbours belong to different lanes, mostly of different hosts.
const STRIPE: usize = 16;

pub(crate) struct Lane {
    pub(crate) unit: LogicalUnit,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    pub(crate) blocks: usize,
    pub(crate) number: usize,
    pub(crate) lanes: usize,
    pub(crate) dice: Dice,
}

impl Lane {
    /// Work until the connection is gone; the number of commands that were answered.
    pub(crate) async fn run(mut self) -> Result<usize, String> {
        let mut answered = 0;
        loop {
            match self.step().await {
                Ok(()) => answered += 1,
                Err(Trouble::Host(HostError::Lost(_))) => return Ok(answered),
                Err(Trouble::Host(error)) => return Err(format!("lane {}: {error}", self.number)),
                Err(Trouble::Content(what)) => return Err(what),
            }
        }
    }

    async fn step(&mut self) -> Result<(), Trouble> {
        let range = self.range();
        match self.dice.below(24) {
            0..2 => self.flush().await,
            2 => self.unmap(range).await,
            3 => self.write_zeros(range).await,
            4..6 => self.write_same(range.start).await,
            6..9 => self.compare_and_write(range.start).await,
            9..13 => self.read(range).await,
            13..17 => self.write(range, true).await,
            _ => self.write(range, false).await,
        }
    }

    /// A part of a stripe of this lane.
    fn range(&mut self) -> Range<usize> {
        let turns = self.blocks / STRIPE / self.lanes;
        let stripe = self.dice.below(turns) * self.lanes + self.number;
        let first = self.dice.below(STRIPE);
        let count = 1 + self.dice.below(STRIPE - first);
        stripe * STRIPE + first..stripe * STRIPE + first + count
    }

    async fn write(&self, range: Range<usize>, durable: bool) -> Result<(), Trouble> {
        let version = self.ledger.lock().unwrap().write_begins(range.clone());
        let lba = u64::try_from(range.start).unwrap();
        self.unit.write(lba, content(range.clone(), version), durable).await?;
        self.ledger.lock().unwrap().write_ends(range, version, durable);
        Ok(())
    }

    async fn flush(&self) -> Result<(), Trouble> {
        let covered = self.ledger.lock().unwrap().flush_begins();
        self.unit.sync().await?;
        self.ledger.lock().unwrap().flush_ends(&covered);
        Ok(())
    }

    async fn unmap(&self, range: Range<usize>) -> Result<(), Trouble> {
        self.ledger.lock().unwrap().unmap_begins(range.clone());
        // UNMAP with one descriptor (SBC-4 5.34).
        let mut list = [0; 24];
        (list[1], list[3]) = (22, 16);
        list[8..16].copy_from_slice(&u64::try_from(range.start).unwrap().to_be_bytes());
        list[16..20].copy_from_slice(&u32::try_from(range.len()).unwrap().to_be_bytes());
        let cdb = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
        self.unit.run(&cdb, Data::Out(vec![Bytes::copy_from_slice(&list)])).await?;
        Ok(())
    }

    /// WRITE SAME (16) with NDOB: zeros, which count as written (SBC-4 5.49).
    async fn write_zeros(&self, range: Range<usize>) -> Result<(), Trouble> {
        let version = self.ledger.lock().unwrap().unmap_begins(range.clone());
        let cdb = cdb(0x93, 0x01, range.start, range.len());
        self.unit.run(&cdb, Data::None).await?;
        self.ledger.lock().unwrap().write_ends(range, version, false);
        Ok(())
    }

    /// WRITE SAME (16) of one block: every block has content of its own.
    async fn write_same(&self, at: usize) -> Result<(), Trouble> {
        let version = self.ledger.lock().unwrap().write_begins(at..at + 1);
        let data = vec![content(at..at + 1, version)];
        self.unit.run(&cdb(0x93, 0, at, 1), Data::Out(data)).await?;
        self.ledger.lock().unwrap().write_ends(at..at + 1, version, false);
        Ok(())
    }

    /// COMPARE AND WRITE of one block with FUA, after a look at what is there.
    async fn compare_and_write(&self, at: usize) -> Result<(), Trouble> {
        let found = self.unit.read(u64::try_from(at).unwrap(), 1).await?;
        let version = self.ledger.lock().unwrap().write_begins(at..at + 1);
        let mut cdb = cdb(0x89, 0x08, at, 0);
        cdb[13] = 1;
        let data = vec![found, content(at..at + 1, version)];
        self.unit.run(&cdb, Data::Out(data)).await?;
        self.ledger.lock().unwrap().write_ends(at..at + 1, version, true);
        Ok(())
    }

    /// Nobody else writes here, so that every answered write must be seen.
    async fn read(&self, range: Range<usize>) -> Result<(), Trouble> {
        let low = self.ledger.lock().unwrap().picture_begins();
        let lba = u64::try_from(range.start).unwrap();
        let data = self.unit.read(lba, u32::try_from(range.len()).unwrap()).await?;
        let bounds = self.ledger.lock().unwrap().picture_ends(low);
        for (at, block) in range.zip(data.chunks(BLOCK)) {
            bounds.check_block(at, block).map_err(Trouble::Content)?;
        }
        Ok(())
    }
}

/// Registers one key after the other until the connection is gone. Gives the last one that was
/// answered and the last one that was sent: one of them must be what a record says.
pub(crate) async fn register_on(
    unit: LogicalUnit,
    first: u64,
    aptpl: bool,
) -> Result<(u64, u64), String> {
    let mut answered = first;
    loop {
        let next = answered + 1;
        // REGISTER AND IGNORE EXISTING KEY.
        match unit.persistent_reserve_out(6, 0, change((0, next), aptpl)).await {
            Ok(()) => answered = next,
            Err(HostError::Lost(_)) => return Ok((answered, next)),
            Err(error) => return Err(format!("registering: {error}")),
        }
    }
}

/// The parameter list of PERSISTENT RESERVE OUT.
pub(crate) fn change((key, action_key): (u64, u64), aptpl: bool) -> Bytes {
    let mut list = [0; 24];
    list[..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&action_key.to_be_bytes());
    list[20] = u8::from(aptpl);
    Bytes::copy_from_slice(&list)
}

/// A 16-byte CDB with flags, LBA and length.
fn cdb(opcode: u8, flags: u8, at: usize, blocks: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&u64::try_from(at).unwrap().to_be_bytes());
    cdb[10..14].copy_from_slice(&u32::try_from(blocks).unwrap().to_be_bytes());
    cdb
}

enum Trouble {
    Host(HostError),
    Content(String),
}

impl From<HostError> for Trouble {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}
