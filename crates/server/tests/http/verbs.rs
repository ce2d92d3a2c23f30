//! Every verb of the typed client, against the running service.

use api::attachment::{AttachmentQuery, CreateAttachments, Mode, UpdateAttachment};
use api::event::EventQuery;
use api::host::{CreateHost, Host, UpdateHost};
use api::pool::{CreatePool, Driver, PoolQuery, UpdatePool};
use api::project::{CreateProject, QuotaChange, UpdateProject};
use api::snapshot::{CreateSnapshot, SnapshotQuery, UpdateSnapshot};
use api::token::{CreateToken, TokenQuery, UpdateToken};
use api::user::{CreateUser, Role, UpdateUser, UserQuery};
use api::volume::{
    CreateVolume, DeleteVolume, ExportVolume, ImageFile, ImageFormat, Origin, ResizeVolume,
    RetypeVolume, RevertVolume, UpdateVolume, VolumeQuery, VolumeSource,
};
use api::volume_type::{CreateGrant, CreateVolumeType, GrantQuery, UpdateVolumeType};
use api::{Client, Size};
use model::size::ByteSize;

use crate::world::{World, eventually, refused, settled, volume};

pub(crate) async fn host(client: &Client, name: &str) -> Host {
    let new = CreateHost {
        name: name.to_owned(),
        initiators: vec![format!("iqn.2026-11.test:{name}")],
        ..CreateHost::default()
    };
    client.host_create(&new).await.unwrap()
}

