//! From a tree to an archive.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};

use bytes::Bytes;
use model::file::{
    AclKind, Attributes, Caller, Content, Entry, FileError, FileId, FileKind, FileStore,
};
use tar::{Builder, EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::pax::{self, HEADER_BYTES_MAX};
use super::{ArchiveError, Figures, PIECE_BYTES, SNAPSHOTS, at, root};
use crate::acl;

/// Entries of a directory that are read at once.
const ENTRIES_MAX: usize = 256;
/// Bytes of extended attributes that one entry may have: with all else it has room in its header.
const ATTRIBUTE_BYTES_MAX: u64 = HEADER_BYTES_MAX / 2;
/// Bytes of a name in a header.
const NAME_BYTES: usize = 100;
/// Stretches of data that a sparse file is told by; what is behind them is written whole. Their map
/// has room in its header beside the attributes.
const STRETCHES_MAX: usize = 1 << 18;
/// Of the header itself, and of each of those that follow it.
const STRETCHES_FIRST: usize = 4;
const STRETCHES_NEXT: usize = 21;

/// Writes the tree below a directory as an archive, and its end; gives the stream back.
///
/// # Errors
/// A file cannot be read; the stream does not take it.
pub fn write<F: FileStore, W: Write>(
    tree: &F,
    top: FileId,
    to: W,
) -> Result<(Figures, W), ArchiveError> {
    written(tree, top, to, None)
}

/// What is to go with a file besides, as it is.
pub type Note<'a> = &'a mut dyn FnMut(&Attributes) -> Result<Vec<u8>, FileError>;

/// The same of a tree in which nothing changes meanwhile, with a note for each file; sockets and
/// all names of attributes are in it, too.
///
/// # Errors
/// As [`write`].
pub fn write_noted<F: FileStore, W: Write>(
    tree: &F,
    top: FileId,
    to: W,
    note: Note<'_>,
) -> Result<(Figures, W), ArchiveError> {
    written(tree, top, to, Some(note))
}

fn written<F: FileStore, W: Write>(
    tree: &F,
    top: FileId,
    to: W,
    note: Option<Note<'_>>,
) -> Result<(Figures, W), ArchiveError> {
    let mut writer = Writer {
        tree,
        caller: root(),
        tar: Builder::new(to),
        linked: HashMap::new(),
        figures: Figures::default(),
        note,
    };
    writer.walk(top)?;
    let Writer { tar, figures, .. } = writer;
    Ok((figures, tar.into_inner()?))
}

/// Whether a file is no longer there: a tree that lives loses files while it is walked.
fn is_gone(error: FileError) -> bool {
    matches!(error, FileError::Stale | FileError::NotFound)
}

struct Writer<'a, 'n, F, W: Write> {
    tree: &'a F,
    caller: Caller,
    tar: Builder<W>,
    /// The first name of files that have more, and how many are still to come.
    linked: HashMap<FileId, (Vec<u8>, u32)>,
    figures: Figures,
    note: Option<Note<'n>>,
}

/// A directory that is being walked.
struct Level {
    directory: FileId,
    /// Without a slash at its end; the root's is empty.
    path: Vec<u8>,
    read: VecDeque<Entry>,
    after: u64,
    end: bool,
}

impl Level {
    fn new(directory: FileId, path: Vec<u8>) -> Self {
        Self { directory, path, read: VecDeque::new(), after: 0, end: false }
    }

    fn next<F: FileStore>(&mut self, tree: &F, who: &Caller) -> Result<Option<Entry>, FileError> {
        if self.read.is_empty() && !self.end {
            let (directory, after) = (self.directory, self.after);
            let listing = tree.read_directory(who, directory, after, ENTRIES_MAX, true)?;
            self.end = listing.end;
            self.after = listing.entries.last().map_or(after, |entry| entry.cookie);
            self.read = listing.entries.into();
        }
        Ok(self.read.pop_front())
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        if self.path.is_empty() { name.to_vec() } else { [&self.path, name].join(&b'/') }
    }
}

impl<F: FileStore, W: Write> Writer<'_, '_, F, W> {
    fn walk(&mut self, top: FileId) -> Result<(), ArchiveError> {
        let attributes = self.tree.attributes(top).map_err(at(b"."))?;
        self.put(b"./", &attributes, EntryType::Directory, 0, io::empty())?;
        let mut levels = vec![Level::new(top, Vec::new())];
        while let Some(level) = levels.last_mut() {
            let next = match level.next(self.tree, &self.caller) {
                Err(error) if is_gone(error) && level.directory != top => Ok(None),
                next => next,
            };
            let Some(entry) = next.map_err(at(&level.path))? else {
                levels.pop();
                continue;
            };
            if level.path.is_empty() && entry.name == SNAPSHOTS {
                continue;
            }
            let path = level.path_of(&entry.name);
            let found = entry.attributes.map_or_else(|| self.tree.attributes(entry.file), Ok);
            let attributes = match found {
                Err(error) if is_gone(error) => continue,
                found => found.map_err(at(&path))?,
            };
            if attributes.kind == FileKind::Directory {
                let named = [&path[..], b"/"].concat();
                self.put(&named, &attributes, EntryType::Directory, 0, io::empty())?;
                levels.push(Level::new(entry.file, path));
                continue;
            }
            match self.file(&path, &attributes) {
                // Nothing of it is written: a later name of it is no link to this one.
                Err(ArchiveError::File { why, .. }) if is_gone(why) => {
                    self.linked.remove(&attributes.file);
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Fails with what the tree says of the file only before anything of it is written.
    fn file(&mut self, path: &[u8], attributes: &Attributes) -> Result<(), ArchiveError> {
        if attributes.kind == FileKind::Socket && self.note.is_none() {
            // None of its names is in the archive.
            self.figures.skipped += 1;
            return Ok(());
        }
        if attributes.links > 1 {
            if let Some((first, left)) = self.linked.get_mut(&attributes.file) {
                let first = first.clone();
                *left -= 1;
                if *left == 0 {
                    self.linked.remove(&attributes.file);
                }
                return self.link(path, attributes, EntryType::Link, &first);
            }
            self.linked.insert(attributes.file, (path.to_vec(), attributes.links - 1));
        }
        match attributes.kind {
            FileKind::Regular => self.content(path, attributes),
            FileKind::Symlink => {
                let target =
                    self.tree.read_link(&self.caller, attributes.file).map_err(at(path))?;
                self.link(path, attributes, EntryType::Symlink, &target)
            }
            // There is no kind for sockets: one has a record of ours.
            FileKind::Fifo | FileKind::Socket => {
                self.put(path, attributes, EntryType::Fifo, 0, io::empty())
            }
            FileKind::BlockDevice(..) => {
                self.put(path, attributes, EntryType::Block, 0, io::empty())
            }
            FileKind::CharacterDevice(..) => {
                self.put(path, attributes, EntryType::Char, 0, io::empty())
            }
            // Entered, and not written like a file.
            FileKind::Directory => Ok(()),
        }
    }

    fn content(&mut self, path: &[u8], attributes: &Attributes) -> Result<(), ArchiveError> {
        let size = attributes.size_bytes;
        let stretches = self.stretches(attributes).map_err(at(path))?;
        let whole = size == 0 || stretches == [(0, size)];
        let bytes = stretches.iter().map(|(_, bytes)| bytes).sum();
        self.figures.bytes += bytes;
        let body = Body {
            tree: self.tree,
            caller: self.caller.clone(),
            file: attributes.file,
            left: stretches.iter().copied().collect(),
            piece: Bytes::new(),
        };
        if whole {
            return self.put(path, attributes, EntryType::Regular, size, body);
        }
        let mut header = self.head(path, attributes, EntryType::GNUSparse, bytes)?;
        let more = describe(&mut header, &stretches, size);
        header.set_cksum();
        Ok(self.tar.append(&header, io::Cursor::new(more).chain(body))?)
    }

    /// Where the data is. A file that does not say is all data.
    fn stretches(&self, attributes: &Attributes) -> Result<Vec<(u64, u64)>, FileError> {
        let (file, size) = (attributes.file, attributes.size_bytes);
        let (mut found, mut offset) = (Vec::new(), 0);
        while offset < size {
            let data = match self.tree.seek(&self.caller, file, offset, Content::Data) {
                Ok(data) => data,
                Err(FileError::NoDevice) => break,
                Err(FileError::NotSupported) => offset,
                Err(error) => return Err(error),
            };
            let hole = match self.tree.seek(&self.caller, file, data, Content::Hole) {
                Ok(hole) if found.len() < STRETCHES_MAX => hole.min(size),
                Ok(_) | Err(FileError::NotSupported) => size,
                // It became shorter.
                Err(FileError::NoDevice) => break,
                Err(error) => return Err(error),
            };
            if hole > data {
                found.push((data, hole - data));
            }
            offset = hole.max(data + 1);
        }
        Ok(found)
    }

    fn link(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        kind: EntryType,
        target: &[u8],
    ) -> Result<(), ArchiveError> {
        if target.len() > NAME_BYTES {
            self.tar.get_mut().write_all(&pax::long(EntryType::GNULongLink, target))?;
        }
        let mut header = self.head(path, attributes, kind, 0)?;
        header.set_link_name_literal(&target[..target.len().min(NAME_BYTES)])?;
        header.set_cksum();
        Ok(self.tar.append(&header, io::empty())?)
    }

    fn put(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        kind: EntryType,
        bytes: u64,
        body: impl Read,
    ) -> Result<(), ArchiveError> {
        let mut header = self.head(path, attributes, kind, bytes)?;
        header.set_cksum();
        Ok(self.tar.append(&header, body)?)
    }

    /// The header of an entry, after what goes before it.
    fn head(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        kind: EntryType,
        bytes: u64,
    ) -> Result<Header, ArchiveError> {
        self.figures.entries += 1;
        let time = attributes.modified;
        let mut records = Vec::new();
        if time.nanos > 0 || time.seconds < 0 {
            records.push(("mtime".to_owned(), Bytes::from(exact_time(time))));
        }
        if kind != EntryType::Link {
            self.attributes(attributes, &mut records).map_err(at(path))?;
            self.acls(attributes, &mut records).map_err(at(path))?;
            if let Some(note) = &mut self.note {
                let note = note(attributes).map_err(at(path))?;
                records.push((pax::NOTE.to_owned(), Bytes::from(note)));
                if attributes.kind == FileKind::Socket {
                    records.push((pax::SOCKET.to_owned(), Bytes::new()));
                }
            }
        }
        let records = records.iter().map(|(key, value)| (&**key, &value[..]));
        self.tar.append_pax_extensions(records)?;
        if path.len() > NAME_BYTES {
            self.tar.get_mut().write_all(&pax::long(EntryType::GNULongName, path))?;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        let name = &path[..path.len().min(NAME_BYTES)];
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_mode(attributes.mode);
        header.set_uid(attributes.uid.into());
        header.set_gid(attributes.gid.into());
        header.set_mtime(u64::try_from(time.seconds).unwrap_or(0));
        header.set_size(bytes);
        if let FileKind::BlockDevice(major, minor) | FileKind::CharacterDevice(major, minor) =
            attributes.kind
        {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        Ok(header)
    }

    /// The records of a file's access control lists.
    fn acls(&self, of: &Attributes, records: &mut Vec<(String, Bytes)>) -> Result<(), FileError> {
        for which in [AclKind::Access, AclKind::Default] {
            let found = match self.tree.acl(&self.caller, of.file, which) {
                Err(error) if is_gone(error) => None,
                found => found?,
            };
            if let Some(list) = found {
                records.push((pax::acl_key(which).to_owned(), Bytes::from(acl::text(&list))));
            }
        }
        Ok(())
    }

    /// The records of a file's extended attributes.
    fn attributes(
        &mut self,
        of: &Attributes,
        records: &mut Vec<(String, Bytes)>,
    ) -> Result<(), FileError> {
        if !matches!(of.kind, FileKind::Regular | FileKind::Directory) {
            return Ok(());
        }
        let names = match self.tree.xattrs(&self.caller, of.file) {
            Err(FileError::NotSupported) => return Ok(()),
            Err(error) if is_gone(error) => return Ok(()),
            names => names?,
        };
        let mut bytes = 0;
        for name in names {
            let value = match self.tree.xattr(&self.caller, of.file, &name) {
                Err(FileError::NoAttribute) => continue,
                Err(error) if is_gone(error) => continue,
                value => value?,
            };
            bytes += (name.len() + value.len()) as u64;
            let raw = || self.note.is_some().then(|| pax::raw_key(&name));
            match pax::key(&name).or_else(raw).filter(|_| bytes <= ATTRIBUTE_BYTES_MAX) {
                Some(key) => records.push((key, value)),
                None => self.figures.skipped += 1,
            }
        }
        Ok(())
    }
}

/// Seconds since 1970 with their fraction, as POSIX writes them.
fn exact_time(time: model::file::Time) -> String {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// Writes where the data goes into the header; gives the headers that follow it for the rest.
fn describe(header: &mut Header, stretches: &[(u64, u64)], size: u64) -> Vec<u8> {
    let mut all = stretches.to_vec();
    // A hole at the end is told by nothing at the end.
    if all.last().is_none_or(|(offset, bytes)| offset + bytes < size) {
        all.push((size, 0));
    }
    let fill = |place: &mut [GnuSparseHeader], some: &[(u64, u64)]| {
        for (slot, (offset, bytes)) in place.iter_mut().zip(some) {
            slot.set_offset(*offset);
            slot.set_length(*bytes);
        }
    };
    let (first, rest) = all.split_at(all.len().min(STRETCHES_FIRST));
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.set_real_size(size);
        gnu.set_is_extended(!rest.is_empty());
        fill(&mut gnu.sparse, first);
    }
    let mut more = Vec::new();
    let mut blocks = rest.chunks(STRETCHES_NEXT).peekable();
    while let Some(some) = blocks.next() {
        let mut block = GnuExtSparseHeader::new();
        block.set_is_extended(blocks.peek().is_some());
        fill(block.sparse_mut(), some);
        more.extend_from_slice(block.as_bytes());
    }
    more
}

/// The data of a file, stretch after stretch. One that became shorter meanwhile ends in zeros.
struct Body<'a, F> {
    tree: &'a F,
    caller: Caller,
    file: FileId,
    left: VecDeque<(u64, u64)>,
    piece: Bytes,
}

impl<F: FileStore> Read for Body<'_, F> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let Some((offset, bytes)) = self.left.front_mut() else { return Ok(0) };
            let wanted = (*bytes).min(PIECE_BYTES.into());
            let count = u32::try_from(wanted).unwrap_or(PIECE_BYTES);
            let read = self.tree.read(&self.caller, self.file, *offset, count);
            let data = match read {
                Ok(read) => read.data,
                Err(error) if is_gone(error) => Bytes::new(),
                Err(error) => return Err(io::Error::other(error)),
            };
            let data = data.slice(..data.len().min(count as usize));
            self.piece = if data.is_empty() { vec![0; count as usize].into() } else { data };
            let got = self.piece.len() as u64;
            (*offset, *bytes) = (*offset + got, *bytes - got);
            if *bytes == 0 {
                self.left.pop_front();
            }
        }
        let count = to.len().min(self.piece.len());
        to[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::file::Time;

    #[test]
    fn times_are_written_with_their_fraction_on_both_sides_of_1970() {
        let time = |seconds, nanos| exact_time(Time { seconds, nanos });
        assert_eq!(time(1_769_882_400, 5), "1769882400.000000005");
        assert_eq!(time(-1, 750_000_000), "-0.250000000");
        assert_eq!(time(-2, 0), "-2.000000000");
    }
}
