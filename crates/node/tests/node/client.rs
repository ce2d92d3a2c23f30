//! A host's session, with the commands that the tests need and answers that are easy to compare.

use bytes::Bytes;
use host::{Command, Data, HostError, Initiator, Outcome, Pending, TmfFunction, TmfResponse};

use crate::world::LONG;

/// Status, sense key, additional sense code and qualifier.
pub(crate) type Answer = (u8, u8, u8, u8);

pub(crate) const GOOD: Answer = (0, 0, 0, 0);
pub(crate) const CONFLICT: Answer = (0x18, 0, 0, 0);
pub(crate) const TASK_ABORTED: Answer = (0x40, 0, 0, 0);

pub(crate) const BLOCK: usize = 512;

/// Service actions of PERSISTENT RESERVE OUT.
pub(crate) const REGISTER: u8 = 0;
pub(crate) const RESERVE: u8 = 1;
pub(crate) const RELEASE: u8 = 2;
pub(crate) const CLEAR: u8 = 3;
pub(crate) const PREEMPT: u8 = 4;
pub(crate) const PREEMPT_AND_ABORT: u8 = 5;
pub(crate) const REGISTER_IGNORE: u8 = 6;

/// Types.
pub(crate) const WRITE_EXCLUSIVE: u8 = 1;
pub(crate) const REGISTRANTS_ONLY: u8 = 5;
pub(crate) const ALL_REGISTRANTS: u8 = 7;

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) session: Initiator,
}

/// The answer in an outcome.
pub(crate) fn answer_of(outcome: &Outcome) -> Answer {
    match HostError::of(outcome) {
        None => GOOD,
        Some(HostError::Status { status, key, asc, ascq }) => (status, key, asc, ascq),
        Some(other) => panic!("{other}"),
    }
}

