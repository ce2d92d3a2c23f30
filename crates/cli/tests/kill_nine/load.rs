//! The load: lanes that write, flush, unmap and read back, each on stripes of its own.

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
        match self.dice.below(20) {
            0 => self.flush().await,
            1 => self.unmap(range).await,
            2..6 => self.read(range).await,
            6..11 => self.write(range, true).await,
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

enum Trouble {
    Host(HostError),
    Content(String),
}

impl From<HostError> for Trouble {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}
