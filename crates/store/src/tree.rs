//! What the pool's records say: layers, volumes, who stands on whom. Values only.

use std::collections::{BTreeMap, BTreeSet};

use model::id::{PoolId, SnapshotId, VolumeId};

use crate::fields::Fields;

/// A layer's number; the name of its record. Never used twice while the pool is open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LayerId(pub(crate) u64);

impl std::fmt::Debug for LayerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "layer {:016x}", self.0)
    }
}

/// One layer: what it stands on, and the number in the names of its data and map files.
///
/// The files have their own number so that a finished merge is one record: the child takes over
/// its parent's files and its parent's parent, and everything that names the child stays right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LayerRecord {
    pub(crate) parent: Option<LayerId>,
    pub(crate) files: u64,
}

impl LayerRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let parent = self.parent.map_or(0, |parent| parent.0);
        [parent.to_be_bytes(), self.files.to_be_bytes()].concat()
    }
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (parent, files) = (fields.u64()?, fields.u64()?);
        fields.end()?;
        Some(Self { parent: (parent != 0).then_some(LayerId(parent)), files })
    }
}

/// A named read-only image: the layer that was the head when it was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: SnapshotId,
    pub(crate) layer: LayerId,
    /// Of the volume at that time, in bytes.
    pub(crate) size: u64,
}

/// One volume: its size in bytes, the layer that takes writes, its snapshots, oldest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct VolumeRecord {
    pub(crate) size: u64,
    pub(crate) head: LayerId,
    pub(crate) snapshots: Vec<Snapshot>,
}

impl VolumeRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + self.snapshots.len() * 32);
        bytes.extend(self.size.to_be_bytes());
        bytes.extend(self.head.0.to_be_bytes());
        let count = u32::try_from(self.snapshots.len()).expect("a record bounds the count");
        bytes.extend(count.to_be_bytes());
        for snapshot in &self.snapshots {
            bytes.extend(snapshot.id.0.as_bytes());
            bytes.extend(snapshot.layer.0.to_be_bytes());
            bytes.extend(snapshot.size.to_be_bytes());
        }
        bytes
    }
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (size, head) = (fields.u64()?, LayerId(fields.u64()?));
        let count = fields.u32()?;
        let mut snapshots = Vec::new();
        for _ in 0..count {
            let (id, layer) = (SnapshotId(fields.uuid()?), LayerId(fields.u64()?));
            snapshots.push(Snapshot { id, layer, size: fields.u64()? });
        }
        fields.end()?;
        Some(Self { size, head, snapshots })
    }
    pub(crate) fn snapshot(&self, id: SnapshotId) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.id == id)
    }
    /// The head and the layers of the snapshots.
    pub(crate) fn named_layers(&self) -> impl Iterator<Item = LayerId> + '_ {
        std::iter::once(self.head).chain(self.snapshots.iter().map(|snapshot| snapshot.layer))
    }
}

/// The pool's own record: whose directory this is.
pub(crate) fn encode_pool(id: PoolId) -> Vec<u8> {
    id.0.as_bytes().to_vec()
}

pub(crate) fn decode_pool(bytes: &[u8]) -> Option<PoolId> {
    let mut fields = Fields(bytes);
    let id = PoolId(fields.uuid()?);
    fields.end()?;
    Some(id)
}

/// A layer that nobody names and one other layer stands on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Merge {
    pub(crate) parent: LayerId,
    pub(crate) child: LayerId,
    /// The volume whose head the child is, if it is one.
    pub(crate) head_of: Option<VolumeId>,
}

/// All layers and volumes of a pool, as their records say.
#[derive(Default, Debug)]
pub(crate) struct Tree {
    pub(crate) layers: BTreeMap<LayerId, LayerRecord>,
    pub(crate) volumes: BTreeMap<VolumeId, VolumeRecord>,
}

impl Tree {
    /// The layers from `top` down to its base; `None` when one is missing or they form a circle.
    pub(crate) fn chain(&self, top: LayerId) -> Option<Vec<LayerId>> {
        let mut chain = vec![top];
        while let Some(parent) = self.layers.get(chain.last()?)?.parent {
            if chain.len() > self.layers.len() {
                return None;
            }
            chain.push(parent);
        }
        Some(chain)
    }

    /// Layers that some volume's head or snapshot stands on, and those themselves.
    pub(crate) fn reachable(&self) -> BTreeSet<LayerId> {
        let mut reached = BTreeSet::new();
        for named in self.volumes.values().flat_map(VolumeRecord::named_layers) {
            let mut next = Some(named);
            while let Some(id) = next.filter(|id| reached.insert(*id)) {
                next = self.layers.get(&id).and_then(|layer| layer.parent);
            }
        }
        reached
    }

    /// Layers that are of no use to anybody.
    pub(crate) fn unreachable(&self) -> Vec<LayerId> {
        let reached = self.reachable();
        self.layers.keys().filter(|id| !reached.contains(id)).copied().collect()
    }

