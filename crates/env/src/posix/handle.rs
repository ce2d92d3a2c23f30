//! Names of inodes that outlive paths, renames and restarts: name_to_handle_at(2).
//!
//! To open one needs `CAP_DAC_READ_SEARCH`. What the bytes mean differs by file system; this is
//! the table of those that we know, which are those whose handles stay good after a restart.

// The kernel reads and writes these bytes in the order of the machine.
#![allow(clippy::host_endian_bytes)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::OFlags;

use super::check;

/// Which bytes a file system's handles have (type, length).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Inode and generation, 32 bits each: ext4, and XFS with small inodes.
    Inode32,
    /// tmpfs: generation, then the inode in two halves.
    Tmpfs,
    /// XFS: 64 bits of inode, generation.
    Inode64,
    /// btrfs: inode, subvolume, generation.
    Btrfs,
}

const FORMS: [(Form, i32, usize); 4] = [
    (Form::Inode32, 0x01, 8),
    (Form::Tmpfs, 0x01, 12),
    (Form::Inode64, 0x81, 12),
    (Form::Btrfs, 0x4d, 20),
];

const BYTES_MAX: usize = 128;

/// As the kernel has it: `struct file_handle`.
#[repr(C)]
struct Raw {
    bytes: u32,
    kind: i32,
    data: [u8; BYTES_MAX],
}

/// An inode among all of its file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inode {
    pub form: Form,
    pub number: u64,
    /// Tells an inode from an earlier one of the same number.
    pub generation: u32,
    /// The subvolume's number on btrfs, else 0.
    pub subvolume: u64,
}

impl Inode {
    fn decode(kind: i32, data: &[u8]) -> Option<Self> {
        let known = FORMS.iter().find(|form| form.1 == kind && form.2 == data.len());
        let word = |at: usize| {
            let bytes = data.get(at..at + 4)?;
            bytes.try_into().ok().map(u32::from_ne_bytes)
        };
        let long = |at: usize| {
            let bytes = data.get(at..at + 8)?;
            bytes.try_into().ok().map(u64::from_ne_bytes)
        };
        let form = known?.0;
        let (number, generation, subvolume) = match form {
            Form::Inode32 => (word(0)?.into(), word(4)?, 0),
            Form::Tmpfs => (u64::from(word(8)?) << 32 | u64::from(word(4)?), word(0)?, 0),
            Form::Inode64 => (long(0)?, word(8)?, 0),
            Form::Btrfs => (long(0)?, word(16)?, long(8)?),
        };
        Some(Self { form, number, generation, subvolume })
    }

    fn encode(&self) -> Option<Raw> {
        let (_, kind, bytes) = *FORMS.iter().find(|form| form.0 == self.form)?;
        let mut data = [0; BYTES_MAX];
        let mut put = |at: usize, field: &[u8]| data[at..at + field.len()].copy_from_slice(field);
        let generation = self.generation.to_ne_bytes();
        match self.form {
            Form::Inode32 => {
                put(0, &u32::try_from(self.number).ok()?.to_ne_bytes());
                put(4, &generation);
            }
            Form::Tmpfs => {
                put(0, &generation);
                let (low, high) = (self.number & u64::from(u32::MAX), self.number >> 32);
                put(4, &u32::try_from(low).ok()?.to_ne_bytes());
                put(8, &u32::try_from(high).ok()?.to_ne_bytes());
            }
            Form::Inode64 => {
                put(0, &self.number.to_ne_bytes());
                put(8, &generation);
            }
            Form::Btrfs => {
                put(0, &self.number.to_ne_bytes());
                put(8, &self.subvolume.to_ne_bytes());
                put(16, &generation);
            }
        }
        Some(Raw { bytes: u32::try_from(bytes).ok()?, kind, data })
    }

    /// Opens it, whoever may: permissions of the way to it are not asked for. `mount` is any
    /// descriptor in its file system.
    ///
    /// # Errors
    /// `ESTALE` when it is gone, `EPERM` without the capability, those of open(2).
    pub fn open(&self, mount: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
        let raw = self.encode().ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))?;
        let flags = libc::c_int::try_from((flags | OFlags::CLOEXEC).bits())
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        let mount = mount.as_raw_fd();
        // SAFETY: the structure is laid out as the kernel's, with as many bytes as it says.
        let fd = check(unsafe {
            libc::syscall(libc::SYS_open_by_handle_at, mount, &raw const raw, flags)
        })?;
        let fd = libc::c_int::try_from(fd).map_err(|_| io::ErrorKind::Other)?;
        // SAFETY: the kernel has just given this descriptor to us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// The inode behind a name in a directory (an empty one means the descriptor itself; no symbolic
/// link is followed), and the number of the mount that it lies on.
///
/// # Errors
/// `EOPNOTSUPP` on a file system whose handles we do not know; those of a path's walk.
pub fn inode_of(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<(Inode, i32)> {
    let bytes = u32::try_from(BYTES_MAX).map_err(|_| io::ErrorKind::Other)?;
    let mut raw = Raw { bytes, kind: 0, data: [0; BYTES_MAX] };
    let mut mount: libc::c_int = 0;
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    // SAFETY: the structure is laid out as the kernel's and has the bytes that it says; the
    // number of the mount has a place of its own.
    check(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            directory.as_raw_fd(),
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount,
            flags,
        )
    })?;
    let data = raw.data.get(..raw.bytes as usize);
    let inode = data.and_then(|data| Inode::decode(raw.kind, data));
    Ok((inode.ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))?, mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_comes_back_as_it_was() {
        for (form, kind, bytes) in FORMS {
            let number = if form == Form::Inode32 { 0x1234_5678 } else { 0x1_2345_6789 };
            let subvolume = if form == Form::Btrfs { 257 } else { 0 };
            let inode = Inode { form, number, generation: 0xdead_beef, subvolume };
            let raw = inode.encode().unwrap();
            assert_eq!((raw.kind, raw.bytes as usize), (kind, bytes));
            assert_eq!(Inode::decode(kind, &raw.data[..bytes]), Some(inode));
        }
        assert_eq!(Inode::decode(0x4d, &[0; 12]), None);
        let large = Inode { form: Form::Inode32, number: 1 << 40, generation: 0, subvolume: 0 };
        assert!(large.encode().is_none());
    }

    #[test]
    fn an_inode_is_opened_after_its_file_was_renamed() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("a"), "text").unwrap();
        let directory = std::fs::File::open(home.path()).unwrap();
        let directory = std::os::fd::AsFd::as_fd(&directory);
        let (inode, mount) = inode_of(directory, c"a").unwrap();
        assert_eq!(inode_of(directory, c"").unwrap().1, mount);
        std::fs::rename(home.path().join("a"), home.path().join("b")).unwrap();
        match inode.open(directory, OFlags::RDONLY) {
            Ok(file) => {
                let mut text = [0; 4];
                assert_eq!(rustix::io::pread(&file, &mut text[..], 0), Ok(4));
                assert_eq!(&text, b"text");
            }
            Err(why) if why.raw_os_error() == Some(libc::EPERM) => {
                eprintln!("skipped: to open by handle needs CAP_DAC_READ_SEARCH");
                return;
            }
            Err(why) => panic!("{why}"),
        }
        std::fs::remove_file(home.path().join("b")).unwrap();
        let gone = inode.open(directory, OFlags::RDONLY).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESTALE));
    }
}
