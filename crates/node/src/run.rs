//! Running a decoded command against the volume: the shell's half of SBC.
//!
//! Invariant: `submit` is the only road to the medium. It counts the command in, checks the
//! reservation again under that count, and only then touches the store.

mod copy;
mod sanitize;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use env::BlockIo;
use model::order::Notice;
use scsi::command::{Command, Extent, Fill, VerifyCheck};
use scsi::conflict::Conflict;
use scsi::logical_unit;
use scsi::reservations::Request;
use scsi::sense::{Asc, Response, Sense, SenseKey};
use scsi::unit_attention::UnitAttention;
use store::StoreError;

use crate::gate::Pass;
use crate::metrics::Kind;
use crate::nexus::NexusState;
use crate::unit::LogicalUnit;

pub(crate) use copy::PIECE_BYTES;

/// The most that one GET LBA STATUS looks at.
const LBA_STATUS_MAX_BYTES: u64 = 64 << 30;

/// Whether ABORT TASK has named a command.
pub type Named = Rc<Cell<bool>>;

/// A command on its way to the medium, with its data-out.
pub struct Job {
    pub unit: Arc<LogicalUnit>,
    pub nexus: Arc<NexusState>,
    pub pass: Pass,
    pub command: Command,
    pub conflict: Conflict,
    pub data: Vec<Bytes>,
    pub named: Named,
}

/// How a command ended: an answer whose data-in comes in pieces that were never joined.
#[derive(Debug)]
pub struct Outcome {
    pub response: Response,
    pub data: Vec<Bytes>,
}

impl From<Response> for Outcome {
    fn from(mut response: Response) -> Self {
        let data = std::mem::take(&mut response.data);
        let data = if data.is_empty() { Vec::new() } else { vec![data] };
        Self { response, data }
    }
}

/// What kind of work a command is, for the figures.
#[must_use]
pub fn kind_of(command: &Command) -> Kind {
    match command {
        Command::Read { .. } => Kind::Read,
        Command::Write { .. }
        | Command::WriteAtomic { .. }
        | Command::WriteAndVerify { .. }
        | Command::CompareAndWrite { .. }
        | Command::OrWrite { .. } => Kind::Write,
        Command::SynchronizeCache { .. } => Kind::Flush,
        _ => Kind::Other,
    }
}

/// Submit a command whose data-out is complete. `None`: it was aborted; nobody is answered.
pub async fn submit(job: &mut Job, io: Rc<dyn BlockIo>) -> Option<Outcome> {
    let inflight = job.pass.enter()?;
    if !job.unit.allows(&job.nexus, job.conflict) {
        job.nexus.figures.conflict();
        return Some(Response::conflict().into());
    }
    let io = &*io;
    match &job.command {
        Command::PersistentReserveOut { cdb, .. } => {
            let request = match Request::parse(cdb, &joined(&job.data)) {
                Ok(request) => request,
                Err(sense) => return Some(Response::check(sense).into()),
            };
            let entered = (&job.pass, inflight);
            let response =
                job.unit.persistent_reserve_out(io, &job.nexus, entered, &request).await?;
            return Some(response.into());
        }
        Command::Reserve | Command::Release => {
            let reserve = job.command == Command::Reserve;
            let entered = (&job.pass, inflight);
            return job.unit.legacy(io, &job.nexus, entered, reserve).await.map(Outcome::from);
        }
        Command::ExtendedCopy { .. } => {
            return copy::run(job, io, inflight).await.map(Outcome::from);
        }
        Command::Sanitize { .. } => {
            return sanitize::run(job, io, inflight).await.map(Outcome::from);
        }
        Command::LogRegistrants { allocation_bytes } => {
            let data = job.unit.registrants_page();
            return Some(Response::good_cut(data, u32::from(*allocation_bytes)).into());
        }
        Command::ExitSanitizeFailure => {
            let left = job.unit.exit_sanitize_failure(io).await;
            return Some(left.map_or_else(Response::check, |()| Response::good()).into());
        }
        _ => {}
    }
    let outcome = medium(job, io).await;
    drop(inflight);
    Some(outcome.unwrap_or_else(|error| Response::check(job.sense_of(error)).into()))
}

