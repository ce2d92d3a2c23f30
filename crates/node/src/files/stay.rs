//! A thread that stays with one connection while its calls come one after another.
//!
//! ```text
//!                 BRISK calls in a row, each soon after the last answer
//!  waits for all --------------------------------------------------------> stays with one
//!  sockets       <--------------------------------------------------------
//!                 nothing came for [`PATIENCE`], or others are waited for
//! ```
//!
//! Who waits for all sockets is told of each request by one call to the kernel, asks to be told of
//! the next one by another, and serves clients of other cores. Who stays waits in the socket itself:
//! where clients send one request after another, as `stat` and `open` do, it takes turns with its
//! client, and a call costs two system calls less. When all cores are at work and sockets wait all
//! the same, those that stay come back, so that who asks often is not served before who asks seldom.
//!
//! Invariant: a connection that somebody stays with is read by that thread, or by those that relieve
//! it while it is at one call for long; and somebody else waits for sockets meanwhile.

use std::sync::Arc;
use std::time::Duration;

use model::file::FileStore;

use super::Service;
use super::connection::Connection;
use super::crew::Called;
use super::figures::Turned;
use super::lull::{self, Lull, Way};
use super::post::Post;
use super::seat::Seat;
use super::worker::Turn;

/// How long who stays waits for the next request. The kernel counts it in ticks of a few
/// milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);
/// A request that comes so soon after the last answer is one of a row.
const SOON: Duration = Duration::from_millis(2);
/// So many in a row, before somebody stays.
const BRISK: u32 = 16;
/// Requests that came together: who has so many under way waits seldom, and gains nothing.
const TOGETHER: usize = 4;

/// How a connection's requests come. Values in, values out.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Habit {
    row: u32,
}

impl Habit {
    /// So many calls came together, so long after the last answer.
    pub(super) fn came(&mut self, calls: usize, after: Duration) {
        let is_in_row = (1..TOGETHER).contains(&calls) && after <= SOON;
        self.row = if is_in_row { self.row.saturating_add(1) } else { 0 };
    }
    pub(super) fn is_brisk(self) -> bool {
        self.row >= BRISK
    }
}

impl<F: FileStore + Clone + Send + Sync> Service<F> {
    /// Stays with a connection that this thread reads, if it may; `None`: it goes on waiting for all
    /// sockets. Otherwise it does so no more, and this is how the last turn ended.
    pub(super) fn stay(
        &self,
        connection: &Arc<Connection>,
        reader: u64,
        post: &Post,
    ) -> Option<Result<Turn, Option<Turned>>> {
        match self.crew.stay()? {
            Called::Comes => {}
            // One that rests, for the next time.
            other => {
                self.see_to(other);
                return None;
            }
        }
        post.polls(false);
        let (mut lull, mut seat) = (Lull::default(), Seat::default());
        let last = loop {
            let way = if self.crew.may_look() { lull.way() } else { Way::Sleep };
            seat.take(way == Way::Look);
            let began = self.clock.now();
            let mut read = || seat.note(connection.socket());
            let mut turn = Ok(Turn::default());
            if way == Way::Look {
                turn = self.look_for(connection, (reader, post), began, &mut read);
            }
            if turn.is_ok_and(|turn| !turn.came && !turn.paused) {
                turn = self.turn(connection, (reader, post), true, &mut read);
            }
            let Ok(Turn { paused, came, calls, at }) = turn else { break turn };
            lull.rested(way, at.saturating_sub(began), at, calls);
            if paused || !came || !self.crew.may_stay() || !connection.stays(reader) {
                break turn;
            }
            self.stir();
        };
        seat.take(false);
        self.crew.comes_back();
        Some(last)
    }

    /// Asks again and again whether something is there, for a moment; does what comes.
    fn look_for(
        &self,
        connection: &Arc<Connection>,
        (reader, post): (u64, &Post),
        began: Duration,
        read: &mut impl FnMut(),
    ) -> Result<Turn, Option<Turned>> {
        loop {
            let turn = self.turn(connection, (reader, post), false, &mut *read)?;
            let is_over = turn.at.saturating_sub(began) >= lull::LOOK;
            if turn.came || turn.paused || is_over {
                return Ok(turn);
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brisk_is_who_asks_one_thing_after_another_for_a_while() {
        let mut habit = Habit::default();
        let mut came = |count: u32, calls, after| {
            (0..count).for_each(|_| habit.came(calls, after));
            habit.is_brisk()
        };
        assert!(!came(BRISK - 1, 1, SOON));
        assert!(came(1, TOGETHER - 1, SOON));
        assert!(came(1, 1, Duration::ZERO));
        // A pause, many at once, and half a call each begin the row anew.
        assert!(!came(1, 1, SOON + Duration::from_nanos(1)));
        assert!(came(BRISK, 1, SOON));
        assert!(!came(1, TOGETHER, SOON));
        assert!(came(BRISK, 1, SOON));
        assert!(!came(1, 0, SOON));
    }
}
