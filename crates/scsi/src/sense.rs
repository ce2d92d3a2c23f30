//! Status and sense data (SAM-5 5.3, SPC-5 4.4).
//!
//! ```text
//! fixed (70h), 18 bytes                         descriptor (72h), 8 bytes and descriptors
//! 0 VALID|70h  2 key  3 INFORMATION (4)  7 0Ah  0 72h  1 key  2 ASC  3 ASCQ  7 length
//! 12 ASC  13 ASCQ  15 sense key specific (3)    00h 0Ah information, 02h 06h key specific
//! ```

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

/// Sense keys (SPC-5 table 48). This target uses some of them; an initiator may meet all.
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
    BlankCheck = 0x8,
    VendorSpecific = 0x9,
    CopyAborted = 0xA,
    AbortedCommand = 0xB,
    VolumeOverflow = 0xD,
    Miscompare = 0xE,
    Completed = 0xF,
}

impl SenseKey {
    /// The key with this code; `None` for Ch, which is reserved, and above Fh.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x0 => Self::NoSense,
            0x1 => Self::RecoveredError,
            0x2 => Self::NotReady,
            0x3 => Self::MediumError,
            0x4 => Self::HardwareError,
            0x5 => Self::IllegalRequest,
            0x6 => Self::UnitAttention,
            0x7 => Self::DataProtect,
            0x8 => Self::BlankCheck,
            0x9 => Self::VendorSpecific,
            0xA => Self::CopyAborted,
            0xB => Self::AbortedCommand,
            0xD => Self::VolumeOverflow,
            0xE => Self::Miscompare,
            0xF => Self::Completed,
            _ => return None,
        })
    }
}

/// Additional sense code and qualifier, as the standard writes them: `Asc(0x2A, 0x03)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Asc(pub u8, pub u8);

/// The codes that this target gives by itself (SPC-5 table F.2); those of unit attentions are in
/// [`crate::unit_attention`].
impl Asc {
    pub const NONE: Self = Self(0x00, 0x00);
    pub const OPERATION_IN_PROGRESS: Self = Self(0x00, 0x16);
    pub const UNREACHABLE_COPY_TARGET: Self = Self(0x08, 0x04);
    pub const THIRD_PARTY_DEVICE_FAILURE: Self = Self(0x0D, 0x01);
    pub const COPY_TARGET_DEVICE_NOT_REACHABLE: Self = Self(0x0D, 0x02);
    pub const INCORRECT_COPY_TARGET_DEVICE_TYPE: Self = Self(0x0D, 0x03);
    pub const TOO_MANY_TARGET_DESCRIPTORS: Self = Self(0x26, 0x06);
    pub const UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE: Self = Self(0x26, 0x07);
    pub const TOO_MANY_SEGMENT_DESCRIPTORS: Self = Self(0x26, 0x08);
    pub const UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE: Self = Self(0x26, 0x09);
    pub const INLINE_DATA_LENGTH_EXCEEDED: Self = Self(0x26, 0x0B);
    pub const PARAMETER_LIST_LENGTH_ERROR: Self = Self(0x1A, 0x00);
    pub const MISCOMPARE_DURING_VERIFY: Self = Self(0x1D, 0x00);
    pub const INVALID_COMMAND_OPERATION_CODE: Self = Self(0x20, 0x00);
    pub const LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE: Self = Self(0x21, 0x00);
    pub const INVALID_FIELD_IN_CDB: Self = Self(0x24, 0x00);
    pub const LOGICAL_UNIT_NOT_SUPPORTED: Self = Self(0x25, 0x00);
    pub const INVALID_FIELD_IN_PARAMETER_LIST: Self = Self(0x26, 0x00);
    pub const WRITE_PROTECTED: Self = Self(0x27, 0x00);
    pub const SOFTWARE_WRITE_PROTECTED: Self = Self(0x27, 0x02);
    pub const SPACE_ALLOCATION_FAILED: Self = Self(0x27, 0x07);
    pub const SAVING_PARAMETERS_NOT_SUPPORTED: Self = Self(0x39, 0x00);
    pub const INTERNAL_TARGET_FAILURE: Self = Self(0x44, 0x00);
    pub const PERSISTENT_RESERVATION_INFORMATION_LOST: Self = Self(0x44, 0x01);
    pub const UNRECOVERED_READ_ERROR: Self = Self(0x11, 0x00);
    pub const WRITE_ERROR: Self = Self(0x0C, 0x00);
    pub const SANITIZE_IN_PROGRESS: Self = Self(0x04, 0x1B);
    pub const COMMAND_SEQUENCE_ERROR: Self = Self(0x2C, 0x00);
    pub const SANITIZE_COMMAND_FAILED: Self = Self(0x31, 0x03);
}

