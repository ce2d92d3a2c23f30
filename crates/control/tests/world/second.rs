//! A second node, of another machine.

use std::sync::Arc;

use control::{Caller, Control, NodeCreate, PoolCreate, VolumeCreate};
use model::order::IoMode;
use model::pool::{Driver, PoolState};
use model::size::ByteSize;
use model::volume::VolumeKind;

use super::fake_doors::SECRET;
use super::fake_node::FakeNode;
use super::{World, eventually, volume};

pub(crate) const ADDRESS: &str = "http://192.0.2.2:7701";

pub(crate) fn second(address: &str) -> NodeCreate {
    NodeCreate { name: "n2".to_owned(), address: address.to_owned(), secret: SECRET.to_owned() }
}

/// A second node with a pool of each class, larger than those of the first.
pub(crate) async fn with_second(w: &World) -> Arc<FakeNode> {
    let node = w.doors.put(ADDRESS, "n2");
    w.control.node_create(&w.admin, second(ADDRESS)).await.expect("a node");
    for (class, driver) in [("ssd", Driver::Local), ("file", Driver::Dir)] {
        let pool = PoolCreate {
            name: format!("second-{class}"),
            class: class.to_owned(),
            node: Some("n2".to_owned()),
            path: format!("/pools/{class}"),
            driver,
            io: IoMode::Cached,
            capacity: None,
        };
        let made = w.control.pool_create(&w.admin, pool).await.expect("a pool");
        online(&w.control, &w.admin, &made.name).await;
    }
    node
}

pub(crate) async fn online(control: &Control, caller: &Caller, pool: &str) {
    eventually("the pool is online", async || {
        let pool = control.pool_get(caller, pool).await.ok()?;
        (pool.state == PoolState::Online).then_some(())
    })
    .await;
}

pub(crate) fn file(name: &str) -> VolumeCreate {
    VolumeCreate { kind: Some(VolumeKind::File), volume_type: None, ..volume(name, 1, "") }
}

/// The first node has no room: new volumes lie on the second.
pub(crate) fn fill(node: &FakeNode) {
    node.set_space(ByteSize::gib(10), ByteSize::gib(10));
}
