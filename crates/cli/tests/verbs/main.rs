//! Every verb of the command line against a running service, in every form of output: one story
//! whose end proves that no verb was left out.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod desk;
#[path = "../service/mod.rs"]
mod service;

use desk::{Desk, names, word};

#[test]
fn every_verb_does_what_its_manual_page_says() {
    let mut desk = Desk::new();
    people(&mut desk);
    types_and_pools(&mut desk);
    volumes(&mut desk);
    networks(&mut desk);
    images(&mut desk);
    snapshots(&mut desk);
    schedules(&mut desk);
    attachments(&mut desk);
    nodes(&mut desk);
    surroundings(&mut desk);
    desk.assert_complete();
}

/// Projects, users and tokens.
fn people(desk: &mut Desk) {
    let made = desk.json(&["project", "create", "lab", "--volumes", "2", "--description", "a lab"]);
    assert_eq!(made["quota"]["volumes"], 2);
    desk.json(&["project", "update", "lab", "--volumes", "1", "--snapshots-per-volume", "3"]);
    let shown = desk.shows(&["project", "show", "lab"], &["a lab", "lab"]);
    assert_eq!(
        (&shown["quota"]["volumes"], &shown["quota"]["snapshots_per_volume"]),
        (&1.into(), &3.into())
    );
    desk.shows(&["project", "list"], &["default", "lab"]);

    desk.json(&["user", "create", "mary", "--role", "reader", "--project", "lab"]);
    desk.json(&["user", "update", "mary", "--role", "member", "--name", "maria"]);
    assert_eq!(desk.shows(&["user", "show", "maria"], &["maria", "member"])["role"], "member");
    desk.shows(&["user", "list"], &["admin", "maria"]);

    let token = desk.json(&["token", "create", "--user", "maria", "--description", "laptop"]);
    let (id, secret) = (word(&token, "/token/id").to_owned(), word(&token, "/secret").to_owned());
    let listed = desk.shows(&["token", "list"], &[&id, "laptop"]);
    assert!(!listed.to_string().contains(&secret), "the secret is shown once");
    desk.json(&["token", "update", &id, "--description", "desktop", "--expires-in", "1h"]);
    let shown = desk.shows(&["token", "show", &id], &[&id, "desktop"]);
    assert!(shown["expires_at"].is_string() && !shown.to_string().contains(&secret));
    let text = desk.table(&["token", "create", "--expires-in", "1h"]);
    assert!(text.lines().last().unwrap().starts_with("ch_"), "{text}");

    // The member works in the own project only, within its quota.
    let own = desk.shows(&["whoami", "--token", &secret], &["maria", "lab", "member"]);
    assert_eq!(own["project_name"], "lab");
    desk.json(&["volume", "create", "first", "--size", "1m", "--token", &secret]);
    desk.refused(&["volume", "create", "second", "--size", "1m", "--token", &secret], 4, "quota");
    desk.refused(&["project", "create", "mine", "--token", &secret], 5, "admin");
    desk.refused(&["project", "delete", "lab"], 4, "lab");
    desk.table(&["volume", "delete", "first", "--token", &secret]);

    desk.table(&["token", "delete", &id]);
    desk.refused(&["token", "update", &id, "--expires-in", "2h"], 4, "revoked");
    desk.refused(&["volume", "list", "--token", &secret], 5, "token");
    desk.table(&["user", "delete", "maria"]);
    desk.table(&["project", "delete", "lab"]);
    desk.refused(&["project", "show", "lab"], 3, "'lab'");
}