    /// The layers that one volume stands on, shared ones included.
    pub(crate) fn layers_of(&self, volume: &VolumeRecord) -> BTreeSet<LayerId> {
        volume.named_layers().filter_map(|top| self.chain(top)).flatten().collect()
    }

    /// Every merge that may be done now, lowest parent first.
    pub(crate) fn merges(&self) -> Vec<Merge> {
        let named: BTreeSet<LayerId> =
            self.volumes.values().flat_map(VolumeRecord::named_layers).collect();
        let heads: BTreeMap<LayerId, VolumeId> =
            self.volumes.iter().map(|(id, volume)| (volume.head, *id)).collect();
        let mut children: BTreeMap<LayerId, Vec<LayerId>> = BTreeMap::new();
        for (id, layer) in &self.layers {
            if let Some(parent) = layer.parent {
                children.entry(parent).or_default().push(*id);
            }
        }
        let mergeable = |(parent, standing): (LayerId, Vec<LayerId>)| {
            let [child] = standing[..] else { return None };
            let known = self.layers.contains_key(&parent) && !named.contains(&parent);
            known.then(|| Merge { parent, child, head_of: heads.get(&child).copied() })
        };
        let all: Vec<Merge> = children.into_iter().filter_map(mergeable).collect();
        // A layer that is being merged into may be taking writes, so it does not move itself.
        let targets: BTreeSet<LayerId> = all.iter().map(|merge| merge.parent).collect();
        all.into_iter().filter(|merge| !targets.contains(&merge.child)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn volume(head: u64, snapshots: &[u64]) -> VolumeRecord {
        let snapshots = snapshots
            .iter()
            .map(|layer| Snapshot {
                id: SnapshotId(Uuid::from_u128(u128::from(*layer))),
                layer: LayerId(*layer),
                size: 1 << 20,
            })
            .collect();
        VolumeRecord { size: 1 << 20, head: LayerId(head), snapshots }
    }

    fn tree(layers: &[(u64, u64)], volumes: Vec<VolumeRecord>) -> Tree {
        let layer = |(id, parent): &(u64, u64)| {
            let parent = (*parent != 0).then_some(LayerId(*parent));
            (LayerId(*id), LayerRecord { parent, files: *id })
        };
        let volumes = (0u128..).map(|id| VolumeId(Uuid::from_u128(id))).zip(volumes);
        Tree { layers: layers.iter().map(layer).collect(), volumes: volumes.collect() }
    }

    #[test]
    fn records_read_back_and_refuse_cut_ones() {
        let record = volume(3, &[1, 2]);
        let bytes = record.encode();
        assert_eq!(VolumeRecord::decode(&bytes), Some(record));
        for end in 0..bytes.len() {
            assert_eq!(VolumeRecord::decode(&bytes[..end]), None);
        }
        for parent in [None, Some(LayerId(8))] {
            let record = LayerRecord { parent, files: 5 };
            assert_eq!(LayerRecord::decode(&record.encode()), Some(record));
        }
        assert_eq!(LayerRecord::decode(b"short"), None);
        let id = PoolId(Uuid::from_u128(7));
        assert_eq!(decode_pool(&encode_pool(id)), Some(id));
        assert_eq!(decode_pool(&[]), None);
    }

    #[test]
    fn a_count_that_lies_costs_no_memory() {
        let mut bytes = volume(3, &[]).encode();
        bytes[16..20].fill(0xff);
        assert_eq!(VolumeRecord::decode(&bytes), None);
    }

    #[test]
    fn only_unnamed_layers_with_one_child_merge() {
        // 1 <- 2 <- 3 is a volume with one snapshot left (2); 4 is a clone on 2.
        let tree =
            tree(&[(1, 0), (2, 1), (3, 2), (4, 2), (9, 1)], vec![volume(3, &[2]), volume(4, &[])]);
        assert_eq!(tree.unreachable(), [LayerId(9)]);
        // Layer 9 still stands on 1, so 1 must wait until 9 is gone.
        assert_eq!(tree.merges(), []);
        let mut tree = tree;
        tree.layers.remove(&LayerId(9));
        let merge = Merge { parent: LayerId(1), child: LayerId(2), head_of: None };
        assert_eq!(tree.merges(), [merge]);
        assert_eq!(tree.chain(LayerId(4)), Some(vec![LayerId(4), LayerId(2), LayerId(1)]));
    }

    #[test]
    fn circles_and_gaps_are_not_followed() {
        let tree = tree(&[(1, 2), (2, 1), (3, 7)], vec![volume(1, &[])]);
        assert_eq!(tree.chain(LayerId(1)), None);
        assert_eq!(tree.chain(LayerId(3)), None);
        assert_eq!(tree.unreachable(), [LayerId(3)]);
    }
}
