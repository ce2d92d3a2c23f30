//! SCSI commands to a device of this machine, through the SG_IO ioctl of sd and sg devices.
//!
//! Entry point: [`ScsiDevice`]. Calls block until the device has answered.
//!
//! The kernel's own reservation ioctls (linux/pr.h) cannot read who holds what, so commands go as
//! they are; the kernel asks for CAP_SYS_RAWIO for those that change reservations.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_uchar, c_uint, c_ushort, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SG_IO: libc::Ioctl = 0x2285;
const SG_SCSI_RESET: libc::Ioctl = 0x2284;
/// linux/fs.h: write what is dirty, and drop the pages.
const BLKFLSBUF: libc::Ioctl = 0x1261;
/// SG_SCSI_RESET_DEVICE, without going on to reset what is larger than one unit.
const RESET_DEVICE_ALONE: c_int = 0x1 | 0x100;
const DIRECTION_NONE: c_int = -1;
const DIRECTION_OUT: c_int = -2;
const DIRECTION_IN: c_int = -3;
const SENSE_BYTES: u8 = 96;

/// `struct sg_io_hdr` of scsi/sg.h.
#[repr(C)]
struct Header {
    interface_id: c_int,
    direction: c_int,
    cdb_bytes: c_uchar,
    sense_bytes_max: c_uchar,
    iovec_count: c_ushort,
    data_bytes: c_uint,
    data: *mut c_void,
    cdb: *const c_uchar,
    sense: *mut c_uchar,
    timeout_ms: c_uint,
    flags: c_uint,
    pack_id: c_int,
    user: *mut c_void,
    status: c_uchar,
    masked_status: c_uchar,
    message_status: c_uchar,
    sense_bytes: c_uchar,
    host_status: c_ushort,
    driver_status: c_ushort,
    residual_bytes: c_int,
    duration_ms: c_uint,
    info: c_uint,
}

/// How a command ended at the device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScsiAnswer {
    /// The SCSI status byte.
    pub status: u8,
    pub sense: Vec<u8>,
    /// What the device sent.
    pub data: Vec<u8>,
}

/// An open device, such as /dev/sdb or /dev/sg2.
#[derive(Debug)]
pub struct ScsiDevice(File);

/// Whether this is a device of the device mapper.
fn is_mapped(device: u64) -> bool {
    let (major, minor) = (libc::major(device), libc::minor(device));
    Path::new(&format!("/sys/dev/block/{major}:{minor}/dm")).exists()
}

/// What a command moves.
#[derive(Clone, Copy, Debug)]
pub enum Transfer<'a> {
    Nothing,
    Out(&'a [u8]),
    /// At most so many bytes.
    In(usize),
}

