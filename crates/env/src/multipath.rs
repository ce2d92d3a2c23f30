//! Maps of dm-multipath, as the kernel shows them under /sys.
//!
//! Entry points: [`Map::of`], [`Map::above`], and [`Mapped::named`] for any other device of the
//! device mapper.
//!
//! A disk becomes a path in three steps: the kernel finds it, multipathd puts it below the map, and
//! the kernel writes down it. [`Map::disks`] has it from the first step on.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How the identifiers of multipathd's maps begin; those of LVM and dm-crypt begin otherwise.
const MARK: &str = "mpath-";

/// A disk of the kernel's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Disk {
    /// Such as `sdb`.
    pub name: String,
    /// Where it hangs: by host, session and address. Another one may get its name, and not this.
    pub place: PathBuf,
}

/// One multipath map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map {
    directory: PathBuf,
    disks: PathBuf,
    /// Under /dev/mapper.
    pub name: String,
    /// Of the volume, whatever the map is called.
    pub uuid: String,
    /// `MAJOR:MINOR`.
    pub number: String,
}

impl Map {
    /// The map that this device is; `None` for any other device.
    ///
    /// # Errors
    /// The device is not there.
    pub fn of(device: &Path) -> io::Result<Option<Self>> {
        Ok(Self::at(Path::new("/sys"), number_of(&fs::metadata(device)?)))
    }

    /// The map above the first of these disks that has one.
    #[must_use]
    pub fn above<'a>(disks: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        Self::above_at(Path::new("/sys"), disks)
    }

    fn above_at<'a>(root: &Path, disks: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let blocks = root.join("block");
        disks.into_iter().find_map(|disk| {
            // What is above a disk besides is a partition's or LVM's, and no map.
            names(&blocks.join(disk).join("holders")).ok()?.into_iter().find_map(|holder| {
                let number = fs::read_to_string(blocks.join(holder).join("dev")).ok()?;
                Self::at(root, number.trim().to_owned())
            })
        })
    }

    /// Its device.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.name)
    }

    /// Whether multipathd has put the disk of this name below it.
    #[must_use]
    pub fn has(&self, disk: &str) -> bool {
        self.directory.join("slaves").join(disk).exists()
    }

    fn at(root: &Path, number: String) -> Option<Self> {
        let directory = root.join("dev/block").join(&number);
        let read = |name: &str| fs::read_to_string(directory.join("dm").join(name)).ok();
        let uuid = read("uuid")?.trim().to_owned();
        if !uuid.starts_with(MARK) {
            return None;
        }
        let name = read("name")?.trim().to_owned();
        Some(Self { disks: root.join("block"), directory, name, uuid, number })
    }

    /// Its size in blocks of 512 bytes.
    ///
    /// # Errors
    /// The map is gone.
    pub fn sectors(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.directory.join("size"))?;
        text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// The disks below it, and those that call themselves by the same name (VPD page 83h, as the
    /// kernel remembers it) and are not below it yet.
    ///
    /// # Errors
    /// The map is gone.
    pub fn disks(&self) -> io::Result<Vec<Disk>> {
        let below = names(&self.directory.join("slaves"))?;
        let called = |name: &String| {
            let name = fs::read_to_string(self.disks.join(name).join("device/wwid"));
            name.ok().filter(|name| !name.trim().is_empty())
        };
        let names_below: BTreeSet<String> = below.iter().filter_map(called).collect();
        let beside = names(&self.disks)?.into_iter().filter(|name| {
            name.starts_with("sd") && called(name).is_some_and(|one| names_below.contains(&one))
        });
        let all: BTreeSet<String> = below.iter().cloned().chain(beside).collect();
        let disk = |name: String| {
            let place = fs::read_link(self.disks.join(&name)).ok()?;
            Some(Disk { name, place })
        };
        Ok(all.into_iter().filter_map(disk).collect())
    }
}

/// Where the kernel shows its block devices.
pub const BLOCKS: &str = "/sys/block";

/// A device of the device mapper.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapped {
    /// `MAJOR:MINOR`.
    pub number: String,
    pub is_suspended: bool,
}

impl Mapped {
    /// The one of this name, as `blocks` ([`BLOCKS`]) shows it; `None` where there is none.
    ///
    /// # Errors
    /// It is not known.
    pub fn named(blocks: &Path, name: &str) -> io::Result<Option<Self>> {
        let read = |path: PathBuf| match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // It went while it was read.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        };
        for block in names(blocks)?.into_iter().filter(|block| block.starts_with("dm-")) {
            let block = blocks.join(block);
            if read(block.join("dm/name"))?.is_some_and(|one| one == name) {
                let number = read(block.join("dev"))?;
                let both = number.zip(read(block.join("dm/suspended"))?);
                return Ok(both.map(|(number, text)| Self { number, is_suspended: text == "1" }));
            }
        }
        Ok(None)
    }