/// Sense data as a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sense {
    pub key: SenseKey,
    pub asc: Asc,
    /// INFORMATION field (a miscompare's offset, a medium error's LBA).
    pub information: Option<u64>,
    /// Which byte (and bit) of the CDB or parameter list was wrong.
    pub field: Option<FieldPointer>,
    /// Of what a unit that is not ready is busy with, in parts of 65,536. In the place of `field`.
    pub progress: Option<u16>,
}

impl Sense {
    /// Sense data with a key and a code, nothing more.
    #[must_use]
    pub const fn new(key: SenseKey, asc: Asc) -> Self {
        Self { key, asc, information: None, field: None, progress: None }
    }
    /// ILLEGAL REQUEST with this code.
    #[must_use]
    pub const fn illegal(asc: Asc) -> Self {
        Self::new(SenseKey::IllegalRequest, asc)
    }
    /// UNIT ATTENTION with this code.
    #[must_use]
    pub const fn unit_attention(asc: Asc) -> Self {
        Self::new(SenseKey::UnitAttention, asc)
    }
    /// INVALID COMMAND OPERATION CODE, 20h/00.
    #[must_use]
    pub const fn invalid_opcode() -> Self {
        Self::illegal(Asc::INVALID_COMMAND_OPERATION_CODE)
    }
    /// INVALID FIELD IN CDB, 24h/00, pointing at the byte.
    #[must_use]
    pub const fn illegal_field_in_cdb(byte: u16) -> Self {
        Self::illegal(Asc::INVALID_FIELD_IN_CDB).pointing(true, byte, None)
    }
    /// INVALID FIELD IN CDB, 24h/00, pointing at the field's most significant bit.
    #[must_use]
    pub const fn illegal_bit_in_cdb(byte: u16, bit: u8) -> Self {
        Self::illegal(Asc::INVALID_FIELD_IN_CDB).pointing(true, byte, Some(bit))
    }
    /// INVALID FIELD IN PARAMETER LIST, 26h/00, pointing at the byte.
    #[must_use]
    pub const fn illegal_field_in_list(byte: u16) -> Self {
        Self::illegal(Asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing(false, byte, None)
    }
    /// INVALID FIELD IN PARAMETER LIST, 26h/00, pointing at the field's most significant bit.
    #[must_use]
    pub const fn illegal_bit_in_list(byte: u16, bit: u8) -> Self {
        Self::illegal(Asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing(false, byte, Some(bit))
    }
    /// PARAMETER LIST LENGTH ERROR, 1Ah/00.
    #[must_use]
    pub const fn parameter_list_length() -> Self {
        Self::illegal(Asc::PARAMETER_LIST_LENGTH_ERROR)
    }
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE, 21h/00.
    #[must_use]
    pub const fn lba_out_of_range() -> Self {
        Self::illegal(Asc::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    }
    /// LOGICAL UNIT NOT SUPPORTED, 25h/00.
    #[must_use]
    pub const fn unit_not_supported() -> Self {
        Self::illegal(Asc::LOGICAL_UNIT_NOT_SUPPORTED)
    }
    /// WRITE PROTECTED, 27h/00: the attachment is read-only.
    #[must_use]
    pub const fn write_protected() -> Self {
        Self::new(SenseKey::DataProtect, Asc::WRITE_PROTECTED)
    }
    /// LOGICAL UNIT SOFTWARE WRITE PROTECTED, 27h/02: SWP is set in the control mode page.
    #[must_use]
    pub const fn software_write_protected() -> Self {
        Self::new(SenseKey::DataProtect, Asc::SOFTWARE_WRITE_PROTECTED)
    }
    /// MISCOMPARE DURING VERIFY OPERATION, 1Dh/00; `offset_bytes` of the first byte that differs.
    #[must_use]
    pub const fn miscompare(offset_bytes: u64) -> Self {
        Self::new(SenseKey::Miscompare, Asc::MISCOMPARE_DURING_VERIFY)
            .with_information(offset_bytes)
    }
    /// The same with an INFORMATION field.
    #[must_use]
    pub const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }
    const fn pointing(mut self, in_cdb: bool, byte: u16, bit: Option<u8>) -> Self {
        self.field = Some(FieldPointer { in_cdb, byte, bit });
        self
    }

    /// Sense data as the initiator gets it (SPC-5 4.4.2, 4.4.3): descriptor format when D_SENSE or
    /// DESC asks for it, fixed format otherwise. An INFORMATION above 32 bits does not fit the
    /// fixed format and is left out there, as the standard wants.
    #[must_use]
    pub fn encode(&self, descriptor: bool) -> Vec<u8> {
        if descriptor { self.encode_descriptor() } else { self.encode_fixed() }
    }

    fn encode_fixed(&self) -> Vec<u8> {
        let mut bytes = vec![0_u8; 18];
        bytes[0] = 0x70;
        bytes[2] = self.key as u8;
        if let Some(Ok(information)) = self.information.map(u32::try_from) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        bytes[7] = 10;
        bytes[12] = self.asc.0;
        bytes[13] = self.asc.1;
        if let Some(specific) = self.key_specific() {
            bytes[15..18].copy_from_slice(&specific);
        }
        bytes
    }

    fn encode_descriptor(&self) -> Vec<u8> {
        let mut bytes = vec![0x72, self.key as u8, self.asc.0, self.asc.1, 0, 0, 0, 0];
        if let Some(information) = self.information {
            bytes.extend_from_slice(&[0x00, 0x0A, 0x80, 0x00]);
            bytes.extend_from_slice(&information.to_be_bytes());
            bytes[7] += 12;
        }
        if let Some([flags, high, low]) = self.key_specific() {
            bytes.extend_from_slice(&[0x02, 0x06, 0, 0, flags, high, low, 0]);
            bytes[7] += 8;
        }
        bytes
    }

    /// The three bytes whose meaning follows from the sense key (SPC-5 4.4.2.4).
    fn key_specific(&self) -> Option<[u8; 3]> {
        let progress = self.progress.map(|progress| {
            let [high, low] = progress.to_be_bytes();
            [0x80, high, low]
        });
        progress.or_else(|| self.field.map(FieldPointer::encode))
    }

    /// The same read: with NO SENSE and NOT READY they are a progress indication.
    fn set_key_specific(&mut self, bytes: &[u8]) {
        if let (SenseKey::NoSense | SenseKey::NotReady, &[flags, high, low]) = (self.key, bytes) {
            self.progress = (flags & 0x80 != 0).then_some(u16::from_be_bytes([high, low]));
        } else {
            self.field = FieldPointer::decode(bytes);
        }
    }

    /// Sense data read from the wire, in either format, current or deferred; `None` where the
    /// bytes are none. Descriptors that are not known are passed over.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? & 0x7F {
            0x70 | 0x71 => Self::decode_fixed(bytes),
            0x72 | 0x73 => Self::decode_descriptor(bytes),
            _ => None,
        }
    }

