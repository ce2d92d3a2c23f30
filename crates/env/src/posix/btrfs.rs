//! Subvolumes: trees of btrfs that are copied in constant time, and how much each holds alone.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

const NAME_BYTES_MAX: usize = 4039;
const ARGUMENT_BYTES: usize = 4096;

/// `struct btrfs_ioctl_vol_args`: a number, then a name.
#[repr(C)]
struct Named {
    fd: i64,
    name: [u8; ARGUMENT_BYTES - 8],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct Flagged {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_BYTES_MAX + 1],
}

const _: () = assert!(size_of::<Named>() == ARGUMENT_BYTES);
const _: () = assert!(size_of::<Flagged>() == ARGUMENT_BYTES);

const WRITES: libc::Ioctl = 1;
const READS: libc::Ioctl = 2;
const MAGIC: libc::Ioctl = 0x94;

/// The number of a request, as `_IOC` builds it.
const fn request(direction: libc::Ioctl, number: libc::Ioctl, bytes: usize) -> libc::Ioctl {
    direction << 30 | (bytes as libc::Ioctl) << 16 | MAGIC << 8 | number
}

const CREATE: libc::Ioctl = request(WRITES, 14, ARGUMENT_BYTES);
const DESTROY: libc::Ioctl = request(WRITES, 15, ARGUMENT_BYTES);
const SNAPSHOT: libc::Ioctl = request(WRITES, 23, ARGUMENT_BYTES);
const SYNC: libc::Ioctl = request(0, 8, 0);
const QUOTA: libc::Ioctl = request(WRITES | READS, 40, 16);
const SEARCH: libc::Ioctl = request(WRITES | READS, 17, ARGUMENT_BYTES);

const READ_ONLY: u64 = 1 << 1;

fn put_name(place: &mut [u8], name: &str) -> io::Result<()> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= place.len() || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    place[..bytes.len()].copy_from_slice(bytes);
    Ok(())
}

fn named(directory: BorrowedFd<'_>, request: libc::Ioctl, name: &str) -> io::Result<()> {
    let mut arguments = Named { fd: 0, name: [0; ARGUMENT_BYTES - 8] };
    put_name(&mut arguments.name, name)?;
    // SAFETY: the structure is the one that these requests read.
    let answer = unsafe { libc::ioctl(directory.as_raw_fd(), request, &raw const arguments) };
    check(answer.into()).map(|_| ())
}

/// Make an empty subvolume; not durable before [`sync`].
///
/// # Errors
/// `EEXIST`, `ENOTTY` where this is no btrfs, `ENOSPC`.
pub fn create(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    named(directory, CREATE, name)
}

/// Remove a subvolume with all that is in it. Its room comes back a little later.
///
/// # Errors
/// `ENOENT`; what the file system reports.
pub fn destroy(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    named(directory, DESTROY, name)
}

/// Copy a subvolume, in constant time, as it is at one moment.
///
/// # Errors
/// `EEXIST`, `ENOSPC`; what the file system reports.
pub fn snapshot(
    source: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &str,
    read_only: bool,
) -> io::Result<()> {
    let mut arguments = Flagged {
        fd: source.as_raw_fd().into(),
        transaction: 0,
        flags: if read_only { READ_ONLY } else { 0 },
        unused: [0; 4],
        name: [0; NAME_BYTES_MAX + 1],
    };
    put_name(&mut arguments.name, name)?;
    // SAFETY: the structure is the one that this request reads; both descriptors are open.
    let answer = unsafe { libc::ioctl(directory.as_raw_fd(), SNAPSHOT, &raw const arguments) };
    check(answer.into()).map(|_| ())
}

/// Make all that was done so far durable.
///
/// # Errors
/// What the file system reports.
pub fn sync(within: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no argument.
    check(unsafe { libc::ioctl(within.as_raw_fd(), SYNC, 0) }.into()).map(|_| ())
}

/// Count what each subvolume holds. There already: nothing to do.
///
/// # Errors
/// `EPERM`; what the file system reports.
pub fn enable_quota(within: BorrowedFd<'_>) -> io::Result<()> {
    const ENABLE: u64 = 1;
    let mut arguments = [ENABLE, 0];
    // SAFETY: the two numbers are the structure that this request reads and writes.
    let answer = unsafe { libc::ioctl(within.as_raw_fd(), QUOTA, &raw mut arguments) };
    check(answer.into()).map(|_| ())
}

/// `struct btrfs_ioctl_search_args`: a key range, then what was found.
#[repr(C)]
struct Search {
    tree: u64,
    object: [u64; 2],
    offset: [u64; 2],
    transaction: [u64; 2],
    kind: [u32; 2],
    count: u32,
    unused: u32,
    unused_too: [u64; 4],
    found: [u8; ARGUMENT_BYTES - 104],
}

const _: () = assert!(size_of::<Search>() == ARGUMENT_BYTES);

/// What a subvolume holds, in bytes, as of the last transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    pub referenced: u64,
    /// Not shared with any other subvolume: what its removal gives back.
    pub exclusive: u64,
}

/// What the quota tree says of a subvolume; `None` when it says nothing.
///
/// # Errors
/// `ENOENT` without quotas, `EPERM`; what the file system reports.
pub fn held(within: BorrowedFd<'_>, subvolume: u64) -> io::Result<Option<Held>> {
    const QUOTA_TREE: u64 = 8;
    const QGROUP_INFO: u32 = 242;
    const HEADER_BYTES: usize = 32;
    let mut search = Search {
        tree: QUOTA_TREE,
        object: [0, 0],
        offset: [subvolume, subvolume],
        transaction: [0, u64::MAX],
        kind: [QGROUP_INFO, QGROUP_INFO],
        count: 1,
        unused: 0,
        unused_too: [0; 4],
        found: [0; ARGUMENT_BYTES - 104],
    };
    // SAFETY: the structure is the one that this request reads and writes.
    let answer = unsafe { libc::ioctl(within.as_raw_fd(), SEARCH, &raw mut search) };
    check(answer.into())?;
    if search.count == 0 {
        return Ok(None);
    }
    // The item: generation, referenced, the same compressed, exclusive, the same compressed.
    let number = |index: usize| {
        let at = HEADER_BYTES + index * 8;
        let bytes = search.found[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    };
    Ok(Some(Held { referenced: number(1), exclusive: number(3) }))
}
