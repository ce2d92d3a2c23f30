//! Bad input at each door of a running service: refused with a reason, a hint and the right exit
//! code or status, and nothing is changed.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod service;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use service::Service;

/// A volume in use, a snapshot with a clone, two volumes of one name, a second project with a member and a host.
struct World {
    service: Service,
    /// Of the second project's member.
    stranger: String,
    expired: String,
}

fn world() -> World {
    let service = Service::start();
    service.json(&["volume", "create", "v", "--size", "16m"]);
    service.json(&["snapshot", "create", "v", "s"]);
    service.json(&["volume", "create", "clone", "--from-snapshot", "s"]);
    for _ in 0..2 {
        service.json(&["volume", "create", "twin", "--size", "1m"]);
    }
    for host in ["mine", "spare"] {
        let iqn = format!("iqn.2026-11.org.example:{host}");
        service.json(&["host", "create", host, "--initiator", &iqn]);
    }
    service.json(&["attachment", "create", "v", "--host", "mine"]);
    service.json(&["project", "create", "other"]);
    service.json(&["user", "create", "stranger", "--project", "other"]);
    let token = |more: &[&str]| {
        let made = service.json(&[&["token", "create"], more].concat());
        made["secret"].as_str().unwrap().to_owned()
    };
    let stranger = token(&["--user", "stranger"]);
    let iqn = "iqn.2026-11.org.example:theirs";
    service.json(&["host", "create", "theirs", "--initiator", iqn, "--token", &stranger]);
    let expired = token(&["--expires-in", "1s"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    World { service, stranger, expired }
}

/// Everything that a request could have changed.
fn state(service: &Service) -> Vec<Value> {
    let mut all = Vec::new();
    for resource in ["volume", "snapshot", "host", "attachment", "project", "user", "token", "pool"]
    {
        let mut list = service.json(&[resource, "list"]);
        for item in list.as_array_mut().unwrap() {
            // What is used on disk may go on changing by itself.
            item.as_object_mut().unwrap().remove("usage");
        }
        all.push(list);
    }
    all.push(service.json(&["volume-type", "list"]));
    all
}

const TWO_TO_64: &str = "18446744073709551616";

/// Command lines, the exit code, and a word of the sentence.
const LINES: [(&str, i32, &str); 41] = [
    ("volume show nope", 3, "'nope'"),
    ("volume delete nope", 3, "'nope'"),
    ("volume resize nope 1g", 3, "'nope'"),
    ("volume create x --size 0", 2, "0"),
    ("volume create x --size 18446744073709551615", 2, "size"),
    ("volume create x --size 1m --type nope", 3, "'nope'"),
    ("volume create x --size 1m --type ssd-multiattach", 3, "ssd-multiattach"),
    ("volume create x --from-snapshot nope", 3, "'nope'"),
    ("volume create x --from-volume nope", 3, "'nope'"),
    ("volume create x --size 1m --from-snapshot s", 2, "size"),
    ("volume show twin", 4, "means 2 volumes"),
    ("volume delete twin", 4, "means 2 volumes"),
    ("volume create .. --size 1m", 2, "'..'"),
    ("host create .", 2, "'.'"),
    ("volume create x --size 60t", 1, "free"),
    ("volume resize v 1m", 2, "only grow"),
    ("volume retype v nope", 3, "'nope'"),
    ("volume retype v hdd", 4, "class"),
    ("volume revert v s", 4, "'mine'"),
    ("volume revert clone s", 2, "another volume"),
    ("volume delete v", 4, "'mine'"),
    ("volume delete v --cascade", 4, "'mine'"),
    ("snapshot create nope t", 3, "'nope'"),
    ("snapshot delete s", 4, "'clone'"),
    ("host create h --initiator iqn.2026-11.org.example:mine", 4, "another host"),
    ("host create h --initiator nonsense", 2, "initiator"),
    ("host delete mine", 4, "'mine'"),
    ("attachment create v --host nope", 3, "'nope'"),
    ("attachment create v --host spare", 4, "multi-attach"),
    ("attachment create v --host spare --host nope", 3, "'nope'"),
    ("attachment create clone --host theirs", 3, "'theirs'"),
    ("attachment delete nope", 3, "'nope'"),
    ("attachment fence nope", 3, "'nope'"),
    ("network show nope", 3, "'nope'"),
    ("network create n --client 10.0.0.1/8", 2, "10.0.0.0/8"),
    ("network create n --portal nonsense", 2, "ADDRESS:PORT"),
    ("export show v", 4, "block volume"),
    ("volume create files --size 15g --type file-packages", 2, "10 GiB, 20 GiB"),
    ("volume create a --kind file --size 1g", 2, "2 to 256"),
    ("project delete default", 4, "'default'"),
    ("token delete nope", 3, "'nope'"),
];

#[test]
fn the_command_line_refuses_and_nothing_changes() {
    let World { service, stranger, expired } = world();
    let before = state(&service);
    let mut wrong = Vec::new();
    for (line, code, word) in LINES {
        let arguments: Vec<_> = line.split(' ').collect();
        let (got, error) = service.refused(&arguments);
        if got != code || !error.contains(word) || !error.contains("\nhint: ") {
            wrong.push(format!("{line}: {got}, not {code} with {word}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Sizes that do not fit are refused before anything is sent.
    for line in [
        ["volume", "create", "x", "--size", TWO_TO_64],
        ["volume", "resize", "v", TWO_TO_64, "--wait"],
    ] {
        let output = service.run(&line);
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(TWO_TO_64), "{line:?}");
    }
    for token in [&expired, "ch_nonsense", ""] {
        let (code, error) = service.refused(&["volume", "list", "--token", token]);
        assert!(code == 5 && error.contains("token"), "{token}: {error}");
    }
    // Another project's resources do not exist, whatever one does.
    for line in [
        "volume show v",
        "volume delete clone",
        "snapshot create v t",
        "attachment create v --host theirs",
        "volume create x --from-volume v",
        "host show mine",
    ] {
        let arguments: Vec<_> = line.split(' ').chain(["--token", &stranger]).collect();
        let (code, error) = service.refused(&arguments);
        assert!(code == 3 && error.contains("there is no"), "{line}: {error}");
    }
    for line in [
        "pool list",
        "node list",
        "node volumes n",
        "node restart n --force",
        "node upgrade n --force",
        "node evacuate n --force",
        "project create mine",
        "volume-type grant hdd-multiattach other",
    ] {
        let arguments: Vec<_> = line.split(' ').chain(["--token", &stranger]).collect();
        let (code, error) = service.refused(&arguments);
        assert!(code == 5 && error.contains("admin"), "{line}: {code} {error}");
    }
    assert_eq!(state(&service), before);
}

#[test]
fn images_that_lie_leave_a_volume_that_says_why() {
    let service = Service::start();
    // A version 2 header (72 bytes) of a 1 MiB image whose tables are where they cannot be.
    let header = |l1_entries: u32, l1_at: u64, size: u64, bits: u32| {
        let mut bytes = vec![0; 1 << 16];
        bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
        bytes[20..24].copy_from_slice(&bits.to_be_bytes());
        bytes[24..32].copy_from_slice(&size.to_be_bytes());
        bytes[36..40].copy_from_slice(&l1_entries.to_be_bytes());
        bytes[40..48].copy_from_slice(&l1_at.to_be_bytes());
        bytes
    };
    let mut backed = header(1, 1 << 16, 1 << 20, 16);
    (backed[15], backed[19]) = (100, 11);
    backed[100..111].copy_from_slice(b"/etc/passwd");
    let images = [
        ("too-large", header(1, 1 << 16, u64::MAX, 16)),
        ("far-table", header(1, u64::MAX - 0xffff, 1 << 20, 16)),
        ("huge-table", header(u32::MAX, 1 << 16, 1 << 20, 16)),
        ("no-clusters", header(1, 1 << 16, 1 << 20, 63)),
        ("backed", backed),
        ("short", b"QFI\xfb".to_vec()),
        ("not-one", vec![0x55; 4096]),
    ];
    for (name, bytes) in images {
        let path = service.path(&format!("{name}.qcow2"));
        std::fs::write(&path, bytes).unwrap();
        let image = path.to_str().unwrap();
        let create = ["volume", "create", name, "--size", "1m", "--image", image];
        let (code, error) = service.refused(&create);
        assert!(code == 1 && error.contains("the image cannot be used"), "{name}: {error}");
        let volume = service.json(&["volume", "show", name]);
        assert_eq!(volume["status"], "error", "{volume}");
        service.json(&["volume", "delete", name]);
    }
    assert_eq!(service.json(&["volume", "list"]), Value::Array(Vec::new()));
}

/// One request as it stands; the status and the answer's body.
fn send(service: &Service, head: &str, body: &[u8]) -> (u16, Value) {
    let address = service.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let token = service.token.as_ref().unwrap();
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .unwrap();
    // A body that is too large is refused before all of it is sent: the service may have closed
    // its side by then, and the answer is what it sent before.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or_else(|why| panic!("{why}: {answer}")))
}

#[test]
fn the_rest_door_refuses_in_the_contracts_shape() {
    let service = Service::start();
    let before = state(&service);
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(4 << 20));
    let requests: [(&str, &[u8], u16); 11] = [
        ("POST /v1/volumes", b"{\"name\": \"x\", \"size\":", 400),
        ("POST /v1/volumes", b"", 400),
        ("POST /v1/volumes", b"[]", 400),
        ("POST /v1/volumes", b"{\"name\": \"x\", \"size\": 0}", 400),
        ("POST /v1/volumes", b"{\"name\": \"x\", \"size\": 18446744073709551616}", 400),
        ("POST /v1/volumes", b"{\"name\": \"x\", \"size\": \"1m\", \"colour\": 1}", 400),
        ("POST /v1/volumes", b"\xff\xfe", 400),
        ("POST /v1/volumes", large.as_bytes(), 413),
        ("GET /v1/volumes/nope", b"", 404),
        ("GET /v1/nothing", b"", 404),
        ("PATCH /v1/volumes", b"{}", 405),
    ];
    for (head, body, status) in requests {
        let (got, answer) = send(&service, head, body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        assert_eq!(got, status, "{head} {shown}: {answer}");
        for part in ["code", "message", "hint"] {
            let text = answer["error"][part].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{head} {shown}: no {part} in {answer}");
        }
    }
    assert_eq!(state(&service), before);
}