/// Why a medium command did not end with GOOD.
enum MediumError {
    Store(StoreError),
    Sense(Sense),
}

impl From<StoreError> for MediumError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Sense> for MediumError {
    fn from(sense: Sense) -> Self {
        Self::Sense(sense)
    }
}

async fn medium(job: &Job, io: &dyn BlockIo) -> Result<Outcome, MediumError> {
    let volume = &job.unit.volume;
    match &job.command {
        Command::Read { extent, fua } => {
            if *fua {
                // What a FUA read returns must not be lost again.
                volume.flush(io).await?;
            }
            let (offset, length) = job.range(*extent);
            let data = volume.read(io, offset, length).await?;
            return Ok(Outcome { response: Response::good(), data });
        }
        Command::Write { extent, fua } => job.write(io, *extent, *fua).await?,
        Command::WriteAtomic { extent, fua } => {
            let (offset, length) = job.range(*extent);
            let parts = whole_blocks(&job.data, length, job.block_bytes());
            if parts.iter().map(Bytes::len).sum::<usize>() < length {
                return Err(incomplete_data().into());
            }
            volume.write_atomic(io, offset, parts, *fua).await?;
        }
        Command::WriteAndVerify { extent, compare } => {
            job.write(io, *extent, true).await?;
            if *compare {
                job.verify(io, *extent, VerifyCheck::Equal).await?;
            }
        }
        Command::Verify { extent, check } => job.verify(io, *extent, *check).await?,
        Command::CompareAndWrite { extent, fua } => {
            job.compare_and_write(io, *extent, *fua).await?
        }
        Command::OrWrite { extent, fua } => job.or_write(io, *extent, *fua).await?,
        Command::WriteSame { extent, fill } => job.write_same(io, *extent, *fill).await?,
        Command::Unmap { .. } => {
            let facts = job.unit.facts();
            for extent in logical_unit::unmap_extents(&joined(&job.data), &facts)? {
                let (offset, length) = job.wide_range(extent);
                volume.discard(io, offset, length).await?;
            }
        }
        Command::SynchronizeCache { .. } => volume.flush(io).await?,
        // There is no cache of ours to fill: GOOD says that not all of it is in one.
        Command::Prefetch { .. } => {}
        Command::GetLbaStatus { lba, allocation_bytes } => {
            return Ok(job.lba_status(*lba, *allocation_bytes));
        }
        Command::ModeSelect { ten, .. } => job.mode_select(*ten)?,
        Command::Nothing { flush } => {
            if *flush {
                volume.flush(io).await?;
            }
        }
        Command::ReceiveCopyResults { report, list_id, allocation_bytes } => {
            let known = job.nexus.copies.find(*list_id);
            let progress = known.ok_or(Sense::illegal_field_in_cdb(2))?;
            let data = scsi::copy::report(&progress, *report);
            return Ok(Response::good_cut(data, *allocation_bytes).into());
        }
        Command::PersistentReserveOut { .. }
        | Command::Reserve
        | Command::Release
        | Command::Sanitize { .. }
        | Command::ExitSanitizeFailure
        | Command::LogRegistrants { .. }
        | Command::ExtendedCopy { .. } => {
            // These took another road in `submit`.
        }
    }
    Ok(Response::good().into())
}

impl Job {
    fn block_bytes(&self) -> u64 {
        self.unit.block_bytes()
    }

    /// Byte offset and length of an extent that one command moves.
    fn range(&self, extent: Extent) -> (u64, usize) {
        let (offset, length) = self.wide_range(extent);
        (
            offset,
            usize::try_from(length).expect("a transfer's length was checked against the limit"),
        )
    }

    fn wide_range(&self, extent: Extent) -> (u64, u64) {
        (extent.lba * self.block_bytes(), extent.blocks * self.block_bytes())
    }

    /// An initiator may send less than its CDB says (residual overflow): only what came is
    /// written, whole blocks of it.
    async fn write(&self, io: &dyn BlockIo, extent: Extent, fua: bool) -> Result<(), MediumError> {
        let (offset, length) = self.range(extent);
        let parts = whole_blocks(&self.data, length, self.block_bytes());
        if !parts.is_empty() {
            self.unit.volume.write(io, offset, parts, fua).await?;
        }
        Ok(())
    }