    fn decode_fixed(bytes: &[u8]) -> Option<Self> {
        let key = SenseKey::from_code(bytes.get(2)? & 0x0F)?;
        let asc = Asc(*bytes.get(12).unwrap_or(&0), *bytes.get(13).unwrap_or(&0));
        let valid = bytes[0] & 0x80 != 0;
        let information = bytes
            .get(3..7)
            .and_then(|field| field.try_into().ok())
            .filter(|_| valid)
            .map(|field| u64::from(u32::from_be_bytes(field)));
        let mut sense = Self { information, ..Self::new(key, asc) };
        if let Some(specific) = bytes.get(15..18) {
            sense.set_key_specific(specific);
        }
        Some(sense)
    }

    fn decode_descriptor(bytes: &[u8]) -> Option<Self> {
        let key = SenseKey::from_code(bytes.get(1)? & 0x0F)?;
        let mut sense = Self::new(key, Asc(*bytes.get(2)?, *bytes.get(3)?));
        let mut rest = bytes.get(8..).unwrap_or(&[]);
        while let [kind, length, tail @ ..] = rest {
            let length = usize::from(*length);
            let Some(body) = tail.get(..length) else { break };
            match (kind, length) {
                (0x00, 10) if body[0] & 0x80 != 0 => {
                    sense.information = body[2..10].try_into().ok().map(u64::from_be_bytes);
                }
                (0x02, 6) => sense.set_key_specific(&body[2..5]),
                _ => {}
            }
            rest = &tail[length..];
        }
        Some(sense)
    }
}

