//! Two daemons on loopback, a control plane with a node and a node of its own: a file volume is
//! written on one, evacuated to the other, and read there by the handles that clients had.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

#[path = "../nfs_client/mod.rs"]
mod nfs_client;
#[path = "../service/mod.rs"]
mod service;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nfs::v3::messages::StableHow;
use nfs_client::three::Three;
use nfs_client::{place, wire};
use service::Service;

/// Who the clients are: not root, who would be squashed.
const UID: u32 = 1000;
const FILES: u64 = 40;
const FILE_BYTES: u64 = 512 << 10;

/// `commonhold serve --role node`, killed when dropped.
struct Far {
    process: Child,
    home: tempfile::TempDir,
    door: String,
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Far {
    fn start(home: tempfile::TempDir, listen: &str, number: u8) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_commonhold"))
            .args(["serve", "--role", "node", "--listen", listen, "--portals", "127.0.0.1:0"])
            .args(["--nfs-portals", &place::portal(number).to_string(), "--data"])
            .arg(home.path().join("data"))
            .env("XDG_CONFIG_HOME", home.path())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(home.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut door = String::new();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            let (word, value) = line.split_once(' ').unwrap();
            if word == "door" {
                door = value.trim().to_owned();
            }
            if word == "files" {
                break;
            }
        }
        assert!(door.starts_with("http://"), "{}", log(&home));
        Self { process, home, door }
    }

    /// kill -9, and start again where it was.
    fn crash(mut self, number: u8) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let listen = self.door.strip_prefix("http://").unwrap().to_owned();
        let home = std::mem::replace(&mut self.home, tempfile::tempdir().unwrap());
        Self::start(home, &listen, number)
    }
}

fn log(home: &tempfile::TempDir) -> String {
    std::fs::read_to_string(home.path().join("log")).unwrap_or_default()
}

/// The first daemon with a pool and a volume, and the second one with a pool that can take it.
fn stage(numbers: (u8, u8)) -> (Service, Far) {
    let portal = place::portal(numbers.0).to_string();
    let home = tempfile::tempdir().unwrap();
    let service = Service::start_in(home, &["--nfs-portals", &portal]);
    place::make_pool(&service);
    service.json(&["volume", "create", "--kind", "file", "--size", "1g", "tree"]);
    let far = Far::start(tempfile::tempdir().unwrap(), "127.0.0.1:0", numbers.1);
    let secret = far.home.path().join("data/node/secret");
    let secret = secret.to_str().unwrap();
    service.json(&["node", "create", "far", "--address", &far.door, "--secret-file", secret]);
    let path = far.home.path().join("files");
    std::fs::create_dir_all(&path).unwrap();
    let path = path.to_str().unwrap();
    let pool = ["pool", "create", "far-files", "--node", "far", "--class", "file", "--driver"];
    service.json(&[&pool[..], &["dir", "--path", path]].concat());
    (service, far)
}

fn content(number: u64) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..FILE_BYTES / 8).flat_map(|_| next()).collect::<Vec<u8>>().into()
}

/// Files with content, by their handles.
fn fill(number: u8) -> Vec<Bytes> {
    let mut client = Three::new(wire(place::portal(number), UID));
    let root = client.mount("/default/tree").unwrap();
    let file = |client: &mut Three, number: u64| {
        let file = client.create(&root, format!("f{number}").as_bytes()).unwrap();
        client.write(&file, 0, StableHow::FileSync, &content(number));
        file
    };
    (0..FILES).map(|number| file(&mut client, number)).collect()
}

/// Every file has its content, by the handle that it had when it was made.
fn check(number: u8, handles: &[Bytes]) {
    let mut client = Three::new(wire(place::portal(number), UID));
    for (number, handle) in (0..).zip(handles) {
        let mut read = Vec::new();
        while (read.len() as u64) < FILE_BYTES {
            let piece = client.read(handle, read.len() as u64, 64 << 10).unwrap();
            assert!(!piece.is_empty(), "file {number} ends at {}", read.len());
            read.extend_from_slice(&piece);
        }
        assert!(read == content(number), "file {number} is another one");
    }
}

