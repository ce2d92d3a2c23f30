//! File volumes at the door: networks, exports, figures of the node, and refusals that name what
//! is in the way.

use api::attachment::Mode;
use api::export::{AccessRule, Durability, Squash, UpdateExport};
use api::network::{CreateNetwork, NetworkQuery, UpdateNetwork};
use api::reference::{CreateReference, ReferenceKind, ReferenceQuery};
use api::snapshot::CreateSnapshot;
use api::user::Role;
use api::volume::{
    BackupQuery, CreateVolume, DeleteVolume, ResizeVolume, RestoreQuery, Volume, VolumeKind,
    VolumeQuery,
};
use api::{Client, Size};
use model::size::ByteSize;

use crate::world::{World, eventually, refused, settled, volume};

pub(crate) async fn file_volume(client: &Client, name: &str) -> Volume {
    let new = CreateVolume {
        name: name.to_owned(),
        kind: Some(VolumeKind::File),
        size: Some(Size(ByteSize::gib(1))),
        ..CreateVolume::default()
    };
    let made = client.volume_create(&new).await.unwrap();
    settled(client, &made, "available").await
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_have_their_verbs() {
    let world = World::start().await;
    let admin = &world.admin;
    let new = CreateNetwork {
        name: "office".into(),
        clients: vec!["10.0.0.0/8".into(), "::1".into()],
        portals: vec!["127.0.0.1:12049".into()],
        ..CreateNetwork::default()
    };
    let office = admin.network_create(&new).await.unwrap();
    assert_eq!(office.clients, ["10.0.0.0/8", "::1"]);
    assert_eq!(office.portals, ["127.0.0.1:12049"]);
    assert_eq!(admin.network_show("office").await.unwrap(), office);
    refused(admin.network_create(&new).await, 409, "name_taken");
    let clients = Some(vec!["10.0.0.1/8".to_owned()]);
    let change = UpdateNetwork { clients, ..UpdateNetwork::default() };
    refused(admin.network_update("office", &change).await, 400, "invalid_value");
    let change = UpdateNetwork { portals: Some(Vec::new()), ..UpdateNetwork::default() };
    assert_eq!(admin.network_update("office", &change).await.unwrap().portals, [""; 0]);
    let member = world.user("default", Role::Member).await;
    assert_eq!(member.every(&NetworkQuery::default()).await.unwrap().len(), 2);
    refused(member.network_create(&new).await, 403, "forbidden");
    admin.network_delete("office").await.unwrap();
    refused(admin.network_show("office").await, 404, "network_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_volume_shows_where_it_is_how_full_and_who_has_it() {
    let World { admin, node, .. } = &World::start().await;
    let made = file_volume(admin, "tree").await;
    assert_eq!((made.kind, made.volume_type.as_str()), (VolumeKind::File, "file"));
    let shown = admin.volume_show("tree").await.unwrap();
    assert_eq!(shown.resource.as_deref(), Some("nfs://127.0.0.1:12049/default/tree"));
    assert_eq!(shown.network.as_deref(), Some("default"));
    assert_eq!(shown.durability, Some(Durability::Strict));
    assert_eq!((shown.used_bytes, shown.available_bytes), (Some(1 << 20), Some(5 << 20)));
    assert_eq!((shown.used_inodes, shown.available_inodes), (Some(3), Some(7)));
    node.connect(made.id);
    let client = admin.volume_show("tree").await.unwrap().clients.remove(0);
    assert_eq!((client.address.as_str(), client.version.as_str()), ("127.0.0.1", "4.2"));
    let error = admin.volume_delete("tree", &DeleteVolume::default()).await.unwrap_err();
    assert!(error.is("clients_connected"), "{error:?}");
    assert!(error.hint.unwrap().contains("--force"));
    node.go_away(true);
    let shown = admin.volume_show("tree").await.unwrap();
    assert_eq!((shown.used_bytes, shown.clients.len()), (None, 0), "the catalog still answers");
    node.go_away(false);
    let smaller = ResizeVolume { size: Size(ByteSize(2 << 20)) };
    assert_eq!(admin.volume_resize("tree", &smaller).await.unwrap().status, "shrinking");
    assert_eq!(settled(admin, &made, "available").await.size_bytes, 2 << 20);
    let least = ResizeVolume { size: Size(ByteSize(1)) };
    assert_eq!(admin.volume_resize("tree", &least).await.unwrap().status, "shrinking");
    volume(admin, "block", "ssd").await;
    let query = VolumeQuery { kind: Some(VolumeKind::File), ..VolumeQuery::default() };
    assert_eq!(admin.every(&query).await.unwrap().len(), 1);
    settled(admin, &made, "available").await;
    let force = DeleteVolume { force: true, ..DeleteVolume::default() };
    admin.volume_delete("tree", &force).await.unwrap();
    eventually("it is gone", async || admin.volume_show("tree").await.err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_rules_are_shown_and_changed() {
    let World { admin, node, .. } = &World::start().await;
    let made = file_volume(admin, "tree").await;
    let export = admin.export_show("tree").await.unwrap();
    assert_eq!((export.volume_id, export.path.as_str()), (made.id, "/default/tree"));
    assert_eq!(export.access.len(), 1);
    assert_eq!((export.access[0].client.as_str(), export.access[0].squash), ("*", Squash::Root));
    assert_eq!(node.rules(made.id), Some(2), "one for each loopback address");
    let rule = AccessRule {
        client: "127.0.0.1".into(),
        mode: Mode::ReadOnly,
        squash: Squash::All,
        anonymous_uid: 33,
        anonymous_gid: 34,
    };
    let change = UpdateExport {
        access: Some(vec![rule.clone()]),
        durability: Some(Durability::Relaxed),
        ..UpdateExport::default()
    };
    let export = admin.export_update("tree", &change).await.unwrap();
    assert_eq!((&export.access[..], export.durability), (&[rule][..], Durability::Relaxed));
    assert_eq!(node.rules(made.id), Some(1));
    volume(admin, "block", "ssd").await;
    node.go_away(true);
    refused(admin.export_update("tree", &change).await, 503, "node_unreachable");
    refused(admin.export_show("block").await, 409, "wrong_kind");
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_there_are_not_come_with_those_that_there_are() {
    let world = World::start().await;
    let body = r#"{"name": "pk", "type": "file-packages", "size": "15g"}"#;
    let raw = world.raw("POST", "/v1/volumes", Some(body)).await;
    assert_eq!(raw.status, 400, "{}", raw.body);
    let error = &raw.body["error"];
    assert_eq!(error["code"], "size_not_available");
    let sizes = error["details"]["available_sizes_bytes"].as_array().unwrap();
    assert_eq!((sizes.len(), sizes[0].as_u64()), (19, Some(10 << 30)));
}

#[tokio::test(flavor = "multi_thread")]
async fn references_keep_a_volume_and_are_named() {
    let World { admin, .. } = &World::start().await;
    let new = CreateReference {
        volume: "tree".into(),
        name: "web-1".into(),
        kind: ReferenceKind::Instance,
    };
    let reserved = admin.reference_create(&new).await.unwrap();
    assert_eq!((reserved.volume_id, reserved.volume_name.as_str()), (None, "tree"));
    let made = file_volume(admin, "tree").await;
    let one = admin.reference_create(&new).await.unwrap();
    assert_eq!((one.id, one.volume_id), (reserved.id, Some(made.id)));
    assert!(one.age_seconds < 60 && one.last_seen_age_seconds <= one.age_seconds);
    assert_eq!(admin.reference_show("web-1").await.unwrap().id, one.id);
    assert_eq!(admin.volume_show("tree").await.unwrap().references, ["instance 'web-1'"]);
    let how = DeleteVolume { force: true, ..DeleteVolume::default() };
    let error = admin.volume_delete("tree", &how).await.unwrap_err();
    assert!(error.is("volume_referenced") && error.message.contains("web-1"), "{error:?}");
    let query = ReferenceQuery { volume: Some("tree".into()), ..ReferenceQuery::default() };
    assert_eq!(admin.every(&query).await.unwrap().len(), 1);
    admin.reference_delete("web-1").await.unwrap();
    admin.reference_delete("web-1").await.unwrap();
    refused(admin.reference_show("web-1").await, 404, "reference_not_found");
    admin.volume_delete("tree", &how).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_and_restores_are_streams_for_members() {
    let world = World::start().await;
    let admin = &world.admin;
    file_volume(admin, "tree").await;
    let take = async |of: &BackupQuery| {
        let mut stream = admin.volume_backup("tree", of).await.unwrap();
        let mut all = Vec::new();
        while let Some(piece) = stream.piece().await.unwrap() {
            all.extend_from_slice(&piece);
        }
        String::from_utf8(all).unwrap()
    };
    let living = BackupQuery::default();
    assert_eq!(take(&living).await, "tar.zst of the living tree");
    let new = CreateSnapshot {
        volume: "tree".into(),
        name: "monday".into(),
        ..CreateSnapshot::default()
    };
    admin.snapshot_create(&new).await.unwrap();
    eventually("the snapshot is there", async || {
        (admin.snapshot_show("monday").await.ok()?.state == "available").then_some(())
    })
    .await;
    let monday = BackupQuery { snapshot: Some("monday".into()) };
    assert_eq!(take(&monday).await, "tar.zst of monday");
    let tuesday = BackupQuery { snapshot: Some("tuesday".into()) };
    refused(admin.volume_backup("tree", &tuesday).await, 404, "snapshot_not_found");

    let plain = RestoreQuery::default();
    admin.volume_restore("tree", &plain, "tar.zst and more".into()).await.unwrap();
    refused(
        admin.volume_restore("tree", &plain, "tar.zst with acls".into()).await,
        409,
        "node_failed",
    );
    let dropping = RestoreQuery { drop_acls: true };
    admin.volume_restore("tree", &dropping, "tar.zst with acls".into()).await.unwrap();
    // More than the limit of other bodies, and more than is read before it is refused.
    let large = vec![b'x'; 3 << 20];
    let error = admin.volume_restore("tree", &plain, large.into()).await.unwrap_err();
    assert!(error.message.contains("no archive"), "{error:?}");

    volume(admin, "disk", "ssd").await;
    refused(admin.volume_backup("disk", &living).await, 409, "wrong_kind");
    refused(admin.volume_restore("disk", &plain, "tar.zst".into()).await, 409, "wrong_kind");
    let reader = world.user("default", Role::Reader).await;
    refused(reader.volume_backup("tree", &living).await, 403, "forbidden");
    refused(reader.volume_restore("tree", &plain, "tar.zst".into()).await, 403, "forbidden");
}
