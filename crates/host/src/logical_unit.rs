//! The commands that users of a disk want most, on one logical unit.

use bytes::{Bytes, BytesMut};

use crate::{Data, HostError, Initiator, Outcome};

/// Unit attentions in a row that are taken as news and not as a failure.
const ATTENTIONS_MAX: usize = 8;
const UNIT_ATTENTION: u8 = 6;

/// One logical unit over one session.
#[derive(Clone, Debug)]
pub struct LogicalUnit {
    session: Initiator,
    lun: u64,
    blocks: u64,
    block_bytes: u32,
}

/// The status of an outcome as a result.
fn good(outcome: Outcome) -> Result<Outcome, HostError> {
    match HostError::of(&outcome) {
        None => Ok(outcome),
        Some(error) => Err(error),
    }
}

/// Data-in as one piece.
fn whole(outcome: Outcome) -> Bytes {
    let mut parts = outcome.data.into_iter();
    match (parts.next(), parts.len()) {
        (None, _) => Bytes::new(),
        (Some(only), 0) => only,
        (Some(first), _) => {
            let mut bytes = BytesMut::from(&first[..]);
            parts.for_each(|part| bytes.extend_from_slice(&part));
            bytes.freeze()
        }
    }
}

impl LogicalUnit {
    /// Wait out pending unit attentions and read the capacity. `lun` is the 8-byte SAM LUN.
    ///
    /// # Errors
    /// [`HostError`] of the commands.
    pub async fn open(session: &Initiator, lun: u64) -> Result<Self, HostError> {
        let mut unit = Self { session: session.clone(), lun, blocks: 0, block_bytes: 512 };
        for _ in 0..ATTENTIONS_MAX {
            match unit.test_unit_ready().await {
                Err(HostError::Status { key: UNIT_ATTENTION, .. }) => {}
                other => {
                    other?;
                    break;
                }
            }
        }
        // READ CAPACITY (16).
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
        let data = whole(unit.run(&cdb, Data::In(32)).await?);
        let last = data.first_chunk::<8>().ok_or(HostError::Short)?;
        let length = data.get(8..).and_then(|rest| rest.first_chunk::<4>());
        unit.blocks = u64::from_be_bytes(*last).saturating_add(1);
        unit.block_bytes = u32::from_be_bytes(*length.ok_or(HostError::Short)?);
        Ok(unit)
    }

    /// Capacity in logical blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Logical block length in bytes.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// Run a command and demand GOOD.
    ///
    /// # Errors
    /// [`HostError::Status`] for any other status, and those of [`Initiator::execute`].
    pub async fn run(&self, cdb: &[u8], data: Data) -> Result<Outcome, HostError> {
        good(self.session.execute(self.lun, cdb, data).await?)
    }

    /// # Errors
    /// As [`Self::run`].
    pub async fn test_unit_ready(&self) -> Result<(), HostError> {
        self.run(&[0; 6], Data::None).await.map(drop)
    }

    /// READ (16).
    ///
    /// # Errors
    /// As [`Self::run`]; [`HostError::Short`] when less than asked for came.
    pub async fn read(&self, lba: u64, blocks: u32) -> Result<Bytes, HostError> {
        let bytes = blocks.saturating_mul(self.block_bytes);
        let data = whole(self.run(&range(0x88, 0, lba, blocks), Data::In(bytes)).await?);
        let expected = usize::try_from(bytes).unwrap_or(usize::MAX);
        if data.len() == expected { Ok(data) } else { Err(HostError::Short) }
    }

    /// WRITE (16). The data is a whole number of blocks. `fua`: durable before it is answered.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn write(&self, lba: u64, data: Bytes, fua: bool) -> Result<(), HostError> {
        let block = usize::try_from(self.block_bytes).unwrap_or(usize::MAX).max(1);
        let blocks = u32::try_from(data.len() / block).unwrap_or(u32::MAX);
        let cdb = range(0x8a, if fua { 0x08 } else { 0 }, lba, blocks);
        self.run(&cdb, Data::Out(vec![data])).await.map(drop)
    }

    /// SYNCHRONIZE CACHE (16) of the whole unit.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn sync(&self) -> Result<(), HostError> {
        self.run(&range(0x91, 0, 0, 0), Data::None).await.map(drop)
    }

    /// PERSISTENT RESERVE IN. `service_action`: 0 READ KEYS, 1 READ RESERVATION, 2 REPORT
    /// CAPABILITIES, 3 READ FULL STATUS.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn persistent_reserve_in(
        &self,
        service_action: u8,
        allocation_bytes: u16,
    ) -> Result<Bytes, HostError> {
        let mut cdb = [0; 10];
        (cdb[0], cdb[1]) = (0x5e, service_action & 0x1f);
        cdb[7..9].copy_from_slice(&allocation_bytes.to_be_bytes());
        self.run(&cdb, Data::In(u32::from(allocation_bytes))).await.map(whole)
    }

    /// PERSISTENT RESERVE OUT with its parameter list. `kind`: the reservation type, scope LU.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn persistent_reserve_out(
        &self,
        service_action: u8,
        kind: u8,
        list: Bytes,
    ) -> Result<(), HostError> {
        let mut cdb = [0; 10];
        (cdb[0], cdb[1], cdb[2]) = (0x5f, service_action & 0x1f, kind & 0x0f);
        let length = u32::try_from(list.len()).unwrap_or(u32::MAX);
        cdb[5..9].copy_from_slice(&length.to_be_bytes());
        self.run(&cdb, Data::Out(vec![list])).await.map(drop)
    }
}

/// A 16-byte CDB with flags, LBA and length.
fn range(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}
