//! The file service alone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use nfs::v4::Status;

use crate::nfs_client::place;
use crate::nfs_client::session::Request;
use crate::service::Service;
use crate::stage::{Holder, Stage};

/// Far less than the grace, which is 90 s.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn clients_reclaim_and_go_on_and_disks_notice_nothing_when_the_file_service_is_restarted() {
    if !place::is_root() {
        return;
    }
    let portal = place::portal(3).to_string();
    let home = tempfile::tempdir().unwrap();
    let service = Service::start_in(home, &["--nfs-portals", &portal, "--chap", "off"]);
    let stage = Stage::new(service, 3);
    let mut holder = Holder::new(stage.client("holder"));
    let mut other = stage.client("other");
    holder.assert_locked_against(&mut other);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (session, unit) = runtime.block_on(stage.log_in()).unwrap();
    let before = stage.service.json(&["node", "show"]);
    assert_eq!(before["file_service"]["in_grace"], false);
    assert_eq!(before["file_service"]["clients"], 2);

    let (code, says) = stage.service.refused(&["node", "restart"]);
    assert!(code == 4 && says.contains("'default/tree' by mount '/srv'"), "{code}: {says}");
    assert!(says.contains("2 clients are connected"), "{says}");
    holder.write();
    assert_eq!(holder.client.sessions, 1, "a refusal interrupts nobody");

    let (code, says) = stage.service.refused(&["node", "evacuate"]);
    assert!(code == 4 && says.contains("by mount '/srv'") && says.contains("evacuated"), "{says}");
    let (code, says) = stage.service.refused(&["node", "evacuate", "--force"]);
    let words = "no other node that could take the 1 file volumes";
    assert!(code == 4 && says.contains(words), "{code}: {says}");

    let begun = Instant::now();
    let done = stage.service.json(&["node", "restart", "--force"]);
    assert_eq!((&done["state"], &done["kind"]), (&"succeeded".into(), &"restart_node".into()));
    let after = stage.service.json(&["node", "show"]);
    assert_eq!(after["file_service"]["in_grace"], true, "{after}");
    let boot = |node: &serde_json::Value| node["file_service"]["boot"].as_u64().unwrap();
    assert_eq!(boot(&after), boot(&before) + 1);
    assert_eq!((&after["boot"], &after["since"]), (&before["boot"], &before["since"]));
    assert_eq!(after["file_service"]["portals"], before["file_service"]["portals"]);

    // One that holds nothing waits for those that do, and no longer.
    let mut fresh = stage.client("fresh");
    let root = fresh.find(&["default", "tree"]).unwrap();
    let (directory, name) = (root.clone(), Bytes::from_static(b"new"));
    let open = Request::Open { directory, name };
    assert_eq!(fresh.ask_once(std::slice::from_ref(&open), false)[0].status, Status::Grace);
    holder.check();
    assert_eq!(holder.client.sessions, 2);
    holder.assert_locked_against(&mut other);
    assert_eq!(fresh.one(open).status, Status::Ok);
    assert!(begun.elapsed() < SOON, "the grace outlasted its purpose: {:?}", begun.elapsed());
    holder.write();
    holder.check();
    assert_eq!(stage.service.json(&["node", "show"])["file_service"]["in_grace"], false);

    // The session is the one from before.
    runtime.block_on(async {
        unit.write(0, Bytes::from(vec![9; 512]), true).await.unwrap();
        assert_eq!(unit.read(0, 1).await.unwrap()[..], [9; 512]);
        session.logout().await.unwrap();
    });
}
