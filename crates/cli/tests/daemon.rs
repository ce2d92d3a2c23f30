//! The service and the verbs, from outside: what a person does, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod service;

use host::files::{FileClient, Identity, Opening, Stable, Who};
use host::{Credentials, Initiator, Options};
use serde_json::Value;
use service::Service;

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn a_volumes_life_from_create_to_delete() {
    let service = Service::start();
    assert!(service.token.is_some());
    let volume = service.json(&["volume", "create", "v", "--size", "64m", "--metadata", "a=b"]);
    assert_eq!(volume["status"], "available");
    assert_eq!(volume["size_bytes"], 64 << 20);
    service.json(&["volume", "rename", "v", "w"]);
    service.json(&["volume", "update", "w", "--description", "mine"]);
    assert_eq!(service.json(&["volume", "resize", "w", "128m"])["size_bytes"], 128 << 20);
    service.json(&["snapshot", "create", "w", "s"]);
    let clone = service.json(&["volume", "create", "c", "--from-snapshot", "s"]);
    assert_eq!(clone["size_bytes"], 128 << 20);
    service.json(&["volume", "revert", "w", "s"]);
    assert_eq!(names(&service.json(&["volume", "list"])), ["w", "c"]);

    let (code, error) = service.refused(&["volume", "delete", "w", "--cascade"]);
    assert!(code == 4 && error.contains("'c'"), "{error}");
    service.run(&["volume", "delete", "--wait", "c"]);
    service.run(&["volume", "delete", "--wait", "--cascade", "w"]);
    assert_eq!(service.json(&["volume", "list"]), Value::Array(Vec::new()));
    let actions = service.json(&["event", "list", "--resource", "volume", "--all"]);
    let actions: Vec<_> =
        actions.as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap()).collect();
    for action in ["volume.create", "volume.delete"] {
        assert!(actions.contains(&action), "{action} in {actions:?}");
    }
}

#[test]
fn many_hosts_are_attached_in_one_call_or_none() {
    let service = Service::start();
    service.json(&[
        "volume-type",
        "grant",
        "ssd-multiattach",
        "default",
        "--acknowledge-data-loss",
    ]);
    service.json(&["volume", "create", "m", "--size", "16m", "--type", "ssd-multiattach"]);
    service.json(&["volume", "create", "single", "--size", "16m"]);
    for host in ["a", "b"] {
        let name = format!("iqn.2026-11.org.example:{host}");
        service.json(&["host", "create", host, "--initiator", &name]);
    }
    let (code, _) = service.refused(&["attachment", "create", "m", "--host", "a", "--host", "no"]);
    assert_eq!(code, 3);
    let (code, error) =
        service.refused(&["attachment", "create", "single", "--host", "a", "--host", "b"]);
    assert!(code == 4 && error.contains("hint: "), "{error}");
    assert_eq!(service.json(&["attachment", "list"]).as_array().unwrap().len(), 0);

    let created = service.json(&["attachment", "create", "m", "--host", "a", "--host", "b"]);
    let created = created["attachments"].as_array().unwrap();
    assert_eq!(created.len(), 2);
    for one in created {
        assert_eq!(one["attachment"]["state"], "attached");
        assert!(one["credentials"]["secret"].as_str().unwrap().len() >= 12);
        assert_eq!(one["attachment"]["connection"]["portals"][0], service.portal.as_str());
    }
    // The secret is in that answer only.
    let listed = service.run(&["-o", "json", "attachment", "list"]).stdout;
    let secret = created[0]["credentials"]["secret"].as_str().unwrap();
    assert!(!String::from_utf8_lossy(&listed).contains(secret));
    assert!(!service.log().contains(secret));

    let id = |index: usize| created[index]["attachment"]["id"].as_str().unwrap();
    service.json(&["attachment", "fence", id(0)]);
    service.run(&["attachment", "delete", "--wait", id(1)]);
    let left = service.json(&["attachment", "list"]);
    assert!(left.as_array().unwrap().iter().all(|one| one["id"] != id(1)), "{left}");
}

#[test]
fn bad_input_is_refused_with_a_reason_and_changes_nothing() {
    let service = Service::start();
    for (arguments, code) in [
        (&["volume", "show", "nope"][..], 3),
        (&["volume", "create", "v", "--size", "0"], 2),
        (&["volume", "create", "v", "--size", "18446744073709551615"], 2),
        (&["volume", "create", "v", "--size", "1g", "--type", "nope"], 3),
        (
            &[
                "volume",
                "create",
                "v",
                "--size",
                "1g",
                "--type",
                "ssd-multiattach",
                "--project",
                "no",
            ],
            3,
        ),
        (&["volume", "create", "", "--size", "1g"], 2),
        (&["host", "create", "h", "--initiator", "not-a-name"], 2),
        (&["attachment", "create", "nope", "--host", "h"], 3),
        (&["operation", "cancel", "nope"], 3),
        (&["--token", "expired", "volume", "list"], 5),
    ] {
        let (got, error) = service.refused(arguments);
        assert_eq!(got, code, "{arguments:?}: {error}");
        assert!(error.contains("\nhint: "), "{arguments:?}: {error}");
    }
    assert_eq!(service.json(&["volume", "list"]).as_array().unwrap().len(), 0);
    assert_eq!(service.json(&["host", "list"]).as_array().unwrap().len(), 0);
}

