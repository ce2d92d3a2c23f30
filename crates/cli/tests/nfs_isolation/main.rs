//! Nobody reaches what is not exported to it: by a guessed, forged or foreign handle, by `..`, by
//! symlinks, by the paths of snapshots, from an address outside of the rules. Versions 3 and 4.1,
//! against the real binary.
//!
//! `COMMONHOLD_NFS_WALKS` says how many random steps are made, `COMMONHOLD_NFS_SEED` which.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

#[path = "../kill_nine/dice.rs"]
mod dice;
#[path = "../nfs_client/mod.rs"]
mod nfs_client;
#[path = "../service/mod.rs"]
mod service;

mod traveller;

use std::net::SocketAddr;

use bytes::Bytes;
use host::files::Wire;
use nfs::v4::Status;
use nfs::xdr::Writer;

use nfs_client::place;
use nfs_client::session::Client;
use nfs_client::three::{self, Three};
use service::Service;
use traveller::Traveller;

const UID: u32 = 1000;
/// `nfsstat3` and `mountstat3`.
const ACCES: u32 = 13;
const NOENT: u32 = 2;
const BADHANDLE: u32 = 10_001;
const STALE: u32 = 70;
/// Where a handle names its volume.
const VOLUME: std::ops::Range<usize> = 8..24;

/// A service with the volumes `mine`, open to loopback, and `other`, open to an address that is
/// not there; beside their trees lies a file that nobody may see.
struct World {
    service: Service,
    portal: SocketAddr,
}

impl World {
    fn start(number: u8) -> Option<Self> {
        if !place::is_root() {
            return None;
        }
        let portal = place::portal(number);
        let home = tempfile::tempdir().unwrap();
        let service = Service::start_in(home, &["--nfs-portals", &portal.to_string()]);
        place::make_pool(&service);
        let network = ["network", "update", "default", "--client", "127.0.0.0/8"];
        service.json(&network);
        let create = ["volume", "create", "--kind", "file", "--size", "64m"];
        service.json(&[&create[..], &["mine", "--access", "127.0.0.1,rw"]].concat());
        service.json(&[&create[..], &["other", "--access", "127.77.0.1,rw"]].concat());
        std::fs::write(service.path("files").join("secret"), "nobody may see this").unwrap();
        Some(Self { service, portal })
    }
    fn wire(&self) -> Wire {
        nfs_client::wire(self.portal, UID)
    }
    fn three(&self) -> Three {
        Three::new(self.wire())
    }
    /// One whom no rule knows, though its network does.
    fn stranger(&self) -> Wire {
        self.wire().from(place::stranger())
    }
    /// One whom the rules of `other` know.
    fn neighbour(&self) -> Wire {
        self.wire().from([127, 77, 0, 1].into())
    }
}

#[test]
fn who_is_outside_of_the_rules_gets_nothing() {
    let Some(world) = World::start(2) else { return };
    let mut inside = world.three();
    let root = inside.mount("/default/mine").unwrap();
    let file = inside.create(&root, b"file").unwrap();
    // Each has a volume, and sees that one alone; what the other was given is of no use to it.
    assert_eq!(inside.mount("/default/other"), Err(ACCES));
    let mut outside = Three::new(world.neighbour());
    assert!(outside.mount("/default/other").is_ok());
    assert_eq!(outside.mount("/default/mine"), Err(ACCES));
    assert_eq!(outside.read(&file, 0, 10), Err(ACCES));
    assert_eq!(outside.try_write(&file), ACCES);
    assert_eq!(outside.lookup(&root, b"file"), Err(ACCES));
    assert_eq!(outside.create(&root, b"more"), Err(ACCES));
    assert_eq!(outside.remove(&root, b"file"), ACCES);
    let mut four = Client::new(world.neighbour(), "neighbour");
    assert!(four.find(&["default", "other"]).is_ok());
    assert_eq!(four.find(&["default", "mine"]), Err(Status::NoEnt));
    assert_eq!(four.enter(&root), Status::Access);
    assert_eq!(four.find_from(&root, &[b"file"]), Err(Status::Access));
}

