//! The daemon as a whole.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::nfs_client::place;
use crate::service::Service;
use crate::stage::{Holder, Stage};

/// A copy of the binary in the place of the one before, as a package manager puts it there.
fn install(path: &Path) {
    let aside = path.with_extension("new");
    std::fs::copy(env!("CARGO_BIN_EXE_commonhold"), &aside).unwrap();
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&aside, path).unwrap();
}

/// What the process runs, by the kernel's word.
fn program(service: &Service) -> PathBuf {
    std::fs::read_link(format!("/proc/{}/exe", service.pid())).unwrap()
}

/// A daemon of a copy of the binary of its own.
fn stage(portal: u8) -> (PathBuf, Stage) {
    let home = tempfile::tempdir().unwrap();
    let binary = home.path().join("daemon");
    install(&binary);
    let files = place::portal(portal).to_string();
    let more = ["--nfs-portals", &files, "--chap", "off"];
    let service = Service::start_of(&binary, home, &more);
    (binary, Stage::new(service, portal))
}

/// The numbers of the starts, of the daemon and of its file service.
fn boots(service: &Service) -> (u64, u64) {
    let node = service.json(&["node", "show"]);
    let number = |path: &str| node.pointer(path).and_then(Value::as_u64).unwrap();
    (number("/boot"), number("/file_service/boot"))
}

/// The parameters of a PERSISTENT RESERVE OUT: its key and the new one.
fn keys(own: u64, new: u64, through_power_loss: bool) -> Bytes {
    let mut list = vec![0; 24];
    list[..8].copy_from_slice(&own.to_be_bytes());
    list[8..16].copy_from_slice(&new.to_be_bytes());
    list[20] = through_power_loss.into();
    list.into()
}