/// Sense-key specific field pointer (SPC-5 4.4.2.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldPointer {
    /// In the CDB (true) or in the parameter list.
    pub in_cdb: bool,
    pub byte: u16,
    pub bit: Option<u8>,
}

impl FieldPointer {
    fn encode(self) -> [u8; 3] {
        let mut flags = 0x80;
        if self.in_cdb {
            flags |= 0x40;
        }
        if let Some(bit) = self.bit {
            flags |= 0x08 | (bit & 0x07);
        }
        let [high, low] = self.byte.to_be_bytes();
        [flags, high, low]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [flags, high, low] = bytes.try_into().ok()?;
        (flags & 0x80 != 0).then(|| Self {
            in_cdb: flags & 0x40 != 0,
            byte: u16::from_be_bytes([high, low]),
            bit: (flags & 0x08 != 0).then_some(flags & 0x07),
        })
    }
}

/// The end of a command: status, sense where there is some, and data for the initiator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    pub status: Status,
    pub sense: Option<Sense>,
    /// Already cut to the allocation length.
    pub data: Bytes,
}

impl Response {
    const fn of(status: Status) -> Self {
        Self { status, sense: None, data: Bytes::new() }
    }
    /// GOOD without data.
    #[must_use]
    pub const fn good() -> Self {
        Self::of(Status::Good)
    }
    /// GOOD with data, which is cut already.
    #[must_use]
    pub const fn good_with(data: Bytes) -> Self {
        Self { status: Status::Good, sense: None, data }
    }
    /// GOOD with the part of `data` that the allocation length has room for (SPC-5 4.2.5.6).
    #[must_use]
    pub fn good_cut(data: impl Into<Bytes>, allocation_bytes: u32) -> Self {
        let mut data = data.into();
        data.truncate(usize::try_from(allocation_bytes).unwrap_or(usize::MAX));
        Self::good_with(data)
    }
    /// CONDITION MET: PRE-FETCH found room for everything.
    #[must_use]
    pub const fn condition_met() -> Self {
        Self::of(Status::ConditionMet)
    }
    /// RESERVATION CONFLICT.
    #[must_use]
    pub const fn conflict() -> Self {
        Self::of(Status::ReservationConflict)
    }
    /// CHECK CONDITION with this sense data.
    #[must_use]
    pub const fn check(sense: Sense) -> Self {
        Self { status: Status::CheckCondition, sense: Some(sense), data: Bytes::new() }
    }
}

impl From<Sense> for Response {
    fn from(sense: Sense) -> Self {
        Self::check(sense)
    }
}
