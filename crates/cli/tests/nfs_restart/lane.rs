//! A client that writes to a file of its own, changes names in a directory of its own, and holds a
//! lock all the while.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use host::files::Stable;
use nfs::v3::messages::StableHow;
use nfs::v4::Status;

use crate::dice::Dice;
use crate::ledger::{BLOCK, Ledger, content};
use crate::nfs_client::session::{Client, Request, SLOTS};
use crate::nfs_client::three::Three;
use crate::world::{Shared, Sums, range_of};

/// Blocks of a lane's file.
const BLOCKS: usize = 2048;
const WRITE_BLOCKS_MAX: usize = 32;

/// The file's content as it was written and promised.
struct File {
    ledger: Ledger,
    /// Verifiers of writes that are not committed yet.
    verifiers: BTreeSet<[u8; 8]>,
}

impl File {
    fn new() -> Self {
        Self { ledger: Ledger::new(BLOCKS), verifiers: BTreeSet::new() }
    }

    /// A range in one of so many equal parts of the file.
    fn part(dice: &mut Dice, part: usize, parts: usize) -> Range<usize> {
        let size = BLOCKS / parts;
        let first = part * size + dice.below(size);
        first..(first + 1 + dice.below(WRITE_BLOCKS_MAX)).min((part + 1) * size)
    }

    fn written(&mut self, range: Range<usize>, version: u64, durable: bool, verifier: [u8; 8]) {
        self.ledger.write_ends(range, version, durable);
        if !durable {
            self.verifiers.insert(verifier);
        }
    }

    /// A COMMIT makes durable what was written under its own verifier and no other.
    fn committed(&mut self, covered: &[u64], verifier: [u8; 8]) {
        let same = self.verifiers.iter().all(|other| *other == verifier);
        if same {
            self.ledger.flush_ends(covered);
        }
        self.verifiers.clear();
    }

    /// After a restart: every block is one that may be there. A COMMIT must follow.
    fn check(&mut self, content: &[u8], who: &str) {
        let found = self.ledger.after_kill().check(content);
        let found = found.unwrap_or_else(|why| panic!("{who}: {why}"));
        self.ledger.settle(found);
        self.verifiers.clear();
    }
}

/// Of version 4.1.
pub(crate) struct Lane {
    number: usize,
    client: Client,
    file: usize,
    directory: Bytes,
    content: File,
    names: BTreeSet<Bytes>,
    named: u64,
    dice: Dice,
    shared: Arc<Shared>,
    sums: Sums,
    /// Sessions that it has had when it looked last.
    sessions: u32,
}

impl Lane {
    pub(crate) fn new(
        number: usize,
        mut client: Client,
        root: &Bytes,
        seed: u64,
        shared: Arc<Shared>,
    ) -> Self {
        let directory = client.find(&["default", "tree", &format!("lane{number}")]).unwrap();
        let file = client.open(root, format!("file{number}").as_bytes());
        if number % 2 == 1 {
            // From now on it is there for whoever has it open, through every restart.
            let name = Bytes::from(format!("file{number}"));
            let reply = client.one(Request::Remove { directory: root.clone(), name });
            assert_eq!(reply.status, Status::Ok);
        }
        let locks = client.open(root, b"locks");
        assert_eq!(client.lock(locks, "lane", range_of(number)), Status::Ok);
        let sessions = client.sessions;
        Self {
            number,
            client,
            file,
            directory,
            content: File::new(),
            names: BTreeSet::new(),
            named: 0,
            dice: Dice(seed),
            shared,
            sums: Sums::default(),
            sessions,
        }
    }

    pub(crate) fn run(mut self) -> Sums {
        while !self.shared.ends() {
            let begin = Instant::now();
            // Clients come back one by one.
            let late_ms = self.dice.below(300).try_into().unwrap();
            self.client.dawdles = Duration::from_millis(late_ms);
            match self.dice.below(10) {
                0..6 => self.write(),
                6 => self.commit(),
                _ => self.change_name(),
            }
            if self.client.sessions != self.sessions {
                self.sums.stalls.push(begin.elapsed());
                self.after_restart();
            }
        }
        self.commit();
        let whole = self.read();
        self.content.check(&whole, "at the end");
        self.check_names();
        self.sums.promised = self.content.ledger.promised();
        self.sums
    }

    fn hangs_up(&mut self) -> bool {
        let hangs_up = self.dice.below(20) == 0;
        self.sums.drops += u64::from(hangs_up);
        hangs_up
    }

    fn write(&mut self) {
        let count = 1 + self.dice.below(SLOTS);
        let stable = [Stable::Unstable, Stable::File][self.dice.below(2)];
        let writes: Vec<_> = (0..count)
            .map(|slot| {
                let range = File::part(&mut self.dice, slot, SLOTS);
                let version = self.content.ledger.write_begins(range.clone());
                (range, version)
            })
            .collect();
        let request = |(range, version): &(Range<usize>, u64)| Request::Write {
            file: self.file,
            offset: (range.start * BLOCK).try_into().unwrap(),
            stable,
            data: content(range.clone(), *version),
        };
        let requests: Vec<_> = writes.iter().map(request).collect();
        let hangs_up = self.hangs_up();
        let replies = self.client.ask_once(&requests, hangs_up);
        for (mut reply, (range, version)) in replies.into_iter().zip(writes) {
            let (bytes, committed, verifier) = reply.behind(1).written().unwrap();
            assert_eq!(usize::try_from(bytes).unwrap(), range.len() * BLOCK, "a short write");
            let durable = committed == Stable::File as u32;
            assert!(durable || stable == Stable::Unstable, "less than was asked for");
            self.content.written(range, version, durable, verifier);
            self.sums.answered += 1;
        }
    }

