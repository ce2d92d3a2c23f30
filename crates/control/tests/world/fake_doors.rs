//! Doors to fake nodes, by address.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use control::{NodeDoors, NodeLink, NotAdopted, Way};
use model::order::OrderError;
use uuid::Uuid;

use super::fake_node::FakeNode;

/// What every fake node has made at its first start.
pub(crate) const SECRET: &str = "fake-secret";

#[derive(Default)]
pub(crate) struct FakeDoors {
    behind: Mutex<HashMap<String, (Uuid, Arc<FakeNode>)>>,
    adopted: Mutex<HashMap<Uuid, Uuid>>,
    terms: Mutex<HashSet<u64>>,
}

impl FakeDoors {
    /// A new node behind this address; one that was there is gone.
    pub(crate) fn put(&self, address: &str, name: &str) -> Arc<FakeNode> {
        let node = Arc::new(FakeNode::named(name));
        let identity = Uuid::from_u128(self.behind.lock().expect("no panic").len() as u128 + 1);
        let behind = (identity, Arc::clone(&node));
        self.behind.lock().expect("no panic").insert(address.to_owned(), behind);
        node
    }

    /// The numbers of the control plane's starts that links were made for.
    pub(crate) fn terms(&self) -> usize {
        self.terms.lock().expect("no panic").len()
    }

    /// The node is found at another address.
    pub(crate) fn move_to(&self, from: &str, to: &str) {
        let mut behind = self.behind.lock().expect("no panic");
        if let Some(node) = behind.remove(from) {
            behind.insert(to.to_owned(), node);
        }
    }

    /// Does the node there belong to a control plane?
    pub(crate) fn is_adopted(&self, address: &str) -> bool {
        let behind = self.at(address).map(|(identity, _)| identity);
        let adopted = self.adopted.lock().expect("no panic");
        behind.is_ok_and(|identity| adopted.contains_key(&identity))
    }

    fn at(&self, address: &str) -> Result<(Uuid, Arc<FakeNode>), OrderError> {
        let found = self.behind.lock().expect("no panic").get(address).cloned();
        found.ok_or_else(|| OrderError::Unreachable { why: "nobody listens there".to_owned() })
    }
}

#[async_trait]
impl NodeDoors for FakeDoors {
    async fn adopt(&self, address: &str, secret: &str, control: Uuid) -> Result<Uuid, NotAdopted> {
        let silent = |error: OrderError| NotAdopted::Silent { why: error.to_string() };
        let (identity, _) = self.at(address).map_err(silent)?;
        let refused = |why: &str| Err(NotAdopted::Refused { why: why.to_owned() });
        if secret != SECRET {
            return refused("the secret is not its own");
        }
        let mut adopted = self.adopted.lock().expect("no panic");
        match adopted.get(&identity) {
            Some(other) if *other != control => refused("it belongs to another control plane"),
            _ => {
                adopted.insert(identity, control);
                Ok(identity)
            }
        }
    }

    async fn release(&self, way: &Way) -> Result<(), OrderError> {
        self.at(&way.address)?.1.reached()?;
        self.adopted.lock().expect("no panic").remove(&way.identity);
        Ok(())
    }

    fn link(&self, way: Way) -> Arc<dyn NodeLink> {
        self.terms.lock().expect("no panic").insert(way.term);
        match self.at(&way.address) {
            Ok((identity, node)) if identity == way.identity => node,
            _ => {
                let strange = FakeNode::named("nobody");
                strange.stall("node");
                Arc::new(strange)
            }
        }
    }
}