    async fn verify(
        &self,
        io: &dyn BlockIo,
        extent: Extent,
        check: VerifyCheck,
    ) -> Result<(), MediumError> {
        let (offset, length) = self.range(extent);
        let medium = joined(&self.unit.volume.read(io, offset, length).await?);
        let data = joined(&self.data);
        let differs = match check {
            VerifyCheck::Readable => None,
            VerifyCheck::Equal => first_difference(&medium, &data),
            VerifyCheck::EqualRepeated if data.is_empty() => None,
            VerifyCheck::EqualRepeated => medium
                .chunks(data.len())
                .enumerate()
                .find_map(|(at, block)| Some(at * data.len() + first_difference(block, &data)?)),
        };
        differs.map_or(Ok(()), |at| Err(miscompare(at).into()))
    }

    async fn compare_and_write(
        &self,
        io: &dyn BlockIo,
        extent: Extent,
        fua: bool,
    ) -> Result<(), MediumError> {
        let (offset, length) = self.range(extent);
        let data = joined(&self.data);
        if data.len() < 2 * length {
            return Err(incomplete_data().into());
        }
        let (compare, write) = (data.slice(..length), data.slice(length..2 * length));
        let decide = |medium: &[u8]| match first_difference(medium, &compare) {
            None => Ok(Some(write)),
            Some(at) => Err(miscompare(at)),
        };
        self.update(io, (offset, length), fua, decide).await
    }

    async fn or_write(
        &self,
        io: &dyn BlockIo,
        extent: Extent,
        fua: bool,
    ) -> Result<(), MediumError> {
        let (offset, length) = self.range(extent);
        let data = joined(&self.data);
        if data.len() < length {
            return Err(incomplete_data().into());
        }
        let merge = |medium: &[u8]| {
            let merged: Vec<u8> = medium.iter().zip(&data).map(|(old, new)| old | new).collect();
            Ok(Some(Bytes::from(merged)))
        };
        self.update(io, (offset, length), fua, merge).await
    }

    async fn update(
        &self,
        io: &dyn BlockIo,
        (offset, length): (u64, usize),
        fua: bool,
        decide: impl FnOnce(&[u8]) -> Result<Option<Bytes>, Sense>,
    ) -> Result<(), MediumError> {
        if length == 0 {
            return Ok(());
        }
        let updated = self.unit.volume.update(io, offset, length, fua, decide).await?;
        updated.map_err(MediumError::Sense)
    }

    async fn write_same(
        &self,
        io: &dyn BlockIo,
        extent: Extent,
        fill: Fill,
    ) -> Result<(), MediumError> {
        let volume = &self.unit.volume;
        let (offset, length) = self.wide_range(extent);
        let block = joined(&self.data);
        let zeros = block.iter().all(|byte| *byte == 0);
        match fill {
            Fill::Unmap => volume.discard(io, offset, length).await?,
            Fill::BlockOrUnmap if zeros => volume.discard(io, offset, length).await?,
            Fill::Zeros => volume.write_zeros(io, offset, length, false).await?,
            Fill::Block if zeros => volume.write_zeros(io, offset, length, false).await?,
            Fill::Block | Fill::BlockOrUnmap => {
                // Written in pieces, so that a gigabyte of pattern takes a megabyte of memory.
                const PIECE_BYTES: u64 = 1 << 20;
                let block_bytes = block.len();
                let piece_bytes = PIECE_BYTES.min(length);
                let mut piece = BytesMut::new();
                while (piece.len() as u64) < piece_bytes && block_bytes > 0 {
                    piece.extend_from_slice(&block);
                }
                let piece = piece.freeze();
                let mut done = 0;
                while done < length && block_bytes > 0 {
                    let now = (length - done).min(piece.len() as u64);
                    let part = piece.slice(..usize::try_from(now).unwrap_or(piece.len()));
                    volume.write(io, offset + done, vec![part], false).await?;
                    done += now;
                }
            }
        }
        Ok(())
    }

