//! A session that asks, and answers that are easy to compare.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use host::{Command, Data, HostError, Initiator, Options, Outcome, Pending};

use crate::servers::Address;
use crate::sessions::lun_field;

/// Status, sense key, additional sense code and qualifier.
pub(super) type Answer = (u8, u8, u8, u8);

pub(super) const GOOD: Answer = (0, 0, 0, 0);
pub(super) const CONFLICT: Answer = (0x18, 0, 0, 0);
pub(super) const BLOCK: usize = 512;

/// Service actions of PERSISTENT RESERVE OUT (SPC-5 6.16.2).
pub(super) const REGISTER: u8 = 0;
pub(super) const RESERVE: u8 = 1;
pub(super) const RELEASE: u8 = 2;
pub(super) const CLEAR: u8 = 3;
pub(super) const PREEMPT: u8 = 4;
pub(super) const PREEMPT_AND_ABORT: u8 = 5;

/// Types (SPC-5 6.15.3.4).
pub(super) const WRITE_EXCLUSIVE: u8 = 1;
pub(super) const REGISTRANTS_ONLY: u8 = 5;
pub(super) const ALL_REGISTRANTS: u8 = 7;

/// Longer than any target that works needs for an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A session of one initiator port with one logical unit.
#[derive(Clone, Debug)]
pub(super) struct Client {
    session: Initiator,
    lun: u64,
}

pub(super) fn answer_of(outcome: &Outcome) -> Result<Answer> {
    match HostError::of(outcome) {
        None => Ok(GOOD),
        Some(HostError::Status { status, key, asc, ascq }) => Ok((status, key, asc, ascq)),
        Some(other) => bail!(other),
    }
}

/// How an answer reads in the table.
pub(super) fn name(answer: Answer) -> String {
    match answer {
        GOOD => "GOOD".to_owned(),
        CONFLICT => "RESERVATION CONFLICT".to_owned(),
        (2, key, asc, ascq) => format!("CHECK CONDITION {key:x}h, {asc:02X}h/{ascq:02X}h"),
        (status, ..) => format!("status {status:02X}h"),
    }
}

