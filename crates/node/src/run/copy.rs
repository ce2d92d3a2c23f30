//! EXTENDED COPY: blocks go from unit to unit on the node's own road.
//!
//! ```text
//!   list -> each named unit: find it, enter its gate, look again whether the host may be there
//!        -> each piece of each segment: gates open? source may be read, destination written?
//!           -> read -> write
//!        -> all gates are left
//! ```
//!
//! A copy is sent to one unit and writes another, so that nobody who cuts a host off from the
//! second one sees the command there. Therefore the copy is in flight in every unit that it names,
//! as the nexus that sent it, from before its first check until its last write has ended: a fence,
//! a detach, PREEMPT AND ABORT and a reset of any of them stop it before its next piece and wait
//! until nothing of it can land.
//!
//! Invariant: no piece is read or written without a check of both sides, made while the copy is
//! counted in both gates.

use std::rc::Rc;
use std::sync::Arc;

use env::BlockIo;
use scsi::command::Extent;
use scsi::copy::{self, CopyList, Failure, Progress, Segment, Side, Usage};
use scsi::logical_unit::View;
use scsi::sense::{Asc, Response, Sense};
use store::StoreError;

use super::{Job, joined, store_sense};
use crate::gate::{Inflight, Pass};
use crate::nexus::NexusState;
use crate::unit::LogicalUnit;

/// What is copied between two looks at gates and reservations.
pub(crate) const PIECE_BYTES: u64 = 1 << 20;

/// A unit that a copy reads or writes, which it is in flight in as long as this lives.
struct Place {
    unit: Arc<LogicalUnit>,
    nexus: Arc<NexusState>,
    pass: Pass,
    _inflight: Inflight,
}

/// Bytes of one segment, from place to place.
struct Stretch<'a> {
    from: &'a Place,
    to: &'a Place,
    from_offset: u64,
    to_offset: u64,
    length: u64,
}

/// Run EXTENDED COPY. `None`: it was aborted; nobody is answered.
pub(super) async fn run(job: &Job, io: &dyn BlockIo, inflight: Inflight) -> Option<Response> {
    let list = match CopyList::parse(&joined(&job.data)) {
        Ok(list) => list,
        Err(sense) => return Some(sense.into()),
    };
    let list_id = match list.usage {
        Usage::Listed(list_id) => Some(list_id),
        Usage::Unlisted => None,
    };
    if let Some(list_id) = list_id
        && !job.nexus.copies.begin(list_id)
    {
        return Some(Sense::illegal(Asc::OPERATION_IN_PROGRESS).into());
    }
    let mut progress = Progress::begin(list_id.unwrap_or(0));
    let result = segments(job, io, &list, inflight, &mut progress).await;
    progress.ended_well = Some(result.is_ok());
    if let Err(Failure::Refused(response)) = &result {
        progress.failed = Some(response.clone());
    }
    if list_id.is_some() {
        job.nexus.copies.note(progress);
    }
    match result {
        _ if job.pass.is_void() => None,
        Ok(()) => Some(Response::good()),
        Err(failure) => {
            tracing::debug!(volume = %job.unit.id, ?failure, "a copy stopped");
            Some(copy::aborted(&failure).into())
        }
    }
}

async fn segments(
    job: &Job,
    io: &dyn BlockIo,
    list: &CopyList,
    inflight: Inflight,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let own = Rc::new(Place {
        unit: Arc::clone(&job.unit),
        nexus: Arc::clone(&job.nexus),
        pass: job.pass.clone(),
        _inflight: inflight,
    });
    let places: Vec<_> = list.cscds.iter().map(|cscd| place(&own, cscd)).collect();
    let place = |number: u16| match places.get(usize::from(number)) {
        Some(place) => place.clone(),
        None => Err(Failure::NoSuchUnit),
    };
    for segment in &list.segments {
        let (from, to) = (place(segment.source)?, place(segment.destination)?);
        let stretch = stretch(&from, &to, segment)?;
        for (at, length) in stretch.pieces() {
            stretch.copy(io, at, length).await?;
            progress.copied_bytes += length;
        }
        progress.segments_done += 1;
        if matches!(list.usage, Usage::Listed(_)) {
            job.nexus.copies.note(progress.clone());
        }
    }
    Ok(())
}

/// The unit of a descriptor, if the initiator is logged in to it, and the copy counted in there.
fn place(own: &Rc<Place>, cscd: &copy::Cscd) -> Result<Rc<Place>, Failure> {
    let naa = cscd.naa.ok_or(Failure::NoSuchUnit)?;
    let place =
        if own.unit.facts().naa == naa { Rc::clone(own) } else { Rc::new(elsewhere(own, naa)?) };
    if place.unit.facts().block_bytes != cscd.block_bytes {
        return Err(Failure::WrongBlocks);
    }
    Ok(place)
}

