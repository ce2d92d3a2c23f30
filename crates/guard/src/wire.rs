//! The bytes between a guard and a volume: PERSISTENT RESERVE IN and OUT (SPC-5 6.15, 6.16) and
//! the log page that tells how old each registrant's last command is.

use scsi::nexus::InitiatorPort;
use scsi::registrants;
use scsi::reservations::ReservationType;
use scsi::transport_id::TransportId;

pub use scsi::registrants::PAGE as REGISTRANTS_PAGE;

/// Service actions of PERSISTENT RESERVE OUT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Out {
    Register = 0x00,
    Reserve = 0x01,
    PreemptAndAbort = 0x05,
    RegisterAndIgnore = 0x06,
}

/// PERSISTENT RESERVE IN, READ FULL STATUS.
pub const READ_FULL_STATUS: u8 = 0x03;
/// Room for the answers: more than a hundred registrations.
pub const ALLOCATION_BYTES: u16 = 0x8000;
/// APTPL: what is registered outlives a loss of the target's power.
const APTPL: u8 = 0x01;
const SPEC_I_PT: u8 = 0x08;

/// One registration as READ FULL STATUS tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    pub key: u64,
    pub holder: bool,
    /// The reservation's type; of a holder only.
    pub kind: Option<ReservationType>,
}

/// READ FULL STATUS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FullStatus {
    pub generation: u32,
    pub registrations: Vec<Listed>,
}

/// The registrants page: registrations in the order of READ FULL STATUS of the same generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ages {
    pub generation: u32,
    pub registrants: Vec<Aged>,
}

/// One registration as the registrants page tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aged {
    pub key: u64,
    pub holder: bool,
    /// Since the last command of that I_T nexus; `None` when none came since the target began.
    pub age_ms: Option<u32>,
}

/// The answer is shorter than it says, or longer than what was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the answer to PERSISTENT RESERVE IN or LOG SENSE is cut short or malformed")]
pub struct Malformed;

/// The CDB of PERSISTENT RESERVE IN.
#[must_use]
pub fn in_cdb(service_action: u8) -> [u8; 10] {
    let mut cdb = [0; 10];
    (cdb[0], cdb[1]) = (0x5E, service_action & 0x1F);
    cdb[7..9].copy_from_slice(&ALLOCATION_BYTES.to_be_bytes());
    cdb
}

/// The CDB of LOG SENSE for the registrants page, cumulative values.
#[must_use]
pub fn ages_cdb() -> [u8; 10] {
    let mut cdb = [0; 10];
    (cdb[0], cdb[2]) = (0x4D, 0x40 | REGISTRANTS_PAGE);
    cdb[7..9].copy_from_slice(&ALLOCATION_BYTES.to_be_bytes());
    cdb
}

/// CDB and parameter list of PERSISTENT RESERVE OUT. `ports` are registered with the caller
/// (SPEC_I_PT) and belong to REGISTER alone.
#[must_use]
pub fn out(
    action: Out,
    kind: ReservationType,
    (own, about): (u64, u64),
    ports: &[InitiatorPort],
) -> ([u8; 10], Vec<u8>) {
    let mut list = vec![0; 24];
    list[..8].copy_from_slice(&own.to_be_bytes());
    list[8..16].copy_from_slice(&about.to_be_bytes());
    if matches!(action, Out::Register | Out::RegisterAndIgnore) {
        list[20] = APTPL;
    }
    if !ports.is_empty() {
        list[20] |= SPEC_I_PT;
        let ids: Vec<u8> =
            ports.iter().flat_map(|port| TransportId::Port(port.clone()).encode()).collect();
        list.extend(length(ids.len()).to_be_bytes());
        list.extend(ids);
    }
    let mut cdb = [0; 10];
    let code = if matches!(action, Out::Reserve | Out::PreemptAndAbort) { kind.code() } else { 0 };
    (cdb[0], cdb[1], cdb[2]) = (0x5F, action as u8, code);
    cdb[5..9].copy_from_slice(&length(list.len()).to_be_bytes());
    (cdb, list)
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl FullStatus {
    /// # Errors
    /// [`Malformed`], also for an answer that did not fit the allocation length.
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(data);
        let generation = u32::from_be_bytes(reader.take()?);
        let body_bytes = u32::from_be_bytes(reader.take()?);
        let body_bytes = usize::try_from(body_bytes).map_err(|_| Malformed)?;
        let mut body = Reader(reader.bytes(body_bytes)?);
        let mut registrations = Vec::new();
        while !body.0.is_empty() {
            let key = u64::from_be_bytes(body.take()?);
            let [_, _, _, _, flags, scope_and_type] = body.take()?;
            let [_, _, _, _, _, _] = body.take()?;
            let id_bytes = u32::from_be_bytes(body.take()?);
            body.bytes(usize::try_from(id_bytes).map_err(|_| Malformed)?)?;
            let holder = flags & 0x01 != 0;
            let kind = ReservationType::from_code(scope_and_type & 0x0F).filter(|_| holder);
            registrations.push(Listed { key, holder, kind });
        }
        Ok(Self { generation, registrations })
    }
}

impl Ages {
    /// # Errors
    /// [`Malformed`], also for a page of another kind.
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(data);
        let [page, _, high, low] = reader.take()?;
        if page & 0x3F != REGISTRANTS_PAGE {
            return Err(Malformed);
        }
        let mut body = Reader(reader.bytes(usize::from(u16::from_be_bytes([high, low])))?);
        let (mut generation, mut registrants) = (None, Vec::new());
        while !body.0.is_empty() {
            let [code_high, code_low, _, value_bytes] = body.take()?;
            let mut value = Reader(body.bytes(usize::from(value_bytes))?);
            if [code_high, code_low] == [0, 0] {
                generation = Some(u32::from_be_bytes(value.take()?));
                continue;
            }
            let key = u64::from_be_bytes(value.take()?);
            let age_ms = u32::from_be_bytes(value.take()?);
            let [flags] = value.take()?;
            let age_ms = (age_ms != u32::MAX).then_some(age_ms);
            registrants.push(Aged { key, holder: flags & registrants::R_HOLDER != 0, age_ms });
        }
        Ok(Self { generation: generation.ok_or(Malformed)?, registrants })
    }
}
