//! Multipath devices, by the programs of multipath-tools and of the device mapper. multipathd is
//! never stopped, and its maps are never suspended.

use std::path::Path;
use std::time::Duration;

use env::multipath::{BLOCKS, Map, Mapped};
use env::whole;

use super::programs::call;
use crate::guard::gate_path_of;

const LIMIT: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// How often a map, or a gate, that is still in use is taken away; udev looks at what comes.
const TRIES: u32 = 5;
const BETWEEN: Duration = Duration::from_secs(1);

/// Why several sessions would be no use on this machine, if they would not be.
pub(super) async fn trouble() -> Option<String> {
    for (program, package) in [("multipathd", "multipath-tools"), ("dmsetup", "dmsetup")] {
        if !whole::is_program(program) {
            return Some(format!("this host has no '{program}'; install {package}"));
        }
    }
    let answer = call(&["multipathd", "show", "daemon"], LIMIT).await;
    answer.err().map(|why| format!("multipathd does not answer here ({why})"))
}

/// The map above these disks, with all of them below it if that comes about in time.
pub(super) async fn appears(disks: &[String], patience: Duration) -> Option<Map> {
    let names = || disks.iter().map(String::as_str);
    let whole = |map: &Map| names().all(|disk| map.has(disk));
    let there = async {
        while !Map::above(names()).as_ref().is_some_and(whole) {
            tokio::time::sleep(LOOK).await;
        }
    };
    // One that has some of them below it is one, too.
    let _ = tokio::time::timeout(patience, there).await;
    Map::above(names())
}

/// The volume has grown, and so have the disks below the map.
pub(super) async fn resize(name: &str) -> Result<(), String> {
    let said = call(&["multipathd", "resize", "map", name], LIMIT).await?;
    match said.trim() {
        "ok" | "" => Ok(()),
        other => Err(format!("multipathd resize map {name}: {other}")),
    }
}

/// Take the map away, and before it what a guard has left above it.
///
/// # Errors
/// Something still uses it.
pub(super) async fn flush(name: &str) -> Result<(), String> {
    let map = Path::new("/dev/mapper").join(name);
    if let Ok(Some(map)) = Map::of(&map) {
        remove_gate(Path::new(&gate_path_of(&map))).await?;
    }
    remove(name, &["multipath", "-f", name]).await
}

/// Take away what a run that is over has left of its gate.
///
/// # Errors
/// Something still uses it.
pub(super) async fn remove_gate(gate: &Path) -> Result<(), String> {
    match name_of(gate) {
        Some(name) => remove(name, &["dmsetup", "remove", name]).await,
        None => Ok(()),
    }
}

fn name_of(device: &Path) -> Option<&str> {
    device.file_name().and_then(|name| name.to_str())
}

async fn remove(name: &str, line: &[&str]) -> Result<(), String> {
    let mut last = Ok(());
    for _ in 0..TRIES {
        if !is_there(name) {
            return Ok(());
        }
        last = call(line, LIMIT).await.map(drop);
        if is_there(name) {
            tokio::time::sleep(BETWEEN).await;
        }
    }
    match is_there(name) {
        false => Ok(()),
        true => last.and(Err(format!("{name} is still there"))),
    }
}

/// Whether there is a map of this name that has no disks below it any more.
pub(super) fn is_orphan(name: &str) -> bool {
    let map = Map::of(&Path::new("/dev/mapper").join(name)).ok().flatten();
    map.is_some_and(|map| map.disks().is_ok_and(|disks| disks.is_empty()))
}

/// Whether the device mapper has this device; also where that cannot be told.
pub(super) fn is_device(path: &Path) -> bool {
    name_of(path).is_none_or(is_there)
}

fn is_there(name: &str) -> bool {
    !matches!(Mapped::named(Path::new(BLOCKS), name), Ok(None))
}
