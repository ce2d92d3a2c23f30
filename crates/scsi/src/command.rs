//! A decoded command that the pure crate could not answer by itself: what the shell has to do.
//!
//! Ranges are checked already: `lba + blocks` lies inside the unit, `blocks` within its limits.
//! Lengths in bytes follow from the unit's block length.

use bytes::Bytes;

use crate::sense::Sense;

/// A range of logical blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    pub lba: u64,
    pub blocks: u64,
}

/// Medium work and changes of state. Commands answered by [`crate::logical_unit`] alone (INQUIRY,
/// MODE SENSE, PERSISTENT RESERVE IN, ...) never show up here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// READ 6/10/12/16. `fua`: what is returned must be durable.
    Read { extent: Extent, fua: bool },
    /// WRITE 6/10/12/16. Data-out: the blocks.
    Write { extent: Extent, fua: bool },
    /// WRITE ATOMIC 16: all of the blocks or none. Data-out: the blocks.
    WriteAtomic { extent: Extent, fua: bool },
    /// WRITE AND VERIFY 10/12/16. `compare`: BYTCHK 1, compare the medium with the data.
    WriteAndVerify { extent: Extent, compare: bool },
    /// VERIFY 10/12/16.
    Verify { extent: Extent, check: VerifyCheck },
    /// COMPARE AND WRITE. Data-out: the blocks to compare, then as many to write.
    CompareAndWrite { extent: Extent, fua: bool },
    /// ORWRITE 16. Data-out: the blocks.
    OrWrite { extent: Extent, fua: bool },
    /// WRITE SAME 10/16. Data-out: one block, none with NDOB.
    WriteSame { extent: Extent, fill: Fill },
    /// UNMAP. Data-out: the parameter list, for [`crate::logical_unit::unmap_extents`].
    Unmap { list_bytes: u32 },
    /// SYNCHRONIZE CACHE 10/16. `immediate`: answer GOOD before it is done.
    SynchronizeCache { extent: Extent, immediate: bool },
    /// PRE-FETCH 10/16: CONDITION MET when a cache of ours took all blocks, GOOD otherwise, which
    /// is the answer of a shell that keeps no cache.
    Prefetch { extent: Extent, immediate: bool },
    /// GET LBA STATUS from `lba`; answer with [`crate::logical_unit::lba_status_data`].
    GetLbaStatus { lba: u64, allocation_bytes: u32 },
    /// LOG SENSE of the registrants page; answer with [`crate::registrants::page`].
    LogRegistrants { allocation_bytes: u16 },
    /// EXTENDED COPY (LID1). Data-out: the parameter list, for [`crate::copy::CopyList::parse`].
    ExtendedCopy { list_bytes: u32 },
    /// RECEIVE COPY RESULTS about one copy of this nexus; answer with [`crate::copy::report`].
    ReceiveCopyResults { report: crate::copy::Report, list_id: u8, allocation_bytes: u32 },
    /// SANITIZE. Data-out of an overwrite: the parameter list, for
    /// [`crate::sanitize::Overwrite::parse`]. `immediate`: answer GOOD once it is accepted.
    Sanitize { method: crate::sanitize::Method, immediate: bool, unrestricted: bool },
    /// SANITIZE, EXIT FAILURE MODE, of a failed one that was unrestricted.
    ExitSanitizeFailure,
    /// PERSISTENT RESERVE OUT. Data-out: the parameter list, for
    /// [`crate::reservations::Request::parse`] together with the CDB.
    PersistentReserveOut { cdb: [u8; 10], list_bytes: u32 },
    /// RESERVE 6 or 10 (SPC-2).
    Reserve,
    /// RELEASE 6 or 10 (SPC-2).
    Release,
    /// MODE SELECT 6/10. Data-out: the parameter list, for [`crate::logical_unit::mode_select`].
    ModeSelect { ten: bool, save: bool, list_bytes: u32 },
    /// START STOP UNIT, PREVENT ALLOW: nothing to do but GOOD, after a flush when `flush`.
    Nothing { flush: bool },
}

impl Command {
    /// The command when the initiator announced `expected_bytes` of data-out, which need not be
    /// what the CDB says (SAM-5 5.4.2): of blocks to write or compare, no more are done than there
    /// is data for. Zero blocks are left where there is data for none, which ends with GOOD.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB where the data cannot be cut: COMPARE AND WRITE would compare with
    /// what is to be written, WRITE SAME would repeat less than a block, WRITE ATOMIC would be
    /// torn. Parameter lists are
    /// judged by those who parse them.
    pub fn limited_to(mut self, expected_bytes: u32, block_bytes: u32) -> Result<Self, Sense> {
        let blocks = u64::from(expected_bytes.checked_div(block_bytes).unwrap_or(0));
        match &mut self {
            Self::Write { extent, .. }
            | Self::WriteAndVerify { extent, .. }
            | Self::OrWrite { extent, .. }
            | Self::Verify { extent, check: VerifyCheck::Equal } => {
                extent.blocks = extent.blocks.min(blocks);
            }
            Self::CompareAndWrite { extent, .. } => {
                let wanted = extent.blocks.saturating_mul(2 * u64::from(block_bytes));
                if u64::from(expected_bytes) != wanted {
                    return Err(Sense::illegal_field_in_cdb(13));
                }
            }
            Self::WriteAtomic { extent, .. } if blocks < extent.blocks => {
                return Err(Sense::illegal_field_in_cdb(12));
            }
            Self::WriteSame { fill: Fill::Block | Fill::BlockOrUnmap, .. }
            | Self::Verify { check: VerifyCheck::EqualRepeated, .. }
                if expected_bytes != block_bytes =>
            {
                return Err(Sense::illegal_field_in_cdb(1));
            }
            _ => {}
        }
        Ok(self)
    }
}

/// How VERIFY checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifyCheck {
    /// BYTCHK 00b: the medium is readable. No data-out.
    Readable,
    /// BYTCHK 01b: equal to the data-out.
    Equal,
    /// BYTCHK 11b: each block equal to the one block of data-out.
    EqualRepeated,
}

/// What WRITE SAME writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// The one block of data-out.
    Block,
    /// The block of data-out, which must be zeros for the range to be deallocated (UNMAP=1);
    /// any other content is written.
    BlockOrUnmap,
    /// Zeros, without data-out (NDOB).
    Zeros,
    /// Deallocate, without data-out (NDOB and UNMAP).
    Unmap,
}

/// How many bytes of data-out and data-in the command moves at most, for the transport's residuals
/// and for buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Transfer {
    pub data_out_bytes: u32,
    pub data_in_bytes: u32,
}

/// What to do with a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is answered.
    Done(crate::sense::Response),
    /// The shell has to run it, after the data-out has arrived.
    /// `conflict` is checked again, under the shell's in-flight count, when it is submitted.
    Run { command: Command, transfer: Transfer, conflict: crate::conflict::Conflict },
}

/// Parameter data read from the initiator.
pub type DataOut = Bytes;
