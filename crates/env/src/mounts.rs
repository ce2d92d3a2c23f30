//! What is mounted on this machine, and unmounting that waits for nothing.
//!
//! Entry points: [`at`], [`has_given_up`], [`of_kind`], [`detach`], [`is_in_use`], [`real_path`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, removexattr, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mounted {
    /// A device, mostly.
    pub source: String,
    /// The file system as a whole takes no writes, as it may come to be after an error.
    pub read_only: bool,
}

/// Options of a file system that takes no writes. Newer kernels tell one that gave up after an error
/// from one that was to be read-only (ext4 of Linux 6.18 has `emergency_ro`).
const READ_ONLY: [&str; 3] = ["ro", "emergency_ro", "shutdown"];

/// Whether an ext4 that is mounted here from this device has given up, though it may not be said in
/// the list of mounts: there it may stand as writable (seen with `errors=continue` on the 6.1 of
/// Debian 12).
///
/// Only one that has counted an error is asked, by the removal of an attribute that its root does
/// not have: one that has given up refuses that at once. So nothing changes, and nobody waits here
/// for a device that hangs, unless the file system goes on after errors. (A change of a time would
/// not tell: its error is lost on the way.)
#[must_use]
pub fn has_given_up(path: &Path, source: &Path) -> bool {
    let device = real_path(source).unwrap_or_else(|| source.to_path_buf());
    let name = device.file_name().unwrap_or_default();
    let count = Path::new("/sys/fs/ext4").join(name).join("errors_count");
    let has_erred = fs::read_to_string(count).is_ok_and(|count| count.trim() != "0");
    has_erred && matches!(removexattr(path, "trusted.commonhold"), Err(Errno::ROFS | Errno::IO))
}

/// What is mounted at this path, the topmost if several are; `None` when nothing is. Links on the
/// way and a slash at the end are followed, as the kernel did when it was mounted.
///
/// # Errors
/// The kernel's list cannot be read.
pub fn at(path: &Path) -> io::Result<Option<Mounted>> {
    let list = fs::read_to_string("/proc/self/mountinfo")?;
    let real = real_path(path).unwrap_or_else(|| path.components().collect());
    let wanted = real.to_string_lossy();
    Ok(list.lines().rev().find_map(|line| mounted_at(line, &wanted)))
}

/// Where the first file system of this kind is mounted that no other mount hides, and which of its
/// directories is: (what is mounted, where).
///
/// # Errors
/// The kernel's list cannot be read.
pub fn of_kind(kind: &str) -> io::Result<Option<(PathBuf, PathBuf)>> {
    let list = fs::read_to_string("/proc/self/mountinfo")?;
    let seen = |point: &Path| {
        let about = statx(CWD, point, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        Some(about.stx_mnt_id)
    };
    let all = list.lines().filter_map(|line| place_of_kind(line, kind));
    let mut in_sight = all.filter(|(id, _, point)| seen(point) == Some(*id));
    Ok(in_sight.next().map(|(_, directory, point)| (directory, point)))
}

/// Number of the mount, what is mounted, where.
fn place_of_kind(line: &str, kind: &str) -> Option<(u64, PathBuf, PathBuf)> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ');
    let id = fields.next()?.parse().ok()?;
    let mut places = fields.skip(2).map(|field| PathBuf::from(unescaped(field)));
    let (directory, point) = places.next().zip(places.next())?;
    (right.split(' ').next() == Some(kind)).then_some((id, directory, point))
}

/// proc_pid_mountinfo(5): the mount point is the fifth field; after " - " come the kind, the
/// source and the options of the file system.
fn mounted_at(line: &str, wanted: &str) -> Option<Mounted> {
    let (left, right) = line.split_once(" - ")?;
    let point = unescaped(left.split(' ').nth(4)?);
    let mut fields = right.split(' ').skip(1);
    let source = unescaped(fields.next().unwrap_or_default());
    let read_only =
        fields.next().unwrap_or_default().split(',').any(|option| READ_ONLY.contains(&option));
    (point == wanted).then_some(Mounted { source, read_only })
}

/// Blanks and backslashes are written as three octal digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Take everything that is mounted at this path out of sight at once. What still uses it goes on
/// with it until it ends.
///
/// # Errors
/// Something is mounted there and stays.
pub fn detach(path: &Path) -> io::Result<()> {
    while at(path)?.is_some() {
        match unmount(path, UnmountFlags::FORCE | UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A path without links; `None` where there is nothing.
#[must_use]
pub fn real_path(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

/// Whether a file system, or anything else that claims a block device for itself, uses it.
///
/// # Errors
/// The device cannot be opened for another reason.
pub fn is_in_use(device: &Path) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(device, flags, Mode::empty()) {
        Ok(_) => Ok(false),
        Err(Errno::BUSY) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "36 35 98:0 /m /mnt/a\\040b rw,noatime master:1 - ext4 /dev/sdc rw,errors=x";
        let mounted = Mounted { source: "/dev/sdc".to_owned(), read_only: false };
        assert_eq!(mounted_at(line, "/mnt/a b"), Some(mounted));
        assert_eq!(mounted_at(line, "/mnt/a"), None);
        for (options, read_only) in
            [("rw,errors=ro", false), ("ro", true), ("rw,emergency_ro", true)]
        {
            let line = format!("36 35 98:0 / /mnt rw - ext4 /dev/sdc {options}");
            assert_eq!(mounted_at(&line, "/mnt").map(|one| one.read_only), Some(read_only));
        }
        assert_eq!(mounted_at("nonsense", "/"), None);
        let place = Some((36, "/m".into(), "/mnt/a b".into()));
        assert_eq!((place_of_kind(line, "ext4"), place_of_kind(line, "ext3")), (place, None));
        assert!(at(Path::new("/proc")).unwrap().is_some());
        assert_eq!(at(Path::new("/proc/self")).unwrap(), None);
        assert_eq!(of_kind("proc").unwrap(), Some(("/".into(), "/proc".into())));
    }

    #[test]
    fn a_mount_is_found_by_a_link_and_with_a_slash_at_the_end() {
        let home = tempfile::tempdir().unwrap();
        let link = home.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        assert!(at(&link).unwrap().is_some());
        assert!(at(Path::new("/proc/")).unwrap().is_some());
        assert_eq!(at(&home.path().join("not there")).unwrap(), None);
    }
}
