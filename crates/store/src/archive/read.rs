//! From an archive to a tree.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

use bytes::Bytes;
use model::file::{
    Acls, AttributeIs, Caller, Creation, FileError, FileId, FileKind, FileStore, New,
    SetAttributes, Stability, Time,
};
use tar::{Archive, Entry, EntryType};

use super::give::{Given, bare, give};
use super::pax::{Filter, Found, HEADER_BYTES_MAX, Sparse};
use super::{ArchiveError, Figures, PIECE_BYTES, SNAPSHOTS, at, root};

/// Zeros of this length are a hole.
const HOLE_BYTES: usize = 4096;
const PERMISSIONS: u32 = 0o7777;

/// Makes what an archive holds below the root of a tree. What is there already stays; a name that
/// is taken is an error, but for directories.
///
/// # Errors
/// The archive is no archive, or breaks off; it holds what leads out of the tree, or an access
/// control list that is to be kept and cannot be; the tree has no room.
pub fn read<F: FileStore>(tree: &F, acls: Acls, from: impl Read) -> Result<Figures, ArchiveError> {
    taken(tree, acls, from, None)
}

/// Takes the note of a file that was made; there is none where the archive has none.
pub type Take<'a> = &'a mut dyn FnMut(FileId, Option<&[u8]>) -> Result<(), ArchiveError>;

/// The same with the notes that [`super::write_noted`] has written.
///
/// # Errors
/// As [`read`], and what is said of a note.
pub fn read_noted<F: FileStore>(
    tree: &F,
    from: impl Read,
    take: Take<'_>,
) -> Result<Figures, ArchiveError> {
    taken(tree, Acls::Keep, from, Some(take))
}

fn taken<F: FileStore>(
    tree: &F,
    acls: Acls,
    from: impl Read,
    take: Option<Take<'_>>,
) -> Result<Figures, ArchiveError> {
    let allowed = Rc::new(Cell::new(HEADER_BYTES_MAX));
    let found = Rc::new(RefCell::new(Found::default()));
    let measured = Measured { from, allowed: Rc::clone(&allowed) };
    let mut archive = Archive::new(Filter::new(measured, Rc::clone(&found)));
    let mut reader = Reader {
        tree,
        acls,
        caller: root(),
        levels: vec![Level {
            name: Vec::new(),
            directory: tree.root(),
            given: None,
            is_new: false,
        }],
        piece: vec![0; PIECE_BYTES as usize],
        figures: Figures::default(),
        notes: take,
    };
    for entry in archive.entries()? {
        allowed.set(u64::MAX);
        reader.take(entry?, found.take())?;
        allowed.set(HEADER_BYTES_MAX);
    }
    reader.leave(0)?;
    Ok(reader.figures)
}

/// A stream of which only so much may be read: what is before an entry's data is kept in memory.
struct Measured<R> {
    from: R,
    allowed: Rc<Cell<u64>>,
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let allowed = self.allowed.get();
        if allowed == 0 {
            return Err(io::Error::other("an entry has more than 16 MiB of headers"));
        }
        let count = to.len().min(usize::try_from(allowed).unwrap_or(usize::MAX));
        let read = self.from.read(&mut to[..count])?;
        if allowed != u64::MAX {
            self.allowed.set(allowed - read as u64);
        }
        Ok(read)
    }
}

/// A directory on the way to where the archive is.
struct Level {
    name: Vec<u8>,
    directory: FileId,
    /// What it is given when the archive leaves it: what is made in it would change its time, and
    /// begin with its default list. With its path as the archive has it.
    given: Option<(Given, Vec<u8>)>,
    /// It was made on the way.
    is_new: bool,
}

struct Reader<'a, 'n, F> {
    tree: &'a F,
    acls: Acls,
    caller: Caller,
    levels: Vec<Level>,
    /// Where content goes through.
    piece: Vec<u8>,
    figures: Figures,
    notes: Option<Take<'n>>,
}

