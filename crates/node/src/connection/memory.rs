//! Memory for the data of commands: who may start, who waits, who is told to come again.
//!
//! ```text
//!  judged --+-- memory is there ----------------------------------------> data-out, run
//!           +-- no data, or room to keep it ---> in line --granted------> data-out, run
//!           +-- data, but no R2T is open ------> in line, socket unread -granted-> run
//!           +-- else ---------------------------> TASK SET FULL (SAM-5 5.3.1)
//! ```
//!
//! Memory is taken for a whole command at once, so that nobody waits for more while holding some.
//! The socket is left unread only while no command of the connection waits for data from it.

use std::time::Duration;

use iscsi::target::{DataOut, TaskId};
use scsi::command::{Command, Extent};
use scsi::sense::{Response, Status};

use super::{End, Parked, Shell};
use crate::door::Turned;
use crate::facts::BLOCK_BYTES;
use crate::metrics::Kind;
use crate::node::WORKER_BUFFER_BYTES_MIN;
use crate::run::PIECE_BYTES;
use crate::wire::Wire;

/// Stop reading while this much waits to be sent: the initiator does not take its answers.
const UNSENT_BYTES_MAX: usize = 8 << 20;
/// The same before the login, where answers are short.
const UNSENT_AT_LOGIN_BYTES_MAX: usize = 64 << 10;
/// Of what waits to be sent, so much may be other than the data of commands.
const UNSENT_ANSWERS_BYTES_MAX: u64 = 1 << 20;
/// No command costs more: the budget of a worker that serves nobody else grants as much.
const COST_BYTES_MAX: u64 = WORKER_BUFFER_BYTES_MIN / 2;
/// How long a connection may sit on memory that others wait for.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// Data that a command holds while it waits for memory.
#[derive(Clone, Copy, Default)]
pub(super) struct Held {
    bytes: u64,
    /// It counts in the worker's room for such data. What does not is at most what was read at
    /// once: the socket is left unread then.
    paid: bool,
}

/// The commands of a connection that wait for memory, and how its sending goes on.
#[derive(Default)]
pub(super) struct Memory {
    /// In the order of arrival; some may be gone, or begun.
    line: std::collections::VecDeque<TaskId>,
    /// The one that the worker's budget has in its line.
    wished: Option<(TaskId, u64)>,
    /// Data that waiting commands hold.
    held: u64,
    /// Bytes that the socket has taken in all.
    pub(super) sent: u64,
    /// What must have been sent in time: the mark, and since when.
    mark: (u64, Duration),
}

impl<W: Wire> Shell<W> {
    /// Start a command, or let it wait until there is memory for its data.
    pub(super) fn admit(&mut self, task: TaskId, mut parked: Parked) {
        let cost = cost(&parked);
        if self.purse.take(cost) {
            parked.charge = Some((cost, parked.arrived));
            self.begin(task, parked);
            return;
        }
        let (here, more) = self.data_here(task, &parked.data);
        let paid = here > 0 && !more && self.purse.hold(here);
        if more || (here > 0 && !paid && self.awaits_data()) {
            self.refuse_for_now(task, &parked);
            return;
        }
        parked.held = Held { bytes: here, paid };
        self.memory.held += here;
        self.parked.insert(task, parked);
        self.memory.line.push_back(task);
        self.wish();
    }

    /// The data of a command that is here, and whether more is on its way unasked.
    fn data_here(&self, task: TaskId, data: &DataOut) -> (u64, bool) {
        match data {
            DataOut::None => (0, false),
            DataOut::All(parts) => (parts.iter().map(|part| part.len() as u64).sum(), false),
            DataOut::Pending => {
                let (bytes, more) = self.machine.unasked(task);
                (bytes.into(), more)
            }
        }
    }

    fn refuse_for_now(&mut self, task: TaskId, parked: &Parked) {
        self.shared.door.turn_away(Turned::TaskSetFull, &self.peer);
        let response = Response { status: Status::TaskSetFull, ..Response::good() };
        self.count(&End { kind: Kind::Other, arrived: parked.arrived }, &response, 0);
        self.answer(task, response.into(), parked.transfer.data_out_bytes);
    }

    /// There is memory for it: ask for its data, or run it.
    fn begin(&mut self, task: TaskId, mut parked: Parked) {
        match std::mem::replace(&mut parked.data, DataOut::Pending) {
            DataOut::None => self.start(task, parked, Vec::new()),
            DataOut::All(data) => self.start(task, parked, data),
            DataOut::Pending => {
                match self.machine.accept_up_to(task, parked.transfer.data_out_bytes) {
                    Some(data) => self.start(task, parked, data),
                    None => {
                        self.parked.insert(task, parked);
                    }
                }
            }
        }
    }

