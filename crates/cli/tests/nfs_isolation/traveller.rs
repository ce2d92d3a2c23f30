//! Random steps among files, by names that are there and names that should lead out; every handle
//! that is given must be of the volume, by its own file system id.

use std::collections::BTreeSet;

use bytes::Bytes;
use nfs::v4::Status;

use crate::dice::Dice;
use crate::nfs_client::session::Client;
use crate::nfs_client::three::Three;

const NAMES: [&[u8]; 20] = [
    b"a",
    b"b",
    b"c",
    b".",
    b"..",
    b"...",
    b".snapshots",
    b"half",
    b"secret",
    b"../secret",
    b"..\0",
    b"/",
    b"/etc",
    b"a/../..",
    b"",
    b"mine",
    b"other",
    b"default",
    b"lost+found",
    b"\xff\xfe",
];
const TARGETS: [&[u8]; 6] = [b"..", b"/", b"../../secret", b"a", b".snapshots", b"/etc/passwd"];
/// Handles that it can go back to.
const KNOWN_MAX: usize = 200;
/// Where a handle says which file system it is of.
const FILE_SYSTEM: std::ops::Range<usize> = 8..24;

pub(crate) struct Traveller {
    three: Three,
    four: Client,
    root: Bytes,
    known: Vec<Bytes>,
    dice: Dice,
    pub(crate) found: u64,
    refused: u64,
    distinct: BTreeSet<Bytes>,
}

impl Traveller {
    pub(crate) fn new(mut three: Three, four: Client, seed: u64) -> Self {
        let root = three.mount("/default/mine").unwrap();
        let known = vec![root.clone()];
        let (dice, distinct) = (Dice(seed << 20), BTreeSet::new());
        Self { three, four, root, known, dice, found: 0, refused: 0, distinct }
    }

    pub(crate) fn sums(&self) -> String {
        format!(
            "{} led somewhere ({} files), {} were refused",
            self.found,
            self.distinct.len(),
            self.refused
        )
    }

    fn pick<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.dice.below(from.len())]
    }

    /// From any place that was reached, by any name.
    pub(crate) fn step(&mut self) {
        let from = self.known[self.dice.below(self.known.len())].clone();
        let name = self.pick(&NAMES);
        let found = match self.dice.below(9) {
            0 | 1 => self.three.lookup(&from, name).ok(),
            2 => self.four.find_from(&from, &[name]).ok(),
            3 => {
                let more = self.pick(&NAMES);
                self.four.find_from(&from, &[name, more]).ok()
            }
            4 => self.three.create(&from, name).ok(),
            5 => self.three.make_directory(&from, name).ok(),
            6 => {
                let target = self.pick(&TARGETS);
                self.three.symlink(&from, name, target).ok()
            }
            7 => {
                let to = self.known[self.dice.below(self.known.len())].clone();
                let new = self.pick(&NAMES);
                let status = self.three.rename((&from, name), (&to, new));
                (status == 0).then(|| self.root.clone())
            }
            _ => self.up(&from),
        };
        match found {
            Some(handle) => self.arrive(handle),
            None => self.refused += 1,
        }
    }

    /// LOOKUPP as often as it goes: past the root it leads to where one came from by name, which
    /// holds no file.
    fn up(&mut self, from: &Bytes) -> Option<Bytes> {
        let mut at = from.clone();
        for _ in 0..20 {
            match self.four.parent(&at) {
                Ok(above) if above[FILE_SYSTEM] == self.root[FILE_SYSTEM] => at = above,
                // The pseudo file system: it knows the names that lead to what one may see.
                Ok(above) => {
                    assert!(self.four.find_from(&above, &[b"secret"]).is_err());
                    let other = self.four.find_from(&above, &[b"other"]);
                    assert_eq!(other, Err(Status::NoEnt), "what is another's");
                    break;
                }
                Err(_) => break,
            }
        }
        Some(at)
    }

    fn arrive(&mut self, handle: Bytes) {
        assert_eq!(handle.len(), self.root.len());
        assert_eq!(handle[FILE_SYSTEM], self.root[FILE_SYSTEM], "a file of another file system");
        if let Ok(data) = self.three.read(&handle, 0, 100) {
            assert!(data.is_empty(), "all that there is was made empty: {data:02x?}");
        }
        self.found += 1;
        self.distinct.insert(handle.clone());
        if self.known.len() < KNOWN_MAX {
            self.known.push(handle);
        } else {
            let at = 1 + self.dice.below(KNOWN_MAX - 1);
            self.known[at] = handle;
        }
    }
}