    /// Whether this file is the device.
    #[must_use]
    pub fn is_at(&self, file: &Path) -> bool {
        fs::metadata(file).is_ok_and(|about| number_of(&about) == self.number)
    }
}

fn number_of(about: &fs::Metadata) -> String {
    format!("{}:{}", libc::major(about.rdev()), libc::minor(about.rdev()))
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?.map(|entry| entry.map(|one| one.file_name()));
    let names: io::Result<Vec<_>> = entries.collect();
    Ok(names?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_taken_for_a_device_that_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let device = |block: &str, name: &str, suspended: &str| {
            let mapper = root.path().join(block).join("dm");
            fs::create_dir_all(&mapper).unwrap();
            fs::write(mapper.join("name"), format!("{name}\n")).unwrap();
            fs::write(mapper.join("suspended"), suspended).unwrap();
            fs::write(root.path().join(block).join("dev"), "1:3\n").unwrap();
        };
        device("dm-0", "root", "0\n");
        device("dm-1", "gate", "1\n");
        fs::create_dir(root.path().join("sda")).unwrap();
        let is = |name| Mapped::named(root.path(), name).map(|one| one.map(|one| one.is_suspended));
        assert_eq!(is("root").unwrap(), Some(false));
        assert_eq!(is("gate").unwrap(), Some(true));
        assert_eq!(is("none").unwrap(), None);
        let gate = Mapped::named(root.path(), "gate").unwrap().unwrap();
        assert!(gate.is_at(Path::new("/dev/null")) && !gate.is_at(Path::new("/dev/zero")));
        assert!(!gate.is_at(&root.path().join("nowhere")));
        fs::create_dir_all(root.path().join("dm-2/dm/name")).unwrap();
        assert!(is("none").is_err());
        assert!(Mapped::named(&root.path().join("nowhere"), "root").is_err());
    }

    #[test]
    fn a_map_of_multipath_is_known_by_its_identifier_and_others_are_none() {
        let root = tempfile::tempdir().unwrap();
        let disk = |name: &str, wwid: &str| {
            let place = root.path().join("devices").join(format!("session-{name}"));
            fs::create_dir_all(place.join("device")).unwrap();
            fs::write(place.join("device/wwid"), wwid).unwrap();
            fs::create_dir_all(root.path().join("block")).unwrap();
            std::os::unix::fs::symlink(&place, root.path().join("block").join(name)).unwrap();
        };
        for (name, wwid) in [("sda", "naa.1"), ("sdb", "naa.6"), ("sdc", "naa.6"), ("sdd", "")] {
            disk(name, wwid);
        }
        let at = |number: &str, uuid: &str| {
            let directory = root.path().join("dev/block").join(number);
            fs::create_dir_all(directory.join("dm")).unwrap();
            fs::write(directory.join("dm/uuid"), uuid).unwrap();
            fs::write(directory.join("dm/name"), "shared\n").unwrap();
            fs::write(directory.join("size"), "2048\n").unwrap();
            for slave in ["sdb", "sdd"] {
                fs::create_dir_all(directory.join("slaves").join(slave)).unwrap();
            }
            Map::at(root.path(), number.to_owned())
        };
        let map = at("253:0", "mpath-3600a\n").unwrap();
        assert_eq!((&*map.name, &*map.uuid), ("shared", "mpath-3600a"));
        assert_eq!(map.sectors().unwrap(), 2048);
        let disks = map.disks().unwrap();
        let names: Vec<&str> = disks.iter().map(|disk| &*disk.name).collect();
        assert_eq!(names, ["sdb", "sdc", "sdd"], "sdc is not below the map yet");
        assert!(disks[0].place.ends_with("session-sdb"));
        assert_eq!(at("253:1", "LVM-abc\n"), None);
        assert_eq!(at("253:2", "CRYPT-LUKS2-mpath-\n"), None);
        assert_eq!(Map::at(root.path(), "8:16".to_owned()), None);
        // By what the kernel says is above a disk.
        let holds = |disk: &str, holder: &str, number: &str| {
            let holders = root.path().join("block").join(disk).join("holders").join(holder);
            fs::create_dir_all(holders).unwrap();
            let holder = root.path().join("block").join(holder);
            fs::create_dir_all(&holder).unwrap();
            fs::write(holder.join("dev"), format!("{number}\n")).unwrap();
        };
        holds("sda", "dm-1", "253:1");
        holds("sdb", "dm-0", "253:0");
        let above = |disks: &[&str]| Map::above_at(root.path(), disks.iter().copied());
        assert_eq!(above(&["sdc", "sdb"]), Some(map.clone()));
        assert_eq!(above(&["sda", "sdc", "sdz"]), None, "LVM is above sda");
        assert!(map.has("sdb") && !map.has("sdc"));
        assert_eq!(map.path(), Path::new("/dev/mapper/shared"));
        assert_eq!(Map::of(Path::new("/dev/null")).unwrap(), None);
    }
}