impl ScsiDevice {
    /// # Errors
    /// As of opening any file, for reading and writing. A device that the kernel maps onto others
    /// is refused: what is registered through it is registered for the path that it happens to
    /// take, and its next write may take another.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if is_mapped(file.metadata()?.rdev()) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is mapped onto other devices (multipath, LVM); name the one path to the \
                 volume that it has below, such as /dev/sdb, or an iscsi:// address",
            ));
        }
        Ok(Self(file))
    }

    /// Send a command and wait for its end.
    ///
    /// # Errors
    /// When the kernel or the transport did not carry it to an end: whether it was done is not
    /// known then. Also for a CDB of more than sixteen bytes.
    pub fn execute(
        &self,
        cdb: &[u8],
        transfer: Transfer<'_>,
        timeout_ms: u32,
    ) -> io::Result<ScsiAnswer> {
        let cdb_bytes = u8::try_from(cdb.len()).ok().filter(|bytes| *bytes <= 16);
        let cdb_bytes = cdb_bytes.ok_or(io::ErrorKind::InvalidInput)?;
        let (direction, mut data) = match transfer {
            Transfer::Nothing => (DIRECTION_NONE, Vec::new()),
            Transfer::Out(bytes) => (DIRECTION_OUT, bytes.to_vec()),
            Transfer::In(bytes) => (DIRECTION_IN, vec![0; bytes]),
        };
        let data_bytes = c_uint::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut sense = [0; SENSE_BYTES as usize];
        let mut header = Header {
            interface_id: c_int::from(b'S'),
            direction,
            cdb_bytes,
            sense_bytes_max: SENSE_BYTES,
            iovec_count: 0,
            data_bytes,
            data: data.as_mut_ptr().cast(),
            cdb: cdb.as_ptr(),
            sense: sense.as_mut_ptr(),
            timeout_ms,
            flags: 0,
            pack_id: 0,
            user: std::ptr::null_mut(),
            status: 0,
            masked_status: 0,
            message_status: 0,
            sense_bytes: 0,
            host_status: 0,
            driver_status: 0,
            residual_bytes: 0,
            duration_ms: 0,
            info: 0,
        };
        // SAFETY: the header is laid out as the kernel's, its pointers name buffers of the lengths
        // that it states, and all of them live until the call returns, which is after the command.
        let called = unsafe { libc::ioctl(self.0.as_raw_fd(), SG_IO, &raw mut header) };
        if called != 0 {
            return Err(io::Error::last_os_error());
        }
        // DRIVER_SENSE (08h) says that there is sense data; all else means that the transport failed.
        if header.host_status != 0 || header.driver_status & 0x07 != 0 {
            let (host, driver) = (header.host_status, header.driver_status);
            return Err(io::Error::other(format!(
                "the transport failed (host status {host:#x}, driver status {driver:#x})"
            )));
        }
        if direction == DIRECTION_IN {
            let missing = usize::try_from(header.residual_bytes).unwrap_or(0);
            data.truncate(data.len().saturating_sub(missing));
        } else {
            data.clear();
        }
        let sense = sense[..usize::from(header.sense_bytes.min(SENSE_BYTES))].to_vec();
        Ok(ScsiAnswer { status: header.status, sense, data })
    }

    /// As [`forget_cached`] of this device.
    ///
    /// # Errors
    /// It may still remember; it needs CAP_SYS_ADMIN.
    pub fn forget_cached(&self) -> io::Result<()> {
        forget(&self.0)
    }

    /// LOGICAL UNIT RESET: every command of every initiator at this unit ends.
    ///
    /// # Errors
    /// When the kernel could not do it; it needs CAP_SYS_ADMIN and CAP_SYS_RAWIO.
    pub fn reset_unit(&self) -> io::Result<()> {
        let mut what = RESET_DEVICE_ALONE;
        // SAFETY: the kernel reads one int from the pointer, which lives until the call returns.
        let called = unsafe { libc::ioctl(self.0.as_raw_fd(), SG_SCSI_RESET, &raw mut what) };
        if called == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Forget what the kernel has read of a block device, so that the next reader sees what others
/// have written since. As long as somebody has the device open, as the guard of a standby has, the
/// kernel keeps that. Nothing to do for a device without such a cache.
///
/// # Errors
/// It may still remember; it needs CAP_SYS_ADMIN.
pub fn forget_cached(device: &Path) -> io::Result<()> {
    forget(&File::open(device)?)
}

fn forget(device: &File) -> io::Result<()> {
    // SAFETY: the call takes no memory.
    let called = unsafe { libc::ioctl(device.as_raw_fd(), BLKFLSBUF, 0) };
    let error = || io::Error::last_os_error();
    match called {
        0 => Ok(()),
        _ if error().raw_os_error() == Some(libc::ENOTTY) => Ok(()),
        _ => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_laid_out_as_the_kernels() {
        assert_eq!(
            std::mem::size_of::<Header>(),
            if cfg!(target_pointer_width = "64") { 88 } else { 64 }
        );
        assert_eq!(std::mem::offset_of!(Header, data), 16);
    }

    /// A standby's udev had read the superblock; after the takeover fsck and mount saw that, and not
    /// what the owner before had written.
    #[test]
    fn what_was_read_of_a_device_before_a_takeover_is_not_remembered() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: no loop device can be made");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [b'a'; 4096]).unwrap();
        let losetup = |arguments: &[&str]| {
            let output = std::process::Command::new("losetup").args(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let path = losetup(&["--find", "--show", &file.path().display().to_string()]);
        let first = || std::fs::read(&path).unwrap()[0];
        let device = ScsiDevice::open(Path::new(&path)).unwrap();
        assert_eq!(first(), b'a');
        std::fs::write(file.path(), [b'b'; 4096]).unwrap();
        let remembered = first();
        let forgot = device.forget_cached();
        let then = first();
        drop(device);
        losetup(&["--detach", &path]);
        assert_eq!((remembered, then), (b'a', b'b'), "{forgot:?}");
    }

    #[test]
    fn what_is_no_scsi_device_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let device = ScsiDevice::open(file.path()).unwrap();
        let refused = device.execute(&[0; 6], Transfer::Nothing, 1000).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(device.reset_unit().unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert!(device.execute(&[0; 17], Transfer::Nothing, 1000).is_err());
        device.forget_cached().unwrap();
    }
}