/// The names of a path; an error for one that leads out.
fn names(path: &[u8]) -> Result<Vec<Vec<u8>>, ArchiveError> {
    let bad = |why: &str| ArchiveError::Entry {
        path: String::from_utf8_lossy(path).into_owned(),
        why: why.to_owned(),
    };
    let parts = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let names: Vec<Vec<u8>> = parts.map(<[u8]>::to_vec).collect();
    if names.iter().any(|name| name == b"..") {
        return Err(bad("its path leads upwards"));
    }
    if names.iter().any(|name| name.contains(&0)) {
        return Err(bad("its name holds a zero byte"));
    }
    if names.first().is_some_and(|name| name == SNAPSHOTS) {
        return Err(bad("this is where snapshots are browsed"));
    }
    Ok(names)
}

/// Seconds since 1970 with a fraction.
fn exact_time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos = i128::from(whole.parse::<i64>().ok()?) * 1_000_000_000
        + i128::from(digits.parse::<u32>().ok()?);
    let nanos = if negative { -nanos } else { nanos };
    Some(Time {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?,
        nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?,
    })
}

impl<F: FileStore> Reader<'_, '_, F> {
    fn take<R: Read>(
        &mut self,
        mut entry: Entry<'_, R>,
        mut found: Found,
    ) -> Result<(), ArchiveError> {
        let path = entry.path_bytes().into_owned();
        let mut names = names(&path)?;
        let header = entry.header();
        let kind = header.entry_type();
        let number = |value: io::Result<u64>| {
            value.and_then(|value| u32::try_from(value).map_err(io::Error::other))
        };
        let (uid, gid) = (number(header.uid())?, number(header.gid())?);
        let mode = header.mode()? & PERMISSIONS;
        // GNU tar has it in two's complement before 1970.
        let seconds = header.mtime()?.cast_signed();
        let exact = exact(&mut entry)?.unwrap_or(Time { seconds, nanos: 0 });
        let mode = (kind != EntryType::Symlink).then_some(mode);
        let lists = std::mem::take(&mut found.acls);
        let given = Given { uid, gid, mode, modified: Some(exact), lists };
        self.figures.entries += 1;
        self.figures.skipped += found.others;
        if kind == EntryType::Directory {
            self.enter(&names, &path)?;
            self.noted(self.here(), &found)?;
            self.describe(self.here(), found).map_err(at(&path))?;
            if let Some(level) = self.levels.last_mut() {
                level.given = Some((given, path));
            }
            return Ok(());
        }
        let Some(name) = names.pop() else {
            let why = "the root is a directory".to_owned();
            return Err(ArchiveError::Entry { path: ".".to_owned(), why });
        };
        self.enter(&names, &path)?;
        let made = match self.make(&mut entry, &mut found, &name, &path)? {
            Some(made) => made,
            None => return Ok(()),
        };
        self.noted(made, &found)?;
        self.describe(made, found).map_err(at(&path))?;
        give(self.tree, &self.caller, made, (given, self.acls), &path)
    }

    fn noted(&mut self, file: FileId, found: &Found) -> Result<(), ArchiveError> {
        self.notes.as_mut().map_or(Ok(()), |take| take(file, found.note.as_deref()))
    }

