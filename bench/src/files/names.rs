//! Small files by our own NFSv4.1 client: one thread and one connection for each client, a
//! directory for each of its programs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use host::files::{Compound, FileClient, OpenFile, Opening, Owner, Results, Stable, StateidOf};

use super::clients::{Client, drive, together};
use super::floor::Exchange;
use super::load::{Place, SMALL_BYTES, connect};
use super::pattern::{Names, Step};
use crate::load::Moved;
use crate::statistics::Dice;

/// Small files that the programs of each client read and ask about.
const SMALL_FILES: u64 = 200;
/// Small files that one round removes, of all clients together; the round ends with the last.
const REMOVED: u64 = 2000;
/// Fewest that each program removes: with fewer the last ones would be much of the round.
const REMOVED_MIN: u64 = 32;
/// Most files that one round makes for each client: so many can be removed again soon.
const MADE_MAX: u64 = 20_000;
/// Type, change, size, file id, mode, links, owner, group, used, three times.
const ATTRIBUTES: [u32; 12] = [1, 3, 4, 20, 33, 35, 36, 37, 45, 47, 52, 53];

/// What the programs of a client do just now.
#[derive(Clone, Copy)]
enum Act {
    /// Makes a file with something in it: OPEN, then WRITE and CLOSE.
    Fill,
    Do(Step),
}

/// One program, with a directory of its own.
struct Program {
    name: String,
    directory: Bytes,
    dice: Dice,
    /// Files that are there: `f0`, `f1`, ...
    made: u64,
    /// What its step has open: then the next request is the step's second.
    open: Option<OpenFile>,
}

impl Program {
    fn any(&mut self) -> String {
        let count = usize::try_from(self.made).unwrap_or(1);
        format!("f{}", self.dice.below(count.max(1)))
    }

    /// The next request of its step.
    fn request(&mut self, act: Act, owner: &Owner, data: &Bytes) -> Compound {
        let all = u32::try_from(SMALL_BYTES).unwrap_or(u32::MAX);
        if let Some(OpenFile { handle, stateid }) = &self.open {
            let file = Compound::new().file(handle);
            let file = match act {
                Act::Fill => file.write(stateid, 0, Stable::Unstable, data),
                Act::Do(Step::Read) => file.read(stateid, 0, all),
                Act::Do(_) => file,
            };
            return file.close(stateid);
        }
        let directory = Compound::new().file(&self.directory);
        let last = |made: u64| format!("f{made}").into_bytes();
        match act {
            Act::Fill | Act::Do(Step::Create) => {
                directory.open(owner, &last(self.made), Opening::New(0o644)).handle()
            }
            Act::Do(Step::Read) => {
                directory.open(owner, self.any().as_bytes(), Opening::Existing).handle()
            }
            Act::Do(Step::Stat) => directory.lookup(self.any().as_bytes()).attributes(&ATTRIBUTES),
            Act::Do(Step::Unlink) => {
                self.made -= 1;
                directory.remove(&last(self.made))
            }
        }
    }

    /// Takes the answer: is the step over?
    fn take(&mut self, act: Act, mut results: Results) -> Result<bool> {
        let opens = matches!(act, Act::Fill | Act::Do(Step::Create | Step::Read));
        if opens && self.open.is_none() {
            let stateid = results.moved(1)?.open()?;
            self.open = Some(OpenFile { handle: results.handle()?, stateid });
            return Ok(false);
        }
        match act {
            Act::Fill => {
                results.moved(1)?.written()?;
            }
            Act::Do(Step::Create) => {
                results.moved(1)?;
            }
            Act::Do(Step::Read) => {
                let (_, data) = results.moved(1)?.read()?;
                ensure!(data.len() == SMALL_BYTES, "a small file is not whole");
            }
            Act::Do(Step::Stat) => {
                results.moved(2)?.attributes()?;
            }
            Act::Do(Step::Unlink) => {
                results.moved(2)?;
            }
        }
        if self.open.take().is_some() {
            results.stateid(StateidOf::Close)?;
            self.made += u64::from(!matches!(act, Act::Do(Step::Read)));
        }
        Ok(true)
    }
}

/// A client with its programs.
struct Worker {
    client: FileClient,
    owner: Owner,
    root: Bytes,
    data: Bytes,
    programs: Vec<Program>,
    act: Act,
    /// Files that each program makes at most.
    most: u64,
}

