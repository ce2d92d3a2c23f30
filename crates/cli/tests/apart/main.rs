//! Two daemons on loopback, a control plane with a node and a node of its own: a file volume is
//! written on one, evacuated to the other, and read there by the handles that clients had. And a
//! control plane by itself, with two nodes that a large tree moves between: [`many`].
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod many;
#[path = "../nfs_client/mod.rs"]
mod nfs_client;
#[path = "../service/mod.rs"]
mod service;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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
    metrics: String,
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
            .args(["--metrics", "127.0.0.1:0"])
            .args(["--nfs-portals", &place::portal(number).to_string(), "--data"])
            .arg(home.path().join("data"))
            .env("XDG_CONFIG_HOME", home.path())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(home.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let (mut door, mut metrics) = (String::new(), String::new());
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            let (word, value) = line.split_once(' ').unwrap();
            match word {
                "door" => value.trim().clone_into(&mut door),
                "metrics" => value.trim().clone_into(&mut metrics),
                "files" => break,
                _ => {}
            }
        }
        assert!(door.starts_with("http://"), "{}", log(&home));
        Self { process, home, door, metrics }
    }

    /// kill -9: what is left of it, and where its door was.
    fn kill(mut self) -> (tempfile::TempDir, String) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let listen = self.door.strip_prefix("http://").unwrap().to_owned();
        (std::mem::replace(&mut self.home, tempfile::tempdir().unwrap()), listen)
    }

    /// kill -9, and start again where it was.
    fn crash(self, number: u8) -> Self {
        let (home, listen) = self.kill();
        Self::start(home, &listen, number)
    }
}

/// What an address answers to who shows nothing: the whole answer, as text.
fn get(url: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
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
    figures(&service, &far);
    // Nothing is left of it on the first node, which may go for good.
    let left = std::fs::read_dir(service.path("files/volumes")).unwrap().count();
    assert_eq!(left, 0, "the source keeps a copy");
    let _home = service.kill();
    check(72, &handles);
    let far = far.crash(72);
    check(72, &handles);
    drop(far);
}

#[test]
fn a_volume_that_was_given_up_with_its_node_is_never_served_again_when_that_comes_back() {
    if !place::is_root() {
        return;
    }
    let (service, far) = stage((79, 80));
    let nodes = service.json(&["node", "list"]);
    let first = nodes.as_array().unwrap().iter().find(|node| node["name"] != "far").unwrap();
    service.json(&["node", "update", first["id"].as_str().unwrap(), "--placement", "off"]);
    for name in ["gone", "kept"] {
        service.json(&["volume", "create", "--kind", "file", "--size", "1g", name]);
    }
    let mut client = Three::new(wire(place::portal(80), UID));
    let root = client.mount("/default/gone").unwrap();
    let file = client.create(&root, b"f").unwrap();
    client.write(&file, 0, StableHow::FileSync, &content(1));
    service.json(&["reference", "create", "gone", "web", "--kind", "container"]);
    let (code, said) = service.refused(&["volume", "delete", "gone", "--lost"]);
    assert!(code == 4 && said.contains("its node 'far' answers"), "{code}: {said}");
    let (home, listen) = far.kill();
    let (code, said) = service.refused(&["pool", "delete", "far-files", "--force"]);
    assert!(code == 4 && said.contains("2 volumes"), "{code}: {said}");
    let (code, said) = service.refused(&["volume", "delete", "gone", "--lost"]);
    assert!(code == 4 && said.contains("container 'web'"), "{code}: {said}");
    service.json(&["volume", "delete", "gone", "--lost", "--force"]);
    // It comes back with its last orders, and is told.
    let far = Far::start(home, &listen, 80);
    let told = |count: usize, far: &Far| {
        let limit = Instant::now() + Duration::from_secs(40);
        let found = ["event", "list", "--action", "volume.lost_found"];
        while service.json(&found).as_array().unwrap().len() < count {
            assert!(Instant::now() < limit, "{}\n{}", service.log(), log(&far.home));
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    told(1, &far);
    let gone = || {
        let mut client = Three::new(wire(place::portal(80), UID));
        client.mount("/default/kept").unwrap();
        assert!(client.mount("/default/gone").is_err(), "it is mounted");
        assert!(client.read(&file, 0, 16).is_err(), "it is read by a handle of before");
    };
    gone();
    let far = far.crash(80);
    gone();
    // All the rest goes, and the node is forgotten while it is away: it is told and let go.
    let (home, listen) = far.kill();
    service.json(&["volume", "delete", "kept", "--lost"]);
    service.json(&["pool", "delete", "far-files", "--force"]);
    service.json(&["node", "delete", "far", "--force"]);
    let far = Far::start(home, &listen, 80);
    told(2, &far);
    let limit = Instant::now() + Duration::from_secs(20);
    while far.home.path().join("data/node/adopted.json").exists() {
        assert!(Instant::now() < limit, "it is not let go\n{}", service.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut client = Three::new(wire(place::portal(80), UID));
    assert!(client.mount("/default/kept").is_err(), "it is mounted");
    let left = std::fs::read_dir(far.home.path().join("files/volumes")).unwrap().count();
    assert_eq!(left, 2, "data is erased");
}

/// What a node serves, it counts; who reads that has no secret, and the door shows it to nobody.
fn figures(service: &Service, far: &Far) {
    let page = get(&far.metrics);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("# EOF\n"), "{page}");
    for name in ["commonhold_nfs_", "commonhold_buffer_bytes", "commonhold_logins"] {
        assert!(page.contains(name), "no {name} in {page}");
    }
    let other = far.metrics.replace("/metrics", "/node/v1/ask");
    assert!(get(&other).starts_with("HTTP/1.1 404"));
    assert!(get(&format!("{}/metrics", far.door)).starts_with("HTTP/1.1 401"));
    let page = get(&format!("{}/metrics", service.url));
    assert!(page.contains("commonhold_node_up{node=\"far\"} 1\n"), "{page}");
    assert!(page.contains("commonhold_node_heard_age_seconds{node=\"far\"} "), "{page}");
    assert!(page.contains("commonhold_api_requests_total"), "{page}");
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