    /// Gives a file its extended attributes.
    fn describe(&mut self, file: FileId, found: Found) -> Result<(), FileError> {
        for (name, value) in &found.attributes {
            let attribute = (&name[..], &value[..]);
            match self.tree.set_xattr(&self.caller, file, attribute, AttributeIs::Either) {
                Ok(_) => {}
                // What none of our files has: those of a symbolic link, or one that is too long.
                Err(
                    FileError::WrongKind
                    | FileError::NotSupported
                    | FileError::Invalid
                    | FileError::NameTooLong
                    | FileError::AttributeTooLarge,
                ) => self.figures.skipped += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes an entry that is no directory; `None` when there is nothing to give to it.
    fn make<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        found: &mut Found,
        name: &[u8],
        path: &[u8],
    ) -> Result<Option<FileId>, ArchiveError> {
        let header = entry.header();
        let device = || -> io::Result<(u32, u32)> {
            Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
        };
        let new = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let sparse = found.sparse.take().unwrap_or_else(|| Sparse {
                    stretches: vec![(0, entry.size())],
                    size: entry.size(),
                });
                return self.content(entry, &sparse, name, path).map(Some);
            }
            EntryType::Link => return self.link(entry, name, path).map(|()| None),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                New::Symlink(Bytes::copy_from_slice(&target))
            }
            EntryType::Fifo if found.is_socket => New::Special(FileKind::Socket),
            EntryType::Fifo => New::Special(FileKind::Fifo),
            EntryType::Block => device().map(|(a, b)| New::Special(FileKind::BlockDevice(a, b)))?,
            EntryType::Char => {
                device().map(|(a, b)| New::Special(FileKind::CharacterDevice(a, b)))?
            }
            _ => {
                self.figures.skipped += 1;
                io::copy(entry, &mut io::sink())?;
                return Ok(None);
            }
        };
        let (caller, directory) = (&self.caller, self.here());
        let made = self.tree.make(caller, directory, name, &new, &SetAttributes::default());
        Ok(Some(made.map_err(at(path))?.attributes.file))
    }

    fn content<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        sparse: &Sparse,
        name: &[u8],
        path: &[u8],
    ) -> Result<FileId, ArchiveError> {
        let how = Creation::Guarded(SetAttributes { mode: Some(0o600), ..Default::default() });
        let made = self.tree.create(&self.caller, self.here(), name, &how).map_err(at(path))?;
        let file = made.attributes.file;
        for (offset, bytes) in &sparse.stretches {
            let (mut data, mut place) = (entry.take(*bytes), *offset);
            while data.limit() > 0 {
                let filled = fill(&mut data, &mut self.piece)?;
                if filled == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                for (from, data) in data_in(&self.piece[..filled]) {
                    self.write(file, place + from as u64, data).map_err(at(path))?;
                }
                place += filled as u64;
            }
            // Zeros are content that was not written: the archive's writer has counted them, too.
            self.figures.bytes += bytes;
        }
        let set = SetAttributes { size_bytes: Some(sparse.size), ..Default::default() };
        self.tree.set_attributes(&self.caller, file, &set, None).map_err(at(path))?;
        Ok(file)
    }

    fn write(&self, file: FileId, mut offset: u64, data: &[u8]) -> Result<(), FileError> {
        let mut left = Bytes::copy_from_slice(data);
        while !left.is_empty() {
            let unstable = Stability::Unstable;
            let written = self.tree.write(&self.caller, file, offset, &left, unstable)?;
            if written.bytes == 0 {
                return Err(FileError::Io);
            }
            offset += u64::from(written.bytes);
            left = left.slice((written.bytes as usize).min(left.len())..);
        }
        Ok(())
    }

    fn link<R: Read>(
        &self,
        entry: &Entry<'_, R>,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), ArchiveError> {
        let target = entry.link_name_bytes().unwrap_or_default();
        let mut file = self.tree.root();
        for name in names(&target)? {
            file = self.tree.lookup(&self.caller, file, &name).map_err(at(&target))?.file;
        }
        self.tree.link(&self.caller, file, self.here(), name).map_err(at(path))?;
        Ok(())
    }

    fn here(&self) -> FileId {
        self.levels.last().map_or_else(|| self.tree.root(), |level| level.directory)
    }

    /// Goes to a directory; those that are not there are made, and those that are left are given
    /// what is theirs.
    fn enter(&mut self, names: &[Vec<u8>], path: &[u8]) -> Result<(), ArchiveError> {
        let same =
            self.levels[1..].iter().zip(names).take_while(|(level, name)| level.name == **name);
        let common = same.count();
        self.leave(common + 1)?;
        for name in &names[common..] {
            let (caller, here) = (&self.caller, self.here());
            let mut is_new = false;
            let directory = match self.tree.lookup(caller, here, name) {
                Ok(found) if found.kind == FileKind::Directory => found.file,
                Ok(_) => return Err(at(path)(FileError::NotDirectory)),
                Err(FileError::NotFound) => {
                    // Nobody sees what is in it before it has what is its own.
                    let set = SetAttributes { mode: Some(0o700), ..Default::default() };
                    is_new = true;
                    let made = self.tree.make(caller, here, name, &New::Directory, &set);
                    let made = made.map_err(at(path))?.attributes.file;
                    bare(self.tree, caller, made, path)?;
                    made
                }
                Err(error) => return Err(at(path)(error)),
            };
            self.levels.push(Level { name: name.clone(), directory, given: None, is_new });
        }
        Ok(())
    }

    /// Keeps so many levels.
    fn leave(&mut self, keep: usize) -> Result<(), ArchiveError> {
        while self.levels.len() > keep {
            let Some(level) = self.levels.pop() else { break };
            if let Some((given, path)) = level.given {
                give(self.tree, &self.caller, level.directory, (given, self.acls), &path)?;
            } else if level.is_new {
                // The archive says nothing of it.
                let set = SetAttributes { mode: Some(0o755), ..Default::default() };
                let set = self.tree.set_attributes(&self.caller, level.directory, &set, None);
                set.map_err(at(&level.name))?;
            }
        }
        Ok(())
    }
}