fn types_and_pools(desk: &mut Desk) {
    let place = desk.path("archive");
    let place = place.to_str().unwrap().to_owned();
    let create = ["pool", "create", "slow", "--class", "tape", "--path", &place];
    let made = desk.json(&[&create[..], &["--capacity", "1g"]].concat());
    assert_eq!(made["state"], "online", "waited for");
    desk.json(&["pool", "update", "slow", "--name", "archive"]);
    let shown = desk.shows(&["pool", "show", "archive"], &["archive", "tape", "online"]);
    assert_eq!(shown["usage"]["capacity_bytes"], 1_u64 << 30);
    desk.shows(&["pool", "list"], &["local-ssd", "local-hdd", "archive"]);

    desk.json(&["volume-type", "create", "cold", "--class", "tape", "--max-size", "64m"]);
    desk.json(&["volume-type", "update", "cold", "--description", "kept for long"]);
    desk.shows(&["volume-type", "show", "cold"], &["cold", "kept for long"]);
    desk.shows(&["volume-type", "list"], &["ssd-multiattach", "cold"]);
    desk.refused(&["volume", "create", "c", "--size", "1m", "--type", "cold"], 3, "'cold'");
    desk.json(&["volume-type", "grant", "cold", "default"]);
    desk.shows(&["volume-type", "grants", "cold"], &["default"]);
    desk.refused(&["volume", "create", "c", "--size", "65m", "--type", "cold"], 2, "64 MiB");
    desk.json(&["volume", "create", "c", "--size", "1m", "--type", "cold"]);
    desk.refused(&["volume-type", "update", "cold", "--multiattach", "true"], 4, "promises");
    desk.refused(&["pool", "delete", "archive"], 4, "archive");
    desk.table(&["volume", "delete", "c"]);
    desk.table(&["volume-type", "revoke", "cold", "default"]);
    desk.table(&["volume-type", "delete", "cold"]);
    desk.table(&["pool", "delete", "archive"]);
    assert_eq!(names(&desk.json(&["pool", "list"])).len(), 2);

    let multi = ["volume-type", "grant", "ssd-multiattach", "default"];
    desk.refused(&multi, 2, "acknowledged");
    let grant = desk.json(&[&multi[..], &["--acknowledge-data-loss"]].concat());
    assert_eq!(grant["acknowledged_by"], "admin");
}

fn volumes(desk: &mut Desk) {
    let made = desk.json(&["volume", "create", "v", "--size", "8m", "--metadata", "a=b"]);
    assert_eq!((&made["status"], &made["metadata"]["a"]), (&"available".into(), &"b".into()));
    let text = desk.table(&["volume", "rename", "v", "data"]);
    assert!(text.contains("data") && text.contains("8 MiB"), "{text}");
    desk.json(&["volume", "update", "data", "--description", "of mine", "--metadata", "c=d"]);
    desk.json(&["volume", "resize", "data", "16m"]);
    desk.refused(&["volume", "resize", "data", "8m"], 2, "only grow");
    assert_eq!(desk.json(&["volume", "retype", "data", "ssd-multiattach"])["multiattach"], true);
    desk.refused(&["volume", "retype", "data", "hdd"], 4, "class");
    let shown = desk.shows(&["volume", "show", "data"], &["of mine", "ssd-multiattach"]);
    assert_eq!((&shown["size_bytes"], &shown["metadata"]["c"]), (&(16 << 20).into(), &"d".into()));
    desk.shows(&["volume", "list", "--status", "available"], &["data"]);
    assert_eq!(desk.json(&["volume", "list", "--type", "hdd"]).as_array().unwrap().len(), 0);

    let copy = desk.json(&["volume", "create", "copy", "--from-volume", "data"]);
    assert_eq!((&copy["size_bytes"], word(&copy, "/origin/from")), (&(16 << 20).into(), "volume"));
    desk.table(&["volume", "delete", "copy"]);
}

/// Who may mount file volumes; what that has to do with a block volume is nothing.
fn networks(desk: &mut Desk) {
    let create = ["network", "create", "office", "--client", "10.0.0.0/8", "--client", "::1"];
    let made = desk.json(&[&create[..], &["--portal", "127.0.0.1:12049"]].concat());
    assert_eq!(made["clients"], serde_json::json!(["10.0.0.0/8", "::1"]));
    desk.json(&["network", "update", "office", "--client", "10.1.0.0/16", "--name", "home"]);
    desk.shows(&["network", "show", "home"], &["home", "10.1.0.0/16", "127.0.0.1:12049"]);
    desk.shows(&["network", "list"], &["default", "home"]);
    desk.table(&["network", "delete", "home"]);
    desk.refused(&["network", "show", "home"], 3, "'home'");
    for verb in [&["export", "show", "data"][..], &["export", "update", "data", "--access", "*,ro"]]
    {
        desk.count(verb);
        desk.refused(verb, 4, "block volume");
    }
    let place = desk.path("backup").to_str().unwrap().to_owned();
    let backup = ["volume", "backup", "data", "--to", &place];
    desk.count(&backup);
    desk.refused(&backup, 4, "block volume");
    let restore = ["volume", "restore", "/etc/hostname", "back", "--size", "1m"];
    desk.count(&restore);
    desk.refused(&restore, 4, "no pool of class 'file'");
    desk.json(&["reference", "create", "later", "/srv/www", "--kind", "mount"]);
    desk.shows(&["reference", "list", "--volume", "later"], &["/srv/www", "mount", "later"]);
    desk.shows(&["reference", "show", "/srv/www"], &["/srv/www", "later"]);
    desk.table(&["reference", "delete", "/srv/www", "/srv/www"]);
    assert_eq!(desk.json(&["volume", "list", "--kind", "file"]).as_array().unwrap().len(), 0);
}

