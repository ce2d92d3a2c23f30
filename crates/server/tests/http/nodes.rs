//! Nodes at the door.

use api::node::{NodeQuery, NodeVolumeQuery};
use api::reference::{CreateReference, ReferenceKind};
use api::user::Role;

use crate::files::file_volume;
use crate::world::{World, refused, volume};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_their_volumes_are_shown_to_admins() {
    let world = World::start().await;
    let admin = &world.admin;
    let nodes = admin.every(&NodeQuery::default()).await.unwrap();
    let [node] = &nodes[..] else { panic!("one node: {nodes:?}") };
    assert_eq!((node.name.as_str(), node.state.as_str(), node.boot), ("n1", "online", 1));
    assert_eq!((node.pools.len(), node.sessions), (3, 2));
    let service = node.file_service.as_ref().unwrap();
    assert!((service.boot, service.in_grace, service.connections) == (7, true, 3));
    assert!(service.since > node.since - jiff::SignedDuration::from_secs(60));
    let made = file_volume(admin, "tree").await;
    volume(admin, "block", "ssd").await;
    world.node.connect(made.id);
    let new =
        CreateReference { volume: "tree".into(), name: "/srv".into(), kind: ReferenceKind::Mount };
    admin.reference_create(&new).await.unwrap();
    let query = NodeVolumeQuery { node: "n1".into(), limit: Some(1), ..Default::default() };
    let volumes = admin.every(&query).await.unwrap();
    let tree = volumes.iter().find(|one| one.id == made.id).unwrap();
    assert_eq!((volumes.len(), tree.clients), (2, Some(1)), "page after page");
    assert_eq!(tree.references, ["mount '/srv'"]);
    let none = NodeVolumeQuery { project: Some("nope".into()), ..query.clone() };
    refused(admin.every(&none).await, 404, "project_not_found");
    refused(admin.node_show("n2").await, 404, "node_not_found");
    world.node.go_away(true);
    let away = admin.node_show("n1").await.unwrap();
    assert!(away.state == "offline" && away.file_service.is_none(), "{away:?}");
    world.node.go_away(false);
    let member = world.user("default", Role::Member).await;
    refused(member.node_show("n1").await, 403, "forbidden");
    refused(member.every(&query).await, 403, "forbidden");
}