/// The exact time of change, where an extended header has it.
fn exact<R: Read>(entry: &mut Entry<'_, R>) -> Result<Option<Time>, ArchiveError> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(None) };
    for extension in extensions {
        let extension = extension?;
        if extension.key_bytes() == b"mtime" {
            return Ok(exact_time(extension.value_bytes()));
        }
    }
    Ok(None)
}

/// As much as there is, up to the end of the buffer.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// What is not zeros, in stretches of whole blocks.
fn data_in(piece: &[u8]) -> Vec<(usize, &[u8])> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (number, block) in piece.chunks(HOLE_BYTES).enumerate() {
        let place = number * HOLE_BYTES;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        match found.last_mut() {
            Some((_, end)) if *end == place => *end = place + block.len(),
            _ => found.push((place, place + block.len())),
        }
    }
    found.into_iter().map(|(start, end)| (start, &piece[start..end])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_on_both_sides_of_1970() {
        let time = |text: &str| exact_time(text.as_bytes()).map(|time| (time.seconds, time.nanos));
        assert_eq!(time("1769882400.000000005"), Some((1_769_882_400, 5)));
        assert_eq!(time("12"), Some((12, 0)));
        assert_eq!(time("-0.25"), Some((-1, 750_000_000)));
        assert_eq!(time("1.5x"), None);
        assert_eq!(time("now"), None);
    }

    #[test]
    fn what_leads_out_is_refused() {
        for bad in ["../a", "a/../../b", ".snapshots/x", "./.snapshots", "a\0b"] {
            assert!(names(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(names(b"/./a//b/").unwrap(), [b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(names(b"a/.snapshots").unwrap().len(), 2);
    }

    #[test]
    fn only_what_is_no_zero_is_written() {
        let mut piece = vec![0; 5 * HOLE_BYTES + 10];
        piece[HOLE_BYTES + 1] = 1;
        piece[2 * HOLE_BYTES] = 1;
        piece[5 * HOLE_BYTES + 9] = 1;
        let found: Vec<_> = data_in(&piece).iter().map(|(at, data)| (*at, data.len())).collect();
        assert_eq!(found, [(HOLE_BYTES, 2 * HOLE_BYTES), (5 * HOLE_BYTES, 10)]);
    }
}
