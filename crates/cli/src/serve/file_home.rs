//! Where file volumes lie when nobody has said: the pool of the first start, and its file system.
//!
//! ```text
//!  the data directory lies on   btrfs -> a directory there; a subvolume for each volume
//!                               XFS that shares blocks -> a directory there
//!                               else, with mkfs.btrfs and loop devices -> a btrfs in a file
//!                               else -> a directory there; snapshots are copied
//! ```
//!
//! The btrfs in a file is mounted where this process alone sees it, so that no end of the daemon
//! leaves a mount behind. Its room is taken at once: a file system whose disk is full under its
//! feet breaks, and takes all volumes with it.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use env::posix::{clone, namespace};
use model::pool::Driver;
use model::size::ByteSize;
use node::{Purpose, Sockets};
use rustix::fs::{Mode, OFlags};

use crate::settings::{Role, ServeSettings};

/// The port of NFS: clients of version 4 find it without being told, and without rpcbind.
const USUAL_PORTAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2049));
/// Below this a btrfs is of no use.
const IMAGE_MIN: ByteSize = ByteSize(512 << 20);
/// How much of the disk's room a btrfs in a file takes when no capacity is set.
const IMAGE_PART: u64 = 4;
/// How long a start waits for the last one's mount to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(30);
const GONE_PAUSE: Duration = Duration::from_millis(50);
/// How long a program of the system may take, and between two looks at it.
const RUN_LIMIT: Duration = Duration::from_secs(20);
const RUN_PAUSE: Duration = Duration::from_millis(5);

const BTRFS: i64 = 0x9123_683E;
const XFS: i64 = 0x5846_5342;

/// How a daemon keeps and serves file volumes.
#[derive(Debug)]
pub(crate) struct FileHome {
    /// None: no file volumes.
    pub(crate) portals: Vec<SocketAddr>,
    /// Why there are no portals though nobody has said so.
    pub(crate) why_not: Option<String>,
    /// Make a pool? Whoever chooses portals chooses pools, too.
    makes_pool: bool,
    /// May it mount what only it sees?
    own_mounts: bool,
}

impl FileHome {
    /// What is possible here. To be called before there are other threads.
    pub(crate) fn find(settings: &ServeSettings, sockets: &Sockets) -> Self {
        if settings.role == Role::Control {
            let (portals, why_not) = (Vec::new(), Some("it has no storage node".to_owned()));
            return Self { portals, why_not, makes_pool: false, own_mounts: false };
        }
        let is_root = rustix::process::geteuid().is_root();
        let (portals, why_not) = match &settings.nfs_portals {
            Some(portals) => (portals.clone(), None),
            None if !is_root => (Vec::new(), Some("it needs root".to_owned())),
            None if sockets.has(Purpose::Files, USUAL_PORTAL) => (vec![USUAL_PORTAL], None),
            None => match sockets.try_listen(USUAL_PORTAL) {
                Ok(()) => (vec![USUAL_PORTAL], None),
                Err(why) => {
                    let why = format!("{USUAL_PORTAL}: {why}; choose with --nfs-portals");
                    (Vec::new(), Some(why))
                }
            },
        };
        let own_mounts = is_root && !portals.is_empty() && namespace::part_from_machine().is_ok();
        let makes_pool = settings.nfs_portals.is_none();
        Self { portals, why_not, makes_pool, own_mounts }
    }

    /// The same with a pool, whoever has chosen the portals.
    pub(crate) fn with_pool(self) -> Self {
        Self { makes_pool: true, ..self }
    }

    /// Take the pool out of sight, so that what it lies in can be removed.
    ///
    /// # Errors
    /// It is mounted and stays.
    pub(crate) fn leave(data: &Path) -> io::Result<()> {
        env::mounts::detach(&Place::new(&data.join("pools")).directory)
    }

    /// Before another program begins in this process, which mounts it again: what this one has
    /// mounted. Nothing of ours is open there any more.
    ///
    /// # Errors
    /// It stays.
    pub(super) fn unmount(data: &Path) -> io::Result<()> {
        let place = Place::new(&data.join("pools"));
        if !place.image.exists() {
            return Ok(());
        }
        env::mounts::detach(&place.directory.canonicalize()?)
    }

