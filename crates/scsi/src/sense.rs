//! Status and sense data (SAM-5 5.3, SPC-5 4.4).

use bytes::Bytes;

/// SCSI status codes (SAM-5 table 43).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    Good = 0x00,
    CheckCondition = 0x02,
    ConditionMet = 0x04,
    Busy = 0x08,
    ReservationConflict = 0x18,
    TaskSetFull = 0x28,
    TaskAborted = 0x40,
}

/// Sense keys (SPC-5 table 48).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum SenseKey {
    NoSense = 0x0,
    RecoveredError = 0x1,
    NotReady = 0x2,
    MediumError = 0x3,
    HardwareError = 0x4,
    IllegalRequest = 0x5,
    UnitAttention = 0x6,
    DataProtect = 0x7,
    AbortedCommand = 0xB,
    Miscompare = 0xE,
}

/// Additional sense code and qualifier, as the standard writes them: `Asc(0x2A, 0x03)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Asc(pub u8, pub u8);

/// Sense data as a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sense {
    pub key: SenseKey,
    pub asc: Asc,
    /// INFORMATION field (a miscompare's offset, a medium error's LBA).
    pub information: Option<u64>,
    /// Which byte (and bit) of the CDB or parameter list was wrong.
    pub field: Option<FieldPointer>,
}

/// Sense-key specific field pointer (SPC-5 4.4.2.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldPointer {
    /// In the CDB (true) or in the parameter list.
    pub in_cdb: bool,
    pub byte: u16,
    pub bit: Option<u8>,
}

/// The end of a command: status, sense where there is some, and data for the initiator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    pub status: Status,
    pub sense: Option<Sense>,
    /// Already cut to the allocation length.
    pub data: Bytes,
}
