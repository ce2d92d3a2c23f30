//! Lists with no entry, with one, and with a thousand.

use std::collections::BTreeSet;

use api::attachment::{AttachmentQuery, CreateAttachments};
use api::event::EventQuery;
use api::host::{CreateHost, HostQuery};
use api::operation::OperationQuery;
use api::pool::{CreatePool, PoolQuery};
use api::project::{CreateProject, ProjectQuery, QuotaChange, UpdateProject};
use api::snapshot::{CreateSnapshot, SnapshotQuery};
use api::token::{CreateToken, TokenQuery};
use api::user::{CreateUser, Role, UserQuery};
use api::volume::{CreateVolume, ImageFile, ImageFormat, VolumeQuery, VolumeSource};
use api::volume_type::{CreateGrant, CreateVolumeType, VolumeTypeQuery};
use api::{Client, ListQuery};

use crate::verbs::host;
use crate::world::{World, new_volume, volume};

const MANY: usize = 1000;

/// Pages of any size give every entry once; a page holds what it was asked for.
async fn pages<Q: ListQuery>(client: &Client, query: Q, count: usize, id: fn(&Q::Item) -> String) {
    let whole: Vec<String> = client.every(&query).await.unwrap().iter().map(id).collect();
    assert_eq!(whole.len(), count);
    let distinct: BTreeSet<&String> = whole.iter().collect();
    assert_eq!(distinct.len(), count, "an entry came twice");
    let first = client.list(&query).await.unwrap();
    assert_eq!(first.items.len(), count.min(100));
    assert_eq!(first.next.is_some(), count > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn none_and_one() {
    let world = World::start().await;
    let admin = &world.admin;
    pages(admin, VolumeQuery::default(), 0, |v| v.id.to_string()).await;
    pages(admin, HostQuery::default(), 0, |h| h.id.to_string()).await;
    pages(admin, SnapshotQuery::default(), 0, |s| s.id.to_string()).await;
    pages(admin, AttachmentQuery::default(), 0, |a| a.id.to_string()).await;
    pages(admin, OperationQuery::default(), 0, |o| o.id.to_string()).await;
    pages(admin, TokenQuery::default(), 1, |t| t.id.to_string()).await;
    host(admin, "h").await;
    volume(admin, "v", "ssd").await;
    pages(admin, VolumeQuery::default(), 1, |v| v.id.to_string()).await;
    pages(admin, HostQuery::default(), 1, |h| h.id.to_string()).await;
}

/// Run the calls, sixteen at a time.
async fn many<F: Future<Output = ()> + Send + 'static>(call: impl Fn(usize) -> F) {
    let mut running = tokio::task::JoinSet::new();
    for number in 0..MANY {
        if running.len() == 16 {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(call(number));
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand() {
    let world = World::start().await;
    let admin = &world.admin;
    let quota = QuotaChange { snapshots_per_volume: Some(2000), ..QuotaChange::default() };
    let change = UpdateProject { quota: Some(quota), ..UpdateProject::default() };
    admin.project_update("default", &change).await.unwrap();
    let client = admin.clone();
    many(move |number| {
        let client = client.clone();
        async move {
            let new = CreateHost {
                name: format!("h{number}"),
                initiators: vec![format!("iqn.2026-11.test:h{number}")],
                ..CreateHost::default()
            };
            client.host_create(&new).await.unwrap();
            let new = CreateToken { description: Some(number.to_string()), ..Default::default() };
            client.token_create(&new).await.unwrap();
            client.volume_create(&new_volume(&format!("v{number}"), "ssd")).await.unwrap();
        }
    })
    .await;
    pages(admin, HostQuery::default(), MANY, |h| h.id.to_string()).await;
    pages(admin, TokenQuery::default(), MANY + 1, |t| t.id.to_string()).await;
    pages(admin, VolumeQuery::default(), MANY, |v| v.id.to_string()).await;
    let small = HostQuery { limit: Some(7), ..HostQuery::default() };
    assert_eq!(admin.every(&small).await.unwrap().len(), MANY);
    let one = HostQuery { limit: Some(1000), ..HostQuery::default() };
    let page = admin.list(&one).await.unwrap();
    assert_eq!((page.items.len(), page.next), (MANY, None));
    let query = EventQuery { action: Some("host.create".into()), ..EventQuery::default() };
    let events = admin.every(&query).await.unwrap();
    assert_eq!(events.len(), MANY);
    assert!(events.is_sorted_by(|newer, older| newer.at >= older.at), "newest first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pools_and_operations() {
    let world = World::start().await;
    let admin = &world.admin;
    let pools = admin.every(&PoolQuery::default()).await.unwrap().len();
    let client = admin.clone();
    many(move |number| {
        let client = client.clone();
        async move {
            let new = CreatePool {
                name: format!("pool{number}"),
                class: "tape".into(),
                path: format!("/pools/{number}"),
                ..CreatePool::default()
            };
            client.pool_create(&new).await.unwrap();
            // Each import is an operation; the volume is as large as its image.
            let image = ImageFile { path: "disk.raw".into(), format: ImageFormat::Raw };
            let new = CreateVolume {
                name: format!("v{number}"),
                source: Some(VolumeSource::Image(image)),
                ..CreateVolume::default()
            };
            client.volume_create(&new).await.unwrap();
        }
    })
    .await;
    pages(admin, PoolQuery::default(), pools + MANY, |p| p.id.to_string()).await;
    pages(admin, OperationQuery::default(), MANY, |o| o.id.to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_snapshots_of_one_volume() {
    let world = World::start().await;
    let admin = &world.admin;
    let quota = QuotaChange { snapshots_per_volume: Some(2000), ..QuotaChange::default() };
    let change = UpdateProject { quota: Some(quota), ..UpdateProject::default() };
    admin.project_update("default", &change).await.unwrap();
    let volume = volume(admin, "v", "ssd").await.id.to_string();
    let client = admin.clone();
    many(move |number| {
        let (client, volume) = (client.clone(), volume.clone());
        async move {
            let name = format!("s{number}");
            let new = CreateSnapshot { volume, name, ..CreateSnapshot::default() };
            client.snapshot_create(&new).await.unwrap();
        }
    })
    .await;
    pages(admin, SnapshotQuery::default(), MANY, |s| s.id.to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_projects_users_and_types() {
    let world = World::start().await;
    let admin = &world.admin;
    let projects = admin.every(&ProjectQuery::default()).await.unwrap().len();
    let users = admin.every(&UserQuery::default()).await.unwrap().len();
    let types = admin.every(&VolumeTypeQuery::default()).await.unwrap().len();
    let client = admin.clone();
    many(move |number| {
        let client = client.clone();
        async move {
            let name = format!("p{number}");
            let new = CreateProject { name: name.clone(), ..CreateProject::default() };
            client.project_create(&new).await.unwrap();
            let new = CreateUser { name: format!("u{number}"), project: name, role: Role::Reader };
            client.user_create(&new).await.unwrap();
            let new = CreateVolumeType {
                name: format!("t{number}"),
                class: "ssd".into(),
                ..CreateVolumeType::default()
            };
            client.volume_type_create(&new).await.unwrap();
        }
    })
    .await;
    pages(admin, ProjectQuery::default(), projects + MANY, |p| p.id.to_string()).await;
    pages(admin, UserQuery::default(), users + MANY, |u| u.id.to_string()).await;
    pages(admin, VolumeTypeQuery::default(), types + MANY, |t| t.id.to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_volume_attached_to_a_thousand_hosts() {
    let world = World::start().await;
    let admin = &world.admin;
    let grant = CreateGrant { project: "default".into(), acknowledge_data_loss: true };
    admin.grant_create("ssd-multiattach", &grant).await.unwrap();
    let volume = volume(admin, "v", "ssd-multiattach").await.id.to_string();
    let client = admin.clone();
    many(move |number| {
        let (client, volume) = (client.clone(), volume.clone());
        async move {
            let name = format!("h{number}");
            let initiators = vec![format!("iqn.2026-11.test:h{number}")];
            let new = CreateHost { name: name.clone(), initiators, ..CreateHost::default() };
            client.host_create(&new).await.unwrap();
            let hosts = vec![name];
            let new = CreateAttachments { volume, hosts, ..CreateAttachments::default() };
            client.attachment_create(&new).await.unwrap();
        }
    })
    .await;
    pages(admin, AttachmentQuery::default(), MANY, |a| a.id.to_string()).await;
}
