//! An archive on its way into a directory whose file system keeps no access control lists.
//!
//! There `tar` warns and goes on, and the mask of a list is left standing as the group's bits: the
//! group would get more than its list gave it. So an archive that has lists does not go there.
//!
//! ```text
//!   Header --of an extended header--> Extended --.
//!     ^ '---of a file with many holes--> Holes --.-> Data
//!     '------------------------------------------------'
//! ```

use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{XattrFlags, setxattr};
use rustix::io::Errno;

const BLOCK_BYTES: usize = 512;
const ACCESS: &str = "system.posix_acl_access";
/// What a mode of 0700 says, as a list: version 2; owner, owning group and others without ids.
const PLAIN: [u8; 28] = [
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 0, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255,
    255, 255, 255,
];
const KEYS: &[u8] = b"SCHILY.acl.";
/// Where a header has its entry's size and kind, and a word that says that a description of holes
/// goes on behind it; and where that has it.
const SIZE: std::ops::Range<usize> = 124..136;
const KIND_AT: usize = 156;
const MORE_AT: usize = 482;
const AGAIN_AT: usize = 504;

/// Whether a new directory of mode 0700 takes a list.
pub(super) fn are_kept(directory: &Path) -> io::Result<bool> {
    match setxattr(directory, ACCESS, &PLAIN, XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// What a block is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Header,
    /// So many bytes of an extended header are still to come.
    Extended(u64),
    /// The description of holes goes on; behind it stands so much data.
    Holes(u64),
    Data(u64),
}

/// A stream of an archive that has no lists.
pub(super) struct Without<W> {
    to: W,
    state: State,
    block: Vec<u8>,
    extended: Vec<u8>,
}

/// A number in a header: octal digits, or, where they have no room, bytes behind a mark.
fn number(field: &[u8]) -> u64 {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        return field[4..].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
    }
    let digits = field.iter().filter(|byte| (b'0'..=b'7').contains(byte));
    digits.fold(0, |all, digit| all << 3 | u64::from(digit - b'0'))
}

/// Whether a record of an extended header ("length key=value") has the key of a list.
fn has_lists(mut records: &[u8]) -> bool {
    while let Some(space) = records.iter().position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse().ok());
        let Some(length) = length.filter(|length| (space + 1..=records.len()).contains(length))
        else {
            return false;
        };
        let (record, rest) = records.split_at(length);
        if record[space + 1..].starts_with(KEYS) {
            return true;
        }
        records = rest;
    }
    false
}

impl<W> Without<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, state: State::Header, block: Vec::new(), extended: Vec::new() }
    }

    /// A whole block has come.
    fn step(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let of = |bytes: u64| if bytes == 0 { State::Header } else { State::Data(bytes) };
        self.state = match self.state {
            State::Header => {
                let size = number(&block[SIZE]).next_multiple_of(BLOCK_BYTES as u64);
                match block[KIND_AT] {
                    b'x' if size > 0 => State::Extended(size),
                    b'S' if block[MORE_AT] == 1 => State::Holes(size),
                    _ => of(size),
                }
            }
            State::Extended(left) => {
                self.extended.extend_from_slice(&block);
                let left = left - BLOCK_BYTES as u64;
                if left > 0 {
                    self.state = State::Extended(left);
                    return Ok(());
                }
                if has_lists(&std::mem::take(&mut self.extended)) {
                    let why = "the tree has access control lists, and this directory's file system \
                         keeps none, so that groups would get more than their lists give them: \
                         back up into a file, or onto another file system";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                }
                State::Header
            }
            State::Holes(size) if block[AGAIN_AT] == 1 => State::Holes(size),
            State::Holes(size) => of(size),
            State::Data(left) => of(left - BLOCK_BYTES as u64),
        };
        Ok(())
    }
}

impl<W: Write> Write for Without<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut rest = data;
        while !rest.is_empty() {
            let count = rest.len().min(BLOCK_BYTES - self.block.len());
            self.block.extend_from_slice(&rest[..count]);
            rest = &rest[count..];
            if self.block.len() == BLOCK_BYTES {
                self.step()?;
            }
        }
        self.to.write_all(data)?;
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8, size: usize) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        block[SIZE][..11].copy_from_slice(format!("{size:011o}").as_bytes());
        block[KIND_AT] = kind;
        block
    }

    fn entry(kind: u8, data: &[u8]) -> Vec<u8> {
        let mut all = header(kind, data.len());
        all.extend_from_slice(data);
        all.resize(all.len().next_multiple_of(BLOCK_BYTES), 0);
        all
    }

    fn passes(archive: &[u8], piece: usize) -> bool {
        let mut without = Without::new(Vec::new());
        let done = archive.chunks(piece).try_for_each(|some| without.write_all(some));
        assert!(done.is_err() || without.to == archive);
        done.is_ok()
    }

    #[test]
    fn lists_are_found_where_they_are_and_nowhere_else() {
        let list = b"34 SCHILY.acl.access=user::rw-,x\n\n";
        let other = b"20 mtime=1769882400\n";
        let mut holes = header(b'S', 700);
        holes[MORE_AT] = 1;
        let mut more = vec![0; BLOCK_BYTES];
        more[AGAIN_AT] = 1;
        holes.extend([more, vec![0; BLOCK_BYTES], vec![b'x'; 2 * BLOCK_BYTES]].concat());
        let plain = [
            entry(b'5', b""),
            entry(b'x', other),
            // The content of a file is what it likes to be.
            entry(b'0', &[&entry(b'x', list)[..], b"more"].concat()),
            holes,
            entry(b'0', b""),
        ]
        .concat();
        let with = [&plain[..], &entry(b'x', &[&other[..], list].concat()), &entry(b'0', b"")];
        for piece in [1, 511, 512, 700, 1 << 20] {
            assert!(passes(&[&plain[..], &[0; 1024]].concat(), piece), "{piece}");
            assert!(!passes(&with.concat(), piece), "{piece}");
        }
    }

    #[test]
    fn sizes_are_octal_or_binary() {
        assert_eq!(number(b"00000001750\0"), 1000);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]), (2 << 32) + 1);
        assert!(!has_lists(b"99 SCHILY.acl.access=") && !has_lists(b"x y") && !has_lists(b"0 a"));
    }

    #[test]
    fn a_directory_on_a_file_system_with_lists_takes_one() {
        let home = tempfile::tempdir().unwrap();
        assert!(are_kept(home.path()).unwrap());
    }
}