#[test]
fn a_daemon_goes_on_with_the_new_binary_in_its_process_and_nothing_is_lost() {
    if !place::is_root() {
        return;
    }
    let (binary, stage) = stage(4);
    let service = &stage.service;
    let mut holder = Holder::new(stage.client("holder"));
    let mut other = stage.client("other");
    holder.assert_locked_against(&mut other);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (_session, unit) = runtime.block_on(stage.log_in()).unwrap();
    runtime.block_on(async {
        // REGISTER, then RESERVE, Write Exclusive.
        unit.persistent_reserve_out(0, 0, keys(0, 7, true)).await.unwrap();
        unit.persistent_reserve_out(1, 1, keys(7, 0, false)).await.unwrap();
        unit.write(0, Bytes::from(vec![9; 512]), false).await.unwrap();
    });
    let (before, pid) = (boots(service), service.pid());
    install(&binary);
    assert!(program(service).to_str().unwrap().ends_with(" (deleted)"));

    let (code, says) = service.refused(&["node", "upgrade"]);
    assert!(code == 4 && says.contains("'default/tree' by mount '/srv'"), "{code}: {says}");
    let done = service.json(&["node", "upgrade", "--force"]);
    assert_eq!((&done["state"], &done["kind"]), (&"succeeded".into(), &"upgrade_node".into()));
    assert_eq!(done["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(boots(service), (before.0 + 1, before.1 + 1));
    assert_eq!((service.pid(), program(service)), (pid, binary));
    let events = service.json(&["event", "list", "--action", "node.upgrade"]);
    let results: Vec<_> = events.as_array().unwrap().iter().map(|one| &one["result"]).collect();
    assert_eq!(results, ["done", "accepted"]);

    holder.check();
    assert_eq!(holder.client.sessions, 2);
    holder.assert_locked_against(&mut other);
    holder.write();
    holder.check();
    runtime.block_on(async {
        let (session, unit) = stage.log_in().await.unwrap();
        assert_eq!(unit.read(0, 1).await.unwrap()[..], [9; 512]);
        unit.write(1, Bytes::from(vec![8; 512]), true).await.unwrap();
        session.logout().await.unwrap();
    });
    let held = service.json(&["volume", "reservations", "disk"]);
    assert_eq!(held["registrants"][0]["holder"], true, "{held}");
    assert_eq!(held["persist_through_power_loss"], true);
    // Once more, of the one that came by an upgrade; and it ends as any other.
    assert_eq!(service.json(&["node", "upgrade", "--force"])["state"], "succeeded");
    assert_eq!(boots(service).0, before.0 + 2);
    let Stage { service, .. } = stage;
    let (status, home) = service.end();
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    assert!(status.success(), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn what_is_no_commonhold_is_refused_and_nothing_stops() {
    if !place::is_root() {
        return;
    }
    let (binary, stage) = stage(5);
    let service = &stage.service;
    let mut holder = Holder::new(stage.client("holder"));
    let before = boots(service);
    let garbage = service.path("garbage");
    std::fs::write(&garbage, [0x5a; 9999]).unwrap();
    std::fs::set_permissions(&garbage, std::fs::Permissions::from_mode(0o755)).unwrap();
    let inside = service.path("data/commonhold");
    install(&inside);
    for (path, word) in [
        (garbage.to_str().unwrap(), "it is no program"),
        ("/bin/true", "it is no commonhold"),
        ("/nowhere/at/all", "No such file"),
        (inside.to_str().unwrap(), "where clients write"),
    ] {
        let (code, says) = service.refused(&["node", "upgrade", "--force", "--binary", path]);
        assert!(code == 4 && says.contains(word) && says.contains(path), "{path}: {code}: {says}");
        assert!(says.contains("Nothing has stopped"), "{says}");
    }
    std::fs::rename(garbage, &binary).unwrap();
    let (code, says) = service.refused(&["node", "upgrade", "--force"]);
    assert!(code == 4 && says.contains("it is no program"), "{code}: {says}");
    let (code, says) = service.refused(&["node", "upgrade", "nope"]);
    assert!(code == 3 && says.contains("'nope'"), "{says}");
    assert_eq!(boots(service), before);
    holder.write();
    holder.check();
    assert_eq!(holder.client.sessions, 1, "it was interrupted");
}

#[test]
fn a_binary_that_does_not_read_what_is_on_the_disk_is_refused_by_its_name() {
    let home = tempfile::tempdir().unwrap();
    let binary = home.path().join("daemon");
    install(&binary);
    let service = Service::start_of(&binary, home, &["--nfs-portals", "none"]);
    // One that has another name for a form does not have that form.
    let other = service.path("other");
    install(&other);
    let mut bytes = std::fs::read(&other).unwrap();
    let name = b"the maps of block volumes";
    let found = bytes.windows(name.len()).enumerate().filter(|(_, one)| *one == name);
    let places: Vec<_> = found.map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + name.len() - 1] = b'z';
    }
    std::fs::write(&other, bytes).unwrap();
    let path = other.to_str().unwrap();
    let (code, says) = service.refused(&["node", "upgrade", "--force", "--binary", path]);
    assert!(
        code == 4 && says.contains("does not read form 1 of the maps of block volumes"),
        "{says}"
    );
    assert!(says.contains(path) && says.contains("Nothing has stopped"), "{says}");
    assert_eq!(service.json(&["node", "upgrade", "--force"])["state"], "succeeded");
}

/// What was told between the end of one program and the beginning of the next was swallowed by
/// the handler of the one that was ending.
#[test]
fn a_stop_in_the_last_moment_before_the_next_program_is_obeyed() {
    for _ in 0..8 {
        let home = tempfile::tempdir().unwrap();
        let service = Service::start_in(home, &[]);
        let asked = service.run(&["node", "upgrade", "--force", "--no-wait"]);
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let limit = std::time::Instant::now() + Duration::from_secs(60);
        while !service.log().contains("serve: ended") {
            assert!(std::time::Instant::now() < limit, "{}", service.log());
        }
        let pid = rustix::process::Pid::from_raw(service.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        // Either program ends in order; between the two the process just ends.
        let (status, _home) = service.ended();
        let by_signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert!(status.success() || by_signal == Some(15), "{status}");
    }
}

#[test]
fn the_old_program_goes_on_and_says_why_when_the_new_one_is_gone_at_the_last_moment() {
    if !place::is_root() {
        return;
    }
    let (binary, stage) = stage(6);
    let service = &stage.service;
    let mut holder = Holder::new(stage.client("holder"));
    let (before, pid) = (boots(service), service.pid());
    let second = service.path("second");
    install(&second);
    // A request whose body does not come keeps the end waiting.
    let address = service.url.strip_prefix("http://").unwrap();
    let mut slow = TcpStream::connect(address).unwrap();
    let token = service.token.as_ref().unwrap();
    write!(
        slow,
        "POST /v1/hosts HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let upgrade = ["node", "upgrade", "--force", "--no-wait", "-o", "json", "--binary"];
    let asked = service.run(&[&upgrade[..], &[second.to_str().unwrap()]].concat());
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.success(), "{said}");
    let asked: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!(asked["state"], "running");
    std::fs::remove_file(&second).unwrap();
    drop(slow);
    // Who asks now waits for whichever program answers.
    let id = asked["id"].as_str().unwrap();
    let (code, says) = service.refused(&["operation", "show", id]);
    assert!(code == 1 && says.contains("could not be run"), "{code}: {says}");
    assert!(says.contains("No such file"), "{says}");
    assert_eq!((service.pid(), program(service)), (pid, binary));
    assert_eq!(boots(service).0, before.0 + 1);
    holder.check();
    holder.write();
    assert!(service.log().contains("the old one goes on"));
}