fn attach(volume: &str, hosts: &[&str]) -> CreateAttachments {
    CreateAttachments {
        volume: volume.to_owned(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        ..CreateAttachments::default()
    }
}

async fn grant(world: &World, project: &str) {
    let new = CreateGrant { project: project.to_owned(), acknowledge_data_loss: true };
    world.admin.grant_create("ssd-multiattach", &new).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_tells_how_it_is_and_ends_when_told() {
    let world = World::start().await;
    let anybody = Client::new(&world.address, None).unwrap();
    assert_eq!(anybody.health().await.unwrap().status, "ok");
    let me = world.admin.whoami().await.unwrap();
    assert_eq!((me.user_name.as_str(), me.role), ("admin", Role::Admin));
    assert_eq!(me.project_name.as_deref(), Some("default"));
    let metrics = anybody.metrics().await.unwrap();
    assert!(metrics.contains("commonhold_sessions 2\n"), "{metrics}");
    let counted =
        "commonhold_api_requests_total{method=\"GET\",route=\"/v1/whoami\",status=\"200\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    let document = world.raw("GET", "/v1/openapi.json", None).await;
    assert_eq!(document.body["info"]["title"], "Commonhold");
    let page = world.request("GET", "/docs/").send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("swagger"));
    let address = world.address.clone();
    world.stop().await;
    let error = Client::new(&address, None).unwrap().health().await.unwrap_err();
    assert!(error.is(api::ApiError::UNREACHABLE), "{error:?}");
    assert!(error.hint.unwrap().contains("commonhold serve"));
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_users_and_tokens() {
    let World { admin, address, .. } = &World::start().await;
    let quota = QuotaChange { volumes: Some(3), ..QuotaChange::default() };
    let new = CreateProject { name: "lab".into(), description: None, quota: Some(quota) };
    let lab = admin.project_create(&new).await.unwrap();
    assert_eq!((lab.quota.volumes, lab.usage.volumes), (3, 0));
    let quota = QuotaChange { gigabytes: Some(5), ..QuotaChange::default() };
    let change =
        UpdateProject { name: Some("den".into()), quota: Some(quota), ..Default::default() };
    let den = admin.project_update("lab", &change).await.unwrap();
    assert_eq!((den.id, den.quota.volumes, den.quota.gigabytes), (lab.id, 3, 5));
    assert_eq!(admin.project_show(&lab.id.to_string()).await.unwrap(), den);

    let new = CreateUser { name: "ann".into(), project: "den".into(), role: Role::Reader };
    let ann = admin.user_create(&new).await.unwrap();
    assert_eq!(admin.user_show("ann").await.unwrap(), ann);
    let change = UpdateUser { name: None, role: Some(Role::Member) };
    assert_eq!(admin.user_update("ann", &change).await.unwrap().role, Role::Member);
    assert_eq!(admin.every(&UserQuery::default()).await.unwrap().len(), 2);

    let new = CreateToken {
        user: Some("ann".into()),
        description: Some("ci".into()),
        ..Default::default()
    };
    let made = admin.token_create(&new).await.unwrap();
    let as_ann = Client::new(address, Some(made.secret)).unwrap();
    let me = as_ann.whoami().await.unwrap();
    assert_eq!((me.user_name.as_str(), me.project_name.as_deref()), ("ann", Some("den")));
    assert_eq!(
        as_ann.every(&TokenQuery::default()).await.unwrap(),
        std::slice::from_ref(&made.token)
    );
    let id = made.token.id.to_string();
    let change = UpdateToken { description: Some("cd".into()), expires_in_seconds: Some(60) };
    let changed = as_ann.token_update(&id, &change).await.unwrap();
    assert_eq!((changed.description.as_str(), changed.expires_at.is_some()), ("cd", true));
    assert_eq!(admin.token_show(&id).await.unwrap(), changed);
    let own = &admin.every(&TokenQuery::default()).await.unwrap()[0].id.to_string();
    refused(as_ann.token_show(own).await, 404, "token_not_found");
    refused(as_ann.token_update(own, &change).await, 404, "token_not_found");
    admin.token_delete(&id).await.unwrap();
    refused(admin.token_update(&id, &change).await, 409, "token_revoked");
    refused(as_ann.whoami().await, 401, "token_unknown");

    admin.user_delete("ann").await.unwrap();
    refused(admin.user_show("ann").await, 404, "user_not_found");
    admin.project_delete("den").await.unwrap();
    refused(admin.project_show("den").await, 404, "project_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn volume_types_grants_and_pools() {
    let World { admin, .. } = &World::start().await;
    let new = CreateVolumeType {
        name: "gold".into(),
        class: "ssd".into(),
        max_size: Some(Size(ByteSize::gib(4))),
        multiattach: true,
        ..CreateVolumeType::default()
    };
    let gold = admin.volume_type_create(&new).await.unwrap();
    assert_eq!((gold.max_size_bytes, gold.multiattach, gold.public), (Some(4 << 30), true, false));
    let change = UpdateVolumeType { description: Some("fast".into()), ..Default::default() };
    assert_eq!(admin.volume_type_update("gold", &change).await.unwrap().description, "fast");
    assert_eq!(admin.volume_type_show("gold").await.unwrap().id, gold.id);
    let mut new = CreateGrant { project: "default".into(), acknowledge_data_loss: false };
    admin.grant_create("gold", &new).await.expect_err("the warning must be acknowledged");
    new.acknowledge_data_loss = true;
    let made = admin.grant_create("gold", &new).await.unwrap();
    assert_eq!(
        (made.project_name.as_str(), made.acknowledged_by.as_deref()),
        ("default", Some("admin"))
    );
    let query = GrantQuery { volume_type: "gold".into(), ..GrantQuery::default() };
    assert_eq!(admin.every(&query).await.unwrap(), [made]);
    admin.grant_delete("gold", "default").await.unwrap();
    assert!(admin.every(&query).await.unwrap().is_empty());
    admin.volume_type_delete("gold").await.unwrap();
    refused(admin.volume_type_show("gold").await, 404, "volume_type_not_found");

    let new = CreatePool {
        name: "p".into(),
        class: "nvme".into(),
        path: "/p".into(),
        ..Default::default()
    };
    admin.pool_create(&new).await.unwrap();
    let online = async || admin.pool_show("p").await.ok().filter(|pool| pool.state == "online");
    let pool = eventually("the pool is online", online).await;
    assert_eq!((pool.driver, pool.class.as_str()), (Driver::Local, "nvme"));
    let change = UpdatePool { name: Some("q".into()), ..UpdatePool::default() };
    assert_eq!(admin.pool_update("p", &change).await.unwrap().id, pool.id);
    let query = PoolQuery { class: Some("nvme".into()), ..PoolQuery::default() };
    assert_eq!(admin.every(&query).await.unwrap().len(), 1);
    assert_eq!(admin.pool_delete("q", &Default::default()).await.unwrap().state, "closing");
    eventually("the pool is gone", async || admin.pool_show("q").await.err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_and_snapshots() {
    let World { admin, .. } = &World::start().await;
    let made = volume(admin, "v", "ssd").await;
    assert_eq!((made.size_bytes, made.volume_type.as_str()), (1 << 30, "ssd"));
    let metadata = [("team".to_owned(), "blue".to_owned())].into();
    let change =
        UpdateVolume { name: Some("w".into()), metadata: Some(metadata), ..Default::default() };
    assert_eq!(admin.volume_update("v", &change).await.unwrap().metadata["team"], "blue");
    let grow = ResizeVolume { size: Size(ByteSize::gib(2)) };
    admin.volume_resize("w", &grow).await.unwrap();
    let grown = settled(admin, &made, "available").await;
    assert_eq!(grown.size_bytes, 2 << 30);

    let new = CreateSnapshot { volume: "w".into(), name: "s".into(), ..CreateSnapshot::default() };
    let snapshot = admin.snapshot_create(&new).await.unwrap();
    assert_eq!((snapshot.volume_name.as_str(), snapshot.size_bytes), ("w", 2 << 30));
    let there = async || admin.snapshot_show("s").await.ok().filter(|s| s.state == "available");
    eventually("the snapshot is there", there).await;
    let change = UpdateSnapshot { description: Some("before".into()), ..Default::default() };
    assert_eq!(admin.snapshot_update("s", &change).await.unwrap().description, "before");
    let query = SnapshotQuery { volume: Some("w".into()), ..SnapshotQuery::default() };
    assert_eq!(admin.every(&query).await.unwrap().len(), 1);
    let revert = RevertVolume { snapshot: "s".into(), force: false };
    admin.volume_revert("w", &revert).await.unwrap();
    settled(admin, &made, "available").await;

    let source = Some(VolumeSource::Snapshot("s".into()));
    let clone = CreateVolume { name: "c".into(), source, ..CreateVolume::default() };
    let clone = admin.volume_create(&clone).await.unwrap();
    let origin = Origin::Snapshot { volume_id: made.id, snapshot_id: snapshot.id };
    assert_eq!((clone.size_bytes, &clone.origin), (2 << 30, &origin));
    settled(admin, &clone, "available").await;
    refused(admin.snapshot_delete("s").await, 409, "snapshot_has_clones");
    admin.volume_delete("c", &DeleteVolume::default()).await.unwrap();
    eventually("the clone is gone", async || admin.volume_show("c").await.err()).await;
    admin.snapshot_delete("s").await.unwrap();
    eventually("the snapshot is gone", async || admin.snapshot_show("s").await.err()).await;

    admin
        .grant_create(
            "ssd-multiattach",
            &CreateGrant { project: "default".into(), acknowledge_data_loss: true },
        )
        .await
        .unwrap();
    let retype = RetypeVolume { volume_type: "ssd-multiattach".into() };
    assert!(admin.volume_retype("w", &retype).await.unwrap().multiattach);
    let query = VolumeQuery { volume_type: Some("ssd-multiattach".into()), ..Default::default() };
    assert_eq!(admin.every(&query).await.unwrap().len(), 1);
    assert_eq!(
        admin.volume_delete("w", &DeleteVolume::default()).await.unwrap().status,
        "deleting"
    );
    eventually("the volume is gone", async || admin.volume_show("w").await.err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_operations_with_progress_and_an_end() {
    let World { admin, node, .. } = &World::start().await;
    let made = volume(admin, "v", "ssd").await;
    node.keep_busy(true);
    let export = ExportVolume { path: "/tmp/v.qcow2".into(), format: ImageFormat::Qcow2 };
    let begun = admin.volume_export("v", &export).await.unwrap();
    let file = ImageFile { path: export.path.clone(), format: ImageFormat::Qcow2 };
    assert_eq!((begun.kind.as_str(), begun.image.as_ref()), ("export_image", Some(&file)));
    let id = begun.id.to_string();
    eventually("it runs", async || {
        let now = admin.operation_show(&id).await.unwrap();
        (now.state == "running" && now.progress.is_some_and(|p| p.total_bytes == 10)).then_some(())
    })
    .await;
    assert!(admin.operation_cancel(&id).await.unwrap().cancel_requested);
    let ended = async || admin.operation_show(&id).await.ok().filter(|now| now.finished);
    assert_eq!(eventually("it ends", ended).await.state, "cancelled");
    settled(admin, &made, "available").await;

    let file = ImageFile { path: "/srv/image.raw".into(), format: ImageFormat::Raw };
    let source = Some(VolumeSource::Image(file));
    let size = Some(Size(ByteSize::gib(1)));
    let new = CreateVolume { name: "i".into(), size, source, ..CreateVolume::default() };
    let imported = admin.volume_create(&new).await.unwrap();
    assert!(imported.operation_id.is_some());
    node.keep_busy(false);
    settled(admin, &imported, "available").await;
    let ended = imported.operation_id.unwrap().to_string();
    assert_eq!(admin.operation_show(&ended).await.unwrap().state, "succeeded");
    refused(admin.operation_cancel(&ended).await, 409, "operation_finished");
    let all = admin.every(&api::operation::OperationQuery::default()).await.unwrap();
    assert_eq!(all.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_attachments_and_reservations() {
    let world = World::start().await;
    let admin = &world.admin;
    grant(&world, "default").await;
    let made = volume(admin, "v", "ssd-multiattach").await;
    for name in ["h1", "h2"] {
        host(admin, name).await;
    }
    let change = UpdateHost { addresses: Some(vec!["192.0.2.7".into()]), ..UpdateHost::default() };
    assert_eq!(admin.host_update("h1", &change).await.unwrap().addresses, ["192.0.2.7"]);
    assert_eq!(admin.host_show("h1").await.unwrap().initiators, ["iqn.2026-11.test:h1"]);

    refused(admin.attachment_create(&attach("v", &["h1", "nobody"])).await, 404, "host_not_found");
    assert!(admin.every(&AttachmentQuery::default()).await.unwrap().is_empty());
    let both = admin.attachment_create(&attach("v", &["h1", "h2"])).await.unwrap().attachments;
    let names: Vec<_> = both.iter().map(|made| made.attachment.host_name.as_str()).collect();
    assert_eq!(names, ["h1", "h2"]);
    let credentials = both[0].credentials.clone().unwrap();
    assert!(credentials.secret.len() >= 12 && credentials.secret != credentials.target_secret);
    let id = both[0].attachment.id.to_string();
    let attached = eventually("it is attached", async || {
        admin.attachment_show(&id).await.ok().filter(|now| now.state == "attached")
    })
    .await;
    let connection = attached.connection.unwrap();
    assert!(connection.target.ends_with(&made.id.to_string()));
    assert_eq!((connection.portals.len(), connection.lun), (1, 0));
    assert_eq!(attached.chap_user, Some(credentials.user));
    assert_eq!(settled(admin, &made, "in-use").await.attachments.len(), 2);

    let state = admin.volume_reservations("v").await.unwrap();
    assert_eq!(state.registrants[0].key, "0xfffffffffffffffe");
    assert_eq!((state.generation, state.type_code, state.history.len()), (3, Some(5), 1));
    admin.volume_reservations_clear("v").await.unwrap();
    assert!(admin.volume_reservations("v").await.unwrap().registrants.is_empty());

    let to = |mode| UpdateAttachment { mode: Some(mode), ..UpdateAttachment::default() };
    let changed = admin.attachment_update(&id, &to(Mode::ReadOnly)).await.unwrap();
    assert_eq!((changed.mode, changed.state.as_str()), (Mode::ReadOnly, "attached"));
    let changed = admin.attachment_update(&id, &to(Mode::ReadWrite)).await.unwrap();
    assert_eq!(changed.mode, Mode::ReadWrite);
    let fenced = admin.attachment_fence(&id).await.unwrap();
    assert_eq!((fenced.sessions_closed, fenced.registrations_removed), (1, 1));
    assert_eq!(world.node.accesses().len(), 1, "the node lets only the other host in");
    let other = both[1].attachment.id.to_string();
    refused(admin.host_delete("h2").await, 409, "in_use");
    refused(admin.volume_delete("v", &DeleteVolume::default()).await, 409, "volume_in_use");
    admin.attachment_delete(&other).await.unwrap();
    eventually("it is detached", async || admin.attachment_show(&other).await.err()).await;
    admin.host_delete("h2").await.unwrap();

    let query = EventQuery { action: Some("attachment.fence".into()), ..EventQuery::default() };
    let events = admin.every(&query).await.unwrap();
    assert!(
        events.iter().any(|event| event.actor == "admin" && event.from == "127.0.0.1"),
        "{events:?}"
    );
    assert_eq!(admin.event_show(&events[0].id.to_string()).await.unwrap(), events[0]);
    refused(admin.event_show("nothing").await, 404, "event_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_is_kept_out_of_an_ordinary_file_system() {
    let world = World::start().await;
    let admin = &world.admin;
    grant(&world, "default").await;
    let made = volume(admin, "v", "ssd-multiattach").await;
    world.node.put(made.id, "ext4");
    host(admin, "h1").await;
    host(admin, "h2").await;
    let error = admin.attachment_create(&attach("v", &["h1", "h2"])).await.unwrap_err();
    assert_eq!((error.status, error.code.as_str()), (Some(409), "filesystem_not_cluster_aware"));
    let details = error.details.unwrap();
    assert_eq!(
        (&details["content"], &details["place"]),
        (&"ext4".into(), &"at the start of the volume".into())
    );
    let readers = CreateAttachments { mode: Mode::ReadOnly, ..attach("v", &["h1", "h2"]) };
    assert_eq!(admin.attachment_create(&readers).await.unwrap().attachments.len(), 2);
}
