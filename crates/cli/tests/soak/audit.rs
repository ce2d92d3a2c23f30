//! An independent reader of a pool's directory, by docs/formats/store.md: what lies there must be
//! what the catalog says, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const MAGIC: &[u8] = b"CMHDREC\n";
const HEADER: usize = 32;

/// What a pool's directory holds.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Volume id to the ids of its snapshots.
    pub(crate) volumes: BTreeMap<String, BTreeSet<String>>,
    /// What is there and must not stay, as sentences.
    pub(crate) left_over: Vec<String>,
    pub(crate) files: usize,
}

struct Layer {
    parent: u64,
    files: u64,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |word| u64::from_be_bytes(word.try_into().unwrap()))
}

/// The payload of the valid slot with the highest sequence. Checksums are the store's business.
fn payload(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    let slots = bytes.chunks(bytes.len().max(2) / 2).filter(|slot| slot.starts_with(MAGIC));
    let slot = slots.max_by_key(|slot| number(slot, 16))?;
    let length = u32::from_be_bytes(slot.get(12..16)?.try_into().unwrap());
    Some(slot.get(HEADER..HEADER + usize::try_from(length).ok()?)?.to_vec())
}

/// File names of a directory without this ending.
fn names(directory: &Path, ending: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect()
}

fn uuid(bytes: &[u8]) -> String {
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let cuts = [0..4, 4..6, 6..8, 8..10, 10..16];
    cuts.map(|cut| hex(&bytes[cut])).join("-")
}

/// Read a pool at rest. `None` while a record cannot be read, as during a change.
pub(crate) fn read(pool: &Path) -> Option<Pool> {
    let mut layers = BTreeMap::new();
    for name in names(&pool.join("layers"), ".rec") {
        let bytes = payload(&pool.join("layers").join(format!("{name}.rec")))?;
        let layer = Layer { parent: number(&bytes, 0), files: number(&bytes, 8) };
        layers.insert(u64::from_str_radix(&name, 16).ok()?, layer);
    }
    let mut volumes = BTreeMap::new();
    let mut named = BTreeSet::new();
    for name in names(&pool.join("volumes"), ".rec") {
        let bytes = payload(&pool.join("volumes").join(format!("{name}.rec")))?;
        named.insert(number(&bytes, 8));
        let snapshots = bytes.get(20..)?.chunks_exact(32);
        named.extend(snapshots.clone().map(|snapshot| number(snapshot, 16)));
        volumes.insert(name, snapshots.map(uuid).collect());
    }
    let mut left_over = structure(&layers, &named);
    left_over.extend(stray_files(pool, &layers, &volumes));
    let count = |word: &str| names(&pool.join(word), "").len();
    let files = count("layers") + count("volumes") + count("reservations");
    Some(Pool { volumes, left_over, files })
}

/// Layers that nothing stands on, and layers that are to be merged away.
fn structure(layers: &BTreeMap<u64, Layer>, named: &BTreeSet<u64>) -> Vec<String> {
    let mut reached = BTreeSet::new();
    for head in named {
        let mut at = *head;
        while at != 0 && reached.insert(at) {
            at = layers.get(&at).map_or(0, |layer| layer.parent);
        }
    }
    let missing = reached.iter().filter(|at| !layers.contains_key(at));
    let mut found: Vec<String> = missing.map(|at| format!("layer {at:x} is missing")).collect();
    for at in layers.keys() {
        let children = layers.values().filter(|layer| layer.parent == *at).count();
        if !reached.contains(at) {
            found.push(format!("layer {at:x} belongs to nothing"));
        } else if !named.contains(at) && children == 1 {
            found.push(format!("layer {at:x} is not merged"));
        }
    }
    found
}

fn stray_files(
    pool: &Path,
    layers: &BTreeMap<u64, Layer>,
    volumes: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let files: BTreeSet<String> =
        layers.values().map(|layer| format!("{:016x}", layer.files)).collect();
    let mapped = layers.values().filter(|layer| layer.parent != 0);
    let mapped: BTreeSet<String> = mapped.map(|layer| format!("{:016x}", layer.files)).collect();
    let wanted: BTreeSet<String> = volumes.keys().cloned().collect();
    let mut found = Vec::new();
    for (directory, ending, wanted) in [
        ("layers", ".data", &files),
        ("layers", ".map", &mapped),
        ("layers", ".tmp", &BTreeSet::new()),
        ("volumes", ".tmp", &BTreeSet::new()),
        ("reservations", ".tmp", &BTreeSet::new()),
        ("reservations", ".rec", &wanted),
    ] {
        let there = names(&pool.join(directory), ending);
        found.extend(there.symmetric_difference(wanted).map(|name| {
            let word = if there.contains(name) { "left over" } else { "missing" };
            format!("{directory}/{name}{ending} is {word}")
        }));
    }
    found
}