#[test]
fn whom_no_rule_knows_is_told_so_and_nothing_else() {
    let Some(world) = World::start(3) else { return };
    let null = (100_003, 3, 0);
    let outside = |wire: fn(&World) -> Wire| {
        let mut three = Three::new(wire(&world));
        // What is there and what is not are told alike.
        assert_eq!(three.mount("/default/mine"), Err(ACCES));
        assert_eq!(three.mount("/default/none"), Err(ACCES));
        for call in [(100_005, 3, 5), (100_003, 3, 1), (100_003, 4, 1)] {
            let denied = wire(&world).call(call, Writer::default()).unwrap_err().to_string();
            assert!(denied.contains("BadCred"), "{call:?}: {denied}");
        }
    };
    // In the network, but in the rules of no volume.
    outside(World::stranger);
    // In the rules of a volume, but no more in its network, from the change on.
    let mut neighbour = world.neighbour();
    assert!(neighbour.call(null, Writer::default()).is_ok());
    let root = Three::new(world.neighbour()).mount("/default/other").unwrap();
    world.service.json(&["network", "update", "default", "--client", "127.0.0.1"]);
    outside(World::neighbour);
    // Nor is it served on the connection that it has.
    let (status, _) = Three::new(neighbour).call(3, &three::named(&root, b"file"));
    assert_eq!(status, ACCES);
    assert!(world.wire().call(null, Writer::default()).is_ok());
}

#[test]
fn no_handle_is_guessed_or_forged() {
    let Some(world) = World::start(4) else { return };
    let (mut three, mut four) = (world.three(), Client::new(world.wire(), "forger"));
    let root = three.mount("/default/mine").unwrap();
    let foreign = Three::new(world.neighbour()).mount("/default/other").unwrap();
    let mut forged: Vec<Bytes> = (0..root.len() * 8)
        .map(|bit| {
            let mut handle = root.to_vec();
            handle[bit / 8] ^= 1 << (bit % 8);
            handle.into()
        })
        .collect();
    // The middle of one with the signature of the other; and lengths that are none.
    forged.push([&foreign[..40], &root[40..]].concat().into());
    forged.push([&root[..40], &foreign[40..]].concat().into());
    forged.extend([Bytes::new(), root.slice(..55), Bytes::from(vec![0; 56])]);
    for handle in forged {
        // Each volume has a key of its own: what names none that is here is as that of a deleted one.
        let names = |volume: &Bytes| handle.get(VOLUME) == volume.get(VOLUME);
        let is_of_form = handle.len() == root.len() && handle[0] == root[0];
        let is_of_none = is_of_form && !names(&root) && !names(&foreign);
        let (three_says, four_says) =
            if is_of_none { (STALE, Status::Stale) } else { (BADHANDLE, Status::BadHandle) };
        assert_eq!(three.lookup(&handle, b"x"), Err(three_says), "{handle:02x?}");
        assert_eq!(four.enter(&handle), four_says, "{handle:02x?}");
    }
    assert_eq!(three.lookup(&foreign, b"x"), Err(ACCES));
    assert_eq!(four.enter(&foreign), Status::Access);
    // What is gone is gone, though its number may be another's soon.
    let file = three.create(&root, b"file").unwrap();
    assert_eq!(three.remove(&root, b"file"), 0);
    let (next, gone) = (three.create(&root, b"file").unwrap(), three.read(&file, 0, 1));
    assert_eq!(gone, Err(STALE));
    assert_ne!(next, file);
    assert_eq!(four.enter(&file), Status::Ok, "PUTFH looks at no file");
    assert_eq!(four.find_from(&file, &[b"x"]), Err(Status::Stale));
    world.service.json(&["volume", "delete", "mine", "--force"]);
    assert_eq!(three.lookup(&root, b"file"), Err(STALE));
}

