//! The power is cut under a file system with file volumes on it, at moments that chance chooses:
//! what clients were answered must be there afterwards.
//!
//! The disk below keeps what was flushed, and any part of what was not ([`disk`]). The kernel's file
//! system is mounted on what is left, replays its journal, the pool is opened, and each client's
//! ledger is compared with its files. In every test run a few cuts; for more:
//! `COMMONHOLD_POWER_CUTS=200`, with `COMMONHOLD_SEED` for another run.

mod disk;
mod ledger;
mod load;

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::export::Durability;
use model::pool::Driver;
use model::size::ByteSize;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::files::FileVolume;

use crate::homes::{Home, MIB, Mounted, setting, volume_id};
use disk::Disk;
use ledger::{Ledger, Moment};
use load::Client;

const CLIENTS: usize = 4;
const CUTS: u64 = 3;
const CUTS_OF_ONE_MAX: u64 = 25;
const VOLUME_BYTES: u64 = 64 * MIB;

/// Writes an image to a file, holes for what is zero.
fn save(image: &[u8], path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    file.set_len(image.len() as u64).unwrap();
    for (at, piece) in image.chunks(64 << 10).enumerate() {
        if piece.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start((at as u64) << 16)).unwrap();
            file.write_all(piece).unwrap();
        }
    }
}

/// An empty file system, as mkfs leaves it.
fn formatted(kind: Kind) -> Result<Vec<u8>, String> {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(kind.bytes).unwrap();
    let arguments = [kind.arguments, &[image.to_str().unwrap()]].concat();
    crate::homes::run(kind.mkfs, &arguments)?;
    Ok(std::fs::read(&image).unwrap())
}

/// What is left of a volume after a cut: everything that each client was promised.
fn examine(image: &[u8], kind: Kind, clients: &[(&Ledger, Moment)]) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("image");
    save(image, &file);
    let mounted = Mounted::new(&file, &directory.path().join("mounted"), kind.copy_options)?;
    let home = Home::on(directory, mounted, kind.driver).ok_or("no pool can be here")?;
    let volume = home.pool().volume(volume_id(1)).map_err(|why| why.to_string())?;
    for (number, (ledger, moment)) in clients.iter().enumerate() {
        let found = load::found(&volume, number);
        ledger.check(*moment, &found).map_err(|why| format!("client {number}: {why}"))?;
    }
    let bound = volume.usage().map_err(|why| why.to_string())?.used;
    volume.recount().map_err(|why| why.to_string())?;
    let counted = volume.usage().map_err(|why| why.to_string())?.used;
    if counted > bound {
        return Err(format!("{counted} are used, and the bound was {bound}"));
    }
    // No tree is left over of snapshots that were being made or removed.
    let trees = home.path().join("volumes").join(volume_id(1).to_string()).join("trees");
    let trees = std::fs::read_dir(trees).unwrap().count();
    let snapshots = volume.snapshots().map_err(|why| why.to_string())?.len();
    if trees != snapshots + 1 {
        return Err(format!("{trees} trees for {snapshots} snapshots"));
    }
    home.pool().sweep().map_err(|why| why.to_string())
}

/// A file system to be cut.
#[derive(Clone, Copy)]
struct Kind {
    mkfs: &'static str,
    /// Blocks are those of the clients' writes: what they write is there whole or not at all.
    arguments: &'static [&'static str],
    driver: Driver,
    bytes: u64,
    /// To mount a copy beside the original.
    copy_options: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        mkfs: "mkfs.ext4",
        arguments: &["-q", "-b", "4096"],
        driver: Driver::Dir,
        bytes: 96 * MIB,
        copy_options: "",
    },
    Kind {
        mkfs: "mkfs.btrfs",
        arguments: &["-q"],
        driver: Driver::Btrfs,
        bytes: 160 * MIB,
        copy_options: "",
    },
    Kind {
        mkfs: "mkfs.xfs",
        arguments: &["-q"],
        driver: Driver::Dir,
        bytes: 320 * MIB,
        copy_options: ",nouuid",
    },
];

/// Why cuts came to no good end.
enum Ended {
    /// No such file system, FUSE, loop device or root here.
    NotHere(String),
    Broken(String),
}