    fn lba_status(&self, lba: u64, allocation_bytes: u32) -> Outcome {
        let facts = self.unit.facts();
        let block_bytes = u64::from(facts.block_bytes);
        let length = (facts.blocks - lba.min(facts.blocks)) * block_bytes;
        // The answer may end early (SBC-4 5.7.2): enough for one look, not for a whole petabyte.
        let length = length.min(LBA_STATUS_MAX_BYTES);
        let ranges: Vec<(Extent, bool)> = self
            .unit
            .volume
            .status(lba * block_bytes, length)
            .into_iter()
            .map(|(start, length, mapped)| {
                (Extent { lba: start / block_bytes, blocks: length / block_bytes }, mapped)
            })
            .collect();
        let data = logical_unit::lba_status_data(lba, &ranges, allocation_bytes);
        Outcome { response: Response::good(), data: vec![data] }
    }

    fn mode_select(&self, ten: bool) -> Result<(), MediumError> {
        let facts = self.unit.facts();
        let next = logical_unit::mode_select(&joined(&self.data), ten, &facts)?;
        if next != *facts {
            // Only the three bits that may change are carried over, so that a growth of the
            // volume at the same moment is not undone.
            let change = |facts: &scsi::unit::Unit| scsi::unit::Unit {
                software_write_protect: next.software_write_protect,
                task_aborted_status: next.task_aborted_status,
                descriptor_sense: next.descriptor_sense,
                ..facts.clone()
            };
            let attention = UnitAttention::ModeParametersChanged;
            self.unit.change_facts(change, attention, Some(&self.nexus.nexus));
        }
        Ok(())
    }

    fn sense_of(&self, error: MediumError) -> Sense {
        let reads = matches!(self.command, Command::Read { .. } | Command::Verify { .. });
        match error {
            MediumError::Sense(sense) => sense,
            MediumError::Store(error) => store_sense(&self.unit, reads, &error),
        }
    }
}

/// What the initiator hears of a failure below, and what the operator hears.
fn store_sense(unit: &LogicalUnit, reads: bool, error: &StoreError) -> Sense {
    let (pool, volume, now_ms) = (unit.pool, unit.id, unit.now_ms());
    let (sense, notice) = match error {
        StoreError::NoSpace { .. } => {
            let notice =
                unit.said_full.is_news(now_ms).then_some(Notice::PoolFull { pool, volume });
            (Sense::new(SenseKey::DataProtect, Asc::SPACE_ALLOCATION_FAILED), notice)
        }
        StoreError::OutOfRange { .. } => (Sense::lba_out_of_range(), None),
        other => {
            let why = other.to_string();
            let news = unit.said_broken.is_news(now_ms);
            let notice = news.then_some(Notice::MediumError { pool, volume, why });
            let asc = if reads { Asc::UNRECOVERED_READ_ERROR } else { Asc::WRITE_ERROR };
            (Sense::new(SenseKey::MediumError, asc), notice)
        }
    };
    if let Some(notice) = notice {
        tracing::warn!(%volume, %error, "commands fail");
        unit.notices.send(notice);
    }
    sense
}

/// The parts cut to at most `limit` bytes and to whole blocks.
fn whole_blocks(data: &[Bytes], limit: usize, block_bytes: u64) -> Vec<Bytes> {
    let block_bytes = usize::try_from(block_bytes).unwrap_or(usize::MAX);
    let have: usize = data.iter().map(Bytes::len).sum();
    let mut left = have.min(limit) / block_bytes * block_bytes;
    let mut parts = Vec::with_capacity(data.len());
    for part in data {
        let now = part.len().min(left);
        if now > 0 {
            parts.push(part.slice(..now));
        }
        left -= now;
    }
    parts
}

/// One piece of the parts; without a copy when there is only one.
fn joined(data: &[Bytes]) -> Bytes {
    match data {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => many.concat().into(),
    }
}

fn first_difference(left: &[u8], right: &[u8]) -> Option<usize> {
    left.iter().zip(right).position(|(a, b)| a != b)
}

/// MISCOMPARE DURING VERIFY OPERATION, with the offset of the first difference (SBC-4 5.3).
fn miscompare(at: usize) -> Sense {
    Sense::miscompare(at as u64)
}

/// The initiator sent less data than the command needs to be done at all.
fn incomplete_data() -> Sense {
    Sense::illegal(Asc::INVALID_FIELD_IN_CDB)
}