#[test]
fn a_restart_keeps_everything_and_a_lost_token_can_be_renewed() {
    let service = Service::start();
    service.json(&["volume", "create", "v", "--size", "16m"]);
    let (status, home) = service.end();
    assert!(status.success(), "{status}");

    let service = Service::start_in(home, &[]);
    assert_eq!(service.token, None);
    assert_eq!(names(&service.json(&["volume", "list"])), ["v"]);
    let home = service.kill();

    std::fs::remove_file(home.path().join("data/client.toml")).unwrap();
    std::fs::remove_file(home.path().join("commonhold/client.toml")).unwrap();
    std::fs::remove_file(home.path().join("started")).unwrap();
    let service = Service::start_in(home, &["--new-token"]);
    assert!(service.token.is_some());
    assert_eq!(names(&service.json(&["volume", "list"])), ["v"]);
}

#[test]
fn the_sessions_that_an_end_closes_are_in_the_audit_trail() {
    let service = Service::start();
    service.json(&["volume", "create", "v", "--size", "16m"]);
    let iqn = "iqn.2026-11.org.example:h";
    service.json(&["host", "create", "h", "--initiator", iqn]);
    let made = service.json(&["attachment", "create", "v", "--host", "h"]);
    let word = |path: &str| made.pointer(path).unwrap().as_str().unwrap().to_owned();
    let mut options = Options::new(iqn, Some(word("/attachments/0/attachment/connection/target")));
    options.chap = Some(Credentials {
        user: word("/attachments/0/credentials/user"),
        secret: word("/attachments/0/credentials/secret"),
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _session = runtime.block_on(Initiator::connect(&service.portal, options)).unwrap();
    let (status, home) = service.end();
    assert!(status.success(), "{status}");
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");

    let service = Service::start_in(home, &[]);
    let events = service.json(&["event", "list", "--action", "volume.session_close"]);
    let events = events.as_array().unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["detail"], format!("{iqn}: the daemon stops"));
}

#[test]
fn a_service_that_says_where_it_is_can_be_used_at_once() {
    let service = Service::start();
    let pools = service.json(&["pool", "list"]);
    let states = pools.as_array().unwrap().iter().map(|pool| pool["state"].as_str().unwrap());
    assert_eq!(states.collect::<Vec<_>>(), ["online", "online"]);
}

/// What a client wrote comes back in another volume; what is no archive leaves nothing behind.
fn backed_up_and_restored(service: &Service) {
    let shown = service.json(&["volume", "show", "wp-uploads"]);
    let resource = shown["resource"].as_str().unwrap().trim_start_matches("nfs://").to_owned();
    let (portal, path) = resource.split_at(resource.find('/').unwrap());
    let who = Who { uid: 33, gid: 33, gids: Vec::new() };
    let name = Identity::named("writer");
    // The usual port is not said.
    let portal = portal.parse().unwrap_or_else(|_| format!("{portal}:2049").parse().unwrap());
    let mut client = FileClient::connect(portal, &name, &who, 1).unwrap();
    client.reclaimed().unwrap();
    let root = client.mount(path).unwrap();
    let file = client.open(&root, "page", Opening::OrCreate(0o640)).unwrap();
    let text = bytes::Bytes::from_static(b"written by a client");
    client.write_at(&file, 3 << 20, Stable::File, &text).unwrap();
    client.close(&file).unwrap();

    let archive = service.path("wp.tar.zst").to_str().unwrap().to_owned();
    let backup = ["volume", "backup", "wp-uploads", "--to", &archive];
    assert!(service.run(&backup).status.success());
    let (code, error) = service.refused(&backup);
    assert!(code == 2 && error.contains("there already"), "{error}");
    let of_snapshot = ["volume", "backup", "wp-uploads@first", "--to", "-"];
    assert!(service.run(&of_snapshot).stdout.starts_with(b"\x28\xb5\x2f\xfd"));
    let none = ["volume", "backup", "wp-uploads@none", "--to", "-"];
    assert!(service.refused(&none).1.contains("'none'"));
    assert_eq!(names(&service.json(&["snapshot", "list"])), ["first"], "none is left over");

    service.json(&["volume", "restore", &archive, "again", "--size", "64m"]);
    let root = client.mount("/default/again").unwrap();
    let file = client.open(&root, "page", Opening::Existing).unwrap();
    assert_eq!(client.read_at(&file, 3 << 20, 100).unwrap(), text);
    client.close(&file).unwrap();
    let used = service.json(&["volume", "show", "again"])["used_bytes"].as_u64().unwrap();
    assert!(used < 1 << 20, "the hole takes room: {used}");

    let cut = service.path("cut");
    let whole = std::fs::read(&archive).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    for (bad, name) in [(cut.to_str().unwrap(), "bad-1"), ("/etc/hostname", "bad-2")] {
        let (_, error) = service.refused(&["volume", "restore", bad, name, "--size", "64m"]);
        assert!(error.contains("the stream"), "{error}");
    }
    let is_bad = |name: &&str| name.starts_with("bad");
    for _ in 0..200 {
        if !names(&service.json(&["volume", "list"])).iter().any(is_bad) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let left = service.json(&["volume", "list"]);
    assert!(!names(&left).iter().any(is_bad), "{left}");
}

/// A directory becomes a volume, which becomes a directory: with its access control lists, also of
/// users for whom tar knows a name. Archives of GNU tar with names alone are refused.
fn lists_go_through_directories(service: &Service) {
    let [from, to, text] = ["from", "to", "text.tar"].map(|name| service.path(name));
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("page"), "text").unwrap();
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 6, 0), (4, 0, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, may, id) in entries {
        list.extend([&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let set = |path: &std::path::Path, key| {
        rustix::fs::setxattr(path, key, &list, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set(&from.join("page"), "system.posix_acl_access");
    set(&from, "system.posix_acl_default");
    let restore = |from: &str, name| {
        service.run(&["volume", "restore", from, name, "--size", "64m", "--output", "json"])
    };
    let [from_text, to_text] = [&from, &to].map(|path| path.to_str().unwrap().to_owned());
    let done = restore(&from_text, "lists");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done = service.run(&["volume", "backup", "lists", "--to", &format!("{to_text}/")]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for (path, key) in
        [(to.join("page"), "system.posix_acl_access"), (to.clone(), "system.posix_acl_default")]
    {
        let mut found = vec![0; 1 << 10];
        let length = rustix::fs::getxattr(&path, key, &mut found[..]).unwrap();
        assert_eq!(found[..length], list, "{}", path.display());
    }

    let text = text.to_str().unwrap();
    let packed = ["--acls", "--zstd", "-C", &from_text, "-cf", text, "."];
    assert!(std::process::Command::new("tar").args(packed).status().unwrap().success());
    let refused = ["volume", "restore", text, "named", "--size", "64m"];
    let (_, error) = service.refused(&refused);
    assert!(error.contains("'root'") && error.contains("--drop-acls"), "{error}");
    // Not under the same name: the volume of the one that failed may still be going.
    let dropping = ["volume", "restore", text, "dropped", "--size", "64m", "--drop-acls"];
    let dropped = service.run(&dropping);
    assert!(dropped.status.success(), "{}", String::from_utf8_lossy(&dropped.stderr));
}

/// With nothing said: it needs root, and the usual port.
#[test]
fn the_first_file_volume_needs_one_command_and_survives_a_kill() {
    let service = Service::with_defaults(tempfile::tempdir_in("/var/tmp").unwrap());
    let create = ["volume", "create", "--kind", "file", "--size", "64m", "wp-uploads"];
    if !names(&service.json(&["pool", "list"])).contains(&"local-file") {
        // Refused, with the way out.
        let (_, error) = service.refused(&create);
        assert!(error.contains("a daemon that runs as root has one"), "{error}");
        return;
    }
    let made = service.json(&create);
    assert_eq!(made["status"], "available", "{made}");
    let copies = &service.json(&["pool", "show", "local-file"])["usage"]["copies"];
    assert!(copies.is_string(), "the pool does not say how it makes snapshots");
    service.json(&["snapshot", "create", "wp-uploads", "first"]);

    backed_up_and_restored(&service);
    lists_go_through_directories(&service);

    // Mounts of its own end with the process; the next one has them again.
    let service = Service::with_defaults(service.kill());
    let listed = service.json(&["snapshot", "list", "--volume", "wp-uploads"]);
    assert_eq!(names(&listed), ["first"]);
    let shown = service.json(&["volume", "show", "wp-uploads"]);
    assert!(shown["resource"].as_str().unwrap().starts_with("nfs://127.0.0.1/default/"), "{shown}");
    let (status, home) = service.end();
    assert!(status.success(), "{status}");
    home.close().unwrap();
}

#[test]
fn two_services_cannot_share_a_directory() {
    let service = Service::start();
    let data = service.path("data");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--portals", "127.0.0.1:0"];
    let home = ["--nfs-portals", "none", "--data", data.to_str().unwrap()];
    let arguments = [&arguments[..], &home].concat();
    let (code, error) = service.refused(&arguments[..]);
    assert!(code == 1 && error.contains("another process"), "{error}");
}

/// The kernel ends a killed process thread by thread: for a moment it is gone, and still has the
/// directory.
#[test]
fn a_service_that_begins_before_a_killed_one_is_gone_waits_for_it() {
    use env::Files;
    let service = Service::start();
    let data = service.path("data");
    let home = service.kill();
    let lock = env::RealFiles.lock_dir(&data).unwrap();
    let leaves = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(700));
        drop(lock);
    });
    let service = Service::start_in(home, &["--nfs-portals", "none"]);
    assert!(leaves.is_finished(), "it did not wait");
    leaves.join().unwrap();
    assert!(service.run(&["health"]).status.success());
}