/// A CDB with operation code, second byte, LBA and length where 16-byte commands have them.
pub(crate) fn cdb16(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    let mut cdb = vec![0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// PERSISTENT RESERVE OUT: CDB and basic parameter list.
pub(crate) fn reserve_out(
    action: u8,
    kind: u8,
    (key, action_key): (u64, u64),
    aptpl: bool,
) -> (Vec<u8>, Bytes) {
    let mut cdb = vec![0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0];
    cdb.truncate(10);
    let mut list = [0; 24];
    list[..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&action_key.to_be_bytes());
    list[20] = u8::from(aptpl);
    (cdb, Bytes::copy_from_slice(&list))
}

impl Client {
    pub(crate) fn new(session: Initiator) -> Self {
        Self { session }
    }

    pub(crate) async fn outcome(&self, cdb: &[u8], data: Data) -> Result<Outcome, HostError> {
        let run = self.session.execute(0, cdb, data);
        tokio::time::timeout(LONG, run).await.expect("a command is not answered")
    }

    pub(crate) async fn run(&self, cdb: &[u8], data: Data) -> Answer {
        answer_of(&self.outcome(cdb, data).await.unwrap())
    }

    pub(crate) async fn ready(&self) -> Answer {
        self.run(&[0; 6], Data::None).await
    }

    /// Take all pending unit attentions: their codes, in order.
    pub(crate) async fn attentions(&self) -> Vec<(u8, u8)> {
        let mut found = Vec::new();
        loop {
            match self.ready().await {
                (2, 6, asc, ascq) => found.push((asc, ascq)),
                GOOD => return found,
                other => panic!("TEST UNIT READY: {other:x?}"),
            }
            assert!(found.len() < 20, "endless unit attentions: {found:x?}");
        }
    }

    pub(crate) async fn write(&self, lba: u64, data: Vec<u8>) -> Answer {
        let cdb = write_cdb(lba, data.len());
        self.run(&cdb, Data::Out(vec![data.into()])).await
    }

    /// Send a write and go on.
    pub(crate) async fn start_write(&self, lba: u64, data: Vec<u8>) -> Pending {
        let cdb = write_cdb(lba, data.len());
        self.session.start(Command::new(0, &cdb, Data::Out(vec![data.into()]))).await.unwrap()
    }

    /// Send a write whose data-out is withheld, and make sure that the target has it.
    pub(crate) async fn start_write_without_data(&self, lba: u64, data: Vec<u8>) -> Pending {
        let cdb = write_cdb(lba, data.len());
        let command = Command::new(0, &cdb, Data::Out(vec![data.into()]));
        let pending = self.session.start(Command { withhold: true, ..command }).await.unwrap();
        self.settle().await;
        pending
    }

    /// Returns when the target has taken all that was sent.
    pub(crate) async fn settle(&self) {
        let ping = self.session.ping(Bytes::from_static(b"settle"));
        tokio::time::timeout(LONG, ping).await.expect("no pong").unwrap();
    }

    pub(crate) async fn read(&self, lba: u64, blocks: u32) -> Vec<u8> {
        let bytes = blocks * 512;
        let outcome = self.outcome(&cdb16(0x88, 0, lba, blocks), Data::In(bytes)).await.unwrap();
        assert_eq!(answer_of(&outcome), GOOD, "READ");
        outcome.data.concat()
    }

    pub(crate) async fn reserve_out(&self, action: u8, kind: u8, keys: (u64, u64)) -> Answer {
        let (cdb, list) = reserve_out(action, kind, keys, false);
        self.run(&cdb, Data::Out(vec![list])).await
    }

    pub(crate) async fn start_reserve_out(
        &self,
        action: u8,
        kind: u8,
        keys: (u64, u64),
    ) -> Pending {
        let (cdb, list) = reserve_out(action, kind, keys, false);
        self.session.start(Command::new(0, &cdb, Data::Out(vec![list]))).await.unwrap()
    }

    /// REGISTER a first key.
    pub(crate) async fn register(&self, key: u64) {
        assert_eq!(self.reserve_out(REGISTER, 0, (0, key)).await, GOOD, "REGISTER");
    }

    pub(crate) async fn register_aptpl(&self, key: u64) {
        let (cdb, list) = reserve_out(REGISTER, 0, (0, key), true);
        assert_eq!(self.run(&cdb, Data::Out(vec![list])).await, GOOD, "REGISTER");
    }

    pub(crate) async fn reserve(&self, key: u64, kind: u8) {
        assert_eq!(self.reserve_out(RESERVE, kind, (key, 0)).await, GOOD, "RESERVE");
    }

    /// PERSISTENT RESERVE IN.
    pub(crate) async fn reserve_in(&self, action: u8) -> Result<Vec<u8>, Answer> {
        let cdb = [0x5E, action, 0, 0, 0, 0, 0, 0x10, 0, 0];
        let outcome = self.outcome(&cdb, Data::In(0x1000)).await.unwrap();
        match answer_of(&outcome) {
            GOOD => Ok(outcome.data.concat()),
            other => Err(other),
        }
    }

    pub(crate) async fn keys(&self) -> Vec<u64> {
        let data = self.reserve_in(0).await.unwrap();
        let mut keys: Vec<u64> = data[8..].chunks(8).map(be64).collect();
        keys.sort_unstable();
        keys
    }

    pub(crate) async fn task_management(&self, function: TmfFunction) -> TmfResponse {
        let run = self.session.task_management(function, 0);
        tokio::time::timeout(LONG, run).await.expect("a function is not answered").unwrap()
    }

    /// Set TAS, or clear it.
    pub(crate) async fn set_task_aborted_status(&self, on: bool) {
        let list = vec![0, 0, 0, 0, 0x0A, 10, 0, 0x10, 0, u8::from(on) << 6, 0, 0, 0, 0, 0, 0];
        let cdb = [0x15, 0x10, 0, 0, 16, 0];
        assert_eq!(self.run(&cdb, Data::Out(vec![list.into()])).await, GOOD, "MODE SELECT");
    }
}

pub(crate) fn be64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

fn write_cdb(lba: u64, bytes: usize) -> Vec<u8> {
    cdb16(0x8A, 0, lba, u32::try_from(bytes / BLOCK).unwrap())
}

/// The answer of a pending command, when it comes in time.
pub(crate) async fn answer(pending: Pending) -> Result<Answer, HostError> {
    let outcome = tokio::time::timeout(LONG, pending.outcome()).await.expect("no answer");
    outcome.map(|outcome| answer_of(&outcome))
}

/// Nothing comes back for this command.
pub(crate) async fn is_silent(pending: Pending) {
    let got = tokio::time::timeout(crate::world::SHORT, pending.outcome()).await;
    assert!(got.is_err(), "an answer came: {got:?}");
}
