//! Names that change in many directories at once.

use std::sync::mpsc;
use std::time::Duration;

use model::file::{Creation, FileError, FileId, FileStore, New, Removal, SetAttributes};
use store::files::FileVolume;

use crate::homes::{Home, MIB, create, make_directory, names, user, volume_id};

const THREADS: u64 = 8;
const STEPS: u64 = 150;
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes directories in each other, fills them, links between them, moves them, takes them away;
/// what is refused is refused because somebody else was faster.
fn step(volume: &FileVolume, top: FileId, dice: u64) -> Result<(), FileError> {
    let who = user(0);
    let find = |at, name: &str| volume.lookup(&who, at, name.as_bytes()).map(|found| found.file);
    let (outer, inner) = (format!("d{}", dice % 3), format!("e{}", dice / 3 % 3));
    let set = SetAttributes::default();
    match dice / 9 % 8 {
        0 => {
            volume.make(&who, top, outer.as_bytes(), &New::Directory, &set)?;
        }
        1 => {
            let at = find(top, &outer)?;
            volume.make(&who, at, inner.as_bytes(), &New::Directory, &set)?;
        }
        2 => {
            let at = find(find(top, &outer)?, &inner)?;
            volume.create(&who, at, b"f", &Creation::Unchecked(set))?;
        }
        3 => {
            let at = find(find(top, &outer)?, &inner)?;
            let other = find(top, &format!("d{}", (dice + 1) % 3))?;
            volume.link(&who, find(at, "f")?, other, format!("l{}", dice % 5).as_bytes())?;
        }
        4 => {
            let at = find(find(top, &outer)?, &inner)?;
            volume.remove(&who, at, b"f", Removal::File)?;
        }
        5 => {
            volume.remove(&who, find(top, &outer)?, inner.as_bytes(), Removal::Directory)?;
        }
        6 => {
            let (from, to) = (find(top, &outer)?, find(top, &format!("d{}", (dice + 1) % 3))?);
            volume.rename(&who, (from, inner.as_bytes()), (to, inner.as_bytes()))?;
        }
        _ => {
            let at = find(top, &outer)?;
            volume.remove(&who, at, format!("l{}", dice % 5).as_bytes(), Removal::File)?;
        }
    }
    Ok(())
}

fn count(volume: &FileVolume, directory: FileId) -> u64 {
    let below = |name: String| {
        let found = volume.lookup(&user(0), directory, name.as_bytes()).unwrap();
        match found.kind {
            model::file::FileKind::Directory => 1 + count(volume, found.file),
            _ => 0,
        }
    };
    names(volume, &user(0), directory).into_iter().map(below).sum()
}

#[test]
fn nobody_waits_in_a_circle_and_the_count_is_right() {
    for mut home in Home::all() {
        let volume = home.volume(1, 64 * MIB);
        let top = make_directory(&volume, &user(0), volume.root(), "top");
        let (done, all) = mpsc::channel();
        for thread in 0..THREADS {
            let (volume, done) = (volume.clone(), done.clone());
            std::thread::spawn(move || {
                let mut dice = thread + 1;
                let mut made = 0;
                for _ in 0..STEPS {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    made += u32::from(step(&volume, top, dice >> 33).is_ok());
                }
                done.send(made).unwrap();
            });
        }
        let waits = |_| all.recv_timeout(PATIENCE).expect("threads wait for each other");
        let succeeded: u32 = (0..THREADS).map(waits).sum();
        assert!(succeeded > 50, "hardly anything was done: {succeeded}");
        create(&volume, &user(0), top, "last");
        let (before, directories) = (volume.usage().unwrap(), count(&volume, volume.root()));
        assert!(directories > 1);
        drop(volume);
        home.reopen_killed();
        let volume = home.pool().volume(volume_id(1)).unwrap();
        volume.recount().unwrap();
        assert_eq!(volume.usage().unwrap().inodes_used, before.inodes_used);
        assert_eq!(count(&volume, volume.root()), directories);
    }
}