/// Snapshots by the clock: the first one is there at once.
fn schedules(desk: &mut Desk) {
    let schedule = ["snapshot", "schedule"];
    let verb = |desk: &mut Desk, words: &[&str]| desk.json(&[&schedule[..], words].concat());
    let made = verb(desk, &["create", "data", "--every", "1h", "--keep", "3"]);
    assert_eq!((&made["name"], &made["every_seconds"]), (&"every-1h".into(), &3600.into()));
    desk.shows(&[&schedule[..], &["list", "--volume", "data"]].concat(), &["every-1h", "data"]);
    desk.shows(&[&schedule[..], &["show", "every-1h"]].concat(), &["every-1h", "3600"]);
    let mut taken = None;
    for _ in 0..200 {
        let all = desk.json(&["snapshot", "list", "--volume", "data"]);
        let is_own = |one: &&serde_json::Value| {
            one["schedule_id"] == made["id"] && one["state"] == "available"
        };
        taken = all.as_array().unwrap().iter().find(is_own).map(|one| word(one, "/id").to_owned());
        if taken.is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let taken = taken.expect("a snapshot at once");
    let changed = verb(desk, &["update", "every-1h", "--every", "1d", "--keep", "2"]);
    assert_eq!((&changed["every_seconds"], &changed["keep"]), (&86_400.into(), &2.into()));
    let bad = ["create", "data", "--name", "none", "--every", "1h", "--keep", "0"];
    desk.refused(&[&schedule[..], &bad].concat(), 2, "keeps nothing");
    desk.table(&[&schedule[..], &["delete", "every-1h"]].concat());
    desk.refused(&[&schedule[..], &["show", "every-1h"]].concat(), 3, "every-1h");
    desk.table(&["snapshot", "delete", &taken]);
}

/// Images in and out, and the operations that carry them.
fn images(desk: &mut Desk) {
    let [raw, out, back, long] = ["in.img", "out.qcow2", "back.raw", "long.img"]
        .map(|name| desk.path(name).to_str().unwrap().to_owned());
    let block = |number: u32| -> Vec<u8> { number.to_le_bytes().repeat(1024) };
    let mut bytes: Vec<u8> = (0..512).flat_map(block).collect();
    bytes.resize(4 << 20, 0);
    std::fs::write(&raw, &bytes).unwrap();

    desk.json(&["volume", "create", "imported", "--image", &raw, "--size", "4m"]);
    desk.json(&["volume", "export", "imported", &out]);
    let (code, error) = desk.service.refused(&["volume", "export", "imported", &out]);
    assert!(code == 1 && error.contains("exists already"), "{error}");
    assert!(error.contains("\nhint: ") && error.contains("export again"), "{error}");
    let again = desk.json(&["volume", "create", "again", "--image", &out]);
    assert_eq!(again["size_bytes"], 4 << 20, "as large as the image's content");
    let nowhere = desk.path("nowhere.img").to_str().unwrap().to_owned();
    desk.refused(&["volume", "create", "none", "--image", &nowhere], 2, "the image cannot be used");
    desk.table(&["volume", "export", "again", &back]);
    assert!(std::fs::read(&back).unwrap() == bytes, "the bytes came back changed");

    let list = desk.shows(&["operation", "list", "--volume", "imported"], &["succeeded"]);
    let id = word(&list, "/0/id").to_owned();
    desk.shows(&["operation", "show", &id], &["succeeded", "imported"]);
    desk.refused(&["operation", "cancel", &id], 4, "cancelled");

    // Long enough to be stopped on its way.
    std::fs::write(&long, vec![7; 512 << 20]).unwrap();
    let create = ["volume", "create", "long", "--size", "512m", "--image", &long, "-o", "json"];
    let output = desk.service.run(&[&create[..], &["--no-wait"]].concat());
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(made["status"], "creating");
    let operation = word(&made, "/operation_id").to_owned();
    let stopped = desk.json(&["operation", "cancel", &operation]);
    assert_eq!(stopped["state"], "cancelled", "waited for");
    let (code, error) = desk.service.refused(&["operation", "show", &operation]);
    assert!(code == 1 && error.contains("cancelled"), "{error}");
    std::fs::remove_file(&long).unwrap();
    for volume in ["imported", "again"] {
        desk.table(&["volume", "delete", volume]);
    }
}

fn snapshots(desk: &mut Desk) {
    desk.json(&["snapshot", "create", "data", "s", "--description", "before"]);
    desk.json(&["snapshot", "rename", "s", "first"]);
    desk.json(&["snapshot", "update", "first", "--description", "at first", "--metadata", "k=v"]);
    desk.shows(&["snapshot", "show", "first"], &["at first", "data"]);
    desk.shows(&["snapshot", "list", "--volume", "data"], &["first"]);
    let clone = desk.json(&["volume", "create", "clone", "--from-snapshot", "first"]);
    assert_eq!(clone["size_bytes"], 16 << 20);
    desk.json(&["volume", "revert", "data", "first"]);
    desk.refused(&["snapshot", "delete", "first"], 4, "'clone'");
    desk.table(&["volume", "delete", "clone"]);
    desk.table(&["snapshot", "delete", "first"]);
    assert_eq!(desk.json(&["snapshot", "list"]).as_array().unwrap().len(), 0);
}

fn attachments(desk: &mut Desk) {
    let iqn = |host: &str| format!("iqn.2026-11.org.example:{host}");
    for host in ["a", "b", "c"] {
        desk.json(&["host", "create", host, "--initiator", &iqn(host), "--address", "192.0.2.1"]);
    }
    desk.json(&["host", "update", "c", "--name", "gamma", "--metadata", "rack=7"]);
    desk.shows(&["host", "show", "gamma"], &["gamma", &iqn("c"), "192.0.2.1"]);
    desk.shows(&["host", "list"], &["a", "b", "gamma"]);
    desk.shows(&["host", "dismiss", "gamma"], &["gamma", &iqn("c")]);

    let made = desk.json(&["attachment", "create", "data", "--host", "a", "--host", "b"]);
    let id = |index: usize| word(&made["attachments"][index], "/attachment/id").to_owned();
    let reads = desk.table(&["attachment", "create", "data", "--host", "gamma", "--mode", "ro"]);
    for part in ["chap secret", "target secret", "portals", &desk.service.portal] {
        assert!(reads.contains(part), "no {part} in {reads}");
    }
    desk.shows(&["attachment", "show", &id(0)], &["data", "attached", "volume-"]);
    let list = desk.shows(&["attachment", "list", "--volume", "data"], &["gamma", "ro"]);
    assert_eq!(list.as_array().unwrap().len(), 3);
    assert_eq!(desk.json(&["attachment", "list", "--host", "a"]).as_array().unwrap().len(), 1);
    desk.refused(&["volume", "delete", "data"], 4, "'a'");
    desk.refused(&["host", "delete", "a"], 4, "'a'");

    let update = ["attachment", "update", &id(1), "--mode"];
    assert_eq!(desk.json(&[&update[..], &["ro"]].concat())["mode"], "ro");
    assert_eq!(desk.json(&["attachment", "show", &id(1)])["state"], "attached");
    assert_eq!(desk.json(&[&update[..], &["rw"]].concat())["mode"], "rw");

    let none = desk.json(&["volume", "reservations", "data"]);
    assert_eq!(none["registrants"].as_array().unwrap().len(), 0);
    assert!(desk.table(&["volume", "reservations", "data"]).contains("reservation  none"));
    desk.table(&["volume", "clear-reservations", "data"]);
    // A host that is cut off has the volume no more: that attachment goes by itself.
    desk.json(&["attachment", "fence", &id(0)]);
    for one in list.as_array().unwrap().iter().filter(|one| word(one, "/id") != id(0)) {
        desk.table(&["attachment", "delete", word(one, "/id")]);
    }
    assert_eq!(desk.json(&["attachment", "list"]).as_array().unwrap().len(), 0);
    groups(desk);
    desk.table(&["host", "delete", "a", "b", "gamma"]);
    desk.table(&["volume", "delete", "data"]);
}

/// Of "data", between hosts whose agents do not run; `tests/groups.rs` has some that do.
fn groups(desk: &mut Desk) {
    let create = ["group", "create", "g", "--volume", "data", "--host", "a", "--host", "b"];
    let made = desk.json(&[&create[..], &["--resource", "exec:start=/bin/true"]].concat());
    assert_eq!((word(&made, "/wanted"), word(&made, "/state")), ("stopped", "unknown"));
    // The orders are kept, and nobody is there yet who could follow them.
    for verb in ["start", "stop", "freeze", "unfreeze"] {
        desk.count(&["group", verb, "g"]);
        desk.refused(&["group", verb, "g"], 1, "no agent of its hosts is up");
    }
    let updated = desk.json(&["group", "update", "g", "--host", "b", "--host", "a"]);
    assert_eq!(names(&updated["hosts"]), ["b", "a"]);
    desk.json(&["group", "update", "g", "--add-host", "gamma", "--failback", "--restarts", "1"]);
    let updated = desk.json(&["group", "update", "g", "--remove-host", "gamma"]);
    assert_eq!(names(&updated["hosts"]), ["b", "a"]);
    assert_eq!(updated["policy"]["failback"], true);
    desk.refused(&["group", "update", "g", "--remove-host", "b"], 4, "2 to 16");
    let to = ["group", "move", "g", "gamma"];
    desk.count(&to);
    desk.refused(&to, 4, "'b', 'a'");
    desk.count(&["group", "permit", "g", "b"]);
    desk.refused(&["group", "permit", "g", "b"], 1, "no agent");
    desk.shows(&["group", "show", "g"], &["data", "exec", "stopped"]);
    desk.shows(&["group", "list"], &["g", "unknown"]);
    desk.shows(&["group", "history", "g"], &["group.create", "group.permit"]);
    desk.refused(&["host", "delete", "a"], 4, "group 'g'");
    desk.table(&["group", "delete", "g"]);
    for one in desk.json(&["attachment", "list"]).as_array().unwrap() {
        desk.table(&["attachment", "delete", word(one, "/id")]);
    }
}

/// The machine that serves it all. It serves no files here.
fn nodes(desk: &mut Desk) {
    let nodes = desk.shows(&["node", "list"], &["online", env!("CARGO_PKG_VERSION")]);
    let (name, id) = (word(&nodes, "/0/name").to_owned(), word(&nodes, "/0/id").to_owned());
    let shown = desk.shows(&["node", "show"], &[&name, &id, "online", "local-ssd"]);
    assert_eq!((&shown["boot"], &shown["pools"].as_array().unwrap().len()), (&1.into(), &2));
    assert_eq!(desk.json(&["node", "show", &name]), shown);
    desk.json(&["volume", "create", "served", "--size", "1m"]);
    desk.shows(&["node", "volumes"], &["served", "block", "default"]);
    let volumes = desk.json(&["node", "volumes", &id, "--project", "default"]);
    assert!(names(&volumes).contains(&"served"));
    desk.refused(&["node", "volumes", "--project", "nope"], 3, "'nope'");
    desk.refused(&["node", "show", "nope"], 3, "there is no node 'nope'");
    // `tests/nodes` restarts one that serves files.
    desk.count(&["node", "restart"]);
    desk.refused(&["node", "restart"], 4, "has no file service");
    // Block volumes are none that it would move.
    let done = desk.json(&["node", "evacuate"]);
    assert_eq!((word(&done, "/state"), word(&done, "/kind")), ("succeeded", "evacuate_node"));
    let updated = desk.json(&["node", "update", &name, "--placement", "on"]);
    assert_eq!(updated["name"], name.as_str());
    far_node(desk, &name);
    desk.refused(&["node", "upgrade", "--binary", "/bin/true"], 4, "it is no commonhold");
    let done = desk.json(&["node", "upgrade"]);
    assert_eq!((word(&done, "/state"), word(&done, "/node_name")), ("succeeded", name.as_str()));
    assert_eq!(desk.json(&["node", "show"])["boot"], 2);
    desk.table(&["volume", "delete", "served"]);
}

/// A node of another machine comes and goes. `tests/apart` has volumes move to one.
fn far_node(desk: &mut Desk, own: &str) {
    desk.refused(&["node", "delete", own], 4, "the pools");
    let far = service::Far::start(&desk.path("far"));
    let secret = far.secret.to_str().unwrap();
    let create =
        |address, secret| ["node", "create", "far", "--address", address, "--secret-file", secret];
    let wrong = desk.path("wrong");
    std::fs::write(&wrong, "wrong").unwrap();
    desk.refused(&create(&far.door, wrong.to_str().unwrap()), 4, "the secret is not");
    desk.refused(&create("127.0.0.1:1", secret), 2, "is not http://HOST:PORT");
    desk.refused(&create("http://127.0.0.1:1", secret), 6, "nothing answers there");
    let own_door = desk.service.url.clone();
    desk.refused(&create(&own_door, secret), 2, "a control plane of Commonhold");
    desk.refused(&create(&far.door, "/nowhere/secret"), 2, "cannot be read from /nowhere/secret");
    let made = desk.json(&create(&far.door, secret));
    assert_eq!((word(&made, "/name"), word(&made, "/state")), ("far", "online"));
    desk.table(&["node", "delete", "far"]);
    desk.refused(&["node", "show", "far"], 3, "there is no node 'far'");
    gone_for_good(desk, own, far);
}

/// A machine burns down with a volume on it, and is forgotten.
fn gone_for_good(desk: &mut Desk, own: &str, far: service::Far) {
    let secret = far.secret.to_str().unwrap();
    let create = ["node", "create", "far", "--address", &far.door, "--secret-file", secret];
    desk.json(&create);
    let path = desk.path("far/pool");
    let pool = ["pool", "create", "far-ssd", "--node", "far", "--class", "ssd", "--path"];
    desk.json(&[&pool[..], &[path.to_str().unwrap()]].concat());
    desk.json(&["node", "update", own, "--placement", "off"]);
    let made = desk.json(&["volume", "create", "burnt", "--size", "1m"]);
    assert_eq!(word(&made, "/pool"), "far-ssd");
    desk.json(&["node", "update", own, "--placement", "on"]);
    desk.refused(&["volume", "delete", "burnt", "--lost"], 4, "its node 'far' answers");
    drop(far);
    desk.refused(&["pool", "delete", "far-ssd", "--force"], 4, "1 volumes");
    desk.table(&["volume", "delete", "burnt", "--lost"]);
    desk.refused(&["volume", "show", "burnt"], 3, "'burnt'");
    desk.table(&["pool", "delete", "far-ssd", "--force"]);
    desk.refused(&["node", "delete", "far"], 6, "given up");
    desk.table(&["node", "delete", "far", "--force"]);
    let events = desk.json(&["event", "list", "--action", "volume.lost"]);
    assert!(word(&events, "/0/detail").contains("nothing is erased"), "{events}");
}

/// Where demos work, of this run or of another that runs now.
fn demos() -> std::collections::BTreeSet<std::path::PathBuf> {
    let all = std::fs::read_dir("/var/tmp").unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().contains("/commonhold-demo-")).collect()
}

/// What is no resource: events, health, settings, completion.
fn surroundings(desk: &mut Desk) {
    let events = desk.shows(&["event", "list", "--all"], &["project.create", "attachment.fence"]);
    let actions = ["volume.create", "snapshot.create", "volume.reservations_clear", "user.delete"];
    let list = events.as_array().unwrap();
    for action in actions {
        assert!(list.iter().any(|event| word(event, "/action") == action), "no {action}");
    }
    let fences = desk.json(&["event", "list", "--action", "attachment.fence", "--limit", "5"]);
    let id = word(&fences, "/0/id").to_owned();
    desk.shows(&["event", "show", &id], &["attachment.fence", "admin", &id]);
    desk.shows(&["health"], &["ok", env!("CARGO_PKG_VERSION")]);
    desk.shows(&["config", "show"], &["client.toml"]);
    assert!(desk.table(&["completion", "bash"]).contains("commonhold"));
    // The story is told by a service of its own and ends with a table of what was shown.
    let before = demos();
    let story = desk.table(&["demo"]);
    assert_eq!(demos(), before, "the demo leaves its directory, of which the image is 4 GiB");
    for word in ["alpha", "beta", "fence"] {
        assert!(story.contains(word), "no {word} in {story}");
    }
}