struct Cut {
    image: Vec<u8>,
    moments: Vec<Moment>,
}

fn cut(disk: &Disk, ledgers: &[Ledger], random: &mut StdRng) -> Cut {
    std::thread::sleep(Duration::from_millis(random.random_range(1..80)));
    let before: Vec<_> = ledgers.iter().map(Ledger::now).collect();
    let image = disk.cut(random);
    let after = ledgers.iter().map(Ledger::now);
    let moments = before.into_iter().zip(after).map(|(before, after)| before.until(after));
    Cut { image, moments: moments.collect() }
}

/// Cuts the power under a load, several times. Says how many answers were promises.
fn cuts(kind: Kind, durability: Durability, seed: u64, count: u64) -> Result<u64, Ended> {
    let missing = |why: String| Ended::NotHere(why);
    let mut random = StdRng::seed_from_u64(seed);
    let (below, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Disk::new(formatted(kind).map_err(missing)?);
    let served = disk.serve(below.path()).map_err(|why| missing(format!("FUSE: {why}")))?;
    let (image, at) = (below.path().join(disk::NAME), directory.path().join("mounted"));
    let mounted = Mounted::new(&image, &at, "").map_err(missing)?;
    let home = Home::on(directory, mounted, kind.driver);
    let home = home.ok_or_else(|| missing("no pool can be here".to_owned()))?;
    let (pool, size) = (home.pool(), ByteSize(VOLUME_BYTES));
    let volume: FileVolume = pool.create_volume(volume_id(1), size, durability).unwrap();
    let ledgers: Vec<_> = (0..=CLIENTS).map(|_| Ledger::new()).collect();
    let stop = AtomicBool::new(false);
    let mut failed = None;
    std::thread::scope(|scope| {
        for (number, ledger) in ledgers[..CLIENTS].iter().enumerate() {
            let mut client = Client::new(&volume, number, ledger, seed);
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    client.step();
                }
            });
        }
        scope.spawn(|| load::snapshots(pool, &volume, &ledgers[CLIENTS], &stop));
        for number in 0..count {
            let Cut { image, moments } = cut(&disk, &ledgers, &mut random);
            let clients: Vec<_> = ledgers.iter().zip(moments).collect();
            if let Err(why) = examine(&image, kind, &clients) {
                failed = Some(format!("{}, seed {seed}, cut {number}: {why}", kind.mkfs));
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let answers = ledgers.iter().map(|ledger| ledger.now().steps() as u64).sum();
    eprintln!("{}: {count} cuts, {answers} answers, {} flushes", kind.mkfs, disk.flushes());
    drop((volume, home, served));
    failed.map_or(Ok(answers), |why| Err(Ended::Broken(why)))
}

#[test]
fn what_was_answered_is_there_after_a_power_cut() {
    let (count, seed) = (setting("COMMONHOLD_POWER_CUTS", CUTS), setting("COMMONHOLD_SEED", 1));
    for kind in KINDS {
        // A file system is made anew now and then, so that young ones are cut too.
        let rounds = count.div_ceil(CUTS_OF_ONE_MAX);
        for round in 0..rounds {
            let some = CUTS_OF_ONE_MAX.min(count - round * CUTS_OF_ONE_MAX);
            match cuts(kind, Durability::Strict, seed + round, some) {
                Ok(answers) => assert!(answers > 20, "{}: only {answers} answers", kind.mkfs),
                Err(Ended::Broken(why)) => panic!("{why}"),
                Err(Ended::NotHere(why)) => {
                    eprintln!("skipped: {why}");
                    break;
                }
            }
        }
    }
}

/// The test of the test: a volume that promises less is found out.
#[test]
fn a_volume_of_relaxed_durability_loses_answers_in_a_power_cut() {
    for kind in KINDS {
        match cuts(kind, Durability::Relaxed, 1, 20) {
            Ok(answers) => panic!("{}: none of {answers} answers was lost", kind.mkfs),
            Err(Ended::Broken(why)) => assert!(why.contains("client"), "{why}"),
            Err(Ended::NotHere(why)) => eprintln!("skipped: {why}"),
        }
    }
}
