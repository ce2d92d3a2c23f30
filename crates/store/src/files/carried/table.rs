//! Looking up in a table.
//!
//! ```text
//!  page  0        1 ... n      n+1 ... 2n   2n+1 ...      ... behind it
//!        | header | by ids  |  by inodes  | first entries | first entries |
//!        |        |         |             | of "by ids"   | of "by inodes"|
//! ```

use std::os::fd::{AsFd, OwnedFd};

use model::file::FileId;
use model::id::VolumeId;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::page::{ENTRIES_MAX, Entry, PAGE_BYTES, decode};
use super::{BACK_KEY_BYTES, FORWARD_KEY_BYTES, Place, back, forward, id_of, place_of};
use crate::error::StoreError;
use crate::files::record::failed;

/// In the directory of its volume.
pub(super) const NAME: &str = "carried";
pub(crate) const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"CMHDIDS\n";
const WHAT: &str = "the table of ids that files had elsewhere";

/// The header as the first page's only entry.
pub(super) fn header(entries: u64) -> Entry {
    let mut header = [0; 32];
    header[..8].copy_from_slice(MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_be_bytes());
    header[16..24].copy_from_slice(&entries.to_be_bytes());
    header
}

/// How many entries a table has, by its header.
fn count_of(header: &Entry) -> Result<u64, StoreError> {
    let version = u16::from_be_bytes([header[8], header[9]]);
    if &header[..8] != MAGIC {
        return Err(StoreError::corrupt(WHAT, "it is none"));
    }
    if version != VERSION {
        let why = format!("version {version}");
        return Err(StoreError::Format { what: WHAT.to_owned(), why });
    }
    Ok(super::u64_at(header, 16))
}

/// One of the two lists.
struct List {
    /// The page that it begins with.
    start: u64,
    /// Of each of its pages.
    first: Vec<Entry>,
}

impl List {
    /// The only page that can hold what begins with this key.
    fn page(&self, key: &[u8]) -> Option<u64> {
        let behind = self.first.partition_point(|first| first[..key.len()] <= *key);
        behind.checked_sub(1).map(|page| self.start + page as u64)
    }
}

/// A volume's table, open.
pub(in crate::files) struct Table {
    file: OwnedFd,
    ids: List,
    inodes: List,
}

fn pages(entries: u64) -> u64 {
    entries.div_ceil(ENTRIES_MAX as u64)
}

fn read(file: &OwnedFd, number: u64) -> Result<Vec<Entry>, StoreError> {
    let mut page = vec![0; PAGE_BYTES];
    let (mut filled, at) = (0, number.saturating_mul(PAGE_BYTES as u64));
    while filled < PAGE_BYTES {
        let offset = at.saturating_add(filled as u64);
        match rustix::io::pread(file.as_fd(), &mut page[filled..], offset) {
            Ok(0) => return Err(StoreError::corrupt(WHAT, "it is cut")),
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(WHAT, errno)),
        }
    }
    decode(number, &page).ok_or_else(|| StoreError::corrupt(WHAT, format!("its page {number}")))
}

impl Table {
    /// The table in a volume's directory.
    ///
    /// # Errors
    /// `Corrupt`, `Format`, `Io`.
    pub(in crate::files) fn open(home: &OwnedFd, volume: VolumeId) -> Result<Self, StoreError> {
        let what = format!("{WHAT} of file volume {volume}");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(home, NAME, flags, Mode::empty());
        Self::of(file.map_err(|errno| failed(&what, errno))?)
    }

    /// # Errors
    /// As [`Self::open`].
    pub(super) fn of(file: OwnedFd) -> Result<Self, StoreError> {
        let [header] = read(&file, 0)?[..] else {
            return Err(StoreError::corrupt(WHAT, "it has no header"));
        };
        let entries = count_of(&header)?;
        let each = pages(entries);
        let bytes = rustix::fs::fstat(&file).map_err(|errno| failed(WHAT, errno))?.st_size;
        let all = pages(each).checked_add(each).and_then(|half| half.checked_mul(2));
        let all = all.and_then(|pages| (pages + 1).checked_mul(PAGE_BYTES as u64));
        if u64::try_from(bytes).ok() != all {
            return Err(StoreError::corrupt(WHAT, "it is cut, or something follows it"));
        }
        let list = |start: u64, index: u64| {
            let mut first = Vec::new();
            for page in index..index + pages(each) {
                first.extend(read(&file, page)?);
            }
            let whole = first.len() as u64 == each && first.is_sorted_by(|one, next| one < next);
            whole
                .then_some(List { start, first })
                .ok_or_else(|| StoreError::corrupt(WHAT, "its index"))
        };
        let index = 1 + 2 * each;
        let ids = list(1, index)?;
        let inodes = list(1 + each, index + pages(each))?;
        Ok(Self { file, ids, inodes })
    }

    fn find(&self, list: &List, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let Some(page) = list.page(key) else { return Ok(None) };
        let entries = read(&self.file, page)?;
        let at = entries.partition_point(|entry| entry[..key.len()] < *key);
        Ok(entries.get(at).filter(|entry| entry[..key.len()] == *key).copied())
    }

    /// The inode that the file of an id had when its volume came here.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: whether there is one is not known.
    pub(in crate::files) fn place(&self, id: FileId) -> Result<Option<Place>, StoreError> {
        let none = Place { number: 0, generation: 0 };
        let found = self.find(&self.ids, &forward(id, none)[..FORWARD_KEY_BYTES])?;
        Ok(found.as_ref().map(place_of))
    }

    /// The id of what was made of an inode when the volume came here.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: whether there is one is not known.
    pub(in crate::files) fn id(
        &self,
        tree: u32,
        place: Place,
    ) -> Result<Option<FileId>, StoreError> {
        let none = FileId { tree, inode: 0, generation: 0 };
        let found = self.find(&self.inodes, &back(none, place)[..BACK_KEY_BYTES])?;
        Ok(found.map(|entry| id_of(tree, &entry)))
    }
}