fn lies_in(service: &Service) -> String {
    service.json(&["volume", "show", "tree"])["pool"].as_str().unwrap().to_owned()
}

#[test]
fn an_evacuated_volume_is_read_by_its_old_handles_and_outlives_its_first_node() {
    if !place::is_root() {
        return;
    }
    let (service, far) = stage((71, 72));
    let handles = fill(71);
    check(71, &handles);
    let nodes = service.json(&["node", "list"]);
    let first = nodes.as_array().unwrap().iter().find(|node| node["name"] != "far").unwrap();
    let first = first["id"].as_str().unwrap().to_owned();
    // The client that has just written counts as one that has it mounted.
    let (code, said) = service.refused(&["node", "evacuate", &first]);
    assert!(code == 1 || said.contains("mounted"), "{code}: {said}");
    assert!(said.contains("'tree'"), "{said}");
    let begun = Instant::now();
    let done = service.json(&["node", "evacuate", &first, "--force"]);
    assert_eq!(done["state"], "succeeded", "{done}\n{}\n{}", service.log(), log(&far.home));
    eprintln!("evacuated {} MiB in {:?}", (FILES * FILE_BYTES) >> 20, begun.elapsed());
    assert_eq!(lies_in(&service), "far-files");
    let shown = service.json(&["export", "show", "tree"]);
    let resource = format!("nfs://{}/default/tree", place::portal(72).ip());
    assert_eq!(shown["resources"][0], resource, "{shown}");
    check(72, &handles);
    // Nothing is left of it on the first node, which may go for good.
    let left = std::fs::read_dir(service.path("files/volumes")).unwrap().count();
    assert_eq!(left, 0, "the source keeps a copy");
    let _home = service.kill();
    check(72, &handles);
    let far = far.crash(72);
    check(72, &handles);
    drop(far);
}

/// Kills one of the two in the middle of an evacuation; it goes on, and ends in one whole copy.
fn killed(numbers: (u8, u8), pause_ms: u64, whom: &str) {
    let (service, far) = stage(numbers);
    let handles = fill(numbers.0);
    let nodes = service.json(&["node", "list"]);
    let first = nodes.as_array().unwrap().iter().find(|node| node["name"] != "far").unwrap();
    let first = first["id"].as_str().unwrap().to_owned();
    let begun = service.run(&["--no-wait", "node", "evacuate", &first, "--force"]);
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    std::thread::sleep(Duration::from_millis(pause_ms));
    let (service, far) = match whom {
        "control" => {
            let portal = place::portal(numbers.0).to_string();
            (Service::start_in(service.kill(), &["--nfs-portals", &portal]), far)
        }
        _ => (service, far.crash(numbers.1)),
    };
    let limit = Instant::now() + Duration::from_secs(60);
    let ended = loop {
        let all = service.json(&["operation", "list"]);
        let one = all.as_array().unwrap().iter().find(|one| one["kind"] == "evacuate_node");
        let one = one.unwrap().clone();
        if one["finished"] == true {
            break one;
        }
        assert!(Instant::now() < limit, "{one}\n{}\n{}", service.log(), log(&far.home));
        std::thread::sleep(Duration::from_millis(50));
    };
    eprintln!("{whom} killed after {pause_ms} ms: {}", ended["state"]);
    let at = if lies_in(&service) == "far-files" { numbers.1 } else { numbers.0 };
    assert!(at == numbers.1 || ended["state"] == "failed", "{ended}");
    check(at, &handles);
}

#[test]
fn a_daemon_killed_in_the_middle_of_an_evacuation_goes_on_with_it() {
    if !place::is_root() {
        return;
    }
    killed((73, 74), 60, "control");
    killed((75, 76), 250, "control");
    killed((77, 78), 150, "far");
}
