//! A disk whose power can be cut: a file in a FUSE file system of our own, with a loop device over
//! it. What was written since the last flush is volatile.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyData,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
};
use rand::rngs::StdRng;
use rand::{Rng, RngCore};

const ROOT: u64 = 1;
const DISK: u64 = 2;
pub(super) const NAME: &str = "disk";
const FOREVER: Duration = Duration::from_secs(1 << 20);
/// What a disk writes as a whole.
const UNIT_BYTES: usize = 4096;

struct Bytes {
    /// What the file system reads.
    seen: Vec<u8>,
    /// What is there after a power cut.
    durable: Vec<u8>,
    /// Places and lengths of what was written since the last flush, in order.
    volatile: Vec<(usize, Vec<u8>)>,
    flushes: u64,
}

/// A clone is the same disk.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<Bytes>>);

impl Disk {
    pub(super) fn new(content: Vec<u8>) -> Self {
        let (durable, volatile) = (content.clone(), Vec::new());
        Self(Arc::new(Mutex::new(Bytes { seen: content, durable, volatile, flushes: 0 })))
    }

    /// Serves the disk as a file in this directory, until the answer is dropped.
    pub(super) fn serve(&self, directory: &Path) -> std::io::Result<BackgroundSession> {
        let options = [MountOption::FSName("power".to_owned()), MountOption::RW];
        fuser::spawn_mount2(self.clone(), directory, &options)
    }

    /// What is on the disk when the power goes now: all that was flushed; of the rest nothing, all,
    /// or some.
    pub(super) fn cut(&self, random: &mut StdRng) -> Vec<u8> {
        let bytes = self.0.lock().unwrap();
        let kept = [0.0, 0.1, 0.5, 0.9, 1.0][random.random_range(0..5)];
        let mut image = bytes.durable.clone();
        for (at, data) in &bytes.volatile {
            for (unit, data) in data.chunks(UNIT_BYTES).enumerate() {
                if random.random_bool(kept) {
                    let at = at + unit * UNIT_BYTES;
                    image[at..at + data.len()].copy_from_slice(data);
                }
            }
        }
        image
    }

    pub(super) fn flushes(&self) -> u64 {
        self.0.lock().unwrap().flushes
    }

    fn attributes(&self, inode: u64) -> FileAttr {
        let size = self.0.lock().unwrap().seen.len() as u64;
        let (kind, perm) = if inode == ROOT {
            (FileType::Directory, 0o700)
        } else {
            (FileType::RegularFile, 0o600)
        };
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn range(offset: i64, length: usize, size: usize) -> std::ops::Range<usize> {
    let start = usize::try_from(offset).unwrap().min(size);
    start..(start + length).min(size)
}

impl Filesystem for Disk {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        if parent == ROOT && name == NAME {
            reply.entry(&FOREVER, &self.attributes(DISK), 0);
        } else {
            reply.error(libc::ENOENT);
        }
    }
    fn getattr(&mut self, _: &Request<'_>, inode: u64, _: Option<u64>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }
    fn open(&mut self, _: &Request<'_>, _: u64, _: i32, reply: ReplyOpen) {
        reply.opened(0, 0);
    }
    fn read(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        bytes: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        let disk = self.0.lock().unwrap();
        reply.data(&disk.seen[range(offset, bytes as usize, disk.seen.len())]);
    }
    fn write(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        let mut disk = self.0.lock().unwrap();
        let range = range(offset, data.len(), disk.seen.len());
        let data = &data[..range.len()];
        disk.volatile.push((range.start, data.to_vec()));
        disk.seen[range].copy_from_slice(data);
        reply.written(u32::try_from(data.len()).unwrap());
    }
    fn fsync(&mut self, _: &Request<'_>, _: u64, _: u64, _: bool, reply: ReplyEmpty) {
        let mut disk = self.0.lock().unwrap();
        for (at, data) in std::mem::take(&mut disk.volatile) {
            disk.durable[at..at + data.len()].copy_from_slice(&data);
        }
        disk.flushes += 1;
        reply.ok();
    }
    fn flush(&mut self, _: &Request<'_>, _: u64, _: u64, _: u64, reply: ReplyEmpty) {
        reply.ok();
    }
}

/// The test of the tests: what was not flushed can be lost here, and what was cannot.
#[test]
fn only_what_was_flushed_survives_a_cut_for_sure() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(vec![0; 64 << 10]);
    let Ok(served) = disk.serve(directory.path()) else {
        eprintln!("skipped: FUSE cannot be mounted here");
        return;
    };
    let path = directory.path().join(NAME);
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(&[2; 4096], 0).unwrap();
    file.write_all_at(&[3; 4096], 8192).unwrap();
    let mut random = <StdRng as rand::SeedableRng>::seed_from_u64(1);
    let (mut old, mut new) = (0, 0);
    for _ in 0..100 {
        let image = disk.cut(&mut random);
        match image[0] {
            1 => old += 1,
            2 => new += 1,
            other => panic!("{other} was never written"),
        }
        assert!([0, 3].contains(&image[8192]));
    }
    assert!(old > 10 && new > 10, "{old} {new}");
    assert_eq!(disk.flushes(), 1);
    assert_ne!(random.next_u64(), 0);
    drop((file, served));
}
