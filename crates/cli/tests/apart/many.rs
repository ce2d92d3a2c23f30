//! A tree with very many entries, moved from node to node. For more than a test takes:
//! `COMMONHOLD_ENTRIES=1000000`; the test says what it took.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::nfs_client::three::Three;
use super::nfs_client::{place, wire};
use super::service::Service;
use super::{Far, UID};

/// Entries of one directory.
const WIDTH: u64 = 1000;
/// Handles that a client has.
const HANDLES_MAX: u64 = 1000;
/// What a process may grow by while it passes a tree on, whatever the tree holds.
const GROWTH_BYTES_MAX: u64 = 96 << 20;

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// What a process has in memory, and the most that it has had since it was last forgotten.
fn resident_bytes(pid: u32, line: &str) -> u64 {
    let found = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = found.lines().find_map(|one| one.strip_prefix(line)?.trim().strip_suffix(" kB"));
    kib.unwrap().parse::<u64>().unwrap() << 10
}

fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

fn content(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(usize::try_from(number % 40).unwrap())
}

/// The living tree of the pool's only volume.
fn tree(pool: &Path) -> PathBuf {
    let only = |path: PathBuf| {
        let mut inside = std::fs::read_dir(path).unwrap().map(|one| one.unwrap().path());
        let one = inside.next().unwrap();
        assert!(inside.next().is_none());
        one
    };
    only(only(pool.join("volumes")).join("trees"))
}

/// Directories full of files. Every tenth file has a second name, every hundredth a symbolic link.
fn make(top: &Path, entries: u64) {
    let owned = |path: &Path| std::os::unix::fs::lchown(path, Some(UID), Some(UID)).unwrap();
    let (mut number, mut made) = (0, 0);
    while made < entries {
        let directory = top.join(format!("{:04}", number / WIDTH));
        if number % WIDTH == 0 {
            std::fs::create_dir(&directory).unwrap();
            owned(&directory);
            made += 1;
        }
        let file = directory.join(name(number));
        std::fs::File::create(&file).unwrap().write_all(&content(number)).unwrap();
        owned(&file);
        made += 1;
        if number % 10 == 0 {
            std::fs::hard_link(&file, directory.join(format!("again {number}"))).unwrap();
            made += 1;
        }
        if number % 100 == 0 {
            let link = directory.join(format!("link {number}"));
            std::os::unix::fs::symlink(name(number), &link).unwrap();
            owned(&link);
            made += 1;
        }
        number += 1;
    }
}

fn name(number: u64) -> String {
    format!("a name of usual length {number:08}")
}

/// A control plane by itself, two nodes, and a volume on the first.
fn stage() -> (Service, Far, Far) {
    let service = Service::control_plane();
    let start = |number| Far::start(tempfile::tempdir().unwrap(), "127.0.0.1:0", number);
    let (one, two) = (start(81), start(82));
    for (name, node) in [("one", &one), ("two", &two)] {
        let secret = node.home.path().join("data/node/secret");
        let secret = secret.to_str().unwrap();
        service.json(&["node", "create", name, "--address", &node.door, "--secret-file", secret]);
        let path = node.home.path().join("files");
        std::fs::create_dir_all(&path).unwrap();
        let path = path.to_str().unwrap();
        let pool = ["pool", "create", name, "--node", name, "--class", "file", "--driver"];
        service.json(&[&pool[..], &["dir", "--path", path]].concat());
        if name == "one" {
            service.json(&["volume", "create", "--kind", "file", "--size", "20g", "tree"]);
        }
    }
    (service, one, two)
}

/// Some of the files by their handles, with their numbers.
fn held(entries: u64) -> Vec<(u64, Bytes)> {
    let mut client = Three::new(wire(place::portal(81), UID));
    let root = client.mount("/default/tree").unwrap();
    // Of nine entries in ten one is a file by its first name.
    let files = entries * 8 / 10;
    let step = (files / HANDLES_MAX).max(1);
    let find = |number: u64| {
        let directory = format!("{:04}", number / WIDTH);
        let directory = client.lookup(&root, directory.as_bytes()).unwrap();
        (number, client.lookup(&directory, name(number).as_bytes()).unwrap())
    };
    (0..files).step_by(usize::try_from(step).unwrap()).map(find).collect()
}

/// Every handle leads to its file; how long one took, by the median and the longest.
fn check(number: u8, handles: &[(u64, Bytes)]) -> (Duration, Duration) {
    let mut client = Three::new(wire(place::portal(number), UID));
    let mut took = Vec::new();
    for (number, handle) in handles {
        let begun = Instant::now();
        let read = client.read(handle, 0, 1024).unwrap();
        took.push(begun.elapsed());
        assert!(read[..] == content(*number)[..], "file {number} is another one");
    }
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() - 1])
}

#[test]
fn a_tree_with_very_many_entries_moves_from_node_to_node_in_little_memory() {
    if !place::is_root() {
        return;
    }
    let entries = setting("COMMONHOLD_ENTRIES", 3000);
    let (service, one, two) = stage();
    // Ids are the file system's, so that a tree may be filled while nobody serves it; a node that
    // was killed counts anew what its volumes hold.
    let begun = Instant::now();
    let (home, listen) = one.kill();
    make(&tree(&home.path().join("files")), entries);
    let made = begun.elapsed();
    let one = Far::start(home, &listen, 81);
    let handles = held(entries);
    let here = check(81, &handles);
    let pids = [service.pid(), one.process.id(), two.process.id()];
    let before = pids.map(|pid| resident_bytes(pid, "VmRSS:"));
    pids.iter().for_each(|pid| forget_peak(*pid));
    let begun = Instant::now();
    let done = service.json(&["node", "evacuate", "one", "--force"]);
    let took = begun.elapsed();
    let peak = pids.map(|pid| resident_bytes(pid, "VmHWM:"));
    assert_eq!(done["state"], "succeeded", "{done}\n{}", service.log());
    let first = check(82, &handles);
    let again = check(82, &handles);
    let grown = |at: usize| peak[at].saturating_sub(before[at]);
    let mib = |bytes: u64| bytes >> 20;
    eprintln!(
        "{entries} entries, made in {made:?}, moved in {took:?}. Memory before and at the peak: \
         control plane {} and {} MiB, source {} and {} MiB, destination {} and {} MiB. A read by \
         its handle, median and longest: at the source {here:?}, at the destination {first:?}, \
         again {again:?}",
        mib(before[0]),
        mib(peak[0]),
        mib(before[1]),
        mib(peak[1]),
        mib(before[2]),
        mib(peak[2])
    );
    for (at, who) in ["control plane", "source", "destination"].into_iter().enumerate() {
        assert!(grown(at) < GROWTH_BYTES_MAX, "the {who} grew by {} MiB", mib(grown(at)));
    }
}