/// A session there is asked for because the credentials of each attachment are its own: who could
/// not log in to a volume must not write it through another one either.
fn elsewhere(own: &Place, naa: [u8; 16]) -> Result<Place, Failure> {
    let book = own.unit.book.upgrade().ok_or(Failure::NoSuchUnit)?;
    let device = own.nexus.nexus.initiator.device();
    let (unit, access) = book.named(device, naa).ok_or(Failure::NoSuchUnit)?;
    let at_home = |state: &Arc<NexusState>| {
        state.session().is_some() && state.nexus.initiator.device() == device
    };
    if !unit.nexuses_of(access.attachment).iter().any(at_home) {
        return Err(Failure::NoSuchUnit);
    }
    let nexus = unit.visit(&own.nexus.nexus, &access);
    let pass = nexus.gate.pass();
    let inflight = pass.enter().ok_or(Failure::CutOff)?;
    // As at a login: who cuts the host off strikes the access from the book first and then closes
    // the gates that there are. So either it waits for this count, or the access is gone here.
    let still = book.named(device, naa);
    if still.is_none_or(|(now, terms)| !Arc::ptr_eq(&now, &unit) || terms != access) {
        return Err(Failure::CutOff);
    }
    Ok(Place { unit, nexus, pass, _inflight: inflight })
}

fn stretch<'a>(from: &'a Place, to: &'a Place, segment: &Segment) -> Result<Stretch<'a>, Failure> {
    let block_bytes = from.unit.facts().block_bytes;
    let whole = segment.length.blocks(block_bytes);
    let blocks = whole.filter(|_| to.unit.facts().block_bytes == block_bytes);
    let blocks = blocks.ok_or(Failure::WrongBlocks)?;
    // Also of a segment without blocks, and before the first piece of one that ends outside.
    from.judge(Side::Source, Extent { lba: segment.from_lba, blocks })?;
    to.judge(Side::Destination, Extent { lba: segment.to_lba, blocks })?;
    let block_bytes = u64::from(block_bytes);
    Ok(Stretch {
        from,
        to,
        from_offset: segment.from_lba * block_bytes,
        to_offset: segment.to_lba * block_bytes,
        length: blocks * block_bytes,
    })
}

impl Place {
    fn judge(&self, side: Side, extent: Extent) -> Result<(), Failure> {
        if self.pass.is_void() {
            return Err(Failure::CutOff);
        }
        let (facts, reservations) = (self.unit.facts(), self.unit.reservations());
        let view = View {
            unit: &facts,
            access: self.nexus.scsi_access(),
            nexus: &self.nexus.nexus,
            reservations: &reservations,
        };
        copy::judge(&view, side, extent).map_err(Failure::Refused)
    }

    fn failure(&self, side: Side, error: StoreError) -> Failure {
        let sense = store_sense(&self.unit, side == Side::Source, &error);
        Failure::Refused(Response::check(sense))
    }
}

impl Stretch<'_> {
    /// Offset within the stretch and length of each piece, from the end where a copy from the
    /// start would overwrite what it has still to read.
    fn pieces(&self) -> Vec<(u64, u64)> {
        let count = self.length.div_ceil(PIECE_BYTES);
        let piece = |number: u64| {
            let at = number * PIECE_BYTES;
            (at, PIECE_BYTES.min(self.length - at))
        };
        let mut pieces: Vec<_> = (0..count).map(piece).collect();
        let within = self.from_offset..self.from_offset + self.length;
        if Arc::ptr_eq(&self.from.unit, &self.to.unit) && within.contains(&self.to_offset) {
            pieces.reverse();
        }
        pieces
    }

    fn judge(&self, at: u64, length: u64) -> Result<(), Failure> {
        let block_bytes = self.from.unit.block_bytes();
        let blocks = length / block_bytes;
        let extent = |offset: u64| Extent { lba: (offset + at) / block_bytes, blocks };
        self.from.judge(Side::Source, extent(self.from_offset))?;
        self.to.judge(Side::Destination, extent(self.to_offset))
    }

    async fn copy(&self, io: &dyn BlockIo, at: u64, length: u64) -> Result<(), Failure> {
        let (source, destination) = (&self.from.unit.volume, &self.to.unit.volume);
        let (from, to) = (self.from_offset + at, self.to_offset + at);
        self.judge(at, length)?;
        if source.status(from, length).iter().all(|(.., mapped)| !mapped) {
            // What was never written takes no space at the destination either.
            let cleared = destination.write_zeros(io, to, length, true).await;
            return cleared.map_err(|error| self.to.failure(Side::Destination, error));
        }
        let bytes = usize::try_from(length).expect("a piece fits the memory");
        let data = source.read(io, from, bytes).await;
        let data = data.map_err(|error| self.from.failure(Side::Source, error))?;
        // The read took its time: once more, right before the write is submitted.
        self.judge(at, length)?;
        let written = destination.write(io, to, data, false).await;
        written.map_err(|error| self.to.failure(Side::Destination, error))
    }
}
