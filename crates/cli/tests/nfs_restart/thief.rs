//! A client that wants what others hold, at any moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nfs::v4::Status;

use crate::dice::Dice;
use crate::nfs_client::session::Client;
use crate::world::{LANES, Shared, Sums, range_of};

pub(crate) struct Thief {
    pub(crate) client: Client,
    /// Of the file with the locks.
    pub(crate) file: usize,
    pub(crate) dice: Dice,
    pub(crate) shared: Arc<Shared>,
}

impl Thief {
    pub(crate) fn run(mut self) -> Sums {
        let (mut sums, mut sessions) = (Sums::default(), self.client.sessions);
        while !self.shared.ends() {
            let lane = self.dice.below(LANES);
            let sent = Instant::now();
            let status = self.client.lock(self.file, "thief", range_of(lane));
            match status {
                Status::Denied => sums.tries += 1,
                Status::Grace => {}
                other => panic!("the lock of lane {lane}: {other:?}"),
            }
            if self.client.sessions != sessions {
                sessions = self.client.sessions;
                let (begins, ends) = self.client.reclaimed.unwrap();
                self.shared.note_reclaimed(LANES, begins, ends);
            }
            if status == Status::Denied {
                self.shared.note_after_grace(sent, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        sums
    }
}