impl Worker {
    /// With so many files for each program.
    fn new(place: &Place, number: u32, programs: u32, files: u64) -> Result<Self> {
        let mut client = connect(place, programs)?;
        let slots = client.slots();
        ensure!(slots >= programs as usize, "a session of {slots} slots for {programs} programs");
        let root = client.mount(&place.path)?;
        let mut made = Vec::new();
        for program in 0..programs {
            let name = format!("d{number}-{program}");
            let directory = client.create_directory(&root, &name)?;
            let dice = Dice(u64::from(number * programs + program) + 1);
            made.push(Program { name, directory, dice, made: 0, open: None });
        }
        let (owner, data) = (client.owner("opens"), Bytes::from(vec![0x5A; SMALL_BYTES]));
        let mut worker =
            Self { client, owner, root, data, programs: made, act: Act::Fill, most: files };
        drive(&mut worker, Duration::MAX)?;
        worker.most = (MADE_MAX / u64::from(programs)).max(1);
        Ok(worker)
    }
}

impl Client for Worker {
    fn programs(&self) -> usize {
        self.programs.len()
    }
    fn may_begin(&self, slot: usize) -> bool {
        let made = self.programs[slot].made;
        match self.act {
            Act::Fill | Act::Do(Step::Create) => made < self.most,
            Act::Do(Step::Unlink) => made > 0,
            Act::Do(Step::Stat | Step::Read) => true,
        }
    }
    fn send(&mut self, slot: usize) -> Result<()> {
        let request = self.programs[slot].request(self.act, &self.owner, &self.data);
        Ok(self.client.send(slot, request)?)
    }
    fn receive(&mut self) -> Result<(usize, bool)> {
        let (slot, results) = self.client.receive()?;
        let is_over = self.programs[slot].take(self.act, results)?;
        Ok((slot, is_over))
    }
    fn finish(mut self) -> Result<()> {
        self.act = Act::Do(Step::Unlink);
        drive(&mut self, Duration::MAX)?;
        for program in &self.programs {
            self.client.remove(&self.root, &program.name)?;
        }
        Ok(self.client.leave()?)
    }
}

/// Files of each program when the measuring begins.
fn files_before(names: Names) -> u64 {
    let (clients, programs) = (u64::from(names.clients), u64::from(names.programs));
    match names.step {
        Step::Create => 0,
        Step::Stat | Step::Read => (SMALL_FILES / programs).max(1),
        Step::Unlink => (REMOVED / (clients * programs)).max(REMOVED_MIN),
    }
}

/// All clients at once; `cpu` tells the server's CPU time.
pub(super) fn names(
    place: &Place,
    names: Names,
    seconds: f64,
    cpu: impl Fn() -> Result<f64>,
) -> Result<(Moved, f64)> {
    let clients = (0..names.clients).map(|number| {
        let mut worker = Worker::new(place, number, names.programs, files_before(names))?;
        worker.act = Act::Do(names.step);
        Ok(worker)
    });
    together(clients.collect::<Result<_>>()?, seconds, cpu)
}

/// The requests of one step and their answers, as they are on the wire to this server.
pub(super) fn exchanges(place: &Place, step: Step) -> Result<Vec<Exchange>> {
    let mut worker = Worker::new(place, 0, 1, 1)?;
    worker.act = Act::Do(step);
    let (mut all, mut before) = (Vec::new(), worker.client.traffic());
    loop {
        worker.send(0)?;
        let (_, is_over) = worker.receive()?;
        let after = worker.client.traffic();
        let count = |after: u64, before: u64| u32::try_from(after - before);
        let request_bytes = count(after.sent, before.sent)?;
        let reply_bytes = count(after.received, before.received)?;
        all.push(Exchange { request_bytes, reply_bytes });
        before = after;
        if is_over {
            break;
        }
    }
    worker.finish().context("a step to learn its sizes")?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_share_the_files_of_their_client() {
        let files = |step, clients, programs| files_before(Names { step, clients, programs });
        assert_eq!(files(Step::Create, 16, 8), 0);
        assert_eq!([files(Step::Stat, 1, 1), files(Step::Read, 16, 8)], [200, 25]);
        assert_eq!(files(Step::Stat, 1, 128), 1);
        assert_eq!([files(Step::Unlink, 1, 1), files(Step::Unlink, 1, 8)], [2000, 250]);
        assert_eq!([files(Step::Unlink, 16, 1), files(Step::Unlink, 16, 8)], [125, 32]);
    }
}
