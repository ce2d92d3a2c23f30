//! Writing a table, in bounded memory: entries are sorted a run at a time, runs are kept in a file
//! without a name and merged at the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use model::file::FileId;
use rustix::fs::{Mode, OFlags, openat};

use super::page::{ENTRIES_MAX, Entry, encode};
use super::table::{NAME, header};
use super::{BACK_KEY_BYTES, FORWARD_KEY_BYTES, Place, back, forward};
use crate::error::StoreError;

/// Entries that are sorted at once: 4 MiB.
const RUN_ENTRIES: usize = 1 << 17;
/// Of each run, while runs are merged.
const BUFFER_BYTES: usize = 16 << 10;

/// Runs of sorted entries.
struct Runs {
    file: Part,
    /// Offset and bytes of each run.
    runs: Vec<(u64, u64)>,
    now: Vec<Entry>,
    run_entries: usize,
}

/// What of a run is not merged yet.
type Rest = BufReader<io::Take<Part>>;

/// A file, from a position of its own on: one descriptor, however many runs there are.
struct Part {
    file: Arc<OwnedFd>,
    at: u64,
}

impl Read for Part {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = rustix::io::pread(&self.file, to, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Part {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = rustix::io::pwrite(&self.file, data, self.at)?;
        self.at += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Runs {
    fn new(home: &OwnedFd, run_entries: usize) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = openat(home, ".", flags, Mode::RUSR | Mode::WUSR)?;
        let file = Part { file: Arc::new(file), at: 0 };
        Ok(Self { file, runs: Vec::new(), now: Vec::new(), run_entries })
    }

    fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.now.push(entry);
        if self.now.len() < self.run_entries { Ok(()) } else { self.end_run() }
    }

    fn end_run(&mut self) -> io::Result<()> {
        self.now.sort_unstable();
        let at = self.file.at;
        self.file.write_all(self.now.as_flattened())?;
        self.runs.push((at, self.now.as_flattened().len() as u64));
        self.now.clear();
        Ok(())
    }

    /// Gives all entries in their order.
    fn merge(mut self, mut step: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
        self.end_run()?;
        let mut rests = Vec::new();
        for (at, bytes) in &self.runs {
            let part = Part { file: Arc::clone(&self.file.file), at: *at };
            rests.push(BufReader::with_capacity(BUFFER_BYTES, part.take(*bytes)));
        }
        let mut heads = BinaryHeap::new();
        let next = |rest: &mut Rest| -> io::Result<Option<Entry>> {
            if rest.buffer().is_empty() && rest.get_ref().limit() == 0 {
                return Ok(None);
            }
            let mut entry = [0; 32];
            rest.read_exact(&mut entry).map(|()| Some(entry))
        };
        for (run, rest) in rests.iter_mut().enumerate() {
            heads.extend(next(rest)?.map(|entry| Reverse((entry, run))));
        }
        while let Some(Reverse((entry, run))) = heads.pop() {
            step(entry)?;
            heads.extend(next(&mut rests[run])?.map(|entry| Reverse((entry, run))));
        }
        Ok(())
    }
}

/// Writes pages.
struct Pages {
    to: BufWriter<Part>,
    number: u64,
}

impl Pages {
    fn put(&mut self, entries: &[Entry]) -> io::Result<()> {
        self.to.write_all(&encode(self.number, entries))?;
        self.number += 1;
        Ok(())
    }

    fn list(&mut self, runs: Runs, key_bytes: usize) -> io::Result<Vec<Entry>> {
        let (mut first, mut page, mut last) = (Vec::new(), Vec::<Entry>::new(), None::<Entry>);
        runs.merge(|entry| {
            if last.is_some_and(|last| last[..key_bytes] == entry[..key_bytes]) {
                let why = "two files have the same id, or one has two";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            last = Some(entry);
            if page.is_empty() {
                first.push(entry);
            }
            page.push(entry);
            if page.len() == ENTRIES_MAX {
                self.put(&page)?;
                page.clear();
            }
            Ok(())
        })?;
        if !page.is_empty() {
            self.put(&page)?;
        }
        Ok(first)
    }
}

/// A table that is being made.
pub(in crate::files) struct Builder {
    forward: Runs,
    back: Runs,
    entries: u64,
}

impl Builder {
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(in crate::files) fn new(home: &OwnedFd) -> Result<Self, StoreError> {
        Self::with_runs(home, RUN_ENTRIES).map_err(failed)
    }

    pub(super) fn with_runs(home: &OwnedFd, run_entries: usize) -> io::Result<Self> {
        let (forward, back) = (Runs::new(home, run_entries)?, Runs::new(home, run_entries)?);
        Ok(Self { forward, back, entries: 0 })
    }

    /// # Errors
    /// `NoSpace`, `Io`.
    pub(in crate::files) fn add(&mut self, id: FileId, place: Place) -> io::Result<()> {
        self.entries += 1;
        self.forward.push(forward(id, place))?;
        self.back.push(back(id, place))
    }

    /// Writes the table into the volume's directory; durable when the file system is synced next.
    ///
    /// # Errors
    /// `Corrupt` when ids do not tell files apart; `NoSpace`, `Io`.
    pub(in crate::files) fn finish(self, home: &OwnedFd) -> Result<u64, StoreError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(home, NAME, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(io::Error::from).map_err(failed)?;
        let entries = self.entries;
        self.write(file).map_err(|why| match why.kind() {
            io::ErrorKind::InvalidData => StoreError::corrupt("the stream", why.to_string()),
            _ => failed(why),
        })?;
        Ok(entries)
    }

    pub(super) fn write(self, file: OwnedFd) -> io::Result<()> {
        let mut pages = Pages {
            to: BufWriter::with_capacity(1 << 18, Part { file: Arc::new(file), at: 0 }),
            number: 0,
        };
        pages.put(&[header(self.entries)])?;
        let ids = pages.list(self.forward, FORWARD_KEY_BYTES)?;
        let inodes = pages.list(self.back, BACK_KEY_BYTES)?;
        for index in [ids, inodes] {
            for some in index.chunks(ENTRIES_MAX) {
                pages.put(some)?;
            }
        }
        pages.to.flush()
    }
}

fn failed(why: io::Error) -> StoreError {
    StoreError::from_io("write the table of ids", 0, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The descriptors of this process that lead into a directory.
    fn open_in(directory: &std::path::Path) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").unwrap().map_while(Result::ok);
        let targets = all.filter_map(|one| std::fs::read_link(one.path()).ok());
        targets.filter(|target| target.starts_with(directory) && target != directory).count()
    }

    #[test]
    fn however_many_runs_are_merged_they_are_read_by_one_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let home = std::fs::File::open(&path).unwrap().into();
        let mut runs = Runs::new(&home, 3).unwrap();
        let entry = |n: u64| {
            let mut entry = [0; 32];
            entry[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            entry
        };
        (0..3000).for_each(|n| runs.push(entry(n)).unwrap());
        let (mut most, mut merged) = (0, Vec::new());
        runs.merge(|entry| {
            most = most.max(open_in(&path));
            merged.push(entry);
            Ok(())
        })
        .unwrap();
        assert_eq!((most, merged.len()), (1, 3000), "a descriptor for each run is too many");
        assert!(merged.is_sorted_by(|one, next| one < next));
    }
}