#[test]
fn no_name_leads_out_of_a_volume() {
    let Some(world) = World::start(5) else { return };
    let (mut three, mut four) = (world.three(), Client::new(world.wire(), "walker"));
    let root = three.mount("/default/mine").unwrap();
    for path in ["/default/mine/..", "/default/mine/../other", "/default/../..", "/", "/default"] {
        let mounted = three.mount(path);
        assert!(mounted.is_err(), "{path}: {mounted:?}");
    }
    // Above the root is the root, in version 3, and what leads to it, in version 4.
    assert_eq!(three.lookup(&root, b"..").unwrap(), root);
    for name in [&b".."[..], b".", b"a/b", b"../secret", b"", b"/", b"a\0b"] {
        let found = four.find_from(&root, &[name]);
        assert!(found.is_err(), "{name:?}: {found:?}");
        if !matches!(name, b".." | b".") {
            assert!(three.lookup(&root, name).is_err(), "{name:?}");
        }
        assert!(three.create(&root, name).is_err(), "{name:?}");
    }
    let targets = ["/etc", "..", "../secret", "../../../../../../../../etc/passwd", "/"];
    for (number, target) in targets.iter().enumerate() {
        let name = format!("link{number}");
        let link = three.symlink(&root, name.as_bytes(), target.as_bytes()).unwrap();
        // It is a symlink, whatever it says: not walked, not read, not written.
        let inside = four.find_from(&root, &[name.as_bytes(), b"passwd"]);
        assert!(matches!(inside, Err(Status::Symlink | Status::NotDir)), "{inside:?}");
        assert!(three.lookup(&link, b"passwd").is_err());
        assert!(three.read(&link, 0, 10).is_err());
        assert!(three.create(&link, b"new").is_err());
        let mounted = three.mount(&format!("/default/mine/{name}"));
        assert!(mounted.is_err(), "{mounted:?}");
    }
}

#[test]
fn snapshots_lead_to_themselves_alone() {
    let Some(world) = World::start(6) else { return };
    let (mut three, mut four) = (world.three(), Client::new(world.wire(), "browser"));
    let root = three.mount("/default/mine").unwrap();
    three.create(&root, b"file").unwrap();
    world.service.json(&["snapshot", "create", "mine", "first"]);
    let snapshots = three.lookup(&root, b".snapshots").unwrap();
    let first = three.lookup(&snapshots, b"first").unwrap();
    let file = three.lookup(&first, b"file").unwrap();
    for name in [&b"second"[..], b"../mine", b"first/..", b"", b".snapshots"] {
        assert!(three.lookup(&snapshots, name).is_err(), "{name:?}");
        assert!(four.find_from(&snapshots, &[name]).is_err(), "{name:?}");
    }
    // Up from a snapshot is where one came from.
    assert_eq!(three.lookup(&first, b"..").unwrap(), snapshots);
    assert_eq!(three.lookup(&snapshots, b"..").unwrap(), root);
    // Nothing is made, moved or written there.
    for directory in [&snapshots, &first] {
        assert!(three.create(directory, b"new").is_err());
        assert_ne!(three.remove(directory, b"file"), 0);
        assert_ne!(three.remove(directory, b"first"), 0);
    }
    assert_ne!(three.try_write(&file), 0);
    let mut outside = Three::new(world.neighbour());
    for handle in [&snapshots, &first] {
        assert_eq!(outside.lookup(handle, b"file"), Err(ACCES));
    }
    world.service.json(&["snapshot", "delete", "first"]);
    assert_eq!(three.lookup(&snapshots, b"first"), Err(NOENT));
    assert!(three.read(&file, 0, 1).is_err(), "a file of a snapshot that is gone");
}

#[test]
fn random_walks_stay_in_the_volume() {
    let Some(world) = World::start(7) else { return };
    let setting = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap())
    };
    let steps = setting("COMMONHOLD_NFS_WALKS", 1500);
    let seed = setting("COMMONHOLD_NFS_SEED", 1);
    let pool = world.service.path("files");
    let mut traveller = Traveller::new(world.three(), Client::new(world.wire(), "traveller"), seed);
    for step in 0..steps {
        if step == steps / 2 {
            world.service.json(&["snapshot", "create", "mine", "half"]);
        }
        traveller.step();
    }
    println!("seed {seed}: {steps} steps, {}", traveller.sums());
    assert_eq!(std::fs::read_to_string(pool.join("secret")).unwrap(), "nobody may see this");
    assert!(traveller.found > steps / 20, "it went nowhere: {}", traveller.sums());
}