    /// Make the pool's place, or bring it back; gives the driver for a pool that is new. The data
    /// directory is ours alone by now.
    pub(crate) fn prepare(&self, pools: &Path, capacity: Option<ByteSize>) -> Option<Driver> {
        if self.portals.is_empty() {
            return None;
        }
        let place = Place::new(pools);
        if place.image.exists() {
            if let Err(why) = self.mount(&place) {
                tracing::error!(%why, "the file volumes of the first pool are not there");
            }
            return Some(Driver::Btrfs);
        }
        if !self.makes_pool {
            // One that an earlier start has made is known to the catalog.
            return None;
        }
        match file_system(pools) {
            Some(BTRFS) => Some(Driver::Btrfs),
            Some(XFS) if shares_blocks(pools) => Some(Driver::Dir),
            _ if place.directory.exists() => Some(Driver::Dir),
            _ => match self.make_image(&place, capacity) {
                Ok(()) => Some(Driver::Btrfs),
                // It may still come: what would be put into its place would be hidden then.
                Err(why) if why.kind() == io::ErrorKind::TimedOut => {
                    tracing::error!(%why, "there is no first pool for file volumes");
                    None
                }
                Err(why) => {
                    tracing::info!(%why, "no btrfs in a file: snapshots of file volumes are copies");
                    Some(Driver::Dir)
                }
            },
        }
    }

    fn make_image(&self, place: &Place, capacity: Option<ByteSize>) -> io::Result<()> {
        self.may_mount()?;
        let room = rustix::fs::statvfs(&place.pools)?;
        let free = ByteSize(room.f_bavail.saturating_mul(room.f_frsize));
        let size = capacity.unwrap_or(ByteSize(free.0 / IMAGE_PART));
        if size > free || size < IMAGE_MIN {
            return Err(io::Error::other(format!("{size} of {free} that are free")));
        }
        let new = place.image.with_extension("new");
        let made = fill(&new, size).and_then(|()| {
            run("mkfs.btrfs", [OsStr::new("-q"), "-K".as_ref(), "-f".as_ref(), new.as_ref()])?;
            std::fs::rename(&new, &place.image)
        });
        let made = made.and_then(|()| self.mount(place));
        if made.is_err() {
            // Nothing lies there yet; without it, a directory does.
            let _ = std::fs::remove_file(&new);
            let _ = std::fs::remove_file(&place.image);
            let _ = std::fs::remove_dir(&place.directory);
        }
        made
    }

    fn may_mount(&self) -> io::Result<()> {
        if self.own_mounts {
            return Ok(());
        }
        Err(io::Error::other("the kernel does not let us mount"))
    }

    fn mount(&self, place: &Place) -> io::Result<()> {
        self.may_mount()?;
        wait_until_gone(&place.image)?;
        std::fs::create_dir_all(&place.directory)?;
        let options = OsStr::new("loop,noatime,nodiscard");
        let (image, directory) = (place.image.as_os_str(), place.directory.as_os_str());
        let arguments = ["-t".as_ref(), "btrfs".as_ref(), "-o".as_ref(), options, image, directory];
        run("mount", arguments)
    }
}

struct Place {
    pools: PathBuf,
    directory: PathBuf,
    image: PathBuf,
}

impl Place {
    fn new(pools: &Path) -> Self {
        let image = pools.join("file.btrfs");
        Self { pools: pools.to_owned(), directory: pools.join("file"), image }
    }
}

fn file_system(path: &Path) -> Option<i64> {
    rustix::fs::statfs(path).ok().map(|found| found.f_type)
}

/// Can two files share blocks here? XFS can where it was made so.
fn shares_blocks(path: &Path) -> bool {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let nameless = || rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    let (Ok(one), Ok(other)) = (nameless(), nameless()) else { return false };
    clone::share((one.as_fd(), 0), (other.as_fd(), 0), 0).is_ok()
}

/// A new file whose room is taken.
fn fill(path: &Path, size: ByteSize) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::File::options();
    let file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size.0)?;
    file.sync_all()
}

/// A daemon that was killed has its mount for a moment longer; two at once would destroy it.
fn wait_until_gone(image: &Path) -> io::Result<()> {
    let image = image.canonicalize()?;
    let end = Instant::now() + GONE_LIMIT;
    while is_behind_a_device(&image)? {
        if Instant::now() > end {
            let why = format!("{} is in use by a loop device", image.display());
            return Err(io::Error::other(why));
        }
        std::thread::sleep(GONE_PAUSE);
    }
    Ok(())
}

fn is_behind_a_device(image: &Path) -> io::Result<bool> {
    for device in std::fs::read_dir("/sys/block")? {
        let backing = device?.path().join("loop/backing_file");
        // Devices without a file, and those that are no loop devices, have none.
        if std::fs::read_to_string(backing).is_ok_and(|file| Path::new(file.trim_end()) == image) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Run a program of the system to its end; `TimedOut` for one that the kernel does not let end.
fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> io::Result<()> {
    let named = |why: io::Error| io::Error::new(why.kind(), format!("{program}: {why}"));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(named)?;
    let end = Instant::now() + RUN_LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(named)? {
            break status;
        }
        if Instant::now() > end {
            // It dies as soon as the kernel lets go of it; nobody waits for that.
            let _ = child.kill();
            let why = format!("{program} does not come to its end");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        std::thread::sleep(RUN_PAUSE);
    };
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        errors.read_to_string(&mut said).map_err(named)?;
    }
    Err(io::Error::other(format!("{program}: {}", said.trim())))
}
