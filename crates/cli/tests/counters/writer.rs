//! One initiator: reads a block, adds one by COMPARE AND WRITE, and tries again on a miscompare.

use bytes::Bytes;
use host::{Command, Credentials, Data, HostError, Initiator, LogicalUnit, Options};

use crate::block::Block;
use crate::dice::Dice;
use crate::{COUNTERS, SHARED, lba};

/// One command in so many is never answered, because its session is dropped.
const DROP_ONE_OF: usize = 40;

#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) portal: String,
    pub(crate) iqn: String,
    pub(crate) target: String,
    pub(crate) credentials: Credentials,
}

impl Seat {
    pub(crate) async fn log_in(&self) -> Result<(Initiator, LogicalUnit), HostError> {
        let mut options = Options::new(&self.iqn, Some(self.target.clone()));
        options.chap = Some(self.credentials.clone());
        let session = Initiator::connect(&self.portal, options).await?;
        let unit = LogicalUnit::open(&session, 0).await?;
        Ok((session, unit))
    }
}

/// What one initiator knows at its end.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// Per counter, the increments that it knows to have landed.
    pub(crate) added: [u64; COUNTERS],
    pub(crate) attempts: u64,
    pub(crate) misses: u64,
    pub(crate) drops: u64,
    /// Commands that were never answered, and had landed all the same.
    pub(crate) landed: u64,
}

/// How a COMPARE AND WRITE ended.
enum Ended {
    Done,
    Miscompare,
    Unanswered,
}

pub(crate) struct Writer {
    number: usize,
    seat: Seat,
    dice: Dice,
    tally: Tally,
}

impl Writer {
    pub(crate) fn new(number: usize, seat: Seat, dice: Dice) -> Self {
        Self { number, seat, dice, tally: Tally::default() }
    }

    pub(crate) async fn run(mut self, increments: u64) -> Tally {
        let (mut session, mut unit) = self.seat.log_in().await.unwrap();
        for _ in 0..increments {
            // Half of the work on the counters that all share, half on the pair's own.
            let pair = SHARED + self.number / 2;
            let counter = if self.dice.below(2) == 0 { self.dice.below(SHARED) } else { pair };
            while !self.try_once(counter, &session, &unit).await {
                if self.unusable(&unit).await {
                    (session, unit) = self.seat.log_in().await.unwrap();
                }
                if self.resolve(counter, &unit).await {
                    self.tally.landed += 1;
                    break;
                }
            }
        }
        match session.logout().await {
            Ok(()) | Err(HostError::Lost(_)) => self.tally,
            Err(error) => panic!("logout: {error}"),
        }
    }

    /// Read and add one; true when it was answered that it is done.
    async fn try_once(&mut self, counter: usize, session: &Initiator, unit: &LogicalUnit) -> bool {
        let before = match unit.read(lba(counter), 1).await {
            // The answer to the last command was faster than the cut behind it.
            Err(HostError::Lost(_)) => return false,
            read => Block::parse(&read.unwrap()).unwrap(),
        };
        let drop_it = self.dice.below(DROP_ONE_OF) == 0;
        self.tally.attempts += 1;
        match compare_and_write(lba(counter), &before, self.number, session, drop_it).await {
            Ended::Done => {
                self.tally.added[counter] += 1;
                true
            }
            Ended::Miscompare => {
                self.tally.misses += 1;
                false
            }
            Ended::Unanswered => {
                self.tally.drops += 1;
                false
            }
        }
    }

    async fn unusable(&self, unit: &LogicalUnit) -> bool {
        unit.test_unit_ready().await.is_err()
    }

    /// After a drop only the tag tells whether the command landed. It must not land after the
    /// new login: the old session was over by then (RFC 7143 6.3.5).
    async fn resolve(&mut self, counter: usize, unit: &LogicalUnit) -> bool {
        let now = Block::parse(&unit.read(lba(counter), 1).await.unwrap()).unwrap();
        let landed = now.tags[self.number] - self.tally.added[counter];
        assert!(landed <= 1, "one command added {landed} times");
        self.tally.added[counter] += landed;
        landed == 1
    }
}

/// COMPARE AND WRITE of one block (SBC-4 5.3): the block as it was, then as it shall be.
async fn compare_and_write(
    lba: u64,
    before: &Block,
    writer: usize,
    session: &Initiator,
    drop_it: bool,
) -> Ended {
    let mut cdb = [0; 16];
    (cdb[0], cdb[13]) = (0x89, 1);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    let data =
        Data::Out(vec![Bytes::from(before.bytes()), Bytes::from(before.after(writer).bytes())]);
    let pending = session.start(Command::new(0, &cdb, data)).await.unwrap();
    let cut = async {
        if drop_it {
            // Time for the command to be anywhere between the socket and the file.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            session.cut().await;
        }
    };
    let (outcome, ()) = tokio::join!(pending.outcome(), cut);
    let error = match outcome {
        Ok(outcome) => HostError::of(&outcome),
        Err(error) => Some(error),
    };
    match error {
        None => Ended::Done,
        Some(HostError::Status { key: 0xe, asc: 0x1d, .. }) => Ended::Miscompare,
        Some(HostError::Lost(_)) => Ended::Unanswered,
        Some(other) => panic!("COMPARE AND WRITE: {other}"),
    }
}