    fn commit(&mut self) {
        let covered = self.content.ledger.flush_begins();
        let mut reply = self.client.one(Request::Commit { file: self.file });
        self.content.committed(&covered, reply.behind(1).committed().unwrap());
        self.sums.answered += 1;
    }

    /// Makes, moves or removes a name: once, however often it has to be asked for.
    fn change_name(&mut self) {
        let directory = self.directory.clone();
        let old = self.names.iter().nth(self.dice.below(40)).cloned();
        self.named += 1;
        let new = Bytes::from(format!("name{}", self.named));
        let (request, is_done_already) = match (self.dice.below(3), old.clone()) {
            (1, Some(name)) => (Request::Remove { directory, name }, Status::NoEnt),
            (2, Some(from)) => {
                (Request::Rename { directory, from, to: new.clone() }, Status::NoEnt)
            }
            _ => (Request::Create { directory, name: new.clone() }, Status::Exist),
        };
        let removes = !matches!(request, Request::Create { .. });
        let adds = !matches!(request, Request::Remove { .. });
        let hangs_up = self.hangs_up();
        let mut again = false;
        let reply = loop {
            let reply = self.client.ask_once(std::slice::from_ref(&request), hangs_up).remove(0);
            // The grace puts it off, and an earlier start may have done it all the same.
            again |= reply.again;
            if reply.status != Status::Grace {
                break reply;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let is_done = reply.status == Status::Ok || (again && reply.status == is_done_already);
        assert!(is_done, "lane {}: {request:?}: {:?}", self.number, reply.status);
        if removes {
            self.names.remove(&old.unwrap());
        }
        if adds {
            self.names.insert(new);
        }
        self.sums.answered += 1;
    }

    fn read(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        while content.len() < BLOCKS * BLOCK {
            let offset = content.len().try_into().unwrap();
            let request = Request::Read { file: self.file, offset, count: 128 << 10 };
            let mut reply = self.client.one(request);
            let (end, data) = reply.behind(1).read().unwrap();
            content.extend_from_slice(&data);
            if end {
                content.resize(BLOCKS * BLOCK, 0);
            }
        }
        content
    }

    fn after_restart(&mut self) {
        // What is read may be cut by the next kill: it is read until no restart came between.
        loop {
            self.sessions = self.client.sessions;
            let whole = self.read();
            self.content.check(&whole, &format!("lane {}", self.number));
            self.check_names();
            self.commit();
            if self.client.sessions == self.sessions {
                break;
            }
        }
        if let Some((begins, ends)) = self.client.reclaimed {
            self.shared.note_reclaimed(self.number, begins, ends);
        }
    }

    /// The directory holds what was made, moved and not removed.
    fn check_names(&mut self) {
        let (mut found, mut cookie) = (BTreeSet::new(), 0);
        loop {
            let directory = self.directory.clone();
            let mut reply = self.client.one(Request::List { directory, cookie });
            let names = reply.behind(1).names().unwrap();
            cookie = names.names.last().map_or(cookie, |last| last.0);
            found.extend(names.names.into_iter().map(|(_, name)| name));
            if names.end {
                break;
            }
        }
        assert_eq!(found, self.names, "names of lane {}", self.number);
    }
}

/// Of version 3: no locks, no sessions, the same promises.
pub(crate) struct OldLane {
    pub(crate) number: usize,
    pub(crate) client: Three,
    pub(crate) file: Bytes,
    pub(crate) dice: Dice,
    pub(crate) shared: Arc<Shared>,
}

impl OldLane {
    pub(crate) fn run(mut self) -> Sums {
        let (mut file, mut sums) = (File::new(), Sums::default());
        while !self.shared.ends() {
            let (begin, broken) = (Instant::now(), self.client.broken);
            if self.dice.below(6) == 0 {
                let covered = file.ledger.flush_begins();
                let verifier = self.client.commit(&self.file);
                file.committed(&covered, verifier);
            } else {
                self.write(&mut file);
            }
            sums.answered += 1;
            if self.client.broken != broken {
                sums.stalls.push(begin.elapsed());
                self.check(&mut file);
            }
        }
        self.check(&mut file);
        sums.promised = file.ledger.promised();
        sums
    }

    fn write(&mut self, file: &mut File) {
        let range = File::part(&mut self.dice, 0, 1);
        let durable = self.dice.below(2) == 0;
        let version = file.ledger.write_begins(range.clone());
        let stable = if durable { StableHow::FileSync } else { StableHow::Unstable };
        let offset = (range.start * BLOCK).try_into().unwrap();
        let data = content(range.clone(), version);
        let verifier = self.client.write(&self.file, offset, stable, &data);
        file.written(range, version, durable, verifier);
    }

    fn check(&mut self, file: &mut File) {
        let mut content = Vec::new();
        for offset in (0..BLOCKS * BLOCK).step_by(128 << 10) {
            let data = self.client.read(&self.file, offset.try_into().unwrap(), 128 << 10);
            content.extend_from_slice(&data.unwrap());
            content.resize(offset + (128 << 10), 0);
        }
        file.check(&content, &format!("lane {} of version 3", self.number));
        let covered = file.ledger.flush_begins();
        let verifier = self.client.commit(&self.file);
        file.committed(&covered, verifier);
    }
}
