//! The command that the guards run: writes blocks that say who wrote them, as fast as it may, and
//! goes on trying whatever it is told.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use host::{Credentials, HostError, Initiator, LogicalUnit, Options};

pub(crate) const BLOCKS: u64 = 64;
pub(crate) const BLOCK: usize = 512;
const MAGIC: [u8; 8] = *b"GUARDED!";
const CONFLICT: u8 = 0x18;

/// What a block says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) host: u64,
    /// The key of the run: host, epoch, nonce.
    pub(crate) key: u64,
    pub(crate) sequence: u64,
}

impl Stamp {
    pub(crate) fn lba(self) -> u64 {
        lba_of(self.sequence)
    }

    pub(crate) fn block(self) -> Bytes {
        let mut block = vec![0; BLOCK];
        block[..8].copy_from_slice(&MAGIC);
        block[8..16].copy_from_slice(&self.host.to_be_bytes());
        block[16..24].copy_from_slice(&self.key.to_be_bytes());
        block[24..32].copy_from_slice(&self.sequence.to_be_bytes());
        let sum = crc32c::crc32c(&block[..BLOCK - 4]);
        block[BLOCK - 4..].copy_from_slice(&sum.to_be_bytes());
        block.into()
    }

    /// `None` for a block that nobody has written.
    pub(crate) fn read(block: &[u8]) -> Option<Self> {
        if block.iter().all(|byte| *byte == 0) {
            return None;
        }
        let sum = crc32c::crc32c(&block[..BLOCK - 4]);
        assert_eq!(block[BLOCK - 4..], sum.to_be_bytes(), "a block is torn");
        assert_eq!(block[..8], MAGIC);
        let number = |at: usize| u64::from_be_bytes(block[at..at + 8].try_into().unwrap());
        Some(Self { host: number(8), key: number(16), sequence: number(24) })
    }
}

pub(crate) fn lba_of(sequence: u64) -> u64 {
    sequence * 7 % BLOCKS
}

pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros().try_into().unwrap()
}

/// How the writer is told what to do: the parts of one variable.
pub(crate) struct Orders {
    pub(crate) host: u64,
    pub(crate) portal: String,
    pub(crate) target: String,
    pub(crate) initiator: String,
    pub(crate) user: String,
    pub(crate) secret: String,
    pub(crate) log: String,
}

impl Orders {
    pub(crate) const VARIABLE: &'static str = "COMMONHOLD_TEST_WRITER";

    /// The port that the guard lets in; that of a group's programs is said by their environment.
    pub(crate) fn isid(&self) -> [u8; 6] {
        let Ok(said) = std::env::var("COMMONHOLD_ISID") else {
            return [0x80, 0, 0, 0, 1, u8::try_from(self.host).unwrap()];
        };
        let number = u64::from_str_radix(&said, 16).unwrap();
        number.to_be_bytes()[2..].try_into().unwrap()
    }

    pub(crate) fn encode(&self) -> String {
        let host = self.host.to_string();
        let parts: [&str; 7] = [
            &host,
            &self.portal,
            &self.target,
            &self.initiator,
            &self.user,
            &self.secret,
            &self.log,
        ];
        parts.join("\n")
    }

    pub(crate) fn decode(text: &str) -> Self {
        let parts: Vec<String> = text.split('\n').map(str::to_owned).collect();
        let [host, portal, target, initiator, user, secret, log] = parts.try_into().unwrap();
        Self { host: host.parse().unwrap(), portal, target, initiator, user, secret, log }
    }
}

/// Until it is killed.
pub(crate) async fn write_for_ever(orders: &Orders) {
    let mut log = File::options().create(true).append(true).open(Path::new(&orders.log)).unwrap();
    let key = std::env::var("COMMONHOLD_GUARD_KEY").unwrap();
    let key = u64::from_str_radix(key.trim_start_matches("0x"), 16).unwrap();
    writeln!(log, "pid {} {key}", std::process::id()).unwrap();
    let mut sequence = 0;
    loop {
        let mut options = Options::new(orders.initiator.clone(), Some(orders.target.clone()));
        options.isid = orders.isid();
        options.chap =
            Some(Credentials { user: orders.user.clone(), secret: orders.secret.clone() });
        let open = async {
            let session = Initiator::connect(&orders.portal, options).await?;
            LogicalUnit::open(&session, 0).await
        };
        let Ok(unit) = open.await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            let stamp = Stamp { host: orders.host, key, sequence };
            match unit.write(stamp.lba(), stamp.block(), true).await {
                Ok(()) => {
                    writeln!(log, "ack {} {sequence}", now_us()).unwrap();
                    sequence += 1;
                }
                Err(HostError::Status { status: CONFLICT, .. }) => {
                    writeln!(log, "conflict {}", now_us()).unwrap();
                }
                // Unit attentions, aborted commands.
                Err(HostError::Status { .. } | HostError::Aborted) => {}
                Err(_) => break,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// What a writer's log says.
#[derive(Default, Debug)]
pub(crate) struct Diary {
    pub(crate) process: Option<i32>,
    pub(crate) key: u64,
    /// Time and sequence of each acknowledged write of the last run.
    pub(crate) acknowledged: Vec<(u64, u64)>,
    pub(crate) conflicts: usize,
    pub(crate) runs: usize,
}

pub(crate) fn diary(path: &Path) -> Diary {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut diary = Diary::default();
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "pid" => {
                let runs = diary.runs + 1;
                diary = Diary { runs, key: number(2), ..Diary::default() };
                diary.process = Some(words[1].parse().unwrap());
            }
            "ack" => diary.acknowledged.push((number(1), number(2))),
            _ => diary.conflicts += 1,
        }
    }
    diary
}