    /// The budget granted what was wished for.
    pub(super) fn memory_granted(&mut self) {
        if self.purse.waits() {
            return;
        }
        let Some((task, bytes)) = self.memory.wished.take() else { return };
        if !self.begin_waiting(task, bytes) {
            self.purse.give(bytes);
        }
        self.wish();
    }

    /// Begin one that waited, with memory that is taken already. False: it is gone.
    fn begin_waiting(&mut self, task: TaskId, bytes: u64) -> bool {
        let Some(mut parked) = self.parked.remove(&task) else { return false };
        self.let_go(&parked);
        parked.charge = Some((bytes, self.shared.world.clock.now()));
        self.begin(task, parked);
        true
    }

    /// Let the first of the line stand in that of the budget.
    fn wish(&mut self) {
        while self.memory.wished.is_none() {
            let Some(&task) = self.memory.line.front() else { return };
            let waiting = self.parked.get(&task).filter(|parked| parked.charge.is_none());
            let Some(parked) = waiting else {
                self.memory.line.pop_front();
                continue;
            };
            let bytes = cost(parked);
            self.memory.wished = Some((task, bytes));
            self.purse.wish(bytes);
        }
    }

    /// A parked command is gone without having run: what it held is free.
    pub(super) fn unpark(&mut self, task: TaskId) -> Option<Parked> {
        let parked = self.parked.remove(&task)?;
        match parked.charge {
            Some((bytes, _)) => self.purse.give(bytes),
            None => {
                self.let_go(&parked);
                let wished = self.memory.wished.take_if(|(wished, _)| *wished == task);
                if let Some((_, bytes)) = wished {
                    self.purse.withdraw(bytes);
                    self.wish();
                }
            }
        }
        Some(parked)
    }

    fn let_go(&mut self, parked: &Parked) {
        let Held { bytes, paid } = parked.held;
        self.memory.held -= bytes;
        if paid {
            self.purse.let_go(bytes);
        }
    }

    /// Data for a command that still waits for memory; it came unasked.
    pub(super) fn keep_for_later(&mut self, task: TaskId, data: Vec<bytes::Bytes>) {
        if let Some(parked) = self.parked.get_mut(&task) {
            parked.data = DataOut::All(data);
        }
    }

    /// A command whose data was asked for waits for it.
    fn awaits_data(&self) -> bool {
        self.parked.values().any(|parked| parked.charge.is_some())
    }

    /// Commands that wait for memory hold data: nothing more is read until they run.
    pub(super) fn is_stalled(&self) -> bool {
        self.memory.held > 0 && !self.awaits_data()
    }

    /// More may be read: the initiator takes its answers, and there is memory for what comes.
    pub(super) fn reads_on(&mut self, unsent: usize) -> bool {
        self.purse.unsent(unsent as u64);
        if unsent > 0 {
            let most = match self.session {
                Some(_) => UNSENT_BYTES_MAX,
                None => UNSENT_AT_LOGIN_BYTES_MAX,
            };
            let answers = unsent as u64 - self.purse.sending();
            if unsent >= most || answers >= UNSENT_ANSWERS_BYTES_MAX {
                return false;
            }
        }
        !self.is_stalled()
    }

    /// Others wait for memory that this connection holds and does nothing with: data-out that was
    /// asked for and does not come, data-in that is not taken.
    pub(super) fn sits_on_memory(&mut self, unsent: usize) -> bool {
        let now = self.shared.world.clock.now();
        let unsent = unsent as u64;
        if unsent == 0 || self.memory.sent >= self.memory.mark.0 {
            self.memory.mark = (self.memory.sent + unsent, now);
        }
        if !self.purse.is_in_the_way() {
            return false;
        }
        let late = |since: Duration| now.saturating_sub(since) > IDLE_LIMIT;
        let waits = |parked: &Parked| parked.charge.is_some_and(|(_, since)| late(since));
        (self.purse.sending() > 0 && late(self.memory.mark.1)) || self.parked.values().any(waits)
    }
}

/// The memory that a command's data takes: what comes, what goes, and what it reads of the medium
/// to compare or to change.
fn cost(parked: &Parked) -> u64 {
    let moved =
        u64::from(parked.transfer.data_out_bytes) + u64::from(parked.transfer.data_in_bytes);
    let of = |extent: &Extent| extent.blocks.saturating_mul(u64::from(BLOCK_BYTES));
    let beside = match &parked.command {
        Command::Verify { extent, .. }
        | Command::WriteAndVerify { extent, compare: true }
        | Command::CompareAndWrite { extent, .. }
        | Command::OrWrite { extent, .. } => 2 * of(extent),
        // What is moved by neither side's data goes piece after piece.
        Command::ExtendedCopy { .. } => PIECE_BYTES,
        Command::WriteSame { extent, .. } => PIECE_BYTES.min(of(extent)),
        _ => 0,
    };
    moved.saturating_add(beside).min(COST_BYTES_MAX)
}