/// A CDB with operation code, second byte, LBA and length where 16-byte commands have them.
pub(super) fn cdb16(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    let mut cdb = vec![0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

pub(super) fn out(bytes: Vec<u8>) -> Data {
    if bytes.is_empty() { Data::None } else { Data::Out(vec![bytes.into()]) }
}

pub(super) fn be64(bytes: &[u8]) -> u64 {
    bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl Client {
    /// Log in; unit attentions stay pending.
    pub(super) async fn connect(address: &Address, initiator: &str, port: u8) -> Result<Self> {
        let Address::Iscsi { portal, target, lun } = address else { bail!("not iSCSI") };
        let isid = [0x80, 0, 0, 0, 0, port];
        let options = Options { isid, ..Options::new(initiator, Some(target.clone())) };
        let session = Initiator::connect(portal, options).await.context("login")?;
        Ok(Self { session, lun: lun_field(*lun) })
    }

    pub(super) async fn outcome(&self, cdb: &[u8], data: Data) -> Result<Outcome> {
        let run = self.session.execute(self.lun, cdb, data);
        Ok(tokio::time::timeout(LIMIT, run).await.context("a command is not answered")??)
    }

    pub(super) async fn run(&self, cdb: &[u8], data: Data) -> Result<Answer> {
        answer_of(&self.outcome(cdb, data).await?)
    }

    /// Take all pending unit attentions: their codes, in order.
    pub(super) async fn attentions(&self) -> Result<Vec<(u8, u8)>> {
        let mut found = Vec::new();
        while found.len() < 20 {
            match self.run(&[0; 6], Data::None).await? {
                (2, 6, asc, ascq) => found.push((asc, ascq)),
                GOOD => return Ok(found),
                other => bail!("TEST UNIT READY: {}", name(other)),
            }
        }
        bail!("endless unit attentions: {found:x?}")
    }

    pub(super) async fn write(&self, lba: u64, data: Vec<u8>) -> Result<Answer> {
        let blocks = u32::try_from(data.len() / BLOCK)?;
        self.run(&cdb16(0x8A, 0, lba, blocks), out(data)).await
    }

    /// WRITE (16) with FUA.
    pub(super) async fn write_durably(&self, lba: u64, data: Vec<u8>) -> Result<Answer> {
        let blocks = u32::try_from(data.len() / BLOCK)?;
        self.run(&cdb16(0x8A, 8, lba, blocks), out(data)).await
    }

    /// Send a write whose data-out is withheld, and make sure that the target has it.
    pub(super) async fn start_write_without_data(&self, lba: u64, fill: u8) -> Result<Pending> {
        let cdb = cdb16(0x8A, 0, lba, 1);
        let command = Command::new(self.lun, &cdb, out(vec![fill; BLOCK]));
        let pending = self.session.start(Command { withhold: true, ..command }).await?;
        self.settle().await?;
        Ok(pending)
    }

    /// Returns when the target has taken all that was sent.
    pub(super) async fn settle(&self) -> Result<()> {
        let ping = self.session.ping(Bytes::from_static(b"settle"));
        tokio::time::timeout(LIMIT, ping).await.context("no answer to a NOP")??;
        Ok(())
    }

    pub(super) async fn read(&self, lba: u64, blocks: u32) -> Result<Vec<u8>> {
        let data = Data::In(blocks * u32::try_from(BLOCK)?);
        let outcome = self.outcome(&cdb16(0x88, 0, lba, blocks), data).await?;
        let answer = answer_of(&outcome)?;
        ensure!(answer == GOOD, "READ (16): {}", name(answer));
        Ok(outcome.data.concat())
    }

    /// PERSISTENT RESERVE OUT with its basic parameter list.
    pub(super) async fn reserve_out(
        &self,
        action: u8,
        kind: u8,
        (own, other): (u64, u64),
        aptpl: bool,
    ) -> Result<Answer> {
        let cdb = [0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0];
        let mut list = vec![0; 24];
        list[..8].copy_from_slice(&own.to_be_bytes());
        list[8..16].copy_from_slice(&other.to_be_bytes());
        list[20] = u8::from(aptpl);
        self.run(&cdb, out(list)).await
    }

    /// REGISTER a first key.
    pub(super) async fn register(&self, key: u64) -> Result<()> {
        let answer = self.reserve_out(REGISTER, 0, (0, key), false).await?;
        ensure!(answer == GOOD, "REGISTER: {}", name(answer));
        Ok(())
    }

    pub(super) async fn reserve(&self, key: u64, kind: u8) -> Result<()> {
        let answer = self.reserve_out(RESERVE, kind, (key, 0), false).await?;
        ensure!(answer == GOOD, "RESERVE of type {kind}: {}", name(answer));
        Ok(())
    }

    /// PERSISTENT RESERVE IN: the data, or why there is none.
    pub(super) async fn reserve_in(&self, action: u8) -> Result<Result<Vec<u8>, Answer>> {
        let cdb = [0x5E, action, 0, 0, 0, 0, 0, 0x10, 0, 0];
        let outcome = self.outcome(&cdb, Data::In(0x1000)).await?;
        Ok(match answer_of(&outcome)? {
            GOOD => Ok(outcome.data.concat()),
            other => Err(other),
        })
    }

    /// READ KEYS, sorted.
    pub(super) async fn keys(&self) -> Result<Vec<u64>> {
        let data = match self.reserve_in(0).await? {
            Ok(data) => data,
            Err(answer) => bail!("READ KEYS: {}", name(answer)),
        };
        let mut keys: Vec<u64> = data.get(8..).unwrap_or(&[]).chunks_exact(8).map(be64).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// READ RESERVATION: key and type of the reservation, if there is one.
    pub(super) async fn reservation(&self) -> Result<Option<(u64, u8)>> {
        let data = match self.reserve_in(1).await? {
            Ok(data) => data,
            Err(answer) => bail!("READ RESERVATION: {}", name(answer)),
        };
        let kind = data.get(21).map(|byte| byte & 0x0F);
        Ok(kind.map(|kind| (be64(&data[8..]), kind)))
    }

    pub(super) async fn logout(&self) -> Result<()> {
        Ok(self.session.logout().await?)
    }
}

/// The answer of a pending command; None when none comes.
pub(super) async fn answer(pending: Pending) -> Result<Option<Answer>> {
    match tokio::time::timeout(Duration::from_millis(300), pending.outcome()).await {
        Err(_) | Ok(Err(HostError::Aborted)) => Ok(None),
        Ok(outcome) => answer_of(&outcome?).map(Some),
    }
}
