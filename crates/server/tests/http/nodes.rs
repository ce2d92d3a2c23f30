//! Nodes at the door.

use api::node::{EvacuateNode, NodeQuery, NodeVolumeQuery, RestartNode, UpgradeNode};
use api::reference::{CreateReference, ReferenceKind};
use api::user::Role;

use crate::files::file_volume;
use crate::world::{World, eventually, refused, volume};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_an_operation_and_its_refusal_names_the_references() {
    let world = World::start().await;
    let admin = &world.admin;
    file_volume(admin, "tree").await;
    let new =
        CreateReference { volume: "tree".into(), name: "/srv".into(), kind: ReferenceKind::Mount };
    admin.reference_create(&new).await.unwrap();
    let raw = world.raw("POST", "/v1/nodes/n1/restart", Some("{}")).await;
    assert_eq!((raw.status, &raw.body["error"]["code"]), (409, &"node_referenced".into()));
    let named = serde_json::json!([
        { "project": "default", "volume": "tree", "kind": "mount", "name": "/srv" }
    ]);
    assert_eq!(raw.body["error"]["details"]["references"], named);
    let asked = admin.node_restart("n1", &RestartNode { force: true }).await.unwrap();
    assert_eq!((asked.kind.as_str(), asked.node_name.as_deref()), ("restart_node", Some("n1")));
    let id = asked.id.to_string();
    let ended = async || admin.operation_show(&id).await.ok().filter(|now| now.finished);
    assert_eq!(eventually("it ends", ended).await.state, "succeeded");
    refused(admin.node_restart("n2", &RestartNode::default()).await, 404, "node_not_found");
    let member = world.user("default", Role::Member).await;
    refused(member.node_restart("n1", &RestartNode { force: true }).await, 403, "forbidden");
    refused(member.operation_show(&id).await, 404, "operation_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_and_an_evacuation_are_refused_with_the_reason() {
    let world = World::start().await;
    let admin = &world.admin;
    let binary = Some("/tmp/garbage".to_owned());
    let bad = UpgradeNode { binary, force: true };
    refused(admin.node_upgrade("n1", &bad).await, 409, "binary_unfit");
    let relative = UpgradeNode { binary: Some("garbage".into()), force: true };
    refused(admin.node_upgrade("n1", &relative).await, 400, "invalid_value");
    let begun = admin.node_evacuate("n1", &EvacuateNode::default()).await.unwrap();
    assert_eq!((begun.operation.kind.as_str(), begun.block_volumes.len()), ("evacuate_node", 0));
    let id = begun.operation.id.to_string();
    let ended = async || admin.operation_show(&id).await.ok().filter(|now| now.finished);
    assert_eq!(eventually("it ends", ended).await.state, "succeeded");
    file_volume(admin, "tree").await;
    let raw = world.raw("POST", "/v1/nodes/n1/evacuate", Some("{\"force\": true}")).await;
    assert_eq!((raw.status, &raw.body["error"]["code"]), (409, &"no_other_node".into()));
    assert_eq!(raw.body["error"]["details"]["file_volumes"], 1);
    let member = world.user("default", Role::Member).await;
    refused(member.node_upgrade("n1", &bad).await, 403, "forbidden");
    refused(member.node_evacuate("n1", &EvacuateNode::default()).await, 403, "forbidden");
    let asked = admin.node_upgrade("n1", &UpgradeNode::default()).await.unwrap();
    assert_eq!((asked.state.as_str(), asked.version.as_deref()), ("running", Some("1.2.4")));
    let again = admin.node_upgrade("n1", &UpgradeNode::default()).await.unwrap();
    assert_eq!(again.id, asked.id, "asked twice is asked once");
    refused(admin.operation_cancel(&asked.id.to_string()).await, 409, "operation_not_cancellable");
}
